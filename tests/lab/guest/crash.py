"""Runs manactl in the guest, kills it where it is told to, and shows what `ip` then shows.

    python3 crash.py

Commands:
    in NETNS HOW WORDS...  as `run`, in another network namespace, as `ip netns exec` would
    run HOW WORDS...   run manactl WORDS; tells {"rc", "killed", "ms", "acts", "text"}. HOW:
                       `whole`; `traced`, which lists what it does to the world; `before:N` and
                       `during:N`, killed when it is about to do act N (from 0), or has just begun
                       it; with `:DEVICE` behind one of these a sector is written to that block
                       device before each act and at the end; `timed:TRIGGER:MS`, killed MS after a journal holds TRIGGER (below zero:
                       counted from the start)
                       `guard-traced`, `guard-before:N` and `guard-during:N`: the same of the
                       claim's guardian; tells when that has ended
    view               what `ip` shows, once no address is tentative any more; and the names of
                       what is where the journals of claims are
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.lab.guest.lines import obey, tell
from tests.lab.guest.trap import Watcher
from tests.lab.guest.zygote import load, run

CLAIMS = "/var/lib/manactl/claims"
OUT = "/tmp/crash.out"
SECTOR = 512
ROUTES = "route show table all\nrule\n"
LINKS = "address\nnexthop\nneighbour show nud permanent\nneighbour show proxy\n"
VIEWS = (("", LINKS), ("-4", ROUTES), ("-6", ROUTES))
_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET, _CLONE_NEWNS = 0x40000000, 0x20000
_MS_REC, _MS_SLAVE, _MNT_DETACH = 0x4000, 0x80000, 2


def enter(netns: str) -> None:
    """Go into a named network namespace, with a /sys that shows it; see ip-netns(8)."""
    with open(f"/run/netns/{netns}", "rb") as file:
        for failed in (
            _libc.setns(file.fileno(), _CLONE_NEWNET),
            _libc.unshare(_CLONE_NEWNS),
            _libc.mount(b"", b"/", b"none", _MS_SLAVE | _MS_REC, None),
            _libc.umount2(b"/sys", _MNT_DETACH),
            _libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None),
        ):
            if failed:
                raise OSError(ctypes.get_errno(), netns)


def start(words: tuple[str, ...], netns: str | None, *, trapped: bool) -> int:
    """Begin a run in a fork of this process, which has manactl loaded; its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            if netns is not None:
                enter(netns)
            run(list(words), OUT, trapped)
        finally:
            os._exit(71)
    return pid


def acted(trigger: bytes) -> bool:
    """Whether a journal holds the text."""
    try:
        names = [name for name in os.listdir(CLAIMS) if not name.startswith(".")]
    except FileNotFoundError:
        return False
    for name in names:
        try:
            with open(os.path.join(CLAIMS, name), "rb") as file:
                if trigger in file.read():
                    return True
        except FileNotFoundError:
            pass  # moved to the history between the two calls
    return False


class Marks:
    """Sectors with a text, written straight to a block device: what its log of writes has before
    a mark was written before the act that the mark tells."""

    def __init__(self, device: str) -> None:
        self._fd = os.open(device, os.O_WRONLY | os.O_DIRECT)
        self._page = mmap.mmap(-1, 4096)

    def close(self) -> None:
        os.close(self._fd)

    def write(self, text: str) -> None:
        self._page[:SECTOR] = f"mark {text}\n".encode().ljust(SECTOR, b"\0")
        with memoryview(self._page)[:SECTOR] as sector:
            os.pwrite(self._fd, sector, 0)


class Crash:
    def run(self, how: str, *words: str) -> None:
        self._run(None, how, words)

    def within(self, netns: str, how: str, *words: str) -> None:
        self._run(netns, how, words)

    def _run(self, netns: str | None, how: str, words: tuple[str, ...]) -> None:
        kind, *more = how.split(":")
        follow = "manactl-guard" if kind.startswith("guard-") else None
        kind = kind.removeprefix("guard-")
        began = time.monotonic()
        acts: list[str] = []
        pid = start(words, netns, trapped=kind in ("traced", "before", "during"))
        if kind == "timed":
            began = self._timed(pid, more[0].encode(), float(more[1]))
        elif kind != "whole":
            target = int(more.pop(0)) if kind != "traced" else -1
            acts = self._trapped(pid, kind, target, Marks(more[0]) if more else None, follow)
        rc = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        ms = (time.monotonic() - began) * 1000
        text = Path(OUT).read_text(errors="replace")
        tell("ran", rc=rc, killed=rc == -signal.SIGKILL, ms=ms, acts=acts, text=text)

    def _trapped(
        self, pid: int, kind: str, target: int, marks: Marks | None, follow: str | None
    ) -> list[str]:
        def on_act(number: int, act: str) -> str:
            if marks:
                marks.write(act)
            if number != target:
                return "go"
            return "kill" if kind == "before" else "kill during"

        watcher = Watcher(pid, follow)
        try:
            return watcher.watch(on_act)
        finally:
            watcher.close()
            if marks:
                marks.write("end")
                marks.close()

    def _timed(self, pid: int, trigger: bytes, delay: float) -> float:
        """Kill it; the moment of its first act, or of its start when that came first."""
        watched = os.pidfd_open(pid)
        began = time.monotonic()
        if delay >= 0:
            while not ended(watched) and not acted(trigger):
                time.sleep(0.001)  # a tighter loop would starve the command of the directory's lock
        since = time.monotonic() if delay >= 0 else began
        due = since + abs(delay) / 1000
        while not ended(watched) and time.monotonic() < due:
            time.sleep(0.0002)
        if not ended(watched):
            signal.pidfd_send_signal(watched, signal.SIGKILL)
        os.close(watched)
        return since

    def view(self) -> None:
        deadline = time.monotonic() + 60
        while '"tentative"' in (shown := shows())[0] and time.monotonic() < deadline:
            time.sleep(0.05)
        try:
            names = sorted(os.listdir(CLAIMS))
        except FileNotFoundError:
            names = []
        tell("shown", text=shown, journals=names)


def shows() -> list[str]:
    return [
        subprocess.run(
            ["ip", *filter(None, ["-j", "-d", family, "-batch", "-"])],
            input=lines, text=True, stdout=subprocess.PIPE, check=True,
        ).stdout
        for family, lines in VIEWS
    ]  # fmt: skip


def ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def main() -> None:
    load()
    gc.collect()
    gc.freeze()
    crash = Crash()
    tell("ready")
    obey({"run": crash.run, "in": crash.within, "view": crash.view})


main()
