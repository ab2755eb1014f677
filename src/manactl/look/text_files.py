"""Small files of the kernel: /proc, sysfs, sysctls. The one place where its text is taken apart.

None or nothing is "could not be read", whatever the reason. But a lack of ours (descriptors,
memory) is raised: a directory that we could not open for it is no empty one.
"""

import contextlib
import os
from collections.abc import Iterator

from manactl.errors import LACKS

__all__ = ["GONE", "LACKS", "fields", "integer", "lines", "names", "number", "passing_over", "read", "rows",
           "target", "target_name", "text", "unescaped"]  # fmt: skip

_CHUNK = 1 << 16  # bytes
GONE = (FileNotFoundError, ProcessLookupError, NotADirectoryError)  # it ended meanwhile


def read(path: str | os.PathLike[str]) -> str:
    """What a file has, without the newline at its end; bytes that are no UTF-8 as surrogates,
    whatever the locale. OSError when it cannot be read.

    By system calls: a look reads a hundred of these, and open() takes as long again for each.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while chunk := os.read(fd, _CHUNK):
            data += chunk
    finally:
        with contextlib.suppress(OSError):  # all is read, and the descriptor is free
            os.close(fd)
    return data.decode("utf-8", "surrogateescape").removesuffix("\n")


def rows(text: str) -> list[str]:
    """The lines of a text. They end at a newline only: a name may have whatever else
    str.splitlines() takes for an end (U+2028, U+0085, form feeds, ...)."""
    return text.removesuffix("\n").split("\n") if text else []


def fields(line: str) -> list[str]:
    """The fields of a line that the kernel pads with spaces or tabs; nothing else parts them."""
    return [field for field in line.replace("\t", " ").split(" ") if field]


def unescaped(word: str) -> str:
    """A word of a mount table without the escapes of mangle(), a backslash and three octal digits."""
    if "\\" not in word:
        return word
    import re  # noqa: PLC0415 - a name with a space is rare

    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), word)


@contextlib.contextmanager
def passing_over() -> Iterator[None]:
    """A look at one process of many, which may have ended, or is not ours to see: passed over
    then. A lack of ours goes on up, since this process may be what is searched for."""
    try:
        yield
    except OSError as error:
        if error.errno in LACKS:
            raise


def text(path: str | os.PathLike[str]) -> str | None:
    """What read() has; None where it cannot be read."""
    try:
        return read(path)
    except OSError as error:
        if error.errno in LACKS:
            raise
        return None


def lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a file; none where it could not be read."""
    return rows(text(path) or "")


def number(path: str) -> int | None:
    """The number in a file, decimal or as its prefix says (0x)."""
    return integer(text(path) or "", 0)


def integer(word: str, base: int = 10) -> int | None:
    """The number that a word is; None for anything else, and where somebody else than the kernel
    answers for a file (lxcfs, gVisor), that may be anything."""
    try:
        return int(word, base) if word.isascii() else None
    except ValueError:
        return None


def names(path: str) -> list[str]:
    """The names in a directory, in no order."""
    try:
        return os.listdir(path)
    except OSError as error:
        if error.errno in LACKS:
            raise
        return []


def target(path: str) -> str | None:
    """The path that a symbolic link has."""
    try:
        return os.readlink(path)
    except OSError as error:
        if error.errno in LACKS:
            raise
        return None


def target_name(path: str) -> str | None:
    """The last part of it: sysfs links a device to its driver, master or subsystem."""
    found = target(path)
    return None if found is None else found.rpartition("/")[2]
