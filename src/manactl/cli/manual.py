"""`manactl help` on a terminal: the manual page, shown by man(1)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

# mandoc's man, where man-db has the name.
_VIEWERS = ("man", "mman")
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def show(command: str | None) -> None:
    """Become man(1) on the page of `command`, or of manactl itself.

    Returns where that cannot be: without a terminal, a page, or a man(1) that starts.
    """
    if not sys.stdout.isatty():
        return
    page = find("manactl" if command is None else f"manactl-{command}", directories())
    if page is None:
        return
    sys.stdout.flush()
    for viewer in _programs(os.get_exec_path()):
        try:
            os.execv(viewer, [viewer, "-l", page])  # noqa: S606 - no shell is wanted
        except OSError:
            continue


def directories() -> tuple[str, ...]:
    """Where pages of section 8 are: in a checkout, beside this package, in its environment."""
    return (
        f"{_PACKAGE}/../../man",
        f"{_PACKAGE}/../../../../share/man/man8",
        f"{sys.prefix}/share/man/man8",
    )


def find(name: str, places: Iterable[str]) -> str | None:
    """The file of a page; distributions compress theirs."""
    for place in places:
        for ending in (".8", ".8.gz"):
            path = os.path.normpath(f"{place}/{name}{ending}")
            if os.path.isfile(path):
                return path
    return None


def _programs(path: Iterable[str]) -> Iterator[str]:
    for name in _VIEWERS:
        for place in path:
            candidate = os.path.join(place, name)
            if os.access(candidate, os.X_OK) and os.path.isfile(candidate):
                yield candidate
