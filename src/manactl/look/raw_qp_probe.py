"""The proof that a vport is free: a RAW_PACKET queue pair on it, made and destroyed at once.

The kernel gives a vport to one owner at a time (mana_cfg_vport()), so a queue pair that could be
made is the only answer to "would a raw-QP program get this port now?" that cannot be stale.

Python bindings of libibverbs cannot make this queue pair: MANA's needs a ring and a port number in
the driver's part of the command. So CREATE_CQ and CREATE_QP are written to the device as the
kernel's own commands (include/uapi/rdma/ib_user_verbs.h, and mana-abi.h for the driver's part).
pyverbs, where it is installed, opens the device and makes the protection domain; where it is not,
two more commands on the character device do the same.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from manactl.look import source_words, sysfs
from manactl.model.port import Evidence
from manactl.model.value import Value
from manactl.wire import uverbs as abi
from manactl.wire.uverbs import NONE, PAGE, ProofOutcome


class Proof(Value):
    """The outcome of one attempt; whether to try again is the caller's choice.

    A vport in transition (another probe, `ethtool -L`) reads TAKEN for some milliseconds.
    """

    outcome: ProofOutcome
    errno: int | None
    where: str | None  # the command that failed
    via: str  # "pyverbs" or "uverbs"
    message: str
    hint: str | None = None
    evidence: tuple[Evidence, ...] = ()


class CommandFailed(Exception):
    """A command, or the opening before it, was refused."""

    def __init__(self, where: str, number: int | None, detail: str = "") -> None:
        super().__init__(where, number, detail)
        self.where = where
        self.number = number
        self.detail = detail


class PyverbsUnusable(Exception):
    """pyverbs is missing, does not fit its libibverbs, or cannot open the device."""


class Device(Protocol):
    """An open ibverbs device with a protection domain, and memory the kernel may pin."""

    via: str
    pd: int

    def write(self, command: bytes) -> object:
        """Hand one command to the kernel; OSError is its answer."""

    def page(self) -> int:
        """Address of a fresh page-aligned private page; lives until close()."""

    def fill(self, address: int, data: bytes) -> None:
        """Write to such a page."""

    def read32(self, address: int) -> int:
        """Read a native 32-bit word from such a page."""

    def close(self) -> None:
        """Give back the protection domain, the device and the pages."""


def prove_free(pci: str, device: str, port: int, sys: str = "/sys", dev: str = "/dev") -> Proof:
    """Make and destroy a raw QP on `port` (from 1) of the ibverbs device, once, without retry.

    `device` is the Ethernet-linked device of the PCI function, and no other function's is used,
    whatever has that name by now; an RNIC is refused unasked, since making this QP there wedges
    the device. Nothing stays behind, on KeyboardInterrupt neither.
    """
    notes: list[Evidence] = []
    try:
        opened = open_device(pci, device, notes, sys, dev)
    except CommandFailed as failed:
        return _failed(failed, "uverbs", device, port, notes)
    return prove_on(opened, device, port, notes)


def prove_on(opened: Device, device: str, port: int, notes: list[Evidence]) -> Proof:
    """prove_free() on an open device, which is closed on the way out."""
    try:
        with contextlib.closing(opened):
            attempt = _Attempt(opened)
            vendor, part, ports = attempt.identity()
            notes.append(Evidence("verbs", f"{device} vendor_part_id", part))
            wrong = _wrong_device(device, vendor, part)
            if wrong is None and not 1 <= port <= ports:
                wrong = source_words.no_port(device, port, ports)
            if wrong is not None:
                outcome = ProofOutcome.CANNOT
                return Proof(outcome, None, None, opened.via, wrong, evidence=tuple(notes))
            attempt.make_and_destroy(port)
    except CommandFailed as failed:
        return _failed(failed, opened.via, device, port, notes)
    notes.append(_evidence(device, port, opened.via, None))
    message = source_words.made(device, port)
    return Proof(ProofOutcome.FREE, None, None, opened.via, message, evidence=tuple(notes))


class _Attempt:
    """One completion queue and one raw QP, each with pages of its own; never used twice."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.cq_ring, self.qp_ring = device.page(), device.page()
        self.cq_answer, self.qp_answer = _blank_page(device), _blank_page(device)
        self.answer = _blank_page(device)

    def identity(self) -> tuple[int, int, int]:
        """vendor_id, vendor_part_id and the number of ports."""
        self._issue("QUERY_DEVICE", abi.QUERY_DEVICE, b"", self.answer, abi.QUERY_DEVICE_ANSWER)
        vendor = self.device.read32(self.answer + abi.VENDOR_ID_AT)
        part = self.device.read32(self.answer + abi.VENDOR_PART_AT)
        ports = struct.pack("=I", self.device.read32(self.answer + abi.PORTS_AT))[3]
        return vendor, part, ports

    def make_and_destroy(self, port: int) -> None:
        # By the answer pages, not by a return value: an interrupt may come in between.
        try:
            body = abi.create_cq(self.cq_ring)
            self._issue("CREATE_CQ", abi.CREATE_CQ, body, self.cq_answer, abi.CREATE_CQ_ANSWER)
            cq = self.device.read32(self.cq_answer)
            try:
                body = abi.create_qp(self.device.pd, cq, self.qp_ring, port)
                self._issue("CREATE_QP", abi.CREATE_QP, body, self.qp_answer, abi.CREATE_QP_ANSWER)
            finally:
                self._destroy("DESTROY_QP", abi.DESTROY_QP, self.qp_answer, abi.DESTROY_QP_ANSWER)
        finally:
            self._destroy("DESTROY_CQ", abi.DESTROY_CQ, self.cq_answer, abi.DESTROY_CQ_ANSWER)

    def _destroy(self, name: str, number: int, page: int, size: int) -> None:
        handle = self.device.read32(page)
        if handle != NONE:
            self._issue(name, number, abi.DESTROY_BODY.pack(handle, 0), self.answer, size)

    def _issue(self, name: str, number: int, body: bytes, answer: int, size: int) -> None:
        _issue(self.device.write, name, abi.command(number, body, answer, size))


def _issue(write: Callable[[bytes], object], name: str, message: bytes) -> None:
    try:
        write(message)
    except OSError as error:
        raise CommandFailed(name, error.errno) from error


def _blank_page(device: Device) -> int:
    address = device.page()
    device.fill(address, b"\xff" * PAGE)
    return address


def _wrong_device(device: str, vendor: int, part: int) -> str | None:
    if part == abi.PART_RNIC and vendor in (0, abi.VENDOR_MICROSOFT):
        return source_words.is_rnic(device)
    if vendor not in (0, abi.VENDOR_MICROSOFT) or part not in (abi.PART_UNSET, abi.PART_ETHERNET):
        return source_words.is_no_mana(device, vendor, part)
    return None


def _failed(
    failed: CommandFailed, via: str, device: str, port: int, notes: list[Evidence]
) -> Proof:
    number = failed.number
    name = None if number is None else errno.errorcode.get(number, str(number))
    notes.append(_evidence(device, port, via, f"{failed.where}: {name or failed.detail}"))
    known = None
    if number is not None:
        known = abi.MEANING.get((failed.where, number)) or abi.MEANING.get((abi.ANY, number))
    if known is None:
        text = failed.detail or (
            os.strerror(number) if number is not None else source_words.NO_REASON
        )
        known = (ProofOutcome.CANNOT, text, None)
    outcome, text, hint = known
    message = f"{failed.where} on {device}/{port}: {text}" + (f" ({name})" if name else "")
    return Proof(outcome, number, failed.where, via, message, hint, tuple(notes))


def _evidence(device: str, port: int, via: str, failure: str | None) -> Evidence:
    value = {"made": failure is None, "failure": failure, "via": via}
    return Evidence("verbs", f"RAW_PACKET QP on {device}/{port}", value)


def open_device(
    pci: str, device: str, notes: list[Evidence], sys: str = "/sys", dev: str = "/dev"
) -> Device:
    """Open by pyverbs, else by the character device; `notes` gets why pyverbs was passed over.

    Raises CommandFailed: with the kernel's own errno, since libibverbs hides it.
    """
    try:
        return PyverbsDevice(pci, device, sys)
    except PyverbsUnusable as error:
        notes.append(Evidence("verbs", "pyverbs", str(error)))
    return UverbsDevice(pci, device, sys, dev)


@contextlib.contextmanager
def _root_log_kept() -> Iterator[None]:
    """Importing pyverbs runs logging.basicConfig(): keep the program's own set-up."""
    import logging  # noqa: PLC0415 - where there is pyverbs

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)


class PyverbsDevice:
    """Context and protection domain by pyverbs; commands go to its descriptor.

    Keeps away from PD.pd, Context.context and CQ.cq, which in releases before 59 and 61 are a C
    pointer passed off as a Python object: touching one corrupts memory.
    """

    via = "pyverbs"

    def __init__(self, pci: str, name: str, sys: str = "/sys") -> None:
        try:
            with _root_log_kept():
                from pyverbs import mem_alloc
                from pyverbs.device import Context
                from pyverbs.pd import PD
                from pyverbs.pyverbs_error import PyverbsError
        except ModuleNotFoundError as error:
            raise PyverbsUnusable("not installed") from error
        except ImportError as error:  # it wants exactly the libibverbs that it was built with
            raise PyverbsUnusable(str(error)) from error
        self._error: type[Exception] = PyverbsError
        self._memory: Any = mem_alloc
        self._pages: list[int] = []
        with contextlib.ExitStack() as undo:
            try:
                self._context: Any = Context(name=name)
                undo.callback(self._context.close)
                self._fd = int(self._context.cmd_fd)
                if not _is_of_function(self._fd, pci, sys):  # libibverbs goes by the name alone
                    raise PyverbsUnusable(f"{name} is not a device of {pci} any more")
                self._pd: Any = PD(self._context)
            except PyverbsError as error:
                raise PyverbsUnusable(str(error)) from error
            undo.pop_all()
        self.pd = int(self._pd.handle)

    def write(self, command: bytes) -> object:
        return os.write(self._fd, command)

    def page(self) -> int:
        address = int(self._memory.mmap(length=PAGE))
        self._pages.append(address)
        return address

    def fill(self, address: int, data: bytes) -> None:
        self._memory.write(address, data, len(data))

    def read32(self, address: int) -> int:
        return int(self._memory.read32(address))

    def close(self) -> None:
        try:
            self._pd.close()
            self._context.close()
        except self._error as error:
            number = abs(getattr(error, "error_code", -1))  # of either sign; -1: none
            raise CommandFailed("close", number if number > 1 else None, str(error)) from error
        finally:
            for address in self._pages:
                self._memory.munmap(address, PAGE)
            self._pages.clear()


class UverbsDevice:
    """The same by the kernel's commands alone, on /dev/infiniband/uverbsN."""

    via = "uverbs"

    def __init__(self, pci: str, name: str, sys: str = "/sys", dev: str = "/dev") -> None:
        # 20 ms of start-up that only this way pays: Python gives no other address of an mmap.
        import ctypes  # noqa: PLC0415

        self._ctypes = ctypes
        self._pages: dict[int, tuple[mmap.mmap, Any]] = {}
        self.pd = NONE
        try:
            self._fd = os.open(uverbs_node(pci, name, sys, dev), os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise CommandFailed("open", error.errno) from error
        try:
            if not _is_of_function(self._fd, pci, sys):
                raise CommandFailed(
                    "open", errno.ENXIO, f"the node of {name} is another device's by now"
                )
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        answer = _blank_page(self)
        message = abi.command(abi.GET_CONTEXT, b"", answer, abi.GET_CONTEXT_ANSWER)
        try:
            _issue(self.write, "GET_CONTEXT", message)
        finally:
            # The kernel made a descriptor for asynchronous events; nobody here listens to it.
            if (events := self.read32(answer)) != NONE:
                os.close(events)
        answer = _blank_page(self)
        _issue(self.write, "ALLOC_PD", abi.command(abi.ALLOC_PD, b"", answer, abi.ALLOC_PD_ANSWER))
        self.pd = self.read32(answer)

    def write(self, command: bytes) -> object:
        return os.write(self._fd, command)

    def page(self) -> int:
        area = mmap.mmap(-1, PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        view = (self._ctypes.c_char * PAGE).from_buffer(area)
        address = self._ctypes.addressof(view)
        self._pages[address] = (area, view)
        return address

    def fill(self, address: int, data: bytes) -> None:
        self._pages[address][0][: len(data)] = data

    def read32(self, address: int) -> int:
        base = address & ~(PAGE - 1)
        word: int = struct.unpack_from("=I", self._pages[base][0], address - base)[0]
        return word

    def close(self) -> None:
        try:
            if self.pd != NONE:
                _issue(self.write, "DEALLOC_PD", abi.dealloc_pd(self.pd))
        finally:
            self.pd = NONE
            os.close(self._fd)
            self._pages.clear()  # unmaps: an mmap whose address was taken has no close()


def uverbs_node(pci: str, device: str, sys: str = "/sys", dev: str = "/dev") -> str:
    """Path of the character device of an ibverbs device of that function. Raises CommandFailed."""
    for node in sysfs.uverbs_nodes(sysfs.Roots(sys), pci):
        if node.ibdev == device:
            return str(Path(dev, "infiniband", node.name))
    raise CommandFailed("open", errno.ENOENT, f"no uverbs device of {pci} is called {device}")


def _is_of_function(fd: int, pci: str, sys: str) -> bool:
    """Whether an open character device is one of the function's: its number may have been given to
    another device between the look at sysfs and the open."""
    rdev = os.fstat(fd).st_rdev
    return any(node.rdev == rdev for node in sysfs.uverbs_nodes(sysfs.Roots(sys), pci))
