"""RTM_NEWLINK taken apart, and the requests about links."""

from __future__ import annotations

import struct

import pytest

from manactl.wire import if_link
from manactl.wire.if_link import IfInfoMsg, IfLink, VlanInfo
from tests.unit.wire.headers import numbers, public
from tests.unit.wording import says


def attr(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


def link(*attrs: bytes, index: int = 7, flags: int = 0x1003) -> IfLink:
    return IfLink(struct.pack("=BBHiII", 0, 0, 1, index, flags, 0) + b"".join(attrs))


def info(kind: bytes, data: bytes = b"") -> bytes:
    return attr(18 | 0x8000, attr(1, kind + b"\0") + attr(2 | 0x8000, data))


def test_numbers_are_the_kernels() -> None:
    theirs = numbers("linux/rtnetlink.h", "linux/if_link.h", "linux/if_vlan.h")
    ours = public(if_link, "RTM_", "IFLA_", "VLAN_", "RTEXT_")
    assert len(ours) >= 25
    young = {"IFLA_GSO_IPV4_MAX_SIZE", "IFLA_GRO_IPV4_MAX_SIZE"}  # newer than some headers
    assert ours.keys() - theirs.keys() <= young
    assert {n: ours[n] for n in ours if n in theirs} == {n: theirs[n] for n in ours if n in theirs}


def test_a_link_and_its_names() -> None:
    names = attr(53, b"one\0") + attr(53, b"two\0") + attr(54, b"no name\0")
    one = link(
        attr(3, b"eth\xff\0"), attr(52 | 0x8000, names), attr(1, b"\2\0\0\0\0\7"),
        attr(54, b"\0\x0d\x3a\xaa\0\x10"), attr(33, b"\1"), attr(5, u32(3)), attr(10, u32(20)),
        attr(56, b"7870:00:00.0\0"), attr(37, struct.pack("=i", -1)),
        attr(43 | 0x8000, attr(2, b"\2")),
    )  # fmt: skip
    assert (one.ifindex, one.up, one.name) == (7, True, "eth\udcff")
    assert one.altnames == ("one", "two")
    assert (one.mac, one.permanent_mac) == ("02:00:00:00:00:07", "00:0d:3a:aa:00:10")
    assert (one.carrier, one.lower, one.master, one.lower_netnsid) == (True, 3, 20, -1)
    assert (one.parent, one.kind, one.xdp_mode) == ("7870:00:00.0", None, 2)


def test_what_is_not_told_is_none() -> None:
    one = link(flags=0x1002)
    assert (one.up, one.name, one.altnames, one.xdp_mode) == (False, "", (), 0)
    for name in ("mac", "permanent_mac", "carrier", "lower", "lower_netnsid", "master", "parent",
                 "kind", "vlan", "active_slave", "vrf_table"):  # fmt: skip
        assert getattr(one, name) is None
    assert link(attr(33, b"\0")).carrier is False
    assert link(attr(1, b"")).mac is None


def test_vlans() -> None:
    data = attr(1, struct.pack("=H", 100)) + attr(2, struct.pack("=II", 1, 0xFFFFFFFF))
    assert link(info(b"vlan", data)).vlan == VlanInfo(100, 0x8100, False)
    data = attr(1, struct.pack("=H", 5)) + attr(2, struct.pack("=II", 5, 4)) + attr(5, b"\x88\xa8")
    assert link(info(b"vlan", data)).vlan == VlanInfo(5, 0x88A8, True)


def test_data_of_one_kind_is_not_read_as_anothers() -> None:
    data = attr(1, u32(100)) + attr(2, u32(4))
    bond, vrf = link(info(b"bond", data)), link(info(b"vrf", data))
    assert (bond.kind, bond.active_slave, bond.vrf_table, bond.vlan) == ("bond", 4, None, None)
    assert (vrf.kind, vrf.active_slave, vrf.vrf_table, vrf.vlan) == ("vrf", None, 100, None)
    assert link(info(b"bond")).active_slave is None


def test_requests() -> None:
    assert if_link.get_link(7) == struct.pack("=BBHiIIHHI", 0, 0, 0, 7, 0, 0, 8, 29, 8)
    assert if_link.get_link()[:16] == bytes(16)
    assert if_link.set_admin(7, True) == struct.pack("=BBHiII", 0, 0, 0, 7, 1, 1)
    assert if_link.set_admin(7, False) == struct.pack("=BBHiII", 0, 0, 0, 7, 0, 1)
    made = if_link.activate_slave(30, 4)
    assert made[:16] == struct.pack("=BBHiII", 0, 0, 0, 30, 0, 0)
    assert made[16:] == attr(18 | 0x8000, attr(1, b"bond\0") + attr(2 | 0x8000, attr(2, u32(4))))
    assert IfLink(made).active_slave == 4


def test_a_broken_message_is_an_error() -> None:
    with pytest.raises(ValueError, match=says("attribute at 16")):
        link(struct.pack("=HH", 400, 3))
    with pytest.raises(struct.error):
        IfLink(bytes(15))
    assert IfInfoMsg.of(IfInfoMsg(1, 2, 3, 4, 5).pack()) == (1, 2, 3, 4, 5)
