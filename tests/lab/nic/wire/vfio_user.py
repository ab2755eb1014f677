"""vfio-user messages as QEMU's client sends them (hw/vfio-user/protocol.h, libvfio-user)."""

from __future__ import annotations

import enum
import struct
from typing import Final


class Command(enum.IntEnum):
    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    DEVICE_RESET = 13
    DIRTY_PAGES = 14
    REGION_WRITE_MULTI = 15


HEADER: Final = struct.Struct("<HHIII")  # id, command, size with header, flags, errno
FLAG_REPLY: Final = 1
FLAG_NO_REPLY: Final = 0x10  # "posted": nobody hears of an error
FLAG_ERROR: Final = 0x20

VERSION: Final = struct.Struct("<HH")  # major, minor; a JSON string follows
DMA_MAP: Final = struct.Struct("<IIQQQ")  # argsz, flags, offset in the file, address, size
DMA_UNMAP: Final = struct.Struct("<IIQQ")  # argsz, flags, address, size
DEVICE_INFO: Final = struct.Struct("<IIII")  # argsz, flags, regions, interrupt indexes
REGION_INFO: Final = struct.Struct("<IIIIQQ")  # argsz, flags, index, capability, size, offset
IRQ_INFO: Final = struct.Struct("<IIII")  # argsz, flags, index, count
IRQ_SET: Final = struct.Struct("<IIIII")  # argsz, flags, index, start, count
REGION_RW: Final = struct.Struct("<QII")  # offset, region, count; data follows

DMA_READABLE: Final = 1
DMA_WRITABLE: Final = 2

DEVICE_RESETTABLE: Final = 1
DEVICE_PCI: Final = 2
REGIONS: Final = 9
REGION_CONFIG: Final = 7
REGION_READABLE: Final = 1
REGION_WRITABLE: Final = 2

IRQ_INDEXES: Final = 5
IRQ_MSIX: Final = 2
IRQ_EVENTFD: Final = 1
IRQ_DATA_NONE: Final = 1
IRQ_DATA_EVENTFD: Final = 4
MAX_FDS: Final = 16
MAX_TRANSFER: Final = 1 << 20
