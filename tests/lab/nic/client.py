"""Client of the NIC's control socket."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

_TIMEOUT = 60.0


class NicError(Exception):
    """The NIC refused a request, or is gone."""


class NicClient:
    """One connection, opened on first use. Times in answers are CLOCK_MONOTONIC of the host, ns."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._socket: socket.socket | None = None
        self._rest = b""

    def state(self) -> dict[str, Any]:
        return self.ask("state")

    def history(self, since: int = 0) -> list[dict[str, Any]]:
        """Events after that sequence number; `sequence()` gives one to start from."""
        events: list[dict[str, Any]] = self.ask("history", since=since)["events"]
        return events

    def sequence(self) -> int:
        return int(self.ask("state")["seq"])

    def violations(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("violations")["violations"]
        return found

    def clear_violations(self) -> int:
        return int(self.ask("clear-violations")["cleared"])

    def owner(self, port: int) -> str | None:
        """Who programmed the vport behind that port, counted from 1; None when nobody has it."""
        owner: str | None = self.state()["vports"][port - 1]["owner"]
        return owner

    def objects(self) -> dict[str, list[dict[str, Any]]]:
        """Every live object by kind, with what it hangs on."""
        found: dict[str, list[dict[str, Any]]] = self.ask("objects")["objects"]
        return found

    def log(self, lines: int = 200) -> list[str]:
        found: list[str] = self.ask("log", lines=lines)["lines"]
        return found

    def link(self, up: bool) -> None:
        """Carrier of all ports; drivers before the reconfiguration events ignore it."""
        self.ask("link", up=up)

    def station(self, mac: str) -> dict[str, Any]:
        """Where the host's switch sends frames for this address; LookupError if nowhere."""
        for station in self.ask("stations")["stations"]:
            if station["mac"] == mac:
                found: dict[str, Any] = station
                return found
        raise LookupError(f"nothing has the address {mac}")

    def exceptions(self, on: bool) -> None:
        """Whether broadcast and first packets go to the synthetic NIC beside a VF; see fabric."""
        self.ask("exceptions", on=on)

    def course(
        self, into: int, out_of: int, to: str, count: int, seed: int, *, rewritten: bool = False
    ) -> None:
        """Put `count` frames into a port that another has to send to `to`; see course.py."""
        ports = {"into": into, "out_of": out_of, "to": to}
        self.ask("course", **ports, count=count, seed=seed, rewritten=rewritten)

    def courses(self) -> list[dict[str, Any]]:
        """How far the courses are; one that is `done` until the next is started."""
        found: list[dict[str, Any]] = self.ask("courses")["courses"]
        return found

    def service(self, name: str) -> bool:
        """Host servicing that is not a reset request; whether a driver was there to hear of it."""
        return bool(self.ask("service", name=name)["sent"])

    def reset_request(self) -> None:
        self.ask("reset-request")

    def timeout(self, milliseconds: int | None) -> None:
        """How long the driver waits for answers, from its next bring-up on; None: its own choice."""
        self.ask("timeout", ms=milliseconds)

    def fault(
        self,
        request: str,
        *,
        status: int | None = None,
        delay: float = 0.0,
        lost: bool = False,
        held: bool = False,
        times: int | None = 1,
        skip: int = 0,
    ) -> None:
        """Spoil the next `times` requests of that name (None: until cleared); see faults.Fault."""
        how = {"status": status, "delay": delay, "lost": lost, "held": held}
        self.ask("fault", request=request, times=times, skip=skip, **how)

    def let_go(self) -> int:
        """Give the answers that `held` faults keep; how many."""
        return int(self.ask("let-go")["answered"])

    def faults(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("faults")["faults"]
        return found

    def clear_faults(self) -> int:
        """Forget all faults; how many were not used up."""
        return int(self.ask("clear-faults")["left"])

    def quit(self) -> None:
        self.ask("quit")
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._rest = None, b""

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Any operation. Raises NicError."""
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(_TIMEOUT)
                self._socket.connect(self.path)
            self._socket.sendall(json.dumps({"op": op, **arguments}).encode() + b"\n")
            answer: dict[str, Any] = json.loads(self._line(self._socket))
        except (OSError, ValueError) as error:
            self.close()
            raise NicError(f"{op}: {error}") from error
        if not answer.pop("ok"):
            raise NicError(f"{op}: {answer.get('error')}")
        return answer

    def _line(self, connection: socket.socket) -> bytes:
        parts = [self._rest]
        while b"\n" not in parts[-1]:
            data = connection.recv(1 << 20)
            if not data:
                raise ConnectionError("closed")
            parts.append(data)
        line, _, self._rest = b"".join(parts).partition(b"\n")
        return line
