"""SIGCHLD that whoever started us has left ignored: real processes, started as the command is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.test_main import SRC

ROOT = str(Path(SRC).parent)
IGNORED = 1 << (signal.SIGCHLD - 1)
MINE = f"""
def ignored():
    status = open("/proc/self/status").read()
    return bool(int(status.partition("SigIgn:")[2].split()[0], 16) & {IGNORED})
"""
GUARDIAN = """
from pathlib import Path
from manactl.act import guardian
from tests.unit.host import FakeHost, furnished
with guardian.start(Path(sys.argv[1]), FakeHost(furnished())) as guard:
    print(guard.pid > 1)
"""
COMMAND = """
import os
from manactl.act import exec_mode
line = "^SigIgn:.*[13579bdf]....$"  # bit 16
print(exec_mode.run(["grep", "-q", line, "/proc/self/status"], os.environ, lambda _: None).status)
"""
CHILDREN = """
import subprocess
from manactl.look import bus, forked
print(subprocess.run(["false"]).returncode, forked.Child(lambda: 5).collect(10))
try:
    bus.live(["list"])
except OSError as error:
    print(error.strerror)
"""


def started(program: str, directory: Path, *, ignored: bool) -> str:
    """What a process prints that begins as ours does."""

    def leave() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN if ignored else signal.SIG_DFL)

    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nimport manactl.__main__\n{program}", str(directory)],
        env={"PATH": f"{directory}:{os.environ['PATH']}", "PYTHONPATH": f"{SRC}:{ROOT}"},
        preexec_fn=leave, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert not done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("ignored", [True, False])
def test_the_end_of_a_child_is_known(tmp_path: Path, ignored: bool) -> None:
    busctl = tmp_path / "busctl"
    busctl.write_text("#!/bin/sh\necho 'Access denied' >&2\nexit 1\n")
    busctl.chmod(0o755)
    assert started(CHILDREN, tmp_path, ignored=ignored) == "1 5\nbusctl list: Access denied"
    assert started(MINE + "print(ignored())", tmp_path, ignored=ignored) == "False"


@pytest.mark.parametrize("ignored", [True, False])
def test_a_guardian_starts(tmp_path: Path, ignored: bool) -> None:
    assert started(GUARDIAN, tmp_path, ignored=ignored) == "True"


@pytest.mark.parametrize(("ignored", "code"), [(True, "0"), (False, "1")])
def test_the_command_finds_what_was_left_to_us(tmp_path: Path, ignored: bool, code: str) -> None:
    """Its code is known all the same."""
    assert started(COMMAND, tmp_path, ignored=ignored) == code
