"""Tasks that wait inside the mana drivers, usually for an answer of the device."""

from collections.abc import Iterator

from manactl.look.procfs import Stat, stat_of
from manactl.look.text_files import names, rows, text
from manactl.model.named_tuple import NamedTuple

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
        first = f"{proc}/{entry}"
        stat = stat_of(first)
        for base, of_thread in [(first, stat), *_other_threads(first, entry, stat)]:
            if of_thread.state != "D":
                continue
            # TASK_IDLE, in which idle kernel threads rest, reads I; whoever is here is in earnest.
            if functions := in_drivers(text(f"{base}/stack") or ""):
                creates = any(function.startswith(_CREATION) for function in functions)
                yield Waiting(int(entry), of_thread.comm, functions[0], creates)


def _other_threads(base: str, pid: str, stat: Stat) -> Iterator[tuple[str, Stat]]:
    """Directory and stat of each but the first, which tells how many there are."""
    if stat.threads in (None, 1):
        return
    for thread in names(f"{base}/task"):
        if thread != pid:
            task = f"{base}/task/{thread}"
            yield task, stat_of(task)


def in_drivers(stack: str) -> list[str]:
    """The drivers' functions in /proc/PID/stack ("[<0>] name+0x12/0x34 [module]")."""
    names = (line.partition("] ")[2].partition("+")[0] for line in rows(stack))
    return [name for name in names if name.startswith(_DRIVERS)]
