"""Waiting for holders, and which failure is followed by another attempt after how long."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from manactl.act.release_when_free import Policy, release_when_free
from manactl.act.released import ReleaseRequest
from manactl.errors import Busy, Interrupted, NotRestored, RolledBack
from manactl.journal.file import JournalError
from tests.unit.host import FakeHost, furnished

HASTY = Policy(first=0.1, busy_most=0.5)
STUBBORN = Policy(first=1.0, busy_most=3.0, else_most=8.0, not_restored=(20.0, 30.0))
BUSY, HELD = Busy("another manactl"), Busy("a holder", code="holder")
ELSE, LEFT, TORN = RolledBack("no"), NotRestored("a route"), JournalError("cannot be read")


class Attempts:
    """What each attempt comes to, of a machine whose port has holders or not."""

    def __init__(self, *fates: BaseException | None, holders: Iterable[int] = ()) -> None:
        self.kernel = furnished()
        nic = self.kernel.nics[0]
        nic.up, nic.holders = False, list(holders)
        self.host = FakeHost(self.kernel)
        self.ports = [self.host.look().ports[0].id]
        self.fates = list(fates)
        self.made: list[tuple[bool, float]] = []  # quiet, and the clock
        self.failed: list[Exception] = []
        self.over = False

    def attempt(self, request: ReleaseRequest) -> str:
        self.made.append((request.quiet, self.kernel.clock))
        if (fate := self.fates.pop(0)) is not None:
            raise fate
        return "released"

    def run(self, policy: Policy, *, quiet: bool = True) -> str | None:
        request = ReleaseRequest(Path("/nowhere"), quiet=quiet)
        return release_when_free(
            request, lambda: self.ports, self.host, self.attempt, policy,
            failed=self.failed.append, over=lambda: self.over,
        )  # fmt: skip


def test_what_does_not_fail_is_done_once() -> None:
    one = Attempts(None)
    assert one.run(HASTY) == "released"
    assert (one.failed, one.host.pauses) == ([], [])


@pytest.mark.parametrize(
    ("policy", "pauses"), [(HASTY, [0.1, 0.2, 0.4, 0.5, 0.5]), (STUBBORN, [1, 2, 3, 3, 3])]
)
def test_busy_is_tried_for_ever_less_and_less_often(policy: Policy, pauses: list[float]) -> None:
    one = Attempts(*[BUSY] * 5, None)
    assert one.run(policy) == "released"
    assert (one.failed, one.host.pauses) == ([BUSY] * 5, pauses)


@pytest.mark.parametrize("fate", [ELSE, LEFT, TORN, ValueError("never thought of")])
def test_another_failure_is_raised_where_nobody_waits_for_its_end(fate: Exception) -> None:
    one = Attempts(BUSY, fate)
    with pytest.raises(type(fate)) as raised:
        one.run(HASTY)
    assert raised.value is fate
    assert one.failed == [BUSY]


def test_another_failure_is_tried_for_ever_where_somebody_does() -> None:
    fates = [ELSE, TORN, ValueError("never thought of"), MemoryError(), ELSE]
    one = Attempts(*fates, BUSY, None)
    assert one.run(STUBBORN) == "released"
    assert (one.failed, one.host.pauses) == ([*fates, BUSY], [1, 2, 4, 8, 8, 3])


def test_what_is_not_restored_is_raised_after_the_last_of_its_pauses() -> None:
    one = Attempts(LEFT, BUSY, LEFT, LEFT)
    with pytest.raises(NotRestored):
        one.run(STUBBORN)
    assert (one.failed, one.host.pauses) == ([LEFT, BUSY, LEFT], [20, 1, 30])


@pytest.mark.parametrize("policy", [HASTY, STUBBORN])
@pytest.mark.parametrize("fate", [FileNotFoundError(), KeyboardInterrupt()])
def test_a_journal_that_is_gone_and_a_signal_end_it(policy: Policy, fate: BaseException) -> None:
    one = Attempts(fate)
    with pytest.raises(type(fate)):
        one.run(policy)
    assert one.failed == []


def test_a_signal_between_two_attempts_ends_it() -> None:
    one = Attempts(BUSY)

    def interrupted() -> None:
        raise Interrupted("SIGTERM")

    one.host.at_pause = interrupted
    with pytest.raises(Interrupted):
        one.run(STUBBORN)


def test_a_quiet_one_begins_when_the_last_holder_is_gone() -> None:
    one = Attempts(None, holders=[77])
    started = one.kernel.clock
    one.host.at_pause = lambda: len(one.host.pauses) > 3 and one.kernel.nics[0].holders.clear()
    assert one.run(HASTY) == "released"
    ((_, at),) = one.made
    assert at > started
    assert one.failed == []


def test_one_that_is_not_quiet_begins_at_once_and_waits_after_the_first_refusal() -> None:
    one = Attempts(HELD, BUSY, None, holders=[77])
    started = one.kernel.clock
    one.host.at_pause = lambda: len(one.host.pauses) > 3 and one.kernel.nics[0].holders.clear()
    assert one.run(STUBBORN, quiet=False) == "released"
    assert [quiet for quiet, _ in one.made] == [False, True, True]
    assert one.made[0][1] == started < one.made[1][1]
    assert one.failed == [BUSY]


def test_a_holder_that_cannot_be_seen_is_busy_like_others() -> None:
    one = Attempts(HELD, HELD, None)
    assert one.run(HASTY) == "released"
    assert (one.failed, one.host.pauses) == ([HELD, HELD], [0.1, 0.2])


def test_it_is_asked_before_each_attempt_whether_it_is_over() -> None:
    one = Attempts(BUSY, None)
    one.host.at_pause = lambda: setattr(one, "over", True)
    assert one.run(STUBBORN) is None
    assert len(one.made) == 1
    before = Attempts(None)
    before.over = True
    assert (before.run(STUBBORN), before.made) == (None, [])


def test_a_descriptor_that_can_be_read_ends_the_waiting(tmp_path: Path) -> None:
    one = Attempts(None, holders=[77])
    path = tmp_path / "readable"
    path.touch()
    with path.open() as file:
        request = ReleaseRequest(tmp_path, quiet=True)
        found = release_when_free(
            request, lambda: one.ports, one.host, one.attempt, HASTY,
            failed=one.failed.append, wake={file.fileno()},
        )  # fmt: skip
    assert found == "released"
    assert one.kernel.nics[0].holders == [77]
