"""Messages survive being packed, and nothing else is taken for them."""

from __future__ import annotations

import base64
import binascii
import random
import struct
import zlib
from collections.abc import Callable

import pytest

from manactl.netstate import snapshot
from manactl.netstate.beside import Beside
from manactl.netstate.blueprints import Blueprint
from manactl.netstate.bridging import Kept
from manactl.netstate.ethtool_settings import Ethtool
from manactl.netstate.link_settings import LinkSettings
from manactl.netstate.packed import pack, unpack
from manactl.netstate.tc_objects import TcObject


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


SETTINGS = LinkSettings().to_json()
BLOT = "AA*AA"  # which a lenient reader takes for AAAA


@pytest.mark.parametrize(
    "read",
    [
        lambda _: unpack(pack([(2, [b"message"])])[:8] + "*" + pack([(2, [b"message"])])[8:]),
        lambda text: Beside.from_json({"kind": "rule", "message": text}),
        lambda text: Kept.from_json(["token", text]),
        lambda text: Blueprint.from_json({"ifindex": 3, "settings": SETTINGS, "message": text}),
        lambda text: TcObject.from_json(
            {"type": 36, "handle": 1, "parent": 0, "info": 0, "kind": "fq", "attrs": text}
        ),
        lambda text: LinkSettings.from_json({**SETTINGS, "attributes": {"20": text}}),
        lambda text: Ethtool.from_json({"groups": {}, "rss": text, "hashed": {}}),
        lambda text: snapshot._facts_from_json([{"kind": "route", "message": text}]),
    ],
)
def test_bytes_in_a_journal_are_read_as_they_were_written_or_not_at_all(
    read: Callable[[str], object],
) -> None:
    """What is guessed of a journal that was changed would be set on a netdev."""
    with pytest.raises(binascii.Error):
        read(BLOT)
