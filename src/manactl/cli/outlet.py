"""Standard output and error of a command that must never wait for whoever reads them."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import sys
from typing import TextIO

from manactl.cli.app import lines

_ROOM = 4096  # bytes that a pipe has room for when poll(2) says that it has some (PIPE_BUF)


class Outlet:
    """Takes lines for people as long as the stream takes them at once. `lost`: why it takes none any
    more, ever.

    `name` is the stream's in sys. Of a line that a stream took in part, the rest goes before the next
    one.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._rest = b""
        self.lost: OSError | None = None

    @property
    def _stream(self) -> TextIO:
        stream: TextIO = getattr(sys, self._name)
        return stream

    def say(self, line: str, *, fold: bool = False) -> bool:
        """Whether the stream has taken it; `fold`: to a terminal's width."""
        if not self.flush():
            return False
        text = lines([line], self._stream if fold else None)
        self._rest = text.encode(self._stream.encoding or "utf-8", "backslashreplace")
        size = len(self._rest)
        self.flush()
        if len(self._rest) == size:  # nothing of it is there yet
            self._rest = b""
            return False
        return self.lost is None

    def flush(self) -> bool:
        """Whether the stream has taken all that was said, now or before."""
        try:
            while self._rest and (taken := self._write(self._rest)):
                self._rest = self._rest[taken:]
        except OSError as error:
            self.lost = error
            self._rest = b""
        return not self._rest and self.lost is None

    @property
    def owes(self) -> bool:
        """Whether a line was taken in part only."""
        return bool(self._rest)

    @property
    def takes(self) -> bool:
        """Whether the next line will probably be taken."""
        try:
            poll = select.poll()
            poll.register(self._stream.fileno(), select.POLLOUT)
            return self.flush() and bool(poll.poll(0))
        except (OSError, ValueError):  # no stream of the system's: in memory
            return self.lost is None

    def _write(self, data: bytes) -> int:
        """How many bytes were taken: 0 when the next would have to wait."""
        try:
            fd = self._stream.fileno()
        except (OSError, ValueError):  # no stream of the system's: in memory
            self._stream.write(data.decode(self._stream.encoding or "utf-8"))
            self._stream.flush()
            return len(data)
        mode = os.fstat(fd).st_mode
        with contextlib.suppress(BlockingIOError):
            if stat.S_ISSOCK(mode):
                return _to_socket(fd, data)
            if stat.S_ISFIFO(mode) or os.isatty(fd):
                return _to_reader(fd, data)
            return os.write(fd, data)  # a disk has no reader
        return 0


def _to_socket(fd: int, data: bytes) -> int:
    """systemd's journal, for one. It needs no descriptor of its own: there may be none left."""
    sock = socket.socket(fileno=fd)
    try:
        return sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError as error:
        if error.errno in (errno.ENOBUFS, errno.ENOMEM):
            return 0
        raise
    finally:
        sock.detach()


def _to_reader(fd: int, data: bytes) -> int:
    """Into a pipe or terminal. Whether to wait is a flag of the open file, which others have as
    well (a shell, a pager): so it is opened once more, with that flag.
    """
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        own = os.open(f"/proc/self/fd/{fd}", flags)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nobody reads from the pipe any more
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from error
        poll = select.poll()  # a terminal of somebody else, no descriptor left
        poll.register(fd, select.POLLOUT)
        return os.write(fd, data[:_ROOM]) if poll.poll(0) else 0
    try:
        return os.write(own, data)
    finally:
        os.close(own)
