"""What happens to a file or in a directory, by inotify(7): a descriptor that becomes readable."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Self

# include/uapi/linux/inotify.h
IN_MODIFY, IN_ATTRIB, IN_DELETE_SELF, IN_MOVE_SELF = 0x2, 0x4, 0x400, 0x800
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x40, 0x80, 0x100, 0x200
_EVENTS = IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF  # ATTRIB: a name was removed
_ENTRIES = IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE


class FileEvents:
    """Tells when a file was written to, moved or removed, or a file in a directory; a context
    manager.

    OSError when the path is not there, or the user's inotify instances are used up.
    """

    def __init__(self, path: Path) -> None:
        import ctypes  # noqa: PLC0415 - only for claims that end by themselves, and hold

        self.path = path
        self._watched = _identity(path)
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        if libc.inotify_add_watch(self.fd, os.fsencode(path), _EVENTS | _ENTRIES) < 0:
            number = ctypes.get_errno()
            os.close(self.fd)
            raise OSError(number, os.strerror(number), str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    @property
    def in_place(self) -> bool:
        """Whether what is watched is what has that name still. The watch is on the inode: of one
        that was put in its place nothing is told, nor that a directory above it was moved."""
        try:
            return _identity(self.path) == self._watched
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # nobody knows: who reads it tells
            return True

    def drain(self) -> None:
        """Read away what was told up to now: what there is has to be looked at."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.fd, 65536):
                pass


def _identity(path: Path) -> tuple[int, int]:
    info = os.stat(path)
    return info.st_dev, info.st_ino
