"""vfio-user over a real socket pair, as QEMU talks, and the control socket beside it."""

from __future__ import annotations

import array
import errno
import json
import mmap
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.nic import pci
from tests.lab.nic.client import NicClient, NicError
from tests.lab.nic.config import MSIX_VECTORS, Config
from tests.lab.nic.control import Control
from tests.lab.nic.device import DOORBELLS_AT, Nic
from tests.lab.nic.interrupts import Vectors
from tests.lab.nic.memory import DmaFault, Memory
from tests.lab.nic.record import Record
from tests.lab.nic.server import Server
from tests.lab.nic.session import Session
from tests.lab.nic.transport import Gone, Transport
from tests.lab.nic.wire import vfio_user as wire
from tests.lab.nic.wire.vfio_user import Command

PAGE = mmap.PAGESIZE


class Client:
    """The other end of the wire."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.record = Record()
        self.vectors = Vectors(MSIX_VECTORS)
        self.nic = Nic(Config(), self.memory, self.record, self.vectors.fire)
        self.session = Session(self.nic, self.memory, self.vectors, self.record)
        self.socket, server = socket.socketpair()
        self.transport = Transport(server, self.session)
        self.number = 0

    def put(
        self, command: int, payload: bytes = b"", fds: tuple[int, ...] = (), flags: int = 0
    ) -> None:
        self.number += 1
        size = wire.HEADER.size + len(payload)
        message = wire.HEADER.pack(self.number, command, size, flags, 0) + payload
        rights = array.array("i", fds).tobytes()
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if fds else []
        self.socket.sendmsg([message], control)

    def ask(self, command: int, payload: bytes = b"", fds: tuple[int, ...] = ()) -> bytes:
        self.put(command, payload, fds)
        self.transport.serve()
        error, reply = self.reply()
        assert error == 0, os.strerror(error)
        return reply

    def reply(self) -> tuple[int, bytes]:
        header = self.socket.recv(wire.HEADER.size, socket.MSG_WAITALL)
        number, _, size, flags, error = wire.HEADER.unpack(header)
        assert number == self.number
        assert bool(flags & wire.FLAG_ERROR) == bool(error)
        rest = size - wire.HEADER.size
        return error, self.socket.recv(rest, socket.MSG_WAITALL) if rest else b""

    def region(self, command: Command, region: int, offset: int, data: bytes | int) -> bytes:
        if isinstance(data, int):
            return self.ask(command, wire.REGION_RW.pack(offset, region, data))[16:]
        return self.ask(command, wire.REGION_RW.pack(offset, region, len(data)) + data)

    def close(self) -> None:
        self.session.close()
        self.socket.close()
        self.transport.connection.close()


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client()
    yield made
    made.close()


def guest_ram(text: bytes) -> int:
    fd = os.memfd_create("ram")
    os.ftruncate(fd, 4 * PAGE)
    os.pwrite(fd, text, PAGE)
    return fd


def test_version_is_zero_zero(client: Client) -> None:
    reply = client.ask(Command.VERSION, wire.VERSION.pack(0, 1) + b"{}\0")
    assert wire.VERSION.unpack_from(reply) == (0, 0)
    told = json.loads(reply[4:].rstrip(b"\0"))["capabilities"]
    assert told["max_msg_fds"] <= 16


def test_another_major_version_is_refused(client: Client) -> None:
    client.put(Command.VERSION, wire.VERSION.pack(1, 0))
    client.transport.serve()
    assert client.reply()[0] == errno.EINVAL


def test_device_regions_and_interrupts(client: Client) -> None:
    _, flags, regions, interrupts = wire.DEVICE_INFO.unpack(
        client.ask(Command.DEVICE_GET_INFO, wire.DEVICE_INFO.pack(16, 0, 0, 0))
    )
    assert (flags, regions, interrupts) == (3, 9, 5)
    sizes = {}
    for index in range(regions):
        asked = wire.REGION_INFO.pack(32, 0, index, 0, 0, 0)
        info = wire.REGION_INFO.unpack(client.ask(Command.DEVICE_GET_REGION_INFO, asked))
        sizes[index] = info[4]
    assert {index: size for index, size in sizes.items() if size} == {
        0: pci.GDMA.bar0,
        pci.MSIX_BAR: pci.MSIX_BAR_SIZE,
        wire.REGION_CONFIG: pci.SIZE,
    }
    counts = [
        wire.IRQ_INFO.unpack(
            client.ask(Command.DEVICE_GET_IRQ_INFO, wire.IRQ_INFO.pack(16, 0, i, 0))
        )
        for i in range(interrupts)
    ]
    assert [count for *_, count in counts] == [0, 0, MSIX_VECTORS, 0, 0]


def test_configuration_space(client: Client) -> None:
    read = Command.REGION_READ
    identity = client.region(read, wire.REGION_CONFIG, 0, 4)
    assert struct.unpack("<HH", identity) == (0x1414, 0x00BA)
    at, seen = client.region(read, wire.REGION_CONFIG, 0x34, 1)[0], []
    while at:
        kind, following = client.region(read, wire.REGION_CONFIG, at, 2)
        seen.append(kind)
        at = following
    assert seen == [0x11, 0x10]
    client.region(Command.REGION_WRITE, wire.REGION_CONFIG, 4, b"\xff\xff")
    assert client.region(read, wire.REGION_CONFIG, 4, 2) == b"\x47\x04"
    client.region(Command.REGION_WRITE, wire.REGION_CONFIG, 0, b"\0\0")
    assert client.region(read, wire.REGION_CONFIG, 0, 4) == identity


def test_a_function_level_reset_empties_the_device(client: Client) -> None:
    capability = client.region(Command.REGION_READ, wire.REGION_CONFIG, 0x41, 1)[0]
    control = client.region(Command.REGION_READ, wire.REGION_CONFIG, capability + 8, 2)
    client.region(
        Command.REGION_WRITE, wire.REGION_CONFIG, capability + 8, bytes((control[0], 0x80))
    )
    assert client.record.history[-1]["event"] == "device-reset"


def test_guest_memory_comes_and_goes(client: Client) -> None:
    fd = guest_ram(b"hello")
    map_ = wire.DMA_MAP.pack(32, 3, PAGE, 0x10000, PAGE)
    client.ask(Command.DMA_MAP, map_, (fd,))
    os.close(fd)
    assert client.memory.read(0x10000, 5) == b"hello"
    client.ask(Command.DMA_UNMAP, wire.DMA_UNMAP.pack(24, 0, 0x10000, PAGE))
    with pytest.raises(DmaFault):
        client.memory.read(0x10000, 5)


def test_descriptors_go_to_the_message_they_came_with(client: Client) -> None:
    """Two messages wait at once, and only the second carries one."""
    fd = guest_ram(b"hello")
    client.put(Command.DMA_MAP, wire.DMA_MAP.pack(32, 3, 0, 0, PAGE))
    client.put(Command.DMA_MAP, wire.DMA_MAP.pack(32, 3, PAGE, 0x10000, PAGE), (fd,))
    os.close(fd)
    client.transport.serve()
    assert client.memory.read(0x10000, 5) == b"hello"
    with pytest.raises(DmaFault, match="no memory behind"):
        client.memory.read(0, 1)


def test_posted_writes_have_no_reply_but_a_record(client: Client) -> None:
    payload = wire.REGION_RW.pack(DOORBELLS_AT, 0, 8) + bytes(8)
    client.put(Command.REGION_WRITE, payload, flags=wire.FLAG_NO_REPLY)
    client.transport.serve()
    with pytest.raises(BlockingIOError):
        client.socket.recv(1, socket.MSG_DONTWAIT)
    assert [each["rule"] for each in client.record.violations] == ["dead-doorbell"]


def test_its_own_exceptions_are_violations(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.nic, "write", lambda offset, data: 1 // 0)
    payload = wire.REGION_RW.pack(0, 0, 8) + bytes(8)
    client.put(Command.REGION_WRITE, payload, flags=wire.FLAG_NO_REPLY)
    client.transport.serve()
    (violation,) = client.record.violations
    assert violation["rule"] == "exception"
    assert "ZeroDivisionError" in violation["detail"]


def test_unknown_commands_are_refused(client: Client) -> None:
    client.put(77)
    client.transport.serve()
    assert client.reply()[0] == errno.ENOTSUP


@pytest.mark.parametrize("size", [15, 1 << 30])
def test_nonsense_ends_the_connection(client: Client, size: int) -> None:
    client.socket.sendall(wire.HEADER.pack(1, Command.VERSION, size, 0, 0))
    with pytest.raises(Gone):
        client.transport.serve()


class TestVectors:
    def irqs(self, client: Client, start: int, count: int, *fds: int, data: int = 4) -> None:
        client.ask(
            Command.DEVICE_SET_IRQS, wire.IRQ_SET.pack(20, 0x20 | data, 2, start, count), fds
        )

    def test_fire(self, client: Client) -> None:
        fds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2)]
        self.irqs(client, 3, 2, *fds)
        client.vectors.fire(4)
        assert os.eventfd_read(fds[1]) == 1
        with pytest.raises(BlockingIOError):
            os.eventfd_read(fds[0])
        for fd in fds:
            os.close(fd)

    def test_what_fired_without_a_descriptor_fires_with_the_next(self, client: Client) -> None:
        fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.irqs(client, 0, 1)
        client.vectors.fire(0)
        self.irqs(client, 0, 1, fd)
        assert os.eventfd_read(fd) == 1
        self.irqs(client, 0, 0, data=1)
        client.vectors.fire(0)
        with pytest.raises(BlockingIOError):
            os.eventfd_read(fd)
        os.close(fd)


class TestControl:
    @pytest.fixture
    def control(self) -> Control:
        record = Record()
        nic = Nic(Config(), Memory(), record, lambda vector: None)
        return Control(nic, record)

    @pytest.mark.parametrize("line", ["", "{}", "[]", "7", '{"op":"fly"}', "\xff"])
    def test_nonsense_is_answered(self, control: Control, line: str) -> None:
        answer = json.loads(control.answer(line))
        assert answer["ok"] is False
        assert "state" in answer["error"]

    def test_history_continues_where_one_stopped(self, control: Control) -> None:
        control.record.event("one")
        seq = json.loads(control.answer('{"op":"state"}'))["seq"]
        control.record.event("two", vport=1)
        (event,) = json.loads(control.answer(json.dumps({"op": "history", "since": seq})))["events"]
        assert (event["event"], event["vport"], event["seq"]) == ("two", 1, seq + 1)

    def test_violations_stay_until_cleared(self, control: Control) -> None:
        control.record.violation("some-rule", "because")
        for expected in (1, 1):
            told = json.loads(control.answer('{"op":"violations"}'))["violations"]
            assert len(told) == expected
            assert (told[0]["rule"], told[0]["detail"]) == ("some-rule", "because")
        control.answer('{"op":"clear-violations"}')
        assert json.loads(control.answer('{"op":"violations"}'))["violations"] == []

    def test_every_operation_answers(self, control: Control) -> None:
        for op in sorted(control._operations.keys() - {"course"}):
            more = (
                {"request": "*", "lost": True}
                if op == "fault"
                else {"up": True, "ms": None, "on": True, "name": "rdma-suspend"}
            )
            answer = json.loads(control.answer(json.dumps({"op": op, **more})))
            assert answer["ok"] is True, op
        ports = {"into": 1, "out_of": 2, "to": "02:00:00:00:00:aa", "count": 1, "seed": 0}
        answer = json.loads(control.answer(json.dumps({"op": "course", **ports})))
        assert answer == {"ok": False, "error": "ValueError: no driver is there"}


def test_a_server_serves_clients_one_after_the_other(tmp_path: Path) -> None:
    device, control = tmp_path / "nic.sock", tmp_path / "nic.ctl"
    server = Server(Config(ports=1), device, control, Record())
    thread = threading.Thread(target=server.run)
    thread.start()
    oracle = NicClient(control)
    try:
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as qemu:
                qemu.settimeout(30)
                qemu.connect(os.fspath(device))
                body = wire.VERSION.pack(0, 1) + b"{}\0"
                qemu.sendall(wire.HEADER.pack(1, 1, wire.HEADER.size + len(body), 0, 0) + body)
                assert len(qemu.recv(wire.HEADER.size, socket.MSG_WAITALL)) == wire.HEADER.size
        assert oracle.owner(1) is None
        assert oracle.objects() == {}
        assert oracle.violations() == []
        assert any(event["event"] == "client-connected" for event in oracle.history())
        assert oracle.log(3)[-1]
        with pytest.raises(NicError, match="operations"):
            oracle.ask("fly")
    finally:
        oracle.quit()
        thread.join(30)
    assert not thread.is_alive()
    assert not device.exists()
