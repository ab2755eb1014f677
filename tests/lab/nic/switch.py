"""The data path: frames out of send queues to the fabric, and from it into receive queues.

Linux: mana_start_xmit(), mana_poll_tx_cq(), mana_process_rx_cqe(). OpenVMM: bnic.rs. DPDK: tx.c.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from tests.lab.nic import frames
from tests.lab.nic.config import MANA_MKEY, MANA_PDID
from tests.lab.nic.course import Course, Courses
from tests.lab.nic.fabric import Fabric, Piece, Station
from tests.lab.nic.function import Function
from tests.lab.nic.memory import DmaFault
from tests.lab.nic.objects import Vport, WqObject
from tests.lab.nic.rings import RingError, WorkQueue, Wqe
from tests.lab.nic.wire import queues
from tests.lab.nic.wire.queues import CLIENT_ETHERNET, RxKind, TxResult

LARGEST_SEND = 1 << 20  # bytes of one WQE; drivers cut at half of that
_CHECKSUM_L4 = queues.TX_CHECKSUM_TCP | queues.TX_CHECKSUM_UDP
_ASKED = {queues.TX_CHECKSUM_TCP: frames.TCP, queues.TX_CHECKSUM_UDP: frames.UDP}


class BadSend(Exception):
    """A WQE that the device cannot send; its completion says so."""


class Switch:
    """The function's ports as VFs in the fabric. What cannot be delivered is counted and dropped."""

    def __init__(self, function: Function, fabric: Fabric) -> None:
        self.function = function
        self.memory = function.memory
        self._fabric = fabric
        self._stations = [fabric.station(vport.mac) for vport in function.vports]
        for vport, station in zip(function.vports, self._stations, strict=True):
            station.vf = partial(self._deliver, vport)
        self.courses = Courses(self._inject, self._room, function.later)
        self._outside: list[Station] = []  # where courses lead that end at none of the ports

    def start_course(self, course: Course) -> None:
        """Raises ValueError for one that cannot be."""
        self._fabric.watch = self._watch
        there = self._fabric.station(course.to)
        if there.vf is None and there.synthetic is None:
            there.vf = _outside
            self._outside.append(there)
        self.courses.start(course)

    def _watch(self, source: Station, frame: bytes | bytearray) -> None:
        if source in self._stations:
            self.courses.saw(self._stations.index(source) + 1, frame)

    def _inject(self, port: int, frame: bytes) -> None:
        """A frame from the wire, whatever its destination."""
        self._deliver(self.function.vports[port - 1], (frame, None, False), None)

    def _room(self, port: int) -> int:
        """How many more frames the fullest of a port's receive rings takes; 0 while it is closed."""
        vport = self.function.vports[port - 1]
        if self.function.dropped or not vport.rx:
            return 0
        rings = [made.wq for made in vport.objects.values() if not made.is_sq]
        return min((ring.pending // queues.BU for ring in rings), default=0)

    def unplug(self) -> None:
        """The function is gone: no frame reaches its memory any more."""
        self._fabric.watch = None
        self.courses.running.clear()
        for station in (*self._stations, *self._outside):
            station.vf = None
        self._fabric.prune()

    def transmit(self, sq: WorkQueue) -> None:
        """Everything posted to a send queue: one CQE each, in order, unless suppressed."""
        vport = self.function.wq_vports[sq.number]
        while sq.pending:
            try:
                wqe = sq.take()
            except RingError as error:
                self.function.record.violation("ring", str(error), vport=vport.index)
                return
            result, quiet = self._send(vport, sq, wqe)
            if result != TxResult.OKAY:
                vport.counters.tx_errors += 1
            elif quiet:
                continue
            if sq.cq is not None:
                data = queues.TX_DATA.pack(result | CLIENT_ETHERNET, 0, wqe.offset)
                sq.cq.post(data, sq.number, is_sq=True)

    def _send(self, vport: Vport, sq: WorkQueue, wqe: Wqe) -> tuple[int, bool]:
        """The completion's code, and whether the driver wants none if it is good."""
        flags, second = queues.TX_SHORT_OOB.unpack_from(wqe.oob)
        quiet = bool(flags & queues.TX_SUPPRESS_CQE)
        if sq.cq is not None and flags >> 8 != sq.cq.number:
            self._foul(vport, f"send on sq {sq.number} names cq {flags >> 8}")
        if second >> 10 & 0x3FFF != sq.number >> 10 & 0x3FFF:
            self._foul(vport, f"send on sq {sq.number} names frame {second >> 10 & 0x3FFF}")
        tag = None
        if flags & 3 == queues.TX_LONG_FORMAT and len(wqe.oob) >= queues.TX_LONG_OOB.size:
            long = queues.TX_LONG_OOB.unpack_from(wqe.oob)[2]
            tag = long >> queues.TX_VLAN_SHIFT if long & queues.TX_INSERT_VLAN else None
        try:
            frame = self._gather(sq, wqe)
            header_length = wqe.sges[0][2] if wqe.sges else 0
            tagged = False
            if tag is None:
                frame, tag = frames.strip_vlan(frame)
                tagged = tag is not None
                header_length -= frames.TAG if tagged else 0
            at = second & queues.TX_TRANSPORT_AT
            if at and tagged:
                at -= frames.TAG
            for piece in _finished(frame, wqe.word, flags, header_length, at):
                self._forward(vport, piece, tag)
        except DmaFault as fault:
            self.function.record.violation("dma", f"send: {fault}", vport=vport.index)
            return TxResult.GDMA_ERROR, False
        except BadSend as error:
            self.function.record.event("send-refused", vport=vport.index, why=str(error))
            return TxResult.INVALID_OOB, False
        return TxResult.OKAY, quiet

    def _forward(self, source: Vport, piece: Piece, tag: int | None) -> None:
        source.counters.tx_frames += 1
        source.counters.tx_bytes += len(piece[0])
        source.counters.tx_finished += piece[2]
        self._fabric.forward(self._stations[source.index], piece, tag)

    def _deliver(self, vport: Vport, piece: Piece, tag: int | None) -> None:
        frame, headers, good = piece
        counters = vport.counters
        if not vport.rx:
            counters.rx_disabled += 1
            return
        headers = headers or frames.parse(frame)
        value, kind = frames.receive_hash(vport.key, vport.hash_types, frame, headers)
        rq = vport.default
        if vport.rss and kind:
            rq = vport.table[value % len(vport.table)] or rq
        if rq is None or not rq.wq.pending:
            counters.rx_no_wqe += 1
            return
        flags = kind << queues.RX_HASH_SHIFT
        if tag is not None:
            flags |= tag & 0xFFF | queues.RX_VLAN_PRESENT
        flags |= frames.verdict(frame, headers, finished=good)
        self._receive(vport, rq, frame, flags, value)

    def _receive(
        self, vport: Vport, rq: WqObject, frame: bytes | bytearray, flags: int, value: int
    ) -> None:
        try:
            wqe = rq.wq.take()
        except RingError as error:
            self.function.record.violation("ring", str(error), vport=vport.index)
            return
        try:
            fits = self._scatter(rq.wq, wqe, frame)
        except DmaFault as fault:
            self.function.record.violation("dma", f"receive: {fault}", vport=vport.index)
            fits = False
        if fits:
            vport.counters.rx_frames += 1
            vport.counters.rx_bytes += len(frame)
        else:
            vport.counters.rx_truncated += 1
        rxkind = (RxKind.OKAY if fits else RxKind.TRUNCATED) | CLIENT_ETHERNET
        data = queues.RX_DATA.pack(rxkind, flags, len(frame), 0, 0, value, wqe.offset)
        rq.cq.post(data, rq.wq.number, is_sq=False)

    def _gather(self, sq: WorkQueue, wqe: Wqe) -> bytes:
        view = self.memory.view
        if sum(size for _, _, size in wqe.sges) > LARGEST_SEND:
            raise BadSend(f"more than {LARGEST_SEND} bytes")
        parts = [
            view(*run)
            for address, key, size in wqe.sges
            if size
            for run in self._runs(sq, address, key, size)
        ]
        frame = b"".join(parts)
        if len(frame) < frames.ETHERNET:
            raise BadSend(f"a frame of {len(frame)} bytes")
        return frame

    def _scatter(self, rq: WorkQueue, wqe: Wqe, frame: bytes | bytearray) -> bool:
        """Whether it fitted; a frame that does not is written as far as there is room."""
        rest = memoryview(frame)
        for address, key, size in wqe.sges:
            for at, length in self._runs(rq, address, key, min(size, len(rest))):
                self.memory.write(at, rest[:length])
                rest = rest[length:]
        return not rest

    def _runs(
        self, queue: WorkQueue, address: int, key: int, size: int
    ) -> Iterable[tuple[int, int]]:
        """Bus addresses of an SGE. A queue may use the keys of its own protection domain only."""
        if key == MANA_MKEY and queue.pdid == MANA_PDID:
            return ((address, size),)
        mr = self.function.keys.get(key)
        if mr is None or mr.pd.pdid != queue.pdid:
            raise DmaFault(address, size, f"memory key {key:#x} is not of pd {queue.pdid}")
        return mr.runs(address, size)

    def _foul(self, vport: Vport, detail: str) -> None:
        self.function.record.violation("tx-oob", detail, vport=vport.index)


def _outside(piece: Piece, tag: int | None) -> None:
    """A machine beyond the ports, at the end of a course; an unknown address would be flooded."""


def _finished(
    frame: bytes, word: int, flags: int, header_length: int, transport: int
) -> Iterable[Piece]:
    """What goes out for one WQE: segments of a large send, or the frame with its checksums.

    A checksum that is asked for is finished, or the frame does not go out.
    """
    if word & queues.WQE_OOB_IN_SGL:
        size = word >> queues.WQE_DATA_UNIT_SHIFT & queues.WQE_DATA_UNIT
        try:
            return [(*segment, True) for segment in frames.cut(frame, header_length, size)]
        except ValueError as error:
            raise BadSend(str(error)) from error
    headers = frames.parse(frame)
    if not flags & (_CHECKSUM_L4 | queues.TX_CHECKSUM_IP):
        return ((frame, headers, False),)
    if headers is None:
        raise BadSend("a checksum is asked for in what is not IP")
    whole = bytearray(frame)
    if flags & queues.TX_CHECKSUM_IP:
        if headers.version != 4:
            raise BadSend("a header checksum is asked for in what is not IPv4")
        frames.finish_ipv4(whole, headers)
    asked = [kind for flag, kind in _ASKED.items() if flags & flag]
    if asked:
        if asked != [headers.protocol] or not frames.finish_l4(whole, headers):
            raise BadSend(f"a checksum of protocol {asked} in one of {headers.protocol}")
        if headers.protocol == frames.TCP and transport != headers.l4:
            raise BadSend(f"TCP at {headers.l4}, by its sender at {transport}")
    return ((whole, headers, bool(asked)),)
