"""A hostile guest, and a hostile client: the NIC goes on, and writes nowhere but where it may.

What a guest can reach of the device is drawn from a seed: registers, doorbells, rings, messages. In
every life some of it is as a driver would have it, or nothing would get beyond the first check.
MANACTL_SEED draws the same again.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import random
import select
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.lab.nic.client import NicClient
from tests.lab.nic.config import HWC_MKEY, MANA_MKEY, MSIX_VECTORS, Config
from tests.lab.nic.device import DOORBELLS_AT, SHM_AT
from tests.lab.nic.faults import Fault
from tests.lab.nic.memory import DmaFault
from tests.lab.nic.record import Record
from tests.lab.nic.rings import RingError
from tests.lab.nic.server import Server
from tests.lab.nic.wire import queues, smc
from tests.lab.nic.wire import rnic as rnic_wire
from tests.lab.nic.wire import vfio_user as wire
from tests.lab.nic.wire.layout import Layout
from tests.lab.nic.wire.messages import MESSAGES, REQUEST_HEADER, Request
from tests.lab.nic.wire.vfio_user import Command
from tests.unit.nic.driver import BASE, PAGE, PAGES, Ring
from tests.unit.nic.test_reliable import Rnic

FAULTS = (*[{"held": True}, {"delay": 1.0}, {"status": 5}] * 5, {"lost": True})
GUARD = 16 * PAGE
MARK = 0xA5
LIVES, OPERATIONS = 12, 400
MANY = 1500  # lives
MESSAGES_SENT = 3000
MANY_MESSAGES = 400_000
SIZES = (0, 1, 4, 8, 32, 64, 100, 4095, 4096, 4097, 1 << 20, 1 << 31, (1 << 32) - 1)
NUMBERS = (0, 1, 2, 3, 4, 5, 7, 31, 63, 64, 255, 0xFFFF, 1 << 24, 1 << 31, (1 << 32) - 1)
HUGE = (1 << 32, 1 << 47, 1 << 63, (1 << 64) - PAGE, (1 << 64) - 1)
Kind = int | bytes | tuple[int, ...]
EXPECTED = (DmaFault, RingError)  # of late answers; the server's loop makes violations of them
DOORBELLS = (queues.DB_SQ, queues.DB_RQ, queues.DB_RQ_CLIENT, queues.DB_CQ, queues.DB_DIM,
             queues.DB_EQ)  # fmt: skip


def kinds(layout: Layout) -> dict[str, Kind]:
    """The fields of a message: the largest number, or as many bytes, that each may be."""
    found: dict[str, Kind] = {}
    for name in layout.names:
        zero = getattr(layout.unpack(b""), name)
        if isinstance(zero, bytes):
            found[name] = zero
            continue
        count = len(zero) if isinstance(zero, tuple) else 0
        for bits in (8, 16, 32, 64):
            most = (1 << bits) - 1
            with contextlib.suppress(struct.error):
                layout.pack(**{name: (most,) * count if count else most})
                found[name] = (most,) * count if count else most
    return found


class Guest:
    """One life: a driver that has brought everything up, and then loses its mind."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self.rnic = Rnic()
        self.driver = self.rnic.driver
        self.nic = self.driver.nic
        self.vport = self.driver.open(1, buffers=4)
        ends = [self.rnic.end() for _ in range(2)]
        self.rnic.join(ends[0], ends[1])
        self.rnic.join(ends[1], ends[0])
        for end in ends:
            end.receive(0, 500)
        self.rings = [self.vport.sq, self.vport.rq, self.driver.sq, self.driver.rq]
        self.rings += [ring for end in ends for ring in (end.requests, end.receives, end.reads)]
        assert self.driver.rules == []
        self._fence()
        self.sense = 1.0  # how likely a field of a message is one that fits
        self.due: list[Callable[[], None]] = []
        self.acts: list[Callable[[], None]] = [
            *[self.request] * 6, *[self.work] * 8, *[self.doorbell] * 3, self.scribble,
            self.registers, self.remap, self.fault, self.channel,
        ]  # fmt: skip

    def _fence(self) -> None:
        """The guest's memory from here on: a part of a larger one, read-only in part, with a hole."""
        driver = self.driver
        whole = bytearray([MARK]) * (len(driver.ram) + 2 * GUARD)
        self.whole = memoryview(whole)
        inside = self.whole[GUARD:-GUARD]
        inside[:] = driver.ram
        driver.ram = inside  # type: ignore[assignment]
        self.used = driver._next - BASE
        self.read_only = slice(self.used, self.used + 4 * PAGE)
        self.hole = slice(self.used + 4 * PAGE, self.used + 8 * PAGE)
        for part in (self.read_only, self.hole):
            inside[part] = bytes([MARK]) * (4 * PAGE)
        self.remap()

    def remap(self) -> None:
        memory, inside = self.driver.memory, self.driver.ram
        memory.clear()
        end = len(inside)
        memory.map(BASE, self.used, memoryview(inside)[: self.used], writable=True)
        frozen = memoryview(inside)[self.read_only].toreadonly()
        memory.map(BASE + self.read_only.start, 4 * PAGE, frozen, writable=False)
        rest = memoryview(inside)[self.hole.stop :]
        memory.map(BASE + self.hole.stop, end - self.hole.stop, rest, writable=True)

    def untouched(self) -> bool:
        """Whether nothing was written outside of what is mapped for writing."""
        inside = self.driver.ram
        parts = (self.whole[:GUARD], self.whole[-GUARD:], inside[self.read_only], inside[self.hole])
        return all(bytes(part) == bytes([MARK]) * len(part) for part in parts)

    def live(self, operations: int) -> None:
        for _ in range(operations):
            self.random.choice(self.acts)()
            self.random.shuffle(self.due)
            if self.due and self.random.random() < 0.2:
                with contextlib.suppress(*EXPECTED):
                    self.due.pop()()

    def next_driver(self) -> None:
        """It serves the next guest as ever."""
        with contextlib.suppress(*EXPECTED):
            self.nic.faults.let_go()
        self.nic.faults.clear()
        self.nic.reset("the guest is gone")
        self.remap()
        self.driver._next = BASE + self.hole.stop
        self.driver.establish()
        self.driver.register()
        self.driver.open(2, buffers=2)

    # What is drawn

    def number(self) -> int:
        draw = self.random.random()
        known = self._known()
        if draw < 0.6 and known:
            return self.random.choice(known)
        if draw < 0.9:
            return self.random.choice(NUMBERS)
        return self.random.choice(HUGE) if draw < 0.95 else self.random.getrandbits(64)

    def _known(self) -> list[int]:
        function = self.nic.function
        if function is None:
            return []
        tables = (function.regions, function.pds, function.mrs, function.eqs, function.cqs,
                  function.qps, function.rnic_cqs, function.keys)  # fmt: skip
        found = [self.random.choice(list(table)) for table in tables if table]
        found += [handle for _, handle in list(function.wqs)[:4]]
        return found + ([function.adapter] if function.adapter else [])

    def address(self) -> int:
        edges = (0, self.used, self.read_only.stop, self.hole.stop, PAGES * PAGE)
        draw = self.random.random()
        if draw < 0.5:
            return BASE + self.random.randrange(PAGES * PAGE)
        if draw < 0.8:
            return BASE + self.random.choice(edges) + self.random.choice((-64, -1, 0, 1))
        return self.random.choice((*HUGE, 0, 0x7F00_0000_0000, 0x7F00_0000_1FFF))

    def fields(self, layout: struct.Struct | int) -> bytes:
        size = layout if isinstance(layout, int) else layout.size
        words = [struct.pack("<Q", self.number() & (1 << 64) - 1) for _ in range(size // 8 + 1)]
        return b"".join(words)[:size]

    # What is done

    def request(self) -> None:
        """A message of a known kind (or none), of a length that fits (or not), in known fields."""
        code = self.random.choice((*Request, 0x7777, *[Request.CREATE_DMA_REGION] * 8))
        self.sense = self.random.choice((0.5, 0.9, 1.0, 1.0))
        body = bytearray(self.fields(self.random.choice((0, 8, 60, 140, 400, 4056))))
        layout = MESSAGES[Request(code)].request if code in MESSAGES else Layout()
        if code in MESSAGES and self.random.random() < 0.8:
            values = {name: self.value(kind, name) for name, kind in kinds(layout).items()}
            body[: layout.end - layout.base] = layout.pack(**values)
        if code in {Request.CREATE_DMA_REGION, Request.DMA_REGION_ADD_PAGES} and self.sense > 0.5:
            pages = [self.address() & ~0xFFF for _ in range(3)]
            body = body[: layout.end - layout.base] + struct.pack("<3Q", *pages)
        header = REQUEST_HEADER.pack(
            code=code,
            size=self.random.choice((40 + len(body), *SIZES)),
            response_code=code,
            response_version=1,
            response_size=self.random.choice(SIZES),
            device_type=self.random.randrange(5),
        )
        message = bytes(header + body)[: self.random.choice((8, 40, *[PAGE] * 30))]
        driver = self.driver
        driver.poke(driver.message, message)
        oob = queues.HWC_TX_OOB.pack(0, 0, driver.cq.number, driver.sq.number)
        length = len(message) if self.random.random() < 0.9 else self.random.choice(SIZES)
        self.in_step(driver.sq, queues.DB_SQ)
        driver.post(driver.sq, [(driver.message, HWC_MKEY, length)], oob)
        driver.ring(queues.DB_SQ, driver.sq.number | driver.sq.head << 32, page=0)
        if self.random.random() < 0.9:
            self.in_step(driver.rq, queues.DB_RQ)
            at = driver.response if self.random.random() < 0.9 else self.address()
            driver.post(driver.rq, [(at, HWC_MKEY, self.random.choice((PAGE, *SIZES)))], bytes(8))
            driver.ring(queues.DB_RQ, driver.rq.number | driver.rq.head << 32, page=0)

    def value(self, kind: Kind, name: str = "") -> Any:
        if isinstance(kind, tuple):
            return tuple(self.value(each, name) for each in kind)
        if isinstance(kind, bytes):
            return self.random.randbytes(len(kind))
        fitting = self.fitting(name) if self.random.random() < self.sense else []
        return (self.random.choice(fitting) if fitting else self.number()) & kind

    def fitting(self, name: str) -> list[int]:
        """What a driver might put there."""
        function = self.nic.function
        if function is None:
            return []
        if "region" in name:
            return [each.handle for each in function.regions.values() if each.owner is None]
        tables = {
            "adapter": [function.adapter or 0],
            "pd": function.pds,
            "eq": function.eqs,
            "parent_eq": function.eqs,
            "send_cq": function.rnic_cqs,
            "recv_cq": function.rnic_cqs,
            "vport": (1, 2),
            "kind": (1, 2, 3, 4),
            "state": range(8),
            "page_type": (0, 0, 0, 0, 1),
            "offset": (0, 0, 16),
            "entries": (1, 2, 3, 3),
            "pages": (3, 3, 3, 2),
            "length": (64, 100, PAGE, 2 * PAGE),
            "size": (16, 64, PAGE),
            "wq_size": (32, 100, PAGE),
            "cq_size": (64, 100, PAGE),
            "msix": (1, 2, MSIX_VECTORS),
        }
        return list(tables.get(name, ()))

    def work(self) -> None:
        """A WQE in a ring of any kind, its doorbell with it."""
        ring = self.random.choice(self.rings)
        size = self.random.choice((8, 24, 24, 32))
        oob = bytearray(self.fields(size))
        if size >= 24 and self.random.random() < 0.7:
            op = self.random.choice((*rnic_wire.Op, 11))
            struct.pack_into("<I", oob, 0, op | self.random.choice(self._psns()) << 8)
        elif self.random.random() < 0.7:
            flags = self.random.getrandbits(8) | self.vport.sq_cq.number << 8
            struct.pack_into("<II", oob, 0, flags, self.random.getrandbits(10))
        keys = (HWC_MKEY, MANA_MKEY, self.number() & 0xFFFFFFFF)
        sges = [
            (self.address(), self.random.choice(keys), self.random.choice((60, 300, *SIZES)))
            for _ in range(self.random.choice((0, 1, 1, 2, 5, 15)))
        ]
        flags = self.random.choice((0, 0, 0, queues.WQE_OOB_IN_SGL, self.random.getrandbits(32)))
        kind = self.random.choice((queues.DB_SQ, queues.DB_RQ))
        self.in_step(ring, kind)
        self.driver.post(ring, sges, bytes(oob), flags & ~queues.WQE_SGES)
        self.driver.ring(kind, ring.number | ring.head << 32)

    def in_step(self, ring: Ring, kind: int) -> None:
        """Mostly: go on where the device is, whatever doorbells have come before."""
        function = self.nic.function
        if function is None or self.random.random() < 0.1:
            return
        queue = (function.sqs if kind == queues.DB_SQ else function.rqs).get(ring.number)
        if queue is not None:
            ring.head = queue.tail & ~(queues.BU - 1)

    def _psns(self) -> list[int]:
        function = self.nic.function
        known = [qp.next_psn for qp in function.qps.values()] if function else []
        return [*known, self.random.getrandbits(24)]

    def doorbell(self) -> None:
        ring = self.random.choice(self.rings)
        number = ring.number if self.random.random() < 0.7 else self.number()
        index = self.random.choice((ring.head, ring.head + 32, self.random.getrandbits(32)))
        value = number | index << 32 | self.random.getrandbits(1) << 63
        self.driver.ring(self.random.choice((*DOORBELLS, 0x7F8)), value, self.random.randrange(4))

    def scribble(self) -> None:
        """Anywhere in what the rings, messages and frames are made of."""
        at = self.random.randrange(self.used - 64)
        data = self.random.randbytes(self.random.choice((1, 4, 8, 64)))
        self.driver.poke(BASE + at, data)

    def registers(self) -> None:
        at = self.random.choice((0, 8, SHM_AT - 2, SHM_AT + 20, SHM_AT + smc.WINDOW, 1 << 23))
        self.nic.read(at, self.random.choice((0, 1, 4, 8, 64)))
        self.nic.write(at, self.random.randbytes(self.random.choice((0, 1, 2, 4, 8, 16))))

    def channel(self) -> None:
        """The command channel destroyed, or re-created somewhere: rarely where it was."""
        if self.random.random() < 0.95:
            return
        kind = self.random.choice((smc.ESTABLISH, smc.DESTROY, 7))
        where = smc.Establish(*(self.address() for _ in range(4))).pack()
        where = where[:-2] + struct.pack("<H", self.random.choice((0, 1, MSIX_VECTORS, 0xFFFF)))
        self.driver.write_window(where + struct.pack("<I", kind | self.random.getrandbits(1) << 8))

    def fault(self) -> None:
        """Answers that are kept or late, and come when the rings are others."""
        name = self.random.choice(list(Request)).name
        kind = self.random.choice(FAULTS)
        self.nic.faults.add(Fault(request=name, **kind))  # type: ignore[arg-type]
        self.due += [self.nic.faults.let_go, lambda: self.nic.set_link(True)]
        if self.nic.function is not None:
            self.nic.function.later = lambda _seconds, act: self.due.append(act)


@pytest.fixture
def seed() -> int:
    given = os.environ.get("MANACTL_SEED")
    found = int(given) if given else random.SystemRandom().randrange(1 << 31)
    print(f"MANACTL_SEED={found}")
    return found


def lives(seed: int, count: int) -> Counter[str]:
    """So many guests; which rules they broke how often."""
    broken: Counter[str] = Counter()
    for life in range(count):
        guest = Guest(f"{seed}/{life}")
        try:
            guest.live(OPERATIONS)
        except BaseException as error:
            error.add_note(f"life {life} of MANACTL_SEED={seed}")
            raise
        assert "exception" not in guest.driver.rules, (life, guest.driver.record.violations)
        assert guest.untouched(), life
        broken.update(guest.driver.rules)
        guest.next_driver()
    return broken


def test_a_hostile_guest(seed: int) -> None:
    broken = lives(seed, LIVES)
    # What was drawn went deep enough to matter.
    assert {"dma", "ring", "bad-handle", "dead-doorbell", "tx-oob"} <= set(broken)


@pytest.mark.soak
def test_many_hostile_guests(seed: int) -> None:
    print(lives(seed, MANY))


class HostileClient:
    """What QEMU's end of the socket might send if it were somebody else."""

    def __init__(self, seed: int, device: Path) -> None:
        self.random = random.Random(seed)
        self.device = device
        self.ram = os.memfd_create("ram")
        os.pwrite(self.ram, bytes([MARK]) * (64 * PAGE), 0)
        self.fds = [self.ram, os.eventfd(0), *os.pipe(), os.memfd_create("empty")]
        self.socket: socket.socket | None = None
        self.sent: Counter[str] = Counter()

    def close(self) -> None:
        self.hang_up()
        for fd in self.fds:
            os.close(fd)

    def hang_up(self) -> None:
        if self.socket is not None:
            self.socket.close()
        self.socket = None

    def connected(self) -> socket.socket:
        if self.socket is None:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(30)
            self.socket.connect(os.fspath(self.device))
        return self.socket

    def ask(self, command: int, payload: bytes = b"") -> tuple[int, bytes]:
        """A message as it should be, and its answer."""
        while True:  # turned away as long as the one before has not been seen to go
            with contextlib.suppress(ConnectionError, struct.error):
                return self._answer(command, payload)
            self.hang_up()

    def _answer(self, command: int, payload: bytes) -> tuple[int, bytes]:
        peer = self.connected()
        peer.sendall(wire.HEADER.pack(1, command, 16 + len(payload), 0, 0) + payload)
        _, _, size, _, error = wire.HEADER.unpack(peer.recv(16, socket.MSG_WAITALL))
        return error, peer.recv(size - 16, socket.MSG_WAITALL) if size > 16 else b""

    def send(self) -> None:
        command = self.random.choice((*Command, *Command, 0, 99))
        fields = self._fields(command)
        payload = fields[: self.random.choice((0, 3, 15, len(fields), *[len(fields)] * 16))]
        size = 16 + len(payload)
        if self.random.random() < 0.01:
            size = self.random.choice((0, 15, size + 8, 1 << 21, (1 << 32) - 1))
        flags = self.random.choice((0, 0, 0, wire.FLAG_NO_REPLY, wire.FLAG_NO_REPLY, 0x40))
        if self.random.random() < 0.01:
            flags = self.random.getrandbits(32)
        number = self.random.randrange(0x1000)
        message = wire.HEADER.pack(number, command, size, flags, 0) + payload
        fds = self.random.choices(self.fds, k=self.random.choice((0, 0, 1, 1, 2, 16)))
        if command == Command.DMA_MAP and self.random.random() < 0.7:
            fds = [self.ram]
        at = self.random.choice((len(message), len(message), 1, 16, len(message) // 2)) or 1
        self.sent["messages"] += 1
        try:
            peer = self.connected()
            rights = array.array("i", fds).tobytes()
            control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if fds else []
            self._push(peer, message[:at], control)
            self._push(peer, message[at:], [])
        except (BrokenPipeError, ConnectionResetError):
            self.sent["thrown out"] += 1
            self.hang_up()
            return
        if self.random.random() < 0.01:
            self.sent["hung up"] += 1
            self.hang_up()

    def _push(self, peer: socket.socket, data: bytes, control: list[Any]) -> None:
        """Send, and throw away the answers that have come: the server waits for us to take them."""
        while data:
            readable, writable, _ = select.select([peer], [peer], [], 30)
            if readable and not peer.recv(1 << 20):
                raise ConnectionResetError
            if writable:
                data, control = data[peer.sendmsg([data], control) :], []

    def _fields(self, command: int) -> bytes:
        draw = self.random
        edge = (0, 1, PAGE, 2 * PAGE, 63 * PAGE, 64 * PAGE, *HUGE)
        if command in {Command.DMA_MAP, Command.DMA_UNMAP}:
            words = [draw.choice(edge) for _ in range(3)]
            if draw.random() < 0.6:  # a part of the memory, its first and last pages never
                words = [PAGE * draw.randrange(8, 40), BASE + PAGE * draw.randrange(64), 8 * PAGE]
            if command == Command.DMA_UNMAP:
                words = words[1:]
            return struct.pack(f"<II{len(words)}Q", 32, draw.randrange(4), *words)
        if command == Command.DEVICE_SET_IRQS:
            flags = draw.choice((wire.IRQ_DATA_NONE, wire.IRQ_DATA_EVENTFD, 2, 0x20))
            index = draw.choice((2, 2, 2, 0, 99))
            return struct.pack("<IIIII", 20, flags, index, *draw.choices((0, 1, 2, *NUMBERS), k=2))
        if command in {Command.REGION_READ, Command.REGION_WRITE}:
            region = draw.choice((0, 0, 0, wire.REGION_CONFIG, 4, 9, 99))
            at = draw.choice((0, 4, 0x10, 0x69, SHM_AT, SHM_AT + 28, DOORBELLS_AT + PAGE, *HUGE))
            data = draw.randbytes(draw.choice((0, 1, 4, 8, 300)))
            count = len(data) if draw.random() < 0.9 else draw.choice(NUMBERS)
            if command == Command.REGION_READ:
                count, data = draw.choice((0, 1, 4, 64, 1 << 20, (1 << 32) - 1)), b""
            return wire.REGION_RW.pack(at, region, count) + data
        return draw.randbytes(draw.choice((4, 16, 20, 32, 100)))


@contextlib.contextmanager
def served(tmp_path: Path, record: Record | None = None) -> Iterator[tuple[Path, NicClient]]:
    device, control = tmp_path / "nic.sock", tmp_path / "nic.ctl"
    server = Server(Config(), device, control, record or Record())
    with running(server, control) as oracle:
        yield device, oracle


@contextlib.contextmanager
def running(server: Server, control: Path) -> Iterator[NicClient]:
    thread = threading.Thread(target=server.run)
    thread.start()
    oracle = NicClient(control)
    try:
        yield oracle
    finally:
        oracle.quit()
        thread.join(30)
    assert not thread.is_alive()


def hostile(seed: int, tmp_path: Path, messages: int) -> Counter[str]:
    """So many messages of a client that knows what they look like; what became of them."""
    record, before = Record(), len(os.listdir("/proc/self/fd"))
    with served(tmp_path, record) as (device, oracle):
        client = HostileClient(seed, device)
        for _ in range(messages):
            client.send()
        client.hang_up()
        # The next one is served as ever, and finds the device as after power-on.
        error, reply = client.ask(Command.VERSION, wire.VERSION.pack(0, 0) + b"{}\0")
        assert (error, wire.VERSION.unpack_from(reply)) == (0, (0, 0))
        error, reply = client.ask(Command.REGION_READ, wire.REGION_RW.pack(8, 0, 8))
        assert (error, int.from_bytes(reply[16:], "little")) == (0, DOORBELLS_AT)
        assert oracle.ask("state")["hwc"] is False
        for at in (0, 60 * PAGE):
            assert os.pread(client.ram, 4 * PAGE, at) == bytes([MARK]) * (4 * PAGE)
        client.close()
    assert [entry for entry in record.history if entry.get("rule") == "exception"] == []
    assert len(os.listdir("/proc/self/fd")) == before, "descriptors were left open"
    return client.sent


def test_a_hostile_client(seed: int, tmp_path: Path) -> None:
    sent = hostile(seed, tmp_path, MESSAGES_SENT)
    assert {"messages", "thrown out", "hung up"} <= set(sent)


@pytest.mark.soak
def test_a_hostile_client_for_long(seed: int, tmp_path: Path) -> None:
    print(hostile(seed, tmp_path, MANY_MESSAGES))


def test_a_late_answer_that_fails_ends_nothing(tmp_path: Path) -> None:
    server = Server(Config(), tmp_path / "nic.sock", tmp_path / "nic.ctl", Record())
    assert server.nic.later is not None

    def fail(error: Exception) -> None:
        raise error

    for error in (DmaFault(BASE, 8, "not mapped"), RingError("no room"), IndexError("a bug")):
        server.nic.later(0, partial(fail, error))
    with running(server, tmp_path / "nic.ctl") as oracle:
        rules = [violation["rule"] for violation in oracle.violations()]
        assert rules == ["dma", "ring", "exception"]


def test_a_client_that_stops_in_the_middle_holds_up_nobody(tmp_path: Path) -> None:
    with served(tmp_path) as (device, oracle), socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(device))
        for part in (b"\1", wire.HEADER.pack(1, 1, 40, 0, 0)[1:], b"half"):
            client.sendall(part)
            assert oracle.ask("state")["hwc"] is False


def test_memory_that_a_client_does_not_have(tmp_path: Path) -> None:
    """A mapping beyond the end of a file would kill whoever reads it."""
    with served(tmp_path) as (device, _):
        client = HostileClient(0, device)
        for at, size in ((60 * PAGE, 8 * PAGE), (64 * PAGE, PAGE), (1 << 63, PAGE), (0, 0)):
            peer = client.connected()
            payload = wire.DMA_MAP.pack(32, 3, at, BASE, size)
            header = wire.HEADER.pack(7, Command.DMA_MAP, 16 + len(payload), 0, 0)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [client.ram]))]
            peer.sendmsg([header + payload], rights)
            *_, error = wire.HEADER.unpack(peer.recv(16, socket.MSG_WAITALL))
            assert error == errno.EINVAL
        client.close()
