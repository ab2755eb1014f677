"""A channel of the VMBus from user space, as DPDK has it: packets into the ring, however wrong.

    python3 uioring.py UIO

Says `open`, with the channel open; then `random SEED COUNT` (packets of every kind, many of them
nonsense; `sent` when the host has read them), `lie N` (one that says it has N times 8 bytes),
`index N` (the write index is that) and `quit`, which closes it. Answers are not read, so what the
host can say comes to an end; what it does with packets does not.
"""

from __future__ import annotations

import mmap
import os
import random
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.lab.guest.lines import obey, tell

HEADER, TRAILER = 4096, 8
WRITE_AT, READ_AT = 0, 4
INBAND, TRANSFER_PAGES, GPA_DIRECT, COMPLETION = 6, 7, 9, 0xB
NVSP = (1, 100, 101, 103, 104, 106, 107, 107, 107, 107, 125, 128, 129, 133)
RNDIS = (1, 2, 3, 4, 5, 7, 8)
PATIENCE = 60.0  # s for the host to make room


class Ring:
    """The outbound half of the first map."""

    def __init__(self, uio: str) -> None:
        size = int(Path(f"/sys/class/uio/{uio}/maps/map0/size").read_text(), 16)
        self.device = os.open(f"/dev/{uio}", os.O_RDWR)
        self.map = mmap.mmap(self.device, size, offset=0)
        self._words = memoryview(self.map).cast("I")
        self.room = size // 2 - HEADER
        names = (path.read_text() for path in Path(f"/sys/class/uio/{uio}/maps").glob("*/name"))
        self.handles = [int(name.split(":")[1]) for name in names if ":" in name]

    def index(self, at: int) -> int:
        return self._words[at // 4]

    def move(self, write: int) -> None:
        """Set the write index in one store: struct writes byte by byte, and the host looks on."""
        self._words[WRITE_AT // 4] = write

    def put(self, packet: bytes, *, lie: int | None = None) -> None:
        """Append a packet, its length in the descriptor or a `lie`; waits for the host's reading."""
        data = packet.ljust(len(packet) + 7 & ~7, b"\0")
        length = len(data) // 8 if lie is None else lie
        data = data[:4] + struct.pack("<H", length & 0xFFFF) + data[6:] + bytes(TRAILER)
        write, deadline = self.index(WRITE_AT), time.monotonic() + PATIENCE
        while (self.index(READ_AT) - write - 8) % self.room < len(data):
            self._pause(deadline)
        first = min(len(data), self.room - write)
        self.map[HEADER + write : HEADER + write + first] = data[:first]
        self.map[HEADER : HEADER + len(data) - first] = data[first:]
        self.move((write + len(data)) % self.room)

    def settle(self) -> None:
        """Wait until the host has read everything."""
        deadline = time.monotonic() + PATIENCE
        while self.index(READ_AT) != self.index(WRITE_AT):
            self._pause(deadline)

    def _pause(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise TimeoutError("the host does not read")
        time.sleep(0.004)  # it looks that often


def packet(draw: random.Random, handles: Sequence[int]) -> bytes:
    """A packet with a sound frame and any content."""
    kind = draw.choice((INBAND, GPA_DIRECT, COMPLETION, INBAND, draw.randrange(1 << 16)))
    head = b""
    if kind == GPA_DIRECT:
        ranges = draw.choice((0, 1, 2, 0xFFFFFFFF))
        head = struct.pack("<II", 0, ranges)
        for _ in range(draw.randrange(3)):
            head += struct.pack("<II", draw.choice((8, 100, 1 << 31)), draw.choice((0, 4000, 5000)))
            head += struct.pack("<Q", draw.choice((draw.randrange(1 << 20), 1 << 60)))
    body = struct.pack("<I", draw.choice(NVSP)) + numbers(draw, handles, 9)
    if draw.random() < 0.1:
        body = body[: draw.randrange(40)]
    transaction = draw.choice((0, 1 << 32 | 1, draw.randrange(1 << 64)))
    offset = (16 + len(head)) // 8 if draw.random() < 0.95 else draw.randrange(2, 9)
    frame = struct.pack("<HHHHQ", kind, offset, 0, draw.randrange(2), transaction) + head + body
    return frame.ljust(offset * 8, b"\0")


def numbers(draw: random.Random, handles: Sequence[int], count: int) -> bytes:
    """Numbers that mean something in many places, and some that mean nothing."""
    some = (0, 1, 2, 8, 40, 128, 1500, 6144, 0x30002, 0x60001, 1 << 31, (1 << 32) - 1)
    return struct.pack(
        f"<{count}I", *(draw.choice((*some, *RNDIS, *handles)) for _ in range(count))
    )


class Driver:
    """The commands."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring

    def random(self, seed: str, count: str) -> None:
        draw = random.Random(int(seed))
        for _ in range(int(count)):
            self.ring.put(packet(draw, self.ring.handles))
        self.ring.settle()
        tell("sent")

    def index(self, value: str) -> None:
        self.ring.move(int(value))
        tell("set")

    def lie(self, length: str) -> None:
        self.ring.put(packet(random.Random(1), ()), lie=int(length))
        tell("sent")

    def quit(self) -> NoReturn:
        os.close(self.ring.device)
        sys.exit(0)


def main(uio: str) -> None:
    driver = Driver(Ring(uio))
    tell("open")
    obey({name: getattr(driver, name) for name in ("random", "index", "lie", "quit")})


if __name__ == "__main__":
    main(*sys.argv[1:])
