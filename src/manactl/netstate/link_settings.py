"""The settings of a netdev itself, which going down and up leaves alone, but which are at their
defaults when its device was unplugged and plugged in again. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

from manactl.netstate.requests import Request
from manactl.wire import if_link
from manactl.wire.attrs import as_int, as_str, attr, attr_str, attr_u32, nest, parse_attrs
from manactl.wire.if_link import IfInfoMsg
from manactl.wire.netlink import NLM_F_CREATE, NLM_F_REPLACE

# What a request may set, by what `ip link` calls it.
ATTRIBUTES = {
    if_link.IFLA_MTU: "mtu", if_link.IFLA_TXQLEN: "txqueuelen", if_link.IFLA_IFALIAS: "alias",
    if_link.IFLA_GROUP: "group",
    if_link.IFLA_GSO_MAX_SIZE: "gso_max_size", if_link.IFLA_GSO_MAX_SEGS: "gso_max_segs",
    if_link.IFLA_GRO_MAX_SIZE: "gro_max_size",
    if_link.IFLA_GSO_IPV4_MAX_SIZE: "gso_ipv4_max_size",
    if_link.IFLA_GRO_IPV4_MAX_SIZE: "gro_ipv4_max_size",
}  # fmt: skip
FLAGS = {0x100: "promisc", 0x200: "allmulticast", 0x80: "noarp", 0x1000: "multicast",
         0x8000: "dynamic", 0x4: "debug"}  # fmt: skip


class Qdisc(NamedTuple):
    """A qdisc that somebody has set: those of the kernel's own have no handle."""

    handle: int
    parent: int
    kind: str
    options: bytes | None

    def describe(self) -> str:
        root = self.parent == if_link.TC_H_ROOT
        where = "root" if root else f"parent {self.parent >> 16:x}:{self.parent & 0xFFFF:x}"
        return f"qdisc {self.kind} {self.handle >> 16:x}: {where}"

    def request(self, ifindex: int) -> Request:
        head = if_link.TCMSG.pack(0, ifindex, self.handle, self.parent, 0)
        body = head + attr_str(if_link.TCA_KIND, self.kind)
        if self.options is not None:
            body += attr(if_link.TCA_OPTIONS, self.options)
        return Request(if_link.RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body)


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """The settings of one netdev. `attributes` are by number, `sysctls` by tree and key; `master`
    is the name of its master. `names` are the ifindexes of all links by name, not kept in JSON."""

    flags: int = 0
    attributes: Mapping[int, bytes] = field(default_factory=dict)
    altnames: tuple[str, ...] = ()
    master: str | None = None
    sysctls: Mapping[tuple[str, str], str] = field(default_factory=dict)
    qdiscs: tuple[Qdisc, ...] = ()
    names: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "flags": self.flags,
            "attributes": {str(kind): _coded(data) for kind, data in self.attributes.items()},
            "altnames": list(self.altnames),
            "master": self.master,
            "sysctls": [[*where, value] for where, value in self.sysctls.items()],
            "qdiscs": [{**one._asdict(), "options": _coded(one.options)} for one in self.qdiscs],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            int(data["flags"]),
            {int(kind): _decoded(text) or b"" for kind, text in data["attributes"].items()},
            tuple(map(str, data["altnames"])),
            data["master"],
            {(tree, key): value for tree, key, value in data["sysctls"]},
            tuple(
                Qdisc(int(q["handle"]), int(q["parent"]), q["kind"], _decoded(q["options"]))
                for q in data["qdiscs"]
            ),
        )


def _coded(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _decoded(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)


class Change(NamedTuple):
    """One setting that is not as it was, and what sets it: a request, or a value for a sysctl.
    None of both: nothing can."""

    text: str
    request: Request | None = None
    sysctl: tuple[str, str, str] | None = None  # tree, key, value
    qdisc: bool = False


def changes(was: LinkSettings, now: LinkSettings, ifindex: int) -> list[Change]:
    """What is to be set, in an order that the kernel takes: the MTU before the sysctls that it
    bounds, the port in its master before what hangs on both."""
    found = [*_attributes(was, now, ifindex), *_flags(was, now, ifindex)]
    for name in was.altnames:
        if name not in now.altnames:
            names = nest(if_link.IFLA_PROP_LIST, attr_str(if_link.IFLA_ALT_IFNAME, name))
            body = IfInfoMsg(ifindex=ifindex).pack() + names
            found.append(Change(f"altname {name}", Request(if_link.RTM_NEWLINKPROP, 0, body)))
    if was.master is not None and now.master is None:
        found.append(_enslaving(was.master, now, ifindex))
    for where, value in was.sysctls.items():
        if now.sysctls.get(where, value) != value:
            tree, key = where
            found.append(Change(f"sysctl {tree}: {key} = {value}", sysctl=(tree, key, value)))
    found += [
        Change(one.describe(), one.request(ifindex), qdisc=True)
        for one in was.qdiscs
        if one not in now.qdiscs
    ]
    return found


def changed(was: LinkSettings, now: LinkSettings, ifindex: int) -> list[Change]:
    """What is not as it was on a netdev that was there all the time.

    Somebody has set it; or the netdev was moved to another network namespace and back, which sets
    its sysctls to defaults and removes its qdiscs (dev_change_net_namespace()). Its master is
    compared with the uppers, and the options of a qdisc count packets.
    """
    there = {one[:3] for one in now.qdiscs}
    gone = tuple(one for one in was.qdiscs if one[:3] not in there)
    return changes(replace(was, master=None, qdiscs=gone), now, ifindex)


def _set(ifindex: int, more: bytes, *, flags: int = 0, change: int = 0) -> Request:
    body = IfInfoMsg(ifindex=ifindex, flags=flags, change=change).pack() + more
    return Request(if_link.RTM_NEWLINK, 0, body)


def _attributes(was: LinkSettings, now: LinkSettings, ifindex: int) -> Iterator[Change]:
    for kind, word in ATTRIBUTES.items():
        value = was.attributes.get(kind)
        if value is not None and now.attributes.get(kind) != value:
            yield Change(f"{word} {_shown(kind, value)}", _set(ifindex, attr(kind, value)))


def _shown(kind: int, value: bytes) -> str:
    if kind == if_link.IFLA_IFALIAS:
        return as_str(value)
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


def qdiscs(messages: Iterable[bytes], ifindex: int) -> tuple[Qdisc, ...]:
    """Those of a device that somebody has set, from the messages of all."""
    found = []
    for body in messages:
        _, index, handle, parent, _ = if_link.TCMSG.unpack_from(body)
        if index != ifindex or not handle:
            continue
        attrs = parse_attrs(body, if_link.TCMSG.size)
        kind = as_str(attrs.get(if_link.TCA_KIND, b""))
        found.append(Qdisc(handle, parent, kind, attrs.get(if_link.TCA_OPTIONS)))
    return tuple(found)


def of_link(
    body: bytes, sysctls: Mapping[tuple[str, str], str], found: tuple[Qdisc, ...],
    names: Mapping[str, int],
) -> LinkSettings:  # fmt: skip
    """From the RTM_NEWLINK message of a netdev and what else was read."""
    link = if_link.IfLink(body)
    raw = parse_attrs(body, if_link.IFINFO.size)
    masters = {index: name for name, index in names.items()}
    return LinkSettings(
        link.flags & sum(FLAGS),
        {kind: raw[kind] for kind in ATTRIBUTES if kind in raw},
        link.altnames,
        # A netvsc master, which has no kind, takes its port back by itself.
        masters.get(link.master or 0) if link.member_kind else None,
        sysctls,
        found,
        names,
    )
