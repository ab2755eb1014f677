"""The process: a vfio-user socket or two, a control socket, one loop."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import selectors
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.lab.nic.config import MSIX_VECTORS, Config
from tests.lab.nic.control import Control
from tests.lab.nic.device import Nic
from tests.lab.nic.hostlink import IDENTITY, HostLink
from tests.lab.nic.interrupts import Vectors
from tests.lab.nic.memory import DmaFault, Memory
from tests.lab.nic.record import Record
from tests.lab.nic.rings import RingError
from tests.lab.nic.session import Session
from tests.lab.nic.transport import Gone, Transport

_MAX_LINE = 1 << 16


@dataclass(slots=True)
class Slot:
    """A device that one client at a time may plug in."""

    name: str
    session: Callable[[], Session]
    client: Transport | None = None


class Server:
    """One client at a time; when it goes, the device is as after power-on and awaits the next.

    `link` is the socket of a second device, by which the VMBus's host in the same guest shares the
    NIC's switch; see hostlink.py.
    """

    def __init__(
        self,
        config: Config,
        device: Path,
        control: Path,
        record: Record,
        link: Path | None = None,
    ) -> None:
        self.record = record
        self.memory = Memory()
        self.vectors = Vectors(MSIX_VECTORS)
        self.nic = Nic(config, self.memory, record, self.vectors.fire)
        self.nic.later = self._later
        self.control = Control(self.nic, record)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._selector = selectors.DefaultSelector()
        self._paths = [device, control]
        nic = Slot("nic", lambda: Session(self.nic, self.memory, self.vectors, record))
        self._slots = [nic]
        self._listen(device, lambda listener: self._accept_client(nic, listener))
        if link is not None:
            self._add_link(link)
        self._listen(control, self._accept_control)

    def _add_link(self, path: Path) -> None:
        memory, vectors = Memory(), Vectors(MSIX_VECTORS)
        link = HostLink(self.nic.fabric, memory, self.record, vectors.fire)
        slot = Slot("host-link", lambda: Session(link, memory, vectors, self.record, IDENTITY))
        self._slots.append(slot)
        self._paths.append(path)
        self._listen(path, lambda listener: self._accept_client(slot, listener))

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
            self._do(heapq.heappop(self._due)[2])
        return None

    def _do(self, act: Callable[[], None]) -> None:
        """What a guest has done to its rings meanwhile ends nothing here."""
        try:
            act()
        except DmaFault as fault:
            self.record.violation("dma", f"a late answer: {fault}")
        except RingError as error:
            self.record.violation("ring", f"a late answer: {error}")
        except Exception:  # noqa: BLE001  (the loop goes on; the violation fails the test)
            self.record.violation("exception", traceback.format_exc())

    def _close(self) -> None:
        for slot in self._slots:
            if slot.client is not None:
                slot.client.session.close()
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

    def _accept_client(self, slot: Slot, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        if slot.client is not None:
            connection.close()
            self.record.log(f"a second vfio-user client of {slot.name} was turned away")
            return
        self.record.event("client-connected", device=slot.name)
        slot.client = client = Transport(connection, slot.session())
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._serve(slot, client))

    def _serve(self, slot: Slot, client: Transport) -> None:
        try:
            client.serve()
        except Gone as gone:
            self._selector.unregister(client.connection)
            client.close()
            client.session.close()
            slot.client = None
            self.record.event("client-gone", device=slot.name, why=str(gone))

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
