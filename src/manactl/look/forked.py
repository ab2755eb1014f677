"""Questions that may block in the kernel, asked by a child process that can be left behind."""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import time

# The signal module makes enums of all of them.
from _signal import (  # type: ignore[import-not-found]
    SIG_BLOCK,
    SIG_SETMASK,
    pthread_sigmask,
    valid_signals,
)
from collections.abc import Callable
from typing import Any

_SIGKILL = 9
_left_behind: list[int] = []  # killed, and dead only when their system call returns


class Child:
    """A child process that works out one answer (of what marshal knows) and ends."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        """Start it. The answer is computed in the child alone; None stands for a failure, also for
        a child that cannot be started (EAGAIN, EMFILE)."""
        _left_behind[:] = [pid for pid in _left_behind if not _reaped(pid)]
        self._read = self._pid = -1
        with contextlib.suppress(OSError):
            self._read, write = os.pipe()
            # Blocked in the child for ever: a signal whose handler ran there would have it go on
            # as a second one of us.
            mask = pthread_sigmask(SIG_BLOCK, valid_signals())
            try:
                self._pid = os.fork()
                if self._pid == 0:
                    _answer(write, answer)
            finally:
                os.close(write)
                pthread_sigmask(SIG_SETMASK, mask)

    def collect(self, wait: float) -> object | None:
        """The answer, or None when it failed or did not come within `wait` seconds; only once."""
        if self._pid < 0:
            if self._read >= 0:
                os.close(self._read)
                self._read = -1
            return None
        try:
            data = _read_until(self._read, time.monotonic() + wait)
        finally:
            os.close(self._read)
            # It dies when its system call returns, which is not waited for.
            os.kill(self._pid, _SIGKILL)
        if data is None:
            _left_behind.append(self._pid)
        else:
            os.waitpid(self._pid, 0)
        try:
            answer: object = marshal.loads(data) if data else None  # noqa: S302 - our own child's
        except (EOFError, ValueError, TypeError):  # it was killed while it wrote
            return None
        return answer


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _answer(write: int, answer: Callable[[], Any]) -> None:
    """Answer through the pipe and end, whatever happens."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):  # a reader of our output must not wait for the child
            os.dup2(null, standard)
        os.closerange(3, write)
        os.closerange(write + 1, max(write + 1, 1024))
        with os.fdopen(write, "wb") as pipe:
            pipe.write(marshal.dumps(answer()))
    finally:
        os._exit(0)


def _read_until(fd: int, deadline: float) -> bytes | None:
    """Everything up to the end of file, or None at the deadline."""
    data = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while poll.poll(max(0, (deadline - time.monotonic()) * 1000)):
        chunk = os.read(fd, 65536)
        if not chunk:
            return data
        data += chunk
    return None
