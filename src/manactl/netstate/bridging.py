"""What a bridge has of one member, and the interface identifier that a netdev is to have: gone with a
netdev that is destroyed, and in none of its attributes. Pure.

VLANs (br_vlan_fill()), FDB entries that somebody has added (fdb_fill_info()), permanent groups
(nlmsg_populate_mdb_fill()), and `ip token`, from the kernel's own messages. Numbers:
include/uapi/linux/{if_bridge,if_link,neighbour}.h.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable
from typing import Any, Self

from manactl.model.named_tuple import NamedTuple
from manactl.netstate.requests import Request
from manactl.wire import if_link
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import attr, iter_attrs, nest, parse_attrs
from manactl.wire.if_link import IfInfoMsg
from manactl.wire.netlink import NLM_F_CREATE, NLM_F_EXCL

AF_BRIDGE = 7
RTM_NEWMDB, RTM_GETMDB = 84, 86
RTEXT_FILTER_BRVLAN = 1 << 1
_IFLA_BRIDGE_VLAN_INFO, _IFLA_INET6_TOKEN = 2, 7
_VLAN = struct.Struct("=HH")  # struct bridge_vlan_info: flags and VLAN
_VLAN_PVID, _VLAN_UNTAGGED = 0x2, 0x4
_NDA_VLAN, _NDA_MASTER = 5, 9
_NTF_MASTER, _NTF_STICKY = 0x04, 0x40
_PORT = struct.Struct("=BxxxI")  # struct br_port_msg
_MDBA_MDB, _MDBA_MDB_ENTRY, _MDBA_MDB_ENTRY_INFO = 1, 1, 1
_MDBA_SET_ENTRY, _MDBA_SET_ENTRY_ATTRS = 1, 2
_MDBA_MDB_EATTR_SOURCE, _MDBE_ATTR_SOURCE = 4, 1
_MDB = struct.Struct("=IBBH")  # struct br_mdb_entry: ifindex, state, flags, VLAN; the group follows
_MDB_SIZE, _MDB_PERMANENT = 28, 1


class Kept(NamedTuple):
    """One of them: its kind, and what a request for it has, without ifindexes."""

    kind: str
    data: bytes

    def describe(self) -> str:
        if self.kind == "vlan":
            flags, vid = _VLAN.unpack(self.data)
            words = [w for bit, w in ((_VLAN_PVID, "pvid"), (_VLAN_UNTAGGED, "untagged"))
                     if flags & bit]  # fmt: skip
            return " ".join([f"bridge VLAN {vid}", *words])
        if self.kind == "fdb":
            lladdr = parse_attrs(self.data, 3).get(rt.NDA_LLADDR, b"")
            return f"bridge FDB entry {lladdr.hex(':')}"
        return "bridge MDB entry" if self.kind == "mdb" else "ip token"

    def request(self, ifindex: int, master: int) -> Request:
        if self.kind == "vlan":
            spec = nest(if_link.IFLA_AF_SPEC, attr(_IFLA_BRIDGE_VLAN_INFO, self.data))
            head = IfInfoMsg(family=AF_BRIDGE, ifindex=ifindex).pack()
            return Request(if_link.RTM_SETLINK, 0, head + spec)
        if self.kind == "fdb":
            state, flags = struct.unpack_from("=HB", self.data)
            head = rt.NdMsg(AF_BRIDGE, ifindex, state, flags | _NTF_MASTER).pack()
            return Request(rt.RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, head + self.data[3:])
        if self.kind == "mdb":
            group, source = self.data[: _MDB_SIZE - 4], self.data[_MDB_SIZE - 4 :]
            entry = struct.pack("=I", ifindex) + group
            body = _PORT.pack(AF_BRIDGE, master) + attr(_MDBA_SET_ENTRY, entry)
            if source:
                body += nest(_MDBA_SET_ENTRY_ATTRS, attr(_MDBE_ATTR_SOURCE, source))
            return Request(RTM_NEWMDB, NLM_F_CREATE | NLM_F_EXCL, body)
        token = nest(if_link.AF_INET6, attr(_IFLA_INET6_TOKEN, self.data))
        body = IfInfoMsg(ifindex=ifindex).pack() + nest(if_link.IFLA_AF_SPEC, token)
        return Request(if_link.RTM_NEWLINK, 0, body)

    def to_json(self) -> list[str]:
        return [self.kind, base64.b64encode(self.data).decode()]

    @classmethod
    def from_json(cls, data: Any) -> Self:
        kind, text = data
        return cls(str(kind), base64.b64decode(text, validate=True))


def vlans(messages: Iterable[bytes], ifindex: int) -> list[Kept]:
    """Of a dump of AF_BRIDGE links with RTEXT_FILTER_BRVLAN."""
    found = []
    for body in messages:
        if IfInfoMsg.of(body).ifindex != ifindex:
            continue
        spec = parse_attrs(body, if_link.IFINFO.size).get(if_link.IFLA_AF_SPEC, b"")
        found += [
            Kept("vlan", payload)
            for kind, payload in iter_attrs(spec)
            if kind == _IFLA_BRIDGE_VLAN_INFO and len(payload) == _VLAN.size
        ]
    return found


def forwarding(messages: Iterable[bytes], ifindex: int, own: bytes) -> list[Kept]:
    """Of a dump of the FDB: what somebody has added to the bridge. The member's own address is the
    kernel's."""
    found = []
    for body in messages:
        head = rt.NdMsg.of(body)
        attrs = parse_attrs(body, rt.NDMSG.size)
        lasting = head.state & (rt.NUD_PERMANENT | rt.NUD_NOARP)
        lladdr = attrs.get(rt.NDA_LLADDR, b"")
        if head.ifindex != ifindex or not lasting or _NDA_MASTER not in attrs or lladdr == own:
            continue
        data = struct.pack("=HB", head.state, head.flags & (_NTF_STICKY | rt.NTF_EXT_LEARNED))
        data += attr(rt.NDA_LLADDR, lladdr)
        if _NDA_VLAN in attrs:
            data += attr(_NDA_VLAN, attrs[_NDA_VLAN])
        found.append(Kept("fdb", data))
    return found


def groups(messages: Iterable[bytes], ifindex: int) -> list[Kept]:
    """Of a dump of the MDB: permanent entries, each with the one source that it is for, if any; others
    are learned again."""
    found = []
    for body in messages:
        for _, entries in iter_attrs(parse_attrs(body, _PORT.size).get(_MDBA_MDB, b"")):
            for kind, entry in iter_attrs(entries):
                if kind != _MDBA_MDB_ENTRY_INFO or len(entry) < _MDB_SIZE:
                    continue
                index, state, _, vid = _MDB.unpack_from(entry)
                if index == ifindex and state == _MDB_PERMANENT:
                    fixed = _MDB.pack(0, state, 0, vid)[4:]
                    source = parse_attrs(entry, _MDB_SIZE).get(_MDBA_MDB_EATTR_SOURCE, b"")
                    found.append(Kept("mdb", fixed + entry[_MDB.size : _MDB_SIZE] + source))
    return found


def token(body: bytes) -> list[Kept]:
    """Of an RTM_NEWLINK message."""
    spec = parse_attrs(body, if_link.IFINFO.size).get(if_link.IFLA_AF_SPEC, b"")
    found = parse_attrs(parse_attrs(spec).get(if_link.AF_INET6, b"")).get(_IFLA_INET6_TOKEN, b"")
    return [Kept("token", found)] if any(found) else []


def superfluous(was: Iterable[Kept], now: Iterable[Kept]) -> list[bytes]:
    """The VLANs that a new member has by default and the old one had not, as their payload."""
    vids = {one.data[2:] for one in was if one.kind == "vlan"}
    return [one.data for one in now if one.kind == "vlan" and one.data[2:] not in vids]


def removal(vlan: bytes, ifindex: int) -> Request:
    """The request that removes such a VLAN."""
    spec = nest(if_link.IFLA_AF_SPEC, attr(_IFLA_BRIDGE_VLAN_INFO, vlan))
    head = IfInfoMsg(family=AF_BRIDGE, ifindex=ifindex).pack()
    return Request(if_link.RTM_DELLINK, 0, head + spec)


def all_groups() -> bytes:
    """The body of a dump of the MDBs of all bridges: of one alone the kernel does not tell."""
    return _PORT.pack(AF_BRIDGE, 0)
