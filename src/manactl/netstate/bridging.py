"""What a bridge has of one member, and the interface identifier that a netdev is to have: gone with a
netdev that is destroyed, and in none of its attributes. Pure.

VLANs (br_vlan_fill()), FDB entries that somebody has added (fdb_fill_info()), permanent groups
(nlmsg_populate_mdb_fill()), and `ip token`, from the kernel's own messages. Numbers:
include/uapi/linux/{if_bridge,if_link,neighbour}.h.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Self

from manactl.model.named_tuple import NamedTuple
from manactl.model.value import NONE
from manactl.netstate.requests import Request
from manactl.wire import if_link
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import as_int, attr, attr_u32, iter_attrs, nest, parse_attrs
from manactl.wire.if_link import IfInfoMsg
from manactl.wire.netlink import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL

AF_BRIDGE = 7
RTM_NEWMDB, RTM_GETMDB = 84, 86
RTEXT_FILTER_BRVLAN = 1 << 1
_IFLA_BRIDGE_VLAN_INFO, _IFLA_INET6_TOKEN = 2, 7
_VLAN = struct.Struct("=HH")  # struct bridge_vlan_info: flags and VLAN
_VLAN_PVID, _VLAN_UNTAGGED = 0x2, 0x4
_NDA_VLAN, _NDA_MASTER = 5, 9
_NTF_SELF, _NTF_MASTER, _NTF_STICKY = 0x02, 0x04, 0x40
# NDA_LLADDR, DST, PORT, VNI, SRC_VNI, NH_ID: what a request for an entry of a VXLAN may have
_OF_VXLAN = (rt.NDA_LLADDR, rt.NDA_DST, 6, 7, 11, rt.NDA_NH_ID)
_PORT = struct.Struct("=BxxxI")  # struct br_port_msg
_MDBA_MDB, _MDBA_MDB_ENTRY, _MDBA_MDB_ENTRY_INFO = 1, 1, 1
_MDBA_SET_ENTRY, _MDBA_SET_ENTRY_ATTRS = 1, 2
_EATTR_SRC_LIST, _EATTR_GROUP_MODE, _EATTR_SOURCE, _EATTR_RTPROT = 2, 3, 4, 5  # of a dump
_ATTR_SOURCE, _ATTR_SRC_LIST, _ATTR_GROUP_MODE, _ATTR_RTPROT = 1, 2, 3, 4  # of a request
_SRC_LIST_ENTRY, _SRC_ADDRESS = 1, 1  # of both
_MDB = struct.Struct("=IBBH")  # struct br_mdb_entry: ifindex, state, flags, VLAN; the group follows
_MDB_SIZE, _MDB_PERMANENT = 28, 1


class Kept(NamedTuple):
    """One of them: its kind, and what a request for it has, without ifindexes.

    A group is "mdb" with at most its source, or "mdb-attrs" with the attributes of a request. An
    entry of a VXLAN begins with the name of the netdev that it sends by, which may be empty.
    """

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
        if self.kind == "vxlan":
            lladdr = parse_attrs(self.data.partition(b"\0")[2], 3).get(rt.NDA_LLADDR, b"")
            return f"VXLAN FDB entry {lladdr.hex(':')}"
        return "ip token" if self.kind == "token" else "bridge MDB entry"

    def request(self, ifindex: int, master: int, names: Mapping[str, int] = NONE) -> Request:
        if self.kind == "vlan":
            spec = nest(if_link.IFLA_AF_SPEC, attr(_IFLA_BRIDGE_VLAN_INFO, self.data))
            head = IfInfoMsg(family=AF_BRIDGE, ifindex=ifindex).pack()
            return Request(if_link.RTM_SETLINK, 0, head + spec)
        if self.kind == "fdb":
            state, flags = struct.unpack_from("=HB", self.data)
            head = rt.NdMsg(AF_BRIDGE, ifindex, state, flags | _NTF_MASTER).pack()
            return Request(rt.RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, head + self.data[3:])
        if self.kind == "vxlan":
            name, _, data = self.data.partition(b"\0")
            state, flags = struct.unpack_from("=HB", data)
            head = rt.NdMsg(AF_BRIDGE, ifindex, state, flags | _NTF_SELF).pack()
            by = names.get(name.decode("utf-8", "surrogateescape"), 0)
            via = attr_u32(rt.NDA_IFINDEX, by) if name else b""
            # Several of one address are one entry with several ends.
            return Request(rt.RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_APPEND, head + data[3:] + via)
        if self.kind in ("mdb", "mdb-attrs"):
            group, more = self.data[: _MDB_SIZE - 4], self.data[_MDB_SIZE - 4 :]
            entry = struct.pack("=I", ifindex) + group
            body = _PORT.pack(AF_BRIDGE, master) + attr(_MDBA_SET_ENTRY, entry)
            if self.kind == "mdb" and more:
                more = attr(_ATTR_SOURCE, more)
            if more:
                body += nest(_MDBA_SET_ENTRY_ATTRS, more)
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


def of_vxlan(messages: Iterable[bytes], ifindex: int, names: Mapping[str, int]) -> list[Kept]:
    """Of a dump of the FDB: what somebody has told a VXLAN, and its own default (vxlan_fdb_info())."""
    by_index = {index: name for name, index in reversed([*names.items()])}
    found = []
    for body in messages:
        head = rt.NdMsg.of(body)
        kept = head.state & (rt.NUD_PERMANENT | rt.NUD_NOARP) or head.flags & rt.NTF_EXT_LEARNED
        if head.ifindex != ifindex or not head.flags & _NTF_SELF or not kept:
            continue
        attrs = parse_attrs(body, rt.NDMSG.size)
        by = as_int(attrs.get(rt.NDA_IFINDEX, b""))
        name = by_index.get(by, str(by)) if by else ""
        data = struct.pack("=HB", head.state, head.flags & rt.NTF_EXT_LEARNED)
        data += b"".join(attr(kind, attrs[kind]) for kind in _OF_VXLAN if kind in attrs)
        found.append(Kept("vxlan", name.encode("utf-8", "surrogateescape") + b"\0" + data))
    return found


def groups(messages: Iterable[bytes], ifindex: int) -> list[Kept]:
    """Of a dump of the MDB: permanent entries, each with the one source that it is for, if any, or
    with its list of sources; others are learned again.

    Of each source in such a list the kernel makes an entry itself (br_mdb_add_group_src_fwd()), for
    an EXCLUDE list one that blocks, which nobody else can make.
    """
    found, made = [], set()
    for body in messages:
        for _, entries in iter_attrs(parse_attrs(body, _PORT.size).get(_MDBA_MDB, b"")):
            for kind, entry in iter_attrs(entries):
                if kind != _MDBA_MDB_ENTRY_INFO or len(entry) < _MDB_SIZE:
                    continue
                index, state, _, vid = _MDB.unpack_from(entry)
                if index == ifindex and state == _MDB_PERMANENT:
                    fixed = _MDB.pack(0, state, 0, vid)[4:] + entry[_MDB.size : _MDB_SIZE]
                    attrs = parse_attrs(entry, _MDB_SIZE)
                    sources = _sources(attrs.get(_EATTR_SRC_LIST, b""))
                    made |= {(fixed, source) for source in sources}
                    found.append((fixed, attrs.get(_EATTR_SOURCE, b""), _asked(attrs, sources)))
    return [
        Kept("mdb-attrs", fixed + asked) if asked else Kept("mdb", fixed + source)
        for fixed, source, asked in found
        if (fixed, source) not in made
    ]


def _sources(listed: bytes) -> list[bytes]:
    each = (parse_attrs(entry) for kind, entry in iter_attrs(listed) if kind == _SRC_LIST_ENTRY)
    return sorted(attrs.get(_SRC_ADDRESS, b"") for attrs in each)


def _asked(attrs: Mapping[int, bytes], sources: Iterable[bytes]) -> bytes:
    """The attributes of a request for an entry with more than a group and its source."""
    mode, protocol = attrs.get(_EATTR_GROUP_MODE, b""), attrs.get(_EATTR_RTPROT, b"")
    asked = b""
    if entries := b"".join(nest(_SRC_LIST_ENTRY, attr(_SRC_ADDRESS, one)) for one in sources):
        asked = nest(_ATTR_SRC_LIST, entries) + attr(_ATTR_GROUP_MODE, mode)
    if protocol and protocol[0] != rt.RTPROT_STATIC:
        asked += attr(_ATTR_RTPROT, protocol)
    if asked and (source := attrs.get(_EATTR_SOURCE)):
        asked = attr(_ATTR_SOURCE, source) + asked
    return asked


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
