"""Frames through the NIC, seen from a driver's rings."""

from __future__ import annotations

import struct

import pytest

from tests.lab.nic import frames
from tests.lab.nic.config import MANA_MKEY, Config
from tests.lab.nic.wire import queues
from tests.lab.nic.wire.messages import MrKind, Request
from tests.lab.nic.wire.queues import Event
from tests.unit.nic.driver import PAGE, Driver, Ring, Vport, started
from tests.unit.nic.test_frames import packet, verifies

ONE, TWO, THREE = (bytes.fromhex(f"02155d00000{port}") for port in (1, 2, 3))
BROADCAST = b"\xff" * 6
PAYLOAD = b"\x88\xb5" + bytes(range(100))
CHECKED = queues.RX_IP_GOOD | queues.RX_IP_BAD | queues.RX_TCP_GOOD | queues.RX_TCP_BAD
CHECKED |= queues.RX_UDP_GOOD | queues.RX_UDP_BAD


def oob(vport: Vport, flags: int = 0, *, vlan: int | None = None, at: int = 0) -> bytes:
    form = flags | vport.sq_cq.number << 8
    second = vport.sq.number >> 10 << 10 | at
    if vlan is None:
        return struct.pack("<II", form, second)
    return struct.pack("<IIIIII", form | 1, second, 1 << 3 | vlan << 20, 0, 0, 0)


def send(
    driver: Driver,
    vport: Vport,
    frame: bytes,
    flags: int = 0,
    *,
    vlan: int | None = None,
    at: int = 0,
) -> None:
    """Send in three pieces, as a driver does with fragments."""
    page = driver.pages(1)
    driver.poke(page, frame)
    cut = (20, 30)
    sges = [
        (page, MANA_MKEY, cut[0]),
        (page + cut[0], MANA_MKEY, cut[1]),
        (page + sum(cut), MANA_MKEY, len(frame) - sum(cut)),
    ]
    driver.post(vport.sq, sges, oob(vport, flags, vlan=vlan, at=at))
    driver.ring(queues.DB_SQ, vport.sq.number | vport.sq.head << 32)


class Net:
    """Two or three open ports of one driver."""

    def __init__(self, ports: int = 2, *, room: int = 2048) -> None:
        self.driver = started(Config(ports=ports))
        self.ports = []
        self.buffers = []
        for port in range(1, ports + 1):
            self.ports.append(self.driver.open(port, room=room))
            self.buffers.append(list(self.driver.buffers))

    def send(
        self, frame: bytes, flags: int = 0, *, port: int = 1, vlan: int | None = None, at: int = 0
    ) -> list[int]:
        """Send from a port; the results that its completions carry."""
        vport = self.ports[port - 1]
        send(self.driver, vport, frame, flags, vlan=vlan, at=at)
        found = self.driver.completions(vport.sq_cq)
        assert all((queue, is_sq) == (vport.sq.number, True) for _, queue, is_sq in found)
        return [data[0] for data, _, _ in found]

    def received(self, port: int) -> list[tuple[bytes, int]]:
        """New frames with the flags of their completions, from buffers in posting order."""
        vport = self.ports[port - 1]
        found = []
        for data, queue, is_sq in self.driver.completions(vport.rq_cq):
            assert (queue, is_sq) == (vport.rq.number, False)
            kind, flags, length = struct.unpack_from("<IIH", data)
            assert kind == queues.RxKind.OKAY | queues.CLIENT_ETHERNET
            found.append((self.driver.peek(self.buffers[port - 1].pop(0), length), flags))
        return found


OKAY = queues.TxResult.OKAY | queues.CLIENT_ETHERNET


def test_a_frame_reaches_the_port_it_names_and_no_other() -> None:
    net = Net(3)
    frame = THREE + ONE + PAYLOAD
    assert net.send(frame) == [OKAY]
    assert [len(net.received(port)) for port in (1, 2)] == [0, 0]
    assert net.received(3) == [(frame, 0)]


def test_broadcasts_reach_all_others() -> None:
    net = Net(3)
    net.send(BROADCAST + TWO + PAYLOAD, port=2)
    assert [len(net.received(port)) for port in (1, 2, 3)] == [1, 0, 1]


def test_addresses_behind_a_port_are_learnt() -> None:
    net = Net(3)
    other = bytes.fromhex("02aaaaaaaaaa")
    net.send(other + ONE + PAYLOAD)
    assert [len(net.received(port)) for port in (2, 3)] == [1, 1]
    net.send(BROADCAST + other + PAYLOAD, port=2)
    net.send(other + ONE + PAYLOAD)
    assert [len(net.received(port)) for port in (2, 3)] == [1, 1]


def test_nothing_comes_back_to_its_sender() -> None:
    net = Net()
    assert net.send(ONE + ONE + PAYLOAD) == [OKAY]
    assert net.received(1) == []


def test_a_closed_port_drops_and_counts() -> None:
    net = Net()
    net.driver.close(net.ports[1])
    assert net.send(TWO + ONE + PAYLOAD) == [OKAY]
    assert net.driver.nic.state()["vports"][1]["rx_disabled"] == 1
    assert net.driver.rules == []


def test_without_buffers_frames_are_dropped() -> None:
    net = Net()
    for _ in range(20):
        net.send(TWO + ONE + PAYLOAD)
    assert len(net.received(2)) == 16
    assert net.driver.nic.state()["vports"][1]["rx_no_wqe"] == 4


def test_a_frame_too_long_for_its_buffer_is_truncated() -> None:
    net = Net(room=60)
    net.send(TWO + ONE + PAYLOAD)
    ((data, _, _),) = net.driver.completions(net.ports[1].rq_cq)
    assert data[0] == queues.RxKind.TRUNCATED | queues.CLIENT_ETHERNET


def test_one_interrupt_per_arming() -> None:
    net = Net()
    net.driver.fired.clear()
    for _ in range(3):
        net.send(TWO + ONE + PAYLOAD)
    assert net.driver.fired == [1, 1]  # both ports' EQs, once each
    vport = net.ports[1]
    assert net.driver.events(vport.eq) == [(Event.COMPLETION, vport.rq_cq.number)]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("protocol", "ask", "good", "bad"),
    [
        (6, queues.TX_CHECKSUM_TCP, queues.RX_TCP_GOOD, queues.RX_TCP_BAD),
        (17, queues.TX_CHECKSUM_UDP, queues.RX_UDP_GOOD, queues.RX_UDP_BAD),
    ],
)
def test_checksums_are_finished_and_told_as_they_are(
    version: int, protocol: int, ask: int, good: int, bad: int
) -> None:
    """An unfinished one is finished where that is asked for; else it goes on, and is called bad."""
    net = Net()
    frame = packet(version, protocol, b"a payload", checksum=0x1234)
    at = (34 if version == 4 else 54) if protocol == 6 else 0
    assert net.send(frame, ask, at=at) == [OKAY]
    net.send(frame)
    (finished, flags), (untouched, wrong) = net.received(2)
    headers = frames.parse(finished)
    assert headers is not None
    assert verifies(finished, headers)
    assert flags & CHECKED == queues.RX_IP_GOOD | good
    assert untouched == frame
    assert wrong & CHECKED == queues.RX_IP_GOOD | bad
    net.send(finished)
    ((again, right),) = net.received(2)
    assert (again, right & CHECKED) == (finished, queues.RX_IP_GOOD | good)


def test_checksums_that_are_none_are_told_of_neither_way() -> None:
    net = Net()
    spoilt = bytearray(packet(4, 17, b"x" * 30))
    spoilt[24] ^= 1  # the header's
    for frame in (packet(4, 17, b"x" * 30), packet(6, 17, b"x" * 30), packet(4, 1, b"x" * 40)):
        net.send(frame)
    net.send(bytes(spoilt))
    net.send(TWO + ONE + PAYLOAD)
    told = [flags & CHECKED for _, flags in net.received(2)]
    ip = queues.RX_IP_GOOD
    assert told == [ip, ip | queues.RX_UDP_BAD, ip, queues.RX_IP_BAD, 0]


def test_a_header_checksum_is_finished_as_well() -> None:
    net = Net()
    frame = bytearray(packet(4, 17, b"x" * 30))
    frame[24:26] = bytes(2)
    net.send(bytes(frame), queues.TX_CHECKSUM_IP | queues.TX_CHECKSUM_UDP)
    ((_, flags),) = net.received(2)
    assert flags & CHECKED == queues.RX_IP_GOOD | queues.RX_UDP_GOOD


@pytest.mark.parametrize(
    ("frame", "ask", "at"),
    [
        (TWO + ONE + PAYLOAD, queues.TX_CHECKSUM_UDP, 0),
        (TWO + ONE + b"\x88\xa8\0\5" + PAYLOAD, queues.TX_CHECKSUM_UDP, 0),
        (packet(4, 17, b"x" * 30), queues.TX_CHECKSUM_TCP, 34),
        (packet(4, 6, b"x" * 30), queues.TX_CHECKSUM_UDP, 34),
        (packet(4, 6, b"x" * 30), queues.TX_CHECKSUM_TCP, 33),
        (packet(4, 6, b"x" * 30), queues.TX_CHECKSUM_TCP | queues.TX_CHECKSUM_UDP, 34),
        (packet(6, 17, b"x" * 30), queues.TX_CHECKSUM_IP, 0),
        (packet(4, 17, b"x" * 30)[:20] + b"\x20" + packet(4, 17, b"x" * 30)[21:],
         queues.TX_CHECKSUM_UDP, 0),
    ],
    ids=["no IP", "two tags", "UDP", "TCP", "elsewhere", "both", "IPv6", "fragment"],
)  # fmt: skip
def test_a_checksum_that_cannot_be_finished_is_not_passed_on(
    frame: bytes, ask: int, at: int
) -> None:
    net = Net()
    assert net.send(frame, ask, at=at) == [queues.TxResult.INVALID_OOB | queues.CLIENT_ETHERNET]
    assert net.received(2) == []


def test_tags_travel_beside_the_frame() -> None:
    net = Net()
    inline = TWO + ONE + b"\x81\x00\x60\x07" + PAYLOAD
    net.send(TWO + ONE + PAYLOAD, vlan=5)
    net.send(inline)
    net.send(inline, vlan=9)
    flags = [seen & 0x1FFF for _, seen in net.received(2)]
    present = queues.RX_VLAN_PRESENT
    assert flags == [5 | present, 7 | present, 9 | present]


def test_large_sends_arrive_in_segments() -> None:
    net = Net()
    frame = packet(4, 6, bytes(i % 251 for i in range(3000)))
    vport = net.ports[0]
    at = net.driver.pages(1)
    net.driver.poke(at, frame)
    word = queues.WQE_OOB_IN_SGL | 1000 << queues.WQE_DATA_UNIT_SHIFT
    sges = [(at, MANA_MKEY, 54), (at + 54, MANA_MKEY, len(frame) - 54)]
    net.driver.post(vport.sq, sges, oob(vport, queues.TX_CHECKSUM_TCP), word)
    net.driver.ring(queues.DB_SQ, vport.sq.number | vport.sq.head << 32)
    assert len(net.driver.completions(vport.sq_cq)) == 1
    pieces = [piece for piece, _ in net.received(2)]
    assert [len(piece) for piece in pieces] == [1054] * 3
    assert b"".join(piece[54:] for piece in pieces) == frame[54:]


@pytest.mark.parametrize(
    ("frame", "flags"), [(b"short", 0), (packet(4, 17, b"x" * 90), queues.WQE_OOB_IN_SGL)]
)
def test_what_cannot_be_sent_completes_with_an_error(frame: bytes, flags: int) -> None:
    net = Net()
    vport = net.ports[0]
    at = net.driver.pages(1)
    net.driver.poke(at, frame)
    net.driver.post(vport.sq, [(at, MANA_MKEY, len(frame))], oob(vport), flags)
    net.driver.ring(queues.DB_SQ, vport.sq.number | vport.sq.head << 32)
    ((data, _, _),) = net.driver.completions(vport.sq_cq)
    assert data[0] == queues.TxResult.INVALID_OOB | queues.CLIENT_ETHERNET


def test_good_completions_may_be_suppressed_but_bad_ones_not() -> None:
    net = Net()
    assert net.send(TWO + ONE + PAYLOAD, queues.TX_SUPPRESS_CQE) == []
    vport = net.ports[0]
    at = net.driver.pages(1)
    net.driver.post(vport.sq, [(at, 0x999, 64)], oob(vport, queues.TX_SUPPRESS_CQE))
    net.driver.ring(queues.DB_SQ, vport.sq.number | vport.sq.head << 32)
    ((data, _, _),) = net.driver.completions(vport.sq_cq)
    assert data[0] == queues.TxResult.GDMA_ERROR | queues.CLIENT_ETHERNET
    assert net.driver.rules == ["dma"]


def test_dma_outside_guest_memory_is_a_violation() -> None:
    net = Net()
    vport = net.ports[0]
    net.driver.post(vport.sq, [(0x1000, MANA_MKEY, 64)], oob(vport))
    net.driver.ring(queues.DB_SQ, vport.sq.number | vport.sq.head << 32)
    assert net.driver.rules == ["dma"]


def test_a_receive_buffer_that_is_gone_is_a_violation() -> None:
    net = Net()
    net.driver.memory.unmap(0, 1 << 62)
    lower = memoryview(net.driver.ram)[: -PAGE * 64]
    net.driver.memory.map(0x1_0000_0000, len(lower), lower, writable=True)
    vport = net.ports[1]
    function = net.driver.nic.function
    assert function is not None
    function.rqs[vport.rq.number].skip()
    net.driver.post(vport.rq, [(0x1000, MANA_MKEY, 2048)], bytes(8))
    net.driver.ring(queues.DB_RQ, vport.rq.number | vport.rq.head << 32)
    net.send(TWO + ONE + PAYLOAD)
    assert net.driver.rules == ["dma"]


class TestRawQp:
    """A user's PD: virtual addresses behind its own memory keys."""

    BASE_VA = 0x7F00_0000_0123

    def raw(self, net: Net) -> tuple[Vport, int, int]:
        """Port 1 handed over; the vport, its lkey, and where the MR's first page is."""
        driver = net.driver
        driver.close(net.ports[0])
        pd = driver.request(Request.CREATE_PD)
        first = driver.pages(1)
        driver.pages(3)
        second = driver.pages(1)
        region = driver.request(
            Request.CREATE_DMA_REGION,
            length=2 * PAGE - 0x123,
            offset=0x123,
            pages=2,
            entries=2,
            tail=struct.pack("<2Q", first, second),
        )
        mr = driver.request(
            Request.CREATE_MR,
            pd=pd.handle,
            kind=MrKind.GVA,
            region=region.handle,
            address=self.BASE_VA,
            access=3,
        )
        driver.take(1, pd.pdid)
        eq = driver.make_eq()
        sq, cq = driver.make_wq(1, queues.QueueKind.SQ, eq)
        self.second = second
        return Vport(1, eq, sq, cq, Ring(0, 0, 0), Ring(0, 0, 0)), mr.lkey, first

    def test_sends_through_its_memory_region(self) -> None:
        net = Net()
        vport, lkey, first = self.raw(net)
        frame = TWO + ONE + PAYLOAD
        split = 50
        at = PAGE - split  # the frame crosses from the first page into the second
        net.driver.poke(first + at, frame[:split])
        net.driver.poke(self.second, frame[split:])
        address = self.BASE_VA + at - 0x123
        net.driver.post(vport.sq, [(address, lkey, len(frame))], oob(vport))
        net.driver.ring(queues.DB_SQ, vport.sq.number | vport.sq.head << 32, page=3)
        assert net.received(2) == [(frame, 0)]
        assert net.driver.rules == []

    @pytest.mark.parametrize("beyond", [-1, 2 * PAGE])
    def test_not_beyond_its_memory_region(self, beyond: int) -> None:
        net = Net()
        vport, lkey, _ = self.raw(net)
        net.driver.post(vport.sq, [(self.BASE_VA + beyond, lkey, 60)], oob(vport))
        net.driver.ring(queues.DB_SQ, vport.sq.number | vport.sq.head << 32)
        assert net.driver.rules == ["dma"]

    def test_bus_addresses_are_the_kernels(self) -> None:
        net = Net()
        vport, _, first = self.raw(net)
        net.driver.post(vport.sq, [(first, MANA_MKEY, 60)], oob(vport))
        net.driver.ring(queues.DB_SQ, vport.sq.number | vport.sq.head << 32)
        assert net.driver.rules == ["dma"]


def test_rss_spreads_by_the_table() -> None:
    driver = started()
    sender = driver.open(1)
    driver.take(2)
    eq = driver.make_eq()
    pairs = [driver.make_wq(2, queues.QueueKind.RQ, eq) for _ in range(2)]
    for rq, _ in pairs:
        for _ in range(8):
            driver.post(rq, [(driver.pages(1), MANA_MKEY, 2048)], bytes(8))
        driver.ring(queues.DB_RQ, rq.number | rq.head << 32)
    handles = [rq.handle for rq, _ in pairs] * 32
    driver.request(
        Request.MANA_CONFIG_VPORT_RX,
        vport=2,
        entries=64,
        table_at=120,
        rx_enable=1,
        rss_enable=1,
        update_default=1,
        default=handles[0],
        update_table=1,
        update_key=1,
        key=bytes(range(1, 41)),
        hash_types=0x3F,
        tail=bytes(1) + struct.pack("<64Q", *handles),
    )
    for port in range(8):
        frame = bytearray(packet(4, 17, b"x" * 30))
        struct.pack_into(">H", frame, 34, 1000 + port)
        send(driver, sender, bytes(frame))
    total = 0
    for index, (_, cq) in enumerate(pairs):
        for data, _, _ in driver.completions(cq):
            (hashed,) = struct.unpack_from("<I", data, 16)
            assert hashed % 64 % 2 == index
            total += 1
    assert total == 8


def test_a_course_through_a_driver_that_forwards() -> None:
    """Into port 1's rings, out of port 2, and to port 3, each frame as it was."""
    net = Net(ports=3)
    count, window = 8, 4
    net.driver.nic.start_course(1, 2, THREE, count, 3, rewritten=False, window=window)
    passed = []
    for _ in range(count):
        for frame, _ in net.received(1):
            passed.append(frame)
            assert net.send(frame, port=2) == [OKAY]
    assert [frame for frame, _ in net.received(3)] == passed
    (course,) = net.driver.nic.courses()
    assert (course["seen"], course["done"], len(passed)) == (count, True, count)
    assert [course[name] for name in ("altered", "strange", "reordered")] == [0, 0, 0]
    assert net.driver.rules == []


def test_a_course_ends_with_the_driver() -> None:
    net = Net(ports=3)
    net.driver.nic.start_course(1, 2, THREE, 9, 3, rewritten=False, window=4)
    net.driver.nic.reset("test")
    assert net.driver.nic.courses() == []
