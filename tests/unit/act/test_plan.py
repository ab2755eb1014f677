"""Steps: what they are called, and that their JSON is enough to undo them."""

from __future__ import annotations

import json

import pytest

from manactl.act.plan import KeepState, Plan, ProveFree, SetAdmin, Step, steps_from_json, tally
from manactl.netstate.snapshot import PortState
from tests.unit.decide.scene import STATE
from tests.unit.fakes import PORT, nexthop, route

STEPS: tuple[Step, ...] = (
    KeepState(STATE),
    SetAdmin(PORT, "eth1", False, True, True),
    ProveFree(PORT, "manae_0", 1),
)
# As a journal of schema manactl.journal/1 has had them from the beginning.
WRITTEN = [
    {"kind": "keep-state", "port": PORT._asdict(), "kept": "2 addresses"},
    {"kind": "set-admin", "port": PORT._asdict(), "name": "eth1", "up": False, "was": True,
     "had_carrier": True},
    {"kind": "prove-free", "port": PORT._asdict(), "device": "manae_0", "rdma_port": 1},
]  # fmt: skip


@pytest.mark.parametrize(
    ("step", "title", "undo", "description"),
    [
        (STEPS[0], "save eth1's addresses and routes", "restore and verify eth1",
         "save eth1's addresses and routes to the journal (2 addresses)"),
        (STEPS[1], "set eth1 down", "set eth1 up", "set eth1 down (release sets it up)"),
        (STEPS[2], "prove that the vport of manae_0 port 1 is free", "",
         "prove that the vport is free: create a raw QP on manae_0 port 1 and destroy it at once"),
    ],
)  # fmt: skip
def test_what_a_step_is_called(step: Step, title: str, undo: str, description: str) -> None:
    assert (step.title, step.undo_title, step.describe()) == (title, undo, description)


def test_old_journals_are_read_and_new_ones_have_the_same_keys() -> None:
    plan = {"steps": [{**step, "text": "words of then"} for step in WRITTEN]}
    assert steps_from_json(plan, [STATE.to_json()]) == STEPS
    made = json.loads(json.dumps(Plan("claim", (PORT,), STEPS).to_json()))
    assert [{k: v for k, v in step.items() if k != "text"} for step in made["steps"]] == WRITTEN
    assert [step["text"] for step in made["steps"]] == [step.describe() for step in STEPS]


def test_a_step_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(ValueError, match="dance"):
        steps_from_json({"steps": [{"kind": "dance", "port": PORT._asdict()}]}, [])
    with pytest.raises(KeyError):
        steps_from_json({"steps": WRITTEN[:1]}, [])


def test_what_there_is_is_counted_without_what_the_kernel_makes() -> None:
    own = route("10.0.0.2", 32, table=255, proto=2, kind=2)
    facts = (*STATE.facts, nexthop(10), route("10.9.0.0", 16), route("10.8.0.0", 16), own)
    state = PortState(PORT, 3, "eth1", True, True, 0.0, facts)
    assert tally(state) == "2 addresses, 1 nexthop, 2 routes"
    assert tally(PortState(PORT, 3, "eth1", True, True, 0.0, ())) == "nothing"
