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
    messages = [
        (what, [draw.randbytes(draw.choice(sizes)) for _ in range(draw.randrange(1, 20))])
        for what in draw.sample(range(256), seed)
    ]
    assert unpack(pack(messages)) == messages


@pytest.mark.parametrize("seed", range(20))
def test_messages_of_one_length_are_what_they_were(seed: int) -> None:
    draw = random.Random(seed)
    runs = [(draw.choice((0, 3, 60)), draw.choice((1, 7, 8, 9, 500, 5000))) for _ in range(6)]
    # Their bytes are those of heads, too.
    few = struct.pack("<BI", 2, 60) + struct.pack("<BI", 2, 3)
    bodies = [bytes(draw.choices(few, k=size)) for size, number in runs for _ in range(number)]
    assert unpack(pack((2, [body]) for body in bodies)) == [(2, bodies)]


def test_routes_that_are_alike_take_little() -> None:
    alike = [bytes(60) + struct.pack(">I", number) for number in range(1000)]
    assert len(pack([(2, alike)])) < 1000 * 20


def test_the_bytes_are_those_of_earlier_journals() -> None:
    one = zlib.compress(struct.pack("<BI", 0, 1) + b"a" + struct.pack("<BI", 2, 2) + b"bc", 1)
    assert pack([(0, [b"a"]), (2, [b"bc"])]) == base64.b64encode(one).decode()


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "not base64!",
        base64.b64encode(b"not compressed").decode(),
        pack([(2, [b"message"])])[:-8],
        packed(b"\2"),
        packed(struct.pack("<BI", 2, 5) + b"four"),
        packed(struct.pack("<BI", 2, 4) + b"four" + b"\1\0"),
    ],
)
def test_what_is_damaged_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack(text)
