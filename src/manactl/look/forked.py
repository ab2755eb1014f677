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
from collections.abc import Callable, Collection
from typing import Any

_SIGKILL = 9
_LOOKS = 10  # without a sign of life, by which a child is held to be blocked
_left_behind: list[int] = []  # killed, and dead only when their system call returns


class Child:
    """A child process that works out one answer (of what marshal knows) and ends.

    `pid` is below zero where it could not be started; `pipe` is what it answers by.
    """

    def __init__(self, answer: Callable[[], Any]) -> None:
        """Start it. The answer is computed in the child alone; None stands for a failure, also for
        a child that cannot be started (EAGAIN, EMFILE)."""
        _left_behind[:] = [pid for pid in _left_behind if not _reaped(pid)]
        self.pipe = self.pid = -1
        with contextlib.suppress(OSError):
            self.pipe, write = os.pipe()
            # Blocked in the child for ever: a signal whose handler ran there would have it go on
            # as a second one of us.
            mask = pthread_sigmask(SIG_BLOCK, valid_signals())
            try:
                self.pid = os.fork()
                if self.pid == 0:
                    _answer(write, answer)
            finally:
                os.close(write)
                pthread_sigmask(SIG_SETMASK, mask)

    def collect(self, wait: float, longest: float | None = None) -> object | None:
        """The answer, or None when it failed, or did not come within `wait` seconds; with
        `longest` as collect_unless_blocked(). Only once."""
        return collect_unless_blocked([self], wait, wait if longest is None else longest)[0]

    def end(self, data: bytes | None) -> object | None:
        """End it; the answer, by all that it has written (None: it was not read to its end)."""
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1
        if self.pid < 0:
            return None
        # It dies when its system call returns, which is not waited for.
        os.kill(self.pid, _SIGKILL)
        if data is None:
            _left_behind.append(self.pid)
        else:
            os.waitpid(self.pid, 0)
        try:
            answer: object = marshal.loads(data) if data else None  # noqa: S302 - our own child's
        except (EOFError, ValueError, TypeError):  # it was killed while it wrote
            return None
        return answer


def collect_unless_blocked(
    children: Collection[Child], wait: float, longest: float
) -> list[object | None]:
    """The answer of each, None for one that failed, or that is blocked: it did not run for `wait`
    seconds. One that runs, or waits for a processor, is waited for, up to `longest` seconds for
    all; only once.

    Looks are counted, not the time between them: where the whole machine stood still (a host that
    is short of processors, a virtual machine that was suspended) nobody was blocked. Who spins for
    a lock in the kernel runs as well: `longest` is for them.
    """
    looks = max(_LOOKS, round(_LOOKS * longest / wait)) if wait else _LOOKS
    try:
        told = _read_unless_blocked(children, wait / _LOOKS, looks)
    except BaseException:
        for child in children:
            child.end(None)
        raise
    return [child.end(told.get(child.pipe)) for child in children]


def _read_unless_blocked(children: Collection[Child], pause: float, looks: int) -> dict[int, bytes]:
    """By the pipe of each all that was read from it, of those that came to their end."""
    told: dict[int, bytes] = {}
    pending = {child.pipe: child for child in children if child.pid >= 0}
    data = dict.fromkeys(pending, b"")
    lives = {fd: _life(child.pid) for fd, child in pending.items()}
    without = dict.fromkeys(pending, 0)
    poll = select.poll()
    for fd in pending:
        poll.register(fd, select.POLLIN)
    now = time.monotonic()
    look_at = now + pause
    while looks and any(without[fd] < _LOOKS for fd in pending):
        ready = poll.poll(max(0.0, look_at - now) * 1000)
        while ready:  # all that is there, before anybody is held to be blocked
            for fd, _ in ready:
                chunk = os.read(fd, 65536)
                data[fd] += chunk
                if not chunk:
                    told[fd] = data[fd]
                    poll.unregister(fd)
                    del pending[fd]
            ready = poll.poll(0)
        now = time.monotonic()
        if now >= look_at:
            looks -= 1
            for fd, child in pending.items():
                life = _life(child.pid)
                without[fd] = without[fd] + 1 if life == lives[fd] else 0
                lives[fd] = life
            look_at = now + pause
    return told


def _life(pid: int) -> bytes:
    """What differs from one look to the next of a child that has run between the two; of one that
    can run it differs always. See proc_pid_status(5). Nothing where /proc is of another pid
    namespace, and the number somebody else's."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", "rb") as file:
        lines = file.read().split(b"\n")
        if b"PPid:\t%d" % os.getpid() not in lines:
            return b""
        if any(line.startswith(b"State:\tR") for line in lines):
            return b"%d" % time.monotonic_ns()
        return b" ".join(line for line in lines if b"ctxt_switches" in line)
    return b""


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
