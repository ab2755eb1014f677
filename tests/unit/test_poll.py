"""Looks that come less and less often, until the time is over."""

from __future__ import annotations

import pytest

from manactl.poll import until


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.paused: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.paused.append(seconds)
        self.now += seconds


def test_it_looks_again_with_growing_pauses() -> None:
    clock, looks = Clock(), []

    def done() -> bool:
        looks.append(clock.now)
        return len(looks) == 4

    assert until(clock, done, 5.0)
    assert clock.paused == [0.01, 0.02, 0.04]
    assert not until(clock, lambda: False, 1.0)
    assert max(clock.paused) == 0.2
    assert clock.now == pytest.approx(looks[-1] + 1.0), "the last look is not late"


def test_what_is_so_is_not_waited_for() -> None:
    clock = Clock()
    assert until(clock, lambda: True, 0.0)
    assert clock.paused == []
