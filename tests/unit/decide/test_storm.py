"""What is told of many attempts: the first few, then sums, and all of them are counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from manactl.decide.storm import CALM, ONE_BY_ONE, Telling
from manactl.model.hold import Attempt, Cause, Outcome, Storm, Target
from manactl.model.port import PortId

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
ETH1 = Target(PortId("7870:00:00.0", 1, None), "eth1")
ETH2 = Target(PortId("7870:00:00.0", 2, None), "eth2")


class Scene:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0
        self.telling = Telling(lambda: self.now)

    def attempt(
        self,
        target: Target = ETH1,
        outcome: Outcome = Outcome.SET_DOWN,
        *,
        still: bool = False,
    ) -> Attempt:
        time = START + timedelta(seconds=self.now - 100)
        return Attempt(time, target, target.name, outcome, Cause.UNKNOWN, still=still)

    def told(self, count: int, target: Target = ETH1, *, every: float = 0.0) -> int:
        """How many of so many attempts are told at once."""
        found = 0
        for _ in range(count):
            found += self.telling.add(self.attempt(target)) is not None
            self.now += every
        return found


def test_the_first_are_told_each_and_the_rest_as_a_sum() -> None:
    scene = Scene()
    assert scene.told(ONE_BY_ONE) == ONE_BY_ONE
    assert scene.telling.next_due is None
    assert scene.told(40, every=0.1) == 0
    assert scene.telling.due() == []
    assert scene.telling.next_due == 100.0 + CALM
    scene.now = 100.0 + CALM
    (storm,) = scene.telling.due()
    assert isinstance(storm, Storm)
    assert storm.count == 40
    assert (storm.since, storm.time) == (START, storm.last.time)
    assert storm.time - storm.since == timedelta(seconds=3.9)
    assert (scene.telling.due(), scene.telling.next_due) == ([], None)


def test_while_it_lasts_there_is_a_sum_now_and_then_and_none_is_missed() -> None:
    scene = Scene()
    told, sums = 0, []
    for _ in range(500):
        told += scene.told(1)
        scene.now += 0.1
        sums += scene.telling.due()
    sums += scene.telling.due(everything=True)
    assert told == ONE_BY_ONE
    assert told + sum(one.count for one in sums) == 500
    assert len(sums) <= 50 / CALM + 1


def test_after_some_calm_they_are_told_each_again() -> None:
    scene = Scene()
    scene.told(ONE_BY_ONE + 1)
    scene.now += CALM
    assert scene.told(1) == 0, "the sum of the storm comes first"
    assert [one.count for one in scene.telling.due()] == [2]
    scene.now += CALM
    assert scene.told(1) == 1


def test_few_that_come_slowly_are_all_told() -> None:
    assert Scene().told(3 * ONE_BY_ONE, every=CALM) == 3 * ONE_BY_ONE


def test_each_netdev_has_its_own_count() -> None:
    scene = Scene()
    scene.told(ONE_BY_ONE + 1)
    assert scene.told(1, ETH2) == 1
    assert scene.telling.due(everything=True)[0].last.target == ETH1
    assert scene.telling.due(everything=True) == []


def test_what_came_to_something_else_is_counted_apart() -> None:
    scene = Scene()
    kinds = [
        scene.attempt(),
        scene.attempt(outcome=Outcome.ALREADY),
        scene.attempt(outcome=Outcome.FAILED),
        scene.attempt(outcome=Outcome.FAILED, still=True),
    ]
    for count, one in enumerate(kinds, 1):
        for _ in range(ONE_BY_ONE + count):
            scene.telling.add(one)
    sums = scene.telling.due(everything=True)
    assert [(one.count, one.last) for one in sums] == list(enumerate(kinds, 1))
