"""A place of its own for what runs changed code: it can signal, write and configure nothing outside.

Tests of a changed program may signal the wrong process, write the wrong file or set the wrong
link down. In the box there are no other processes and no other links, and the file systems are
read-only, but for an empty /tmp and /run. It also shows other texts in place of files: that is
how processes that the tests start get the changed program, too.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

SCRATCH = Path("/tmp")  # noqa: S108 - a new one is put over it
_OWN = Path(__file__).parents[2]
FAILED = 70  # exit code of a box that could not be made, or of work that raised
_NEWNS, _NEWNET, _NEWPID = 0x00020000, 0x40000000, 0x20000000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
_PR_SET_PDEATHSIG = 1
_MOUNT_SETATTR = 442  # the same number on every architecture
_AT_RECURSIVE = 0x8000
_AT_FDCWD = -100
_MOUNT_ATTR_RDONLY = 1
_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    words = [word.encode() if word is not None else None for word in (source, target, kind)]
    _check(_libc.mount(*words, ctypes.c_ulong(flags), data.encode()), f"mount {target}")


def fork(work: Callable[[], int]) -> int:
    """A child that does some work, exits with its result and dies with us; its pid."""
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    code = FAILED
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        code = work()
    except BaseException as error:  # noqa: BLE001 - a child must not go on as its parent
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
    finally:
        os._exit(code)


def _empty(place: Path, kept: Sequence[Path]) -> None:
    """Put an empty directory over one, but for what is needed of it: that stays, read-only."""
    inside = [path for path in kept if path.is_relative_to(place)]
    sources = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in inside]
    _mount("tmpfs", str(place), "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=1777")
    for path, source in zip(inside, sources, strict=True):
        path.mkdir(parents=True, exist_ok=True)
        _mount(f"/proc/self/fd/{source}", str(path), None, _MS_BIND | _MS_REC)
        os.close(source)


def run(work: Callable[[], int], top: Path, texts: Mapping[Path, bytes]) -> int:
    """Become a box and do some work in it; its exit code, or FAILED where that is not possible.

    For a child that does nothing else: this process is in the new namespaces afterwards, too.
    `work` runs in a process of its own, and whatever it leaves behind ends with it.
    """
    _check(_libc.unshare(_NEWNS | _NEWNET | _NEWPID), "unshare")
    pid = fork(lambda: _first(work, top, texts))
    _, status = os.waitpid(pid, 0)
    return max(os.waitstatus_to_exitcode(status), -1) % 256


def _first(work: Callable[[], int], top: Path, texts: Mapping[Path, bytes]) -> int:
    """Process 1 of the box: makes it, starts the work and buries what is left to it."""
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    attributes = _MountAttr(set=_MOUNT_ATTR_RDONLY)
    arguments = (_AT_FDCWD, b"/", _AT_RECURSIVE, ctypes.byref(attributes))
    _check(
        _libc.syscall(_MOUNT_SETATTR, *arguments, ctypes.sizeof(attributes)),
        "mount_setattr /",
    )
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV)
    for place in (SCRATCH, Path("/run")):
        _empty(place, (top, Path(sys.prefix), _OWN))
    os.chdir(top)  # as it is here
    for number, (path, text) in enumerate(texts.items()):
        source = SCRATCH / f".text{number}"
        source.write_bytes(text)
        os.utime(source, (1, 1))  # a time that no compiled module has noted
        _mount(str(source), str(path), None, _MS_BIND)
    os.environ["TMPDIR"] = str(SCRATCH)
    pid = fork(lambda: _lead(work))
    while True:
        gone, status = os.wait()
        if gone == pid:
            return max(os.waitstatus_to_exitcode(status), -1) % 256


def _lead(work: Callable[[], int]) -> int:
    os.setsid()  # a signal to its group stays in the box
    return work()
