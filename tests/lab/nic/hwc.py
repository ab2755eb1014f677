"""The command channel: four one-page queues, their bring-up, requests in and answers out.

Linux: hw_channel.c. OpenVMM: hwc.rs.
"""

from __future__ import annotations

from collections import deque

from tests.lab.nic import config as limits
from tests.lab.nic.dispatch import answer
from tests.lab.nic.function import Function
from tests.lab.nic.regions import PAGE, Region
from tests.lab.nic.rings import CompletionQueue, EventQueue, RingError, WorkQueue
from tests.lab.nic.wire import queues
from tests.lab.nic.wire.messages import REQUEST_HEADER, request_name
from tests.lab.nic.wire.queues import Event, InitData
from tests.lab.nic.wire.smc import Establish

_DEPTH = 1
_MESSAGE = 4096
_WAITING = 64  # answers that find no buffer: a driver that stopped waiting leaves a few


class Hwc:
    """One request at a time; an answer waits for a receive WQE if there is none yet."""

    def __init__(self, function: Function, where: Establish) -> None:
        self.function = function
        self._answers: deque[bytes] = deque()
        self.eq = EventQueue(
            number=function.eq_number(),
            region=self._page(where.eq),
            entries=PAGE // queues.EQE_SIZE,
            vector=where.msix,
            fire=function.fire,
            pdid=limits.HWC_PDID,
        )
        self.cq = CompletionQueue(
            number=function.cq_number(),
            region=self._page(where.cq),
            entries=PAGE // queues.CQE_SIZE,
            eq=self.eq,
            armed=True,  # the driver does not arm it before the first completion
        )
        self.rq = WorkQueue(
            function.wq_number(False), self._page(where.rq), PAGE, self.cq, limits.HWC_PDID
        )
        self.sq = WorkQueue(
            function.wq_number(True), self._page(where.sq), PAGE, self.cq, limits.HWC_PDID
        )
        self.rq.on_work, self.sq.on_work = self._room, self._requests
        self.rq.owner = self.sq.owner = "hwc"
        function.hwc_eq = function.eqs[self.eq.number] = self.eq
        function.cqs[self.cq.number] = self.cq
        function.rqs[self.rq.number] = self.rq
        function.sqs[self.sq.number] = self.sq

    def announce(self) -> None:
        """The init events. The EQ's id must come first: the driver rings with it in between."""
        self.eq.post(Event.HWC_INIT_EQ_ID_DB, self.eq.number | limits.HWC_DOORBELL << 16)
        for kind, value in (
            (InitData.CQ_ID, self.cq.number),
            (InitData.RQ_ID, self.rq.number),
            (InitData.SQ_ID, self.sq.number),
            (InitData.QUEUE_DEPTH, _DEPTH),
            (InitData.MAX_REQUEST, _MESSAGE),
            (InitData.MAX_RESPONSE, _MESSAGE),
            (InitData.MAX_NUM_CQS, limits.MAX_NUM_CQS),
            (InitData.PDID, limits.HWC_PDID),
            (InitData.GPA_MKEY, limits.HWC_MKEY),
        ):
            self.eq.post(Event.HWC_INIT_DATA, value | kind << 24)
        self.eq.post(Event.HWC_INIT_DONE)

    def _page(self, address: int) -> Region:
        return Region(0, self.function.memory, PAGE, 0, PAGE, 1, [address], "hwc")

    def _requests(self, sq: WorkQueue) -> None:
        while sq.pending:
            wqe = sq.take()
            if len(wqe.oob) != queues.HWC_TX_OOB.size:
                raise RingError(f"HWC request with {len(wqe.oob)} bytes of inline data")
            _, _, cq, number = queues.HWC_TX_OOB.unpack(wqe.oob)
            if (cq & queues.ID_MASK, number & queues.ID_MASK) != (self.cq.number, sq.number):
                raise RingError(f"HWC request names cq {cq:#x}, sq {number:#x}")
            # A driver that stopped waiting reuses its one buffer: what the header says of its size
            # need not match the SGE, so nothing beyond the SGE is ever read.
            if sum(size for _, _, size in wqe.sges) > _MESSAGE:
                raise RingError(f"HWC request longer than {_MESSAGE} bytes")
            message = b"".join(
                self.function.memory.read(address, size) for address, _, size in wqe.sges if size
            )
            if len(message) < REQUEST_HEADER.size:
                raise RingError(f"HWC request of {len(message)} bytes")
            self._request(message)

    def _request(self, message: bytes) -> None:
        code = REQUEST_HEADER.unpack(message).code
        fault = self.function.faults.take(code)
        if fault is not None and fault.lost:
            # From its time-out on the driver is out of step: what it leaves or repeats is normal.
            self.function.record.excuse = f"{request_name(code)} was never answered"
            self.function.record.event("request-lost", name=request_name(code))
            return
        response = answer(self.function, message, fault.status if fault else None)
        if fault is not None and fault.delay:
            self.function.record.event("answer-late", name=request_name(code), delay=fault.delay)
            self.function.later(fault.delay, lambda: self._deliver(response))
        elif fault is not None and fault.held:
            self.function.record.event("answer-held", name=request_name(code))
            self.function.faults.hold(lambda: self._deliver(response))
        else:
            self._deliver(response)

    def _deliver(self, response: bytes) -> None:
        if not self.function.dropped:
            if len(self._answers) >= _WAITING:
                raise RingError("HWC requests without buffers for their answers")
            self._answers.append(response)
            self._room(self.rq)

    def _room(self, rq: WorkQueue) -> None:
        while self._answers and rq.pending:
            wqe = rq.take()
            if not wqe.sges:
                raise RingError("an HWC buffer without an SGE")
            address, _, size = wqe.sges[0]
            response = self._answers.popleft()[:size]
            self.function.memory.write(address, response)
            data = queues.HWC_RX_DATA.pack(wqe.offset % rq.size, len(response))
            self.cq.post(data, rq.number, is_sq=False)
