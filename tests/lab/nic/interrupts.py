"""MSI-X vectors as eventfds that the client hands over."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

_ONE = (1).to_bytes(8, "little")


def is_eventfd(fd: int) -> bool:
    return os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[eventfd]"


class Vectors:
    """Owns the descriptors. A vector fired while it has none fires when it gets one again."""

    def __init__(self, count: int) -> None:
        self._fds: list[int | None] = [None] * count
        self._pending: set[int] = set()

    def fire(self, vector: int) -> None:
        fd = self._fds[vector]
        if fd is None:
            self._pending.add(vector)
            return
        with contextlib.suppress(BlockingIOError):  # full means: raised and not taken yet
            os.write(fd, _ONE)

    def set(self, start: int, fds: Sequence[int | None]) -> None:
        """Descriptors for consecutive vectors; None leaves a vector without."""
        if start + len(fds) > len(self._fds):
            raise ValueError(f"vectors {start}..{start + len(fds) - 1}")
        for vector, fd in enumerate(fds, start):
            self._close(vector)
            self._fds[vector] = fd
            if fd is not None:
                os.set_blocking(fd, False)
            if fd is not None and vector in self._pending:
                self._pending.discard(vector)
                self.fire(vector)

    def clear(self) -> None:
        for vector in range(len(self._fds)):
            self._close(vector)
        self._pending.clear()

    def _close(self, vector: int) -> None:
        fd, self._fds[vector] = self._fds[vector], None
        if fd is not None:
            os.close(fd)
