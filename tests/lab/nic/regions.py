"""DMA regions: a driver's list of pages, read and written as one run of bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.lab.nic.memory import DmaFault, Memory

PAGE = 4096


@dataclass(slots=True, eq=False)
class Region:
    """Pages of one size, the first used from `offset` on.

    Incomplete until all pages were named; an object made of it becomes its `owner` and takes it
    along when it goes. User memory comes in pages of up to 2 MiB, kernel queues in 4 KiB.
    """

    handle: int
    memory: Memory
    length: int
    offset: int
    page_size: int
    expected: int
    pages: list[int] = field(default_factory=list)
    owner: str | None = None
    _flat: memoryview | None = None
    _generation: int = -1

    @property
    def complete(self) -> bool:
        return len(self.pages) == self.expected

    def add(self, pages: Iterable[int]) -> None:
        self.pages.extend(pages)
        self._generation = -1

    def runs(self, at: int, length: int) -> Iterable[tuple[int, int]]:
        """Bus address and length of each contiguous piece."""
        if at < 0 or at + length > self.length:
            raise DmaFault(at, length, f"outside region {self.handle} of {self.length} bytes")
        at += self.offset
        while length > 0:
            page, within = divmod(at, self.page_size)
            take = min(length, self.page_size - within)
            yield self.pages[page] + within, take
            at += take
            length -= take

    def read(self, at: int, length: int) -> bytes:
        flat = self._flat if self._generation == self.memory.generation else self._flatten()
        if flat is not None and at >= 0 and at + length <= self.length:
            return bytes(flat[at : at + length])
        return b"".join(bytes(self.memory.view(*run)) for run in self.runs(at, length))

    def write(self, at: int, data: bytes | memoryview) -> None:
        flat = self._flat if self._generation == self.memory.generation else self._flatten()
        length = len(data)
        if flat is not None and at >= 0 and at + length <= self.length:
            flat[at : at + length] = data
            return
        data = memoryview(data)
        for address, take in self.runs(at, length):
            self.memory.write(address, data[:take])
            data = data[take:]

    def _flatten(self) -> memoryview | None:
        """Kernel queues are contiguous: one writable view for the whole of them, kept."""
        self._generation = self.memory.generation
        self._flat = None
        first, size = self.pages[0], self.page_size
        if all(page == first + index * size for index, page in enumerate(self.pages)):
            try:
                view = self.memory.view(first + self.offset, self.length)
            except DmaFault:  # in part perhaps: the access itself will tell
                return None
            if not view.readonly:
                self._flat = view
        return self._flat
