"""The shared-memory window: 256 bits through which the driver brings the command channel up.

Linux: shm_channel.c. OpenVMM: EstablishHwc in gdma_defs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

WINDOW: Final = 32
HEADER_AT: Final = 28  # the write of this dword is the trigger
ESTABLISH: Final = 1
DESTROY: Final = 2
STATUS_OK: Final = 0
STATUS_FAILED: Final = 1
_PAGE_SHIFT: Final = 12


@dataclass(frozen=True, slots=True)
class Header:
    """The last dword; the device sets `response`, and bit 31 while the window is its own."""

    kind: int
    version: int = 0
    response: bool = False
    status: int = 0
    reset_vf: bool = False
    device_owned: bool = False

    @classmethod
    def unpack(cls, word: int) -> Header:
        return cls(
            kind=word & 7,
            version=word >> 3 & 7,
            response=bool(word >> 7 & 1),
            status=word >> 8 & 0xFF,
            reset_vf=bool(word >> 24 & 1),
            device_owned=bool(word >> 31),
        )

    def pack(self) -> int:
        return (
            self.kind
            | self.version << 3
            | self.response << 7
            | self.status << 8
            | self.reset_vf << 24
            | self.device_owned << 31
        )


@dataclass(frozen=True, slots=True)
class Establish:
    """Bus addresses of the four one-page queues, and the event queue's MSI-X index."""

    eq: int
    cq: int
    rq: int
    sq: int
    msix: int = 0

    @classmethod
    def unpack(cls, window: bytes | bytearray) -> Establish:
        """Of each page frame number 48 bits travel by themselves, the top 4 in a shared word."""
        high = int.from_bytes(window[24:26], "little")
        eq, cq, rq, sq = (
            (int.from_bytes(window[6 * i : 6 * i + 6], "little") | (high >> 4 * i & 0xF) << 48)
            << _PAGE_SHIFT
            for i in range(4)
        )
        return cls(eq, cq, rq, sq, msix=int.from_bytes(window[26:28], "little"))

    def pack(self) -> bytes:
        frames = [address >> _PAGE_SHIFT for address in (self.eq, self.cq, self.rq, self.sq)]
        low = b"".join((frame & (1 << 48) - 1).to_bytes(6, "little") for frame in frames)
        high = sum((frame >> 48) << 4 * i for i, frame in enumerate(frames))
        return low + high.to_bytes(2, "little") + self.msix.to_bytes(2, "little")
