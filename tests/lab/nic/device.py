"""The NIC: BAR0 with its registers, shared-memory window and doorbells, and the live function.

Linux: mana_gd_init_vf_regs(), shm_channel.c, mana_gd_ring_doorbell(). OpenVMM: gdma's lib.rs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from tests.lab.nic import gdma as _gdma  # noqa: F401  (handlers register on import)
from tests.lab.nic import mana as _mana  # noqa: F401
from tests.lab.nic import rnic as _rnic  # noqa: F401
from tests.lab.nic.config import MSIX_VECTORS, Config
from tests.lab.nic.course import WINDOW, Course
from tests.lab.nic.fabric import Fabric
from tests.lab.nic.faults import Faults
from tests.lab.nic.function import Function
from tests.lab.nic.hwc import Hwc
from tests.lab.nic.inventory import inventory
from tests.lab.nic.memory import DmaFault, Memory
from tests.lab.nic.objects import Vport
from tests.lab.nic.record import Record
from tests.lab.nic.rings import CompletionQueue, EventQueue, RingError, WorkQueue
from tests.lab.nic.switch import Switch
from tests.lab.nic.wire import queues, smc
from tests.lab.nic.wire.queues import Event, QueueKind, Reconfig

SHM_AT: Final = 0x28
DOORBELLS_AT: Final = 0x10000
DOORBELL_PAGE: Final = 4096
_REGISTERS = bytearray(SHM_AT)
struct.pack_into("<HBB", _REGISTERS, 0x00, 1, 0, 1)  # version
struct.pack_into("<Q", _REGISTERS, 0x08, DOORBELLS_AT)
struct.pack_into("<H", _REGISTERS, 0x10, DOORBELL_PAGE)
struct.pack_into("<Q", _REGISTERS, 0x18, SHM_AT)
struct.pack_into("<H", _REGISTERS, 0x20, smc.WINDOW)

_KINDS = {
    queues.DB_SQ: QueueKind.SQ,
    queues.DB_RQ: QueueKind.RQ,
    queues.DB_CQ: QueueKind.CQ,
    queues.DB_EQ: QueueKind.EQ,
}


# What the host tells of its own work on the adapter: the event and its first word.
SERVICES: Final = {
    "fpga-reconfig": (Event.FPGA_RECONFIG, 0),
    "rdma-suspend": (Event.SOC_SERVICE, 1 << 28),
    "rdma-resume": (Event.SOC_SERVICE, 2 << 28),
    "hwc-timeout": (Event.SOC_RECONFIG_DATA, Reconfig.HWC_TIMEOUT << 24 | 30_000),
    "unknown-reconfig": (Event.SOC_RECONFIG_DATA, 0x7F << 24),
}


@dataclass(frozen=True, slots=True)
class Grave:
    """A destroyed queue, for telling a doorbell that was under way from one that is wrong."""

    owed: int | None  # index of the acknowledgement its driver still had to give


class Nic:
    """Register accesses in; memory and interrupts out through what the constructor was given."""

    def __init__(
        self, config: Config, memory: Memory, record: Record, fire: Callable[[int], None]
    ) -> None:
        self.config = config
        self.memory = memory
        self.record = record
        self._fire = fire
        self.faults = Faults()
        self.later: Callable[[float, Callable[[], None]], None] | None = None  # set by the server
        self._window = bytearray(smc.WINDOW)
        self._graves: dict[tuple[QueueKind, int], Grave] = {}
        self.function: Function | None = None
        self.fabric = Fabric()
        self._switch: Switch | None = None

    # BAR0

    def read(self, offset: int, count: int) -> bytes:
        if offset >= DOORBELLS_AT:
            return bytes(count)
        block = bytes(_REGISTERS) + bytes(self._window)
        return block[offset : offset + count].ljust(count, b"\0")

    def write(self, offset: int, data: bytes) -> None:
        if offset >= DOORBELLS_AT:
            if len(data) != 8:
                self.record.violation("doorbell-size", f"{len(data)} bytes at {offset:#x}")
                return
            self._doorbell(offset % DOORBELL_PAGE, int.from_bytes(data, "little"))
        elif offset >= SHM_AT and offset + len(data) <= SHM_AT + smc.WINDOW:
            at = offset - SHM_AT
            self._window[at : at + len(data)] = data
            if at <= smc.HEADER_AT < at + len(data):
                self._shared_memory_request()
        else:
            self.record.violation("register-write", f"{len(data)} bytes at {offset:#x}")

    # Shared-memory channel

    def _shared_memory_request(self) -> None:
        word = int.from_bytes(self._window[smc.HEADER_AT :], "little")
        request = smc.Header.unpack(word)
        ok = False
        if request.response or request.device_owned:
            self.record.violation("smc", f"request {word:#x} in a state the device sets")
        elif request.kind == smc.ESTABLISH:
            ok = self._establish(smc.Establish.unpack(self._window))
        elif request.kind == smc.DESTROY:
            ok = True
            self._destroy()
        else:
            self.record.violation("smc", f"request {word:#x}")
        status = smc.STATUS_OK if ok else smc.STATUS_FAILED
        answer = smc.Header(request.kind, request.version, response=True, status=status)
        self._window[smc.HEADER_AT :] = answer.pack().to_bytes(4, "little")

    def _establish(self, where: smc.Establish) -> bool:
        if self.function is not None:
            self.record.violation("smc", "established twice without a destroy between")
            self._drop()
        self.record.excuse = None
        self._graves.clear()
        if where.msix >= MSIX_VECTORS:
            self.record.violation("smc", f"establish with MSI-X index {where.msix}")
            return False
        function = Function(self.config, self.memory, self.record, self._fire)
        function.bury = self._bury
        function.faults = self.faults
        if self.later is not None:
            function.later = self.later
        hwc = Hwc(function, where)
        try:
            hwc.announce()
        except DmaFault as fault:
            self.record.violation("dma", f"establish: {fault}")
            return False
        self._switch = Switch(function, self.fabric)
        function.transmit = self._switch.transmit
        self.function = function
        addresses = {name: f"{getattr(where, name):#x}" for name in ("eq", "cq", "rq", "sq")}
        self.record.event("hwc-established", msix=where.msix, **addresses)
        return True

    def _destroy(self) -> None:
        """All DMA has stopped when this returns, and nothing of the driver's is left."""
        left = self.function.leftovers() if self.function else {}
        if left:
            self.record.violation("leak", f"command channel destroyed with {left}", **left)
        self._drop()
        self.record.event("hwc-destroyed", left=left)

    def _drop(self) -> None:
        if self.function is None:
            return
        for vport in self.function.vports:
            if vport.owner is not None:
                self.function.release_vport(vport)
        for kind, table in (
            (QueueKind.SQ, self.function.sqs),
            (QueueKind.RQ, self.function.rqs),
            (QueueKind.CQ, self.function.cqs),
            (QueueKind.EQ, self.function.eqs),
        ):
            for queue in table.values():
                self._bury(kind, queue)
        self.function.dropped = True
        self.function = None
        if self._switch is not None:
            self._switch.unplug()
            self._switch = None

    def reset(self, why: str) -> None:
        """Power-on state. A guest that reboots or dies leaves objects behind, rightly."""
        self._drop()
        self._graves.clear()
        self._window = bytearray(smc.WINDOW)
        self.record.excuse = None
        self.record.event("device-reset", why=why)

    # Doorbells

    def _doorbell(self, kind: int, value: int) -> None:
        function = self.function
        if function is None:
            self._dead_doorbell(kind, value)
            return
        try:
            self._ring(function, kind, value)
        except RingError as error:
            self.record.violation("ring", str(error))
        except DmaFault as fault:
            self.record.violation("dma", f"doorbell {kind:#x}: {fault}")

    def _ring(self, function: Function, kind: int, value: int) -> None:
        if kind in {queues.DB_RQ, queues.DB_SQ}:
            table = function.rqs if kind == queues.DB_RQ else function.sqs
            if wq := table.get(value & queues.ID_MASK):
                wq.ring(value >> 32)
                return
        elif kind in {queues.DB_CQ, queues.DB_EQ}:
            index, arm = value >> 32 & queues.DB_INDEX_MASK, bool(value & queues.DB_ARM)
            if kind == queues.DB_CQ:
                if cq := function.cqs.get(value & queues.ID_MASK):
                    cq.ring(index, arm)
                    return
            elif eq := function.eqs.get(value & queues.EQ_ID_MASK):
                eq.ring(index, arm)
                return
        elif kind == queues.DB_RQ_CLIENT:
            function.reliable.arm(value & queues.ID_MASK, value >> 32)
            return
        elif kind == queues.DB_DIM:
            return  # moderation is not announced
        self._dead_doorbell(kind, value)

    def _bury(self, kind: QueueKind, queue: EventQueue | CompletionQueue | WorkQueue) -> None:
        owed = None
        if isinstance(queue, EventQueue | CompletionQueue) and queue.owed:
            owed = queue.produced % (queues.OWNER_PASSES * queue.entries)
        self._graves[kind, queue.number] = Grave(owed)

    def _dead_doorbell(self, offset: int, value: int) -> None:
        """A doorbell that no live queue answers to.

        One kind is normal. An interrupt handler wakes whoever waits for its event before it
        acknowledges it, so the acknowledgement of a queue's very last entry may arrive when that
        queue is gone. It is known by its index; any other one is a violation.
        """
        kind = _KINDS.get(offset)
        number = value & (queues.EQ_ID_MASK if kind is QueueKind.EQ else queues.ID_MASK)
        name = kind.name.lower() if kind else f"{offset:#x}"
        grave = self._graves.get((kind, number)) if kind else None
        index = value >> 32 & queues.DB_INDEX_MASK
        if grave is not None and grave.owed is not None and grave.owed == index:
            self.record.event("late-acknowledgement", kind=name, number=number, index=index)
            return
        state = "never lived" if grave is None else "is destroyed"
        detail = f"{name} {number} {state}: doorbell {value:#x}"
        self.record.violation("dead-doorbell", detail, kind=name, number=number)

    # What an operator of the lab may ask for

    def set_link(self, up: bool) -> bool:
        """Carrier of all ports at once, as the hardware reports it; False without a driver."""
        if self.function is None or self.function.hwc_eq is None:
            return False
        kind = Reconfig.LINK_UP if up else Reconfig.LINK_DOWN
        self.function.hwc_eq.post(Event.SOC_RECONFIG_DATA, kind << 24)
        self.record.event("link", up=up)
        return True

    def request_reset(self) -> bool:
        """Ask the driver for a reset cycle, in which it stops waiting for answers."""
        if self.function is None or self.function.hwc_eq is None:
            return False
        self.record.excuse = "reset requested"
        self.record.event("reset-requested")
        self.function.hwc_eq.post(Event.RESET_REQUEST)
        return True

    def service(self, name: str) -> bool:
        """Tell the driver of host servicing; False without a driver. Raises ValueError."""
        if name not in SERVICES:
            raise ValueError(f"no such service: {name}; there are {', '.join(SERVICES)}")
        if self.function is None or self.function.hwc_eq is None:
            return False
        event, word = SERVICES[name]
        self.record.event("service", name=name)
        self.function.hwc_eq.post(event, word)
        return True

    def start_course(
        self,
        into: int,
        out_of: int,
        to: bytes,
        count: int,
        seed: int,
        *,
        rewritten: bool,
        window: int = WINDOW,
    ) -> None:
        """See course.py. Raises ValueError; without a driver, too."""
        if self._switch is None:
            raise ValueError("no driver is there")
        macs = tuple(self.config.all_macs)
        course = Course(into, out_of, to, macs, count, seed, rewritten, window)
        self._switch.start_course(course)
        self.record.event("course", into=into, out_of=out_of, count=count, seed=seed)

    def courses(self) -> list[dict[str, Any]]:
        return [] if self._switch is None else [c.facts() for c in self._switch.courses.running]

    def set_timeout(self, milliseconds: int | None) -> None:
        """How long the driver is to wait for answers, from its next bring-up on."""
        self.config = replace(self.config, hwc_timeout_ms=milliseconds)

    def state(self) -> dict[str, Any]:
        if self.function is None:
            idle = [Vport(i, mac).facts() for i, mac in enumerate(self.config.all_macs)]
            return {"hwc": False, "vports": idle, "objects": {}, "registered": []}
        return {
            "hwc": True,
            "vports": [vport.facts() for vport in self.function.vports],
            "objects": self.function.counts(),
            "registered": sorted(self.function.registered),
            "gids": sorted(self.function.gids),
        }

    def objects(self) -> dict[str, list[dict[str, Any]]]:
        return inventory(self.function) if self.function is not None else {}
