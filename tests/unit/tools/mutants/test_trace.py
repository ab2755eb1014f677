"""Which lines are noted: those of processes that a test forks, too, however they go on."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tools.mutants import trace

from tests.conftest import lacking

PROGRAM = """\
import os, sys
from pathlib import Path

def work(way, other):
    if way == "closes all":
        os.closerange(3, 100)
    if way == "has another file":
        os.closerange(3, 100)
        for _ in range(9):
            os.open(other, os.O_WRONLY)
    if way == "is nobody":
        os.setuid(65534)
    return 1

def forked(way, other):
    pid = os.fork()
    if pid == 0:
        try:
            work(way, other)
            done = 1
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)
"""
WATCH = """\
import importlib.util, sys
top, hits, way, other, tracer = sys.argv[1:]
spec = importlib.util.spec_from_file_location("trace_lines", tracer)
trace = importlib.util.module_from_spec(spec)
spec.loader.exec_module(trace)
sys.path.insert(0, top)
import program
watch = trace.Tracer(top, hits)
watch.start()
watch.take()
program.forked(way, other)
print(*sorted(line for path, line in watch.take()))
program.work("", other)
print(*sorted(line for path, line in watch.take()))
"""


@pytest.mark.parametrize("way", ["goes on", "closes all", "has another file", "is nobody"])
def test_what_a_forked_child_runs_is_noted(tmp_path: Path, way: str) -> None:
    if way == "is nobody" and os.geteuid() != 0:
        lacking("netns", "only root can become somebody else")
    top = tmp_path / "top"
    top.mkdir()
    (top / "program.py").write_text(PROGRAM)
    other = tmp_path / "other"
    other.touch()
    with tempfile.TemporaryDirectory(dir="/tmp") as public:
        Path(public).chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", WATCH, str(top), f"{public}/hits", way, str(other),
             str(trace.__file__)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    of_fork, after = (set(map(int, line.split())) for line in done.stdout.splitlines())
    lines = PROGRAM.splitlines()
    for text in ("return 1", "done = 1", "return os.waitpid(pid, 0)"):
        assert next(n for n, line in enumerate(lines, 1) if text in line) in of_fork, text
    # What was taken is not there again; and no other file has got any of it.
    assert next(n for n, line in enumerate(lines, 1) if "done = 1" in line) not in after
    assert other.read_bytes() == b""
