"""Plans for people: everything, in order."""

from __future__ import annotations

import dataclasses

import pytest

from manactl.act.plan import Plan
from manactl.render import plan as rendered
from tests.unit.act.test_planner import STATE, WAIVED, plan
from tests.unit.fakes import route
from tests.unit.wording import wording


def test_a_plan_says_everything_in_order() -> None:
    facts = [route(f"10.{n}.0.0", 16, via="10.0.0.9") for n in range(20)]
    lines = rendered.lines(plan(dataclasses.replace(STATE, facts=tuple(facts)), waived=[WAIVED]))
    with wording:
        assert [line for line in lines if not line.startswith(" ")] == [
            "Plan:", "Stops:", "The kernel drops:", "Release restores:", "Cannot be restored:",
        ]  # fmt: skip
        assert lines[1:4] == [
            "  1. save eth1's addresses and routes to the journal (20 routes)",
            "  2. set eth1 down (release sets it up)",
            "  3. prove that the vport is free: create a raw QP on manae_0 port 1 and destroy it at once",
        ]
    assert sum("10.0.0.9" in line for line in lines) == 20


@pytest.mark.wording
def test_a_refused_plan_says_so_at_once() -> None:
    refused = dataclasses.replace(WAIVED)
    assert rendered.lines(plan(refusals=[refused]))[0] == "Plan, were it not refused:"


@pytest.mark.wording
def test_a_release_tells_what_undoing_does() -> None:
    made = plan()
    back = Plan("release", made.ports, tuple(reversed(made.steps)), restores=("eth1 set up",))
    assert rendered.lines(back) == [
        "Plan:",
        "  1. set eth1 up",
        "  2. restore and verify eth1 (2 addresses)",
        "Restored:",
        "  eth1 set up",
    ]
