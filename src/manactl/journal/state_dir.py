"""The directory of journals and locks: private, and swept of what was never finished."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
from datetime import UTC, datetime
from pathlib import Path

from manactl.errors import Refused, strerror

_FS_IOC_RESVSP = 0x40305828  # _IOW('X', 40, struct space_resv), include/linux/falloc.h
_SPACE_RESV = struct.Struct("=hh4xqqiI16x")
_REMEDY = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "raise the quota",
    errno.EROFS: "mount it writable",
    errno.EACCES: "run it as root",
}


def prepare(state_dir: Path) -> None:
    """Make the state directory, 0700. Refused when others can write or replace it."""
    try:
        for part in (state_dir, state_dir / "claims", state_dir / "history", state_dir / "locks"):
            part.mkdir(mode=0o700, exist_ok=True, parents=part is state_dir)
            info = part.lstat()
            if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
                raise unusable(part, "not a directory of this user")
            if info.st_mode & 0o022:
                raise unusable(part, f"mode {stat.S_IMODE(info.st_mode):o}: others may write it")
    except OSError as error:
        raise unusable(state_dir, error) from error


def unusable(path: Path, why: str | OSError) -> Refused:
    """A state directory that cannot be written: what stays untouched, and what to do."""
    hint = "without a journal nothing could be restored after a crash"
    if isinstance(why, OSError):
        hint = f"{_REMEDY.get(why.errno or 0, 'fix that')}, then try again: {hint}"
        why = strerror(why)
    return Refused(
        f"state directory {path}: {why}",
        untouched="nothing was touched",
        hint=hint,
        code="state-dir",
    )


def not_ours(fd: int) -> str | None:
    """Why an open file is not trusted; None when only this user can have written it."""
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        return "not an ordinary file"
    if info.st_uid != os.geteuid():
        return f"owned by uid {info.st_uid}"
    if info.st_mode & 0o022:
        return f"mode {stat.S_IMODE(info.st_mode):o}: others may write it"
    if info.st_nlink > 1:
        return "it has a second hard link"
    return None


def reserve(fd: int, start: int, length: int) -> None:
    """Room for a file to grow into. OSError (ENOSPC) when there is none.

    FS_IOC_RESVSP, which the kernel serves for every file system that has fallocate()
    (ioctl_preallocate() in fs/ioctl.c): the file's size stays as it is.
    """
    try:
        fcntl.ioctl(fd, _FS_IOC_RESVSP, _SPACE_RESV.pack(0, os.SEEK_SET, start, length, 0, 0))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL):
            raise


def sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        close(fd)


def close(fd: int) -> None:
    """Of a file that was only read, or is on disk already: what close(2) reports has lost nothing,
    and the descriptor is free all the same."""
    with contextlib.suppress(OSError):
        os.close(fd)


def sweep(directory: Path) -> None:
    """Remove headers of claims that died before they became journals: they announced nothing.

    A file that a running claim of another function is about to rename is left alone: it is
    younger than 60 s, and writing a header takes less.
    """
    now = datetime.now(UTC).timestamp()
    for name in os.listdir(directory):
        if name.startswith(".") and name.endswith(".new"):
            with contextlib.suppress(OSError):
                path = directory / name
                if now - path.lstat().st_mtime > 60:
                    path.unlink()
