"""The data path: frames out of send queues to the fabric, and from it into receive queues.

Linux: mana_start_xmit(), mana_poll_tx_cq(), mana_process_rx_cqe(). OpenVMM: bnic.rs. DPDK: tx.c.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from tests.lab.nic import frames
from tests.lab.nic.config import MANA_MKEY, MANA_PDID
from tests.lab.nic.fabric import Fabric, Piece
from tests.lab.nic.function import Function
from tests.lab.nic.memory import DmaFault
from tests.lab.nic.objects import Vport, WqObject
from tests.lab.nic.rings import RingError, WorkQueue, Wqe
from tests.lab.nic.wire import queues
from tests.lab.nic.wire.queues import CLIENT_ETHERNET, RxKind, TxResult

_CHECKSUM_L4 = queues.TX_CHECKSUM_TCP | queues.TX_CHECKSUM_UDP


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

    def unplug(self) -> None:
        """The function is gone: no frame reaches its memory any more."""
        for station in self._stations:
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
            if tag is None:
                before = len(frame)
                frame, tag = frames.strip_vlan(frame)
                header_length -= before - len(frame)
            for piece in _finished(frame, wqe.word, flags, header_length):
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
        self._fabric.forward(self._stations[source.index], piece, tag)

    def _deliver(self, vport: Vport, piece: Piece, tag: int | None) -> None:
        frame, headers, good = piece
        counters = vport.counters
        if not vport.rx:
            counters.rx_disabled += 1
            return
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
        if good and headers is not None:
            tcp = headers.protocol == frames.TCP
            flags |= queues.RX_IP_GOOD | (queues.RX_TCP_GOOD if tcp else queues.RX_UDP_GOOD)
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


def _finished(frame: bytes, word: int, flags: int, header_length: int) -> Iterable[Piece]:
    """What goes out for one WQE: segments of a large send, or the frame with its checksums."""
    if word & queues.WQE_OOB_IN_SGL:
        size = word >> queues.WQE_DATA_UNIT_SHIFT & queues.WQE_DATA_UNIT
        try:
            return [(*segment, True) for segment in frames.cut(frame, header_length, size)]
        except ValueError as error:
            raise BadSend(str(error)) from error
    headers = frames.parse(frame)
    if headers is None or not flags & (_CHECKSUM_L4 | queues.TX_CHECKSUM_IP):
        return ((frame, headers, False),)
    whole = bytearray(frame)
    if flags & queues.TX_CHECKSUM_IP and headers.version == 4:
        frames.finish_ipv4(whole, headers)
    good = bool(flags & _CHECKSUM_L4) and frames.finish_l4(whole, headers)
    return ((whole, headers, good),)
