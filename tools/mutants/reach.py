"""Which test reaches which line, measured once and kept in the cache by content.

Each test file is run by itself, so that what it runs while it is imported is known, too. What has
been measured of a file holds as long as that file, what the tests share and the program are the
same.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
import time
import tomllib
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tools.mutants import box, pool, trace

_FORMAT = b"2"
_TESTS = ("tests/unit", "tests/netns")
# At the end of manactl/__init__.py. Process 2 of the box is pytest, which has a tracer.
_FOLLOW = """
def _follow():
    import os
    if os.getpid() != {pid}:
        names = {{}}
        with open({tracer!r}) as file:
            exec(compile(file.read(), {tracer!r}, "exec"), names)
        names["Tracer"]({top!r}, {hits!r}).start(elsewhere=True)
try:
    _follow()
except OSError:
    pass
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A test, its file, how long it takes (s), and the lines it runs, by module."""

    id: str
    file: str
    seconds: float
    lines: Mapping[str, frozenset[int]]


@dataclass(slots=True)
class Reach:
    """Everything that is known of the tests."""

    importers: Mapping[str, frozenset[str]] = field(default_factory=dict)  # of each module
    named: dict[str, frozenset[str]] = field(default_factory=dict)  # modules, by test file
    tests: list[Case] = field(default_factory=list)
    imports: dict[str, dict[str, frozenset[int]]] = field(default_factory=dict)  # by test file
    seconds: dict[str, float] = field(default_factory=dict)  # to import a test file
    failing: list[str] = field(default_factory=list)  # as the program is: of no use here

    def reaching(self, module: str, lines: range, *, at_import: bool) -> list[Case]:
        """The tests that run one of these lines of a module.

        Everything imports nearly everything: for a line that is run at import, those that run a
        function of the module or of one that imports it, and those of a file that names the module:
        a test may compare its constants and run nothing.
        """
        none: frozenset[Any] = frozenset()
        if at_import:
            near = {module, *self.importers.get(module, ())}
            return [
                test
                for test in self.tests
                if not near.isdisjoint(test.lines) or module in self.named.get(test.file, none)
            ]
        files = {
            file for file, of in self.imports.items() if not of.get(module, none).isdisjoint(lines)
        }
        return [
            test
            for test in self.tests
            if test.file in files or not test.lines.get(module, none).isdisjoint(lines)
        ]


def importers(root: Path) -> dict[str, frozenset[str]]:
    """Which modules import each module below src/manactl, as far as names show."""
    paths = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py")}
    found: defaultdict[str, set[str]] = defaultdict(set)
    for module, path in paths.items():
        for name in named(path.read_bytes()):
            found[name].add(module)
    return {module: frozenset(found[module]) for module in paths}


def named(source: bytes) -> frozenset[str]:
    """The modules below src/manactl that a source may import."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("manactl"):
            base = "/".join((node.module or "").split(".")[1:])
            names = (base, *(f"{base}/{name.name}".lstrip("/") for name in node.names))
            found.update(f"{name}.py" for name in names)
    return frozenset(found)


class _Recorder:
    """A pytest plugin that asks a tracer after each test what has run."""

    def __init__(self, tracer: trace.Tracer, root: Path) -> None:
        self._tracer = tracer
        self._root = str(root) + "/"
        self._started = time.monotonic()
        self.found: dict[str, Any] = {"tests": {}, "file": {}, "seconds": 0.0}
        self._wide: set[tuple[str, int]] = set()

    def _by_module(self, lines: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
        found: defaultdict[str, list[int]] = defaultdict(list)
        for path, line in sorted(lines):
            found[path.removeprefix(self._root)].append(line)
        return found

    def pytest_collection_finish(self) -> None:
        self._wide |= self._tracer.take()
        self.found["seconds"] = time.monotonic() - self._started

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        """What several tests share is run for all of them."""
        if fixturedef.scope == "function":
            return (yield)
        before, self._tracer.lines = self._tracer.lines, set()
        try:
            return (yield)
        finally:
            self._wide |= self._tracer.lines
            self._tracer.lines |= before

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        started = time.monotonic()
        self.found["tests"][item.nodeid] = test = {"ok": True, "seconds": 0.0, "lines": {}}
        self._tracer.take()
        result = yield
        test["seconds"] = time.monotonic() - started
        test["lines"] = self._by_module(self._tracer.take())
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.found["tests"][report.nodeid]["ok"] = False

    def pytest_sessionfinish(self) -> None:
        self.found["file"] = self._by_module(self._wide)


class _Passing:
    """A pytest plugin that notes what passes, of the tests it lets run."""

    def __init__(self, wanted: Iterable[str]) -> None:
        self._wanted = set(wanted)
        self.failed: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self._wanted]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)


def arguments(files: Iterable[str]) -> list[str]:
    """How pytest is run here: alone, the same way each time, hypothesis being imported already.

    The long counts say nothing of a line that their samples do not.
    """
    plain = ["-q", "-m", "not soak", "-p", "no:cacheprovider", "-p", "no:xdist"]
    plain += ["--hypothesis-seed=0"]
    return [*plain, "-W", "ignore::pytest.PytestAssertRewriteWarning", *files]


def _follow(top: Path) -> dict[Path, bytes]:
    """manactl/__init__.py, followed in every process that imports it: tests start some."""
    place = top / "src" / "manactl" / "__init__.py"
    hits = box.SCRATCH / ".hits"
    tracer = Path(trace.__file__)
    code = _FOLLOW.format(pid=2, tracer=str(tracer), top=str(place.parent), hits=str(hits))
    return {place: place.read_bytes() + code.encode()}


def _measure(top: Path, file: str) -> dict[str, Any]:
    """Run the tests of a file, in a box; for a process of its own."""
    root = top / "src" / "manactl"
    reader, writer = os.pipe()

    def work() -> int:
        tracer = trace.Tracer(str(root), str(box.SCRATCH / ".hits"))
        recorder = _Recorder(tracer, root)
        tracer.start()
        pytest.main(arguments([file]), plugins=[recorder])
        sys.settrace(None)
        with open(writer, "w") as out:
            json.dump(recorder.found, out)
        return 0

    def again(wanted: Sequence[str]) -> int:
        passing = _Passing(wanted)
        pytest.main(arguments([file]), plugins=[passing])
        with open(writer, "w") as out:
            json.dump(sorted(passing.failed), out)
        return 0

    found: dict[str, Any] = pool.answer(lambda: box.run(work, top, _follow(top)), reader, writer)
    failed = [name for name, test in found["tests"].items() if not test["ok"]]
    if failed:  # some only cannot stand to be watched
        reader, writer = os.pipe()
        still = pool.answer(lambda: box.run(lambda: again(failed), top, {}), reader, writer)
        for name in set(failed) - set(still):
            found["tests"][name]["ok"] = True
    return found


def _digest(top: Path, *paths: Path) -> bytes:
    digest = hashlib.sha256()
    for path in paths:
        name = str(path.relative_to(top)).encode()
        digest.update(name + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


def _files(top: Path) -> list[str]:
    """The test files, but for those of this tool."""
    return sorted(
        name
        for place in _TESTS
        for path in (top / place).rglob("test_*.py")
        if not _of_this_tool(name := path.relative_to(top).as_posix())
    )


def _of_this_tool(name: str) -> bool:
    return bool({"mutants", "test_mutants.py"}.intersection(name.split("/")))


def shared(top: Path, files: Iterable[str]) -> bytes:
    """What all tests depend on: the program, and what the tests share."""
    paths = (
        path
        for place in ("src", "tests", "tools", "completions", "man")
        for path in (top / place).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    )
    names = {path.relative_to(top).as_posix() for path in paths}.difference(files)
    wanted = sorted(
        name for name in names if not name.startswith("tests/lab/") and not _of_this_tool(name)
    )
    settings = tomllib.loads((top / "pyproject.toml").read_text())["tool"]["pytest"]
    return _digest(top, *(top / name for name in wanted)) + json.dumps(settings).encode()


def reach(top: Path, cache: Path, jobs: int) -> Reach:
    """What the tests reach; measured where the cache does not have it."""
    files = _files(top)
    common = hashlib.sha256(_FORMAT + shared(top, files))
    cache.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Path] = {}
    for file in files:
        key = common.copy()
        key.update(_digest(top, top / file))
        kept[file] = cache / f"{key.hexdigest()[:24]}.json"
    missing = [file for file in files if not kept[file].exists()]
    # The longest first, or the last of them keeps all waiting.
    missing.sort(key=lambda file: ("netns" in file, (top / file).stat().st_size), reverse=True)
    tasks = {file: (lambda file=file: _measure(top, file)) for file in missing}
    for number, (file, found) in enumerate(pool.run(tasks, jobs)):
        pool.progress(f"what the tests reach: {number + 1} of {len(missing)} files")
        new = kept[file].with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(found))
        new.replace(kept[file])
    result = Reach(importers(top / "src" / "manactl"))
    for file, path in kept.items():
        os.utime(path)
        result.named[file] = named((top / file).read_bytes())
        _read(result, file, json.loads(path.read_text()))
    _forget(cache)
    return result


def _read(result: Reach, file: str, found: Mapping[str, Any]) -> None:
    result.imports[file] = {module: frozenset(lines) for module, lines in found["file"].items()}
    result.seconds[file] = found["seconds"]
    for name, test in found["tests"].items():
        if test["ok"]:
            lines = {module: frozenset(of) for module, of in test["lines"].items()}
            result.tests.append(Case(name, file, test["seconds"], lines))
        else:
            result.failing.append(name)


def _forget(cache: Path, days: int = 14) -> None:
    for path in cache.iterdir():
        if time.time() - path.stat().st_mtime > days * 86400:
            path.unlink(missing_ok=True)
