"""A course: frames made from a seed are put into one port, and one has to send each of them.

What a traffic generator with its counter is to a router. Whoever holds the two ports (testpmd)
forwards; the NIC knows every byte that it put in, and compares every byte that comes out. Frames
are put in as fast as they come back, so that nothing is lost of full rings: what is missing at the
end, altered, twice there or out of order within its flow was lost or spoilt on the way.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from tests.lab.nic import frames

MAGIC: Final = b"\xc0\x75\xe5\x01"
WINDOW: Final = 64  # frames under way at a time; testpmd's shortest rings take twice that
FLOWS: Final = 16
OUTSIDE: Final = bytes.fromhex("0200000000fe")  # who sends the frames; nobody is there
_SHORTEST, _LONGEST = 82, 1514  # bytes; without the FCS
_TAIL = struct.Struct(">4sI")  # the magic and the frame's number, at its end
_RETRY = 0.002  # seconds, while a ring is too full
_EXPERIMENTAL = 0x88B5
_WRONG_EVERY = 7  # one frame in so many has a wrong TCP or UDP checksum: routers do not mind


@dataclass(slots=True)
class Course:
    """Frames for the port `into`, that `out_of` must send to the address `to`.

    `rewritten`: whoever forwards puts in the addresses of an Ethernet hop (testpmd's `mac`), so
    frames go in with the address of `into`; else they pass unchanged (`io`).
    """

    into: int
    out_of: int
    to: bytes
    macs: tuple[bytes, ...]  # of all ports
    count: int
    seed: int
    rewritten: bool = False
    window: int = WINDOW
    put: int = 0
    seen: int = 0
    altered: int = 0
    strange: int = 0  # sent by that port and none of ours, or sent twice
    reordered: int = 0
    octets: int = 0
    _frames: Iterator[bytes] = field(init=False)
    _way: dict[int, bytes] = field(default_factory=dict)  # what is to come out, by number
    _last: list[int] = field(default_factory=lambda: [-1] * FLOWS)

    def __post_init__(self) -> None:
        ports = range(1, len(self.macs) + 1)
        if self.into not in ports or self.out_of not in ports:
            raise ValueError(f"there are ports 1 to {len(self.macs)}")
        if len(self.to) != 6 or self.count < 1 or self.window < 1:
            raise ValueError("a course has a destination, frames and a window")
        target = self.macs[self.into - 1] if self.rewritten else self.to
        self._frames = made(self.seed, target, OUTSIDE, self.count)

    @property
    def done(self) -> bool:
        return self.put == self.count and not self._way

    def next(self) -> bytes | None:
        """A frame to put in, or None while the window is full or all are under way."""
        if len(self._way) >= self.window or self.put == self.count:
            return None
        frame = next(self._frames)
        expected = frame
        if self.rewritten:
            expected = self.to + self.macs[self.out_of - 1] + frame[12:]
        self._way[self.put] = expected
        self.put += 1
        return frame

    def saw(self, frame: bytes | bytearray) -> None:
        """A frame that the port `out_of` sent."""
        number = -1
        if len(frame) >= _SHORTEST:
            magic, number = _TAIL.unpack_from(frame, len(frame) - _TAIL.size)
            if magic != MAGIC:
                number = -1
        expected = self._way.pop(number, None)
        if expected is None:
            self.strange += 1
            return
        self.seen += 1
        self.octets += len(frame)
        self.altered += frame != expected
        flow = number % FLOWS
        self.reordered += number < self._last[flow]
        self._last[flow] = number

    def facts(self) -> dict[str, Any]:
        names = ("into", "out_of", "count", "put", "seen", "altered", "strange", "reordered")
        return {name: getattr(self, name) for name in names} | {
            "to": self.to.hex(":"),
            "octets": self.octets,
            "under_way": len(self._way),
            "done": self.done,
        }


class Courses:
    """Those that run; they end with the driver.

    `inject` puts a frame into a port, `room` says how many more a port's emptiest ring takes.
    """

    def __init__(
        self,
        inject: Callable[[int, bytes], None],
        room: Callable[[int], int],
        later: Callable[[float, Callable[[], None]], None],
    ) -> None:
        self._inject = inject
        self._room = room
        self._later = later
        self._waiting = False
        self.running: list[Course] = []

    def start(self, course: Course) -> None:
        """Raises ValueError where another one watches the same port."""
        self.running = [one for one in self.running if not one.done]
        if any(one.out_of == course.out_of for one in self.running):
            raise ValueError(f"what port {course.out_of} sends is watched already")
        self.running.append(course)
        self._fill(course)

    def saw(self, port: int, frame: bytes | bytearray) -> None:
        for course in self.running:
            if course.out_of == port:
                course.saw(frame)
                self._fill(course)

    def _fill(self, course: Course) -> None:
        rings = [course.into]
        if course.to in course.macs:
            rings.append(course.macs.index(course.to) + 1)
        while not course.done:
            if min(self._room(port) for port in rings) < 2 * course.window:
                self._again()
                return
            frame = course.next()
            if frame is None:
                return
            self._inject(course.into, frame)

    def _again(self) -> None:
        """Full rings: their owner tells nobody when they are less full."""
        if not self._waiting:
            self._waiting = True
            self._later(_RETRY, self._retry)

    def _retry(self) -> None:
        self._waiting = False
        for course in self.running:
            self._fill(course)


def made(seed: int, target: bytes, source: bytes, count: int) -> Iterator[bytes]:
    """`count` frames: TCP and UDP over IPv4 and IPv6 of several flows, and others; any length."""
    chance = random.Random(seed)
    noise = chance.randbytes(1 << 16)
    for number in range(count):
        flow = number % FLOWS
        length = chance.choice((_SHORTEST, _LONGEST, chance.randint(_SHORTEST, _LONGEST)))
        frame = bytearray(target + source + _headers(flow, length))
        at = chance.randrange(len(noise) - length)
        frame += noise[at : at + length - len(frame) - _TAIL.size]
        frame += _TAIL.pack(MAGIC, number)
        headers = frames.parse(frame)
        if headers is not None:
            if headers.version == 4:
                frames.finish_ipv4(frame, headers)
            frames.finish_l4(frame, headers)
            if number % _WRONG_EVERY == 0:
                frame[headers.l4 + (16 if headers.protocol == frames.TCP else 6)] ^= 0x55
        yield bytes(frame)


def _headers(flow: int, length: int) -> bytes:
    """From the EtherType on; checksums are left out."""
    kind, ports = flow % 5, struct.pack(">HH", 2000 + flow, 4000)
    if kind == 4:
        return struct.pack(">H", _EXPERIMENTAL)
    tcp = kind & 1
    if kind < 2:
        size = length - frames.ETHERNET
        ip = struct.pack(">HBBHHHBBH", 0x0800, 0x45, 0, size, flow, 0, 64, 6 if tcp else 17, 0)
        ip += bytes((10, 66, 0, flow, 10, 66, 1, flow))
    else:
        size = length - frames.ETHERNET - 40
        ip = struct.pack(">HIHBB", 0x86DD, 6 << 28, size, 6 if tcp else 17, 64)
        ip += bytes.fromhex("fd66") + bytes(13) + bytes((flow,))
        ip += bytes.fromhex("fd67") + bytes(13) + bytes((flow,))
    if tcp:
        return ip + ports + struct.pack(">IIBBHHH", flow, 0, 5 << 4, 0x10, 1000, 0, 0)
    return ip + ports + struct.pack(">HH", size - (20 if kind < 2 else 0), 0)
