"""What came of it: a table by module, then what survived."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tools.mutants.accepted import Entry
from tools.mutants.check import TIME_OUT
from tools.mutants.mutate import Mutant


@dataclass(frozen=True, slots=True)
class Result:
    """A mutant, what noticed it, and why it may stay unnoticed."""

    mutant: Mutant
    killer: str | None
    reason: str | None
    tests: int = 0  # that run the line


def share(results: Sequence[Result]) -> float:
    """How many percent were killed, of those that have to be."""
    counted = [result for result in results if result.killer or not result.reason]
    return 100.0 * sum(1 for one in counted if one.killer) / len(counted) if counted else 100.0


def table(results: Sequence[Result]) -> Iterator[str]:
    """A line for each module and one for all."""
    modules = sorted({result.mutant.module for result in results})
    width = max(map(len, ("module", "total", *modules)))
    yield f"{'module':{width}}  drawn  killed  survived  accepted  killed %"
    for name in (*modules, "total"):
        of = [one for one in results if name in (one.mutant.module, "total")]
        killed = sum(1 for one in of if one.killer)
        accepted = sum(1 for one in of if not one.killer and one.reason)
        yield (
            f"{name:{width}}  {len(of):5}  {killed:6}  {len(of) - killed:8}  {accepted:8}  "
            f"{share(of):8.0f}"
        )
    if late := sum(1 for one in results if one.killer and one.killer.endswith(TIME_OUT)):
        yield f"({late} killed by a time-out)"


def snippet(mutant: Mutant, source: bytes) -> Iterator[str]:
    """The change as in a diff, with a line around it."""
    old = source.decode().splitlines()
    new = mutant.apply(source).decode().splitlines()
    for line in difflib.unified_diff(old, new, n=1, lineterm=""):
        if not line.startswith(("---", "+++", "@@")):
            yield f"    {line}"


def survivors(results: Sequence[Result], sources: Mapping[str, bytes]) -> Iterator[str]:
    """Each mutant that nothing noticed."""
    for result in results:
        if result.killer:
            continue
        mutant = result.mutant
        yield ""
        yield (
            f"src/manactl/{mutant.module}:{mutant.line} {mutant.function}: {mutant.operator} "
            f"({mutant.id}; {result.tests or 'no'} tests run it)"
        )
        yield from snippet(mutant, sources[mutant.module])
        if result.reason:
            yield f"  accepted: {result.reason}"
        else:
            yield f"  was = {mutant.was!r}"
            yield f"  now = {mutant.now!r}"


def stale(entries: Sequence[Entry]) -> Iterator[str]:
    """The entries of survivors.toml that are about nothing."""
    for entry in entries:
        yield f"survivors.toml: no such mutant: {entry.module} {entry.function}: {entry.was!r}"
