"""The modules that `make mutants` draws from: what decides, and what changes the system."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

# Paths below src/manactl; a directory stands for every module in it. What matches nothing is an
# error, so that a module that moves does not slip out of the list.
MODULES = (
    "claiming.py",
    "ending.py",
    "fatal.py",
    "freeing.py",
    "guards.py",
    "interrupt.py",
    "journal.py",
    "leak.py",
    "lock.py",
    "notes.py",
    "ownership.py",
    "plan.py",
    "planner.py",
    "policy.py",
    "ports.py",
    "proving.py",
    "releasing.py",
    "remedies.py",
    "replay.py",
    "restore.py",
    "snapshot.py",
    "statedir.py",
    "surroundings.py",
    "system.py",
    "transition.py",
    "unfinished.py",
    "uppers.py",
    "sources/above.py",
    "sources/around.py",
    "sources/stacked.py",
)


def modules(root: Path, names: Iterable[str] = MODULES) -> list[str]:
    """The modules below src/manactl that these paths name."""
    found: set[str] = set()
    for name in names:
        path = root / name
        if path.is_dir():
            found.update(one.relative_to(root).as_posix() for one in path.rglob("*.py"))
        elif path.is_file():
            found.add(path.relative_to(root).as_posix())
        else:
            raise SystemExit(f"no module {name} in {root}")
    return sorted(found)
