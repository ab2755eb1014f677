"""vfio-user framing on a stream socket, with descriptors riding along."""

from __future__ import annotations

import array
import socket

from tests.lab.nic.session import Session
from tests.lab.nic.wire import vfio_user as wire

_ANCILLARY = socket.CMSG_LEN(wire.MAX_FDS * 4)
_LARGEST = wire.MAX_TRANSFER + 4096


class Gone(Exception):
    """The peer closed the connection, or talks something else."""


class Transport:
    """Reads exactly one message at a time: 16 bytes of header, then what it announces.

    Reading more could join a message without descriptors to one with them, and the descriptors
    would go to the wrong one.
    """

    def __init__(self, connection: socket.socket, session: Session) -> None:
        self.connection = connection
        self.session = session

    def serve(self, budget: int = 256) -> None:
        """Answer what has arrived, at most `budget` messages. Raises Gone."""
        for _ in range(budget):
            if not self._one():
                return

    def _one(self) -> bool:
        fds: list[int] = []
        try:
            header = self._header(fds)
            if header is None:
                return False
            number, command, size, flags, _ = wire.HEADER.unpack(header)
            if not wire.HEADER.size <= size <= _LARGEST or flags & 0xF:
                raise Gone(f"message of {size} bytes with flags {flags:#x}")
            length = size - wire.HEADER.size
            payload = self.connection.recv(length, socket.MSG_WAITALL) if length else b""
            if len(payload) != length:
                raise Gone("message cut short")
            error, reply = self.session.answer(command, payload, fds)
        finally:
            for fd in fds:
                socket.close(fd)
        if not flags & wire.FLAG_NO_REPLY:
            self._reply(number, command, error, reply)
        return True

    def _header(self, fds: list[int]) -> bytes | None:
        """None when nothing is waiting."""
        try:
            header, control, _, _ = self.connection.recvmsg(
                wire.HEADER.size, _ANCILLARY, socket.MSG_DONTWAIT
            )
        except BlockingIOError:
            return None
        except ConnectionError as error:
            raise Gone(str(error)) from error
        if not header:
            raise Gone("closed")
        for level, kind, data in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                received = array.array("i")
                received.frombytes(data[: len(data) - len(data) % received.itemsize])
                fds.extend(received)
        missing = wire.HEADER.size - len(header)
        return header + self.connection.recv(missing, socket.MSG_WAITALL) if missing else header

    def _reply(self, number: int, command: int, error: int, payload: bytes) -> None:
        flags = wire.FLAG_REPLY | (wire.FLAG_ERROR if error else 0)
        size = wire.HEADER.size + len(payload)
        try:
            self.connection.sendall(wire.HEADER.pack(number, command, size, flags, error) + payload)
        except ConnectionError as error_:
            raise Gone(str(error_)) from error_
