"""A driver in a few lines, for driving the NIC in process: guest memory is a bytearray."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from tests.lab.nic.config import HWC_MKEY, MANA_DOORBELL, MANA_MKEY, MANA_PDID, Config
from tests.lab.nic.device import DOORBELLS_AT, SHM_AT, Nic
from tests.lab.nic.memory import Memory
from tests.lab.nic.record import Record
from tests.lab.nic.wire import queues, smc
from tests.lab.nic.wire.messages import (
    MESSAGES,
    REQUEST_HEADER,
    RESPONSE_HEADER,
    DeviceType,
    Request,
)

BASE = 0x1_0000_0000
PAGE = 4096
PAGES = 512


@dataclass
class Ring:
    """The driver's side of a ring: consumer and producer positions as the driver keeps them."""

    number: int
    address: int
    size: int
    head: int = 0  # WQ: bytes posted. CQ, EQ: entries consumed, counted from N.
    handle: int = 0

    @classmethod
    def of_entries(cls, number: int, address: int, size: int, entry: int) -> Ring:
        return cls(number, address, size, size // entry)


@dataclass
class Vport:
    handle: int
    eq: Ring
    sq: Ring
    sq_cq: Ring
    rq: Ring
    rq_cq: Ring


class Driver:
    """Owns the memory, the NIC and the record; `fired` lists the vectors raised."""

    def __init__(self, config: Config | None = None) -> None:
        self.ram = bytearray(PAGES * PAGE)
        self.memory = Memory()
        self.memory.map(BASE, len(self.ram), memoryview(self.ram), writable=True)
        self.record = Record()
        self.fired: list[int] = []
        self.nic = Nic(config or Config(), self.memory, self.record, self.fired.append)
        self._next = BASE
        self.message, self.response = self.pages(1), self.pages(1)

    # Memory and registers

    def pages(self, count: int) -> int:
        at = self._next
        self._next += count * PAGE
        assert self._next <= BASE + len(self.ram), "out of guest memory"
        return at

    def peek(self, address: int, length: int) -> bytes:
        return bytes(self.ram[address - BASE : address - BASE + length])

    def poke(self, address: int, data: bytes) -> None:
        self.ram[address - BASE : address - BASE + len(data)] = data

    def ring(self, kind: int, value: int, page: int = 1) -> None:
        offset = DOORBELLS_AT + page * PAGE + kind
        self.nic.write(offset, (value & (1 << 64) - 1).to_bytes(8, "little"))

    def ring_cq(self, ring: Ring, *, arm: bool = True, kind: int = queues.DB_CQ) -> None:
        entry = queues.CQE_SIZE if kind == queues.DB_CQ else queues.EQE_SIZE
        index = ring.head % (ring.size // entry * 8)
        self.ring(kind, ring.number | index << 32 | arm << 63)

    def ring_eq(self, ring: Ring, *, arm: bool = True) -> None:
        self.ring_cq(ring, arm=arm, kind=queues.DB_EQ)

    def events(self, ring: Ring) -> list[tuple[int, int]]:
        """New EQEs as (type, first dword), by the owner rule that Linux follows."""
        found = []
        while True:
            raw = self._entry(ring, queues.EQE_SIZE)
            if raw is None:
                return found
            found.append((raw[12], int.from_bytes(raw[:4], "little")))

    def completions(self, ring: Ring) -> list[tuple[bytes, int, bool]]:
        """New CQEs as (data, queue, is_sq)."""
        found = []
        while True:
            raw = self._entry(ring, queues.CQE_SIZE)
            if raw is None:
                return found
            tail = int.from_bytes(raw[60:], "little")
            found.append((raw[:60], tail & queues.ID_MASK, bool(tail & queues.CQE_IS_SQ)))

    def _entry(self, ring: Ring, size: int) -> bytes | None:
        n = ring.size // size
        raw = self.peek(ring.address + ring.head % n * size, size)
        owner = raw[-1] >> 5
        if owner == (ring.head // n - 1) & 7:
            return None
        assert owner == (ring.head // n) & 7, f"overflow: owner {owner} at {ring.head}"
        ring.head += 1
        return raw

    # Shared memory and the command channel

    def write_window(self, data: bytes, at: int = 0) -> None:
        for offset in range(0, len(data), 4):
            self.nic.write(SHM_AT + at + offset, data[offset : offset + 4])

    def shared_memory_answer(self) -> smc.Header:
        return smc.Header.unpack(int.from_bytes(self.nic.read(SHM_AT + 28, 4), "little"))

    def establish(self) -> None:
        where = [self.pages(1) for _ in range(4)]
        for address in where:  # after a destroy pages are new, but a ring starts zeroed
            self.poke(address, bytes(PAGE))
        self.write_window(smc.Establish(*where).pack() + struct.pack("<I", smc.ESTABLISH))
        answer = self.shared_memory_answer()
        assert answer.response
        assert answer.status == smc.STATUS_OK
        self.eq = Ring.of_entries(0, where[0], PAGE, queues.EQE_SIZE)
        self.cq = Ring.of_entries(0, where[1], PAGE, queues.CQE_SIZE)
        self.init = self.events(self.eq)
        told = {value >> 24: value & 0xFFFFFF for kind, value in self.init if kind == 130}
        self.eq.number = self.init[0][1] & 0xFFFF
        self.cq.number = told[queues.InitData.CQ_ID]
        self.rq = Ring(told[queues.InitData.RQ_ID], where[2], PAGE)
        self.sq = Ring(told[queues.InitData.SQ_ID], where[3], PAGE)
        self.ring_eq(self.eq)
        self._post_response_buffer()

    def destroy(self) -> None:
        self.write_window(struct.pack("<I", smc.DESTROY), at=smc.HEADER_AT)

    def _post_response_buffer(self) -> None:
        self.post(self.rq, [(self.response, HWC_MKEY, PAGE)], bytes(8))
        self.ring(queues.DB_RQ, self.rq.number | self.rq.head << 32, page=0)

    def post(self, ring: Ring, sges: list[tuple[int, int, int]], oob: bytes, flags: int = 0) -> int:
        """Write a WQE at the head, wrapping like a driver; returns its offset."""
        code = {8: 2, 24: 6, 32: 7}[len(oob)]
        word = len(sges) | code << queues.WQE_OOB_SHIFT | flags
        wqe = (struct.pack("<II", 0, word) + oob).ljust(queues.sge_offset(len(oob)), b"\0")
        wqe += b"".join(queues.SGE.pack(*sge) for sge in sges)
        wqe = wqe.ljust(queues.wqe_length(len(oob), len(sges)), b"\0")
        start = ring.head
        for at in range(0, len(wqe), queues.BU):
            self.poke(ring.address + (ring.head % ring.size), wqe[at : at + queues.BU])
            ring.head = ring.head + queues.BU & 0xFFFFFFFF
        return start

    def send(self, message: bytes) -> bytes:
        """A whole message through the channel; what came back."""
        self.poke(self.message, message)
        oob = queues.HWC_TX_OOB.pack(0, 0, self.cq.number, self.sq.number)
        self.post(self.sq, [(self.message, HWC_MKEY, len(message))], oob)
        self.ring(queues.DB_SQ, self.sq.number | self.sq.head << 32, page=0)
        (data, queue, is_sq) = self.completions(self.cq)[-1]
        assert (queue, is_sq) == (self.rq.number, False)
        _, length = queues.HWC_RX_DATA.unpack(data)
        self.ring_cq(self.cq)
        answer = self.peek(self.response, length)
        self._post_response_buffer()
        return answer

    def request(
        self,
        request: Request,
        *,
        device: int = DeviceType.MANA,
        tail: bytes = b"",
        expect: int = 0,
        **fields: Any,
    ) -> Any:
        """Typed request and answer; `tail` follows the declared body. Checks the status."""
        layouts = MESSAGES[request]
        body = layouts.request.pack(**fields) + tail
        room = layouts.response.end
        header = REQUEST_HEADER.pack(
            code=request,
            size=REQUEST_HEADER.size + len(body),
            response_code=request,
            response_version=1,
            response_size=room,
            device_type=device,
            device_instance=1,
            activity=7,
        )
        answer = self.send(header + body)
        head = RESPONSE_HEADER.unpack(answer)
        assert head.status == expect, f"{request.name}: status {head.status:#x}"
        assert (head.code, head.activity, len(answer)) == (request, 7, room)
        return layouts.response.unpack(answer[RESPONSE_HEADER.size :])

    # Objects

    def region(self, size: int, address: int | None = None) -> tuple[int, int]:
        """A kernel queue's region: address and handle."""
        count = -(-size // PAGE)
        at = self.pages(count) if address is None else address
        self.poke(at, bytes(count * PAGE))
        made = self.request(
            Request.CREATE_DMA_REGION,
            length=size,
            pages=count,
            entries=count,
            tail=struct.pack(f"<{count}Q", *(at + PAGE * i for i in range(count))),
        )
        return at, made.handle

    def make_eq(self, *, vector: int = 1, device: int = DeviceType.MANA) -> Ring:
        at, region = self.region(PAGE)
        made = self.request(
            Request.CREATE_QUEUE,
            device=device,
            kind=queues.QueueKind.EQ,
            pdid=MANA_PDID,
            region=region,
            size=PAGE,
            msix=vector,
        )
        return Ring.of_entries(made.number, at, PAGE, queues.EQE_SIZE)

    def destroy_eq(self, eq: Ring, expect: int = 0) -> None:
        self.request(
            Request.DISABLE_QUEUE, kind=queues.QueueKind.EQ, number=eq.number, expect=expect
        )

    def make_wq(self, vport: int, kind: queues.QueueKind, eq: Ring) -> tuple[Ring, Ring]:
        wq_at, wq_region = self.region(PAGE)
        cq_at, cq_region = self.region(PAGE)
        made = self.request(
            Request.MANA_CREATE_WQ_OBJ,
            vport=vport,
            kind=kind,
            wq_region=wq_region,
            cq_region=cq_region,
            wq_size=PAGE,
            cq_size=PAGE,
            parent_eq=eq.number,
        )
        wq = Ring(made.wq, wq_at, PAGE, handle=made.handle)
        return wq, Ring.of_entries(made.cq, cq_at, PAGE, queues.CQE_SIZE)

    def destroy_wq(self, wq: Ring, kind: queues.QueueKind) -> None:
        self.request(Request.MANA_DESTROY_WQ_OBJ, kind=kind, handle=wq.handle)

    def register(self) -> None:
        self.request(Request.REGISTER_DEVICE)

    def take(self, port: int, pdid: int = MANA_PDID) -> None:
        self.request(Request.MANA_CONFIG_VPORT_TX, vport=port, pdid=pdid, doorbell=MANA_DOORBELL)

    def open(self, port: int, *, buffers: int = 16, room: int = 2048) -> Vport:
        """A netdev with one queue, receive buffers posted, receiving."""
        self.take(port)
        eq = self.make_eq()
        sq, sq_cq = self.make_wq(port, queues.QueueKind.SQ, eq)
        rq, rq_cq = self.make_wq(port, queues.QueueKind.RQ, eq)
        opened = Vport(port, eq, sq, sq_cq, rq, rq_cq)
        for ring in (sq_cq, rq_cq):
            self.ring_cq(ring)
        self.buffers = [self.pages(1) for _ in range(buffers)]
        for address in self.buffers:
            self.post(rq, [(address, MANA_MKEY, room)], bytes(8))
            self.ring(queues.DB_RQ, rq.number | rq.head << 32)
        self.request(
            Request.MANA_CONFIG_VPORT_RX,
            vport=port,
            entries=64,
            table_at=120,
            rx_enable=1,
            update_default=1,
            default=rq.handle,
            update_table=1,
            tail=bytes(1) + struct.pack("<64Q", *[rq.handle] * 64),
        )
        return opened

    def close(self, vport: Vport) -> None:
        self.request(Request.MANA_CONFIG_VPORT_RX, vport=vport.handle, rx_enable=0, rss_enable=0)
        self.destroy_wq(vport.rq, queues.QueueKind.RQ)
        self.destroy_wq(vport.sq, queues.QueueKind.SQ)
        self.destroy_eq(vport.eq)

    @property
    def rules(self) -> list[str]:
        """The rules broken so far."""
        return [violation["rule"] for violation in self.record.violations]


def started(config: Config | None = None) -> Driver:
    """Channel up, Ethernet device registered."""
    driver = Driver(config)
    driver.establish()
    driver.register()
    return driver
