from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manactl.wire.attrs import (
    as_int,
    as_str,
    attr,
    attr_str,
    attr_u32,
    iter_attrs,
    nest,
    parse_attrs,
)
from tests.unit.wording import says

KINDS = st.integers(0, 0x3FFF)


@given(st.lists(st.tuples(KINDS, st.binary(max_size=40))), st.binary(max_size=12))
def test_what_is_built_is_read_back_in_order(pairs: list[tuple[int, bytes]], head: bytes) -> None:
    data = head + b"".join(attr(kind, payload) for kind, payload in pairs)
    assert list(iter_attrs(data, len(head))) == pairs
    assert parse_attrs(data, len(head)) == dict(pairs)


def test_layout_is_the_kernels() -> None:
    assert attr_u32(7, 0x11223344) == struct.pack("=HHI", 8, 7, 0x11223344)
    assert attr_str(3, "lo") == struct.pack("=HH4s", 7, 3, b"lo\0")
    assert attr(1, b"\5") == struct.pack("=HHB3x", 5, 1, 5)
    assert nest(18, attr(1, b"\5")) == struct.pack("=HHHHB3x", 12, 18 | 0x8000, 5, 1, 5)


def test_flag_bits_are_not_part_of_the_type() -> None:
    assert list(iter_attrs(nest(9, attr(1, b"\5")) + attr(2 | 0x4000, b""))) == [
        (9, attr(1, b"\5")),
        (2, b""),
    ]


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused_but_never_read_outside(data: bytes) -> None:
    try:
        pairs = list(iter_attrs(data))
    except ValueError:
        return
    assert sum(4 + len(payload) for _, payload in pairs) <= len(data)


@pytest.mark.parametrize("length", [0, 3, 9])
def test_a_length_outside_the_message_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=says("attribute at 0")):
        parse_attrs(struct.pack("=HHI", length, 1, 0))


def test_too_long_a_payload_is_refused() -> None:
    with pytest.raises(ValueError, match=says("do not fit")):
        attr(1, bytes(0x10000))


@given(st.binary(max_size=20))
def test_names_survive_undecodable_bytes(raw: bytes) -> None:
    name = raw.split(b"\0")[0]
    assert as_str(raw).encode("utf-8", "surrogateescape") == name
    assert attr_str(1, as_str(raw))[4 : 5 + len(name)] == name + b"\0"


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_integers_of_every_width(width: int) -> None:
    assert as_int(struct.pack({1: "=B", 2: "=H", 4: "=I", 8: "=Q"}[width], 200)) == 200
