"""RC queue pairs: requests out of a send queue, into the memory and rings of the peer, and ACKs.

Between queue pairs of this function alone, wherever their ports: the peer is found by the number
that it was told (SET_QP_STATE). A request waits while the peer is not ready to receive, has no
receive WQE, or is not there; there is no clock, so nothing is given up. SEND, WRITE and READ, with
immediates; anything else is an error completion and a violation.

rdma-core: providers/mana's wr.c, cq.c, qp.c.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.lab.nic.memory import DmaFault
from tests.lab.nic.objects import Mr, Qp
from tests.lab.nic.rings import RingError, WorkQueue, Wqe
from tests.lab.nic.wire import rnic as wire

if TYPE_CHECKING:
    from tests.lab.nic.function import Function

Access = wire.Access
Op = wire.Op
PSN_MASK: Final = (1 << 24) - 1


class Failed(Exception):
    """The request ends with an error: `code` is the requester's, `remote` the responder's."""

    def __init__(self, why: str, code: int, remote: int | None = None) -> None:
        super().__init__(why)
        self.code = code
        self.remote = remote


@dataclass(slots=True)
class Work:
    """A request as its WQE says it."""

    op: int
    psn: int
    packets: int
    sges: list[tuple[int, int, int]]
    length: int
    immediate: int
    address: int
    rkey: int

    @classmethod
    def of(cls, wqe: Wqe, mtu: int) -> Work:
        if len(wqe.oob) < wire.RC_OOB.size:
            raise RingError(f"an RC request with {len(wqe.oob)} bytes of inline data")
        first, _, *rest = wire.RC_OOB.unpack_from(wqe.oob)
        op, psn = first & wire.OPCODE, first >> 8
        padding = wqe.header & wire.PADDING
        sges = wqe.sges[: len(wqe.sges) - padding]
        length = sum(size for _, _, size in sges)
        if length > wire.LONGEST:
            raise RingError(f"an RC request of {length} bytes")
        immediate = rest[0] if op == Op.SEND_IMM else 0
        if op == Op.WRITE_IMM:
            if len(wqe.oob) != wire.LARGE_OOB:
                raise RingError("WRITE WITH IMM without room for it")
            immediate = int.from_bytes(wqe.oob[24:28], "little")
        if op in {Op.WRITE, Op.WRITE_IMM, Op.READ}:
            high, low, rkey, told = rest
            if told > wire.LONGEST:
                raise RingError(f"an RC request of {told} bytes")
            if op != Op.READ and told != length:
                raise RingError(f"a write of {told} bytes with {length} in its SGEs")
            return cls(op, psn, _packets(told, mtu), sges, told, immediate, high << 32 | low, rkey)
        return cls(op, psn, _packets(length, mtu), sges, length, immediate, 0, 0)


def _packets(length: int, mtu: int) -> int:
    return max(1, -(-length // mtu))


class Reliable:
    """The RC queue pairs of a function."""

    def __init__(self, function: Function) -> None:
        self.function = function

    def connect(self, qp: Qp) -> None:
        """Its rings' doorbells end here from now on."""
        for queue in qp.sqs:
            if queue.number & wire.SUBTYPE == wire.SEND_REQUESTER:
                qp.requests, queue.on_work = queue, lambda _queue: self._requests(qp)
        for queue in qp.rqs:
            if queue.number & wire.SUBTYPE == wire.RECV_REQUESTER:
                qp.reads = queue
            else:
                qp.receives, qp.number = queue, queue.number
                queue.on_work = lambda _queue: self._woken(qp)

    def modify(self, qp: Qp, body: Any) -> None:
        """SET_QP_STATE: what the mask names, then the state; what waited for it may go on."""
        mask = body.mask
        if mask & wire.HAS_PATH_MTU:
            qp.mtu = 128 << body.path_mtu
        if mask & wire.HAS_DEST_QPN:
            qp.peer = body.dest_qpn
        if mask & wire.HAS_RQ_PSN:
            qp.due_psn = body.rq_psn & PSN_MASK
        if mask & wire.HAS_SQ_PSN:
            qp.next_psn = body.sq_psn & PSN_MASK
            qp.acked = qp.next_psn - 1 & PSN_MASK
        if mask & wire.HAS_ADDRESS:
            ends = body.address_handle
            qp.addresses = ends[15::-1].hex(), ends[31:15:-1].hex()
        qp.state = body.state
        if qp.state in {wire.RESET, wire.INIT}:  # user space begins again with its rings
            qp.waiting = qp.armed = None
            for queue in (*qp.sqs, *qp.rqs):
                queue.head = queue.tail = 0
        self._requests(qp)
        self._woken(qp)

    def arm(self, queue: int, psn: int) -> None:
        """Doorbell: tell when everything up to `psn` is acknowledged."""
        qp = self._by_number(queue - wire.RECV_REQUESTER)
        if qp is None or qp.reads is None or qp.reads.number != queue:
            self.function.record.violation("dead-doorbell", f"arming of queue {queue:#x}")
            return
        qp.armed = psn & PSN_MASK
        self._tell(qp)

    def _by_number(self, number: int) -> Qp | None:
        for qp in self.function.qps.values():
            if qp.kind == "rc" and qp.number == number:
                return qp
        return None

    def _woken(self, qp: Qp) -> None:
        """Whoever sends to it may go on: it has room, or is ready."""
        for other in list(self.function.qps.values()):
            if other.kind == "rc" and other.peer == qp.number:
                self._requests(other)

    def _requests(self, qp: Qp) -> None:
        """Carry out what is posted, in order, as far as the peer lets it."""
        sq = qp.requests
        while sq is not None and qp.state in wire.SENDING:
            if qp.waiting is None:
                if not sq.pending:
                    return
                try:
                    qp.waiting = Work.of(sq.take(), qp.mtu)
                except RingError as error:
                    self.function.record.violation("ring", f"qp {qp.handle}: {error}")
                    self._fail(qp, qp.next_psn, wire.BAD_WQE)
                    return
            work = qp.waiting
            peer = self._by_number(qp.peer)
            if peer is None or peer.state not in wire.RECEIVING or peer.peer != qp.number:
                return
            try:
                if not self._carry(qp, peer, work):
                    return
            except Failed as failed:
                self.function.record.event("rc-failed", qp=qp.handle, why=str(failed))
                self._fail(qp, work.psn, failed.code)
                if failed.remote is not None:
                    self._fail_responder(peer, work.psn, failed.remote)
                return
            except RingError as error:
                self.function.record.violation("ring", f"qp {peer.handle}: {error}")
                self._fail(qp, work.psn, wire.REMOTE_FAILED)
                return
            qp.waiting = None
            qp.acked = work.psn + work.packets - 1 & PSN_MASK
            qp.next_psn = peer.due_psn = qp.acked + 1 & PSN_MASK
            qp.sequence = qp.sequence + 1 & PSN_MASK
            source, sink = (peer, qp) if work.op == Op.READ else (qp, peer)
            source.octets_out += work.length
            sink.octets_in += work.length
            self._tell(qp)

    def _carry(self, qp: Qp, peer: Qp, work: Work) -> bool:
        """Whether it is done; False while the peer has no receive WQE."""
        if work.psn != qp.next_psn:
            raise Failed(f"PSN {work.psn:#x} where {qp.next_psn:#x} is due", wire.BAD_WQE)
        if work.psn != peer.due_psn:
            why = f"PSN {work.psn:#x} where the peer waits for {peer.due_psn:#x}"
            raise Failed(why, wire.RETRIES_EXCEEDED)
        if work.op not in wire.CARRIED:
            self.function.record.violation("rc", f"qp {qp.handle}: opcode {work.op}")
            raise Failed(f"opcode {work.op}", wire.UNSUPPORTED)
        consuming = work.op in wire.CONSUMING
        rq = peer.receives
        if consuming and (rq is None or not rq.pending):
            return False
        if work.op == Op.READ:
            self._read(qp, peer, work)
            return True
        data = self._gather(qp, work.sges)
        if work.op in {Op.WRITE, Op.WRITE_IMM}:
            self._put_remote(peer, work, data)
        if consuming:
            assert rq is not None
            self._receive(peer, rq, work, data)
        return True

    def _receive(self, peer: Qp, rq: WorkQueue, work: Work, data: bytes) -> None:
        wqe = rq.take()
        if work.op != Op.WRITE_IMM:
            room = sum(size for _, _, size in wqe.sges)
            if len(data) > room:
                raise Failed(
                    f"{len(data)} bytes for {room}", wire.REMOTE_INVALID, wire.MESSAGE_TOO_LONG
                )
            try:
                self._scatter(peer, wqe.sges, data)
            except DmaFault as fault:
                self._foul(peer, fault)
                raise Failed(str(fault), wire.REMOTE_FAILED, wire.RECEIVE_FAULT) from fault
        kind = wire.RECEIVED[work.op]
        told = wire.RC_RECEIVED.pack(kind, len(data), work.psn, work.immediate, wqe.offset)
        peer.cqs[1].post(told, rq.number, is_sq=False)

    def _put_remote(self, peer: Qp, work: Work, data: bytes) -> None:
        if data:
            mr = self._remote(peer, work, Access.REMOTE_WRITE)
            try:
                self._write(mr.runs(work.address, len(data)), data)
            except DmaFault as fault:
                raise Failed(str(fault), wire.REMOTE_ACCESS) from fault

    def _read(self, qp: Qp, peer: Qp, work: Work) -> None:
        """The local buffer is a WQE of the requester's receive queue, posted before."""
        queue = qp.reads
        if queue is None or not queue.pending:
            raise Failed("a READ with no buffer posted", wire.BAD_WQE)
        wqe = queue.take()
        if sum(size for _, _, size in wqe.sges) < work.length:
            raise Failed("a READ longer than its buffer", wire.BAD_WQE)
        if not work.length:
            return
        mr = self._remote(peer, work, Access.REMOTE_READ)
        try:
            data = b"".join(
                bytes(self.function.memory.view(*run)) for run in mr.runs(work.address, work.length)
            )
        except DmaFault as fault:
            raise Failed(str(fault), wire.REMOTE_ACCESS) from fault
        try:
            self._scatter(qp, wqe.sges, data)
        except DmaFault as fault:
            self._foul(qp, fault)
            raise Failed(str(fault), wire.LOCAL_FAULT) from fault

    def _remote(self, peer: Qp, work: Work, right: Access) -> Mr:
        """The region that a remote key names; a wrong one is the peer's NAK, and no violation."""
        mr = self.function.keys.get(work.rkey)
        if mr is None or mr.pd is not peer.pd or mr.region is None or not mr.access & right:
            raise Failed(f"rkey {work.rkey:#x} gives no {right.name}", wire.REMOTE_ACCESS)
        return mr

    def _gather(self, qp: Qp, sges: list[tuple[int, int, int]]) -> bytes:
        view = self.function.memory.view
        try:
            return b"".join(view(*run) for sge in sges if sge[2] for run in self._local(qp, *sge))
        except DmaFault as fault:
            self._foul(qp, fault)
            raise Failed(str(fault), wire.LOCAL_FAULT) from fault

    def _scatter(self, qp: Qp, sges: list[tuple[int, int, int]], data: bytes) -> None:
        rest = memoryview(data)
        for address, key, size in sges:
            take = min(size, len(rest))
            if take:
                self._write(self._local(qp, address, key, take), rest[:take])
                rest = rest[take:]

    def _write(self, runs: Iterable[tuple[int, int]], data: bytes | memoryview) -> None:
        rest = memoryview(data)
        for at, length in runs:
            self.function.memory.write(at, rest[:length])
            rest = rest[length:]

    def _local(self, qp: Qp, address: int, key: int, size: int) -> Iterable[tuple[int, int]]:
        mr = self.function.keys.get(key)
        if mr is None or mr.pd is not qp.pd:
            raise DmaFault(address, size, f"memory key {key:#x} is not of pd {qp.pd.pdid}")
        return mr.runs(address, size)

    def _tell(self, qp: Qp) -> None:
        """The completion that was armed for, once its PSN is acknowledged."""
        if qp.armed is None or qp.reads is None or not _reached(qp.acked, qp.armed):
            return
        qp.armed = None
        told = wire.RC_ARMED.pack(wire.ARMED_COMPLETION, qp.sequence, qp.acked)
        qp.cqs[0].post(told, qp.reads.number, is_sq=False)

    def _fail(self, qp: Qp, psn: int, code: int) -> None:
        """An error completion of the requester; it carries nothing more."""
        qp.state, qp.waiting = wire.ERROR, None
        if qp.requests is not None:
            qp.requests.skip()
            told = wire.RC_ERROR.pack(wire.ERROR_COMPLETION | code << 8, psn)
            qp.cqs[0].post(told, qp.requests.number, is_sq=True)

    def _fail_responder(self, qp: Qp, psn: int, code: int) -> None:
        qp.state = wire.ERROR
        if qp.receives is not None:
            told = wire.RC_ERROR.pack(wire.ERROR_COMPLETION | code << 8, psn)
            qp.cqs[1].post(told, qp.receives.number, is_sq=False)

    def _foul(self, qp: Qp, fault: DmaFault) -> None:
        self.function.record.violation("dma", f"qp {qp.handle}: {fault}")


def _reached(acked: int, psn: int) -> bool:
    """Whether a PSN is acknowledged; they wrap at 24 bits."""
    return (acked - psn & PSN_MASK) < 1 << 23
