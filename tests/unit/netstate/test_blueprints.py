"""What makes a device again: from the message of a dump to the request, byte by byte."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

import pytest

from manactl.netstate import blueprints
from manactl.netstate.blueprints import Blueprint, dying, own_address
from manactl.netstate.link_settings import LinkSettings
from manactl.netstate.uppers import UpperState
from tests.unit.wire.headers import numbers

CREATE, EXCL = 0x400, 0x200
IFNAME, LINK, MTU, LINKINFO, ADDRESS, TXQ = 3, 5, 4, 18, 1, 31
KIND, DATA = 1, 2
MAC, OTHER_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")


def attr(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def u32(number: int) -> bytes:
    return struct.pack("=I", number)


def attrs(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        yield kind, data[at + 4 : at + length]
        at += (length + 3) & ~3


def link(name: str, kind: str, data: bytes, mac: bytes = MAC, lower: int = 3) -> bytes:
    info = attr(KIND, kind.encode() + b"\0") + attr(DATA, data)
    return (
        struct.pack("=BxHiII", 0, 1, 9, 0x1003, 0)
        + attr(IFNAME, name.encode() + b"\0")
        + attr(ADDRESS, mac)
        + attr(LINK, u32(lower))
        + attr(MTU, u32(1400))
        + attr(TXQ, u32(2))
        + attr(LINKINFO, info)
    )


def made(
    plan: Blueprint, ifindex: int = 0
) -> tuple[int, dict[int, bytes], list[tuple[int, bytes]]]:
    """The ifindex of the request, its attributes, and those of IFLA_INFO_DATA in order."""
    request = plan.request({3: 7}, ifindex=ifindex)
    assert (request.type, request.flags) == (16, CREATE | EXCL)
    found = {kind & 0x3FFF: raw for kind, raw in attrs(request.body[16:])}
    info = {kind & 0x3FFF: raw for kind, raw in attrs(found.pop(LINKINFO))}
    found[KIND << 8] = info[KIND]
    return struct.unpack_from("=i", request.body, 4)[0], found, list(attrs(info[DATA]))


def test_a_vlan_stands_on_the_new_netdev_and_has_every_attribute_that_it_had() -> None:
    qos = attr(1, u32(3) + u32(4))
    data = attr(1, b"\x07\0") + attr(4 | 0x8000, qos) + attr(999, b"new")
    plan = Blueprint(9, LinkSettings(), link("v7", "vlan", data))
    index, found, shown = made(plan, 9)
    assert index == 9
    assert found == {
        IFNAME: b"v7\0", LINK: u32(7), MTU: u32(1400), TXQ: u32(2), KIND << 8: b"vlan\0",
    }  # fmt: skip
    assert shown == [(2, u32(0) + u32(0x1F)), (1, b"\x07\0"), (4 | 0x8000, qos), (999, b"new")]


def test_the_flags_of_a_vlan_have_a_mask_that_the_kernel_takes() -> None:
    """None are not shown, and a new VLAN has one."""
    data = attr(2, u32(1) + u32(0xFFFFFFFF)) + attr(1, b"\x07\0")
    _, _, shown = made(Blueprint(9, LinkSettings(), link("v7", "vlan", data)))
    assert shown == [(2, u32(1) + u32(0x1F)), (1, b"\x07\0")]


def test_an_address_of_its_own_is_asked_for() -> None:
    plan = Blueprint(9, LinkSettings(attributes={ADDRESS: OTHER_MAC}), link("v7", "vlan", b""))
    assert made(plan)[1][ADDRESS] == OTHER_MAC


def test_a_lower_that_has_not_moved_is_named_as_it_was() -> None:
    plan = Blueprint(9, LinkSettings(), link("v7", "vlan", b"", lower=5))
    assert made(plan)[1][LINK] == u32(5)


def test_a_vxlan_names_its_lower_in_its_data_and_what_claims_header_bits_is_left_out() -> None:
    data = attr(3, u32(3)) + attr(21, b"\0") + attr(22, b"\1") + attr(28, b"\1") + attr(7, b"\0")
    _, found, shown = made(Blueprint(9, LinkSettings(), link("vx", "vxlan", data)))
    assert LINK not in found
    assert shown == [(3, u32(7)), (22, b"\1"), (28, b""), (7, b"\0")]
    _, _, shown = made(Blueprint(9, LinkSettings(), link("vx", "vxlan", attr(28, b"\0"))))
    assert shown == []


@pytest.mark.parametrize("kind", ["macvlan", "macvtap"])
def test_a_macvlan_gets_its_sources_by_a_mode_that_sets_them(kind: str) -> None:
    sources = attr(4, MAC)
    data = attr(1, u32(16)) + attr(6, u32(1)) + attr(5, sources) + attr(8, u32(1000))
    _, _, shown = made(Blueprint(9, LinkSettings(), link("m1", kind, data)))
    assert shown == [(1, u32(16)), (3, u32(3)), (5 | 0x8000, sources)]
    _, _, shown = made(Blueprint(9, LinkSettings(), link("m1", kind, attr(5, b""))))
    assert shown == []


def test_what_dies_with_a_netdev() -> None:
    def upper(ifindex: int, kind: str, lower: int) -> UpperState:
        return UpperState(f"x{ifindex}", ifindex, kind, lower, None, True, True, False)

    stack = [
        upper(10, "vlan", 3), upper(11, "bond", 3), upper(12, "vxlan", 3),
        upper(13, "macvlan", 10), upper(14, "vlan", 11), upper(15, "bridge", 10),
    ]  # fmt: skip
    assert dying(stack, 3) == {10, 12, 13}


def test_who_has_an_address_of_its_own() -> None:
    lower = link("eth1", "", b"")
    assert not own_address(link("v7", "vlan", b""), lower)
    assert own_address(link("v7", "vlan", b"", OTHER_MAC), lower)
    assert own_address(link("m7", "macvlan", b""), lower)
    assert own_address(link("v7", "vlan", b""), None)


def test_it_comes_back_from_json() -> None:
    plan = Blueprint(9, LinkSettings(attributes={MTU: u32(1400)}), link("v7", "vlan", b""))
    assert Blueprint.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_what_a_macsec_shows_and_takes_is_sent_but_its_padding() -> None:
    data = b"".join(attr(number, b"\1") for number in range(1, 16))
    _, _, shown = made(Blueprint(9, LinkSettings(), link("s", "macsec", data)))
    assert [number for number, _ in shown] == [n for n in range(1, 16) if n != 14]


def test_numbers_are_those_of_the_kernels_headers() -> None:
    known = numbers("linux/if_link.h")
    assert known["IFLA_MACSEC_PAD"] == blueprints._MACSEC_PAD
    assert [
        known["IFLA_MACVLAN_MACADDR_MODE"], known["IFLA_MACVLAN_MACADDR_DATA"],
        known["IFLA_MACVLAN_MACADDR_COUNT"], known["MACVLAN_MACADDR_SET"],
        known["IFLA_MACVLAN_BC_QUEUE_LEN_USED"],
    ] == [
        blueprints._MACADDR_MODE, blueprints._MACADDR_DATA, blueprints._MACADDR_COUNT,
        blueprints._MACADDR_SET, blueprints._BC_QUEUE_LEN_USED,
    ]  # fmt: skip
    assert known["IFLA_VXLAN_TTL_INHERIT"] == blueprints._TTL_INHERIT
    assert (
        known["IFLA_VXLAN_REMCSUM_TX"], known["IFLA_VXLAN_REMCSUM_RX"],
    ) == blueprints._REMCSUM  # fmt: skip
    flags = [n for name, n in numbers("linux/if_vlan.h").items() if name.startswith("VLAN_FLAG_")]
    assert sum(set(flags)) == blueprints._VLAN_FLAGS
