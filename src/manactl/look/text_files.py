"""Small files of /proc and sysfs. None or nothing is "could not be read", whatever the reason."""

import contextlib
import os

_CHUNK = 1 << 16  # bytes


def text(path: str) -> str | None:
    """What a file has, without the newline at its end; bytes that are no UTF-8 as surrogates.

    By system calls: a look reads a hundred of these, and open() takes as long again for each.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = b""
        while chunk := os.read(fd, _CHUNK):
            data += chunk
    except OSError:
        return None
    finally:
        with contextlib.suppress(OSError):  # all is read, and the descriptor is free
            os.close(fd)
    return data.decode("utf-8", "surrogateescape").removesuffix("\n")


def lines(path: str) -> list[str]:
    """The lines of a file; none where it could not be read."""
    return (text(path) or "").splitlines()


def number(path: str) -> int | None:
    """The number in a file, decimal or as its prefix says (0x)."""
    try:
        return int(text(path) or "", 0)
    except ValueError:
        return None


def names(path: str) -> list[str]:
    """The names in a directory, in no order."""
    try:
        return os.listdir(path)
    except OSError:
        return []


def target(path: str) -> str | None:
    """The path that a symbolic link has."""
    try:
        return os.readlink(path)
    except OSError:
        return None


def target_name(path: str) -> str | None:
    """The last part of it: sysfs links a device to its driver, master or subsystem."""
    found = target(path)
    return None if found is None else found.rpartition("/")[2]
