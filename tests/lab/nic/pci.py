"""PCI configuration space: identity, BARs, MSI-X and PCI Express capabilities."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.lab.nic.config import MSIX_VECTORS

SIZE: Final = 256
MSIX_BAR: Final = 4
MSIX_BAR_SIZE: Final = 8192

_BARS = 0x10
_MSIX_CAP, _PCIE_CAP = 0x40, 0x60
_PBA_AT = 4096
_BAR_64, _BAR_PREFETCH = 4, 8
_COMMAND = 4
_DEVICE_CONTROL = _PCIE_CAP + 8
_FLR_CAPABLE, _START_FLR = 1 << 28, 0x80


@dataclass(frozen=True, slots=True)
class Identity:
    """What a device is for the bus."""

    vendor: int
    device: int
    kind: int  # PCI class
    bar0: int  # size

    @property
    def regions(self) -> dict[int, int]:
        """Sizes by BAR."""
        return {0: self.bar0, MSIX_BAR: MSIX_BAR_SIZE}


# Microsoft's GDMA virtual function: registers, shared memory and doorbell pages in BAR0.
GDMA: Final = Identity(vendor=0x1414, device=0x00BA, kind=0x020000, bar0=16 << 20)


class ConfigSpace:
    """256 bytes. The client emulates BAR addresses and MSI-X itself and asks for the rest."""

    def __init__(self, identity: Identity, function_reset: Callable[[], None]) -> None:
        self._reset = function_reset
        self._bytes = bytearray(SIZE)
        self._writable = bytearray(SIZE)
        pack = struct.pack_into
        pack("<HH", self._bytes, 0, identity.vendor, identity.device)
        pack("<HH", self._bytes, 4, 0, 0x10)  # status: has capabilities
        pack("<I", self._bytes, 8, identity.kind << 8 | 1)
        pack("<I", self._bytes, _BARS, _BAR_64 | _BAR_PREFETCH)
        pack("<I", self._bytes, _BARS + 4 * MSIX_BAR, _BAR_64)
        self._bytes[0x34] = _MSIX_CAP
        pack(
            "<BBHII",
            self._bytes,
            _MSIX_CAP,
            0x11,
            _PCIE_CAP,
            MSIX_VECTORS - 1,
            MSIX_BAR,
            _PBA_AT | MSIX_BAR,
        )
        # PCI Express endpoint, version 2; pcie_flr() is the driver's last resort.
        pack("<BBHI", self._bytes, _PCIE_CAP, 0x10, 0, 2, _FLR_CAPABLE)
        pack("<I", self._bytes, _PCIE_CAP + 12, 0x11)  # x1, 2.5 GT/s
        pack("<H", self._bytes, _PCIE_CAP + 18, 0x11)
        for at, mask in ((_COMMAND, b"\x47\x04"), (0x3C, b"\xff"), (_MSIX_CAP + 2, b"\0\xc0")):
            self._writable[at : at + len(mask)] = mask
        for bar, size in identity.regions.items():
            mask = ((1 << 64) - size).to_bytes(8, "little")
            at = _BARS + 4 * bar
            self._writable[at : at + 8] = mask

    def read(self, offset: int, count: int) -> bytes:
        return bytes(self._bytes[offset : offset + count]).ljust(count, b"\xff")

    def write(self, offset: int, data: bytes) -> None:
        for at, byte in enumerate(data, offset):
            if at < SIZE:
                mask = self._writable[at]
                self._bytes[at] = self._bytes[at] & ~mask | byte & mask
            if at == _DEVICE_CONTROL + 1 and byte & _START_FLR:
                self._reset()
