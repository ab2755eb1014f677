"""vfio-user, the server's side: one client message in, one reply out. No socket here.

QEMU's client: hw/vfio-user/{proxy,device,container}.c; libvfio-user's protocol text.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import struct
import traceback
from collections.abc import Callable
from typing import Protocol

from tests.lab.nic import pci
from tests.lab.nic.config import MSIX_VECTORS
from tests.lab.nic.interrupts import Vectors, is_eventfd
from tests.lab.nic.memory import Memory
from tests.lab.nic.record import Record
from tests.lab.nic.wire import vfio_user as wire
from tests.lab.nic.wire.vfio_user import Command


class Refusal(Exception):
    """The reply is an errno."""

    def __init__(self, code: int) -> None:
        super().__init__(os.strerror(code))
        self.code = code


Answer = Callable[[bytes, list[int]], bytes]


class Device(Protocol):
    """What is behind BAR0: the NIC, or the link to the VMBus's host."""

    def read(self, offset: int, count: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> None: ...

    def reset(self, why: str) -> None: ...


class Session:
    """One connected client. Descriptors it passes are owned here and closed with it."""

    def __init__(
        self,
        device: Device,
        memory: Memory,
        vectors: Vectors,
        record: Record,
        identity: pci.Identity = pci.GDMA,
    ) -> None:
        self.device = device
        self._regions = identity.regions
        self.memory = memory
        self.vectors = vectors
        self.record = record
        self.config = pci.ConfigSpace(identity, lambda: device.reset("function level reset"))
        self._answers: dict[int, Answer] = {
            Command.VERSION: self._version,
            Command.DMA_MAP: self._dma_map,
            Command.DMA_UNMAP: self._dma_unmap,
            Command.DEVICE_GET_INFO: self._device_info,
            Command.DEVICE_GET_REGION_INFO: self._region_info,
            Command.DEVICE_GET_IRQ_INFO: self._irq_info,
            Command.DEVICE_SET_IRQS: self._set_irqs,
            Command.REGION_READ: self._region_read,
            Command.REGION_WRITE: self._region_write,
            Command.DEVICE_RESET: self._reset,
        }

    def answer(self, command: int, payload: bytes, fds: list[int]) -> tuple[int, bytes]:
        """errno (0: fine) and the reply's payload. Descriptors left in `fds` were not taken."""
        handler = self._answers.get(command)
        if handler is None:
            self.record.log(f"vfio-user command {command} is not implemented")
            return errno.ENOTSUP, b""
        try:
            return 0, handler(payload, fds)
        except Refusal as refusal:
            self.record.log(f"vfio-user command {command}: {refusal}")
            return refusal.code, b""
        except struct.error:
            self.record.log(f"vfio-user command {command} with {len(payload)} bytes")
            return errno.EINVAL, b""
        except Exception:  # noqa: BLE001  (a posted write has no reply: only the record can tell)
            self.record.violation("exception", traceback.format_exc(), command=command)
            return errno.EIO, b""

    def close(self) -> None:
        """The client is gone, and its guest's memory with it."""
        self.device.reset("client disconnected")
        self.memory.clear()
        self.vectors.clear()

    def _version(self, payload: bytes, fds: list[int]) -> bytes:
        major, _ = wire.VERSION.unpack_from(payload)
        if major != 0:
            raise Refusal(errno.EINVAL)
        capabilities = {
            "capabilities": {
                "max_msg_fds": wire.MAX_FDS,
                "max_data_xfer_size": wire.MAX_TRANSFER,
            }
        }
        return wire.VERSION.pack(0, 0) + json.dumps(capabilities).encode() + b"\0"

    def _dma_map(self, payload: bytes, fds: list[int]) -> bytes:
        _, flags, offset, address, size = wire.DMA_MAP.unpack_from(payload)
        writable = bool(flags & wire.DMA_WRITABLE)
        buffer = None
        if fds:  # none for ROMs and other devices' registers
            buffer = _mapped(fds[0], size, offset, writable=writable)
        try:
            self.memory.map(address, size, buffer, writable=writable)
        except ValueError as error:
            raise Refusal(errno.EEXIST) from error
        return b""

    def _dma_unmap(self, payload: bytes, fds: list[int]) -> bytes:
        _, _, address, size = wire.DMA_UNMAP.unpack_from(payload)
        try:
            self.memory.unmap(address, size)
        except ValueError as error:
            raise Refusal(errno.EINVAL) from error
        return payload[: wire.DMA_UNMAP.size]

    def _device_info(self, payload: bytes, fds: list[int]) -> bytes:
        flags = wire.DEVICE_RESETTABLE | wire.DEVICE_PCI
        return wire.DEVICE_INFO.pack(wire.DEVICE_INFO.size, flags, wire.REGIONS, wire.IRQ_INDEXES)

    def _region_info(self, payload: bytes, fds: list[int]) -> bytes:
        index = wire.REGION_INFO.unpack_from(payload.ljust(wire.REGION_INFO.size, b"\0"))[2]
        if index >= wire.REGIONS:
            raise Refusal(errno.EINVAL)
        size = pci.SIZE if index == wire.REGION_CONFIG else self._regions.get(index, 0)
        # Never mappable: doorbells have to be seen.
        flags = wire.REGION_READABLE | wire.REGION_WRITABLE if size else 0
        return wire.REGION_INFO.pack(wire.REGION_INFO.size, flags, index, 0, size, 0)

    def _irq_info(self, payload: bytes, fds: list[int]) -> bytes:
        index = wire.IRQ_INFO.unpack_from(payload)[2]
        count = MSIX_VECTORS if index == wire.IRQ_MSIX else 0
        # Without the no-resize flag the client adds vectors one by one, and disables none.
        return wire.IRQ_INFO.pack(wire.IRQ_INFO.size, wire.IRQ_EVENTFD, index, count)

    def _set_irqs(self, payload: bytes, fds: list[int]) -> bytes:
        _, flags, index, start, count = wire.IRQ_SET.unpack_from(payload)
        if index != wire.IRQ_MSIX:
            return b""
        if start + count > MSIX_VECTORS or len(fds) > count:
            raise Refusal(errno.EINVAL)
        if count == 0:
            self.vectors.clear()
        elif flags & wire.IRQ_DATA_EVENTFD:
            if not all(map(is_eventfd, fds)):  # a write to anything else might block or fail
                raise Refusal(errno.EINVAL)
            given: list[int | None] = [*fds]
            fds.clear()  # they are the vectors' now
            self.vectors.set(start, given + [None] * (count - len(given)))
        elif flags & wire.IRQ_DATA_NONE:
            for vector in range(start, start + count):
                self.vectors.fire(vector)
        return b""

    def _region_read(self, payload: bytes, fds: list[int]) -> bytes:
        offset, region, count = wire.REGION_RW.unpack_from(payload)
        if count > wire.MAX_TRANSFER:
            raise Refusal(errno.EINVAL)
        if region == 0:
            data = self.device.read(offset, count)
        elif region == wire.REGION_CONFIG:
            data = self.config.read(offset, count)
        else:
            data = bytes(count)  # the client emulates the MSI-X table
        return payload[: wire.REGION_RW.size] + data

    def _region_write(self, payload: bytes, fds: list[int]) -> bytes:
        offset, region, count = wire.REGION_RW.unpack_from(payload)
        data = payload[wire.REGION_RW.size :]
        if len(data) != count:
            raise Refusal(errno.EINVAL)
        if region == 0:
            self.device.write(offset, data)
        elif region == wire.REGION_CONFIG:
            self.config.write(offset, data)
        return payload[: wire.REGION_RW.size]

    def _reset(self, payload: bytes, fds: list[int]) -> bytes:
        self.device.reset("device reset")
        return b""


def _mapped(fd: int, size: int, offset: int, *, writable: bool) -> memoryview:
    """Never more than the file has: an access beyond its end would be a SIGBUS."""
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    if not 0 < size <= os.fstat(fd).st_size - offset:
        raise Refusal(errno.EINVAL)
    try:
        return memoryview(mmap.mmap(fd, size, mmap.MAP_SHARED, protection, offset=offset))
    except (OSError, ValueError) as error:
        raise Refusal(errno.EINVAL) from error
