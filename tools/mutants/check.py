"""Does a test notice a mutant? The tests that reach it run, and the first that fails ends it."""

from __future__ import annotations

import json
import os
import selectors
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tools.mutants import box, pool
from tools.mutants.mutate import Mutant
from tools.mutants.reach import Case, Reach, arguments

# Seconds for a test that took one: the machine may be busy with other mutants, and a mutant that
# loops is noticed just as well a little later.
_SLOWER = 10
TIME_OUT = "(time-out)"
_IMPORT = 120
_FIRST_FILES = 3  # that are run before all others are imported, too


class _Chosen:
    """A pytest plugin that runs some tests in a given order, and reports as it goes."""

    def __init__(self, tests: Sequence[Case], out: int, patience: float) -> None:
        self._rank = {test.id: number for number, test in enumerate(tests)}
        self._seconds = {test.id: test.seconds for test in tests}
        self._out = out
        self._patience = patience

    def _report(self, **what: Any) -> None:
        os.write(self._out, json.dumps(what).encode() + b"\n")

    def pytest_sessionstart(self) -> None:
        from hypothesis import Phase, settings  # noqa: PLC0415

        # The first example that fails will do: no other that is shorter is looked for.
        settings.register_profile(
            "mutants", settings.default, phases=(Phase.explicit, Phase.generate), database=None
        )
        settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self._rank),
            key=lambda item: self._rank[item.nodeid],
        )

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        allowed = max(self._patience, _SLOWER * self._seconds[nodeid])
        self._report(test=nodeid, seconds=allowed)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._report(failed=report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._report(failed=f"{report.nodeid} (import)")


def batches(tests: Sequence[Case], module: str, known: Reach) -> Iterator[list[Case]]:
    """The tests in the order in which they are worth running: close and fast ones first."""
    path = Path(module)
    mirror = "/" + path.with_name(f"test_{path.name}").as_posix()
    count: dict[str, int] = {}
    cost: dict[str, float] = {}
    for test in tests:
        count[test.file] = count.get(test.file, 0) + 1
        cost[test.file] = cost.get(test.file, known.seconds[test.file]) + test.seconds
    files = sorted(
        count,
        key=lambda file: (
            not file.endswith(mirror),
            "netns" in file.split("/"),
            -count[file] / (1 + cost[file]),
        ),
    )
    first = files[:_FIRST_FILES]
    for some in (first, files[_FIRST_FILES:]):
        batch = sorted(
            (t for t in tests if t.file in some),
            key=lambda t: (t.seconds > 0.5, t.file not in first[:1], t.seconds),
        )
        if batch:
            yield batch


def killer(top: Path, mutant: Mutant, source: bytes, known: Reach, patience: float) -> str | None:
    """What notices a mutant: a test, or a time-out; None when nothing does.

    `patience`: how many seconds every test gets at least.
    """
    tests = known.reaching(mutant.module, mutant.lines, at_import=mutant.at_import)
    path = top / "src" / "manactl" / mutant.module
    texts = {path: mutant.apply(source)}
    for batch in batches(tests, mutant.module, known):
        if found := _fails(top, texts, batch, patience):
            return found
    return None


def _fails(
    top: Path, texts: Mapping[Path, bytes], tests: Sequence[Case], patience: float
) -> str | None:
    reader, writer = os.pipe()
    files = sorted({test.file for test in tests})

    def work() -> int:
        os.close(reader)
        pool.silence()
        return int(
            pytest.main(["-x", *arguments(files)], plugins=[_Chosen(tests, writer, patience)])
        )

    def boxed() -> int:
        return box.run(work, top, texts)

    pid = box.fork(boxed)
    os.close(writer)
    doing, failed = _watch(reader, pid)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if failed:
        return failed
    if code == -signal.SIGKILL:
        return f"{doing} {TIME_OUT}"
    # Where tests are made from a table of the program, what is gone from there is not tested.
    if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return None
    if code == box.FAILED:
        raise SystemExit(f"the tests could not be run: {', '.join(files)}")
    return f"{doing} (pytest exits with {code})"


def _watch(reader: int, pid: int) -> tuple[str, str | None]:
    """Follow the reports to their end; what was going on last, and what failed."""
    doing, failed, text = "import", None, b""
    end = time.monotonic() + _IMPORT
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, end - time.monotonic())):
                os.kill(pid, signal.SIGKILL)
                break
            part = os.read(reader, 1 << 16)
            if not part:
                break
            *lines, text = (text + part).split(b"\n")
            for line in lines:
                report = json.loads(line)
                failed = failed or report.get("failed")
                if "test" in report:
                    doing = report["test"]
                    end = time.monotonic() + report["seconds"]
    os.close(reader)
    return doing, failed
