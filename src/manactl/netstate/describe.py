"""Addresses, nexthops, routes and neighbours in the words of iproute2, for people."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Mapping

from manactl.wire import rtmsg as rt
from manactl.wire.attrs import as_int, as_str

_TABLES = {253: "default", 254: "main", 255: "local"}
_PROTOCOLS = {1: "redirect", 2: "kernel", 3: "boot", 4: "static", 9: "ra", 16: "dhcp"}
_TYPES = {2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole",
          7: "unreachable", 8: "prohibit", 9: "throw"}  # fmt: skip
_SCOPES = {200: "site", 253: "link", 254: "host", 255: "nowhere"}
_STATES = {0x80: "permanent", 0x40: "noarp", 0x02: "reachable", 0x04: "stale"}


def text(kind: str, body: bytes, names: Mapping[int, str]) -> str:
    """What `ip` would print, shortened to what tells one from another."""
    build = {"address": _address, "route": _route, "nexthop": _nexthop, "neighbour": _neighbour}
    try:
        return " ".join(build[kind](body, names))
    except (ValueError, IndexError, struct.error):
        return f"{kind} that could not be decoded: {body.hex()}"


def command(kind: str, body: bytes, names: Mapping[int, str]) -> str:
    """The `ip` command that removes it, for an operator to run."""
    said = text(kind, body, names).split()
    family = ["-6"] if kind == "route" and rt.is_ipv6(body) else []
    if kind == "address":
        keep = said[1 : said.index("peer") + 2] if "peer" in said else said[1:2]
        words = [*keep, *said[said.index("dev") :]]
    elif kind == "nexthop":
        words = said[1:3]
    elif kind == "neighbour":
        proxy = ["proxy"] if said[0] == "proxy" else []
        at = said.index("dev")
        words = [*proxy, said[len(proxy) + 1], *said[at : at + 2]]
    else:
        words = [one for one in said if one != "(IPv6)"]
        if "scope" in words:
            at = words.index("scope")
            del words[at : at + 2]
    return " ".join(["ip", *family, kind, "del", *words])


def _name(ifindex: int, names: Mapping[int, str]) -> str:
    return names.get(ifindex) or f"if{ifindex}"


def _ip(payload: bytes) -> str:
    return str(ipaddress.ip_address(payload))


def _address(body: bytes, names: Mapping[int, str]) -> list[str]:
    family, length, flags, scope, index = rt.IFADDR.unpack_from(body)
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
    for bit, word in ((0x200, "noprefixroute"), (0x100, "mngtmpaddr"), (0x02, "nodad")):
        if flags & bit:
            words.append(word)
    metric = rt.number(attrs, rt.IFA_RT_PRIORITY)
    if metric:
        words += ["metric", str(metric)]
    label = rt.value(attrs, rt.IFA_LABEL)
    if label and as_str(label) != names.get(index):
        words += ["label", as_str(label)]
    times = rt.value(attrs, rt.IFA_CACHEINFO)
    if times:
        valid = struct.unpack_from("=II", times)[1]
        if valid != rt.FOREVER:
            words += ["valid_lft", f"{valid}sec"]
    return [*words, "dev", _name(index, names)]


def _via(attrs: list[rt.Attr]) -> list[str]:
    gateway = rt.value(attrs, rt.RTA_GATEWAY)
    if gateway:
        return ["via", _ip(gateway)]
    other = rt.value(attrs, rt.RTA_VIA)  # struct rtvia: family, then the address
    return ["via", "inet6", _ip(other[2:])] if other else []


def _route(body: bytes, names: Mapping[int, str]) -> list[str]:
    family, length, _, tos, table, protocol, scope, kind, flags = rt.RTMSG.unpack_from(body)
    attrs = rt.split(body, rt.RTMSG.size)
    words = [_TYPES[kind]] if kind in _TYPES else []
    dst = rt.value(attrs, rt.RTA_DST)
    if dst:
        words.append(f"{_ip(dst)}/{length}")
    else:
        words.append("default" if family == socket.AF_INET else "default (IPv6)")
    if tos:
        words += ["tos", f"{tos:#x}"]
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
    table = rt.number(attrs, rt.RTA_TABLE) or table
    words += ["table", _TABLES.get(table, str(table))] if table != 254 else []
    words += ["proto", _PROTOCOLS.get(protocol, str(protocol))]
    words += ["scope", _SCOPES[scope]] if scope in _SCOPES else []
    source = rt.value(attrs, rt.RTA_PREFSRC)
    words += ["src", _ip(source)] if source else []
    metric = rt.number(attrs, rt.RTA_PRIORITY)
    words += ["metric", str(metric)] if metric else []
    return [*words, "onlink"] if flags & 0x4 else words


def _nexthop(body: bytes, names: Mapping[int, str]) -> list[str]:
    attrs = rt.split(body, rt.NHMSG.size)
    words = ["nexthop", "id", str(rt.number(attrs, rt.NHA_ID))]
    members = rt.group_members(body)
    if members:
        return [*words, "group", "/".join(str(one) for one in members)]
    gateway = rt.value(attrs, rt.NHA_GATEWAY)
    words += ["via", _ip(gateway)] if gateway else []
    oif = rt.value(attrs, rt.NHA_OIF)
    return [*words, "dev", _name(as_int(oif), names)] if oif else words


def _neighbour(body: bytes, names: Mapping[int, str]) -> list[str]:
    _, _, _, index, state, flags, _ = rt.NDMSG.unpack_from(body)
    attrs = rt.split(body, rt.NDMSG.size)
    words = ["proxy neighbour" if flags & rt.NTF_PROXY else "neighbour"]
    dst = rt.value(attrs, rt.NDA_DST)
    words += [_ip(dst)] if dst else []
    lladdr = rt.value(attrs, rt.NDA_LLADDR)
    words += ["lladdr", lladdr.hex(":")] if lladdr else []
    words += ["dev", _name(index, names)]
    return [*words, _STATES[state]] if state in _STATES else words
