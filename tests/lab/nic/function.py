"""The function between "establish" and "destroy" of its command channel: all live state.

A new instance per establishment, so that dropping it drops everything the driver made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tests.lab.nic import config as limits
from tests.lab.nic.config import Config
from tests.lab.nic.dispatch import Refused
from tests.lab.nic.faults import Faults
from tests.lab.nic.memory import Memory
from tests.lab.nic.objects import Ids, Mr, Pd, Qp, Vport, WqObject
from tests.lab.nic.record import Record
from tests.lab.nic.regions import Region
from tests.lab.nic.reliable import Reliable
from tests.lab.nic.rings import CompletionQueue, EventQueue, WorkQueue
from tests.lab.nic.wire.queues import ID_MASK, QueueKind

T = TypeVar("T")
Queue = EventQueue | CompletionQueue | WorkQueue


class Function:
    """Tables by handle or number, the numbering, and what became of dead queues."""

    def __init__(
        self, config: Config, memory: Memory, record: Record, fire: Callable[[int], None]
    ) -> None:
        self.config = config
        self.memory = memory
        self.record = record
        self.fire = fire
        self.faults = Faults()  # replaced by the device's own, which outlives this
        self.later: Callable[[float, Callable[[], None]], None] = _no_clock
        self.dropped = False  # the driver is gone: nothing may be written to its memory
        self.transmit: Callable[[WorkQueue], None] = WorkQueue.skip  # until a switch connects
        self.bury: Callable[[QueueKind, Queue], None] = _unmourned  # told of destroyed queues

        self.regions: dict[int, Region] = {}
        self.pds: dict[int, Pd] = {}
        self.mrs: dict[int, Mr] = {}
        self.keys: dict[int, Mr] = {}
        self.eqs: dict[int, EventQueue] = {}
        self.cqs: dict[int, CompletionQueue] = {}
        self.sqs: dict[int, WorkQueue] = {}
        self.rqs: dict[int, WorkQueue] = {}
        self.wqs: dict[tuple[bool, int], WqObject] = {}
        self.wq_vports: dict[int, Vport] = {}  # by SQ number
        self.rnic_cqs: dict[int, CompletionQueue] = {}
        self.qps: dict[int, Qp] = {}
        self.gids: set[str] = set()  # addresses of the RDMA function, in hex
        self.reliable = Reliable(self)
        self.doorbells: set[int] = set()
        self.registered: set[int] = set()
        self.adapter: int | None = None
        self.vports = [Vport(i, mac) for i, mac in enumerate(config.all_macs)]
        self.hwc_eq: EventQueue | None = None

        self._handles = Ids(1, 1 << 40)
        self._eq_ids = Ids(limits.FIRST_QUEUE_ID, 0xFFFE)
        self._cq_ids = Ids(limits.FIRST_QUEUE_ID, limits.MAX_NUM_CQS - 1)
        self._wq_ids = Ids(limits.FIRST_QUEUE_ID, limits.FIRST_QP_ID - 1)
        self._qp_ids = Ids(limits.FIRST_QP_ID, ID_MASK - 3, step=4)
        self._pdids = Ids(limits.FIRST_USER_PDID, 0xFFFFFF)
        self._keys = Ids(limits.FIRST_KEY, 0x7FFFFFFF)
        self._doorbells = Ids(limits.FIRST_USER_DOORBELL, limits.MAX_QUEUES)

    # Numbers

    def handle(self) -> int:
        """One space for the handles of all kinds: a handle of the wrong kind is never valid."""
        return _take(self._handles, set())

    def pdid(self) -> int:
        return _take(self._pdids, {pd.pdid for pd in self.pds.values()})

    def key(self) -> int:
        return _take(self._keys, self.keys)

    def doorbell(self) -> int:
        return _take(self._doorbells, self.doorbells)

    def wq_number(self, is_sq: bool) -> int:
        return _take(self._wq_ids, self.sqs if is_sq else self.rqs)

    def qp_base(self) -> int:
        return _take(self._qp_ids, self.sqs)

    def cq_number(self) -> int:
        return _take(self._cq_ids, self.cqs)

    def eq_number(self) -> int:
        return _take(self._eq_ids, self.eqs)

    # Objects

    def need(self, table: Mapping[Any, T], key: Any, what: str) -> T:
        """The object, or a refusal; a driver in step never names one that is not there."""
        try:
            return table[key]
        except KeyError:
            self.record.violation("bad-handle", f"no {what} {key}")
            raise Refused(f"no {what} {key}") from None

    def vport(self, handle: int) -> Vport:
        if not 1 <= handle <= len(self.vports):
            self.record.violation("bad-handle", f"no vport {handle}")
            raise Refused(f"no vport {handle}")
        return self.vports[handle - 1]

    def claim_region(self, handle: int, least: int, what: str) -> Region:
        """A complete region that nothing owns yet, for an object that will."""
        region = self.need(self.regions, handle, "region")
        if region.owner is not None:
            self.record.violation("region-owned", f"{what} on region {handle} of {region.owner}")
            raise Refused("region in use")
        if not region.complete or region.length < least:
            raise Refused(f"region {handle}: {region.length} bytes, {least} needed")
        return region

    def drop_region(self, region: Region | None) -> None:
        if region is not None:
            self.regions.pop(region.handle, None)

    def configure_vport(self, vport: Vport, pdid: int, doorbell: int) -> None:
        vport.configure(pdid, doorbell)
        self._vport_event("vport-configured", vport)

    def release_vport(self, vport: Vport) -> None:
        self._vport_event("vport-released", vport)
        vport.release()

    def _vport_event(self, event: str, vport: Vport) -> None:
        facts = {"vport": vport.index, "port": vport.index + 1}
        self.record.event(event, **facts, pdid=vport.pdid, owner=vport.owner)

    def drop_eq(self, eq: EventQueue) -> None:
        del self.eqs[eq.number]
        self.drop_region(eq.region)
        self.bury(QueueKind.EQ, eq)

    def drop_cq(self, cq: CompletionQueue) -> None:
        del self.cqs[cq.number]
        self.drop_region(cq.region)
        self.bury(QueueKind.CQ, cq)

    def drop_wq(self, wq: WorkQueue, is_sq: bool) -> None:
        del (self.sqs if is_sq else self.rqs)[wq.number]
        self.drop_region(wq.region)
        self.bury(QueueKind.SQ if is_sq else QueueKind.RQ, wq)

    # Views for the oracle

    def counts(self) -> dict[str, int]:
        """Live objects by kind, without the command channel's own four queues."""
        hwc = self.hwc_eq is not None
        return {
            "eq": len(self.eqs) - hwc,
            "cq": len(self.cqs) - hwc,
            "wq": len(self.wqs),
            "qp": len(self.qps),
            "region": len(self.regions),
            "mr": len(self.mrs),
            "pd": len(self.pds),
            "doorbell": len(self.doorbells),
        }

    def leftovers(self) -> dict[str, int]:
        """What a driver that cleaned up would not have left behind."""
        left = {kind: count for kind, count in self.counts().items() if count}
        if self.adapter is not None:
            left["adapter"] = 1
        return left


def _take(ids: Ids, used: Mapping[int, Any] | set[int]) -> int:
    number = ids.take(used)
    if number is None:
        raise Refused("out of numbers")
    return number


def _unmourned(kind: QueueKind, queue: Queue) -> None:
    """For a function that nobody rings."""


def _no_clock(seconds: float, act: Callable[[], None]) -> None:
    raise RuntimeError("this device has no clock for late answers")
