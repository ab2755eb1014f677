"""A terminal that is repainted in place, and restored at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, Self

# The alternate screen, no cursor, and long lines cut instead of wrapped; and back.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[2K", "\x1b[J"


class Screen:
    """The terminal on standard output while it is ours; a context manager.

    Keys are read from standard input where that is the same kind of terminal, unechoed.
    """

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(self, *exc: object) -> None:
        self.leave()

    def enter(self) -> None:
        if _have_keyboard():
            self._before = termios.tcgetattr(0)
            tty.setcbreak(0, termios.TCSANOW)
        _write(_ENTER)

    def leave(self) -> None:
        _write(_LEAVE)
        if self._before is not None:
            termios.tcsetattr(0, termios.TCSANOW, self._before)
            self._before = None

    @property
    def keyboard(self) -> int | None:
        """The descriptor to poll for keys."""
        return None if self._before is None else 0

    @property
    def size(self) -> tuple[int, int]:
        """(columns, lines) as of now."""
        with contextlib.suppress(OSError):
            columns, lines = os.get_terminal_size(sys.stdout.fileno())
            if columns and lines:
                return columns, lines
        return 80, 24

    def paint(self, lines: Sequence[str]) -> None:
        """Show `lines` from the top; what does not fit below or at the right is not seen."""
        _, height = self.size
        _write(_HOME + "\r\n".join(_CLEAR_LINE + line for line in lines[:height]) + _CLEAR_BELOW)

    def suspend(self) -> None:
        """Stop this process as ^Z does, and come back to a screen that wants to be painted."""
        self.leave()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        self.enter()


@contextlib.contextmanager
def signals() -> Iterator[int]:
    """Signals that a screen cares about, as a descriptor to poll: one byte for each.

    SIGTERM and SIGHUP end the program by SystemExit, so that the terminal is restored.
    """
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = {number: signal.signal(number, _noted) for number in _NOTED}
    before |= {number: signal.signal(number, _end) for number in _ENDING}
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield read
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)


_NOTED = (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)
_ENDING = (signal.SIGTERM, signal.SIGHUP)


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The wake-up descriptor has the news already."""


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _have_keyboard() -> bool:
    """In the background, changing the terminal would stop us."""
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
