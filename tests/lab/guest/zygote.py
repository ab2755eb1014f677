"""manactl, loaded: each run is a fork of who has loaded it, and spends no time on starting Python.

A trapped run waits for its watcher (trap.py) at every act.
"""

from __future__ import annotations

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
