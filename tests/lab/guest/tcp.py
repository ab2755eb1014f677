"""A TCP connection that is watched: what a claim or a release does to traffic in progress.

    python3 tcp.py serve ADDRESS PORT
    python3 tcp.py probe ADDRESS PORT [INTERVAL_MS]

The server echoes. The prober sends a numbered message every interval and keeps the time of each
echo; `report` tells how many came back and the longest time without one, `quit` reports and ends.
ADDRESS may be of either family; a link-local one carries its %zone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.lab.guest.lines import tell

NUMBER = struct.Struct("!Q")


def resolve(address: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    family, _, _, _, target = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    return family, target


def serve(address: str, port: int) -> None:
    """Echo to every client until killed."""
    family, target = resolve(address, port)
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(target)
        listener.listen()
        tell("listening", pid=os.getpid(), address=address, port=listener.getsockname()[1])
        clients: list[socket.socket] = []
        while True:
            readable, _, _ = select.select([listener, *clients], [], [])
            for ready in readable:
                if ready is listener:
                    client, peer = listener.accept()
                    clients.append(client)
                    tell("accepted", peer=peer[0], port=peer[1])
                elif not echo(ready):
                    clients.remove(ready)
                    ready.close()


def echo(client: socket.socket) -> bool:
    """False when the client is gone."""
    try:
        data = client.recv(65536)
        client.sendall(data)
    except OSError as error:
        tell("client-lost", error=errno.errorcode.get(error.errno or 0))
        return False
    return bool(data)


class Prober:
    """One connection, its numbered messages and their echoes."""

    def __init__(self, connection: socket.socket, interval: float) -> None:
        self.connection = connection
        self.interval = interval
        self.sent = self.echoed = 0
        self.waiting = b""
        self.last_echo = self.next_send = time.monotonic()
        self.longest = 0.0
        self.failure: str | None = None

    def run(self) -> None:
        """Until `quit` or the end of standard input; a lost connection is told at once."""
        commands = b""
        while True:
            patience = max(0.0, self.next_send - time.monotonic())
            sources: list[Any] = [sys.stdin.fileno()]
            if self.failure is None:
                sources.append(self.connection)
            ready, _, _ = select.select(sources, [], [], patience)
            if self.connection in ready:
                self.attempt(self.receive)
            if sys.stdin.fileno() in ready:
                data = os.read(sys.stdin.fileno(), 4096)
                commands += data or b"quit\n"
                *lines, commands = commands.split(b"\n")
                for line in lines:
                    self.report(line.decode().strip() or "report")
                    if line.strip() == b"quit":
                        return
            if time.monotonic() >= self.next_send:
                self.next_send = time.monotonic() + self.interval
                if self.failure is None:
                    self.attempt(self.send)

    def attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except BlockingIOError:
            return  # the peer is away and the send buffer full: the gap tells
        except OSError as error:
            self.failure = errno.errorcode.get(error.errno or 0, str(error))
            tell("lost", error=self.failure, **self.facts())

    def send(self) -> None:
        self.connection.send(NUMBER.pack(self.sent))
        self.sent += 1

    def receive(self) -> None:
        data = self.connection.recv(65536)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "closed by the peer")
        self.waiting += data
        whole = len(self.waiting) // NUMBER.size
        for (number,) in NUMBER.iter_unpack(self.waiting[: whole * NUMBER.size]):
            if number != self.echoed:
                raise OSError(errno.EBADMSG, f"echo {number}, expected {self.echoed}")
            self.echoed += 1
        self.waiting = self.waiting[whole * NUMBER.size :]
        now = time.monotonic()
        self.longest = max(self.longest, now - self.last_echo)
        self.last_echo = now

    def facts(self) -> dict[str, object]:
        silence = time.monotonic() - self.last_echo
        return {
            "sent": self.sent,
            "echoed": self.echoed,
            "longest_gap_ms": round(1000 * max(self.longest, silence)),
            "silence_ms": round(1000 * silence),
            "failure": self.failure,
        }

    def report(self, event: str) -> None:
        tell("report" if event == "report" else event, **self.facts())


def probe(address: str, port: int, interval_ms: int = 20) -> None:
    """Connect and keep the connection busy."""
    family, target = resolve(address, port)
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        try:
            connection.connect(target)
        except OSError as error:
            tell("unreachable", error=errno.errorcode.get(error.errno or 0, str(error)))
            sys.exit(1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        local = connection.getsockname()
        connection.setblocking(False)
        tell("connected", pid=os.getpid(), local=local[0], local_port=local[1])
        with contextlib.suppress(KeyboardInterrupt):
            Prober(connection, interval_ms / 1000).run()


def main(arguments: list[str]) -> None:
    role, address, *numbers = arguments
    {"serve": serve, "probe": probe}[role](address, *map(int, numbers))


if __name__ == "__main__":
    main(sys.argv[1:])
