"""A timer on CLOCK_BOOTTIME, by the kernel's own."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from manactl.look import boot_timer

DEADLINE = 60  # s; nothing here takes as long unless the timer is wrong


@contextmanager
def timer(seconds: float) -> Iterator[int]:
    fd = boot_timer.at(time.clock_gettime(time.CLOCK_BOOTTIME) + seconds)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize("seconds", [0.01, 0.0, -1.0, -1e9])
def test_it_tells_when_its_time_has_come_or_is_past(seconds: float) -> None:
    with timer(seconds) as fd:
        assert select.select([fd], [], [], DEADLINE)[0] == [fd]


def test_it_is_silent_before() -> None:
    with timer(3600) as fd:
        assert select.select([fd], [], [], 0)[0] == []


def test_it_counts_the_time_of_a_suspended_machine() -> None:
    with timer(3600.5) as fd:
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
        facts = dict(line.split(": ", 1) for line in lines if ": " in line)
        assert int(facts["clockid"]) == time.CLOCK_BOOTTIME
        seconds, nanoseconds = map(int, facts["it_value"].strip("()").split(", "))
        assert 3000 < seconds + nanoseconds / 1e9 <= 3600.5
        assert not os.get_inheritable(fd)
