"""One manactl at a time per PCI function, since a reset of the function takes all its ports.

There are two locks. `manactl hold` takes the second alone, for the moment in which it reads the
journal and sets a port down. A claim or release has the first from its first look on, however long
it waits for a vport; it takes the second right before its first record in a journal, and keeps it
until its last. So neither comes between the other's look and its act, and hold keeps the other
ports of a function down while a release waits there. Hold mostly has it for milliseconds, so a claim
waits for it as long as `wait`, and 10 s in any case, before it says that another manactl is at work:
a driver whose NIC does not answer may take minutes to set a netdev down.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from manactl.errors import Busy
from manactl.escape import called
from manactl.journal import file as journal
from manactl.journal import state_dir as statedir
from manactl.look.text_files import read
from manactl.model.port import Evidence
from manactl.poll import LIVE, until

_MOMENT = 10.0  # s for a moment of `manactl hold` to pass, which sets a netdev down in it


@contextlib.contextmanager
def functions(state_dir: Path, pcis: Iterable[str], *, wait: float = 0.0) -> Iterator[None]:
    """Hold both locks of these PCI functions, to act at once. Busy, naming the holder, after `wait`
    seconds."""
    with looking(state_dir, pcis, wait=wait) as acting, acting():
        yield


Acting = Callable[[], AbstractContextManager[bool]]


@contextlib.contextmanager
def looking(state_dir: Path, pcis: Iterable[str], *, wait: float = 0.0) -> Iterator[Acting]:
    """Hold the first locks of these PCI functions, and yield what holds the second ones, too: that
    says whether it had to wait for them, after which the look is old. Both are Busy, naming the
    holder, `wait` seconds after the start.

    flock(2): the kernel drops a lock with its process, however that ends; the file's text only
    names the holder. Always taken in the same order, so that two claims cannot wait for each other.
    """
    statedir.prepare(state_dir)
    deadline = time.monotonic() + wait
    with contextlib.ExitStack() as stack:
        ours = sorted(set(pcis))
        for pci in ours:
            stack.enter_context(_function(state_dir / "locks" / f"{pci}.lock", pci, deadline))
        yield lambda: _acting(state_dir, ours, deadline)


@contextlib.contextmanager
def _acting(state_dir: Path, pcis: Iterable[str], deadline: float) -> Iterator[bool]:
    with contextlib.ExitStack() as stack:
        waited = False
        for pci in pcis:
            passed = max(deadline, time.monotonic() + _MOMENT)
            waited |= stack.enter_context(_function(_second(state_dir, pci), pci, passed))
        yield waited


@contextlib.contextmanager
def moment(state_dir: Path, pci: str) -> Iterator[bool]:
    """Keep claims and releases of this function waiting; False, at once, where one is at work or
    another process has such a moment. Refused where the lock cannot be opened or taken.

    On a disk that has become read-only it is opened for reading: flock(2) needs no more.
    """
    with contextlib.ExitStack() as stack:
        try:
            path, now = _second(state_dir, pci), time.monotonic()
            stack.enter_context(_function(path, pci, now, read_only=True))
        except Busy:
            free = False
        else:
            free = True
        yield free


def _second(state_dir: Path, pci: str) -> Path:
    return state_dir / "locks" / f"{pci}.hold"


@contextlib.contextmanager
def _function(path: Path, pci: str, deadline: float, *, read_only: bool = False) -> Iterator[bool]:
    """Hold a lock; whether it had to be waited for."""
    try:
        fd = _open(path, read_only=read_only)
    except OSError as error:
        raise statedir.unusable(path, error) from error
    try:
        waited = not _take(fd, path)
        if waited and not until(LIVE, lambda: _take(fd, path), deadline - time.monotonic()):
            raise _held(fd, pci)
        me = {"pid": os.getpid(), "comm": _comm(os.getpid()), "since": journal.stamp()}
        with contextlib.suppress(OSError):  # a full disk: the lock holds without its name too
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(me).encode(), 0)
        yield waited
    finally:
        statedir.close(fd)


def _open(path: Path, *, read_only: bool) -> int:
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
    except OSError as error:
        if not read_only or error.errno != errno.EROFS:
            raise
    return os.open(path, os.O_RDONLY | flags)


def _take(fd: int, path: Path) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # ENOLCK
        raise statedir.unusable(path, error) from error
    return True


def _comm(pid: int) -> str | None:
    try:
        return read(f"/proc/{pid}/comm")
    except OSError:
        return None


def _held(fd: int, pci: str) -> Busy:
    try:
        who = json.loads(os.pread(fd, 4096, 0))
        pid, since = int(who["pid"]), str(who["since"])
    except (OSError, ValueError, KeyError, TypeError):
        pid, since = 0, "just now"
    comm = _comm(pid) if pid else None
    name = f"pid {pid} ({called(comm, 'gone')})" if pid else "an unknown process"
    return Busy(
        f"another manactl is at work on {pci}: {name}, since {since}",
        untouched="nothing was touched",
        hint="try again when it is done, or with --wait SECONDS",
        evidence=[Evidence("lock", str(pci), {"pid": pid or None, "comm": comm, "since": since})],
        code="locked",
    )
