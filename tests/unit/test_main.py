"""`python3 -m manactl`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SRC = Path(__file__).parents[2] / "src"


def test_it_ends_with_the_code_of_main() -> None:
    argv = [sys.executable, "-m", "manactl", "--no-such"]
    env = {"PYTHONPATH": str(SRC)}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("manactl: ")


def test_importing_it_runs_nothing() -> None:
    argv = [sys.executable, "-c", "import manactl.__main__"]
    env = {"PYTHONPATH": str(SRC)}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_interrupt_while_modules_load_is_130_and_no_traceback(tmp_path: Path) -> None:
    """click, which is loaded first, is one here that brings the signal."""
    (tmp_path / "click.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    argv = [sys.executable, "-m", "manactl", "--version"]
    env = {"PYTHONPATH": f"{tmp_path}:{SRC}"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
