"""Waiting for a fact that the kernel does not announce: look, pause a little longer, look again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

_PAUSE_FROM, _PAUSE_TO = 0.01, 0.2  # s, doubling


class Clock(Protocol):
    """What measures the time, and lets it pass; s."""

    def monotonic(self) -> float: ...
    def pause(self, seconds: float) -> None: ...


class Live:
    """This machine's, where no signal has to end a pause."""

    def monotonic(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)


LIVE = Live()


def until(clock: Clock, done: Callable[[], object], within: float) -> bool:
    """Look until something is so, with growing pauses, and a last time after `within` s."""
    deadline = clock.monotonic() + within
    pause = _PAUSE_FROM
    while not done():
        left = deadline - clock.monotonic()
        if left <= 0:
            return False
        clock.pause(min(pause, left))
        pause = min(pause * 2, _PAUSE_TO)
    return True
