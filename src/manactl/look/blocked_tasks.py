"""Tasks that wait inside the mana drivers, usually for an answer of the device."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from manactl.look.text_files import names

_DRIVERS = "mana_"  # what the functions of mana and mana_ib begin with
_CREATION = ("mana_ib_create_qp", "mana_ib_cfg_vport")


class Waiting(NamedTuple):
    """A thread that cannot be interrupted, and the innermost function of a driver it is in.

    `pid` is that of its process, `comm` the thread's own.
    """

    pid: int
    comm: str
    function: str
    creates: bool  # a queue pair, which may be a raw one


def waiting(proc: str) -> Iterator[Waiting]:
    """Every such thread of every process, kernel threads included.

    Where a thread waits, only root can see: for others there is none.
    """
    for entry in names(proc):
        if not entry.isdecimal():
            continue
        stat = _read(f"{proc}/{entry}/stat")
        first = f"{proc}/{entry}"
        for base, of_thread in [(first, stat), *_other_threads(first, entry, stat)]:
            head, _, rest = of_thread.rpartition(b")")
            if not rest.startswith(b" D"):
                continue
            # TASK_IDLE, in which idle kernel threads rest, reads I; whoever is here is in earnest.
            stack = _read(f"{base}/stack").decode("ascii", "replace")
            if functions := in_drivers(stack):
                comm = head.partition(b"(")[2].decode("utf-8", "surrogateescape")
                creates = any(function.startswith(_CREATION) for function in functions)
                yield Waiting(int(entry), comm, functions[0], creates)


def _other_threads(base: str, pid: str, stat: bytes) -> Iterator[tuple[str, bytes]]:
    """Directory and stat of each but the first, which tells how many there are (field 20)."""
    fields = stat.rpartition(b")")[2].split(maxsplit=18)
    if len(fields) < 19 or fields[17] == b"1":
        return
    for thread in names(f"{base}/task"):
        if thread != pid:
            yield f"{base}/task/{thread}", _read(f"{base}/task/{thread}/stat")


def in_drivers(stack: str) -> list[str]:
    """The drivers' functions in /proc/PID/stack ("[<0>] name+0x12/0x34 [module]")."""
    names = (line.partition("] ")[2].partition("+")[0] for line in stack.splitlines())
    return [name for name in names if name.startswith(_DRIVERS)]


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
