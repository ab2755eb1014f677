"""Stops a program at every system call that changes something or syncs, seen from outside it.

The program installs a seccomp filter whose listener (seccomp(2), SECCOMP_FILTER_FLAG_NEW_LISTENER)
its watcher takes. What is known to look only runs freely; any other call waits until the watcher
lets it go on, and whoever is killed while it waits has not made it. So a kill before the next call
is a kill after the last one.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

LISTENER = 100  # the descriptor in the program
_PIDFD_GETFD, _SECCOMP = 438, 317
_RECV, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, _SEND
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")  # struct seccomp_notif
_ANSWER = struct.Struct("=QqiI")  # struct seccomp_notif_resp
_GO_ON = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_libc = ctypes.CDLL(None, use_errno=True)

# By x86-64 number: what reads, waits, or changes nothing but the process itself.
_LOOKS = (
    *(0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 19, 21, 22, 23, 24, 25, 28, 32, 33),
    *(35, 39, 41, 42, 45, 47, 49, 51, 52, 54, 55, 56, 57, 58, 60, 61, 63, 72, 79, 80, 81, 89),
    *(95, 96, 97, 98, 99, 100, 102, 104, 105, 106, 107, 108, 110, 111, 124, 125, 131, 137, 138),
    *(157, 158, 186, 202, 204, 217, 218, 228, 229, 230, 231, 232, 233, 262, 267, 269, 270, 271),
    *(273, 291, 292, 293, 302, 318, 332, 334, 435, 436, 439),
)
_NAMES = {
    1: "write", 2: "open", 16: "ioctl", 18: "pwrite", 20: "writev", 44: "sendto", 46: "sendmsg",
    62: "kill", 73: "flock", 74: "fsync", 75: "fdatasync", 76: "truncate", 77: "ftruncate",
    82: "rename", 83: "mkdir", 84: "rmdir", 86: "link", 87: "unlink", 90: "chmod", 257: "openat",
    258: "mkdirat", 263: "unlinkat", 264: "renameat", 316: "renameat2",
}  # fmt: skip
_OPEN, _OPENAT, _IOCTL = 2, 257, 16
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_TERMINAL = (0x5401, 0x5413, 0x5421, 0x802C542A)  # TCGETS, TIOCGWINSZ, FIONBIO, TCGETS2
_WITH_PATH = {2: 0, 257: 1, 76: 0, 82: 1, 83: 0, 84: 0, 86: 1, 87: 0, 90: 0, 258: 1, 263: 1}
_WITH_FD = (1, 16, 18, 20, 73, 74, 75, 77)
_NETLINK, _ROUTE, _RDMA, _DIAG = 16, 0, 20, 4  # AF_NETLINK and its protocols
_HEADER = 16  # struct nlmsghdr
_RDMA_SETS = (2, 3, 4, 7, 16, 18)  # enum rdma_nldev_command: SET, NEWLINK, ...


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _filter() -> bytes:
    """Classic BPF over struct seccomp_data: number at 0, low halves of the arguments from 16."""
    load, equal, bits, answer = 0x20, 0x15, 0x45, 0x06
    allow, ask = 0x7FFF0000, 0x7FC00000

    def op(code: int, k: int, then: int = 0, otherwise: int = 0) -> bytes:
        return struct.pack("=HBBI", code, then, otherwise, k)

    program = op(load, 0)
    for number in _LOOKS:
        program += op(equal, number, 0, 1) + op(answer, allow)
    for number, argument in ((_OPEN, 1), (_OPENAT, 2)):
        program += op(equal, number, 0, 4) + op(load, 16 + 8 * argument)
        program += op(bits, _WRITES, 1, 0) + op(answer, allow) + op(answer, ask)
    program += op(equal, _IOCTL, 0, 1 + 2 * len(_TERMINAL)) + op(load, 16 + 8)
    for request in _TERMINAL:
        program += op(equal, request, 0, 1) + op(answer, allow)
    return program + op(answer, ask)


def install() -> None:
    """Let this process and its children wait for whoever takes the descriptor LISTENER."""
    program = _filter()
    argument = _Program(len(program) // 8, program)
    fd = _libc.syscall(_SECCOMP, 1, 1 << 3, ctypes.byref(argument))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    os.dup2(fd, LISTENER)
    os.close(fd)


class Call(NamedTuple):
    """One call that waits."""

    id: int
    pid: int
    number: int
    args: tuple[int, ...]


def _changes(sent: bytes) -> Iterator[str]:
    """The types of the rtnetlink messages that change something, of those sent at once."""
    while len(sent) >= _HEADER:
        size, kind = struct.unpack_from("=IH", sent)
        if kind == 16:
            flags = struct.unpack_from("=I", sent, 24)[0]  # of struct ifinfomsg
            yield f"{kind} {'up' if flags & 1 else 'down'}"
        elif (kind - 16) % 4 != 2:
            yield str(kind)
        sent = sent[(size + 3) & ~3 :]


class Watcher:
    """The other end, for the program `pid`; `fd` is readable while a call waits.

    `follow`: once a process of that name is behind the filter as well, it is the program.
    """

    def __init__(self, pid: int, follow: str | None = None) -> None:
        self.pid = pid
        self._follow = follow
        self._pidfd = os.pidfd_open(pid)
        self.fd = self._take(LISTENER, 30)

    def _take(self, number: int, patience: float = 0) -> int:
        """A duplicate of one of the program's descriptors, awaited for `patience` seconds."""
        deadline = time.monotonic() + patience
        while (fd := _libc.syscall(_PIDFD_GETFD, self._pidfd, number, 0)) < 0:
            code = ctypes.get_errno()
            if code != errno.EBADF or time.monotonic() > deadline:
                raise OSError(code, "pidfd_getfd")
            time.sleep(0.001)
        return int(fd)

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._pidfd)

    def kill(self) -> None:
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def watch(self, on_act: Callable[[int, str], str]) -> list[str]:
        """What the program does until it has ended: a line for each call that is an act.

        `on_act` is asked before each, with its number from 0 and its line: "go", "kill" (the call
        is not made) or "kill during" (it is let go, and the signal sent at once).
        """
        acts: list[str] = []
        killed = False
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        while True:
            for _, events in poll.poll():
                if not events & select.POLLIN:
                    return acts  # POLLHUP: nobody is left behind the filter
            call = self._receive()
            if call is not None and self._follow and _comm(call.pid) == self._follow:
                self._turn_to(call.pid)
            if call is None or (killed and call.pid == self.pid):
                continue  # what it asks for while it dies is not answered any more
            act = self._act(call) if call.pid == self.pid else None
            if act is None:
                self._let_go(call)
                continue
            if self._follow:  # it is not there yet
                self._let_go(call)
                continue
            acts.append(act)
            wish = on_act(len(acts) - 1, act)
            if wish != "kill":
                self._let_go(call)
            if wish != "go":
                self.kill()
                killed = True

    def _turn_to(self, pid: int) -> None:
        os.close(self._pidfd)
        self._pidfd = os.pidfd_open(pid)
        self.pid, self._follow = pid, None

    def _receive(self) -> Call | None:
        buffer = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self.fd, _RECV, buffer)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None  # killed in this moment
            raise
        id_, pid, _, number, _, _, *args = _NOTIFICATION.unpack(buffer)
        return Call(id_, pid, number, tuple(args))

    def _let_go(self, call: Call) -> None:
        try:
            fcntl.ioctl(self.fd, _SEND, bytearray(_ANSWER.pack(call.id, 0, 0, _GO_ON)))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def _act(self, call: Call) -> str | None:
        """The call in words; None when it changes nothing outside of the program."""
        name = _NAMES.get(call.number, f"call {call.number}")
        if name in ("sendto", "sendmsg"):
            return self._message(call, name)
        if call.number in _WITH_FD:
            target = os.readlink(f"/proc/{self.pid}/fd/{call.args[0]}")
            if target.startswith("pipe:") or target.endswith(".out"):
                return None
            more = f" {call.args[1]:#x}" if name == "ioctl" else ""
            return f"{name} {_short(target)}{more}"
        if call.number in _WITH_PATH:
            target = self._text(call.args[_WITH_PATH[call.number]])
            return None if target == "/dev/null" else f"{name} {_short(target)}"
        if name == "kill" and _parent(call.args[0]) == self.pid:
            return None  # its own helper
        return name

    def _message(self, call: Call, name: str) -> str | None:
        fd = self._take(call.args[0])
        with socket.socket(fileno=fd) as theirs:
            domain = theirs.getsockopt(socket.SOL_SOCKET, 39)  # SO_DOMAIN
            protocol = theirs.getsockopt(socket.SOL_SOCKET, 38)  # SO_PROTOCOL
        if domain != _NETLINK:
            return None if domain == socket.AF_UNIX else f"{name} of family {domain}"
        at, size = call.args[1:3]
        if name == "sendmsg":
            vector = self._pointer(at + 16)  # msg_iov of struct msghdr: iov_base and iov_len
            at, size = self._pointer(vector), self._pointer(vector + 8)
        sent = self._memory(at, size)
        kind = struct.unpack_from("=H", sent, 4)[0]
        if protocol == _ROUTE:
            changes = list(dict.fromkeys(_changes(sent)))
            return f"rtnetlink {'+'.join(changes)}" if changes else None
        if protocol == _RDMA:
            return f"nldev {kind & 0x3FF}" if kind & 0x3FF in _RDMA_SETS else None
        return None if (protocol, kind) == (_DIAG, 20) else f"netlink {protocol} {kind}"

    def _memory(self, at: int, size: int) -> bytes:
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as file:
            file.seek(at)
            return file.read(size)

    def _pointer(self, at: int) -> int:
        return int.from_bytes(self._memory(at, 8), "little")

    def _text(self, at: int) -> str:
        """A string that may end just before an unmapped page."""
        data = b""
        while b"\0" not in data:
            data += self._memory(at + len(data), 4096 - (at + len(data)) % 4096)
        return data.partition(b"\0")[0].decode(errors="replace")


def _short(path: str) -> str:
    """A path without what differs between two runs."""
    directory, _, name = path.rpartition("/")
    if ".journal" not in name:
        return path
    return f"{directory}/(journal{'.new' if name.endswith('.new') else ''})"


def _comm(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return ""


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        return 0
