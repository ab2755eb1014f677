"""Claims of ports that are to stay down at boot, too, and how that ends."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from manactl.act import step_words
from manactl.act.persist import LeaveDown
from manactl.act.plan import steps_from_json
from manactl.act.released import Outcome
from manactl.act.unmanage import Unmanage
from manactl.errors import NotRestored, RolledBack, UsageError
from manactl.journal import file as journal
from manactl.netstate.left_down import LeftDown
from tests.unit.act.test_unmanage import OWN, managed
from tests.unit.host import (
    FakeHost,
    FakeSystem,
    Fate,
    Killed,
    claim,
    furnished,
    paired,
    release,
)
from tests.unit.kernel import Kernel
from tests.unit.manager import FakeManager
from tests.unit.wording import says, wording


def reboot(kernel: Kernel, manager: FakeManager, number: int = 2) -> FakeHost:
    """What is in /run and in the kernel is gone; the manager starts with what is in /etc."""
    for nic in kernel.nics:
        kernel.set_up(nic, False)
    manager.files.clear()
    manager.start()
    return FakeHost(kernel, boot=f"boot-{number}")


def test_the_files_are_written_once_it_is_unmanaged_and_gone_after_release(tmp_path: Path) -> None:
    kernel, manager = managed()
    before = kernel.picture()
    result = claim(tmp_path, FakeHost(kernel), persist=True)
    assert result.plan is not None
    kinds = [step.kind for step in result.plan.steps]
    assert kinds == ["keep-state", "hold-manager", "leave-down", "set-admin", "prove-free"]
    (kept,) = manager.boot_files.values()
    assert (kept.name, kept.unmanaged.names, kept.unmanaged.beside) == ("eth1", "eth1", ())
    (port,) = release(tmp_path, FakeHost(kernel)).ports
    assert kernel.picture() == before
    assert (manager.boot_files, manager.left, port.lost, port.given_back) == ({}, set(), (), None)
    assert journal.paths(tmp_path) == []


def test_it_is_in_the_plan_and_in_the_journal_whole(tmp_path: Path) -> None:
    kernel, _ = managed()
    result = claim(tmp_path, FakeHost(kernel), persist=True)
    assert result.plan is not None
    step = next(one for one in result.plan.steps if isinstance(one, LeaveDown))
    file = "/etc/systemd/network/00-1-manactl-7870-00-00.0-1-0.network"
    assert step.files == [file]
    until = next(one for one in result.plan.steps if isinstance(one, Unmanage))
    with wording:
        assert step.title == "have systemd-networkd leave eth1 alone at every boot"
        assert step.undo_title == "let systemd-networkd configure eth1 at boot again"
        assert until.title == "have systemd-networkd leave eth1 alone"
        assert until.undo_title == "give eth1 back to systemd-networkd"
        assert until.describe().startswith(
            f"{until.title}, by files in /run (release gives eth1 back"
        )
        assert step.describe() == (
            f"have systemd-networkd leave eth1 alone at every boot, by {file} (release removes it)"
        )
    (path,) = journal.paths(tmp_path)
    header = journal.read(path).header
    assert step in steps_from_json(header["plan"], header["snapshot"])


def test_without_the_option_nothing_is_written(tmp_path: Path) -> None:
    kernel, manager = managed()
    claim(tmp_path, FakeHost(kernel))
    assert manager.boot_files == {}


def test_a_port_that_nobody_manages_needs_nothing(tmp_path: Path) -> None:
    result = claim(tmp_path, FakeHost(furnished()), persist=True)
    assert result.plan is not None
    assert not any(isinstance(step, LeaveDown) for step in result.plan.steps)
    with wording:
        (note,) = [note for note in result.plan.notes if "--persist" in note]
        assert "nothing to write" in note


def test_a_manager_that_is_not_kept_off_is_told_of(tmp_path: Path) -> None:
    kernel, manager = managed(answers=False)
    result = claim(tmp_path, FakeHost(kernel), persist=True, allow=["manager"])
    assert result.plan is not None
    with wording:
        (note,) = [note for note in result.plan.notes if "--persist" in note]
        assert "nothing is written for eth1" in note
    assert manager.boot_files == {}


def test_without_it_the_boot_sets_it_up(tmp_path: Path) -> None:
    kernel, manager = managed()
    claim(tmp_path, FakeHost(kernel))
    reboot(kernel, manager)
    assert kernel.nics[0].up


def test_a_claim_of_the_next_boot_takes_it_as_it_is(tmp_path: Path) -> None:
    """manactl-claim@.service, say. Its release ends both."""
    kernel, manager = managed()
    claim(tmp_path, FakeHost(kernel), persist=True)
    host = reboot(kernel, manager)
    claim(tmp_path, host, persist=True)
    assert not kernel.nics[0].up
    (port,) = release(tmp_path, host, "eth1").ports
    assert (port.outcome, port.given_back) == (Outcome.LEFT_DOWN, "systemd-networkd")
    assert manager.boot_files == {}
    assert kernel.nics[0].up


def test_a_dry_run_shows_what_release_would_remove(tmp_path: Path) -> None:
    kernel, manager = managed()
    claim(tmp_path, FakeHost(kernel), persist=True)
    host = reboot(kernel, manager)
    release(tmp_path, host, recover=True)
    (plan,) = release(tmp_path, host, "eth1", dry_run=True).plans
    with wording:
        assert plan.restores == ("eth1 given back to systemd-networkd, at boot, too",)
    assert "00-1-manactl-" in plan.notes[0]
    assert list(manager.boot_files) != []


@pytest.mark.parametrize("half", [False, True])
def test_whenever_a_claim_dies_recovery_leaves_no_file(tmp_path: Path, half: bool) -> None:
    kernel, _ = managed()
    probe = Fate()
    claim(tmp_path / "probe", FakeHost(kernel, probe), persist=True)
    for dies_at in range(1, probe.operations + 1):
        kernel, manager = managed()
        before = kernel.picture()
        state_dir = tmp_path / str(dies_at)
        with contextlib.suppress(Killed):
            fate = Fate(dies_at=dies_at, half=half)
            claim(state_dir, FakeHost(kernel, fate), persist=True)
        release(state_dir, FakeHost(kernel), recover=True)
        release(state_dir, FakeHost(kernel), everything=True)
        assert manager.boot_files == {}, dies_at
        assert kernel.picture() == before, dies_at


def test_a_directory_that_cannot_be_written_undoes_the_claim(tmp_path: Path) -> None:
    class ReadOnly(FakeSystem):
        def write_boot_files(self, kept: Any) -> None:
            raise OSError(30, "Read-only file system", "/etc/systemd/network")

    kernel, manager = managed()
    before = kernel.picture()
    host = FakeHost(kernel)
    host.systems = ReadOnly
    with pytest.raises(RolledBack, match=r"Read-only file system \(/etc/systemd/network\)"):
        claim(tmp_path, host, persist=True)
    assert kernel.picture() == before
    assert (manager.files, manager.boot_files) == ({}, {})


def test_a_file_that_cannot_be_removed_costs_the_port_nothing_else(tmp_path: Path) -> None:
    class ReadOnly(FakeSystem):
        def remove_boot_files(self, kept: Any) -> Any:
            raise OSError(30, "Read-only file system", "/etc/systemd/network")

    kernel, manager = managed()
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel), persist=True)
    host = FakeHost(kernel)
    host.systems = ReadOnly
    with pytest.raises(NotRestored) as raised:
        release(tmp_path, host, "eth1")
    with wording:
        assert raised.value.message.splitlines() == [
            "eth1: not fully restored",
            "Not restored:",
            "  let systemd-networkd configure eth1 at boot again: Read-only file system "
            "(/etc/systemd/network)",
        ]
    assert kernel.picture() == before
    assert manager.files == {}
    (path,) = journal.paths(tmp_path)
    release(tmp_path, FakeHost(kernel), recover=True)
    assert (manager.boot_files, path.exists()) == ({}, False)
    assert kernel.picture() == before


def test_a_synthetic_netdev_that_stays_up_cannot_be_left_down(tmp_path: Path) -> None:
    kernel = paired()
    FakeManager(kernel, eth0=OWN)
    with pytest.raises(UsageError, match=says("--persist and --synthetic=keep exclude each other")):
        claim(tmp_path, FakeHost(kernel), "eth0", persist=True, synthetic="keep")


def test_of_a_pair_both_are_left_down(tmp_path: Path) -> None:
    kernel = paired()
    manager = FakeManager(kernel, eth0=OWN)
    claim(tmp_path, FakeHost(kernel), "eth0", persist=True)
    (kept,) = manager.boot_files.values()
    assert kept.name == "eth0"
    assert "eth0" in {link.name for link in kept.unmanaged.links}


@pytest.mark.parametrize(
    ("number", "hint"),
    [(errno.EEXIST, step_words.FILE_THERE), (errno.EROFS, step_words.NOT_WRITABLE)],
)
def test_why_a_file_cannot_be_written_has_its_way_on(
    tmp_path: Path, number: int, hint: str
) -> None:
    class Unwritable(FakeSystem):
        def write_boot_files(self, kept: LeftDown) -> None:
            raise OSError(number, os.strerror(number), "/etc/x")

    kernel, _ = managed()
    host = FakeHost(kernel)
    host.systems = Unwritable
    with pytest.raises(RolledBack) as caught:
        claim(tmp_path, host, persist=True)
    assert caught.value.hint == hint
    assert f"{os.strerror(number)} (/etc/x)" in caught.value.message
