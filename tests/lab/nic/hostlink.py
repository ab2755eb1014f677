"""The way between this NIC and the VMBus's host, which is a module in the guest.

A PCI device of the lab's own, in guests with pairs only: the module (vmbus/module/link.c) lends it
an area of memory with a ring for each direction, and rings its bell. The host says by it which
synthetic NICs there are and which path each guest chose; frames go both ways.

    area      HEADER bytes with four indexes, then the ring to the NIC, then the one to the host
    index     free-running byte counter, modulo 2**32
    record    "length kind number tag size 0" as u32, then `size` bytes; length is all of it, a
              multiple of 8, and never runs past the end of the ring: a filler goes before

Reading SYNC does what was posted before it answers, so a host that reads it after a change of path
knows that no frame is delivered by the old one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Final

from tests.lab.nic import frames, pci
from tests.lab.nic.fabric import Fabric, Piece, Station
from tests.lab.nic.memory import DmaFault, Memory
from tests.lab.nic.record import Record

# For experiments, by QEMU's list of PCI ids (docs/specs/pci-ids).
IDENTITY: Final = pci.Identity(vendor=0x1AF4, device=0x10F0, kind=0xFF0000, bar0=4096)

MAGIC_AT, AREA_AT, BELL_AT, SYNC_AT = 0x00, 0x08, 0x10, 0x14
MAGIC: Final = 0x4C564D42
HEADER: Final = 4096
RING: Final = 512 << 10
TO_NIC_WRITE, TO_NIC_READ, TO_HOST_WRITE, TO_HOST_READ = 0, 64, 128, 192
FILLER, PLUG, UNPLUG, FRAME = range(4)
NO_TAG: Final = 0xFFFFFFFF
RECORD: Final = struct.Struct("<6I")
PLUGGED: Final = struct.Struct("<6s2x")  # of PLUG, whose tag is the path: 1 for the VF
_U32 = struct.Struct("<I")
_COUNTER = 0xFFFFFFFF


class Nonsense(Exception):
    """The host posted what this device cannot read."""


class HostLink:
    """Registers in; synthetic NICs and their frames in the fabric."""

    def __init__(
        self, fabric: Fabric, memory: Memory, record: Record, fire: Callable[[int], None]
    ) -> None:
        self._fabric = fabric
        self._memory = memory
        self._record = record
        self._fire = fire
        self._area = 0
        self._nics: dict[int, Station] = {}
        self.dropped = 0  # frames that found the ring to the host full

    def read(self, offset: int, count: int) -> bytes:
        value = MAGIC if offset == MAGIC_AT else 0
        if offset == SYNC_AT:
            self._serve()
        return value.to_bytes(8, "little")[:count]

    def write(self, offset: int, data: bytes) -> None:
        if offset == AREA_AT and len(data) == 8:
            self._forget()
            self._area = int.from_bytes(data, "little")
        elif offset == BELL_AT:
            self._serve()
        else:
            self._record.violation("host-link", f"{len(data)} bytes written at {offset:#x}")

    def reset(self, why: str) -> None:
        self._forget()

    def _forget(self) -> None:
        """No host, no synthetic NICs."""
        self._area = 0
        for number in list(self._nics):
            self._unplug(number)

    def _serve(self) -> None:
        if not self._area:
            return
        try:
            while self._one():
                pass
        except (DmaFault, Nonsense) as error:
            self._record.violation("host-link", str(error))
            self._forget()

    def _one(self) -> bool:
        read = self._index(TO_NIC_READ)
        there = self._index(TO_NIC_WRITE) - read & _COUNTER
        if not there:
            return False
        at = read % RING
        place = self._area + HEADER + at
        length, kind = struct.unpack("<2I", self._memory.read(place, 8))
        if not 8 <= length <= min(there, RING - at, RING) or length % 8:
            raise Nonsense(f"a record of {length} bytes, {there} posted")
        if kind != FILLER:
            _, _, number, tag, size, _ = RECORD.unpack(self._memory.read(place, RECORD.size))
            if RECORD.size + size > length:
                raise Nonsense(f"{size} bytes in a record of {length}")
            self._take(kind, number, tag, self._memory.read(place + RECORD.size, size))
        self._set_index(TO_NIC_READ, read + length)
        return True

    def _take(self, kind: int, number: int, tag: int, body: bytes) -> None:
        if kind == PLUG and len(body) == PLUGGED.size:
            self._plug(number, PLUGGED.unpack(body)[0], path_vf=bool(tag))
        elif kind == UNPLUG:
            self._unplug(number)
        elif kind == FRAME and len(body) >= frames.ETHERNET:
            if number not in self._nics:
                raise Nonsense(f"a frame of NIC {number}, which is not there")
            vlan = None if tag == NO_TAG else tag
            if vlan is None:
                body, vlan = frames.strip_vlan(body)
            self._fabric.forward(self._nics[number], (body, None, False), vlan)
        else:
            raise Nonsense(f"record {kind} with {len(body)} bytes")

    def _plug(self, number: int, mac: bytes, *, path_vf: bool) -> None:
        """A synthetic NIC is there, or has another path now."""
        station = self._nics.get(number)
        if station is None:
            station = self._nics[number] = self._fabric.station(mac)
            station.synthetic = partial(self._deliver, number)
        station.path_vf = path_vf
        self._record.event("path", mac=station.mac.hex(":"), path=station.facts()["path"])

    def _unplug(self, number: int) -> None:
        station = self._nics.pop(number, None)
        if station is not None:
            station.synthetic, station.path_vf = None, False
            self._fabric.prune()
            self._record.event("path", mac=station.mac.hex(":"), path=None)

    def _deliver(self, number: int, piece: Piece, tag: int | None) -> None:
        """A frame for a synthetic NIC; dropped when the host does not keep up."""
        frame = piece[0]
        length = RECORD.size + len(frame) + 7 & ~7
        write = self._index(TO_HOST_WRITE)
        used = write - self._index(TO_HOST_READ) & _COUNTER
        rest = RING - write % RING
        filler = rest if rest < length else 0
        if used + filler + length > RING:
            self.dropped += 1
            return
        start = self._area + HEADER + RING
        if filler:
            self._memory.write(start + write % RING, struct.pack("<2I", filler, FILLER))
            write += filler
        head = RECORD.pack(length, FRAME, number, NO_TAG if tag is None else tag, len(frame), 0)
        self._memory.write(start + write % RING, head + frame)
        self._set_index(TO_HOST_WRITE, write + length)
        self._fire(0)

    def _index(self, at: int) -> int:
        return int(_U32.unpack(self._memory.read(self._area + at, 4))[0])

    def _set_index(self, at: int, value: int) -> None:
        self._memory.write(self._area + at, _U32.pack(value & _COUNTER))
