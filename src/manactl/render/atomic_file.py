"""A file that readers find whole: the old content or the new one, never a part of it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from manactl.errors import Denied, ManactlError, RolledBack, UsageError, strerror

MODE = 0o644  # of a new file: for a collector that runs as another user
_NO_SUCH_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
_LINKS_MOST = 40  # as the kernel follows in one path
_TRUSTED = (0, os.geteuid())
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def write(path: Path, text: str, mode: int = MODE) -> None:
    """Replace the content of `path` by `text`, or raise with the old file as it was.

    `mode` is that of a file which is not there yet. A file that is there keeps its owner and mode. A symbolic link is followed, and what it leads
    to replaced; one that somebody else may have planted is refused. The new content is on the disk
    before it gets its name, so that a crash of the machine leaves no empty file either.
    UsageError where there can be no such file, Denied without the permission, RolledBack for
    what a disk may say (full, broken, read-only).
    """
    try:
        with _parent(path) as (directory, name):
            _replace(directory, name, _present(path, directory, name), text, mode)
    except OSError as error:
        raise _explained(path, error) from error


def check(path: Path) -> None:
    """Raise what write() would for where `path` leads now. Nothing is written, so the disk and the
    permission to write are not known yet."""
    try:
        with _parent(path) as (directory, name):
            _present(path, directory, name)
    except OSError as error:
        raise _explained(path, error) from error


@contextlib.contextmanager
def _parent(path: Path) -> Iterator[tuple[int, str]]:
    """The directory of the file, open, and the file's name in it.

    Part by part, each relative to the descriptor of the one before: nobody can exchange one of
    them between the check and the use.
    """
    parts = deque(str(path).split("/"))
    directory = os.open("/" if path.is_absolute() else ".", _DIRECTORY)
    links = 0
    try:
        while True:
            part = parts.popleft()
            last = not any(parts)
            if part in {"", "."}:
                if last:
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                continue
            target = _link(path, directory, part)
            if target is not None:
                links += 1
                if links > _LINKS_MOST:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                if target.startswith("/"):
                    directory = _enter(directory, "/")
                parts.extendleft(reversed(target.split("/")))
            elif last:
                yield directory, part
                return
            else:
                directory = _enter(directory, part)
    finally:
        os.close(directory)


def _enter(directory: int, part: str) -> int:
    """Open what is below `directory`, in its place."""
    found = os.open(part, _DIRECTORY, dir_fd=directory)
    os.close(directory)
    return found


def _link(path: Path, directory: int, name: str) -> str | None:
    """Where a symbolic link leads; None for what is none, or not there."""
    try:
        entry = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        info = os.fstat(entry)
        if not stat.S_ISLNK(info.st_mode):
            return None
        if info.st_uid not in _TRUSTED and _others_may_write(os.fstat(directory)):
            raise UsageError(
                f"{path}: {name} is a symbolic link of uid {info.st_uid} in a directory that others "
                "may write",
                hint="it may have been planted there; write to a directory of your own",
            )
        return os.readlink("", dir_fd=entry)
    finally:
        os.close(entry)


def _others_may_write(directory: os.stat_result) -> bool:
    return bool(directory.st_mode & 0o022) or directory.st_uid not in _TRUSTED


def _present(path: Path, directory: int, name: str) -> os.stat_result | None:
    """The file to replace, None when there is none. Renaming over a device or a pipe would
    destroy it."""
    try:
        info = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(info.st_mode):
        raise UsageError(
            f"{path} is not a regular file",
            hint="what is written replaces a file; name a regular file, or one that is not there yet",
        )
    sticky = bool(os.fstat(directory).st_mode & stat.S_ISVTX)
    if sticky and info.st_uid not in _TRUSTED:
        raise UsageError(
            f"{path} belongs to uid {info.st_uid}, in a directory that others may write",
            hint="it may have been planted there; write to a directory of your own",
        )
    return info


def _replace(
    directory: int, name: str, before: os.stat_result | None, text: str, mode: int
) -> None:
    # The leading dot and the missing ending keep it from being collected half-written.
    hidden = f".{name[:100]}.{os.urandom(6).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    number = os.open(hidden, flags, 0o600, dir_fd=directory)
    try:
        with os.fdopen(number, "wb") as file:
            if before is not None and (before.st_uid, before.st_gid) != _owner(number):
                os.fchown(number, before.st_uid, before.st_gid)
            os.fchmod(number, mode if before is None else before.st_mode & 0o777)
            file.write(text.encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(number)
        os.replace(hidden, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(hidden, dir_fd=directory)
        raise


def _owner(number: int) -> tuple[int, int]:
    info = os.fstat(number)
    return info.st_uid, info.st_gid


def _explained(path: Path, error: OSError) -> ManactlError:
    message = f"cannot write {path}: {strerror(error)}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return Denied(
            message,
            hint=f"writing needs permission on the directory {path.parent}, or CAP_DAC_OVERRIDE; "
            "a file of another user keeps its owner, which needs CAP_CHOWN",
        )
    if error.errno in _NO_SUCH_FILE:
        return UsageError(message, hint=f"the directory {path.parent} must exist")
    return RolledBack(message, hint="the file there, if any, is as it was")
