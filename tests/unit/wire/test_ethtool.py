"""ethtool's messages: what an answer has, and what a request asks for."""

from __future__ import annotations

import struct

import pytest

from manactl.wire.ethtool import GROUPS, Values, question, request, values

HEAD = struct.pack("=BBxx", 1, 1)
NESTED = 0x8000


def attr(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def u32(number: int) -> bytes:
    return struct.pack("=I", number)


DEVICE = attr(1 | NESTED, attr(1, u32(7)))


def bits(kind: int, *named: tuple[str, bool]) -> bytes:
    """A bitset with a mask (ethnl_put_bitset32()): the bits of the mask, a flag where one is on."""
    rows = [
        attr(1, attr(2, name.encode() + b"\0") + (attr(3, b"") if on else b""))
        for name, on in named
    ]
    return attr(kind, attr(2, u32(64)) + attr(3, b"".join(rows)))


def listed(kind: int, *names: str) -> bytes:
    """One without a mask: the bits that are on, and no flag."""
    rows = [attr(1, attr(1, u32(3)) + attr(2, name.encode() + b"\0")) for name in names]
    return attr(kind, attr(1, b"") + attr(2, u32(64)) + attr(3, b"".join(rows)))


def test_a_question_names_the_netdev_by_its_number() -> None:
    assert question(GROUPS["rings"], 7) == struct.pack("=BBxx", 15, 1) + DEVICE


def test_numbers_that_can_be_set_and_no_others() -> None:
    body = HEAD + DEVICE + attr(2, u32(4096)) + attr(6, u32(512)) + attr(9, u32(256))
    assert values(GROUPS["rings"], body) == Values({6: u32(512), 9: u32(256)}, {})


def test_features_that_can_be_changed() -> None:
    """features_fill_reply(): the mask of those that can be changed is all that there are."""
    body = HEAD + DEVICE + bits(2, ("rx-gro", True), ("tx-csum", True), ("highdma", False))
    body += listed(3, "rx-gro", "highdma")
    assert values(GROUPS["features"], body).bits == {"rx-gro": True, "tx-csum": False}


@pytest.mark.wording
def test_private_flags_are_on_or_off() -> None:
    body = HEAD + DEVICE + bits(2, ("legacy", True), ("striding", False))
    assert values(GROUPS["private flags"], body).bits == {"legacy": True, "striding": False}


def test_a_class_of_messages_that_is_not_listed_is_off() -> None:
    body = HEAD + DEVICE + listed(2, "drv", "link")
    found = values(GROUPS["message level"], body).bits
    assert {name for name, on in found.items() if on} == {"drv", "link"}
    assert (len(found), found["wol"]) == (15, False)


def test_a_request_has_what_it_is_given() -> None:
    body = request(GROUPS["channels"], 7, Values({9: u32(4)}, {}))
    assert body == struct.pack("=BBxx", 18, 1) + DEVICE + attr(9, u32(4))
    body = request(GROUPS["features"], 7, Values({}, {"rx-gro": True, "tx-csum": False}))
    on = attr(1 | NESTED, attr(2, b"rx-gro\0") + attr(3, b""))
    off = attr(1 | NESTED, attr(2, b"tx-csum\0"))
    assert body[4 + len(DEVICE) :] == attr(3 | NESTED, attr(3 | NESTED, on + off))
