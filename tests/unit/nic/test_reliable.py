"""RC queue pairs of one function: data from a ring into the peer's memory, and what is told of it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab.nic.wire import queues
from tests.lab.nic.wire import rnic as wire
from tests.lab.nic.wire.messages import DeviceType, MrKind, Request
from tests.lab.nic.wire.rnic import Access, Op
from tests.unit.nic.driver import PAGE, Driver, Ring, started

MTU = 256
VIRTUAL = 0x7F00_0000_0000
PSN = 0xFFFFFE  # wraps within two packets
READY = wire.HAS_PATH_MTU | wire.HAS_DEST_QPN | wire.HAS_RQ_PSN | wire.HAS_SQ_PSN
ALL = Access.LOCAL_READ | Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE


@dataclass
class End:
    """One queue pair as its program sees it."""

    driver: Driver
    handle: int
    pd: int
    send_cq: Ring
    recv_cq: Ring
    requests: Ring
    reads: Ring
    receives: Ring
    memory: int
    key: int
    psn: int = PSN

    @property
    def number(self) -> int:
        return self.receives.number

    def ring(self, kind: int, ring: Ring) -> None:
        self.driver.ring(kind, ring.number | ring.head << 32)

    def arm(self, psn: int) -> None:
        self.driver.ring(queues.DB_RQ_CLIENT, self.reads.number | 1 << 24 | psn << 32)

    def receive(self, at: int, size: int) -> int:
        """Post a buffer; the offset of its WQE."""
        made = self.driver.post(self.receives, [(VIRTUAL + at, self.key, size)], bytes(8))
        self.ring(queues.DB_RQ, self.receives)
        return made

    def request(
        self,
        op: int,
        sges: list[tuple[int, int]],
        *rest: int,
        imm: int | None = None,
        key: int | None = None,
        length: int | None = None,
    ) -> None:
        total = sum(size for _, size in sges) if length is None else length
        body = struct.pack("<II", op | self.psn << 8, 1) + struct.pack(
            f"<{len(rest)}I", *rest
        ).ljust(16, b"\0")
        if imm is not None and op == Op.WRITE_IMM:
            body += struct.pack("<II", imm, 0)
        lkey = self.key if key is None else key
        self.driver.post(self.requests, [(VIRTUAL + at, lkey, size) for at, size in sges], body)
        self.psn = self.psn + max(1, -(-total // MTU)) & 0xFFFFFF
        self.ring(queues.DB_SQ, self.requests)

    def told(self, cq: Ring) -> list[tuple[int, ...]]:
        return [struct.unpack_from("<5I", data) for data, _, _ in self.driver.completions(cq)]

    def peek(self, at: int, size: int) -> bytes:
        return self.driver.peek(self.memory + at, size)

    def poke(self, at: int, data: bytes) -> None:
        self.driver.poke(self.memory + at, data)


class Rnic:
    def __init__(self) -> None:
        self.driver = driver = started()
        driver.request(Request.REGISTER_DEVICE, device=DeviceType.MANA_IB)
        self.eq = driver.make_eq(device=DeviceType.MANA_IB)
        made = driver.request(Request.MANA_IB_CREATE_ADAPTER, eq=self.eq.number)
        self.adapter = made.adapter

    def cq(self) -> tuple[int, Ring]:
        at, region = self.driver.region(PAGE)
        made = self.driver.request(
            Request.MANA_IB_CREATE_CQ, adapter=self.adapter, region=region, eq=self.eq.number
        )
        return made.handle, Ring.of_entries(made.number, at, PAGE, queues.CQE_SIZE)

    def end(self, rights: int = ALL) -> End:
        driver = self.driver
        pd = driver.request(Request.CREATE_PD)
        (send, send_cq), (receive, recv_cq) = self.cq(), self.cq()
        places = [driver.region(PAGE) for _ in range(4)]
        requester, responder, reads, receives = (handle for _, handle in places)
        made = driver.request(
            Request.MANA_IB_CREATE_RC_QP,
            adapter=self.adapter,
            pd=pd.handle,
            send_cq=send,
            recv_cq=receive,
            regions=[requester, responder, 0, reads, receives],
        )
        rings = [
            Ring(made.queues[place], at, PAGE)
            for place, (at, _) in zip((0, 1, 3, 4), places, strict=True)
        ]
        memory, region = driver.region(2 * PAGE)
        mr = driver.request(
            Request.CREATE_MR, pd=pd.handle, kind=MrKind.GVA, region=region, address=VIRTUAL,
            access=rights,
        )  # fmt: skip
        one, _, three, four = rings
        return End(
            driver, made.handle, pd.handle, send_cq, recv_cq, one, three, four, memory, mr.lkey
        )

    def state(self, end: End, state: int, mask: int = 0, **fields: int) -> None:
        self.driver.request(
            Request.MANA_IB_SET_QP_STATE,
            adapter=self.adapter, handle=end.handle, state=state, mask=mask, **fields,
        )  # fmt: skip

    def join(self, end: End, peer: End) -> None:
        way: dict[str, Any] = {"path_mtu": 1, "rq_psn": PSN, "sq_psn": PSN}
        self.state(end, wire.RTS, READY, dest_qpn=peer.number, **way)
        end.arm(PSN)


@pytest.fixture
def rnic() -> Rnic:
    return Rnic()


@pytest.fixture
def ends(rnic: Rnic) -> tuple[End, End]:
    one, other = rnic.end(), rnic.end()
    rnic.join(one, other)
    rnic.join(other, one)
    return one, other


def test_a_message_arrives_and_both_are_told(ends: tuple[End, End]) -> None:
    one, other = ends
    text = bytes(range(200)) * 3
    one.poke(100, text)
    offset = other.receive(4000, 1000)  # across a page
    one.request(Op.SEND_IMM, [(100, 250), (350, 350)], 0xABCD)
    assert other.peek(4000, 600) == text
    assert other.told(other.recv_cq) == [(4, 600, PSN, 0xABCD, offset)]
    last = PSN + 2 & 0xFFFFFF  # three packets
    assert one.told(one.send_cq) == [(7, 1, last, 0, 0)]
    one.arm(last + 1)
    other.receive(0, 10)
    one.request(Op.SEND, [(1, 0)])
    assert one.told(one.send_cq) == [(7, 2, last + 1, 0, 0)]
    assert one.driver.rules == []


def test_only_what_was_armed_for_is_told(ends: tuple[End, End]) -> None:
    """One completion covers all before it; an arming behind them is answered at once."""
    one, other = ends
    one.request(Op.WRITE, [(0, 8)], *remote(other, 0), 8)
    assert len(one.told(one.send_cq)) == 1
    for _ in range(3):
        one.request(Op.WRITE, [(0, 8)], *remote(other, 0), 8)
    assert one.told(one.send_cq) == []
    one.arm(PSN + 1)
    assert one.told(one.send_cq) == [(7, 4, PSN + 3 & 0xFFFFFF, 0, 0)]


def remote(end: End, at: int, key: int | None = None) -> tuple[int, int, int]:
    place = VIRTUAL + at
    return place >> 32, place & 0xFFFFFFFF, end.key if key is None else key


def test_writes_and_reads(ends: tuple[End, End]) -> None:
    one, other = ends
    one.poke(0, b"w" * 700)
    one.request(Op.WRITE, [(0, 700)], *remote(other, 3900), 700)
    assert other.peek(3900, 700) == b"w" * 700
    assert other.told(other.recv_cq) == []
    offset = other.receive(0, 0)
    one.request(Op.WRITE_IMM, [(0, 5)], *remote(other, 0), 5, imm=7)
    assert [told[0] for told in other.told(other.recv_cq)] == [6]
    assert other.peek(0, 5) == b"wwwww"
    assert offset == 0
    other.poke(64, b"remote")
    one.driver.post(one.reads, [(VIRTUAL + 5000, one.key, 6)], bytes(8))
    one.ring(queues.DB_RQ, one.reads)
    one.request(Op.READ, [(0, 0)], *remote(other, 64), 6, length=6)
    assert one.peek(5000, 6) == b"remote"
    assert one.driver.rules == []


def test_a_request_waits_for_a_buffer_and_for_its_peer(rnic: Rnic) -> None:
    one, other = rnic.end(), rnic.end()
    rnic.join(one, other)
    one.poke(0, b"early")
    one.request(Op.SEND, [(0, 5)])
    rnic.join(other, one)
    assert one.told(one.send_cq) == []
    other.receive(0, 5)
    assert other.peek(0, 5) == b"early"
    assert len(one.told(one.send_cq)) == 1
    rnic.state(other, wire.RESET)
    one.request(Op.SEND, [(0, 5)])
    rnic.driver.request(Request.MANA_IB_DESTROY_RNIC_QP, adapter=rnic.adapter, handle=other.handle)
    assert one.told(one.send_cq) == []
    assert rnic.driver.rules == []


def test_begun_again_its_rings_start_at_zero(rnic: Rnic, ends: tuple[End, End]) -> None:
    one, other = ends
    other.receive(0, 5)
    one.request(Op.SEND, [(0, 5)])
    for end in ends:
        rnic.state(end, wire.RESET)
        end.requests.head = end.receives.head = 0
        end.psn = PSN
    one.told(one.send_cq)
    rnic.join(one, other)
    rnic.join(other, one)
    other.receive(0, 5)
    one.request(Op.SEND, [(0, 5)])
    assert len(one.told(one.send_cq)) == 1


SPOILT = {
    "too long": (Op.SEND, [(0, 50)], {}, wire.REMOTE_INVALID, []),
    "no such rkey": (Op.WRITE, [(0, 8)], {"rkey": 0x99}, wire.REMOTE_ACCESS, []),
    "beyond": (Op.WRITE, [(0, 8)], {"at": 2 * PAGE - 4}, wire.REMOTE_ACCESS, []),
    "opcode": (11, [(0, 8)], {}, wire.UNSUPPORTED, ["rc"]),
    "lkey": (Op.SEND, [(0, 8)], {"lkey": 0x99}, wire.LOCAL_FAULT, ["dma"]),
    "of the peer": (Op.SEND, [(0, 8)], {"lkey": None}, wire.LOCAL_FAULT, ["dma"]),
    "no buffer": (Op.READ, [(0, 0)], {}, wire.BAD_WQE, []),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_cannot_be_done_ends_the_queue_pair(ends: tuple[End, End], name: str) -> None:
    op, sges, how, code, rules = SPOILT[name]
    one, other = ends
    other.receive(0, 20)
    rest = (*remote(other, how.get("at", 0), how.get("rkey")), 8) if op in {5, 7} else ()
    lkey = how["lkey"] or other.key if "lkey" in how else None
    one.request(op, sges, *rest, key=lkey)
    (error,) = one.told(one.send_cq)
    assert (error[0] & 0xFF, error[0] >> 8, error[2]) == (34, code, PSN)
    assert one.driver.rules == rules
    one.request(Op.WRITE, [(0, 8)], *remote(other, 0), 8)
    assert one.told(one.send_cq) == [], "it is in error"


def test_a_right_that_was_not_given(rnic: Rnic) -> None:
    one, other = rnic.end(), rnic.end(Access.LOCAL_READ | Access.LOCAL_WRITE)
    rnic.join(one, other)
    rnic.join(other, one)
    one.poke(0, b"x")
    one.request(Op.WRITE, [(0, 1)], *remote(other, 0), 1)
    assert one.told(one.send_cq)[0][0] >> 8 == wire.REMOTE_ACCESS
    assert other.peek(0, 1) == b"\0"


def test_arming_of_a_queue_that_is_none(ends: tuple[End, End]) -> None:
    one, _ = ends
    one.driver.ring(queues.DB_RQ_CLIENT, one.receives.number)
    one.driver.ring(queues.DB_RQ_CLIENT, 0x7000)
    assert one.driver.rules == ["dead-doorbell", "dead-doorbell"]


def test_the_record_says_who_talks_to_whom(rnic: Rnic, ends: tuple[End, End]) -> None:
    one, other = ends
    ask = {"adapter": rnic.adapter, "kind": 2}
    address = bytes(range(16))
    for operation, expected in ((1, ["0f0e0d0c0b0a09080706050403020100"]), (2, [])):
        rnic.driver.request(
            Request.MANA_IB_CONFIG_IP_ADDR, operation=operation, address=address, **ask
        )
        assert rnic.driver.nic.state()["gids"] == expected
    other.receive(0, 20)
    one.request(Op.SEND, [(0, 20)])
    found = {qp["handle"]: qp for qp in rnic.driver.nic.objects()["qp"]}
    assert found[one.handle]["peer"] == other.number
    assert (found[one.handle]["out"], found[other.handle]["in"]) == (20, 20)
