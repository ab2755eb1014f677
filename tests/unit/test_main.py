"""`python3 -m manactl`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


LOCALE_SCRIPT = """
import json, os, sys
import manactl.__main__
from manactl.look.text_files import read
name = read(sys.argv[1] + "/name")  # as a netdev's master is read, and its sysctls are found by it
print(json.dumps([
    sys.flags.utf8_mode, os.path.exists(f"{sys.argv[1]}/{name}"), os.fsencode(sys.argv[2]).hex(),
    sys.stdout.encoding, [key for key in os.environ if key.startswith(("PYTHONU", "PYTHONI", "LC_"))],
]))
"""


@pytest.mark.parametrize(
    ("locale", "utf8_mode"),
    [
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, 1),
        ({"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, 1),
        ({"LC_ALL": "C.UTF-8", "PYTHONUTF8": "0"}, 0),  # is right as it is
    ],
)
def test_no_locale_has_a_say_in_names(
    tmp_path: Path, locale: dict[str, str], utf8_mode: int
) -> None:
    """In ASCII the name of a netdev that has other bytes could not be asked for."""
    for name in ("name", "\u00e9\u20ac0"):
        (tmp_path / name).write_text("\u00e9\u20ac0\n", encoding="utf-8")
    odd = b"x\xff\xc3\xa9"
    done = subprocess.run(
        [sys.executable, "-c", LOCALE_SCRIPT, str(tmp_path), odd],
        capture_output=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SRC), **locale},
        check=True,
    )
    mode, there, argument, encoding, environ = json.loads(done.stdout)
    assert (mode, there, bytes.fromhex(argument)) == (utf8_mode, True, odd)
    assert encoding == ("utf-8" if not utf8_mode else "ascii")
    assert environ == [key for key in locale if key != "PYTHONCOERCECLOCALE"]  # the operator's


def test_in_ascii_a_command_prints_what_it_can_and_fails_nowhere() -> None:
    words = [sys.executable, "-m", "manactl", "explain", "\u20ac"]
    done = subprocess.run(
        words,
        capture_output=True,
        env={"PYTHONPATH": str(SRC), "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        check=False,
    )
    assert b"nothing is known about '\\u20ac'" in done.stderr


COLLECTED_SCRIPT = """
import atexit, gc, sys
def count():
    return sum(generation["collections"] for generation in gc.get_stats())
atexit.register(lambda: print("left", gc.get_freeze_count() > 10_000, file=sys.stderr))
import contextlib, manactl.inherited  # are loaded before anything can be set
gc.collect()
before = count()
from manactl.__main__ import main
main(sys.argv[1:])
print("collections", count() - before, file=sys.stderr)
for _ in range(3 * gc.get_threshold()[0]):
    ring = []
    ring.append(ring)
print("later", count() > before, file=sys.stderr)
"""


@pytest.mark.parametrize("words", [["status", "--json"], ["claim", "--raw-qp", "x", "--dry-run"]])
def test_a_short_command_is_not_searched_for_cycles_and_a_long_one_is(
    tmp_path: Path, words: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COLLECTED_SCRIPT, "--state-dir", str(tmp_path), *words],
        env={"PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        check=True,
    )
    told = [line for line in done.stderr.splitlines() if line.startswith(("coll", "later", "left"))]
    assert told == ["collections 0", "later True", "left True"]
