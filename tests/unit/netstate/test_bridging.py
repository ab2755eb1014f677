"""What a bridge has of a member, from messages as the kernel writes them."""

from __future__ import annotations

import json
import socket
import struct
import sys

import pytest

from manactl.netstate import bridging, link_settings
from manactl.netstate.bridging import Kept
from manactl.netstate.link_settings import LinkSettings
from manactl.wire import if_link
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import attr, iter_attrs, nest, parse_attrs
from tests.unit.wire.headers import numbers
from tests.unit.wording import wording

MAC, OTHER = b"\x02\0\0\0\0\1", b"\x02\xaa\0\0\0\1"
GROUP = socket.inet_aton("239.1.1.1") + bytes(12) + b"\x08\0" + bytes(2)


def link(index: int, *vlans: bytes) -> bytes:
    spec = b"".join(attr(2, one) for one in vlans)
    return if_link.IfInfoMsg(family=7, ifindex=index).pack() + nest(26, spec)


def vlan(vid: int, flags: int = 0) -> bytes:
    return struct.pack("=HH", flags, vid)


def neighbour(state: int, lladdr: bytes, *more: bytes, index: int = 9, flags: int = 0) -> bytes:
    head = rt.NdMsg(7, index, state, flags).pack()
    return head + attr(rt.NDA_LLADDR, lladdr) + b"".join(more)


MASTER, VLAN100 = attr(9, struct.pack("=I", 10)), attr(5, struct.pack("=H", 100))


def group(index: int, state: int, more: bytes = b"") -> bytes:
    entry = struct.pack("=IBBH", index, state, 0x2, 100) + GROUP + more
    return bytes([7, 0, 0, 0]) + struct.pack("=I", 10) + nest(1, nest(1, attr(1, entry)))


def test_vlans_of_the_member_alone() -> None:
    dump = [link(8, vlan(5)), link(9, vlan(100, 6), vlan(200))]
    found = bridging.vlans(dump, 9)
    assert found == [Kept("vlan", vlan(100, 6)), Kept("vlan", vlan(200))]
    assert [one.describe() for one in found] == [
        "bridge VLAN 100 pvid untagged", "bridge VLAN 200",
    ]  # fmt: skip


def test_entries_of_a_vxlan() -> None:
    """By the name of the netdev that they send by: that may have another number then."""
    other, end = attr(rt.NDA_LLADDR, OTHER), attr(rt.NDA_DST, bytes([10, 0, 0, 9]))
    by = attr(rt.NDA_IFINDEX, (3).to_bytes(4, sys.byteorder))
    dump = [
        rt.NdMsg(7, 9, rt.NUD_PERMANENT, 0x2).pack() + other + end + by,
        rt.NdMsg(7, 9, rt.NUD_REACHABLE, 0x2 | rt.NTF_EXT_LEARNED).pack() + other + end,
        rt.NdMsg(7, 9, rt.NUD_REACHABLE, 0x2).pack() + other + end,  # learned
        rt.NdMsg(7, 9, rt.NUD_PERMANENT, 0x4).pack() + other,  # its bridge's
        rt.NdMsg(7, 8, rt.NUD_PERMANENT, 0x2).pack() + other + end,
    ]
    via, learned = bridging.of_vxlan(dump, 9, {"eth1": 3, "wan7": 3})
    with wording:
        assert via.describe() == "VXLAN FDB entry 02:aa:00:00:00:01"
    assert Kept.from_json(via.to_json()) == via
    made = via.request(12, 0, {"eth1": 5}).body
    assert rt.NdMsg.of(made)[1:4] == (12, rt.NUD_PERMANENT, 0x2)
    attrs = parse_attrs(made, rt.NDMSG.size)
    assert attrs[rt.NDA_IFINDEX] == (5).to_bytes(4, sys.byteorder)
    assert attrs[rt.NDA_DST] == bytes([10, 0, 0, 9])
    made = learned.request(12, 0).body
    assert rt.NdMsg.of(made)[1:4] == (12, rt.NUD_REACHABLE, 0x2 | rt.NTF_EXT_LEARNED)
    assert rt.NDA_IFINDEX not in parse_attrs(made, rt.NDMSG.size)
    (unnamed,) = bridging.of_vxlan(dump[:1], 9, {})
    assert unnamed != via


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (neighbour(rt.NUD_NOARP, OTHER, MASTER, VLAN100), True),
        (neighbour(rt.NUD_PERMANENT, OTHER, MASTER), True),
        (neighbour(rt.NUD_PERMANENT, MAC, MASTER), False),  # its own: the kernel's
        (neighbour(rt.NUD_REACHABLE, OTHER, MASTER), False),  # learned
        (neighbour(rt.NUD_PERMANENT, OTHER), False),  # the netdev's own list
        (neighbour(rt.NUD_NOARP, OTHER, MASTER, index=8), False),
    ],
)
def test_entries_that_somebody_has_added(body: bytes, kept: bool) -> None:
    found = bridging.forwarding([body], 9, MAC)
    assert len(found) == kept
    for one in found:
        made = one.request(12, 10)
        head = rt.NdMsg.of(made.body)
        assert (head.ifindex, head.state, head.flags) == (12, rt.NdMsg.of(body).state, 4)
        vlans = [parse_attrs(one, rt.NDMSG.size).get(5) for one in (body, made.body)]
        assert vlans[0] == vlans[1]
        assert "02:aa:00:00:00:01" in one.describe()


def test_permanent_groups() -> None:
    (one,) = bridging.groups([group(9, 1), group(9, 0), group(8, 1)], 9)
    made = one.request(12, 10)
    assert struct.unpack_from("=BxxxI", made.body) == (7, 10)
    entry = parse_attrs(made.body, 8)[1]
    assert (struct.unpack_from("=IBBH", entry), entry[8:]) == ((12, 1, 0, 100), GROUP)


def test_a_group_of_one_source() -> None:
    source = socket.inet_aton("10.0.0.9")
    timer = attr(1, bytes(4))
    plain, one = bridging.groups([group(9, 1, timer), group(9, 1, timer + attr(4, source))], 9)
    assert plain != one
    made = parse_attrs(one.request(12, 10).body, 8)
    assert made[1] == parse_attrs(plain.request(12, 10).body, 8)[1]
    assert parse_attrs(made[2]) == {1: source}
    assert Kept.from_json(one.to_json()) == one


def test_a_token() -> None:
    raw = socket.inet_pton(socket.AF_INET6, "::77")
    body = if_link.IfInfoMsg(ifindex=9).pack()
    assert bridging.token(body + nest(26, nest(10, attr(7, raw)))) == [Kept("token", raw)]
    assert bridging.token(body + nest(26, nest(10, attr(7, bytes(16))))) == []
    assert bridging.token(body) == []
    made = Kept("token", raw).request(12, 0)
    assert (made.type, made.flags) == (if_link.RTM_NEWLINK, 0)
    spec = parse_attrs(made.body, if_link.IFINFO.size)[26]
    assert parse_attrs(parse_attrs(spec)[10]) == {7: raw}


def test_what_a_new_member_lacks_and_what_it_has_too_much() -> None:
    """Once it is in the bridge again: by default it is in VLAN 1."""
    was = LinkSettings(
        master="br0", member_kind="bridge", names={"br0": 10},
        bridging=(Kept("vlan", vlan(100, 6)), Kept("token", bytes(15) + b"\7")),
    )  # fmt: skip
    was = LinkSettings.from_json(json.loads(json.dumps(was.to_json())))
    out = LinkSettings(names={"br0": 10})
    texts = [one.text for one in link_settings.changes(was, out, 12)]
    with wording:
        assert texts == ["master br0", "ip token"]
    now = LinkSettings(
        master="br0", member_kind="bridge", names={"br0": 10}, bridging=(Kept("vlan", vlan(1, 6)),)
    )
    found = link_settings.changes(was, now, 12)
    with wording:
        assert [one.text for one in found] == [
            "bridge VLAN 100 pvid untagged", "ip token", "no bridge VLAN 1 pvid untagged",
        ]  # fmt: skip
    assert all(one.may_be_lost for one in found)
    types = [one.request.type for one in found if one.request]
    assert types == [if_link.RTM_SETLINK, if_link.RTM_NEWLINK, if_link.RTM_DELLINK]
    assert [one.request.flags for one in found if one.request] == [0, 0, 0]
    heads = [if_link.IfInfoMsg.of(one.request.body) for one in found if one.request]
    assert [(one.family, one.ifindex) for one in heads] == [(7, 12), (0, 12), (7, 12)]
    assert link_settings.changed(was, now, 12) == []  # of one that was there all the time


def test_a_group_with_its_list_of_sources() -> None:
    """And the entry that the kernel makes of each source is not asked for once more."""
    sources = [socket.inet_aton(f"192.0.2.{last}") for last in (2, 1)]
    entries = b"".join(nest(1, attr(1, one), attr(2, bytes(4))) for one in sources)
    of_list = group(9, 1, nest(2, entries) + attr(3, b"\x01") + attr(5, b"\x0b"))
    of_source = group(9, 1, attr(4, sources[0]) + attr(5, b"\x0b"))
    other = group(9, 1, attr(4, socket.inet_aton("192.0.2.9")) + attr(5, b"\x04"))
    routing = group(9, 1, attr(4, socket.inet_aton("192.0.2.8")) + attr(5, b"\x0b"))
    listed, alone, zebra = bridging.groups([of_list, of_source, other, routing], 9)
    assert (listed.kind, alone.kind, zebra.kind) == ("mdb-attrs", "mdb", "mdb-attrs")
    assert Kept.from_json(json.loads(json.dumps(listed.to_json()))) == listed
    with wording:
        assert listed.describe() == "bridge MDB entry"

    def asked(one: Kept) -> dict[int, bytes]:
        return parse_attrs(parse_attrs(one.request(12, 10).body, 8)[2])

    found = asked(listed)
    assert {kind: found[kind] for kind in (3, 4)} == {3: b"\x01", 4: b"\x0b"}
    assert sorted(parse_attrs(one)[1] for _, one in iter_attrs(found[2])) == sorted(sources)
    assert asked(alone) == {1: socket.inet_aton("192.0.2.9")}
    assert asked(zebra) == {1: socket.inet_aton("192.0.2.8"), 4: b"\x0b"}
    # The kernel tells sources in the order that they came in: the list is the same.
    again = nest(2, b"".join(nest(1, attr(1, one)) for one in reversed(sources)))
    assert bridging.groups([group(9, 1, again + attr(3, b"\x01") + attr(5, b"\x0b"))], 9) == [
        listed
    ]


def test_numbers_are_the_kernels() -> None:
    theirs = numbers(
        "linux/rtnetlink.h", "linux/if_bridge.h", "linux/neighbour.h", "linux/if_link.h"
    )
    for ours, name in (
        (bridging.RTM_NEWMDB, "RTM_NEWMDB"), (bridging.RTM_GETMDB, "RTM_GETMDB"),
        (bridging._IFLA_BRIDGE_VLAN_INFO, "IFLA_BRIDGE_VLAN_INFO"),
        (bridging._IFLA_INET6_TOKEN, "IFLA_INET6_TOKEN"),
        (bridging._NDA_VLAN, "NDA_VLAN"), (bridging._NDA_MASTER, "NDA_MASTER"),
        (bridging._MDBA_SET_ENTRY, "MDBA_SET_ENTRY"),
        (bridging._MDBA_SET_ENTRY_ATTRS, "MDBA_SET_ENTRY_ATTRS"),
        (bridging._EATTR_SRC_LIST, "MDBA_MDB_EATTR_SRC_LIST"),
        (bridging._EATTR_GROUP_MODE, "MDBA_MDB_EATTR_GROUP_MODE"),
        (bridging._EATTR_SOURCE, "MDBA_MDB_EATTR_SOURCE"),
        (bridging._EATTR_RTPROT, "MDBA_MDB_EATTR_RTPROT"),
        (bridging._ATTR_SOURCE, "MDBE_ATTR_SOURCE"),
    ):  # fmt: skip
        assert ours == theirs[name], name
