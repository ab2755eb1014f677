"""A file that readers find whole: the old content or the new one, never a part of it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from pathlib import Path

from manactl.errors import Denied, ManactlError, RolledBack, UsageError

MODE = 0o644  # for a collector that runs as another user


def write(path: Path, text: str) -> None:
    """Replace the content of `path` by `text`, or raise with the old file as it was.

    A symbolic link is followed, and what it leads to replaced. The new content is on the disk
    before it gets its name, so that a crash of the machine leaves no empty file either.
    UsageError where there can be no such file, Denied without the permission, RolledBack for
    what a disk may say (full, broken, read-only).
    """
    try:
        target = _target(path)
        _replace(target, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise _explained(path, error) from error


def _target(path: Path) -> Path:
    """The file to replace; renaming over a device or a pipe would destroy it."""
    target = Path(os.path.realpath(path))
    with contextlib.suppress(FileNotFoundError):
        mode = target.stat().st_mode
        if not stat.S_ISREG(mode):
            raise UsageError(
                f"{path} is not a regular file",
                hint="--output replaces a file; without it the text goes to standard output",
            )
    return target


def _replace(target: Path, data: bytes) -> None:
    # The leading dot and the missing ending keep it from being collected half-written.
    number, name = tempfile.mkstemp(prefix=f".{target.name[:200]}.", dir=target.parent)
    try:
        with os.fdopen(number, "wb") as file:
            os.fchmod(file.fileno(), MODE)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _explained(path: Path, error: OSError) -> ManactlError:
    message = f"cannot write {path}: {error.strerror}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return Denied(
            message,
            hint=f"writing needs permission on the directory {path.parent}, or CAP_DAC_OVERRIDE",
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
        return UsageError(message, hint=f"the directory {path.parent} must exist")
    return RolledBack(message, hint="the file there, if any, is as it was")
