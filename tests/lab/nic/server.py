"""The process: a vfio-user socket, a control socket, one loop."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import selectors
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tests.lab.nic.config import MSIX_VECTORS, Config
from tests.lab.nic.control import Control
from tests.lab.nic.device import Nic
from tests.lab.nic.interrupts import Vectors
from tests.lab.nic.memory import Memory
from tests.lab.nic.record import Record
from tests.lab.nic.session import Session
from tests.lab.nic.transport import Gone, Transport

_MAX_LINE = 1 << 16


class Server:
    """One client at a time; when it goes, the device is as after power-on and awaits the next."""

    def __init__(self, config: Config, device: Path, control: Path, record: Record) -> None:
        self.record = record
        self.memory = Memory()
        self.vectors = Vectors(MSIX_VECTORS)
        self.nic = Nic(config, self.memory, record, self.vectors.fire)
        self.nic.later = self._later
        self.control = Control(self.nic, record)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._selector = selectors.DefaultSelector()
        self._client: Transport | None = None
        self._paths = (device, control)
        self._listen(device, self._accept_client)
        self._listen(control, self._accept_control)

    def run(self) -> None:
        try:
            while not self.control.stop:
                for key, _ in self._selector.select(self._run_due()):
                    key.data()
        finally:
            self._close()

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._count), act))

    def _run_due(self) -> float | None:
        """Do what is due; the seconds until the next, None when nothing waits."""
        while self._due:
            left = self._due[0][0] - time.monotonic()
            if left > 0:
                return left
            heapq.heappop(self._due)[2]()
        return None

    def _close(self) -> None:
        if self._client is not None:
            self._client.session.close()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _listen(self, path: Path, accept: Callable[[socket.socket], None]) -> None:
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.fspath(path))
        listener.listen()
        self._selector.register(listener, selectors.EVENT_READ, lambda: accept(listener))

    def _accept_client(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        if self._client is not None:
            connection.close()
            self.record.log("a second vfio-user client was turned away")
            return
        self.record.event("client-connected")
        session = Session(self.nic, self.memory, self.vectors, self.record)
        self._client = client = Transport(connection, session)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._serve(client))

    def _serve(self, client: Transport) -> None:
        try:
            client.serve()
        except Gone as gone:
            self._selector.unregister(client.connection)
            client.connection.close()
            client.session.close()
            self._client = None
            self.record.event("client-gone", why=str(gone))

    def _accept_control(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        buffer = bytearray()
        self._selector.register(
            connection, selectors.EVENT_READ, lambda: self._talk(connection, buffer)
        )

    def _talk(self, connection: socket.socket, buffer: bytearray) -> None:
        try:
            data = connection.recv(_MAX_LINE)
            buffer += data
            while data and b"\n" in buffer:
                line, _, rest = bytes(buffer).partition(b"\n")
                buffer[:] = rest
                connection.sendall(self.control.answer(line))
        except ConnectionError:
            data = b""
        if not data or len(buffer) > _MAX_LINE:
            self._selector.unregister(connection)
            with contextlib.suppress(OSError):
                connection.close()
