"""The modules that `make mutants` draws from: what decides, and what changes the system."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

# Paths below src/manactl; a directory stands for every module in it. What matches nothing is an
# error, so that a module that moves does not slip out of the list.
MODULES = (
    "act",
    "decide",
    "journal",
    "netstate",
    "look/stacked_links.py",
    "look/surroundings.py",
    "look/upper_devices.py",
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
