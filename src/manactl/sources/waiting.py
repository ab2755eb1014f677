"""Tasks that wait inside the mana drivers, as a rule for an answer of the device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from manactl.sources.sysfs import listdir

_DRIVERS = "mana_"  # what the functions of mana and mana_ib begin with


class Waiting(NamedTuple):
    """A task that cannot be interrupted, and the innermost function of a driver it is in."""

    pid: int
    comm: str
    function: str


def waiting(proc: str) -> Iterator[Waiting]:
    """Every such task, kernel threads included; of a process its first thread only.

    Where a task waits, only root can see: for others there is none.
    """
    for entry in listdir(proc):
        if not entry.isdecimal():
            continue
        head, _, rest = _read(f"{proc}/{entry}/stat").rpartition(b")")
        if not rest.startswith(b" D"):
            continue
        # TASK_IDLE, in which idle kernel threads rest, reads I; whoever is here waits in earnest.
        function = innermost(_read(f"{proc}/{entry}/stack").decode("ascii", "replace"))
        if function is not None:
            comm = head.partition(b"(")[2].decode("utf-8", "surrogateescape")
            yield Waiting(int(entry), comm, function)


def innermost(stack: str) -> str | None:
    """The first function of a driver in /proc/PID/stack ("[<0>] name+0x12/0x34 [module]")."""
    for line in stack.splitlines():
        name = line.partition("] ")[2].partition("+")[0]
        if name.startswith(_DRIVERS):
            return name
    return None


def _read(path: str) -> bytes:
    """Nothing when the process has ended, or when it may not be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 16384)
    except OSError:
        return b""
    finally:
        os.close(fd)
