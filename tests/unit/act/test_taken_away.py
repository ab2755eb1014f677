"""Releases after somebody has removed an address, while the netdev's manager left it alone."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from manactl.act import taken_away
from manactl.act.plan import KeepState, steps_from_json
from manactl.errors import NotRestored
from manactl.journal import file as journal
from manactl.journal.file import JournalError
from manactl.netstate.losses import Cause
from manactl.netstate.requests import Request
from manactl.netstate.snapshot import PortState
from manactl.netstate.unmanaged import Unmanaged
from manactl.wire import rtmsg as rt
from tests.unit import schema
from tests.unit.act.test_unmanage import managed
from tests.unit.fakes import PORT
from tests.unit.host import FakeHost, FakeSystem, Fate, Killed, claim, furnished, release
from tests.unit.journal.test_shape import rewritten
from tests.unit.kernel import ADDRESS, Kernel
from tests.unit.wording import Coded, says, wording

OURS, FOREIGN = "10.0.0.2", "10.0.9.9"  # of RICH; the first is its manager's


def there(kernel: Kernel) -> set[str]:
    """The IPv4 addresses."""
    found = (m.attrs.get(rt.IFA_LOCAL, b"") for m in kernel.messages if m.kind == ADDRESS)
    return {socket.inet_ntoa(raw) for raw in found if raw}


def remove(kernel: Kernel, *texts: str) -> None:
    raws = {socket.inet_aton(text) for text in texts}
    kernel.messages = [
        m for m in kernel.messages if m.kind != ADDRESS or m.attrs.get(rt.IFA_LOCAL) not in raws
    ]


def test_it_is_left_out_and_told_with_the_command(tmp_path: Path) -> None:
    kernel, _ = managed()
    claim(tmp_path, FakeHost(kernel))
    remove(kernel, FOREIGN)
    (plan,) = release(tmp_path, FakeHost(kernel), dry_run=True).plans
    schema.strict(json.loads(json.dumps(plan.to_json())))
    (port,) = release(tmp_path, FakeHost(kernel)).ports
    assert there(kernel) == {OURS}
    (lost,) = port.lost
    assert (lost.cause, port.residue) == (Cause.REMOVED, ())
    with wording:
        assert "to set it: ip address add 10.0.9.9/32 noprefixroute dev eth1)" in lost.text
    assert lost.text in plan.lost, "the dry run tells the same"
    assert journal.paths(tmp_path) == []


def test_the_plan_counts_it_out(tmp_path: Path) -> None:
    kernel, _ = managed()
    claim(tmp_path, FakeHost(kernel))
    counts = []
    for gone in ((), (FOREIGN,)):
        remove(kernel, *gone)
        (plan,) = release(tmp_path, FakeHost(kernel), dry_run=True).plans
        (line,) = (line for line in plan.restores if " addresses (" in line)
        counts.append(int(line.split()[0]))
    assert counts[1] == counts[0] - 1


def test_where_all_are_gone_they_come_back(tmp_path: Path) -> None:
    kernel, _ = managed()
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel))
    remove(kernel, OURS, FOREIGN)
    (plan,) = release(tmp_path, FakeHost(kernel), dry_run=True).plans
    assert not any("somebody removed it" in line for line in plan.lost)
    (port,) = release(tmp_path, FakeHost(kernel)).ports
    assert (port.lost, kernel.picture()) == ((), before)


def test_what_the_manager_configures_comes_back_from_it_and_is_not_told(tmp_path: Path) -> None:
    kernel, _ = managed()
    before = there(kernel)
    claim(tmp_path, FakeHost(kernel))
    remove(kernel, OURS)
    (port,) = release(tmp_path, FakeHost(kernel)).ports
    assert there(kernel) == before
    assert port.lost == ()


def test_without_a_manager_everything_comes_back(tmp_path: Path) -> None:
    kernel = furnished()
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel))
    remove(kernel, FOREIGN)
    release(tmp_path, FakeHost(kernel))
    assert kernel.picture() == before


def test_killed_at_any_point_it_is_left_out_and_all_else_is_there(tmp_path: Path) -> None:
    """The manager deletes what is not its own when it gets the netdev back: what was taken away is
    known from the look before that."""
    number = 0
    while True:
        number += 1
        kernel, _ = managed()
        state_dir = tmp_path / str(number)
        claim(state_dir, FakeHost(kernel))
        remove(kernel, FOREIGN)
        fate = Fate(dies_at=number, half=True)
        with contextlib.suppress(Killed):
            release(state_dir, FakeHost(kernel, fate))
        if not fate.dead:
            break
        release(state_dir, FakeHost(kernel))
        assert there(kernel) == {OURS}, number
        kinds = [m.kind for m in kernel.messages]
        assert kinds.count(ADDRESS) >= 3, number
    assert number > 5


def test_what_a_later_attempt_misses_was_not_removed(tmp_path: Path) -> None:
    """The first release ended with residue, after the manager had got its netdev back."""
    kernel, _ = managed()
    before = there(kernel)
    claim(tmp_path, FakeHost(kernel))

    class Refusing(FakeSystem):
        def send_all(self, requests: list[Request]) -> list[OSError | None]:
            return [OSError(12, "Cannot allocate memory") for _ in requests]

        def send(self, request: Request) -> None:
            raise OSError(12, "Cannot allocate memory")

    host = FakeHost(kernel)
    host.systems = Refusing
    with contextlib.suppress(NotRestored):
        release(tmp_path, host)
    assert FOREIGN not in there(kernel), "its manager has deleted it"
    (port,) = release(tmp_path, FakeHost(kernel), recover=True).ports
    assert there(kernel) == before
    assert port.lost == ()


@pytest.mark.parametrize("facts", [[99], [-1], ["x"], [None], None])
def test_places_that_make_no_sense_are_not_believed(tmp_path: Path, facts: object) -> None:
    kernel, _ = managed()
    claim(tmp_path, FakeHost(kernel))
    remove(kernel, FOREIGN)
    with contextlib.suppress(Killed):
        release(tmp_path, FakeHost(kernel, Fate(dies_at=4)))
    (path,) = journal.paths(tmp_path)
    before = kernel.picture()

    def nonsense(records: list[dict[str, Any]]) -> None:
        (record,) = (one for one in records if "taken_away" in one)
        record["taken_away"][0]["facts"] = facts

    rewritten(path, nonsense)
    for how in ({"dry_run": True}, {}):
        with pytest.raises(
            JournalError,
            match=says(r"cannot be believed .*; nothing was changed"),
            check=Coded("journal"),
        ):
            release(tmp_path, FakeHost(kernel), **how)
    assert kernel.picture() == before


def test_a_look_that_breaks_stops_nothing(tmp_path: Path) -> None:
    """With it nothing of the port would have come back, nor of others."""
    kernel, _ = managed()
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel))
    remove(kernel, FOREIGN)

    class Breaking(FakeSystem):
        breaks = False

        def give_back(self, unmanaged: Unmanaged) -> bool:
            self.breaks = True
            return super().give_back(unmanaged)

        def capture(self, *args: Any, **more: Any) -> PortState:
            if self.breaks:
                self.breaks = False
                raise ValueError("a broken message")
            return super().capture(*args, **more)

    host = FakeHost(kernel)
    host.systems = Breaking
    (port,) = release(tmp_path, host).ports
    assert (port.lost, kernel.picture()) == ((), before)


def test_where_it_is_not_known_what_the_manager_drops_everything_comes_back(tmp_path: Path) -> None:
    kernel, _ = managed(drops=None)
    before = there(kernel)
    claim(tmp_path, FakeHost(kernel))
    remove(kernel, FOREIGN)
    (plan,) = release(tmp_path, FakeHost(kernel), dry_run=True).plans
    assert not any("somebody removed it" in line for line in plan.lost)
    release(tmp_path, FakeHost(kernel))
    assert there(kernel) == before


def test_a_manager_that_does_not_come_to_an_end_leaves_nothing_out(tmp_path: Path) -> None:
    kernel, _ = managed(needs=1000.0)
    before = there(kernel)
    claim(tmp_path, FakeHost(kernel))
    remove(kernel, FOREIGN)
    (port,) = release(tmp_path, FakeHost(kernel)).ports
    assert there(kernel) == before
    assert {one.cause for one in port.lost} == {Cause.MANAGER}


def test_a_netdev_that_goes_while_it_is_compared_keeps_its_addresses(tmp_path: Path) -> None:
    """Whether they were removed is not known of one that is away."""
    kernel, _ = managed()
    path = claim(tmp_path, FakeHost(kernel)).journal
    assert path is not None
    content = journal.read(path)
    steps = steps_from_json(content.header["plan"], content.header["snapshot"])
    system = FakeSystem(FakeHost(kernel))
    remove(kernel, FOREIGN)
    assert list(taken_away.look(steps, content.ports, content, system)) == [PORT]
    kernel.nics[0].present = False
    assert taken_away.look(steps, content.ports, content, system) == {}
    (step,) = (one for one in steps if isinstance(one, KeepState))
    assert taken_away.without(step, [0], system) == (step, ())
