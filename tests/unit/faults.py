"""Faults from outside: system calls of ours that fail, or during which a signal comes."""

from __future__ import annotations

import _socket
import builtins
import contextlib
import errno
import fcntl
import io
import os
import random
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from manactl.act.signals import SIGNALS
from manactl.errors import LACKS

ERRNOS = (
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EINTR, errno.EAGAIN, errno.ESTALE,
    errno.ENOTCONN, errno.EACCES, errno.ENOSPC, errno.EROFS,
)  # fmt: skip
_OS = (
    "open", "read", "write", "fsync", "ftruncate", "rename", "replace", "unlink", "mkdir",
    "listdir", "scandir", "stat", "lstat", "fstat", "readlink", "close", "fork", "pipe", "pipe2",
    "pread", "pwrite", "pidfd_open", "eventfd", "chmod",
)  # fmt: skip
_SOCKET = ("send", "sendall", "sendto", "recv", "recvmsg", "recvfrom", "bind", "connect")
PLACES = (
    *((os, name) for name in _OS),
    (fcntl, "flock"), (fcntl, "ioctl"),
    (builtins, "open"), (io, "open"),
)  # fmt: skip


_fstat = os.fstat


def _is_pipe(fd: int) -> bool:
    return stat.S_ISFIFO(_fstat(fd).st_mode)


class Fault(NamedTuple):
    """At call number `at` of the main thread, and if it `lasts` at all that come after it."""

    at: int
    number: int  # an errno, or a signal
    signal: bool = False
    lasts: bool = False
    after: bool = False  # the call is made first

    def __str__(self) -> str:
        name = signal.Signals(self.number).name if self.signal else errno.errorcode[self.number]
        more = [word for word in ("lasts", "after") if getattr(self, word)]
        return " ".join([name, f"at {self.at}", *more])


class Calls:
    """System calls of this process, counted and named, with the faults that they meet."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._faults: tuple[Fault, ...] = ()
        self._busy = False

    @contextlib.contextmanager
    def watched(self, *faults: Fault) -> Iterator[None]:
        self.names.clear()
        self._faults = faults
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", lambda _: None)  # the power stays on here
            for place, name in PLACES:
                patch.setattr(place, name, self._wrapped(name, getattr(place, name)))
            patch.setattr(_socket, "socket", self._sockets())
            yield
        self._faults = ()

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """For what a fake reads itself: no call of ours."""
        self._busy, before = True, self._busy
        try:
            yield
        finally:
            self._busy = before

    def _sockets(self) -> type[_socket.socket]:
        calls, real = self, _socket.socket

        def method(name: str) -> Callable[..., Any]:
            inner = getattr(real, name)

            def call(sock: _socket.socket, *args: Any) -> Any:
                return calls._meet(name, lambda: inner(sock, *args))

            return call

        def new(cls: Any, *args: Any, **more: Any) -> Any:
            return calls._meet("socket", lambda: real.__new__(cls))

        members = {name: method(name) for name in _SOCKET}
        return type("socket", (real,), {"__new__": new, **members})

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            if name == "read" and _is_pipe(args[0]):
                return real(*args)  # it has no disk and no server behind it
            return self._meet(name, lambda: real(*args, **more))

        return call

    def _meet(self, name: str, real: Callable[[], Any]) -> Any:
        if threading.current_thread() is not threading.main_thread() or self._busy:
            return real()
        here = len(self.names)
        self.names.append(name)
        found = [one for one in self._faults if one.at == here or (one.lasts and one.at <= here)]
        self._busy = True  # Path.open is a call of io.open and of os.open: one fault
        try:
            for one in found:
                if not one.after and name != "close":
                    self._strike(one, name)
            result = real()
        finally:
            self._busy = False
        for one in found:
            if one.signal and (one.after or name == "close"):
                signal.raise_signal(one.number)
        return result

    def _strike(self, one: Fault, name: str) -> None:
        self._busy = False  # a handler of ours makes calls, too
        if one.signal:
            signal.raise_signal(one.number)
            return
        # Of a disk none of these has an error.
        lacks = name in ("pipe", "pipe2", "fork", "socket", "eventfd") and one.number not in LACKS
        number = errno.EMFILE if lacks else one.number
        raise OSError(number, os.strerror(number))


def some(rng: random.Random, calls: int) -> tuple[Fault, ...]:
    """One or two errors, at any call, passing or lasting."""
    return tuple(
        Fault(rng.randrange(calls), rng.choice(ERRNOS), lasts=rng.random() < 0.3)
        for _ in range(rng.choice((1, 1, 2)))
    )


def some_signals(rng: random.Random, calls: int) -> tuple[Fault, ...]:
    return tuple(
        Fault(rng.randrange(calls), rng.choice(SIGNALS), signal=True, after=rng.random() < 0.5)
        for _ in range(rng.choice((1, 1, 2, 3)))
    )
