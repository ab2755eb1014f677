"""Runs manactl in the guest as forks of one process that has it loaded; both of its streams apart.

    python3 runs.py

Commands, ORDER being {"argv": [...]} in JSON, perhaps with {"env": {...}} more of an environment:
    run ORDER            runs it to its end; tells {"pid", "rc", "out", "err"}; with "signals":
                         {ACT: NUMBER} also {"acts": [...]}, which it does to the world (trap.py),
                         and it is sent a signal when it is about to do act ACT (from 0)
    start ORDER          begins it; tells {"pid"}
    signal PID NUMBER    sends a signal to it alone
    said PID             what it has printed so far: {"rc" (None: it runs), "out", "err"}
    end PID              waits for its end; tells as `run` does
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.lab.guest.lines import tell
from tests.lab.guest.trap import Watcher
from tests.lab.guest.zygote import environment, load, run


class Runs:
    """The forks, and how each has ended."""

    def __init__(self) -> None:
        self._codes: dict[int, int] = {}
        self._number = 0
        self._streams: dict[int, tuple[Path, Path]] = {}
        self._acts: dict[int, list[str]] = {}

    def start(self, order: str) -> int:
        wanted = json.loads(order)
        self._number += 1
        stem = f"/tmp/runs.{os.getpid()}.{self._number}"
        out, err = Path(f"{stem}.stdout"), Path(f"{stem}.stderr")
        pid = os.fork()
        self._codes.pop(pid, None)  # of an earlier one with that number
        if pid == 0:
            environment(wanted.get("env", {}))
            run(wanted["argv"], str(out), "signals" in wanted, str(err))
        self._streams[pid] = out, err
        if "signals" in wanted:
            self._acts[pid] = watched(pid, wanted["signals"])
        return pid

    def reap(self) -> None:
        """Note how those that have ended did; what a test leaves running is killed after it."""
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                self._codes[found[0]] = os.waitstatus_to_exitcode(found[1])

    def end(self, pid: int) -> None:
        if pid not in self._codes:
            self._codes[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def facts(self, pid: int) -> dict[str, object]:
        out, err = (
            path.read_text(errors="replace") if path.exists() else "" for path in self._streams[pid]
        )
        acts = self._acts.get(pid, [])
        return {"pid": pid, "rc": self._codes.get(pid), "out": out, "err": err, "acts": acts}


def watched(pid: int, signals: dict[str, int]) -> list[str]:
    """What a trapped run does until its end, with signals at some of its acts."""

    def on_act(number: int, _act: str) -> str:
        wanted = signals.get(str(number))
        if wanted == signal.SIGKILL:
            return "kill"  # let go, the call might be made before the signal comes
        if wanted is not None:
            os.kill(pid, wanted)
        return "go"

    watcher = Watcher(pid)
    try:
        return watcher.watch(on_act)
    finally:
        watcher.close()


def main() -> None:
    load()
    runs = Runs()
    tell("ready")
    for line in iter(sys.stdin.readline, ""):
        command, _, rest = line.strip().partition(" ")
        runs.reap()
        if command in ("run", "start"):
            pid = runs.start(rest)
            if command == "start":
                tell("started", pid=pid)
                continue
            runs.end(pid)
        else:
            number, *more = map(int, rest.split())
            pid = number
            if command == "signal":
                os.kill(pid, more[0])
                tell("signalled")
                continue
            if command == "end":
                runs.end(pid)
        tell("ran", **runs.facts(pid))


if __name__ == "__main__":
    main()
