"""Messages survive being packed, and nothing else is taken for them."""

from __future__ import annotations

import base64
import random
import struct
import zlib

import pytest

from manactl.netstate.packed import pack, unpack


@pytest.mark.parametrize("seed", range(20))
def test_messages_are_what_they_were(seed: int) -> None:
    draw = random.Random(seed)
    sizes = (0, 1, 60, 70_000)
    messages = [(draw.randrange(256), draw.randbytes(draw.choice(sizes))) for _ in range(seed)]
    assert unpack(pack(messages)) == messages


def test_routes_that_are_alike_take_little() -> None:
    alike = [(2, bytes(60) + struct.pack(">I", number)) for number in range(1000)]
    assert len(pack(alike)) < 1000 * 20


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "not base64!",
        base64.b64encode(b"not compressed").decode(),
        pack([(2, b"message")])[:-8],
        packed(b"\2"),
        packed(struct.pack("<BI", 2, 5) + b"four"),
        packed(struct.pack("<BI", 2, 4) + b"four" + b"\1\0"),
    ],
)
def test_what_is_damaged_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack(text)
