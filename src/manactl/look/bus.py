"""D-Bus by systemd's own busctl(1): no library, and the values come as JSON.

Nothing is started by a question (--auto-start=no). Every call has a time limit; a service that
does not answer within it is an error like any other.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Sequence
from typing import Any

from manactl.look.text_files import rows
from manactl.model.named_tuple import NamedTuple

TIMEOUT = 10.0  # s for one call; a manager that reloads answers when it is done
_TOOL = ("busctl", "--json=short", "--auto-start=no")

Run = Callable[[Sequence[str]], str]


class Interface(NamedTuple):
    """Where to call: a service, an object of it, and one of its interfaces."""

    service: str
    path: str
    name: str


def within(seconds: float) -> Run:
    """A runner of busctl whose calls have so many seconds, and half as long again to tell of it."""

    def run(words: Sequence[str]) -> str:
        import subprocess  # noqa: PLC0415 - where a manager runs

        try:
            # In a session of its own: ^C is for manactl, which ends no call half-way.
            ran = subprocess.run(
                [*_TOOL, f"--timeout={seconds:g}", *words],
                capture_output=True,
                check=False,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                encoding="utf-8",
                errors="replace",
                timeout=longest(seconds),
            )
        except subprocess.TimeoutExpired as error:
            raise OSError(errno.ETIMEDOUT, f"busctl {words[0]} does not end") from error
        if ran.returncode:
            said = rows(ran.stderr.strip()) or [f"code {ran.returncode}"]
            raise OSError(errno.EIO, f"busctl {words[0]}: {said[-1]}")
        return ran.stdout

    return run


def longest(seconds: float) -> float:
    """After how many seconds a call within(seconds) has ended, whatever the bus does."""
    return 1.5 * seconds


live = within(TIMEOUT)
"""What busctl prints. OSError when it is not there, fails, or does not end."""


class Bus:
    """The system bus. Every failure is an OSError, also an answer that is not understood."""

    def __init__(self, run: Run = live) -> None:
        self._run = run

    def has(self, service: str) -> bool:
        """Whether somebody offers this service now."""
        bus = Interface("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
        (found,) = self.call(bus, "NameHasOwner", "s", service)
        return found is True

    def call(self, at: Interface, method: str, signature: str = "", *words: str) -> list[Any]:
        """Call a method; what it returns."""
        given = [signature, *words] if signature else []
        found = self._answers(["call", *at, method, *given])
        return list(found[0]) if found else []

    def get(self, at: Interface, *properties: str) -> list[Any]:
        """The values of properties, in their order."""
        found = self._answers(["get-property", *at, *properties])
        if len(found) != len(properties):
            raise OSError(errno.EPROTO, f"{at.service}: {', '.join(properties)} not all there")
        return found

    def put(self, at: Interface, name: str, signature: str, word: str) -> None:
        """Set a property."""
        self._run(["set-property", *at, name, signature, word])

    def _answers(self, words: Sequence[str]) -> list[Any]:
        """One JSON object a line, each with its type; none for a method that returns nothing."""
        text = self._run(words)
        try:
            return [json.loads(line)["data"] for line in rows(text) if line.strip()]
        except (ValueError, KeyError, TypeError) as error:
            raise OSError(errno.EPROTO, f"busctl {words[0]}: {text[:80]!r} is no answer") from error
