"""Confirming claims, over a machine in memory and journals on a disk."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

import pytest

from manactl.act import claim as claiming
from manactl.act import confirm as confirming
from manactl.act.confirm import Confirmed, ConfirmedPort, ConfirmRequest
from manactl.act.signals import SignalGate
from manactl.errors import (
    Busy,
    Interrupted,
    ManactlError,
    NotRestored,
    Refused,
    RolledBack,
    UsageError,
)
from manactl.journal import file as journal
from manactl.journal import history, lock
from manactl.journal.file import Journal
from manactl.model.record import Event, Reason
from tests.unit.act.test_guardian import Told
from tests.unit.host import (
    OTHER_FUNCTION,
    FakeHost,
    Fate,
    Killed,
    claim,
    furnish,
    furnished,
    release,
    two_ports,
)
from tests.unit.kernel import Kernel, Nic
from tests.unit.wording import Coded, read, says, wording


def confirm(state_dir: Path, host: FakeHost, *words: str) -> list[ConfirmedPort]:
    with host.alive(), SignalGate() as signals:
        return confirming.confirm(ConfirmRequest(state_dir, words), host, signals)


def claimed(state_dir: Path, kernel: Kernel, *words: str, within: float | None = 60) -> Path:
    guard = Told(pid=os.getpid())
    path = claim(
        state_dir, FakeHost(kernel), *words, guard=guard if within else None, confirm_within=within
    ).journal
    assert path is not None
    return path


def outcomes(found: list[ConfirmedPort]) -> list[tuple[str, str]]:
    return [(one.netdev, str(one.outcome)) for one in found]


def two_functions() -> Kernel:
    kernel = Kernel(Nic(), dataclasses.replace(OTHER_FUNCTION, holders=[]))
    for nic in kernel.nics:
        furnish(kernel, nic)
    return kernel


def test_the_only_claim_that_waits_is_confirmed_and_stays(tmp_path: Path) -> None:
    kernel = furnished()
    path = claimed(tmp_path, kernel)
    kernel.links.clear()
    host = FakeHost(kernel)
    assert outcomes(confirm(tmp_path, host)) == [("eth1", "confirmed")]
    assert kernel.links == []
    content = journal.read(path)
    assert content.records[-1]["event"] == "confirmed"
    assert content.records[-1]["by"] == {"uid": 0, "sudo_user": "operator", "loginuid": 1000}
    assert (content.waiting, content.phase) == (None, "claimed")
    assert host.audits[-1].fields["ports"] == ["7870:00:00.0:1"]
    assert not host.audits[-1].quiet
    # Once more it has nothing to do, named or not.
    assert outcomes(confirm(tmp_path, FakeHost(kernel), "eth1")) == [("eth1", "not-needed")]
    assert confirm(tmp_path, FakeHost(kernel)) == []
    assert journal.read(path).records == content.records


def test_a_port_of_a_claim_stands_for_all_of_it(tmp_path: Path) -> None:
    kernel = two_ports()
    claimed(tmp_path, kernel, "eth1", "eth2")
    found = outcomes(confirm(tmp_path, FakeHost(kernel), "eth2"))
    assert found == [("eth1", "confirmed"), ("eth2", "confirmed")]
    release(tmp_path, FakeHost(kernel), "eth1", "eth2")
    assert kernel.nics[0].up
    assert kernel.nics[1].up


def test_what_was_released_of_it_is_not_named(tmp_path: Path) -> None:
    kernel = two_ports()
    claimed(tmp_path, kernel, "eth1", "eth2")
    release(tmp_path, FakeHost(kernel), "eth1")
    assert outcomes(confirm(tmp_path, FakeHost(kernel))) == [("eth2", "confirmed")]


def test_of_several_that_wait_some_are_to_be_named(tmp_path: Path) -> None:
    kernel = two_functions()
    paths = [claimed(tmp_path, kernel, "eth1"), claimed(tmp_path, kernel, "eth5")]
    with pytest.raises(UsageError, match=says("several claims wait to be confirmed: eth1, eth5")):
        confirm(tmp_path, FakeHost(kernel))
    found = outcomes(confirm(tmp_path, FakeHost(kernel), "eth1", "eth5"))
    assert found == [("eth1", "confirmed"), ("eth5", "confirmed")]
    assert [journal.read(path).waiting for path in paths] == [None, None]


def test_a_claim_that_needs_none_is_none_of_several(tmp_path: Path) -> None:
    kernel = two_functions()
    claimed(tmp_path, kernel, "eth5", within=None)
    claimed(tmp_path, kernel, "eth1")
    assert outcomes(confirm(tmp_path, FakeHost(kernel))) == [("eth1", "confirmed")]


def test_nothing_that_waits_is_no_failure(tmp_path: Path) -> None:
    kernel = furnished()
    host = FakeHost(kernel)
    assert confirm(tmp_path, host) == []
    assert host.audits[-1].quiet
    assert outcomes(confirm(tmp_path, host, "eth1")) == [("eth1", "not-claimed")]
    claimed(tmp_path, kernel)
    release(tmp_path, FakeHost(kernel))
    assert confirm(tmp_path, FakeHost(kernel)) == []  # somebody has ended it, and knows


@pytest.mark.parametrize("words", [(), ("eth1",)])
def test_after_it_went_back_that_is_told(tmp_path: Path, words: tuple[str, ...]) -> None:
    kernel = furnished()
    path = claimed(tmp_path, kernel)
    release(tmp_path, FakeHost(kernel), only=path, why=Reason.EXPIRED, unconfirmed=True)
    assert kernel.nics[0].up
    with pytest.raises(
        RolledBack,
        match=says("eth1 was not confirmed in time: it was released"),
        check=Coded("expired"),
    ) as caught:
        confirm(tmp_path, FakeHost(kernel), *words)
    assert (caught.value.exit_code, caught.value.code) == (4, "expired")
    assert confirm(tmp_path, FakeHost(kernel, boot="boot-2")) == []  # long ago
    claimed(tmp_path, kernel)
    assert outcomes(confirm(tmp_path, FakeHost(kernel), *words)) == [("eth1", "confirmed")]


@pytest.mark.parametrize("words", [(), ("eth1",)])
def test_a_clock_that_is_set_back_hides_no_later_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """The claim after the one that expired was released by its owner."""

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) - timedelta(hours=2)

    kernel = furnished()
    path = claimed(tmp_path, kernel)
    release(tmp_path, FakeHost(kernel), only=path, why=Reason.EXPIRED, unconfirmed=True)
    for module in (journal, claiming):
        monkeypatch.setattr(module, "datetime", Earlier)
    claim(tmp_path, FakeHost(kernel))
    release(tmp_path, FakeHost(kernel))
    assert outcomes(confirm(tmp_path, FakeHost(kernel), *words)) == [
        (word, "not-claimed") for word in words
    ]


def test_it_goes_back_while_the_lock_is_waited_for(tmp_path: Path) -> None:
    kernel = furnished()
    path = claimed(tmp_path, kernel)
    host = FakeHost(kernel)
    locked = lock.functions

    def after(*words: object, **more: object) -> object:
        lock.functions = locked
        release(tmp_path, FakeHost(kernel), only=path, why=Reason.EXPIRED, unconfirmed=True)
        return locked(*words, **more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confirming.lock, "functions", after)
        with pytest.raises(RolledBack, match=says("it was released at"), check=Coded("expired")):
            confirm(tmp_path, host)


def test_it_has_gone_back_and_its_journal_is_not_put_away_yet(tmp_path: Path) -> None:
    kernel = furnished()
    path = claimed(tmp_path, kernel)
    locked = lock.functions

    def after(*words: object, **more: object) -> object:
        lock.functions = locked
        with journal.Journal.open(path) as log:
            (port,) = log.content.ports
            log.append(Event.RELEASED, pci=port.pci, port=port.port)
        return locked(*words, **more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confirming.lock, "functions", after)
        (port,) = confirm(tmp_path, FakeHost(kernel))
    assert port.outcome == Confirmed.NOT_CLAIMED


def test_what_is_confirmed_does_not_go_back(tmp_path: Path) -> None:
    """The guardian was about to: it asks for the same lock, and looks again when it has it."""
    kernel = furnished()
    path = claimed(tmp_path, kernel)
    host = FakeHost(kernel)
    host.at_look[1] = lambda: None
    confirm(tmp_path, FakeHost(kernel))
    found = release(tmp_path, host, only=path, why=Reason.EXPIRED, unconfirmed=True)
    assert found.ports == []
    assert not kernel.nics[0].up
    assert path.exists()


def test_what_has_begun_to_go_back_cannot_be_kept(tmp_path: Path) -> None:
    kernel = furnished()
    path = claimed(tmp_path, kernel)
    dying = FakeHost(kernel, Fate(dies_at=3))
    with pytest.raises(Killed):
        release(tmp_path, dying, only=path, why=Reason.EXPIRED, unconfirmed=True)
    assert journal.read(path).phase == "interrupted"
    with pytest.raises(
        NotRestored, match=says("eth1 cannot be confirmed"), check=Coded("interrupted-claim")
    ) as caught:
        confirm(tmp_path, FakeHost(kernel))
    assert caught.value.code == "interrupted-claim"
    assert read(caught.value.evidence) == [("journal", "interrupted")]
    with wording:
        assert "manactl recover" in (caught.value.hint or "")
    release(tmp_path, FakeHost(kernel), recover=True)
    assert kernel.nics[0].up


def test_another_manactl_that_is_at_work_for_long_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = furnished()
    path = claimed(tmp_path, kernel)
    monkeypatch.setattr(confirming, "_PATIENCE", 0.05)
    with lock.functions(tmp_path, ["7870:00:00.0"]), pytest.raises(Busy) as caught:
        confirm(tmp_path, FakeHost(kernel))
    assert caught.value.code == "locked"
    assert journal.read(path).waiting is not None


def test_another_that_ends_soon_is_waited_for(tmp_path: Path) -> None:
    kernel = furnished()
    claimed(tmp_path, kernel)
    ours = lock.functions(tmp_path, ["7870:00:00.0"])
    ours.__enter__()
    later = threading.Timer(0.1, ours.__exit__, (None, None, None))
    later.start()
    try:
        assert outcomes(confirm(tmp_path, FakeHost(kernel))) == [("eth1", "confirmed")]
    finally:
        later.join()


def test_a_disk_that_is_full_confirms_nothing(tmp_path: Path) -> None:
    kernel = furnished()
    path = claimed(tmp_path, kernel)
    with pytest.raises(
        Refused, match=says("nothing was touched"), check=Coded("state-dir", untouched=True)
    ):
        confirm(tmp_path, FakeHost(kernel, Fate(fails_at=1)))
    assert journal.read(path).waiting is not None


@pytest.mark.parametrize("half", [False, True])
def test_killed_at_its_record_it_is_confirmed_or_not(tmp_path: Path, half: bool) -> None:
    kernel = furnished()
    path = claimed(tmp_path, kernel)
    with pytest.raises(Killed):
        confirm(tmp_path, FakeHost(kernel, Fate(dies_at=1, half=half)))
    assert journal.read(path).phase == "claimed"
    confirm(tmp_path, FakeHost(kernel), "eth1")
    assert journal.read(path).waiting is None


def test_a_journal_that_cannot_be_read_is_its_error(tmp_path: Path) -> None:
    kernel = furnished()
    path = claimed(tmp_path, kernel)
    data = path.read_bytes()
    path.write_bytes(data[:-20] + b"x" + data[-19:])
    with pytest.raises(NotRestored, match=says("corrupt"), check=Coded("journal")):
        confirm(tmp_path, FakeHost(kernel))


def newer(path: Path) -> None:
    """As a newer manactl would write it: its header tells whose it is, and no more is understood."""
    before, lines = "", b""
    for line in path.read_bytes().splitlines():
        record = json.loads(line.rpartition(b"\t")[0])
        if "schema" in record:
            record["schema"] = "manactl.journal/2"
        added, before = journal._line(record, before)
        lines += added
    path.write_bytes(lines)


def corrupt(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"claimed"', b'"clamied"'))


def nameless(path: Path) -> None:
    """Neither its header nor its name tells whose it is."""
    path.write_bytes(b"{")
    path.rename(path.with_name("x.journal"))


@pytest.mark.parametrize("spoil", [newer, corrupt, nameless])
@pytest.mark.parametrize(
    ("words", "confirmed", "blamed"),
    [
        ((), ["eth1"], True),
        (("eth1",), ["eth1"], False),
        (("eth5",), [], True),
        (("eth1", "eth5"), ["eth1"], True),
    ],
)
def test_beside_a_journal_that_cannot_be_read_the_others_are_confirmed(
    tmp_path: Path,
    spoil: Callable[[Path], None],
    words: tuple[str, ...],
    confirmed: list[str],
    blamed: bool,
) -> None:
    """It may be of a claim that waits, and is of eth5."""
    kernel = two_functions()
    good, bad = claimed(tmp_path, kernel, "eth1"), claimed(tmp_path, kernel, "eth5")
    spoil(bad)
    found: list[ConfirmedPort] = []
    with SignalGate() as signals, ExitStack() as failing:
        host = FakeHost(kernel)
        if blamed:
            error = failing.enter_context(pytest.raises(NotRestored, match=says(r"\.journal ")))
        confirming.confirm(ConfirmRequest(tmp_path, words), host, signals, found)
    if blamed:
        assert error.value.exit_code == 5
    assert outcomes(found) == [(name, "confirmed") for name in confirmed]
    assert (journal.read(good).waiting is None) is ("eth1" in confirmed)


def test_a_port_that_no_unreadable_journal_is_about_is_not_claimed(tmp_path: Path) -> None:
    kernel = two_functions()
    corrupt(claimed(tmp_path, kernel, "eth5"))
    assert outcomes(confirm(tmp_path, FakeHost(kernel), "eth1")) == [("eth1", "not-claimed")]


def test_the_error_of_one_claim_keeps_no_other_from_being_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has expired, or another manactl is at work on it for long."""
    kernel = two_functions()
    past, other = claimed(tmp_path, kernel, "eth1"), claimed(tmp_path, kernel, "eth5")
    release(tmp_path, FakeHost(kernel), only=past, why=Reason.EXPIRED, unconfirmed=True)
    found: list[ConfirmedPort] = []

    def both(error: type[ManactlError], match: str) -> None:
        host, request = FakeHost(kernel), ConfirmRequest(tmp_path, ("eth1", "eth5"))
        with SignalGate() as signals, pytest.raises(error, match=says(match)):
            confirming.confirm(request, host, signals, found)

    both(RolledBack, "eth1 was not confirmed in time")
    assert outcomes(found) == [("eth5", "confirmed")]
    assert journal.read(other).waiting is None
    release(tmp_path, FakeHost(kernel), "eth5")
    found.clear()
    claimed(tmp_path, kernel, "eth1")
    other = claimed(tmp_path, kernel, "eth5")
    monkeypatch.setattr(confirming, "_PATIENCE", 0.05)
    with lock.functions(tmp_path, ["7870:00:00.0"]):
        both(Busy, "another manactl is at work")
    assert outcomes(found) == [("eth5", "confirmed")]
    assert journal.read(other).waiting is None


def test_a_signal_between_two_claims_leaves_the_second_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = two_functions()
    first, second = claimed(tmp_path, kernel, "eth1"), claimed(tmp_path, kernel, "eth5")
    append = Journal.append

    def then_a_signal(self: Journal, event: str, **more: object) -> None:
        append(self, event, **more)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Journal, "append", then_a_signal)
    with pytest.raises(Interrupted) as caught:
        confirm(tmp_path, FakeHost(kernel), "eth1", "eth5")
    with wording:
        assert caught.value.message == (
            "interrupted by SIGTERM; confirmed: eth1; no other claim was changed"
        )
    assert journal.read(first).waiting is None
    assert journal.read(second).waiting is not None


def test_who_confirmed_it_is_on_record(tmp_path: Path) -> None:
    kernel = furnished()
    claimed(tmp_path, kernel)
    confirm(tmp_path, FakeHost(kernel))
    release(tmp_path, FakeHost(kernel))
    (past,) = history.read(tmp_path).claims
    assert past.confirmed_by == {"uid": 0, "sudo_user": "operator", "loginuid": 1000}
    assert past.reason is None


def test_a_claim_of_an_earlier_boot_needs_none(tmp_path: Path) -> None:
    kernel = furnished()
    path = claimed(tmp_path, kernel)
    found = confirm(tmp_path, FakeHost(kernel, boot="boot-2"), "eth1")
    assert outcomes(found) == [("eth1", "not-claimed")]
    with Journal.open(path) as log:
        assert log.content.records[-1]["event"] == "claimed"


CALLS = ("open", "read", "write", "pwrite", "fsync", "fstat", "ftruncate", "close")


class Disk:
    """Fails at one of the system calls for the state directory, or from there on."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int, at: int, *, lasting: bool) -> None:
        self.count = 0
        self.failed: str | None = None
        self._number, self._at, self._lasting = number, at, lasting
        for name in CALLS:
            patch.setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            mine, self.count = self.count, self.count + 1
            if mine != self._at and not (self._lasting and mine > self._at):
                return real(*args, **more)
            self.failed = self.failed or name
            if name == "close":
                real(*args, **more)  # it is closed, whatever close(2) reports
            raise OSError(self._number, os.strerror(self._number))

        return call


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EINTR, errno.EMFILE])
def test_whatever_the_disk_does_what_is_told_is_true(
    tmp_path: Path, number: int, lasting: bool
) -> None:
    told: set[str] = set()
    for at in range(200):
        kernel = furnished()
        state_dir = tmp_path / str(at)
        path = claimed(state_dir, kernel)
        found: list[ConfirmedPort] = []
        outcome, message = "confirmed", ""
        with SignalGate() as signals, pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, number, at, lasting=lasting)
            try:
                confirming.confirm(ConfirmRequest(state_dir), FakeHost(kernel), signals, found)
            except ManactlError as error:
                outcome, message = error.kind, error.message
        waits = journal.read(path).waiting is not None
        where = f"{disk.failed}, call {at}: {outcome} {message}"
        if disk.failed == "close":
            assert outcome == "confirmed" or lasting, f"{where}: nothing is lost by that"
        if outcome == "confirmed":
            assert not waits, where
            assert outcomes(found) == [("eth1", "confirmed")], where
        else:
            assert found == [], where
            with wording:
                assert waits or "is not certain" in message, where
        told.add("not certain" if "is not certain" in message else outcome)
        if disk.failed is None:
            break
    else:
        raise AssertionError("it never came to its end")
    assert {"confirmed", "refused"} <= told
    with wording:
        assert ("not certain" in told) is lasting


def test_a_record_that_is_neither_safe_nor_removed_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = furnished()
    path = claimed(tmp_path, kernel)

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for name in ("fsync", "ftruncate"):
        monkeypatch.setattr(os, name, fails)
    with (
        SignalGate() as signals,
        pytest.raises(
            NotRestored,
            match=says("whether eth1 is confirmed is not certain"),
            check=Coded("journal"),
        ) as caught,
    ):
        confirming.confirm(ConfirmRequest(tmp_path), FakeHost(kernel), signals)
    assert (caught.value.exit_code, caught.value.code) == (5, "journal")
    assert journal.read(path).waiting is None, "the guardian believes it"
