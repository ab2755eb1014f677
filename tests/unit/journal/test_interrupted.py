"""What status says of a journal that is neither finished nor undone."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manactl.act.plan import KeepState, Plan, ProveFree, SetAdmin
from manactl.act.unmanage import Unmanage
from manactl.journal import file as journal
from manactl.journal import interrupted, lock
from manactl.journal.file import Journal
from manactl.model.port import Note
from manactl.netstate.snapshot import PortState, port_to_json
from manactl.netstate.unmanaged import Unmanaged
from tests.unit.fakes import PORT, address, route
from tests.unit.journal.test_file import HEADER

FACTS = (address("10.0.0.2", 24), route("10.9.0.0", 16, via="10.0.0.1"))
STATE = PortState(PORT, 3, "eth1", True, True, 1000.0, FACTS)
OTHER = PORT._replace(port=2)
STEPS = (
    KeepState(STATE),
    SetAdmin(PORT, "eth1", up=False, was=True, had_carrier=True),
    ProveFree(PORT, "manae_0", 1),
    ProveFree(OTHER, "manae_0", 2),
)
PLAN = Plan("claim", (PORT, OTHER), STEPS)
PROVEN = [{"pci": p.pci, "port": p.port, "proven": True} for p in (PORT, OTHER)]
DOING = [("doing", {"step": number}) for number in range(len(STEPS))]
CLAIMED = [*DOING, ("claimed", {"ports": PROVEN})]
RELEASING = ("releasing", {"ports": [port_to_json(PORT), port_to_json(OTHER)]})
CLOSES = Note("recover-closes")
SETS_UP = Note("recover-sets-up", ("eth1", "1 address, 1 route"))
Event = tuple[str, dict[str, Any]]


def written(state_dir: Path, events: list[Event], plan: Plan = PLAN, mode: str = "claim") -> Path:
    header = {
        **HEADER,
        "mode": mode,
        "ports": [{**port_to_json(p), "netdev": f"eth{p.port}"} for p in plan.ports],
        "plan": plan.to_json(),
    }
    with Journal.create(state_dir, header, plan.ports) as log:
        for event, more in events:
            log.append(event, **more)
        return log.path


def steps(state_dir: Path) -> dict[int, Note | None]:
    """Per port what is to be done; nothing of ports that are back."""
    return {one.port.port: one.next_step for one in journal.list_claims(state_dir, "b").claims}


@pytest.mark.parametrize("events", [[], DOING[:1]])
def test_before_the_netdev_was_touched_only_the_journal_is_closed(
    tmp_path: Path, events: list[Event]
) -> None:
    written(tmp_path, events)
    assert steps(tmp_path)[1] == Note("claim-interrupted", (CLOSES,))


def test_a_claim_that_died_tells_what_comes_back(tmp_path: Path) -> None:
    written(tmp_path, DOING[:2])
    assert steps(tmp_path) == {
        1: Note("claim-interrupted", (SETS_UP,)),
        2: Note("claim-interrupted", (CLOSES,)),
    }


def test_a_manager_that_lets_go_is_told(tmp_path: Path) -> None:
    unmanaged = Unmanage(PORT, Unmanaged("NetworkManager", "0", ()))
    plan = replace(PLAN, steps=(STEPS[0], unmanaged, *STEPS[1:]))
    doing = [("doing", {"step": number}) for number in range(len(plan.steps))]
    written(tmp_path / "begun", doing[:2], plan)
    assert steps(tmp_path / "begun") == {
        1: Note("claim-interrupted", (Note("recover-gives-back", ("NetworkManager",)),)),
        2: Note("claim-interrupted", (CLOSES,)),
    }
    written(tmp_path / "claimed", [*doing, CLAIMED[-1]], plan)
    assert steps(tmp_path / "claimed") == {1: Note("unmanaged", ("NetworkManager",)), 2: None}


def test_a_release_that_died_is_called_one(tmp_path: Path) -> None:
    written(tmp_path, [*CLAIMED, RELEASING])
    assert steps(tmp_path)[1] == Note("release-interrupted", (SETS_UP,))


def test_of_two_ports_one_may_be_back_and_the_other_not(tmp_path: Path) -> None:
    path = written(
        tmp_path, [*CLAIMED, RELEASING, ("released", {"pci": PORT.pci, "port": PORT.port})]
    )
    assert list(steps(tmp_path)) == [2]
    assert journal.read(path).phase == "interrupted"


def test_a_port_whose_neighbour_is_being_released_stands(tmp_path: Path) -> None:
    one = ("releasing", {"ports": [port_to_json(PORT)]})
    written(tmp_path, [*CLAIMED, one])
    phases = {
        c.port.port: (c.phase, c.to_recover) for c in journal.list_claims(tmp_path, "b").claims
    }
    assert phases == {1: ("interrupted", True), 2: ("claimed", False)}


def test_residue_that_was_accepted_was_another_ports(tmp_path: Path) -> None:
    residue = ("residue", {"lines": ["a route of eth1"]})
    accepted = ("accepted", {"pci": PORT.pci, "port": PORT.port, "residue": ["a route of eth1"]})
    path = written(tmp_path, [*CLAIMED, RELEASING, residue, accepted])
    ((port, note),) = steps(tmp_path).items()
    assert (port, note and note.code) == (2, "release-interrupted")
    assert journal.read(path).ending == "accepted"


def test_what_could_not_be_put_back_is_named(tmp_path: Path) -> None:
    residue = ("residue", {"lines": ["setting eth1 up failed: Device or resource busy"]})
    path = written(tmp_path, [*CLAIMED, RELEASING, residue])
    assert steps(tmp_path)[1] == Note("not-restored", (residue[1]["lines"][0], SETS_UP))
    with Journal.open(path) as log:
        log.append(*RELEASING[:1], **RELEASING[1])
    assert steps(tmp_path)[1] == Note("release-interrupted", (SETS_UP,))


def test_who_is_at_work_is_told_by_the_lock(tmp_path: Path) -> None:
    written(tmp_path, DOING[:2])
    assert interrupted.at_work(tmp_path, PORT.pci) is None
    with lock.functions(tmp_path, [PORT.pci]):
        assert interrupted.at_work(tmp_path, PORT.pci) == os.getpid()
        assert steps(tmp_path)[1] == Note("at-work", (os.getpid(), PORT.pci))
    assert interrupted.at_work(tmp_path, PORT.pci) is None


def test_other_locks_of_the_machine_are_passed_over(tmp_path: Path) -> None:
    written(tmp_path, DOING[:2])
    with lock.functions(tmp_path, [PORT.pci]):
        proc = tmp_path / "proc"
        proc.mkdir()
        info = (tmp_path / "locks" / f"{PORT.pci}.lock").stat()
        device = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}:{info.st_ino}"
        mine = f"3: FLOCK  ADVISORY  WRITE {os.getpid()} {device} 0 EOF"
        lines = [f"1: POSIX  ADVISORY  WRITE 1 {device} 0 EOF", "2: -> FLOCK", mine, ""]
        (proc / "locks").write_text("\n".join(lines))
        assert interrupted.at_work(tmp_path, PORT.pci, proc) == os.getpid()
        (proc / "locks").write_text("\n".join(lines[:2]))
        assert interrupted.at_work(tmp_path, PORT.pci, proc) is None


def test_a_header_without_plan_is_no_obstacle(tmp_path: Path) -> None:
    with Journal.create(tmp_path, HEADER, [PORT]) as log:
        log.append("doing", step=0)
    assert steps(tmp_path)[1] == Note("claim-interrupted", (CLOSES,))
