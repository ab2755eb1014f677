"""A terminal that is repainted in place, and restored at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

from manactl.signal_pipe import piped

# The alternate screen, no cursor, and long lines cut instead of wrapped; and back.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[2K", "\x1b[J"

_NOTED = (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)
_ENDING = (signal.SIGTERM, signal.SIGHUP)


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


def signals() -> AbstractContextManager[int]:
    """Signals that a screen cares about, as a descriptor to poll: one byte for each.

    SIGTERM and SIGHUP end the program by SystemExit, so that the terminal is restored.
    """
    return piped(_NOTED, _ENDING)


def _have_keyboard() -> bool:
    """In the background, changing the terminal would stop us."""
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
