"""Which lines of manactl run: noted once for each test, in this process and those it starts.

Processes that a test forks or starts may end by a signal: they write each line down when it is
first run, and open the file for each, since a child may close all descriptors that it inherits, or
have another file in its place. Imports nothing of this project, since it is also run inside other
programs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from types import CodeType, FrameType
from typing import Any


class Tracer:
    """Lines of the files below `top`; the file `hits` has those of other processes."""

    def __init__(self, top: str, hits: str) -> None:
        self.lines: set[tuple[str, int]] = set()
        self._top = os.path.join(top, "")
        self._hits = hits
        with contextlib.suppress(FileExistsError):
            file = os.open(hits, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
            os.fchmod(file, 0o666)  # for a child that has become another user, too
            os.close(file)
        self._elsewhere = False
        self._ours: dict[CodeType, bool] = {}

    def start(self, *, elsewhere: bool = False) -> None:
        """Note lines from now on; `elsewhere`: for another process to read."""
        self._elsewhere = elsewhere
        os.register_at_fork(after_in_child=self._forked)
        threading.settrace(self._called)
        sys.settrace(self._called)

    def take(self) -> set[tuple[str, int]]:
        """The lines since the last time; those of other processes, too."""
        sys.settrace(self._called)  # somebody else may have had it meanwhile
        found, self.lines = self.lines, set()
        file = os.open(self._hits, os.O_RDWR | os.O_CLOEXEC)
        try:
            texts = os.pread(file, os.fstat(file).st_size, 0).decode().splitlines()
            os.ftruncate(file, 0)
        finally:
            os.close(file)
        for text in texts:
            path, _, line = text.rpartition(":")
            found.add((path, int(line)))
        return found

    def _forked(self) -> None:
        self._elsewhere = True

    def _called(self, frame: FrameType, _event: str, _value: Any) -> Any:
        code = frame.f_code
        ours = self._ours.get(code)
        if ours is None:
            ours = self._ours[code] = code.co_filename.startswith(self._top)
        return self._line if ours else None

    def _line(self, frame: FrameType, event: str, _value: Any) -> Any:
        if event == "line":
            at = (frame.f_code.co_filename, frame.f_lineno)
            if at not in self.lines:
                self.lines.add(at)
                if self._elsewhere:
                    self._write(f"{at[0]}:{at[1]}\n".encode())
        return self._line

    def _write(self, text: bytes) -> None:
        """Where that cannot be, the program that is watched goes on all the same."""
        with contextlib.suppress(OSError):
            file = os.open(self._hits, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                os.write(file, text)
            finally:
                os.close(file)
