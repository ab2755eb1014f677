"""manactl, loaded: each run is a fork of who has loaded it, and spends no time on starting Python.

A trapped run waits for its watcher (trap.py) at every act.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).parents[3]))
import manactl
from manactl.cli.main import COMMANDS
from manactl.cli.main import main as manactl_main
from tests.lab.guest import trap

PR_SET_MM, PR_SET_MM_ENV_START, PR_SET_MM_ENV_END = 35, 10, 11  # <linux/prctl.h>
_SHOWN: list[object] = []


def load() -> None:
    """What a claim and a release import, early or late."""
    for command in COMMANDS.values():
        command()
    top = Path(manactl.__file__).parent
    for path in top.rglob("*.py"):
        name = ".".join(path.relative_to(top.parent).with_suffix("").parts)
        if not name.endswith("__main__"):
            importlib.import_module(name)
    for name in ("pyroute2", "pyverbs.device", "pyverbs.pd", "pyverbs.mem_alloc", "syslog"):
        importlib.import_module(name)


def environment(more: dict[str, str]) -> None:
    """Have these variables as well, in /proc/PID/environ too, where manactl looks for a session.

    The kernel shows the memory that it was told to show (prctl(2), PR_SET_MM).
    """
    if not more:
        return
    os.environ.update(more)
    text = b"".join(name + b"=" + value + b"\0" for name, value in os.environb.items())
    block = ctypes.create_string_buffer(text, len(text))
    _SHOWN.append(block)  # for as long as this process lives
    libc, start = ctypes.CDLL(None, use_errno=True), ctypes.addressof(block)
    # The start first: of two that are in the wrong order the kernel takes neither.
    for option, address in ((PR_SET_MM_ENV_START, start), (PR_SET_MM_ENV_END, start + len(text))):
        if libc.prctl(PR_SET_MM, option, ctypes.c_ulong(address), 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_MM)")


def run(argv: list[str], out: str, trapped: bool, err: str | None = None) -> NoReturn:
    """Be manactl. Its standard error goes where its output goes, unless `err` is another file."""
    code = 70
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        first = os.open(out, flags, 0o600)
        second = first if err is None else os.open(err, flags, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (first, 1), (second, 2)):
            os.dup2(source, target)
        os.closerange(3, 100)
        if trapped:
            trap.install()
        sys.argv = ["manactl", *argv]
        code = manactl_main()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
