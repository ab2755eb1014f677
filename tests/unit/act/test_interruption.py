"""A signal at every system call that writes a record: every journal stays readable, and all comes
back."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from manactl.act import claim as claiming
from manactl.act import release as releasing
from manactl.act import signals as interruption
from manactl.act.progress import Silent
from manactl.act.signals import SignalGate
from manactl.errors import Interrupted, ManactlError, NotRestored, RolledBack
from manactl.journal import file as journal
from manactl.journal.file import Journal
from manactl.model.port import PortId
from manactl.wire.uverbs import ProofOutcome
from tests.unit.fakes import PORT
from tests.unit.host import (
    FakeHost,
    FakeProof,
    FakeSystem,
    Fate,
    Killed,
    claim,
    furnished,
    release,
)
from tests.unit.journal.test_file import written
from tests.unit.kernel import Kernel
from tests.unit.wording import says, wording

CALLS = ("open", "write", "fsync", "ftruncate", "rename", "unlink", "close", "mkdir")


@pytest.fixture(autouse=True)
def default_signals() -> Iterator[None]:
    """What ran us may ignore the signals (nohup does)."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in interruption.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Calls:
    """Counts the system calls of the journal and sends this process a signal at some of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.at: dict[int, tuple[str, int]] = {}  # when: before | after, and the signal
        for name in CALLS:
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            when, number = self.at.get(len(self.names), ("", 0))
            self.names.append(name)
            if when == "before":
                signal.raise_signal(number)
            result = real(*args, **more)
            if when == "after":
                signal.raise_signal(number)
            return result

        return call

    def start(self, at: dict[int, tuple[str, int]]) -> None:
        self.names.clear()
        self.at = at


def journals(state_dir: Path) -> list[journal.Content]:
    """Every journal there is, each of which must be readable."""
    found = journal.paths(state_dir)
    if (state_dir / "history").is_dir():
        found += sorted((state_dir / "history").iterdir())
    return [journal.read(path) for path in found]


def run(verb: str, state_dir: Path, kernel: Kernel) -> None:
    """As the command does: nothing that a signal raises comes out of it undescribed."""
    host = FakeHost(kernel)
    with SignalGate() as signals:
        if verb == "claim":
            request = claiming.ClaimRequest(state_dir, ("eth1",))
            with claiming.prepare(request, host, signals) as prepared:
                claiming.execute(prepared, Silent())
        else:
            again = releasing.ReleaseRequest(state_dir, recover=verb == "recover")
            releasing.release(again, host, signals, Silent())


def prepared(verb: str, state_dir: Path) -> tuple[Kernel, object]:
    kernel = furnished()
    before = kernel.picture()
    if verb == "release":
        claim(state_dir, FakeHost(kernel))
    if verb == "recover":
        with contextlib.suppress(Killed):
            claim(state_dir, FakeHost(kernel, Fate(dies_at=9)))
        assert phases(state_dir) == ["interrupted"]
    return kernel, before


def phases(state_dir: Path) -> list[str]:
    return [one.phase for one in journal.list_claims(state_dir, "boot-1").claims]


def survives(verb: str, state_dir: Path, calls: Calls, at: dict[int, tuple[str, int]]) -> str:
    """Run it with these signals; what came of it. Whatever that is, the journals are right, the
    outcome is what they say, and everything can be put back."""
    calls.start({})
    kernel, before = prepared(verb, state_dir)
    calls.start(at)
    outcome = "done"
    try:
        run(verb, state_dir, kernel)
    except ManactlError as error:
        outcome = error.kind
    finally:
        calls.start({})
    left = phases(state_dir)
    if verb == "claim":
        assert (outcome, left, kernel.nics[0].up) in [
            ("done", ["claimed"], False),
            ("rolled-back", [], True),
            ("interrupted", [], True),
        ], at
    else:
        # A signal that comes before the first act leaves the journal as it was.
        assert outcome == "done" or (outcome == "interrupted" and left), at
    if journal.paths(state_dir):
        release(state_dir, FakeHost(kernel))
    assert kernel.picture() == before, at
    assert journal.list_claims(state_dir, "boot-1") == ([], [])
    journals(state_dir)
    return outcome


def length(verb: str, state_dir: Path, calls: Calls) -> int:
    kernel, _ = prepared(verb, state_dir)
    calls.start({})
    run(verb, state_dir, kernel)
    assert {"write", "fsync"} <= set(calls.names)
    return len(calls.names)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", ["claim", "release", "recover"])
def test_a_signal_at_any_call_leaves_readable_journals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, when: str
) -> None:
    calls = Calls(monkeypatch)
    outcomes = {
        survives(verb, tmp_path / f"{at}", calls, {at: (when, signal.SIGINT)})
        for at in range(length(verb, tmp_path / "whole", calls))
    }
    if verb == "claim":
        assert outcomes == {"done", "rolled-back", "interrupted"}


def some_signals(rng: random.Random, calls: int) -> dict[int, tuple[str, int]]:
    """Up to three, of any kind, anywhere."""
    return {
        rng.randrange(calls): (rng.choice(["before", "after"]), rng.choice(interruption.SIGNALS))
        for _ in range(rng.randint(1, 3))
    }


def fuzz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: str, count: int) -> None:
    rng = random.Random(seed)
    calls = Calls(monkeypatch)
    lengths = {
        verb: length(verb, tmp_path / f"whole-{verb}", calls)
        for verb in ("claim", "release", "recover")
    }
    for number in range(count):
        verb = rng.choice(list(lengths))
        survives(verb, tmp_path / f"{number}", calls, some_signals(rng, lengths[verb]))


def test_several_signals_leave_readable_journals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuzz(tmp_path, monkeypatch, "signals", 60)


@pytest.mark.soak
def test_many_signals_leave_readable_journals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuzz(tmp_path, monkeypatch, "many signals", 5000)


class Stopped(BaseException):
    """What no handler of ours raises: the journal takes none for a failure of its own."""


@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_record_is_whole_or_not_there_whatever_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, when: str
) -> None:
    path = written(tmp_path, "doing")
    real = getattr(os, call)

    def raising(*args: Any) -> Any:
        if when == "after":
            real(*args)
        raise Stopped

    with Journal.open(path) as log:
        with monkeypatch.context() as patch:
            patch.setattr(os, call, raising)
            with pytest.raises(Stopped):
                log.append("done")
        log.append("claimed", ports=[{"pci": PORT.pci, "port": 1, "proven": True}])
        assert log.content == journal.read(path)
    assert [record["event"] for record in journal.read(path).records] == ["doing", "claimed"]


def test_after_half_a_line_that_stays_nothing_is_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails the write, and then the truncation that would take it back."""
    path = written(tmp_path, "doing")

    def fails(*args: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def half(fd: int, data: bytes) -> int:
        if len(data) < 20:
            fails()
        return real(fd, data[: len(data) // 2])

    real = os.write
    with Journal.open(path) as log:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", half)
            patch.setattr(os, "ftruncate", fails)
            with pytest.raises(OSError, match="Input/output"):
                log.append("done")
        for _ in range(2):  # the disk works again, and the file is spoiled all the same
            with pytest.raises(OSError, match=says("an earlier record")):
                log.append("unwinding", why="EIO")
    assert [record["event"] for record in journal.read(path).records] == ["doing"]
    with Journal.open(path) as log:
        log.append("unwinding", why="EIO")
    assert [record["event"] for record in journal.read(path).records] == ["doing", "unwinding"]


def test_a_signal_before_the_claimed_record_unwinds_and_one_after_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Signals(Journal):
        when = "before"

        def append(self, event: str, **more: object) -> None:
            if event == "done" and more["step"] == 2 and self.when == "before":
                signal.raise_signal(signal.SIGTERM)
            super().append(event, **more)
            if event == "claimed" and self.when == "after":
                signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(claiming, "Journal", Signals)
    kernel = furnished()
    with pytest.raises(RolledBack, match=says("interrupted by SIGTERM")):
        claim(tmp_path / "a", FakeHost(kernel))
    assert phases(tmp_path / "a") == []
    assert kernel.nics[0].up is True
    Signals.when = "after"
    claim(tmp_path / "b", FakeHost(kernel))
    assert kernel.nics[0].up is False
    assert phases(tmp_path / "b") == ["claimed"]


class Taken(FakeSystem):
    """Another program has the vport as soon as the netdev is down."""

    def _proof(self, port: PortId) -> FakeProof:
        return FakeProof(ProofOutcome.TAKEN, errno.EBUSY)


def test_a_pause_between_two_looks_is_a_boundary(tmp_path: Path) -> None:
    """A vport that stays taken is waited for; ^C then does not wait with it."""
    kernel = furnished()
    before = kernel.picture()
    host = FakeHost(kernel)
    host.systems = Taken
    host.at_pause = lambda: signal.raise_signal(signal.SIGINT)
    with pytest.raises(RolledBack, match=says("interrupted by SIGINT")):
        claim(tmp_path, host, wait=86400.0)
    assert len(host.pauses) == 1
    assert kernel.picture() == before


def test_undoing_goes_on_whatever_a_step_raises(tmp_path: Path) -> None:
    """A bug in one step is residue of its port, and the journal stays open."""

    class Buggy(FakeSystem):
        def set_admin(self, port: PortId, up: bool) -> None:
            if up:
                raise ZeroDivisionError("division by zero")
            super().set_admin(port, up)

        def _proof(self, port: PortId) -> FakeProof:
            return FakeProof(ProofOutcome.CANNOT)

    kernel = furnished()
    host = FakeHost(kernel)
    host.systems = Buggy
    with pytest.raises(NotRestored, match="ZeroDivisionError: division by zero"):
        claim(tmp_path, host)
    assert phases(tmp_path) == ["interrupted"]
    release(tmp_path, FakeHost(kernel))
    assert kernel.nics[0].up


def test_what_comes_to_mind_after_the_outcome_is_ignored(tmp_path: Path) -> None:
    """From the last act to the end of the program: the story of it is not cut short."""
    with SignalGate(lasting=True) as signals:
        signals.acting()
    try:
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        interruption.restore()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    with SignalGate(lasting=True), contextlib.suppress(Interrupted):
        pass
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL  # nothing was changed


def test_the_journal_of_an_earlier_boot_is_closed_or_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal while it was closed had "nothing was changed" said of a journal that was gone."""
    calls = Calls(monkeypatch)

    def stale(number: int, at: dict[int, tuple[str, int]]) -> str:
        state_dir = tmp_path / str(number)
        kernel = furnished()
        calls.start({})
        claim(state_dir, FakeHost(kernel))
        calls.start(at)
        told = ""
        try:
            release(state_dir, FakeHost(kernel, boot="boot-2"))
        except Interrupted as error:
            told = error.message
        finally:
            names = list(calls.names)
            calls.start({})
        assert all(content.phase for content in journals(state_dir))
        with wording:
            assert ("nothing was changed" in told) == bool(journal.paths(state_dir)), (at, told)
        return ",".join(names)

    total = len(stale(0, {}).split(","))
    outcomes = [
        stale(2 * number + side + 1, {number: (when, signal.SIGTERM)})
        for number in range(total)
        for side, when in enumerate(("before", "after"))
    ]
    assert len(outcomes) == 2 * total
