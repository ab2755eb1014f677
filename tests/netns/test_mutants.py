"""A small program with tests of its own, mutated: what its tests notice and what they do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import lacking

TOP = Path(__file__).parents[2]
FILES = {
    "pyproject.toml": "[tool.pytest.ini_options]\npythonpath = ['src', '.']\n",
    "src/manactl/__init__.py": "",
    "src/manactl/some.py": """\
        FACTOR = 2

        def grown(x: int) -> int:
            if x > 10:
                return x * 3
            return x * FACTOR

        def never() -> bool:
            return True

        def target(pid: int) -> int:
            return pid or 1

        def loops(x: int) -> int:
            while True:
                break
            return x
        """,
    "tests/__init__.py": "",
    "tests/unit/__init__.py": "",
    "tests/unit/test_some.py": """\
        import os, signal, subprocess, sys
        from manactl import some

        def test_small():
            assert some.grown(1) == 2

        def test_large():
            out = subprocess.check_output(
                [sys.executable, "-c", "from manactl import some; print(some.grown(20))"],
                env={"PYTHONPATH": "src"},
            )
            assert out == b"60\\n"

        def test_loops():
            assert some.loops(1) == 1

        def test_files():
            with open("made", "w"):
                pass

        def test_signal():
            child = subprocess.Popen(["sleep", "60"])
            os.kill(some.target(child.pid), signal.SIGKILL)
            assert child.wait() == -9
        """,
    "tests/netns/__init__.py": "",
}


def run(tmp_path: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tools.mutants", f"--top={tmp_path}", "some.py", *words],
        cwd=TOP,
        env={"PATH": os.environ["PATH"], "MANACTL_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_what_is_noticed(tmp_path: Path) -> None:
    probe = subprocess.run(["unshare", "-mnp", "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        lacking("netns", probe.stderr)
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line.removeprefix(" " * 8) for line in text.split("\n")))

    code, out = run(tmp_path, "--all", "--verbose", "-j2", "--patience=8")

    assert code == 1, out
    # A tree is read-only while its tests run, so this one is of no use.
    assert "left out: tests/unit/test_some.py::test_files" in out
    assert not (tmp_path / "made").exists()
    killed = {tuple(line.split()[1:]) for line in out.splitlines() if ": tests/" in line}
    by = "tests/unit/test_some.py::test_"
    # A subprocess gets the changed program, and what only that runs is known.
    assert ("some.py:5", "other", "number:", f"{by}large") in killed
    # What is run at import is tested by all that use the module.
    assert ("some.py:1", "other", "number:", f"{by}small") in killed
    # A signal that goes astray ends in the box; a loop ends by a time-out.
    assert any(where == "some.py:12" for where, *_ in killed)
    assert ("some.py:16", "other", "jump:", f"{by}loops", "(time-out)") in killed
    # x > 10: neither 10 nor 11 is tried. never() is run by no test. The others do not say which
    # pid it is when there is none.
    lines = [line for line in out.splitlines() if line.startswith("src/manactl/some.py:")]
    assert [line.split(" (")[0].partition(":")[2] for line in lines] == [
        "4 grown: other comparison",
        "4 grown: other number",
        "4 grown: other number",
        "9 never: other result",
        "12 target: drop condition",
        "12 target: other number",
        "12 target: other number",
    ], out


@pytest.mark.parametrize("words", [["--only", "0123abcd"], ["--module", "gone.py"]])
def test_what_is_not_there(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "src/manactl").mkdir(parents=True)
    (tmp_path / "src/manactl/some.py").touch()
    code, out = run(tmp_path, *words)
    assert code == 1
    assert out.startswith("no m")
