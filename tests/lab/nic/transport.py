"""vfio-user framing on a stream socket, with descriptors riding along."""

from __future__ import annotations

import array
import socket
import struct

from tests.lab.nic.session import Session
from tests.lab.nic.wire import vfio_user as wire

_ANCILLARY = socket.CMSG_LEN(wire.MAX_FDS * 4)
_LARGEST = wire.MAX_TRANSFER + 4096
_PATIENCE = struct.pack("ll", 10, 0)  # seconds for a reply that the peer does not take


class Gone(Exception):
    """The peer closed the connection, or talks something else."""


class Transport:
    """Reads exactly one message at a time: 16 bytes of header, then what it announces.

    Reading more could join a message without descriptors to one with them, and the descriptors
    would go to the wrong one. What arrives in pieces is kept until the rest is there, so that a peer
    that stops in the middle holds up nobody else.
    """

    def __init__(self, connection: socket.socket, session: Session) -> None:
        self.connection = connection
        self.session = session
        self._header = self._payload = b""
        self._fds: list[int] = []
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)

    def serve(self, budget: int = 256) -> None:
        """Answer what has arrived, at most `budget` messages. Raises Gone."""
        for _ in range(budget):
            if not self._one():
                return

    def close(self) -> None:
        self.connection.close()
        self._drop_fds()

    def _one(self) -> bool:
        """Whether there was a whole message."""
        if not self._fill_header():
            return False
        number, command, size, flags, _ = wire.HEADER.unpack(self._header)
        if not wire.HEADER.size <= size <= _LARGEST or flags & 0xF:
            raise Gone(f"message of {size} bytes with flags {flags:#x}")
        if not self._fill_payload(size - wire.HEADER.size):
            return False
        payload, self._header, self._payload = self._payload, b"", b""
        try:
            error, reply = self.session.answer(command, payload, self._fds)
        finally:
            self._drop_fds()
        if not flags & wire.FLAG_NO_REPLY:
            self._reply(number, command, error, reply)
        return True

    def _drop_fds(self) -> None:
        """Those that nobody took."""
        for fd in self._fds:
            socket.close(fd)
        self._fds.clear()

    def _fill_header(self) -> bool:
        """Descriptors come with its first byte."""
        while missing := wire.HEADER.size - len(self._header):
            try:
                data, control, _, _ = self.connection.recvmsg(
                    missing, _ANCILLARY, socket.MSG_DONTWAIT
                )
            except BlockingIOError:
                return False
            except ConnectionError as error:
                raise Gone(str(error)) from error
            if not data:
                raise Gone("message cut short" if self._header else "closed")
            self._header += data
            for level, kind, rights in control:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    received = array.array("i")
                    received.frombytes(rights[: len(rights) - len(rights) % received.itemsize])
                    self._fds.extend(received)
        return True

    def _fill_payload(self, length: int) -> bool:
        while missing := length - len(self._payload):
            try:
                data = self.connection.recv(missing, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except ConnectionError as error:
                raise Gone(str(error)) from error
            if not data:
                raise Gone("message cut short")
            self._payload += data
        return True

    def _reply(self, number: int, command: int, error: int, payload: bytes) -> None:
        flags = wire.FLAG_REPLY | (wire.FLAG_ERROR if error else 0)
        size = wire.HEADER.size + len(payload)
        try:
            self.connection.sendall(wire.HEADER.pack(number, command, size, flags, error) + payload)
        except BlockingIOError as error_:
            raise Gone("it takes no replies") from error_
        except ConnectionError as error_:
            raise Gone(str(error_)) from error_
