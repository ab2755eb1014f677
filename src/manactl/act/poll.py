"""Waiting for a fact that the kernel does not announce: look, pause a little longer, look again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

_PAUSE_FROM, _PAUSE_TO = 0.01, 0.2  # s, doubling


class Clock(Protocol):
    """What measures the time, and lets it pass; s."""

    def monotonic(self) -> float: ...
    def pause(self, seconds: float) -> None: ...


def until(clock: Clock, done: Callable[[], object], within: float) -> bool:
    """Look until something is so, with growing pauses; False when it is not after that long."""
    deadline = clock.monotonic() + within
    pause = _PAUSE_FROM
    while not done():
        if clock.monotonic() >= deadline:
            return False
        clock.pause(pause)
        pause = min(pause * 2, _PAUSE_TO)
    return True
