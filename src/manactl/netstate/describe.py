"""Addresses, nexthops, routes and neighbours in the words of iproute2, for people."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping

from manactl import escape
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import as_int, as_str

_TABLES = {rt.RT_TABLE_DEFAULT: "default", rt.RT_TABLE_MAIN: "main", rt.RT_TABLE_LOCAL: "local"}
_PROTOCOLS = {
    rt.RTPROT_REDIRECT: "redirect", rt.RTPROT_KERNEL: "kernel", rt.RTPROT_BOOT: "boot",
    rt.RTPROT_STATIC: "static", rt.RTPROT_RA: "ra", rt.RTPROT_DHCP: "dhcp",
    8: "gated", 10: "mrt", 11: "zebra", 12: "bird", 13: "dnrouted", 14: "xorp", 15: "ntk",
    17: "mrouted", 18: "keepalived", 42: "babel", 84: "ovn", 99: "openr", 186: "bgp", 187: "isis",
    188: "ospf", 189: "rip", 192: "eigrp",
}  # fmt: skip
_TYPES = {
    rt.RTN_LOCAL: "local", rt.RTN_BROADCAST: "broadcast", rt.RTN_ANYCAST: "anycast",
    rt.RTN_MULTICAST: "multicast", rt.RTN_BLACKHOLE: "blackhole",
    rt.RTN_UNREACHABLE: "unreachable", rt.RTN_PROHIBIT: "prohibit", rt.RTN_THROW: "throw",
}  # fmt: skip
_SCOPES = {
    rt.RT_SCOPE_SITE: "site", rt.RT_SCOPE_LINK: "link", rt.RT_SCOPE_HOST: "host",
    rt.RT_SCOPE_NOWHERE: "nowhere",
}  # fmt: skip
_STATES = {
    rt.NUD_PERMANENT: "permanent", rt.NUD_NOARP: "noarp", rt.NUD_REACHABLE: "reachable",
    rt.NUD_STALE: "stale",
}  # fmt: skip
_LOCK = 1  # RTAX_LOCK: a bit for each metric
# The attributes that text() shows, or that are no setting.
_SHOWN = {
    "address": {rt.IFA_ADDRESS, rt.IFA_LOCAL, rt.IFA_LABEL, rt.IFA_CACHEINFO, rt.IFA_RT_PRIORITY},
    "route": {rt.RTA_DST, rt.RTA_OIF, rt.RTA_GATEWAY, rt.RTA_PRIORITY, rt.RTA_PREFSRC,
              rt.RTA_MULTIPATH, rt.RTA_TABLE, rt.RTA_VIA, rt.RTA_NH_ID},
    "nexthop": {rt.NHA_ID, rt.NHA_GROUP, rt.NHA_OIF, rt.NHA_GATEWAY},
    "neighbour": {rt.NDA_DST, rt.NDA_LLADDR},
}  # fmt: skip
_METRICS = {2: "mtu", 3: "window", 4: "rtt", 5: "rttvar", 6: "ssthresh", 7: "cwnd", 8: "advmss",
            9: "reordering", 10: "hoplimit", 11: "initcwnd", 12: "features", 13: "rto_min",
            14: "initrwnd", 15: "quickack"}  # fmt: skip


def text(kind: str, body: bytes, names: Mapping[int, str]) -> str:
    """What `ip` would print, shortened to what tells one from another."""
    build = {"address": _address, "route": _route, "nexthop": _nexthop, "neighbour": _neighbour}
    try:
        return " ".join(build[kind](body, names))
    except (ValueError, IndexError, struct.error):
        return f"{kind} that could not be decoded: {body.hex()}"


class Texts:
    """text() of many facts with the same names: of routes, what is around the destination is put in
    words once for each shape."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self._around: dict[bytes, tuple[str, str]] = {}

    def route(self, shape: rt.Shape) -> str:
        """text() of the route of that shape and destination."""
        if not shape.at:
            return text("route", shape.rest, self._names)
        parts = self._around.get(shape.rest)
        if parts is None:
            zeros = _ip(bytes(len(shape.dst))) + "/"
            before, found, after = text("route", shape.rest, self._names).partition(zeros)
            if not found:
                return text("route", shape.filled(shape.rest, shape.at), self._names)
            parts = self._around[shape.rest] = (before, "/" + after)
        before, after = parts
        return f"{before}{_ip(shape.dst)}{after}"


def settings(kind: str, body: bytes) -> str:
    """Metrics, lifetime, and by number and bytes what else text() leaves out."""
    sizes = {"address": rt.IFADDR.size, "route": rt.RTMSG.size, "nexthop": rt.NHMSG.size,
             "neighbour": rt.NDMSG.size}  # fmt: skip
    words = []
    for attr in rt.split(body, sizes[kind]):
        if kind == "route" and attr.type == rt.RTA_METRICS:
            found = {metric.type: metric.payload for metric in rt.split(attr.payload, 0)}
            locks = as_int(found.get(_LOCK, b""))
            for number, value in found.items():
                lock = " lock" if locks >> number & 1 else ""
                if number in _METRICS:
                    words.append(f"{_METRICS[number]}{lock} {as_int(value)}")
        elif kind == "route" and attr.type == rt.RTA_CACHEINFO:
            words.append("with a lifetime" if rt.route_is_limited(body) else "without lifetime")
        elif attr.type not in _SHOWN[kind]:
            words.append(f"attribute {attr.type} {attr.payload.hex()}")
    return ", ".join(words) or "none"


def command(kind: str, body: bytes, names: Mapping[int, str]) -> str:
    """The `ip` command that removes it, for an operator to run."""
    shown = text(kind, body, names).split(" ")
    family = ["-6"] if kind == "route" and rt.is_ipv6(body) else []
    if kind == "address":
        keep = shown[1 : shown.index("peer") + 2] if "peer" in shown else shown[1:2]
        words = [*keep, *shown[shown.index("dev") :]]
    elif kind == "nexthop":
        words = shown[1:3]
    elif kind == "neighbour":
        proxy = ["proxy"] if shown[0] == "proxy" else []
        at = shown.index("dev")
        words = [*proxy, shown[len(proxy) + 1], *shown[at : at + 2]]
    else:
        words = [word for word in shown if word != "(IPv6)"]
        if "scope" in words:
            at = words.index("scope")
            del words[at : at + 2]
    return escape.command("ip", *family, kind, "del", *words)


def adding(kind: str, body: bytes, names: Mapping[int, str]) -> str:
    """The `ip` command that makes it: of an address, with what tells it from a plain one."""
    assert kind == "address"
    return escape.command("ip", kind, "add", *text(kind, body, names).split(" ")[1:])


_ADDRESS_FLAGS = {
    rt.IFA_F_NOPREFIXROUTE: "noprefixroute",
    rt.IFA_F_MANAGETEMPADDR: "mngtmpaddr",
    rt.IFA_F_NODAD: "nodad",
}


def _name(ifindex: int, names: Mapping[int, str]) -> str:
    return names.get(ifindex) or f"if{ifindex}"


def _ip(payload: bytes) -> str:
    """As iproute2 writes it; ValueError for what is no address."""
    return socket.inet_ntop(socket.AF_INET if len(payload) == 4 else socket.AF_INET6, payload)


def _address(body: bytes, names: Mapping[int, str]) -> list[str]:
    family, length, flags, scope, index = rt.IfAddrMsg.of(body)
    attrs = rt.split(body, rt.IFADDR.size)
    flags = rt.number(attrs, rt.IFA_FLAGS) or flags
    local = rt.value(attrs, rt.IFA_LOCAL) or rt.value(attrs, rt.IFA_ADDRESS) or b""
    other = rt.value(attrs, rt.IFA_ADDRESS) or local
    words = ["inet6" if family == socket.AF_INET6 else "inet"]
    if other == local:
        words.append(f"{_ip(local)}/{length}")
    else:
        words += [_ip(local), "peer", f"{_ip(other)}/{length}"]
    if scope:
        words += ["scope", _SCOPES.get(scope, str(scope))]
    words += [word for bit, word in _ADDRESS_FLAGS.items() if flags & bit]
    metric = rt.number(attrs, rt.IFA_RT_PRIORITY)
    if metric:
        words += ["metric", str(metric)]
    label = rt.value(attrs, rt.IFA_LABEL)
    if label and as_str(label) != names.get(index):
        words += ["label", as_str(label)]
    times = rt.value(attrs, rt.IFA_CACHEINFO)
    if times:
        valid = struct.unpack_from("=II", times)[1]
        words += ["valid_lft", f"{valid}sec"] if valid != rt.FOREVER else []
    return [*words, "dev", _name(index, names)]


def _via(attrs: list[rt.Attr]) -> list[str]:
    gateway = rt.value(attrs, rt.RTA_GATEWAY)
    if gateway:
        return ["via", _ip(gateway)]
    other = rt.value(attrs, rt.RTA_VIA)  # struct rtvia: family, then the address
    return ["via", "inet6", _ip(other[2:])] if other else []


def _route(body: bytes, names: Mapping[int, str]) -> list[str]:
    head = rt.RtMsg.of(body)
    attrs = rt.split(body, rt.RTMSG.size)
    words = [_TYPES[head.type]] if head.type in _TYPES else []
    dst = rt.value(attrs, rt.RTA_DST)
    if dst:
        words.append(f"{_ip(dst)}/{head.dst_len}")
    else:
        words.append("default" if head.family == socket.AF_INET else "default (IPv6)")
    if head.tos:
        words += ["tos", f"{head.tos:#x}"]
    by_object = rt.number(attrs, rt.RTA_NH_ID)
    if by_object:
        words += ["nhid", str(by_object)]
    else:
        words += _via(attrs)
        oif = rt.number(attrs, rt.RTA_OIF)
        words += ["dev", _name(oif, names)] if oif else []
        for hop in rt.hops(rt.value(attrs, rt.RTA_MULTIPATH) or b""):
            words += ["nexthop", *_via(rt.split(hop.rest, 0)), "dev", _name(hop.ifindex, names)]
            words += ["weight", str(hop.weight + 1)]
    table = rt.number(attrs, rt.RTA_TABLE) or head.table
    words += ["table", _TABLES.get(table, str(table))] if table != rt.RT_TABLE_MAIN else []
    words += ["proto", _PROTOCOLS.get(head.protocol, str(head.protocol))]
    words += ["scope", _SCOPES[head.scope]] if head.scope in _SCOPES else []
    source = rt.value(attrs, rt.RTA_PREFSRC)
    words += ["src", _ip(source)] if source else []
    metric = rt.number(attrs, rt.RTA_PRIORITY)
    words += ["metric", str(metric)] if metric else []
    return [*words, "onlink"] if head.flags & rt.RTNH_F_ONLINK else words


def _nexthop(body: bytes, names: Mapping[int, str]) -> list[str]:
    attrs = rt.split(body, rt.NHMSG.size)
    words = ["nexthop", "id", str(rt.number(attrs, rt.NHA_ID))]
    members = rt.group(body)
    if members:
        weighted = (f"{m.id},{m.weight}" if m.weight > 1 else str(m.id) for m in members)
        return [*words, "group", "/".join(weighted)]
    gateway = rt.value(attrs, rt.NHA_GATEWAY)
    words += ["via", _ip(gateway)] if gateway else []
    oif = rt.value(attrs, rt.NHA_OIF)
    return [*words, "dev", _name(as_int(oif), names)] if oif else words


def _neighbour(body: bytes, names: Mapping[int, str]) -> list[str]:
    head = rt.NdMsg.of(body)
    attrs = rt.split(body, rt.NDMSG.size)
    words = ["proxy neighbour" if head.flags & rt.NTF_PROXY else "neighbour"]
    dst = rt.value(attrs, rt.NDA_DST)
    words += [_ip(dst)] if dst else []
    lladdr = rt.value(attrs, rt.NDA_LLADDR)
    words += ["lladdr", lladdr.hex(":")] if lladdr else []
    words += ["dev", _name(head.ifindex, names)]
    return [*words, _STATES[head.state]] if head.state in _STATES else words
