"""The settings of a netdev itself, which going down and up leaves alone, but which are at their
defaults when it was re-created: its device was unplugged and plugged in again, or had another
driver meanwhile. Pure."""

from __future__ import annotations

import base64
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

from manactl.model.named_tuple import NamedTuple
from manactl.model.value import NONE, Value
from manactl.netstate import bridging, tc_objects
from manactl.netstate.bridging import Kept
from manactl.netstate.ethtool_settings import Command, Ethtool
from manactl.netstate.ethtool_settings import changes as ethtool_changes
from manactl.netstate.requests import Request
from manactl.netstate.tc_objects import TcObject
from manactl.wire import if_link, tc
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import as_int, as_str, attr, attr_str, attr_u32, nest, parse_attrs
from manactl.wire.if_link import IfInfoMsg
from manactl.wire.netlink import NLM_F_CREATE, NLM_F_REPLACE

# What a request may set, by what `ip link` calls it.
ATTRIBUTES = {
    if_link.IFLA_ADDRESS: "address",
    if_link.IFLA_MTU: "mtu", if_link.IFLA_TXQLEN: "txqueuelen", if_link.IFLA_IFALIAS: "alias",
    if_link.IFLA_GROUP: "group",
    if_link.IFLA_GSO_MAX_SIZE: "gso_max_size", if_link.IFLA_GSO_MAX_SEGS: "gso_max_segs",
    if_link.IFLA_GRO_MAX_SIZE: "gro_max_size",
    if_link.IFLA_GSO_IPV4_MAX_SIZE: "gso_ipv4_max_size",
    if_link.IFLA_GRO_IPV4_MAX_SIZE: "gro_ipv4_max_size",
}  # fmt: skip
FLAGS = {0x100: "promisc", 0x200: "allmulticast", 0x80: "noarp", 0x1000: "multicast",
         0x8000: "dynamic", 0x4: "debug"}  # fmt: skip


# Masters that give their members a MAC address themselves.
_ADDRESSING = frozenset({"bond", "team"})
# What of a member a request may set, by kind of master: include/uapi/linux/if_link.h. A bridge's
# backup port is another netdev; what STP has decided is not to be set.
MEMBER_ATTRIBUTES = {
    "bridge": {
        2: "priority", 3: "cost", 4: "hairpin", 5: "guard", 6: "root_block", 7: "fastleave",
        8: "learning", 9: "flood", 10: "proxy_arp", 11: "proxy_arp_wifi", 25: "mcast_router",
        27: "mcast_flood", 28: "mcast_to_unicast", 29: "vlan_tunnel", 30: "bcast_flood",
        31: "group_fwd_mask", 32: "neigh_suppress", 33: "isolated", 39: "locked", 40: "mab",
        43: "mcast_max_groups", 44: "neigh_vlan_suppress",
    },
    "bond": {5: "queue_id", 9: "prio"},
}  # fmt: skip


# TCA_CODEL_ and TCA_FQ_CODEL_TARGET, INTERVAL, CE_THRESHOLD
_CODEL_TIMES = {"codel": (1, 3, 5), "fq_codel": (1, 3, 7)}
_TCA_HTB_INIT, _HTB_GLOB = 2, struct.Struct("=5I")  # struct tc_htb_glob


class Qdisc(NamedTuple):
    """A qdisc that somebody has set: those of the kernel's own have no handle. `blocks`: attributes
    with the numbers of the blocks that its filters are in, which other devices may share."""

    handle: int
    parent: int
    kind: str
    options: bytes | None
    blocks: bytes = b""

    def describe(self) -> str:
        root = self.parent == if_link.TC_H_ROOT
        where = "root" if root else f"parent {self.parent >> 16:x}:{self.parent & 0xFFFF:x}"
        return f"qdisc {self.kind} {self.handle >> 16:x}: {where}"

    @property
    def settable(self) -> bytes | None:
        """The options as a request has them."""
        if not self.options or self.kind not in ("htb", *_CODEL_TIMES):
            return self.options
        return b"".join(
            attr(whole, _settable(self.kind, whole, payload))
            for whole, payload in rt.split(self.options, 0)
        )

    def request(self, ifindex: int) -> Request:
        head = if_link.TCMSG.pack(0, ifindex, self.handle, self.parent, 0)
        body = head + attr_str(if_link.TCA_KIND, self.kind)
        if (options := self.settable) is not None:
            body += attr(if_link.TCA_OPTIONS, options)
        return Request(if_link.RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body + self.blocks)

    def to_json(self) -> dict[str, Any]:
        blocks = {"blocks": _coded(self.blocks)} if self.blocks else {}
        return {
            "handle": self.handle, "parent": self.parent, "kind": self.kind,
            "options": _coded(self.options), **blocks,
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            int(data["handle"]), int(data["parent"]), data["kind"], _decoded(data["options"]),
            _decoded(data.get("blocks")) or b"",
        )  # fmt: skip


class LinkSettings(Value):
    """The settings of one netdev. `attributes` are by number, `sysctls` by tree and key; those of
    the tree SYSFS are its files in sysfs. `master` is the name of its master, `member` what it is
    there, by number. `queueing` are classes and filters. `names` are the ifindexes of all links by
    name, and by altname after all of these, not kept in JSON."""

    flags: int = 0
    attributes: Mapping[int, bytes] = NONE
    altnames: tuple[str, ...] = ()
    master: str | None = None
    sysctls: Mapping[tuple[str, str], str] = NONE
    qdiscs: tuple[Qdisc, ...] = ()
    names: Mapping[str, int] = NONE
    queueing: tuple[TcObject, ...] = ()
    member_kind: str | None = None
    member: Mapping[int, bytes] = NONE
    ethtool: Ethtool = Ethtool()
    bridging: tuple[Kept, ...] = ()
    _beside: ClassVar[tuple[str, ...]] = ("names",)

    def without(self, attribute: int) -> LinkSettings:
        left = {kind: data for kind, data in self.attributes.items() if kind != attribute}
        return replace(self, attributes=left)

    def to_json(self) -> dict[str, Any]:
        return {
            "flags": self.flags,
            "attributes": _by_number(self.attributes),
            "altnames": list(self.altnames),
            "master": self.master,
            "sysctls": [[*where, value] for where, value in self.sysctls.items()],
            "qdiscs": [one.to_json() for one in self.qdiscs],
            "queueing": [one.to_json() for one in self.queueing],
            "member_kind": self.member_kind,
            "member": _by_number(self.member),
            "ethtool": self.ethtool.to_json(),
            "bridging": [one.to_json() for one in self.bridging],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            int(data["flags"]),
            _numbered(data["attributes"]),
            tuple(map(str, data["altnames"])),
            data["master"],
            {(tree, key): value for tree, key, value in data["sysctls"]},
            tuple(map(Qdisc.from_json, data["qdiscs"])),
            queueing=tuple(map(TcObject.from_json, data.get("queueing", ()))),
            member_kind=data.get("member_kind"),
            member=_numbered(data.get("member", {})),
            ethtool=Ethtool.from_json(data["ethtool"]) if "ethtool" in data else Ethtool(),
            bridging=tuple(map(Kept.from_json, data.get("bridging", ()))),
        )


def _by_number(values: Mapping[int, bytes]) -> dict[str, str | None]:
    return {str(number): _coded(data) for number, data in values.items()}


def _numbered(data: Mapping[str, str]) -> dict[int, bytes]:
    return {int(number): _decoded(text) or b"" for number, text in data.items()}


def _coded(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _decoded(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)


def _settable(kind: str, number: int, payload: bytes) -> bytes:
    """An htb shows its whole version where it takes the first half, and counts packets in the last
    field. Codel keeps times in 1024 ns, and rounds down whenever it shows or takes microseconds."""
    if number in _CODEL_TIMES.get(kind, ()):
        return (as_int(payload) + 1).to_bytes(len(payload), sys.byteorder)
    if kind != "htb" or number != _TCA_HTB_INIT or len(payload) < _HTB_GLOB.size:
        return payload
    version, *fields, _ = _HTB_GLOB.unpack_from(payload)
    return _HTB_GLOB.pack(version >> 16 or version, *fields, 0)


class Change(NamedTuple):
    """One setting that is not as it was, and what sets it: a request, a value for a sysctl, or a
    command of ethtool. None of them: nothing can. `holder`: the netdev that has the altname now."""

    text: str
    request: Request | None = None
    sysctl: tuple[str, str, str] | None = None  # tree, key, value
    qdisc: bool = False
    ethtool: Command | None = None
    altname: str = ""
    holder: int | None = None
    bridging: bool = False

    @property
    def in_sysfs(self) -> bool:
        """Whether it is a setting of its NAPIs or queues, of which a new driver may have fewer."""
        return self.sysctl is not None and self.sysctl[0] == SYSFS

    @property
    def may_need_up(self) -> bool:
        """Whether it may be that the driver takes it only while the netdev is up: MANA makes its
        NAPIs when it is opened, and before that modify_napi_threaded() refuses."""
        return self.in_sysfs or self.ethtool is not None

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two changes of one netdev the same, however they are worded."""
        return self.request, self.sysctl, self.ethtool and self.ethtool.key

    @property
    def may_be_lost(self) -> bool:
        """Whether it may be that the kernel or the driver does not take what it has shown, or that
        another netdev has got it."""
        lost = self.qdisc or self.bridging or self.holder is not None
        return lost or self.may_need_up


SYSFS = "class/net"  # the tree of what is in sysfs alone
ADDR_GEN_MODE = ("net/ipv6/conf", "addr_gen_mode")
# Before that, which goes by it.
_FIRST = "stable_secret"


def _sysctl(tree: str, key: str, value: str, ifindex: int) -> Change:
    text = f"{key} = {value}" if tree == SYSFS else f"sysctl {tree}: {key} = {value}"
    if (tree, key) == ADDR_GEN_MODE and value.isdecimal():
        return Change(text, addr_gen_mode(ifindex, int(value)))
    return Change(text, sysctl=(tree, key, value))


def addr_gen_mode(ifindex: int, value: int) -> Request:
    """By its sysctl the kernel would make an address at once, though the netdev is down."""
    mode = attr(if_link.IFLA_INET6_ADDR_GEN_MODE, bytes([value]))
    spec = nest(if_link.IFLA_AF_SPEC, nest(if_link.AF_INET6, mode))
    return _set(ifindex, spec)


def changes(was: LinkSettings, now: LinkSettings, ifindex: int) -> list[Change]:
    """What is to be set, in an order that the kernel takes: the MTU before the sysctls that it
    bounds, the port in its master before what hangs on both."""
    found = [*_attributes(was, now, ifindex), *_flags(was, now, ifindex)]
    for name in was.altnames:
        holder = now.names.get(name)
        if name not in now.altnames and holder != ifindex:
            asked = Request(if_link.RTM_NEWLINKPROP, 0, if_link.altname(ifindex, name))
            found.append(Change(f"altname {name}", asked, altname=name, holder=holder))
    if was.master is not None and now.master is None:
        found.append(_enslaving(was.master, now, ifindex))
    elif was.master == now.master:
        found += _as_member(was, now, ifindex)
    for where, value in sorted(was.sysctls.items(), key=lambda one: one[0][1] != _FIRST):
        # A key that this kernel has not stays out; a secret that is not set cannot be read.
        if now.sysctls.get(where, "" if where[1] == _FIRST else value) != value:
            found.append(_sysctl(*where, value, ifindex))
    found += _bridging(was, now, ifindex)
    found += [Change(one.text, ethtool=one) for one in ethtool_changes(was.ethtool, now.ethtool)]
    there = {_same(one) for one in now.qdiscs} | {one.key for one in now.queueing}
    hangs: list[Qdisc | TcObject] = [
        *was.qdiscs,
        *(one for one in was.queueing if one.type == tc.RTM_NEWTCLASS),
    ]
    filters = [one for one in was.queueing if one.type == tc.RTM_NEWTFILTER]
    return found + [
        Change(one.describe(), one.request(ifindex), qdisc=True)
        for one in (*tc_objects.in_order(hangs), *filters)
        if (one.key if isinstance(one, TcObject) else _same(one)) not in there
    ]


def _same(qdisc: Qdisc) -> tuple[object, ...]:
    """What makes two qdiscs the same."""
    return (qdisc.handle, qdisc.parent, qdisc.kind, qdisc.settable, qdisc.blocks)


def changed(was: LinkSettings, now: LinkSettings, ifindex: int) -> list[Change]:
    """What is not as it was on a netdev that was there all the time.

    Somebody has set it; or the netdev was moved to another network namespace and back, which sets
    its sysctls to defaults and removes its qdiscs (dev_change_net_namespace()). Its master is
    compared with the uppers, and the options of a qdisc count packets.
    """
    there = {one[:3] for one in now.qdiscs}
    gone = tuple(one for one in was.qdiscs if one[:3] not in there)
    stayed = replace(was, master=None, member={}, qdiscs=gone, ethtool=Ethtool(), bridging=())
    return changes(stayed, now, ifindex)


def _set(ifindex: int, more: bytes, *, flags: int = 0, change: int = 0) -> Request:
    body = IfInfoMsg(ifindex=ifindex, flags=flags, change=change).pack() + more
    return Request(if_link.RTM_NEWLINK, 0, body)


def _attributes(was: LinkSettings, now: LinkSettings, ifindex: int) -> Iterator[Change]:
    for kind, word in ATTRIBUTES.items():
        value = was.attributes.get(kind)
        if kind == if_link.IFLA_ADDRESS and was.member_kind in _ADDRESSING:
            continue
        if value is not None and now.attributes.get(kind) != value:
            yield Change(f"{word} {_shown(kind, value)}", _set(ifindex, attr(kind, value)))


def _shown(kind: int, value: bytes) -> str:
    if kind == if_link.IFLA_IFALIAS:
        return as_str(value)
    if kind == if_link.IFLA_ADDRESS:
        return value.hex(":")
    return str(as_int(value))


def _flags(was: LinkSettings, now: LinkSettings, ifindex: int) -> Iterator[Change]:
    for bit, word in FLAGS.items():
        if (was.flags ^ now.flags) & bit:
            state = "on" if was.flags & bit else "off"
            yield Change(f"{word} {state}", _set(ifindex, b"", flags=was.flags & bit, change=bit))


def _enslaving(master: str, now: LinkSettings, ifindex: int) -> Change:
    index = now.names.get(master)
    if index is None:
        return Change(f"master {master}")
    return Change(f"master {master}", _set(ifindex, attr_u32(if_link.IFLA_MASTER, index)))


def _as_member(was: LinkSettings, now: LinkSettings, ifindex: int) -> Iterator[Change]:
    kind = was.member_kind or ""
    for number, word in MEMBER_ATTRIBUTES.get(kind, {}).items():
        value = was.member.get(number)
        if value is not None and now.member.get(number) != value:
            data = nest(if_link.IFLA_INFO_SLAVE_DATA, attr(number, value))
            info = nest(if_link.IFLA_LINKINFO, attr_str(if_link.IFLA_INFO_SLAVE_KIND, kind), data)
            yield Change(f"{kind} {word} {as_int(value)}", _set(ifindex, info))


def _bridging(was: LinkSettings, now: LinkSettings, ifindex: int) -> Iterator[Change]:
    """What its bridge had of it, once it is in that again; and what it has that it had not."""
    same = was.master == now.master
    master = now.names.get(was.master or "", 0)
    for one in was.bridging:
        if one not in now.bridging and (same or one.kind in ("token", "vxlan")):
            request = one.request(ifindex, master, now.names)
            yield Change(one.describe(), request, bridging=True)
    for vlan in bridging.superfluous(was.bridging, now.bridging) if same else ():
        text = f"no {Kept('vlan', vlan).describe()}"
        yield Change(text, bridging.removal(vlan, ifindex), bridging=True)


def qdiscs(messages: Iterable[bytes], ifindex: int) -> tuple[Qdisc, ...]:
    """Those of a device that somebody has set, from the messages of all."""
    found = []
    for body in messages:
        _, index, handle, parent, _ = if_link.TCMSG.unpack_from(body)
        if index != ifindex or not handle:
            continue
        attrs = parse_attrs(body, if_link.TCMSG.size)
        kind = as_str(attrs.get(if_link.TCA_KIND, b""))
        blocks = b"".join(attr(one, attrs[one]) for one in tc.BLOCKS if one in attrs)
        found.append(Qdisc(handle, parent, kind, attrs.get(if_link.TCA_OPTIONS), blocks))
    return tuple(found)


def of_link(
    body: bytes, sysctls: Mapping[tuple[str, str], str], found: tuple[Qdisc, ...],
    names: Mapping[str, int], queueing: tuple[TcObject, ...] = (), *, kept: tuple[Kept, ...] = (),
) -> LinkSettings:  # fmt: skip
    """From the RTM_NEWLINK message of a netdev and what else was read."""
    link = if_link.IfLink(body)
    raw = parse_attrs(body, if_link.IFINFO.size)
    masters = {index: name for name, index in reversed([*names.items()])}
    return LinkSettings(
        link.flags & sum(FLAGS),
        {kind: raw[kind] for kind in ATTRIBUTES if kind in raw},
        link.altnames,
        # A netvsc master, which has no kind, takes its port back by itself.
        masters.get(link.master or 0) if link.member_kind else None,
        sysctls,
        found,
        names,
        queueing,
        link.member_kind,
        _of_member(link),
        bridging=kept,
    )


def _of_member(link: if_link.IfLink) -> dict[int, bytes]:
    known = MEMBER_ATTRIBUTES.get(link.member_kind or "", {})
    return {number: raw for number, raw in link.member_data.items() if number in known}


_FOLLOWED = (if_link.IFLA_ADDRESS, if_link.IFLA_MTU)


def of_survivor(body: bytes) -> LinkSettings:
    """What of a device changes when its last member is destroyed: a bond gets a random MAC address,
    a bridge the usual MTU, and what stands on them follows."""
    raw = parse_attrs(body, if_link.IFINFO.size)
    flags = if_link.IfInfoMsg.of(body).flags & sum(FLAGS)
    return followed(LinkSettings(flags, raw))


def followed(settings: LinkSettings) -> LinkSettings:
    """Of all the settings of a device those that it may lose with a member."""
    raw = settings.attributes
    return LinkSettings(settings.flags, {kind: raw[kind] for kind in _FOLLOWED if kind in raw})
