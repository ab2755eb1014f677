"""Claims of ports that a network manager has: it lets go of them, and gets them back first."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from manactl.act import unmanage
from manactl.act.plan import steps_from_json
from manactl.act.unmanage import Unmanage
from manactl.errors import Busy, NotRestored, Refused, RolledBack
from manactl.journal import file as journal
from manactl.netstate.beside import Beside, Kind
from manactl.netstate.losses import Cause
from manactl.netstate.requests import Request
from manactl.netstate.unmanaged import Unmanaged
from manactl.wire import rtmsg as rt
from manactl.wire.if_link import RTM_NEWLINK
from tests.unit.fakes import address, route
from tests.unit.host import (
    RICH,
    FakeHost,
    FakeSystem,
    Fate,
    Followed,
    Killed,
    claim,
    furnished,
    paired,
    release,
)
from tests.unit.kernel import Kernel
from tests.unit.manager import FakeManager
from tests.unit.netstate.test_beside import rule
from tests.unit.wording import Coded, says, wording

OWN = (RICH[0], RICH[2], RICH[4])  # what the manager configures; the rest is somebody else's


def managed(**changes: object) -> tuple[Kernel, FakeManager]:
    """eth1, up and furnished; a part of that is its manager's."""
    kernel = furnished()
    manager = FakeManager(kernel, eth1=OWN)
    for name, value in changes.items():
        setattr(manager, name, value)
    return kernel, manager


def test_a_managed_port_is_claimed_and_comes_back_whole(tmp_path: Path) -> None:
    kernel, manager = managed(needs=2.0)
    before = kernel.picture()
    result = claim(tmp_path, FakeHost(kernel))
    assert result.plan is not None
    kinds = [step.kind for step in result.plan.steps]
    assert kinds == ["keep-state", "hold-manager", "set-admin", "prove-free"]
    assert manager.left == {"eth1"}
    manager.start()
    assert not kernel.nics[0].up
    followed = Followed()
    (port,) = release(tmp_path, FakeHost(kernel), progress=followed).ports
    assert kernel.picture() == before
    assert (manager.files, manager.left, port.residue, port.lost) == ({}, set(), (), ())
    with wording:
        assert followed.begun == [
            "set eth1 up", "give eth1 back to systemd-networkd", "restore and verify eth1",
        ]  # fmt: skip
    assert journal.paths(tmp_path) == []


def nm_managed() -> tuple[Kernel, FakeManager]:
    """eth1 of a NetworkManager, with the mode that it sets."""
    kernel = furnished()
    manager = FakeManager(kernel, "NetworkManager", eth1=OWN)
    kernel.nics[0].addr_gen_mode = "1"
    return kernel, manager


def test_a_mode_that_a_restarted_manager_has_reset_is_put_back(tmp_path: Path) -> None:
    kernel, manager = nm_managed()
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel))
    manager.start()
    assert kernel.nics[0].addr_gen_mode == "0"
    (port,) = release(tmp_path, FakeHost(kernel)).ports
    assert kernel.nics[0].addr_gen_mode == "1"
    assert kernel.picture() == before
    assert (port.residue, port.lost) == ((), ())


def test_a_mode_that_cannot_be_put_back_is_told(tmp_path: Path) -> None:
    kernel, manager = nm_managed()
    claim(tmp_path, FakeHost(kernel))
    manager.start()

    class Stubborn(FakeSystem):
        def send(self, request: Request) -> None:
            if request.type == RTM_NEWLINK:
                raise OSError(95, "Operation not supported")
            super().send(request)

    host = FakeHost(kernel)
    host.systems = Stubborn
    with pytest.raises(NotRestored, match=r"eth1: addr_gen_mode = 1 \(Operation not supported\)"):
        release(tmp_path, host)


def test_a_netdev_that_is_gone_keeps_no_other_from_its_mode(tmp_path: Path) -> None:
    kernel, manager = nm_managed()
    claim(tmp_path, FakeHost(kernel))
    manager.start()
    (path,) = journal.paths(tmp_path)
    content = journal.read(path)
    steps = steps_from_json(content.header["plan"], content.header["snapshot"])
    (unmanaged,) = [step.unmanaged for step in steps if isinstance(step, Unmanage)]
    (link,) = unmanaged.links
    gone, plain = replace(link, ifindex=99), replace(link, addr_gen_mode=None)
    both = replace(unmanaged, links=(plain, gone, link))
    assert unmanage._modes_put_back(both, FakeSystem(FakeHost(kernel))) == ()
    assert kernel.nics[0].addr_gen_mode == "1"


def test_a_mode_that_nothing_has_changed_is_not_set(tmp_path: Path) -> None:
    kernel, _ = nm_managed()
    claim(tmp_path, FakeHost(kernel))
    sent: list[int] = []

    class Noted(FakeSystem):
        def send(self, request: Request) -> None:
            sent.append(request.type)
            super().send(request)

    host = FakeHost(kernel)
    host.systems = Noted
    release(tmp_path, host)
    assert RTM_NEWLINK not in sent
    assert sent


def test_the_plan_tells_who_lets_go_and_who_comes_first(tmp_path: Path) -> None:
    kernel, _ = managed()
    plan = claim(tmp_path, FakeHost(kernel), dry_run=True).plan
    assert plan is not None
    step = plan.to_json()["steps"][1]
    assert (step["kind"], step["manager"]) == ("hold-manager", "systemd-networkd")
    with wording:
        assert step["text"].startswith("have systemd-networkd leave eth1 alone, by files in /run")
        assert "what systemd-networkd configures on eth1: by itself, first" in plan.restores[1]
    assert kernel.managers[0].files == {}


def test_a_step_is_the_same_after_json(tmp_path: Path) -> None:
    kernel, _ = managed()
    claim(tmp_path, FakeHost(kernel))
    (path,) = journal.paths(tmp_path)
    header = json.loads(json.dumps(journal.read(path).header))
    steps = steps_from_json(header["plan"], header["snapshot"])
    (step,) = [one for one in steps if isinstance(one, Unmanage)]
    assert step.unmanaged.names == "eth1"
    assert Unmanage.from_json(json.loads(json.dumps(step.to_json()))) == step


@pytest.mark.parametrize("half", [False, True])
def test_whenever_a_claim_dies_recover_puts_everything_back(tmp_path: Path, half: bool) -> None:
    probe = Fate()
    claim(tmp_path / "probe", FakeHost(managed()[0], probe))
    for dies_at in range(1, probe.operations + 1):
        kernel, manager = managed()
        before = kernel.picture()
        state_dir = tmp_path / str(dies_at)
        with contextlib.suppress(Killed):
            claim(state_dir, FakeHost(kernel, Fate(dies_at=dies_at, half=half)))
        if journal.paths(state_dir):
            release(state_dir, FakeHost(kernel))
        assert kernel.picture() == before, dies_at
        assert (manager.files, manager.left, kernel.nics[0].up) == ({}, set(), True), dies_at


@pytest.mark.parametrize("restarted", [False, True])
def test_whenever_a_release_dies_recover_puts_everything_back(
    tmp_path: Path, restarted: bool
) -> None:
    kernel, _ = managed()
    claim(tmp_path / "probe", FakeHost(kernel))
    probe = Fate()
    release(tmp_path / "probe", FakeHost(kernel, probe))
    for dies_at in range(1, probe.operations + 1):
        kernel, manager = managed()
        before = kernel.picture()
        state_dir = tmp_path / str(dies_at)
        claim(state_dir, FakeHost(kernel))
        with contextlib.suppress(Killed):
            release(state_dir, FakeHost(kernel, Fate(dies_at=dies_at, half=True)))
        if restarted and journal.list_claims(state_dir, "boot-1").claims:
            manager.start()
        release(state_dir, FakeHost(kernel))
        assert kernel.picture() == before, dies_at
        assert (manager.files, manager.left) == ({}, set()), dies_at


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(5, "busctl call: timed out"), "busctl call"),
        (PermissionError(13, "Permission denied", "/run/x"), r"Permission denied \(/run/x\)"),
    ],
)
def test_a_manager_that_fails_to_let_go_fails_the_claim_and_nothing_stays(
    tmp_path: Path, error: OSError, told: str
) -> None:
    kernel, manager = managed()
    before = kernel.picture()

    class Deaf(FakeSystem):
        def unmanage(self, unmanaged: object) -> None:
            raise error

    host = FakeHost(kernel)
    host.systems = Deaf
    with pytest.raises(RolledBack, match=f"have systemd-networkd leave eth1 alone: {told}"):
        claim(tmp_path, host)
    assert kernel.picture() == before
    assert manager.files == {}
    assert ("eth1", "down") not in kernel.links
    assert journal.paths(tmp_path) == []


def test_a_manager_that_cannot_be_told_leaves_the_journal_open(tmp_path: Path) -> None:
    kernel, _ = managed()
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel))

    class Deaf(FakeSystem):
        def give_back(self, unmanaged: object) -> bool:
            raise OSError(5, "busctl call: timed out")

    host = FakeHost(kernel)
    host.systems = Deaf
    with pytest.raises(
        NotRestored,
        match=says("give eth1 back to systemd-networkd: busctl call"),
        check=Coded("residue"),
    ):
        release(tmp_path, host)
    assert kernel.picture() == before  # what was on it is there all the same
    release(tmp_path, FakeHost(kernel), recover=True)
    assert kernel.managers[0].files == {}
    assert journal.paths(tmp_path) == []


def test_a_manager_that_runs_no_more_is_told_and_all_comes_from_the_snapshot(
    tmp_path: Path,
) -> None:
    kernel, manager = managed()
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel))
    manager.running = False
    (port,) = release(tmp_path, FakeHost(kernel)).ports
    assert kernel.picture() == before
    with wording:
        assert [(one.cause, one.text) for one in port.lost] == [
            (
                Cause.MANAGER,
                "systemd-networkd does not run any more and has not configured eth1 again",
            )
        ]
    assert manager.files == {}


def test_a_manager_that_does_not_come_to_an_end_is_awaited_no_longer_than_that(
    tmp_path: Path,
) -> None:
    kernel, _ = managed(needs=600.0)
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel))
    start = kernel.clock
    (port,) = release(tmp_path, FakeHost(kernel)).ports
    assert 30 <= kernel.clock - start < 40
    assert kernel.picture() == before
    with wording:
        assert [one.text for one in port.lost] == [
            "systemd-networkd has not configured eth1 again within 30 s"
        ]


def test_a_port_that_a_holder_has_stays_held(tmp_path: Path) -> None:
    kernel, manager = managed()
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel))
    kernel.nics[0].leaked = True
    with pytest.raises((Busy, NotRestored)):
        release(tmp_path, FakeHost(kernel))
    assert manager.left == {"eth1"}
    kernel.nics[0].leaked = False
    release(tmp_path, FakeHost(kernel))
    assert kernel.picture() == before
    assert manager.left == set()


def test_residue_that_is_accepted_tells_that_the_port_is_still_held(tmp_path: Path) -> None:
    kernel, _ = managed()
    for number in range(1, 30):
        state_dir = tmp_path / str(number)
        with contextlib.suppress(Killed):
            claim(state_dir, FakeHost(kernel, Fate(dies_at=number)))
        if kernel.managers[0].files and journal.paths(state_dir):
            break
    (port,) = release(
        state_dir, FakeHost(kernel), "eth1", recover=True, accept=True, dry_run=True
    ).ports
    with wording:
        assert "systemd-networkd leaves eth1 alone, by files in /run" in port.residue


def test_a_manager_that_does_not_answer_refuses_the_claim(tmp_path: Path) -> None:
    kernel, manager = managed(answers=False)
    with pytest.raises(
        Refused,
        match=says(r"systemd-networkd .*which does not answer \(timed out\)"),
        check=Coded("manager"),
    ):
        claim(tmp_path, FakeHost(kernel))
    result = claim(tmp_path, FakeHost(kernel), allow=["manager"])
    assert result.plan is not None
    assert "hold-manager" not in [step.kind for step in result.plan.steps]
    assert manager.files == {}


@pytest.mark.parametrize("mode", ["down", "uio"])
def test_the_synthetic_netdev_of_a_pair_is_held(tmp_path: Path, mode: str) -> None:
    kernel = paired()
    before = kernel.picture()
    manager = FakeManager(kernel, "NetworkManager", eth0=OWN)
    claim(tmp_path, FakeHost(kernel), "eth0", synthetic=mode)
    assert manager.left == {"eth0"}
    manager.start()
    assert not kernel.nics[0].up
    release(tmp_path, FakeHost(kernel), "eth0")
    assert kernel.picture() == before
    assert (manager.files, manager.left) == ({}, set())


def test_rules_that_networkd_deletes_are_put_back_also_those_that_came_later(
    tmp_path: Path,
) -> None:
    kernel, manager = managed()
    early, late = (Beside(Kind.RULE, rule(number)) for number in (500, 501))
    kernel.beside.append(early)
    claim(tmp_path, FakeHost(kernel))
    kernel.beside.append(late)
    release(tmp_path, FakeHost(kernel))
    assert kernel.beside == [early, late]
    claim(tmp_path, FakeHost(kernel))
    manager.reload()
    kernel.beside.clear()  # it was restarted, say
    release(tmp_path, FakeHost(kernel))
    assert kernel.beside == [early, late]


@pytest.mark.parametrize("half", [False, True])
def test_rules_come_back_whenever_a_release_dies(tmp_path: Path, half: bool) -> None:
    kernel, _ = managed()
    claim(tmp_path / "probe", FakeHost(kernel))
    probe = Fate()
    release(tmp_path / "probe", FakeHost(kernel, probe))
    for dies_at in range(1, probe.operations + 2):
        kernel, _ = managed()
        kernel.beside.append(Beside(Kind.RULE, rule(500)))
        state_dir = tmp_path / str(dies_at)
        claim(state_dir, FakeHost(kernel))
        with contextlib.suppress(Killed):
            release(state_dir, FakeHost(kernel, Fate(dies_at=dies_at, half=half)))
        release(state_dir, FakeHost(kernel))
        assert [one.body for one in kernel.beside] == [rule(500)], dies_at


def test_a_rule_that_cannot_be_put_back_is_residue(tmp_path: Path) -> None:
    kernel, _ = managed()
    kernel.beside.append(Beside(Kind.RULE, rule(500)))
    claim(tmp_path, FakeHost(kernel))

    class Stubborn(FakeSystem):
        def send(self, request: Request) -> None:
            if request.type == rt.RTM_NEWRULE:
                raise OSError(95, "Operation not supported")
            super().send(request)

    host = FakeHost(kernel)
    host.systems = Stubborn
    with pytest.raises(
        NotRestored,
        match=says(r"IPv4 policy rule 500 \(Operation not supported\)"),
        check=Coded("residue"),
    ):
        release(tmp_path, host)
    release(tmp_path, FakeHost(kernel))
    assert [one.body for one in kernel.beside] == [rule(500)]


def test_a_look_that_fails_keeps_no_rule_from_coming_back(tmp_path: Path) -> None:
    kernel, _ = managed()
    kernel.beside.append(Beside(Kind.RULE, rule(500)))
    claim(tmp_path, FakeHost(kernel))
    kernel.beside.clear()

    class Deaf(FakeSystem):
        def unsettled(self, unmanaged: Unmanaged) -> tuple[str, ...]:
            raise OSError(24, "Too many open files")

    host = FakeHost(kernel)
    host.systems = Deaf
    (port,) = release(tmp_path, host).ports
    assert [one.body for one in kernel.beside] == [rule(500)]
    with wording:
        assert any("is not known: Too many open files" in lost.text for lost in port.lost)


def test_rules_that_could_not_be_looked_at_are_residue(tmp_path: Path) -> None:
    kernel, _ = managed()
    kernel.beside.append(Beside(Kind.RULE, rule(500)))
    claim(tmp_path, FakeHost(kernel))

    class Blind(FakeSystem):
        looks = 0

        def beside(self) -> tuple[Beside, ...]:
            self.looks += 1
            if self.looks > 1:
                raise OSError(24, "Too many open files")
            return super().beside()

    host = FakeHost(kernel)
    host.systems = Blind
    with pytest.raises(
        NotRestored,
        match=says("has deleted is not known: Too many open files"),
        check=Coded("residue"),
    ):
        release(tmp_path, host)
    release(tmp_path, FakeHost(kernel))


def test_network_manager_deletes_no_rules_and_none_are_kept(tmp_path: Path) -> None:
    kernel = furnished()
    FakeManager(kernel, "NetworkManager", eth1=OWN)
    kernel.beside.append(Beside(Kind.RULE, rule(500)))
    plan = claim(tmp_path, FakeHost(kernel)).plan
    assert plan is not None
    assert plan.to_json()["steps"][1]["beside"] == []
    kernel.beside.clear()  # by an operator
    release(tmp_path, FakeHost(kernel))
    assert kernel.beside == []


def test_what_a_manager_has_on_the_port_by_then_is_not_removed(tmp_path: Path) -> None:
    """A new lease, say: it is the manager's word against the snapshot's."""
    kernel, manager = managed()
    claim(tmp_path, FakeHost(kernel))
    new = address("10.0.0.99", 24)
    manager.own["eth1"].append((str(new.kind), new.body))
    (port,) = release(tmp_path, FakeHost(kernel)).ports
    assert any("10.0.0.99" in line for line in port.extra)
    assert port.residue == ()


def test_a_new_lease_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    old, new = address("10.0.0.7", 24, valid=900), address("10.0.0.8", 24, valid=900)
    kernel = furnished(RICH[0], old)
    manager = FakeManager(kernel, "NetworkManager", eth1=(RICH[0], old))
    claim(tmp_path, FakeHost(kernel))
    manager.own["eth1"] = [(str(one.kind), one.body) for one in (RICH[0], new)]
    kernel.messages = [m for m in kernel.messages if m.attrs.get(2) != b"\x0a\0\0\7"]
    (port,) = release(tmp_path, FakeHost(kernel)).ports
    there = {m.attrs[2] for m in kernel.messages if m.kind == "address" and 2 in m.attrs}
    assert there == {b"\x0a\0\0\2", b"\x0a\0\0\10"}
    (lost,) = port.lost
    assert lost.cause is Cause.MANAGER
    assert lost.text.startswith("inet 10.0.0.7/24")
    with wording:
        assert lost.text.endswith("(its manager has another one now)")
    assert journal.paths(tmp_path) == []


def test_what_it_was_told_to_have_no_more_comes_from_the_snapshot(tmp_path: Path) -> None:
    kernel, manager = managed()
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel))
    gone = route("10.128.0.0", 9, via="10.0.0.1", proto=16)
    manager.own["eth1"].remove((str(gone.kind), gone.body))
    release(tmp_path, FakeHost(kernel))
    assert kernel.picture() == before
