"""The VMBus host's end of the link, in a few lines, against the NIC's."""

from __future__ import annotations

import random
import struct

import pytest

from tests.lab.nic import hostlink
from tests.lab.nic.fabric import Fabric, Piece
from tests.lab.nic.hostlink import FRAME, HEADER, NO_TAG, PLUG, RING, UNPLUG, HostLink
from tests.lab.nic.memory import Memory
from tests.lab.nic.record import Record

BASE = 0x10_0000
ONE, TWO = bytes.fromhex("02155d000001"), bytes.fromhex("02155d000002")
FRAME_OF_ONE = TWO + ONE + b"\x88\xb5" + bytes(range(60))


class Host:
    """The module in the guest: writes records, rings, reads records."""

    def __init__(self) -> None:
        self.area = bytearray(HEADER + 2 * RING)
        memory = Memory()
        memory.map(BASE, len(self.area), memoryview(self.area), writable=True)
        self.fabric, self.record, self.fired = Fabric(), Record(), 0
        self.link = HostLink(self.fabric, memory, self.record, self._interrupt)
        self.write = self.read = 0
        self.at_vf: list[tuple[bytes, int | None]] = []
        self.link.write(hostlink.AREA_AT, BASE.to_bytes(8, "little"))

    def _interrupt(self, vector: int) -> None:
        self.fired += 1

    def _index(self, at: int, value: int | None = None) -> int:
        if value is not None:
            struct.pack_into("<I", self.area, at, value & 0xFFFFFFFF)
        found: int = struct.unpack_from("<I", self.area, at)[0]
        return found

    def raw(self, data: bytes) -> None:
        at = HEADER + self.write % RING
        self.area[at : at + len(data)] = data
        self.write += len(data)
        self._index(hostlink.TO_NIC_WRITE, self.write)
        self.link.write(hostlink.BELL_AT, bytes(4))

    def post(self, kind: int, number: int, tag: int = NO_TAG, body: bytes = b"") -> None:
        length = 24 + len(body) + 7 & ~7
        rest = RING - self.write % RING
        if rest < length:
            self.raw(struct.pack("<II", rest, hostlink.FILLER).ljust(rest, b"\0"))
        head = struct.pack("<6I", length, kind, number, tag, len(body), 0)
        self.raw((head + body).ljust(length, b"\0"))

    def plug(self, number: int, mac: bytes, *, path_vf: bool = False) -> None:
        self.post(PLUG, number, path_vf, mac + bytes(2))

    def got(self) -> list[tuple[int, int, bytes]]:
        """New frames as (number, tag, frame)."""
        found = []
        while self.read != self._index(hostlink.TO_HOST_WRITE):
            at = HEADER + RING + self.read % RING
            length, kind = struct.unpack_from("<II", self.area, at)
            if kind == FRAME:
                _, _, number, tag, size, _ = struct.unpack_from("<6I", self.area, at)
                found.append((number, tag, bytes(self.area[at + 24 : at + 24 + size])))
            self.read = self.read + length & 0xFFFFFFFF
        self._index(hostlink.TO_HOST_READ, self.read)
        return found

    def add_vf(self, mac: bytes) -> None:
        def deliver(piece: Piece, tag: int | None) -> None:
            self.at_vf.append((bytes(piece[0]), tag))

        self.fabric.station(mac).vf = deliver


@pytest.fixture
def host() -> Host:
    return Host()


def test_a_synthetic_nic_reaches_a_vf_and_the_other_way(host: Host) -> None:
    host.add_vf(TWO)
    host.plug(7, ONE)
    host.post(FRAME, 7, NO_TAG, FRAME_OF_ONE)
    assert host.at_vf == [(FRAME_OF_ONE, None)]
    back = ONE + TWO + FRAME_OF_ONE[12:]
    host.fabric.forward(host.fabric.station(TWO), (bytearray(back), None, False), 0x2005)
    assert host.got() == [(7, 0x2005, back)]
    assert host.fired == 1
    assert host.record.violations == []


def test_a_tag_travels_beside_the_frame_whichever_way_it_came(host: Host) -> None:
    host.add_vf(TWO)
    host.plug(7, ONE)
    host.post(FRAME, 7, 0x6123, FRAME_OF_ONE)
    host.post(FRAME, 7, NO_TAG, FRAME_OF_ONE[:12] + b"\x81\x00\x61\x23" + FRAME_OF_ONE[12:])
    assert host.at_vf == [(FRAME_OF_ONE, 0x6123)] * 2


def test_two_synthetic_nics_and_a_change_of_path(host: Host) -> None:
    host.plug(1, ONE)
    host.plug(2, TWO)
    host.add_vf(TWO)
    host.post(FRAME, 1, NO_TAG, FRAME_OF_ONE)
    assert host.got() == [(2, NO_TAG, FRAME_OF_ONE)]
    host.plug(2, TWO, path_vf=True)
    host.post(FRAME, 1, NO_TAG, FRAME_OF_ONE)
    assert (host.got(), len(host.at_vf)) == ([], 1)
    host.post(UNPLUG, 2)
    host.post(FRAME, 1, NO_TAG, FRAME_OF_ONE)
    assert (host.got(), len(host.at_vf)) == ([], 2), "a plain port again"
    paths = [event["path"] for event in host.record.history if event["event"] == "path"]
    assert paths == ["synthetic", "synthetic", "vf", None]


def test_rings_wrap_without_losing_a_frame(host: Host) -> None:
    host.plug(1, ONE)
    host.plug(2, TWO)
    draw = random.Random(3)
    for _ in range(1500):
        frame = FRAME_OF_ONE + bytes(draw.randrange(8900))
        host.post(FRAME, 1, NO_TAG, frame)
        assert host.got() == [(2, NO_TAG, frame)]
    assert host.write > 4 * RING


def test_a_host_that_does_not_read_loses_frames_and_gets_the_next(host: Host) -> None:
    host.plug(1, ONE)
    host.plug(2, TWO)
    for _ in range(100):
        host.post(FRAME, 1, NO_TAG, FRAME_OF_ONE + bytes(8000))
    kept = len(host.got())
    assert 60 <= kept < 100
    assert host.link.dropped == 100 - kept
    host.post(FRAME, 1, NO_TAG, FRAME_OF_ONE)
    assert host.got() == [(2, NO_TAG, FRAME_OF_ONE)]


def test_sync_does_what_was_posted_before_it_answers(host: Host) -> None:
    host.add_vf(TWO)
    host.plug(7, ONE)
    record = struct.pack("<6I", 104, FRAME, 7, NO_TAG, len(FRAME_OF_ONE), 0) + FRAME_OF_ONE
    at = HEADER + host.write % RING
    host.area[at : at + len(record)] = record
    host._index(hostlink.TO_NIC_WRITE, host.write + 104)
    assert host.link.read(hostlink.SYNC_AT, 4) == bytes(4)
    assert len(host.at_vf) == 1


def test_a_host_that_goes_takes_its_nics(host: Host) -> None:
    host.plug(7, ONE)
    host.add_vf(ONE)
    host.link.write(hostlink.AREA_AT, bytes(8))
    assert [facts["synthetic"] for facts in host.fabric.facts()] == [False]
    host.link.write(hostlink.BELL_AT, bytes(4))  # of nobody
    assert host.record.violations == []


@pytest.mark.parametrize(
    "record",
    [
        struct.pack("<II", 4, FRAME),
        struct.pack("<II", RING * 2, FRAME),
        struct.pack("<6I", 24, FRAME, 7, NO_TAG, 80, 0),
        struct.pack("<6I", 24, FRAME, 7, NO_TAG, 0, 0),
        struct.pack("<6I", 48, FRAME, 8, NO_TAG, 20, 0) + bytes(24),
        struct.pack("<6I", 24, 9, 7, 0, 0, 0),
        struct.pack("<6I", 24, PLUG, 3, 0, 0, 0),
    ],
    ids=["short", "long", "body", "empty", "stranger", "kind", "plug"],
)
def test_nonsense_is_a_violation_and_ends_the_link(host: Host, record: bytes) -> None:
    host.plug(7, ONE)
    host.raw(record)
    assert [violation["rule"] for violation in host.record.violations] == ["host-link"]
    assert host.fabric.facts() == []


def test_an_area_outside_of_memory_is_a_violation(host: Host) -> None:
    host.link.write(hostlink.AREA_AT, (BASE * 64).to_bytes(8, "little"))
    host.link.write(hostlink.BELL_AT, bytes(4))
    assert [violation["rule"] for violation in host.record.violations] == ["host-link"]


def test_registers_say_what_device_it_is(host: Host) -> None:
    assert host.link.read(hostlink.MAGIC_AT, 4) == hostlink.MAGIC.to_bytes(4, "little")
    host.link.write(0x40, bytes(4))
    assert len(host.record.violations) == 1
