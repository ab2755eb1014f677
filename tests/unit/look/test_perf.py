"""perf_event_open(2): what is asked, and where it cannot be."""

from __future__ import annotations

import errno
import os

import pytest

from manactl.look import perf


def test_the_attributes_are_those_of_the_fifth_version() -> None:
    made = perf.attr(1, 9, sample=4, flags=1 << 9, wakeup=7, config1=11, registers=3)
    assert len(made) == 112  # PERF_ATTR_SIZE_VER5
    words = [int.from_bytes(made[at : at + 8], "little") for at in range(0, 112, 8)]
    assert words[0] == 112 << 32 | 1
    assert words[1] == 9
    assert words[3] == 4  # sample_type
    assert words[5] == 1 << 9 | 1 << 25  # comm, use_clockid
    assert words[6] & 0xFFFFFFFF == 7  # wakeup_events
    assert words[7] == 11  # config1
    assert words[11] >> 32 == 1  # clockid: CLOCK_MONOTONIC
    assert words[12] == 3  # sample_regs_intr


def test_a_machine_whose_number_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    known = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*known[:4], "s390x")))
    with pytest.raises(OSError, match="s390x") as caught:
        perf.perf_event_open()
    assert caught.value.errno == errno.ENOSYS


def test_what_the_kernel_does_not_know_is_an_error() -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - which, depends on who we are
        perf.perf_event_open()(perf.attr(0xFFFFFFF0, 0, sample=0), 0)
    assert caught.value.errno in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOSYS)


@pytest.mark.parametrize(
    ("told", "expected"),
    [("0\n", [0]), ("0-3\n", [0, 1, 2, 3]), ("0,2-3,7\n", [0, 2, 3, 7]), ("?\n", []), (None, [0])],
)
def test_the_cpus_that_are_online(
    told: str | None, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perf, "text", lambda _: told)
    assert perf.online() == expected


def test_the_cpus_of_this_machine() -> None:
    assert len(perf.online()) == os.sysconf("SC_NPROCESSORS_ONLN")


def test_what_lies_around_the_end_of_a_ring() -> None:
    assert perf.around(b"abcdefgh", 6, 4) == b"ghab"
    assert perf.around(b"abcdefgh", 17, 3) == b"bcd"
    assert perf.around(b"abcdefgh", (1 << 64) - 2, 4) == b"ghab"
