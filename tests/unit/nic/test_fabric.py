"""Which of a station's two channels a frame goes to."""

from __future__ import annotations

import struct

import pytest

from tests.lab.nic import frames
from tests.lab.nic.fabric import Fabric, Piece, Station
from tests.unit.nic.test_frames import packet

ONE, TWO, THREE = (bytes.fromhex(f"02155d00000{number}") for number in (1, 2, 3))
UNKNOWN = bytes.fromhex("020000000009")
BROADCAST = b"\xff" * 6


class Segment:
    """A fabric with stations that list what reaches them, as (address, channel)."""

    def __init__(self) -> None:
        self.fabric = Fabric()
        self.got: list[tuple[bytes, str]] = []

    def station(self, mac: bytes, *channels: str, path_vf: bool = False) -> Station:
        station = self.fabric.station(mac)
        for channel in channels:
            setattr(station, channel, lambda piece, tag, to=(mac, channel): self.got.append(to))
        station.path_vf = path_vf
        return station

    def send(
        self, source: Station, to: bytes, rest: bytes = b"\x88\xb5" + bytes(50)
    ) -> list[tuple[bytes, str]]:
        self.got.clear()
        piece: Piece = (to + source.mac + rest, None, False)
        self.fabric.forward(source, piece, None)
        return list(self.got)


@pytest.fixture
def segment() -> Segment:
    return Segment()


def syn(flags: int) -> bytes:
    """A TCP segment without the two addresses in front."""
    return packet(4, frames.TCP, bytes(30), flags=flags)[12:]


def test_a_vf_alone_is_a_plain_port(segment: Segment) -> None:
    one = segment.station(ONE, "vf")
    segment.station(TWO, "vf")
    assert segment.send(one, TWO) == [(TWO, "vf")]
    assert segment.send(one, BROADCAST) == [(TWO, "vf")]
    assert segment.send(one, ONE) == []


@pytest.mark.parametrize("path_vf", [False, True])
def test_the_path_says_which_of_two_receives(segment: Segment, path_vf: bool) -> None:
    one = segment.station(ONE, "vf")
    two = segment.station(TWO, "vf", "synthetic", path_vf=path_vf)
    assert segment.send(one, TWO) == [(TWO, "vf" if path_vf else "synthetic")]
    assert (two.to_vf, two.to_synthetic) == (path_vf, not path_vf)


def test_what_a_station_sends_never_comes_back_by_its_other_channel(segment: Segment) -> None:
    one = segment.station(ONE, "vf", "synthetic")
    assert segment.send(one, ONE) == []
    assert segment.send(one, BROADCAST) == []


def test_a_path_to_a_vf_that_is_not_there_loses_frames(segment: Segment) -> None:
    one, two = segment.station(ONE, "vf"), segment.station(TWO, "synthetic", path_vf=True)
    assert segment.send(one, TWO) == []
    assert two.facts() == {
        "mac": "02:15:5d:00:00:02",
        "vf": False,
        "synthetic": True,
        "path": "vf",
        "to_vf": 0,
        "to_synthetic": 0,
        "lost": 1,
    }


def test_broadcast_and_first_packets_come_synthetically_beside_a_vf(segment: Segment) -> None:
    one, two = segment.station(ONE, "vf"), segment.station(TWO, "vf", "synthetic", path_vf=True)
    assert segment.send(one, BROADCAST) == [(TWO, "synthetic")]
    assert segment.send(one, TWO, syn(0x02)) == [(TWO, "synthetic")]
    assert segment.send(one, TWO, syn(0x12)) == [(TWO, "vf")]
    assert segment.send(one, TWO, syn(0x10)) == [(TWO, "vf")]
    segment.fabric.exceptions = False
    assert segment.send(one, BROADCAST) == [(TWO, "vf")]
    assert segment.send(one, TWO, syn(0x02)) == [(TWO, "vf")]
    assert two.to_vf == 4


def test_a_frame_cut_before_its_flags_is_no_first_packet(segment: Segment) -> None:
    one = segment.station(ONE, "vf")
    segment.station(TWO, "vf", "synthetic", path_vf=True)
    head = syn(0x02)[: 2 + 20 + 4]
    short = head[:4] + struct.pack(">H", 24) + head[6:]
    assert segment.send(one, TWO, short) == [(TWO, "vf")]


def test_addresses_behind_a_station_are_learnt_and_forgotten_with_it(segment: Segment) -> None:
    one, two = segment.station(ONE, "vf"), segment.station(TWO, "synthetic")
    three = segment.station(THREE, "vf")
    assert segment.send(one, UNKNOWN) == [(TWO, "synthetic"), (THREE, "vf")]
    segment.fabric.forward(two, (ONE + UNKNOWN + bytes(50), None, False), None)
    assert segment.send(one, UNKNOWN) == [(TWO, "synthetic")]
    two.synthetic = None
    segment.fabric.prune()
    assert segment.send(one, UNKNOWN) == [(THREE, "vf")]
    assert segment.send(three, TWO) == [(ONE, "vf")], "unknown now, and so flooded"
    assert [facts["mac"] for facts in segment.fabric.facts()] == [
        "02:15:5d:00:00:01",
        "02:15:5d:00:00:03",
    ]
