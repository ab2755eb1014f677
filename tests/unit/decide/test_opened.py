"""Why a netdev came up, by what is known."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from manactl.decide.opened import Openers, cause
from manactl.model.hold import Cause, Opened, Opener
from manactl.model.port import Holder

IP = Opener(Holder(77, "ip", None, 0, None, None, datetime(2026, 11, 22, tzinfo=UTC)), False, 1.0)
WORKER = Opener(Holder(12, "kworker/1:2", None, 0, None, None, None), True, 1.0)


@pytest.mark.parametrize(
    ("openers", "announced", "recreated", "above_up", "expected"),
    [
        ((IP,), True, False, None, Cause.PROCESS),
        ((IP,), True, True, True, Cause.PROCESS),
        ((WORKER, IP), True, True, True, Cause.PROCESS),
        ((WORKER,), True, False, True, Cause.NETVSC),
        ((WORKER,), True, True, False, Cause.PROCESS),  # the kernel, but not hv_netvsc
        ((WORKER,), True, False, None, Cause.PROCESS),
        ((), True, True, True, Cause.NETVSC),
        ((), True, True, False, Cause.UNKNOWN),
        ((), True, False, True, Cause.UNKNOWN),
        ((), True, False, None, Cause.UNKNOWN),
        ((), False, False, None, Cause.FOUND),
        ((), False, True, True, Cause.NETVSC),
    ],
)
def test_cause(
    openers: tuple[Opener, ...],
    announced: bool,
    recreated: bool,
    above_up: bool | None,
    expected: Cause,
) -> None:
    assert cause(openers, announced=announced, recreated=recreated, above_up=above_up) is expected


def begins(thread: int, at: float) -> Opener:
    return Opener(IP.process, False, at, thread)


def test_who_has_not_returned_is_of_a_later_announcement() -> None:
    openers = Openers()
    first, second = begins(1, 1.0), begins(2, 1.2)
    openers.add([first, Opened(1, 1.1), second])
    assert openers.take(1) == (first,)
    assert openers.take(1) == ()
    openers.add([Opened(2, 1.3)])
    assert openers.take(1) == (second,)


def test_who_has_returned_and_is_not_announced_yet_is_kept() -> None:
    openers = Openers()
    first, second = begins(1, 1.0), begins(2, 1.2)
    openers.add([first, Opened(1, 1.1), second, Opened(2, 1.3)])
    assert openers.take(1) == (first,)
    assert openers.take(3) == (second,), "others were announced, which nobody watches"


def test_who_has_failed_is_of_no_announcement() -> None:
    openers = Openers()
    first, second = begins(1, 1.0), begins(2, 1.2)
    openers.add([first, Opened(1, 1.1, failed=True), second, Opened(2, 1.3)])
    assert openers.take(2) == (second,)


def test_a_synthetic_netdev_and_its_vf_are_opened_by_one_and_announced_apart() -> None:
    openers = Openers()
    above, vf = begins(1, 1.0), begins(1, 1.1)
    openers.add([above, vf, Opened(1, 1.2)])
    assert openers.take(1) == (vf,)
    openers.add([Opened(1, 1.3)])
    assert openers.take(1) == (above,)
    openers.add([above, vf, Opened(1, 1.2, failed=True), Opened(1, 1.3)])
    assert openers.take(1) == (above,), "netvsc_open() succeeds without its VF"


def test_opens_of_other_network_namespaces_are_forgotten() -> None:
    openers = Openers()
    pod, mine = begins(1, 1.0), begins(2, 5.0)
    openers.add([pod, Opened(1, 1.1), mine, Opened(2, 5.1)])
    assert openers.take(1) == (mine,)
    for number in range(100):
        openers.add([begins(number, number), Opened(number, number)])
        openers.add([begins(1000 + number, number)])  # that its end was seen was lost
    openers.add([mine, Opened(2, 101.0)])
    assert openers.take(None)[-1] == mine
    assert openers.take(None) == ()


def test_the_end_of_an_open_whose_begin_was_not_seen_is_nobodys() -> None:
    openers = Openers()
    openers.add([Opened(1, 1.0), begins(2, 1.1)])
    assert openers.take(None) == ()
