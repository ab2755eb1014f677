"""What is left down at boot is given back by a release after the reboot; all that may come between."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from manactl.act.boot_files import NotTold
from manactl.act.persist import LeaveDown
from manactl.act.released import Outcome
from manactl.errors import Busy, Denied, Interrupted, NotRestored, Refused
from manactl.journal import file as journal
from manactl.journal import lock, state_dir
from manactl.journal.file import JournalError
from manactl.model.port import OddFile
from manactl.netstate.losses import Cause
from manactl.netstate.unmanaged import Unmanaged
from tests.unit.act.test_persist import reboot
from tests.unit.act.test_unmanage import OWN, managed
from tests.unit.host import (
    FakeHost,
    FakeSystem,
    Followed,
    claim,
    release,
    two_ports,
)
from tests.unit.manager import FakeManager
from tests.unit.wording import Coded, says, wording


def test_it_stays_down_at_boot_until_release(tmp_path: Path) -> None:
    kernel, manager = managed()
    claim(tmp_path, FakeHost(kernel), persist=True)
    host = reboot(kernel, manager)
    assert not kernel.nics[0].up
    (port,) = release(tmp_path, host, recover=True).ports
    assert (port.outcome, port.given_back) == (Outcome.HISTORY, None)
    assert list(manager.boot_files) != []  # a recovery is what every boot does
    (port,) = release(tmp_path, host, "eth1").ports
    assert (port.outcome, port.given_back) == (Outcome.GIVEN_BACK, "systemd-networkd")
    assert (manager.boot_files, manager.left, port.lost) == ({}, set(), ())
    assert kernel.nics[0].up
    assert [port.outcome for port in release(tmp_path, host, "eth1").ports] == [Outcome.NOT_CLAIMED]


def test_where_that_cannot_be_looked_at_the_release_itself_is_told_rightly(tmp_path: Path) -> None:
    kernel, _ = managed()
    claim(tmp_path, FakeHost(kernel))

    class Odd(FakeSystem):
        def odd_boot_files(self) -> tuple[OddFile, ...]:
            raise KeyError("unforeseen")

    host = FakeHost(kernel)
    host.systems = Odd
    with pytest.raises(
        NotRestored,
        match=says("down at boot was not looked at to its end: K"),
        check=Coded("journal"),
    ) as caught:
        release(tmp_path, host)
    with wording:
        assert "`manactl release` tries again" in str(caught.value.hint)
    assert "stays open" not in caught.value.message + str(caught.value.hint)
    assert journal.paths(tmp_path) == []


@pytest.mark.parametrize("terminated", [False, True])
def test_what_fails_after_a_release_does_not_say_that_nothing_was_touched(
    tmp_path: Path, terminated: bool
) -> None:
    kernel, _ = managed()
    claim(tmp_path, FakeHost(kernel))
    host = FakeHost(kernel)
    if terminated:
        kernel.nics[0].holders.append(4711)

    class Full(FakeSystem):
        def odd_boot_files(self) -> tuple[OddFile, ...]:
            raise state_dir.unusable(tmp_path, OSError(errno.EROFS, os.strerror(errno.EROFS)))

    host.systems = Full
    with pytest.raises(
        Refused,
        match=says("eth1 was released before, and no port is given"),
        check=Coded("state-dir", untouched=True),
    ) as caught:
        release(tmp_path, host, terminate=terminated)
    with wording:
        assert "no port was changed" not in caught.value.message
        assert "nothing was touched" not in caught.value.message
    assert journal.paths(tmp_path) == []


def test_all_means_also_what_is_left_down_without_a_claim(tmp_path: Path) -> None:
    kernel, manager = managed()
    claim(tmp_path, FakeHost(kernel), persist=True)
    host = reboot(kernel, manager)
    journal.paths(tmp_path)[0].unlink()
    (port,) = release(tmp_path, host, everything=True).ports
    assert (port.netdev, port.outcome) == ("eth1", Outcome.GIVEN_BACK)
    assert manager.boot_files == {}


@pytest.mark.parametrize("corrupt", [False, True])
@pytest.mark.parametrize("dry_run", [False, True])
def test_all_leaves_alone_what_a_claim_may_still_have(
    tmp_path: Path, corrupt: bool, dry_run: bool
) -> None:
    """Its holder lives, or its journal cannot be read: it is not released, so nothing of it goes."""
    kernel, manager = managed()
    claim(tmp_path, FakeHost(kernel), persist=True)
    (path,) = journal.paths(tmp_path)
    if corrupt:
        path.write_bytes(path.read_bytes().replace(b'"claimed"', b'"clamied"'))
    else:
        kernel.nics[0].holders = [77]
    with contextlib.suppress(Busy, JournalError):
        plans = release(tmp_path, FakeHost(kernel), everything=True, dry_run=dry_run).plans
        with wording:
            assert not any("left down at boot" in note for plan in plans for note in plan.notes)
    assert list(manager.boot_files) != []
    assert manager.left == {"eth1"}
    assert not kernel.nics[0].up


@pytest.mark.parametrize("damaged", [False, True])
def test_only_the_port_that_was_named_is_given_back(tmp_path: Path, damaged: bool) -> None:
    """The journal of both is closed, as it is of an earlier boot."""
    kernel = two_ports()
    manager = FakeManager(kernel, eth1=OWN, eth2=())
    claim(tmp_path, FakeHost(kernel), "eth1", "eth2", persist=True)
    host = reboot(kernel, manager)
    if damaged:
        (path,) = journal.paths(tmp_path)
        path.write_bytes(path.read_bytes().replace(b'"claimed"', b'"clamied"'))
    found = release(tmp_path, host, "eth1").ports
    assert {port.netdev: port.outcome for port in found} == {
        "eth1": Outcome.GIVEN_BACK,
        "eth2": Outcome.HISTORY,
    }
    assert [kept.name for kept in manager.boot_files.values()] == ["eth2"]
    assert [nic.up for nic in kernel.nics] == [True, False]
    (port,) = release(tmp_path, host, "eth2").ports
    assert port.outcome == Outcome.GIVEN_BACK
    assert manager.boot_files == {}


def at_lock(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], object]) -> None:
    """Have something happen while the lock of that number is waited for."""
    looking, waits = lock.looking, itertools.count(1)

    @contextlib.contextmanager
    def waited(state_dir: Path, pcis: Iterable[str], *, wait: float = 0.0) -> Iterator[lock.Acting]:
        if next(waits) == number:
            act()
        with looking(state_dir, pcis, wait=wait) as acting:
            yield acting

    monkeypatch.setattr(lock, "looking", waited)


def test_a_port_that_is_claimed_meanwhile_is_the_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, manager = managed()
    claim(tmp_path, FakeHost(kernel), persist=True)
    host = reboot(kernel, manager)
    release(tmp_path, host, recover=True)
    at_lock(monkeypatch, 1, lambda: claim(tmp_path, FakeHost(kernel, boot="boot-2"), persist=True))
    progress = Followed()
    (port,) = release(tmp_path, host, "eth1", wait=60, progress=progress).ports
    assert (port.outcome, port.given_back) == (Outcome.NOT_CLAIMED, None)
    with wording:
        assert progress.notes == [
            "eth1 was claimed in the meantime, so it is not given back: its files are the claim's now"
        ]
    assert list(manager.boot_files) != []
    assert not kernel.nics[0].up
    assert len(journal.paths(tmp_path)) == 1


def test_a_signal_while_the_lock_is_waited_for_ends_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim is released by then."""
    kernel, manager = managed()
    claim(tmp_path, FakeHost(kernel), persist=True)
    host = reboot(kernel, manager)
    claim(tmp_path, host)
    at_lock(monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted, match=says("eth1 was released; no other port was changed")):
        release(tmp_path, host, "eth1", wait=60)
    assert journal.paths(tmp_path) == []
    assert list(manager.boot_files) != []


def test_netdevs_have_other_numbers_after_a_reboot(tmp_path: Path) -> None:
    asked: list[Unmanaged] = []

    class Noting(FakeSystem):
        def give_back(self, unmanaged: Unmanaged) -> bool:
            asked.append(unmanaged)
            return super().give_back(unmanaged)

    kernel, manager = managed()
    claim(tmp_path, FakeHost(kernel), persist=True)
    host = reboot(kernel, manager)
    kernel.nics[0].ifindex += 1
    host.systems = Noting
    release(tmp_path, host, "eth1")
    assert [link.ifindex for unmanaged in asked for link in unmanaged.links] == [
        kernel.nics[0].ifindex
    ]


def test_a_netdev_that_is_not_here_is_told_of(tmp_path: Path) -> None:
    kernel, manager = managed()
    claim(tmp_path, FakeHost(kernel), persist=True)
    host = reboot(kernel, manager)
    kernel.nics[0].name = "eth7"
    (port,) = release(tmp_path, host, "eth7").ports
    assert [one.cause for one in port.lost] == [Cause.MANAGER]
    with wording:
        assert "eth1 is not here as it was" in port.lost[0].text
    assert manager.boot_files == {}


@pytest.mark.parametrize("how", [{"everything": True}, {}])
def test_a_dry_run_foresees_what_is_given_back_after_a_reboot(
    tmp_path: Path, how: dict[str, Any]
) -> None:
    kernel = two_ports()
    manager = FakeManager(kernel, eth1=OWN, eth2=())
    claim(tmp_path, FakeHost(kernel), "eth1", "eth2", persist=True)
    host = reboot(kernel, manager)
    words = () if how else ("eth1",)
    closed, *given = release(tmp_path, host, *words, dry_run=True, **how).plans
    names = ["eth1", "eth2"] if how else ["eth1"]
    with wording:
        assert closed.notes == (
            f"claimed before the last boot: the journal is closed, and {', '.join(names)} given back",
        )
        assert [plan.restores for plan in given] == [
            (f"{name} given back to systemd-networkd, at boot, too",) for name in names
        ]
    done = release(tmp_path, host, *words, **how).ports
    assert [one.netdev for one in done if one.given_back] == names


def test_a_dry_run_shows_once_what_the_claim_itself_has_written(tmp_path: Path) -> None:
    kernel, manager = managed()
    claim(tmp_path, FakeHost(kernel), persist=True)
    assert len(release(tmp_path, FakeHost(kernel), "eth1", dry_run=True).plans) == 1
    host = reboot(kernel, manager)
    claim(tmp_path, host)  # without the option: the files are those of before
    for words in (("eth1",), ()):
        plans = release(tmp_path, host, *words, dry_run=True, everything=not words).plans
        with wording:
            assert [plan.notes[0] for plan in plans[1:]] == [
                f"eth1 is left down at boot by {', '.join(LeaveDown(kept).files)}"
                for kept in manager.boot_files.values()
            ]


@pytest.mark.wording
def test_a_dry_run_of_a_recovery_leaves_the_files(tmp_path: Path) -> None:
    kernel, manager = managed()
    claim(tmp_path, FakeHost(kernel), persist=True)
    host = reboot(kernel, manager)
    (plan,) = release(tmp_path, host, recover=True, dry_run=True).plans
    assert plan.notes == ("claimed before the last boot: only the journal is closed",)


def test_a_file_that_somebody_has_changed_is_left_and_told_of(tmp_path: Path) -> None:
    kernel, manager = managed()
    claim(tmp_path, FakeHost(kernel), persist=True)
    manager.edited = set(manager.boot_files)
    (port,) = release(tmp_path, FakeHost(kernel), "eth1").ports
    (lost,) = [one for one in port.lost if one.cause is Cause.CHANGED]
    with wording:
        assert "somebody has changed it" in lost.text
    assert (port.outcome, port.given_back) == (Outcome.RESTORED, None)
    (port,) = release(tmp_path, FakeHost(kernel), "eth1").ports
    assert (port.outcome, port.lost, port.given_back) == (Outcome.NOT_CLAIMED, (lost,), None)
    assert list(manager.boot_files) != []


def test_a_manager_that_does_not_run_is_told_of(tmp_path: Path) -> None:
    kernel, manager = managed()
    claim(tmp_path, FakeHost(kernel), persist=True)
    host = reboot(kernel, manager)
    manager.running = False
    (port,) = release(tmp_path, host, "eth1").ports
    assert [one.cause for one in port.lost] == [Cause.MANAGER]
    with wording:
        assert "does not run; it configures eth1 when it is started" in port.lost[0].text
    assert manager.boot_files == {}


def test_files_that_cannot_be_removed_are_told_of_beside_what_was_done(tmp_path: Path) -> None:
    class ReadOnly(FakeSystem):
        def lift_boot_files(self, kept: Any, unmanaged: Any) -> Any:
            raise OSError(30, "Read-only file system")

    kernel, manager = managed()
    claim(tmp_path, FakeHost(kernel), persist=True)
    host = reboot(kernel, manager)
    claim(tmp_path, host)
    host.systems = ReadOnly
    with pytest.raises(NotRestored, match="Read-only file system") as raised:
        release(tmp_path, host, "eth1")
    assert raised.value.code == "persist"
    assert "00-1-manactl-" in raised.value.message
    assert journal.paths(tmp_path) == []  # the claim itself is released
    with pytest.raises(NotRestored, match="Read-only file system"):
        release(tmp_path, host, "eth1")
    assert list(manager.boot_files) != []


def test_each_of_the_failures_of_giving_back_is_told_with_what_was_done(tmp_path: Path) -> None:
    class Failing(FakeSystem):
        def lift_boot_files(self, kept: Any, unmanaged: Any) -> Any:
            if kept.name == "eth1":
                self.remove_boot_files(kept)
                raise NotTold(110, "Connection timed out")
            if kept.name == "eth2":
                raise OSError(30, "Read-only file system", "/etc/two")
            return super().lift_boot_files(kept, unmanaged)

    kernel = two_ports()
    manager = FakeManager(kernel, eth1=OWN, eth2=())
    claim(tmp_path, FakeHost(kernel), "eth1", "eth2", persist=True)
    host = reboot(kernel, manager)
    release(tmp_path, host, recover=True)
    host.systems = Failing
    with pytest.raises(NotRestored) as raised:
        release(tmp_path, host, everything=True)
    file = "/etc/systemd/network/00-1-manactl-7870-00-00.0-1-0.network"
    with wording:
        assert raised.value.message.splitlines() == [
            "eth1: released as far as it was claimed, and the files that left it down at boot are out "
            f"of force ({file}), but systemd-networkd was not told: Connection timed out",
            "eth2: released as far as it was claimed, but could not remove /etc/two, so it may be left "
            "down at boot: Read-only file system",
        ]
        assert raised.value.hint == (
            "run `networkctl reload`; `manactl release eth1` tells it, too, and clears up\n"
            "fix the cause, then `manactl release eth2` tries again"
        )
    assert [kept.name for kept in manager.boot_files.values()] == ["eth2"]


def test_another_manactl_at_work_does_not_hide_the_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, manager = managed()
    claim(tmp_path, FakeHost(kernel), persist=True)
    host = reboot(kernel, manager)
    claim(tmp_path, host)
    (kept,) = manager.boot_files.values()
    others = lock.functions(tmp_path, [kept.port.pci])
    with contextlib.ExitStack() as stack:
        at_lock(monkeypatch, 2, lambda: stack.enter_context(others))
        with pytest.raises(Busy) as raised:
            release(tmp_path, host, "eth1")
    said, _, left = raised.value.message.partition(". ")
    with wording:
        assert said.startswith(
            f"eth1 was released, but not given back: another manactl is at work on {kept.port.pci}: "
        )
        assert left == f"What leaves eth1 down at boot remains: {LeaveDown(kept).files[0]}"
    assert raised.value.hint is not None
    with wording:
        assert raised.value.hint.startswith("when it is done: `manactl release eth1`")
    assert raised.value.code == "locked"
    assert raised.value.evidence
    assert journal.paths(tmp_path) == []
    with (
        lock.functions(tmp_path, [kept.port.pci]),
        pytest.raises(
            Busy, match=says("nothing was touched"), check=Coded("locked", untouched=True)
        ),
    ):
        release(tmp_path, host, "eth1")
    (port,) = release(tmp_path, host, "eth1").ports
    assert port.outcome == Outcome.GIVEN_BACK


def test_a_signal_while_the_manager_settles_hides_nothing(tmp_path: Path) -> None:
    """The files are gone by then: "nothing was changed" would be a lie."""
    kernel, manager = managed(needs=5.0)
    claim(tmp_path, FakeHost(kernel), persist=True)
    host = reboot(kernel, manager)
    release(tmp_path, host, recover=True)
    host.at_pause = lambda: os.kill(os.getpid(), signal.SIGINT)
    (port,) = release(tmp_path, host, "eth1").ports
    assert (port.outcome, port.lost) == (Outcome.GIVEN_BACK, ())
    assert manager.boot_files == {}


def test_giving_back_needs_the_capability(tmp_path: Path) -> None:
    kernel, manager = managed()
    claim(tmp_path, FakeHost(kernel), persist=True)
    host = reboot(kernel, manager)
    release(tmp_path, host, recover=True)
    host.mask = 0
    with pytest.raises(Denied):
        release(tmp_path, host, "eth1")
    assert list(manager.boot_files) != []


def test_a_file_that_release_cannot_use_is_told_and_left(tmp_path: Path) -> None:
    kernel, manager = managed()
    manager.odd_files.append(OddFile("/etc/x.network", manager.name, "Input/output error"))
    progress = Followed()
    for words in ((), ("eth1",)):
        release(tmp_path, FakeHost(kernel), *words, progress=progress)
    with wording:
        assert progress.notes == 2 * [
            "/etc/x.network may leave a port down at boot, and is of no use to manactl: Input/output "
            "error; it is left as it is: see `manactl doctor`"
        ]
    release(tmp_path, FakeHost(kernel), recover=True, progress=progress)
    assert len(progress.notes) == 2, "a recovery is the boot's own"


def test_a_manager_that_was_not_told_is_a_failure_of_persist(tmp_path: Path) -> None:
    class Silent(FakeSystem):
        def lift_boot_files(self, kept: Any, unmanaged: Any) -> Any:
            self.remove_boot_files(kept)
            raise NotTold(110, "Connection timed out")

    kernel = two_ports()
    manager = FakeManager(kernel, eth1=OWN, eth2=())
    claim(tmp_path, FakeHost(kernel), "eth1", persist=True)
    host = reboot(kernel, manager)
    release(tmp_path, host, recover=True)
    host.systems = Silent
    with pytest.raises(NotRestored) as raised:
        release(tmp_path, host, everything=True)
    assert raised.value.code == "persist"
