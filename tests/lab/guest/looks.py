"""Run `manactl status --json` again and again without starting an interpreter for each.

    python3 looks.py

Command: `look`; the answer has the exit code and both outputs. Every look is a child of this
process, which has only imported what status needs and looked at nothing: nothing is carried over.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parents[3] / "src"))
from manactl import report
from manactl.cli import main, status
from manactl.journal import file as journal
from manactl.render import document
from tests.lab.guest.lines import obey, tell

LOADED = (document, journal, report, status)


def once() -> None:
    """In the child: what a fresh process would print, and its exit code, as one fact."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.main(["status", "--json"])
    tell("looked", rc=code, out=out.getvalue(), err=err.getvalue())


def fork() -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            once()
            code = 0
        finally:
            os._exit(code)
    _, how = os.waitpid(pid, 0)
    if how:
        tell("broke", how=how)


if __name__ == "__main__":
    tell("ready", pid=os.getpid())
    obey({"look": fork})
