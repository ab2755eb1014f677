"""Guest memory as the device sees it: DMA mappings and nothing else."""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass, field

Buffer = memoryview
_SPACE = 1 << 64


class DmaFault(Exception):
    """An access that no live mapping covers."""

    def __init__(self, address: int, length: int, why: str) -> None:
        super().__init__(f"{length} bytes at {address:#x}: {why}")
        self.address = address
        self.length = length


@dataclass(slots=True, order=True)
class Mapping:
    start: int
    end: int = field(compare=False)
    buffer: Buffer | None = field(compare=False)  # None: a ROM or another device's registers
    writable: bool = field(compare=False)


class Memory:
    """The mappings; `generation` changes with them, so that views can be kept until then."""

    def __init__(self) -> None:
        self.generation = 0
        self._mappings: list[Mapping] = []
        self._starts: list[int] = []

    def __len__(self) -> int:
        return len(self._mappings)

    def map(self, start: int, size: int, buffer: Buffer | None, *, writable: bool) -> None:
        end = start + size
        if not size or end > _SPACE:
            raise ValueError(f"{start:#x}..{end:#x} is no range of addresses")
        if any(start < other.end and other.start < end for other in self._mappings):
            raise ValueError(f"{start:#x}..{end:#x} overlaps a live mapping")
        insort(self._mappings, Mapping(start, end, buffer, writable))
        self._changed()

    def unmap(self, start: int, size: int) -> None:
        """Forget every mapping inside the range; one that only partly lies in it is an error."""
        end = start + size
        for mapping in self._mappings:
            inside = start <= mapping.start and mapping.end <= end
            if not inside and start < mapping.end and mapping.start < end:
                raise ValueError(f"{start:#x}..{end:#x} splits a mapping")
        self._mappings = [
            mapping
            for mapping in self._mappings
            if not (start <= mapping.start and mapping.end <= end)
        ]
        self._changed()

    def clear(self) -> None:
        self._mappings = []
        self._changed()

    def view(self, address: int, length: int) -> Buffer:
        """The bytes themselves; not to be kept beyond the present `generation`."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            raise DmaFault(address, length, "not mapped")
        mapping = self._mappings[index]
        if address + length > mapping.end:
            raise DmaFault(address, length, "not mapped")
        if mapping.buffer is None:
            raise DmaFault(address, length, "no memory behind this mapping")
        offset = address - mapping.start
        return mapping.buffer[offset : offset + length]

    def read(self, address: int, length: int) -> bytes:
        return bytes(self.view(address, length))

    def write(self, address: int, data: bytes | memoryview) -> None:
        view = self.view(address, len(data))
        if view.readonly:
            raise DmaFault(address, len(data), "mapped read-only")
        view[:] = data

    def _changed(self) -> None:
        self._starts = [mapping.start for mapping in self._mappings]
        self.generation += 1
