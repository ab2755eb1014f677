"""The mutants that may survive, each with a reason: survivors.toml.

An entry names the module, the function and the change, never a line. It may stand for several
mutants that read the same; one that no mutant is like any more has to go.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.mutants.mutate import Mutant

FILE = Path(__file__).with_name("survivors.toml")


@dataclass(frozen=True, slots=True)
class Entry:
    """A mutant that may survive, and why."""

    module: str
    function: str
    was: str
    now: str
    reason: str

    def matches(self, mutant: Mutant) -> bool:
        """Is it about this one?"""
        ours = (self.module, self.function, _flat(self.was), _flat(self.now))
        return ours == (mutant.module, mutant.function, _flat(mutant.was), _flat(mutant.now))


def _flat(text: str) -> str:
    return " ".join(text.split())


def read(path: Path = FILE) -> list[Entry]:
    """The entries of a file; every one needs all its keys and a reason."""
    entries = []
    for table in tomllib.loads(path.read_text()).get("survivor", []):
        entry = Entry(**table)
        if not entry.reason.strip():
            raise SystemExit(f"{path.name}: {entry.module} {entry.function}: no reason")
        entries.append(entry)
    return entries


def reason(mutant: Mutant, entries: Iterable[Entry]) -> str | None:
    """Why a mutant may survive, or None."""
    return next((entry.reason for entry in entries if entry.matches(mutant)), None)


def stale(entries: Iterable[Entry], made: Mapping[str, Iterable[Mutant]]) -> list[Entry]:
    """The entries about modules that are known here which no mutant is like any more."""
    return [
        entry
        for entry in entries
        if entry.module not in made or not any(map(entry.matches, made[entry.module]))
    ]
