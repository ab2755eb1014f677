"""Which lines of manactl run: noted once for each test, in this process and those it starts.

Processes that a test forks or starts may end by a signal: they write each line down when it is
first run. Imports nothing of this project, since it is also run inside other programs.
"""

from __future__ import annotations

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
        self._file = os.open(hits, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
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
        size = os.fstat(self._file).st_size
        for text in os.pread(self._file, size, 0).decode().splitlines():
            path, _, line = text.rpartition(":")
            found.add((path, int(line)))
        os.ftruncate(self._file, 0)
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
                    os.write(self._file, f"{at[0]}:{at[1]}\n".encode())
        return self._line
