"""A program that owns vports by RAW_PACKET queue pairs, as a DPDK application does.

    python3 rawqp.py [DEVICE]

Commands: `create PORT [DEVICE]`, `share ID PORT` (as create, but on the PD of ID), `destroy ID`,
`open [DEVICE]` (a context with a PD and nothing else), `fork` (a child shares every descriptor
and then only sleeps), `exit` (leave without destroying anything), `quit` (destroy, then leave).

Without DEVICE it takes the Ethernet-linked device: the one that says vendor_part_id 2, or 0 where
it is the only one. Speaks the write commands of include/uapi/rdma/ib_user_verbs.h with ctypes
structures; every queue pair has a PD, a CQ and rings of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import signal
import sys
from ctypes import c_int32, c_uint8, c_uint16, c_uint32, c_uint64
from pathlib import Path
from typing import Any, ClassVar, NoReturn

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.lab.guest.lines import obey, tell

PAGE = 4096
RAW_PACKET = 8
Fields = tuple[tuple[str, type[Any]], ...]


class Message(ctypes.Structure):
    """What every command begins with; `answer` is the address the kernel writes to."""

    _fields_: ClassVar[Fields] = (
        ("command", c_uint32),
        ("in_words", c_uint16),
        ("out_words", c_uint16),
        ("answer", c_uint64),
    )


class CreateCq(Message):
    _fields_: ClassVar[Fields] = (
        ("user_handle", c_uint64),
        ("cqe", c_uint32),
        ("comp_vector", c_uint32),
        ("comp_channel", c_int32),
        ("reserved", c_uint32),
        ("mana_buffer", c_uint64),
        ("mana_flags", c_uint16),
        ("mana_reserved0", c_uint16),
        ("mana_reserved1", c_uint32),
    )


class CreateQp(Message):
    _fields_: ClassVar[Fields] = (
        ("user_handle", c_uint64),
        ("pd", c_uint32),
        ("send_cq", c_uint32),
        ("recv_cq", c_uint32),
        ("srq", c_uint32),
        ("max_send_wr", c_uint32),
        ("max_recv_wr", c_uint32),
        ("max_send_sge", c_uint32),
        ("max_recv_sge", c_uint32),
        ("max_inline", c_uint32),
        ("sq_sig_all", c_uint8),
        ("qp_type", c_uint8),
        ("is_srq", c_uint8),
        ("reserved", c_uint8),
        ("mana_sq", c_uint64),
        ("mana_sq_size", c_uint32),
        ("mana_port", c_uint32),
    )


class Destroy(Message):
    _fields_: ClassVar[Fields] = (("handle", c_uint32), ("reserved", c_uint32))


class DeallocPd(ctypes.Structure):
    _fields_ = (
        ("command", c_uint32),
        ("in_words", c_uint16),
        ("out_words", c_uint16),
        ("handle", c_uint32),
    )


class Refused(Exception):
    """The kernel refused a command."""

    def __init__(self, where: str, number: int) -> None:
        super().__init__(where, number)
        self.where = where
        self.number = number


class Page:
    """One private page the kernel may pin."""

    def __init__(self) -> None:
        self.area = mmap.mmap(-1, PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.view = (c_uint32 * (PAGE // 4)).from_buffer(self.area)

    @property
    def address(self) -> int:
        return ctypes.addressof(self.view)


class Context:
    """One open uverbs device."""

    def __init__(self, device: str) -> None:
        self.device = device
        try:
            self.fd = os.open(node_of(device), os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:  # EPERM: it belongs to another network namespace
            raise Refused("open", error.errno or 0) from error
        self.answer = Page()
        self.events = self.ask("GET_CONTEXT", 0, 8)[0]

    def ask(self, where: str, number: int, size: int, message: Message | None = None) -> list[int]:
        """Issue a command whose answer has `size` bytes; returns the answer's words."""
        message = message or Message()
        message.command = number
        message.in_words = ctypes.sizeof(message) // 4
        message.out_words = size // 4
        message.answer = self.answer.address
        self.send(where, message)
        return list(self.answer.view[: size // 4])

    def send(self, where: str, message: ctypes.Structure) -> None:
        try:
            os.write(self.fd, bytes(message))
        except OSError as error:
            raise Refused(where, error.errno or 0) from error

    def part(self) -> int:
        """vendor_part_id: 2 the Ethernet-linked device, 3 the RNIC, 0 not filled in."""
        return self.ask("QUERY_DEVICE", 1, 176)[11]

    def close(self) -> None:
        os.close(self.events)
        os.close(self.fd)


class RawQp:
    """A RAW_PACKET queue pair with all that it stands on."""

    def __init__(self, context: Context, port: int, pd: int | None = None) -> None:
        self.context = context
        self.port = port
        self.rings = (Page(), Page())
        with contextlib.ExitStack() as undo:
            if pd is None:
                (self.pd,) = context.ask("ALLOC_PD", 3, 4)
                undo.callback(self.dealloc_pd)
            else:
                self.pd = pd
            self.cq = self.create_cq()
            undo.callback(self.destroy_cq)
            self.qp = self.create_qp()
            undo.pop_all()

    def create_cq(self) -> int:
        message = CreateCq(cqe=64, comp_channel=-1, mana_buffer=self.rings[0].address)
        return self.context.ask("CREATE_CQ", 18, 16, message)[0]

    def create_qp(self) -> int:
        message = CreateQp(
            pd=self.pd,
            send_cq=self.cq,
            recv_cq=self.cq,
            max_send_wr=64,
            max_recv_wr=1,
            max_send_sge=1,
            max_recv_sge=1,
            qp_type=RAW_PACKET,
            mana_sq=self.rings[1].address,
            mana_sq_size=PAGE,
            mana_port=self.port,
        )
        return self.context.ask("CREATE_QP", 24, 48, message)[0]

    def destroy_cq(self) -> None:
        self.context.ask("DESTROY_CQ", 20, 8, Destroy(handle=self.cq))

    def dealloc_pd(self) -> None:
        self.context.send("DEALLOC_PD", DeallocPd(4, 3, 0, self.pd))

    def destroy(self) -> None:
        self.context.ask("DESTROY_QP", 27, 4, Destroy(handle=self.qp))
        self.destroy_cq()
        self.dealloc_pd()


def devices() -> dict[str, str]:
    """Name of each ibverbs device and the path of its character device."""
    found = {}
    for entry in sorted(Path("/sys/class/infiniband_verbs").glob("uverbs*")):
        found[(entry / "ibdev").read_text().strip()] = f"/dev/infiniband/{entry.name}"
    return found


def node_of(device: str) -> str:
    return devices()[device]


def ethernet_device() -> str:
    """The device that raw QPs belong to; 6.12 has one device and gives it no part id."""
    parts = {}
    for name in devices():
        context = Context(name)
        parts[name] = context.part()
        context.close()
    for name, part in parts.items():
        if part == 2:
            return name
    (name,) = parts
    return name


class Holder:
    """The queue pairs of this program, and its answers to commands."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.contexts: dict[str, Context] = {}
        self.qps: dict[int, RawQp] = {}
        self.next_id = 0

    def context(self, device: str | None) -> Context:
        name = device or self.device
        if name not in self.contexts:
            self.contexts[name] = Context(name)
        return self.contexts[name]

    def share(self, number: str, port: str) -> None:
        first = self.qps[int(number)]
        self.create(port, first.context.device, first.pd)

    def create(self, port: str, device: str | None = None, pd: int | None = None) -> None:
        try:
            qp = RawQp(self.context(device), int(port), pd)
        except Refused as refused:
            name = errno.errorcode.get(refused.number, str(refused.number))
            tell("refused", where=refused.where, errno=refused.number, name=name, port=int(port))
            return
        self.next_id += 1
        self.qps[self.next_id] = qp
        tell("created", id=self.next_id, port=qp.port, device=qp.context.device)

    def destroy(self, number: str) -> None:
        self.qps.pop(int(number)).destroy()
        tell("destroyed", id=int(number))

    def open(self, device: str | None = None) -> None:
        (pd,) = self.context(device).ask("ALLOC_PD", 3, 4)
        tell("opened", device=device or self.device, pd=pd)

    def fork(self) -> None:
        child = os.fork()
        if child == 0:
            self.sleep()
        tell("forked", pid=child, parent=os.getpid())

    def sleep(self) -> NoReturn:
        """The child: keeps the descriptors until it is killed. Its own stdio is not the test's."""
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        while True:
            signal.pause()

    def exit(self) -> NoReturn:
        tell("leaving", pid=os.getpid(), qps=len(self.qps))
        os._exit(0)

    def quit(self) -> NoReturn:
        for qp in self.qps.values():
            with contextlib.suppress(Refused):  # its device was moved, and took it along
                qp.destroy()
        for context in self.contexts.values():
            context.close()
        tell("leaving", pid=os.getpid(), qps=0)
        sys.exit(0)


def main(arguments: list[str]) -> None:
    device = arguments[0] if arguments else ethernet_device()
    holder = Holder(device)
    tell("ready", pid=os.getpid(), device=device)
    commands: dict[str, Any] = {
        name: getattr(holder, name)
        for name in ("create", "share", "destroy", "open", "fork", "exit", "quit")
    }
    obey(commands)


if __name__ == "__main__":
    main(sys.argv[1:])
