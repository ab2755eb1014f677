"""`release` and `recover` from their requests to the closed journals, on a machine in memory."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import errno
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from manactl.act import recreate
from manactl.act import release as releasing
from manactl.act.released import Outcome, ReleasedPort, ReleaseResult
from manactl.errors import (
    Busy,
    Denied,
    Interrupted,
    ManactlError,
    NotRestored,
    UsageError,
)
from manactl.journal import file as journal
from manactl.journal import lock
from manactl.model.port import PortId
from manactl.netstate.link_settings import LinkSettings
from manactl.netstate.members import Member
from manactl.netstate.snapshot import OtherDevice, PortState, Request, Rows
from manactl.netstate.uppers import UpperState
from manactl.render.outcome_document import release_document
from tests.unit import schema
from tests.unit.fakes import PORT, address, archived, route
from tests.unit.host import (
    ETH2,
    NET_RAW,
    OTHER_FUNCTION,
    FakeHost,
    FakeSystem,
    Fate,
    Followed,
    Killed,
    claim,
    furnish,
    furnished,
    paired,
    release,
    two_ports,
)
from tests.unit.kernel import Kernel, Nic
from tests.unit.wording import Coded, says, wording


def two_functions() -> Kernel:
    """eth1 and eth5, each the port of a NIC of its own."""
    kernel = Kernel(Nic(), copy.deepcopy(OTHER_FUNCTION))
    furnish(kernel, kernel.nics[0])
    furnish(kernel, kernel.nics[1], (address("10.5.0.2", 24),))
    return kernel


def claims(state_dir: Path) -> list[tuple[int, str]]:
    return [(one.port.port, one.phase) for one in journal.list_claims(state_dir, "boot-1").claims]


def claimed_and_held(state_dir: Path, *pids: int) -> tuple[Kernel, object]:
    kernel = furnished()
    before = kernel.picture()
    claim(state_dir, FakeHost(kernel))
    kernel.nics[0].holders = list(pids or [4211])
    return kernel, before


def outcomes(done: ReleaseResult) -> list[tuple[str, str]]:
    return [(one.netdev, one.outcome) for one in done.ports]


# --- what is released -----------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [("eth1", "eth2"), ("eth2", "eth1")])
def test_one_of_two_ports_leaves_the_other_claimed_with_all_it_needs(
    tmp_path: Path, first: str, second: str
) -> None:
    kernel = two_ports()
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel), "eth1", "eth2")
    assert outcomes(release(tmp_path, FakeHost(kernel), first)) == [(first, "restored")]
    assert (kernel.nic(first).up, kernel.nic(second).up) == (True, False)
    assert claims(tmp_path) == [(kernel.nic(second).number, "claimed")]
    (path,) = journal.paths(tmp_path)
    assert len(journal.read(path).header["snapshot"]) == 2
    assert release(tmp_path, FakeHost(kernel), recover=True).ports == []
    assert outcomes(release(tmp_path, FakeHost(kernel), second)) == [(second, "restored")]
    assert kernel.picture() == before
    assert journal.paths(tmp_path) == []
    assert len(list((tmp_path / "history").iterdir())) == 1


def test_a_recovery_tells_of_each_claim_that_stands_whose_port_is_up(tmp_path: Path) -> None:
    """Also after one whose port is down, and one that nothing here is of any more."""
    kernel = two_functions()
    kernel.nics.insert(1, dataclasses.replace(ETH2, holders=[]))
    for name in ("eth1", "eth2", "eth5"):
        claim(tmp_path, FakeHost(kernel), name)
    kernel.set_up(kernel.nic("eth5"), True)
    del kernel.nics[0]
    follower = Followed()
    assert release(tmp_path, FakeHost(kernel), recover=True, progress=follower).ports == []
    (note,) = follower.notes
    assert "eth5" in note
    assert len(claims(tmp_path)) == 3


def test_a_partial_release_that_dies_is_finished_and_leaves_the_other_claimed(
    tmp_path: Path,
) -> None:
    kernel = two_ports()
    claim(tmp_path / "x", FakeHost(kernel), "eth1", "eth2")
    host = FakeHost(kernel)
    release(tmp_path / "x", host, "eth1")
    total = host.fate.operations
    for dies_at in range(1, total + 1):
        state_dir = tmp_path / str(dies_at)
        kernel = two_ports()
        before = kernel.picture()
        claim(state_dir, FakeHost(kernel), "eth1", "eth2")
        with pytest.raises(Killed):
            release(state_dir, FakeHost(kernel, Fate(dies_at=dies_at, half=True)), "eth1")
        release(state_dir, FakeHost(kernel), recover=True)
        release(state_dir, FakeHost(kernel), "eth1")
        assert claims(state_dir) == [(2, "claimed")]
        assert not kernel.nic("eth2").up
        release(state_dir, FakeHost(kernel))
        assert kernel.picture() == before


def test_several_claims_are_named_or_all(tmp_path: Path) -> None:
    kernel = two_functions()
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel), "eth1")
    claim(tmp_path, FakeHost(kernel), "eth5")
    with pytest.raises(UsageError, match="eth1, eth5"):
        release(tmp_path, FakeHost(kernel))
    assert kernel.links == [("eth1", "down"), ("eth5", "down")]
    done = release(tmp_path, FakeHost(kernel), everything=True)
    assert outcomes(done) == [("eth1", "restored"), ("eth5", "restored")]
    assert kernel.picture() == before


@pytest.mark.parametrize(
    "word", ["eth1", "7870:00:00.0:1", "00:0D:3A:AA:00:10", "manae_0/1", "MISSING"]
)
def test_a_port_is_released_by_any_of_its_names(tmp_path: Path, word: str) -> None:
    kernel = two_ports()
    claim(tmp_path, FakeHost(kernel), "eth1")
    if word == "MISSING":
        with pytest.raises(UsageError):
            release(tmp_path, FakeHost(kernel), word)
        return
    done = release(tmp_path, FakeHost(kernel), word, "eth2")
    assert outcomes(done) == [("eth2", "not-claimed"), ("eth1", "restored")]
    assert kernel.links == [("eth1", "down"), ("eth1", "up")]


def test_nothing_claimed_is_done_already(tmp_path: Path) -> None:
    host = FakeHost(furnished())
    assert release(tmp_path / "none", host).ports == []
    assert host.audits[0].quiet
    assert outcomes(release(tmp_path / "none", FakeHost(host.kernel), "eth1")) == [
        ("eth1", "not-claimed")
    ]
    assert not (tmp_path / "none").exists()


# --- the document ---------------------------------------------------------------------------


def test_the_document_tells_what_came_back(tmp_path: Path) -> None:
    class Slow(FakeSystem):
        def set_admin(self, port: PortId, up: bool) -> None:
            self.kernel.clock += 0.25
            super().set_admin(port, up)

    kernel = furnished(
        address("10.0.0.2", 24),
        address("2001:db8::2", 64, flags=0x200),
        address("2001:db8:9::2", 64, flags=0x200, valid=30),
        route("10.9.0.0", 16, via="10.0.0.9"),
    )
    claim(tmp_path, FakeHost(kernel))
    kernel.clock += 41.0
    kernel.add("address", address("10.66.0.2", 24).body)
    host = FakeHost(kernel)
    host.systems = Slow
    document: Any = json.loads(json.dumps(release_document(release(tmp_path, host), "release")))
    schema.strict(document)
    (port,) = document["ports"]
    assert (port["netdev"], port["outcome"], port["recovered"]) == ("eth1", "restored", False)
    assert port["restored"] == {"addresses": 1, "routes": 1}
    assert port["expired"] == ["inet6 2001:db8:9::2/64 noprefixroute valid_lft 30sec dev eth1"]
    assert port["extra"] == ["ip address del 10.66.0.2/24 dev eth1"]
    assert port["carrier"] is True
    assert port["up_ms"] == 250.0
    assert port["down_for_s"] == 41.0


def test_a_cable_that_was_pulled_is_told_and_no_failure(tmp_path: Path) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    kernel.nics[0].cable = False
    start = kernel.clock
    (port,) = release(tmp_path, FakeHost(kernel)).ports
    assert port.carrier is False
    assert kernel.clock - start >= 10.0  # it was waited for


def test_carrier_is_awaited_only_where_it_was(tmp_path: Path) -> None:
    kernel = furnished()
    kernel.nics[0].cable = False
    claim(tmp_path, FakeHost(kernel))
    start = kernel.clock
    (port,) = release(tmp_path, FakeHost(kernel)).ports
    assert port.carrier is None
    assert kernel.clock - start < 5.0


# --- boots and NICs -------------------------------------------------------------------------


@pytest.mark.parametrize("recover", [False, True])
def test_a_claim_of_another_boot_is_only_closed(tmp_path: Path, recover: bool) -> None:
    kernel = two_ports()
    claim(tmp_path, FakeHost(kernel), "eth1", "eth2")
    kernel.set_up(kernel.nic("eth1"), True)
    links = list(kernel.links)
    (path,) = journal.paths(tmp_path)
    later = FakeHost(kernel, boot="boot-2")
    later.mask = 0  # closing a file takes no capability
    (plan,) = release(tmp_path, later, recover=recover, dry_run=True).plans
    assert plan.steps == ()
    assert path.exists()
    done = release(tmp_path, later, recover=recover)
    assert outcomes(done) == [("eth1", "history"), ("eth2", "history")]
    assert kernel.links == links
    assert journal.read(archived(path)).records[-1]["how"] == "reboot"


# --- signals --------------------------------------------------------------------------------


def test_an_interrupt_while_waiting_changes_nothing(tmp_path: Path) -> None:
    kernel, _ = claimed_and_held(tmp_path)
    host = FakeHost(kernel)
    host.at_pause = lambda: os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted) as caught:
        release(tmp_path, host, wait=60.0)
    assert caught.value.exit_code == 130
    assert claims(tmp_path) == [(1, "claimed")]
    assert kernel.links == [("eth1", "down")]


def test_a_port_that_was_never_claimed_was_not_released_when_the_signal_came(
    tmp_path: Path,
) -> None:
    kernel = two_ports()
    claim(tmp_path, FakeHost(kernel), "eth1")
    kernel.nic("eth1").holders = [4211]
    host = FakeHost(kernel)
    host.at_pause = lambda: os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted) as caught:
        release(tmp_path, host, "eth1", "eth2", wait=30.0)
    with wording:
        assert caught.value.message == "interrupted by SIGINT; nothing was changed"


def test_an_interrupt_after_sigterm_says_so_and_goes_on_with_no_other_claim(tmp_path: Path) -> None:
    kernel = two_functions()
    claim(tmp_path, FakeHost(kernel), "eth1")
    claim(tmp_path, FakeHost(kernel), "eth5")
    kernel.nic("eth1").holders = [4211]
    kernel.nic("eth5").holders = [4212]
    kernel.stubborn.add(4211)
    host = FakeHost(kernel)
    host.at_pause = lambda: os.kill(os.getpid(), signal.SIGINT) if kernel.killed else None
    with pytest.raises(Interrupted, match=says("SIGTERM was sent to pid 4211")) as caught:
        release(tmp_path, host, everything=True, terminate=True)
    assert caught.value.exit_code == 130
    assert kernel.killed == [4211]
    assert claims(tmp_path) == [(1, "claimed"), (1, "claimed")]


def test_an_interrupt_is_heard_again_when_the_next_claim_is_waited_for(tmp_path: Path) -> None:
    kernel = two_functions()
    claim(tmp_path, FakeHost(kernel), "eth1")
    claim(tmp_path, FakeHost(kernel), "eth5")
    kernel.nic("eth5").holders = [4212]
    host = FakeHost(kernel)

    def impatient() -> None:
        if kernel.nic("eth1").up:
            os.kill(os.getpid(), signal.SIGINT)

    host.at_pause = impatient
    with pytest.raises(Interrupted):
        release(tmp_path, host, everything=True, wait=3600.0)
    assert kernel.nic("eth1").up
    assert kernel.clock < 1100.0
    assert len(journal.paths(tmp_path)) == 1


# --- codes ----------------------------------------------------------------------------------


def test_without_net_admin_nothing_is_begun(tmp_path: Path) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    host = FakeHost(kernel)
    host.mask = NET_RAW
    with pytest.raises(Denied, match="CAP_NET_ADMIN") as caught:
        release(tmp_path, host)
    assert caught.value.exit_code == 7
    assert claims(tmp_path) == [(1, "claimed")]
    assert len(release(tmp_path, host, dry_run=True).plans) == 1


def test_a_state_directory_that_may_not_be_read_is_denied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", denied)
        with pytest.raises(Denied) as caught:
            release(tmp_path, FakeHost(furnished()))
    assert caught.value.exit_code == 7


class Mixed(FakeSystem):
    """Some ports cannot be opened, whoever asks."""

    broken: tuple[str, ...] = ()

    def set_admin(self, port: PortId, up: bool) -> None:
        if up and self.here(port).name in self.broken:
            raise OSError(110, os.strerror(110))
        super().set_admin(port, up)


@pytest.mark.parametrize("first", ["eth1", "eth5"])
@pytest.mark.parametrize("other", ["held", "eqs_lost"])
def test_the_worst_code_wins_and_every_failure_is_told(
    tmp_path: Path, first: str, other: str
) -> None:
    second = {"eth1": "eth5", "eth5": "eth1"}[first]
    kernel = two_functions()
    claim(tmp_path, FakeHost(kernel), first)
    claim(tmp_path, FakeHost(kernel), second)
    if other == "held":
        kernel.nic("eth1").holders = [4211]
    else:
        kernel.nic("eth1").eqs_lost = True
    host = FakeHost(kernel)
    host.systems = type("Broken", (Mixed,), {"broken": ("eth5",)})
    with pytest.raises(ManactlError) as caught:
        release(tmp_path, host, everything=True)
    assert caught.value.exit_code == 5
    assert "eth1" in caught.value.message
    assert "eth5" in caught.value.message
    assert len(journal.paths(tmp_path)) == 2


def test_one_claim_that_cannot_be_released_keeps_no_other_down(tmp_path: Path) -> None:
    kernel = two_functions()
    claim(tmp_path, FakeHost(kernel), "eth1")
    claim(tmp_path, FakeHost(kernel), "eth5")
    kernel.nic("eth1").holders = [4211]
    with pytest.raises(Busy) as caught:
        release(tmp_path, FakeHost(kernel), everything=True)
    assert caught.value.exit_code == 6
    assert kernel.nic("eth5").up
    assert not kernel.nic("eth1").up


def test_residue_of_one_of_two_ports_keeps_the_journal(tmp_path: Path) -> None:
    class Stubborn(FakeSystem):
        def send(self, request: Request) -> None:
            if request.type == 28:
                raise OSError(22, "Invalid argument")
            super().send(request)

    kernel = two_ports()
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel), "eth1", "eth2")
    host = FakeHost(kernel)
    host.systems = Stubborn
    with pytest.raises(NotRestored):
        release(tmp_path, host)
    assert kernel.nic("eth2").up
    assert claims(tmp_path) == [(1, "interrupted"), (2, "interrupted")]
    done = release(tmp_path, FakeHost(kernel), recover=True)
    assert [one.recovered for one in done.ports] == [True, True]
    assert kernel.picture() == before


# --- recover --------------------------------------------------------------------------------


def test_recover_takes_what_was_interrupted_and_leaves_what_stands(tmp_path: Path) -> None:
    kernel = two_functions()
    claim(tmp_path, FakeHost(kernel), "eth5")
    with pytest.raises(Killed):
        claim(tmp_path, FakeHost(kernel, Fate(dies_at=9, half=True)), "eth1")
    done = release(tmp_path, FakeHost(kernel), recover=True)
    assert outcomes(done) == [("eth1", "restored")]
    assert done.ports[0].recovered
    assert not kernel.nic("eth5").up
    assert claims(tmp_path) == [(1, "claimed")]


# --- other manactls -------------------------------------------------------------------------


def test_another_manactl_is_busy_or_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = furnished()
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel))
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock.functions(tmp_path, [PORT.pci]))
        with pytest.raises(Busy) as caught:
            release(tmp_path, FakeHost(kernel))
        assert caught.value.code == "locked"
        assert kernel.links == [("eth1", "down")]
        monkeypatch.setattr(time, "sleep", lambda _: stack.close())
        release(tmp_path, FakeHost(kernel), wait=30.0)
    assert kernel.picture() == before


def test_what_another_manactl_has_released_meanwhile_is_not_released_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock.functions(tmp_path, [PORT.pci]))

        def meanwhile(_: float) -> None:
            stack.close()
            release(tmp_path, FakeHost(kernel))

        monkeypatch.setattr(time, "sleep", meanwhile)
        assert release(tmp_path, FakeHost(kernel), wait=30.0).ports == []
    assert kernel.links == [("eth1", "down"), ("eth1", "up")]


def test_a_port_that_was_never_touched_may_be_held_by_anybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim of both died before it came to eth2: what is on that is others'."""
    for dies_at in range(1, 30):
        kernel, state_dir = two_ports(), tmp_path / str(dies_at)
        with pytest.raises(Killed):
            claim(state_dir, FakeHost(kernel, Fate(dies_at=dies_at)), "eth1", "eth2")
        if kernel.links == [("eth1", "down")]:
            break
    kernel.set_up(kernel.nic("eth2"), False)
    kernel.nic("eth2").holders = [4211]
    with contextlib.ExitStack() as moment:
        moment.enter_context(lock.moment(state_dir, PORT.pci))
        monkeypatch.setattr(time, "sleep", lambda _: moment.close())
        done = release(state_dir, FakeHost(kernel), recover=True)
    assert outcomes(done) == [("eth1", "restored"), ("eth2", "untouched")]
    assert kernel.nic("eth1").up


def test_a_journal_that_cannot_be_read_any_more_is_no_claim_that_was_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = furnished()
    path = claim(tmp_path, FakeHost(kernel)).journal
    assert path is not None
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock.functions(tmp_path, [PORT.pci]))

        def meanwhile(_: float) -> None:
            path.write_bytes(b"not a journal\n" + path.read_bytes())
            stack.close()

        monkeypatch.setattr(time, "sleep", meanwhile)
        with pytest.raises(journal.JournalError):
            release(tmp_path, FakeHost(kernel), wait=30.0)
    assert kernel.links == [("eth1", "down")]


def test_recover_leaves_a_claim_that_was_finished_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = furnished()
    with pytest.raises(Killed):
        claim(tmp_path, FakeHost(kernel, Fate(dies_at=9, half=True)))
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock.functions(tmp_path, [PORT.pci]))

        def meanwhile(_: float) -> None:
            stack.close()
            release(tmp_path, FakeHost(kernel), recover=True)
            claim(tmp_path, FakeHost(kernel))

        monkeypatch.setattr(time, "sleep", meanwhile)
        release(tmp_path, FakeHost(kernel), recover=True, wait=30.0)
    assert claims(tmp_path) == [(1, "claimed")]


def test_the_system_log_gets_the_verb_and_the_ports(tmp_path: Path) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    host = FakeHost(kernel)
    release(tmp_path, host, "eth1")
    fields = host.audits[0].fields
    assert (fields["verb"], fields["asked"], fields["exit"]) == ("release", ["eth1"], 0)
    assert fields["ports"] == ["7870:00:00.0:1"]
    host = FakeHost(kernel)
    release(tmp_path, host, dry_run=True)
    assert host.audits[0].quiet


SAID = ("text", "kept", "stops", "restores", "lost", "notes", "message", "label")


# --- what a dry run shows -------------------------------------------------------------------


def test_a_plan_of_a_release_is_the_claims_backwards(tmp_path: Path) -> None:
    kernel = two_ports()
    kernel.set_up(kernel.nic("eth2"), False)
    made = claim(tmp_path, FakeHost(kernel), "eth1", "eth2").plan
    assert made is not None
    (plan,) = release(tmp_path, FakeHost(kernel), dry_run=True).plans
    assert (plan.verb, plan.ports) == ("release", made.ports)
    assert plan.steps == made.steps[::-1]
    assert plan.restores == made.restores
    assert plan.lost == made.lost
    with wording:
        assert plan.notes == ("eth2 was down before the claim and is left as it is",)
    assert (plan.stops, plan.drops, plan.waived, plan.refusals) == ((), (), (), ())


def test_a_plan_for_one_of_two_ports_has_its_steps_alone(tmp_path: Path) -> None:
    kernel = two_ports()
    claim(tmp_path, FakeHost(kernel), "eth1", "eth2")
    (plan,) = release(tmp_path, FakeHost(kernel), "eth2", dry_run=True).plans
    assert [port.port for port in plan.ports] == [2]
    assert {step.port.port for step in plan.steps} == {2}
    with wording:
        assert plan.restores[0] == "eth2 set up, its carrier awaited"
    assert plan.notes == ()
    whole = release(tmp_path, FakeHost(kernel), dry_run=True, everything=True).plans[0]
    (other,) = release(tmp_path, FakeHost(kernel), "eth1", dry_run=True).plans
    assert sorted(other.restores + plan.restores) == sorted(whole.restores)
    assert sorted(other.lost + plan.lost) == sorted(whole.lost)


@pytest.mark.parametrize("synthetic", [None, "down", "keep", "uio"])
def test_what_the_claim_said_decides_nothing(tmp_path: Path, synthetic: str | None) -> None:
    """Every sentence in a journal may be another one."""
    kernel = furnished() if synthetic is None else paired()
    path = claim(tmp_path, FakeHost(kernel), synthetic=synthetic).journal
    assert path is not None
    (before,) = release(tmp_path, FakeHost(kernel), dry_run=True).plans
    reword(path)
    (plan,) = release(tmp_path, FakeHost(kernel), dry_run=True).plans
    assert (plan.ports, plan.steps) == (before.ports, before.steps)
    assert (plan.restores, plan.notes, len(plan.lost)) == (
        before.restores, before.notes, len(before.lost),
    )  # fmt: skip
    (back,) = release(tmp_path, FakeHost(kernel)).ports
    assert (back.outcome, back.residue) == (Outcome.RESTORED, ())
    assert kernel.nics[0].up


def reword(path: Path) -> None:
    """The journal, with "word" for every sentence in it."""
    content = journal.read(path)
    data, before = b"", ""
    for record in (content.header, *content.records):
        line, before = journal._line(_reworded(record), before)
        data += line
    path.write_bytes(data)


def _reworded(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _reworded(part, name) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_reworded(part, key) for part in value]
    said = isinstance(value, str) and (key in SAID or " " in value)
    return "word" if said else value


def test_each_journal_has_a_plan(tmp_path: Path) -> None:
    kernel = two_functions()
    claim(tmp_path, FakeHost(kernel), "eth1")
    claim(tmp_path, FakeHost(kernel), "eth5")
    done = release(tmp_path, FakeHost(kernel), dry_run=True, everything=True)
    assert [[port.pci for port in plan.ports] for plan in done.plans] == [
        ["7870:00:00.0"], ["7871:00:00.0"],
    ]  # fmt: skip
    assert kernel.links == [("eth1", "down"), ("eth5", "down")]


def test_a_plan_for_a_claim_of_before_the_boot_has_no_steps(tmp_path: Path) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    later = FakeHost(kernel, boot="boot-2")
    (plan,) = release(tmp_path, later, dry_run=True, terminate=True).plans
    assert (plan.ports, plan.steps, plan.restores) == ((PORT,), (), ())
    with wording:
        assert plan.notes == ("claimed before the last boot: only the journal is closed",)


# --- journals that cannot be served ---------------------------------------------------------


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The journal with another header, and records whose checksums follow it."""
    lines = [json.loads(line.rpartition(b"\t")[0]) for line in path.read_bytes().splitlines()]
    change(lines[0])
    before, text = "", b""
    for line in lines:
        body = json.dumps(line, separators=(",", ":"), sort_keys=True)
        before = hashlib.sha256((before + body).encode()).hexdigest()[:16]
        text += f"{body}\t{before}\n".encode()
    path.write_bytes(text)


def test_a_plan_that_makes_no_sense_is_not_followed(tmp_path: Path) -> None:
    kernel = furnished()
    path = claim(tmp_path, FakeHost(kernel)).journal
    assert path is not None
    rewritten(path, lambda header: header["plan"]["steps"][1].pop("was"))
    with pytest.raises(
        NotRestored,
        match=says(r"cannot be believed .*; nothing was changed"),
        check=Coded("journal"),
    ) as why:
        release(tmp_path, FakeHost(kernel))
    assert why.value.code == "journal"
    assert kernel.links == [("eth1", "down")]
    assert claims(tmp_path) == [(1, "claimed")]


def test_a_dry_run_shows_the_others_too(tmp_path: Path) -> None:
    kernel = two_functions()
    path = claim(tmp_path, FakeHost(kernel), "eth1").journal
    claim(tmp_path, FakeHost(kernel), "eth5")
    assert path is not None
    rewritten(path, lambda header: header["plan"]["steps"][1].pop("was"))
    with pytest.raises(
        NotRestored, match=says("cannot be believed"), check=Coded("journal")
    ) as caught:
        release(tmp_path, FakeHost(kernel), everything=True, dry_run=True)
    assert isinstance(caught.value.beside, ReleaseResult)
    (plan,) = caught.value.beside.plans
    assert [step.title for step in plan.steps if step.kind == "set-admin"] == ["set eth5 down"]


def test_a_finished_journal_that_cannot_be_put_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its release died just before that."""
    kernel = furnished()
    path = claim(tmp_path, FakeHost(kernel)).journal
    assert path is not None
    monkeypatch.setattr(journal, "read_boot_id", lambda: "boot-1")
    with journal.Journal.open(path) as log:
        log.append("released", pci=PORT.pci, port=PORT.port)

    def full(_path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(journal, "archive", full)
        with pytest.raises(
            NotRestored, match=says("cannot be closed: No space left"), check=Coded("journal")
        ) as caught:
            release(tmp_path, FakeHost(kernel))
    assert caught.value.code == "journal"
    assert "manactl recover" in (caught.value.hint or "")
    release(tmp_path, FakeHost(kernel), recover=True)
    assert journal.paths(tmp_path) == []
    assert kernel.links == [("eth1", "down")]


@pytest.mark.parametrize("trouble", ["locked", "full", "refused"])
def test_of_several_finished_journals_each_is_put_away_that_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    kernel = two_functions()
    monkeypatch.setattr(journal, "read_boot_id", lambda: "boot-1")
    for name in ("eth1", "eth5"):
        path = claim(tmp_path, FakeHost(kernel), name).journal
        assert path is not None
        with journal.Journal.open(path) as log:
            (port,) = log.content.ports
            log.append("released", pci=port.pci, port=port.port)
    first, second = journal.finished(tmp_path)
    archives, functions = journal.archive, lock.functions

    def archive(path: Path) -> None:
        if trouble == "full" and path == first.path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        archives(path)

    def locks(state_dir: Path, pcis: Collection[str], **more: Any) -> Any:
        if trouble == "refused" and set(pcis) == {first.all_ports[0].pci}:
            raise NotRestored("the locks cannot be had", code="journal")
        return functions(state_dir, pcis, **more)

    monkeypatch.setattr(journal, "archive", archive)
    monkeypatch.setattr(lock, "functions", locks)
    with contextlib.ExitStack() as stack:
        if trouble == "locked":
            stack.enter_context(functions(tmp_path, [first.all_ports[0].pci]))
            assert release(tmp_path, FakeHost(kernel), recover=True).ports == []
        else:
            with pytest.raises(NotRestored, check=Coded("journal")):
                release(tmp_path, FakeHost(kernel), recover=True)
    assert journal.paths(tmp_path) == [first.path]
    assert second.path != first.path


def test_what_was_put_away_is_told_by_the_error_that_comes_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = furnished()
    monkeypatch.setattr(journal, "read_boot_id", lambda: "boot-1")
    path = claim(tmp_path, FakeHost(kernel)).journal
    assert path is not None
    with journal.Journal.open(path) as log:
        log.append("released", pci=PORT.pci, port=PORT.port)
    lists, calls = releasing.open_claims, list[object]()

    def second_fails(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise Denied("it is not readable", untouched="nothing was touched")
        return lists(*args)

    monkeypatch.setattr(releasing, "open_claims", second_fails)
    with pytest.raises(Denied) as caught:
        release(tmp_path, FakeHost(kernel))
    assert path.name in caught.value.message
    assert "nothing was touched" not in caught.value.message
    assert journal.paths(tmp_path) == []


# --- a netdev that was re-created ------------------------------------------------------------


def replugged(tmp_path: Path, mtu: int = 4000) -> tuple[Kernel, dict[str, object]]:
    """A claimed port whose device was unplugged and plugged in again."""
    kernel = furnished()
    nic = kernel.nics[0]
    nic.mtu, nic.alias, nic.promisc, nic.altnames = mtu, "wan", True, ["wan0"]
    nic.rp_filter, nic.prio = "2", True
    had = vars(nic).copy()
    claim(tmp_path, FakeHost(kernel))
    kernel.unplug(nic)
    kernel.replug(nic, "eth1", 7)
    return kernel, had


def test_what_comes_last_on_one_port_does_not_deny_what_is_restored_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = two_ports()
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel), "eth1", "eth2")

    def finish(state: PortState, _system: object) -> tuple[()]:
        if state.ifname == "eth2":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return ()

    monkeypatch.setattr(recreate, "finish", finish)
    with pytest.raises(
        NotRestored, match=says("All of eth1 is restored and verified"), check=Coded("residue")
    ) as caught:
        release(tmp_path, FakeHost(kernel))
    with wording:
        assert "the last settings of eth2: Too many open files" in caught.value.message
    assert kernel.picture() == before


def test_a_netdev_that_was_recreated_gets_the_settings_of_the_old_one(tmp_path: Path) -> None:
    kernel, had = replugged(tmp_path)
    host = FakeHost(kernel)
    acts: list[str] = []
    host.fate = Fate(at={1: lambda: acts.append("up" if kernel.nics[0].up else "down")})
    (port,) = release(tmp_path, host).ports
    assert acts == ["down"]  # the settings come first
    assert vars(kernel.nics[0]) == {**had, "ifindex": 7}
    assert port.residue == ()
    assert port.counts["setting"] == 6
    (lost,) = port.lost
    with wording:
        assert (lost.cause, lost.text.split(":")[0]) == (
            "not-kept",
            "eth1 was re-created (ifindex 3 -> 7)",
        )
    assert claims(tmp_path) == []


def test_settings_that_the_new_netdev_refuses_are_residue_and_can_be_accepted(
    tmp_path: Path,
) -> None:
    kernel, _ = replugged(tmp_path, mtu=9000)
    with pytest.raises(NotRestored, match=r"mtu 9000 \(Invalid argument\)"):
        release(tmp_path, FakeHost(kernel))
    assert kernel.nics[0].alias == "wan"
    with pytest.raises(NotRestored, match=r"mtu 9000"):
        release(tmp_path, FakeHost(kernel), recover=True)
    (port,) = release(tmp_path, FakeHost(kernel), "eth1", recover=True, accept=True).ports
    with wording:
        assert port.residue == ("mtu 9000 (it does not stay so)",)
    assert claims(tmp_path) == []


def test_a_netdev_that_stayed_keeps_the_settings_that_it_was_given_meanwhile(
    tmp_path: Path,
) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    kernel.nics[0].mtu = 3000
    (port,) = release(tmp_path, FakeHost(kernel)).ports
    assert kernel.nics[0].mtu == 3000
    (lost,) = port.lost
    assert (lost.cause, lost.text.split(" (")[0]) == ("changed", "mtu 1500")
    assert claims(tmp_path) == []


def test_settings_that_a_move_to_another_namespace_and_back_has_reset_are_reported(
    tmp_path: Path,
) -> None:
    """Nothing else tells of it: number, name, MTU and altnames are as they were."""
    kernel = furnished()
    nic = kernel.nics[0]
    nic.rp_filter, nic.prio = "2", True
    claim(tmp_path, FakeHost(kernel))
    nic.rp_filter, nic.prio = "0", False
    (port,) = release(tmp_path, FakeHost(kernel)).ports
    assert [(lost.cause, lost.text.split(" (")[0]) for lost in port.lost] == [
        ("changed", "sysctl net/ipv4/conf: rp_filter = 2"),
        ("changed", "qdisc prio 1: root"),
    ]
    assert port.residue == ()


@pytest.mark.wording
def test_settings_that_cannot_be_read_again_are_said_to_be_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))

    def unreadable(_: Nic) -> LinkSettings:
        raise OSError(errno.ENOBUFS, "No buffer space available")

    monkeypatch.setattr(kernel, "settings_of", unreadable)
    (port,) = release(tmp_path, FakeHost(kernel)).ports
    assert [lost.text for lost in port.lost] == [
        "settings of eth1: not compared, No buffer space available"
    ]


# --- a bridge or a bond that forwards later -------------------------------------------------

FORWARDS = Member("br0", "bridge", "forwarding", True, 30.0)
LEARNS = FORWARDS._replace(state="learning", forwards=False)


class InBridge(FakeSystem):
    """The port forwards 30 s after it was set up."""

    def capture(
        self,
        port: PortId,
        nexthops: Collection[int] = (),
        rows: Rows = None,
        *,
        alone: bool = False,
    ) -> PortState:
        state = super().capture(port, nexthops, rows, alone=alone)
        assert isinstance(self.host, BridgedHost)
        ups = [when for when in self.host.ups if when <= self.kernel.clock]
        settled = not ups or self.kernel.clock >= ups[-1] + 30.0
        return dataclasses.replace(state, member=FORWARDS if settled else LEARNS)

    def set_admin(self, port: PortId, up: bool) -> None:
        super().set_admin(port, up)
        assert isinstance(self.host, BridgedHost)
        if up:
            self.host.ups.append(self.kernel.clock)


class BridgedHost(FakeHost):
    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.ups: list[float] = []
        self.systems = InBridge


@pytest.mark.parametrize(
    ("wait", "settling", "at_least"), [(None, LEARNS, 0), (5.0, LEARNS, 5), (60.0, None, 30)]
)
def test_a_port_that_does_not_forward_yet(
    tmp_path: Path, wait: float | None, settling: Member | None, at_least: float
) -> None:
    kernel = furnished()
    done = claim(tmp_path, BridgedHost(kernel))
    assert done.plan is not None
    with wording:
        assert any("up to 30 s more" in text for text in done.plan.stops)
    host = BridgedHost(kernel)
    result = release(tmp_path, host, wait=wait)
    (port,) = result.ports
    assert (port.settling, port.outcome, port.residue) == (settling, "restored", ())
    assert at_least <= round(sum(host.pauses), 6) < at_least + 2
    document = release_document(result, "release")
    schema.strict(document)
    within = None if settling is None else {"master": "br0", "kind": "bridge", "state": "learning",
                                            "within_s": 30.0, "then": None}  # fmt: skip
    assert document["ports"][0]["settling"] == within  # type: ignore[index]
    assert claims(tmp_path) == []


SENDS = Member("bond0", "bond", "forwarding", True, 30.0, "updelay")
BOND = UpperState("bond0", 9, "bond", 3, None, True, True, False, 3)
VLAN = UpperState("eth1.7", 8, "vlan", 3, None, True, True, False)


class InBond(InBridge):
    """The bond takes the port for its active slave when its updelay is over, and not before."""

    def capture(
        self,
        port: PortId,
        nexthops: Collection[int] = (),
        rows: Rows = None,
        *,
        alone: bool = False,
    ) -> PortState:
        state = super().capture(port, nexthops, rows, alone=alone)
        assert isinstance(self.host, BondedHost)
        assert state.member is not None
        sends = state.member.forwards
        member = SENDS if sends else SENDS._replace(state="updelay", forwards=False)
        slave = self.host.active or state.ifindex
        bond = BOND._replace(lower=state.ifindex, active=slave)
        other = OtherDevice(OTHER_SLAVE, "eth9", "02:00:00:00:00:09")
        return dataclasses.replace(
            state, member=member, uppers=(bond,), others=(other,), links=(other,)
        )

    def set_admin(self, port: PortId, up: bool) -> None:
        super().set_admin(port, up)
        assert isinstance(self.host, BondedHost)
        if not up:
            self.host.active = OTHER_SLAVE

    def send(self, request: Request) -> None:
        if request.type != 16:
            super().send(request)
            return
        assert isinstance(self.host, BondedHost)
        if self.host.refuses or self.kernel.clock < self.host.ups[-1] + 30.0:
            raise OSError(errno.EINVAL, "Invalid argument")
        self.host.active = None


OTHER_SLAVE = 77


class BondedHost(BridgedHost):
    """A bond with an updelay of 30 s; `active`: the ifindex of its active slave, None the port."""

    def __init__(self, kernel: Kernel, active: int | None = None, *, refuses: bool = False) -> None:
        super().__init__(kernel)
        self.active, self.refuses = active, refuses
        self.systems = InBond


@pytest.mark.parametrize(
    ("wait", "refuses", "state"),
    [(None, False, "updelay"), (60.0, False, None), (60.0, True, "backup")],
)
def test_an_active_slave_is_made_it_again_after_its_updelay(
    tmp_path: Path, wait: float | None, refuses: bool, state: str | None
) -> None:
    kernel = furnished()
    done = claim(tmp_path, BondedHost(kernel), allow=("upper",))
    assert done.plan is not None
    with wording:
        assert any("until its updelay is over: up to 30 s more" in text for text in done.plan.stops)
    host = BondedHost(kernel, OTHER_SLAVE, refuses=refuses)
    result = release(tmp_path, host, wait=wait)
    (port,) = result.ports
    assert (port.outcome, port.residue) == ("restored", ())
    assert host.active == (None if state is None else OTHER_SLAVE)
    assert (port.settling and port.settling.state) == state
    (one,) = release_document(result, "release")["ports"]  # type: ignore[misc]
    schema.strict(release_document(result, "release"))
    then = f"ip link set bond0 type bond active_slave {port.netdev}"
    assert (one["settling"] and one["settling"]["then"]) == (then if state else None)
    assert claims(tmp_path) == []


@pytest.mark.parametrize(
    ("above", "refuses", "asked", "left"),
    [
        ((VLAN, BOND._replace(active=OTHER_SLAVE)), False, [9], None),
        ((VLAN, BOND._replace(active=OTHER_SLAVE)), True, [9], ("backup", None)),
        ((VLAN, BOND), False, [], None),
        ((VLAN,), False, [], None),  # it is in no bond any more
    ],
)
def test_the_bond_is_told_that_has_it_and_another_active_slave(
    above: tuple[UpperState, ...],
    refuses: bool,
    asked: list[int],
    left: tuple[str, float | None] | None,
) -> None:
    sent: list[Request] = []

    class Above(FakeSystem):
        def capture(self, *args: Any, **more: Any) -> PortState:
            return dataclasses.replace(super().capture(*args, **more), uppers=above)

        def send(self, request: Request) -> None:
            sent.append(request)
            if refuses:
                raise OSError(errno.EINVAL, "Invalid argument")

    port = ReleasedPort(PORT, "eth1", Outcome.RESTORED, settling=SENDS)
    now = releasing._made_active(Above(FakeHost(furnished())), port, SENDS)
    assert [int.from_bytes(one.body[4:8], "little") for one in sent] == asked
    assert (now and (now.state, now.within)) == left


def test_a_signal_ends_the_waiting_for_a_bridge(tmp_path: Path) -> None:
    kernel = furnished()
    claim(tmp_path, BridgedHost(kernel))
    host = BridgedHost(kernel)
    host.at_pause = lambda: os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted, match="eth1 was released"):
        release(tmp_path, host, wait=60.0)
    assert claims(tmp_path) == []
    assert sum(host.pauses) < 5


def test_what_goes_wrong_after_the_release_does_not_deny_it(tmp_path: Path) -> None:
    kernel = furnished()
    claim(tmp_path, BridgedHost(kernel))
    host = BridgedHost(kernel)

    def broken() -> None:
        raise ValueError("a broken message")

    host.at_pause = broken
    with pytest.raises(
        NotRestored, match=says("released, but not waited for: ValueError"), check=Coded("journal")
    ) as caught:
        release(tmp_path, host, wait=60.0)
    assert "stays open" not in caught.value.message + str(caught.value.hint)
    assert isinstance(caught.value.beside, ReleaseResult)
    assert [port.netdev for port in caught.value.beside.ports] == ["eth1"]
    assert claims(tmp_path) == []


def test_a_header_without_the_names_of_a_pair_does_not_deny_it(tmp_path: Path) -> None:
    kernel = paired()
    path = claim(tmp_path, FakeHost(kernel)).journal
    assert path is not None
    rewritten(path, lambda header: [header["ports"][0].pop(key) for key in ("upper", "vf")])
    (port,) = release(tmp_path, FakeHost(kernel)).ports
    assert (port.netdev, port.outcome) == ("eth0", "restored")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_what_cannot_be_put_away_keeps_no_port_from_being_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """EACCES there was a bug, exit code 1, and nothing was released."""
    kernel = two_functions()
    claim(tmp_path, FakeHost(kernel), "eth1")

    def refused(_: Path) -> list[journal.Content]:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(journal, "finished", refused)
    with pytest.raises(ManactlError, match=os.strerror(number)) as caught:
        release(tmp_path, FakeHost(kernel))
    assert caught.value.exit_code == (6 if number == errno.EMFILE else 5)
    assert kernel.nic("eth1").up


def test_what_was_released_is_told_by_its_journal_where_names_cannot_be_looked_up(
    tmp_path: Path,
) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))

    class Failing(FakeSystem):
        def netdev(self, port: PortId) -> Any:
            if self.kernel.links[-1:] == [("eth1", "up")] and not journal.paths(tmp_path):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().netdev(port)

    host = FakeHost(kernel)
    host.systems = Failing
    assert outcomes(release(tmp_path, host)) == [("eth1", "restored")]


def test_a_dry_run_goes_on_after_a_journal_that_is_just_put_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = two_ports()
    for name in ("eth1", "eth2"):
        claim(tmp_path, FakeHost(kernel), name)
    first, _ = journal.paths(tmp_path)
    show = releasing._show_claim

    def goes(run: Any, path: Path, ports: Collection[PortId]) -> None:
        if path == first:
            path.unlink()
        show(run, path, [*ports])

    monkeypatch.setattr(releasing, "_show_claim", goes)
    (plan,) = release(tmp_path, FakeHost(kernel), "eth1", "eth2", dry_run=True).plans
    assert [port.port for port in plan.ports] == [2]


def test_what_a_bond_was_is_not_looked_for_on_a_port_that_has_gone(tmp_path: Path) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    (port,) = release(tmp_path, FakeHost(kernel)).ports
    kernel.nics[0].present = False
    port = dataclasses.replace(port, settling=LEARNS)
    assert releasing._settling(FakeSystem(FakeHost(kernel)), port) is None
