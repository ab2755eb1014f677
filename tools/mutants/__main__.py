"""Run mutants: `make mutants`, or `python -m tools.mutants --help`."""

from __future__ import annotations

import argparse
import importlib
import os
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tools.mutants import accepted, check, pool, report
from tools.mutants.mutate import Mutant, mutants
from tools.mutants.reach import reach
from tools.mutants.targets import MODULES, modules

# What tests import and does not belong to manactl: imported once, before the forks.
_WARM = (
    "hypothesis",
    "click",
    "jsonschema",
    "pyroute2",
    "pytest",
    "_pytest.skipping",
    "_pytest.junitxml",
)


def draw(made: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """Some mutants, at most one of a line: a line full of numbers counts no more than another."""
    chance = random.Random(seed)  # noqa: S311 - nothing to keep secret
    lines: dict[tuple[str, int], list[Mutant]] = {}
    for mutant in made:
        lines.setdefault((mutant.module, mutant.line), []).append(mutant)
    drawn = chance.sample(sorted(lines), min(count, len(lines)))
    return [chance.choice(lines[line]) for line in sorted(drawn)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools.mutants", description=__doc__)
    add = parser.add_argument
    add("paths", nargs="*", metavar="MODULE", help="modules or directories below src/manactl")
    add("--module", action="append", default=[], help="the same as MODULE")
    add("--count", type=int, default=60, help="how many are drawn (default: 60)")
    add("--seed", type=int, default=1, help="for the draw (default: 1)")
    add("--all", action="store_true", dest="every", help="every mutant, none is drawn")
    add("--only", action="append", default=[], metavar="ID", help="the mutants with these ids")
    add("--function", metavar="NAME", help="only mutants of functions with this in their name")
    add("--list", action="store_true", help="list the mutants; run nothing")
    add("-j", "--jobs", type=int, default=os.cpu_count() or 1, help="how many run at a time")
    add("-v", "--verbose", action="store_true", help="also print what killed each mutant")
    add("--patience", type=float, default=15, metavar="S", help="least time-out (default: 15)")
    add("--least", type=float, default=90.0, metavar="%", help="fail below (default: 90)")
    add("--top", type=Path, default=Path.cwd(), help="the tree to test (default: this one)")
    add("--strict", action="store_true", help="fail when any survives without a reason")
    return parser


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MANACTL_CACHE") or Path(home) / "manactl") / "mutants"


def _choose(options: argparse.Namespace, made: Mapping[str, Sequence[Mutant]]) -> list[Mutant]:
    every = [mutant for of in made.values() for mutant in of]
    if options.function:
        every = [mutant for mutant in every if options.function in mutant.function]
    if options.only:
        chosen = [mutant for mutant in every if mutant.id in options.only]
        if missing := set(options.only) - {mutant.id for mutant in chosen}:
            raise SystemExit(f"no mutant {', '.join(sorted(missing))}")
        return chosen
    return every if options.every else draw(every, options.count, options.seed)


def _run(
    chosen: Sequence[Mutant],
    sources: Mapping[str, bytes],
    entries: Iterable[accepted.Entry],
    options: argparse.Namespace,
) -> list[report.Result]:
    for name in _WARM:
        importlib.import_module(name)
    known = reach(options.top, _cache(), options.jobs)
    for name in known.failing:
        print(f"fails without any mutant, and is left out: {name}")
    by_name = {mutant.id: mutant for mutant in chosen}
    tasks = {
        name: (
            lambda mutant=mutant: check.killer(
                options.top, mutant, sources[mutant.module], known, options.patience
            )
        )
        for name, mutant in by_name.items()
    }
    results: dict[str, report.Result] = {}
    survived = 0
    for name, killer in pool.run(tasks, options.jobs):
        mutant = by_name[name]
        tests = known.reaching(mutant.module, mutant.lines, at_import=mutant.at_import)
        reason = accepted.reason(mutant, entries)
        results[name] = report.Result(mutant, killer, reason, len(tests))
        survived += killer is None
        pool.progress(f"{len(results)} of {len(chosen)} mutants, {survived} survived")
        if options.verbose and killer:
            print(f"{mutant.id} {mutant.module}:{mutant.line} {mutant.operator}: {killer}")
    pool.progress("")
    return [results[mutant.id] for mutant in chosen]


def main() -> int:
    options = _parser().parse_args()
    options.top = options.top.resolve()
    os.chdir(options.top)
    root = options.top / "src" / "manactl"
    names = modules(root, [*options.paths, *options.module] or MODULES)
    sources = {name: (root / name).read_bytes() for name in names}
    made = {name: mutants(source, name) for name, source in sources.items()}
    chosen = _choose(options, made)
    if options.list:
        for mutant in chosen:
            print(f"{mutant.id} {mutant.module}:{mutant.line} {mutant.function}: {mutant.operator}")
            print(*report.snippet(mutant, sources[mutant.module]), sep="\n")
        return 0
    entries = accepted.read()
    results = _run(chosen, sources, entries, options)
    print(*report.table(results), *report.survivors(results, sources), sep="\n")
    listed = [entry for entry in entries if entry.module in made]
    stale = accepted.stale(listed, made)
    print(*report.stale(stale), sep="\n", end="\n" if stale else "")
    left = [result for result in results if not result.killer and not result.reason]
    return int(report.share(results) < options.least or bool(options.strict and (left or stale)))


if __name__ == "__main__":
    sys.exit(main())
