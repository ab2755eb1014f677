"""The host's end of the programs in tests/lab/guest: commands out, facts in."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tests.lab.vm import Vm

GUEST = "/manactl/tests/lab/guest"
_READY = 120  # s; a resident loads all of manactl
Fact = dict[str, Any]


class Process(Protocol):
    """What is used of a process in the guest."""

    def stdin_write(self, data: bytes) -> None: ...

    def read_until(self, text: str, timeout: float) -> str: ...

    def ended(self) -> Any: ...

    def kill(self) -> None: ...


class Spawner(Protocol):
    """What is used of a VM."""

    def spawn(self, argv: list[str]) -> Any: ...


class Unexpected(AssertionError):
    """The program said something else than what was waited for."""


class User:
    """One guest program."""

    def __init__(self, process: Process, name: str) -> None:
        self.process = process
        self.name = name

    def say(self, command: str) -> None:
        self.process.stdin_write(f"{command}\n".encode())

    def hear(self, timeout: float = 60) -> Fact:
        """The next fact the program tells."""
        while True:
            line = self.process.read_until("\n", timeout).strip()
            if line.startswith("{"):
                fact: Fact = json.loads(line)
                return fact

    def wait_for(self, event: str, timeout: float = 60) -> Fact:
        """The next fact of that name; any other is a failure, but for what a server tells."""
        fact = self.hear(timeout)
        while fact["event"] == "accepted" != event:
            fact = self.hear(timeout)
        if fact["event"] != event:
            raise Unexpected(f"{self.name}: waited for {event!r}, heard {fact}")
        return fact

    def ask(self, command: str, event: str, timeout: float = 60) -> Fact:
        self.say(command)
        return self.wait_for(event, timeout)


@contextlib.contextmanager
def user(vm: Spawner, program: str, *words: str, netns: str | None = None) -> Iterator[User]:
    """Start tests/lab/guest/PROGRAM.py; killed at the end if it still runs."""
    argv = ["python3", f"{GUEST}/{program}.py", *words]
    if netns is not None:
        argv = ["ip", "netns", "exec", netns, *argv]
    process = vm.spawn(argv)
    try:
        yield User(process, program)
    finally:
        process.kill()


def resident(vm: Vm, program: str) -> User:
    """The program of that name that lives as long as the guest, started where it does not run.

    For what takes long to start and keeps nothing from one test to the next.
    """
    process = vm.residents.get(program)
    if process is not None and process.poll() is None:
        return User(process, program)
    process = vm.residents[program] = vm.spawn(["python3", f"{GUEST}/{program}.py"])
    made = User(process, program)
    made.wait_for("ready", _READY)
    return made


def eventually(check: Any, seconds: float = 20, what: str = "") -> Any:
    """Call `check` with growing pauses until it returns something true; its last word is told."""
    deadline = time.monotonic() + seconds
    pause = 0.02
    while not (value := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or check} still {value!r} after {seconds} s")
        time.sleep(pause)
        pause = min(2 * pause, 0.5)
    return value
