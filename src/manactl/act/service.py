"""Tells systemd how a service is, by sd_notify(3)'s protocol: a datagram to $NOTIFY_SOCKET."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


class Service:
    """The service that this process is; nothing is told, and no error, where it is none."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._path = environ.get("NOTIFY_SOCKET", "")
        pid = environ.get("WATCHDOG_PID", str(os.getpid()))
        watchdog = environ.get("WATCHDOG_USEC", "") if pid == str(os.getpid()) else ""
        self.alive_every: float | None = None  # s between two calls of alive() that systemd expects
        if self._path and watchdog.isdecimal() and int(watchdog):
            self.alive_every = int(watchdog) / 1e6 / 2

    def ready(self, status: str) -> None:
        """It does its work from now on. `status` is a line for `systemctl status`."""
        self._tell(f"READY=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        self._tell(f"STATUS={_line(status)}")

    def alive(self) -> None:
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    def _tell(self, text: str) -> None:
        if not self._path.startswith(("/", "@")):
            return
        address = f"\0{self._path[1:]}" if self._path[0] == "@" else self._path
        with (
            contextlib.suppress(OSError),  # systemd has gone, or is busy: it is not waited for
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
        ):
            sock.setblocking(False)
            sock.sendto(text.encode("utf-8", "backslashreplace"), address)


def _line(text: str) -> str:
    return text.replace("\n", " ")
