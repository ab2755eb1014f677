"""Signals as a descriptor to poll, so that none comes in the middle of an act."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from types import FrameType


@contextlib.contextmanager
def piped(noted: Iterable[int], ending: Iterable[int] = ()) -> Iterator[int]:
    """A descriptor with one byte, its number, for each signal that comes; the handlers are as
    before at the end.

    Those of `noted` do nothing else. Those of `ending` end the program by SystemExit too, so that
    what was taken is given back. The descriptor is there before the first handler and after the
    last, so that no signal comes to a handler of ours and is nowhere.
    """
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    before = {number: signal.signal(number, _noted) for number in noted}
    before |= {number: signal.signal(number, _end) for number in ending}
    try:
        yield read
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(read)
        os.close(write)


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The wake-up descriptor has the news already."""


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
