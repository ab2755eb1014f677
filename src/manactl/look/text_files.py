"""Small files of /proc and sysfs. None or nothing is "could not be read", whatever the reason."""

import os


def text(path: str) -> str | None:
    """What a file has, without the newline at its end; bytes that are no UTF-8 as surrogates."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "surrogateescape").removesuffix("\n")
    except OSError:
        return None


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
