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

from manactl.act import signals as interruption
from manactl.act.signals import Interruptible
from manactl.errors import Interrupted, ManactlError, NotRestored, RolledBack
from manactl.journal import file as journal
from manactl.journal.file import Journal
from tests.unit.act import test_transition as plans
from tests.unit.fakes import PORT, FakeSystem
from tests.unit.journal.test_file import written

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


def claim(state_dir: Path, system: FakeSystem) -> None:
    """As the command does: nothing that a signal raises comes out of it undescribed."""
    made = plans.planned(system)
    with Interruptible() as signals, signals.told():
        log, _ = plans.transition.apply(
            made.steps,
            system,
            lambda: plans.create(state_dir, made, system),
            signals=signals,
            wait=1.0,
            who="eth1",
        )
        log.close()


def release(state_dir: Path, system: FakeSystem) -> None:
    """The only journal undone, under the same signals as the command has."""
    with Interruptible() as signals, signals.told():
        (path,) = journal.paths(state_dir)
        with contextlib.closing(Journal.open(path)) as log:
            content = log.content
            begun = {record["step"] for record in content.records if record["event"] == "doing"}
            steps = plans.steps_from_json(content.header["plan"], content.header["snapshot"])
            mine = [step for number, step in enumerate(steps) if number in begun]
            signals.ignore()
            back = plans.transition.release(mine, system, log, [PORT], last=True, signals=signals)
            assert back.clean


def run(verb: str, state_dir: Path, kernel: plans.Kernel) -> None:
    if verb == "claim":
        claim(state_dir, FakeSystem(kernel))
    else:  # a recovery does the same with a journal that was left open
        release(state_dir, FakeSystem(kernel))


def prepared(verb: str, state_dir: Path) -> tuple[plans.Kernel, Any]:
    kernel = plans.furnished(plans.RICH)
    before = plans.picture(kernel)
    if verb == "release":
        claim(state_dir, FakeSystem(kernel))
    if verb == "recover":
        with contextlib.suppress(plans.Killed):
            claim(state_dir, FakeSystem(kernel, dies_at=7))
        assert [one.phase for one in journal.list_claims(state_dir).claims] == ["interrupted"]
    return kernel, before


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
    open_ones = {one.path for one in journal.list_claims(state_dir).claims}
    phases = [content.phase for content in journals(state_dir) if content.path in open_ones]
    if verb == "claim":
        assert (outcome, phases, kernel.up) in [
            ("done", ["claimed"], False),
            ("rolled-back", [], True),
            ("interrupted", [], True),
        ], at
    else:
        # A signal that comes before the first act leaves the journal as it was.
        assert outcome == "done" or (outcome == "interrupted" and phases), at
    if journal.paths(state_dir):
        release(state_dir, FakeSystem(kernel))
    assert plans.same(kernel, before), at
    assert journal.list_claims(state_dir) == ([], [])
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
            with pytest.raises(OSError, match="an earlier record"):
                log.append("unwinding", why="EIO")
    assert [record["event"] for record in journal.read(path).records] == ["doing"]
    with Journal.open(path) as log:
        log.append("unwinding", why="EIO")
    assert [record["event"] for record in journal.read(path).records] == ["doing", "unwinding"]


def test_a_signal_before_the_claimed_record_unwinds_and_one_after_it_does_not(
    tmp_path: Path,
) -> None:
    class Signals(Journal):
        when = "before"

        def append(self, event: str, **more: object) -> None:
            if event == "done" and more["step"] == 2 and self.when == "before":
                signal.raise_signal(signal.SIGTERM)
            super().append(event, **more)
            if event == "claimed" and self.when == "after":
                signal.raise_signal(signal.SIGTERM)

    def attempt(state_dir: Path) -> plans.Kernel:
        kernel = plans.furnished(plans.RICH)
        system = FakeSystem(kernel)
        made = plans.planned(system)
        with Interruptible() as signals, signals.told():
            plans.transition.apply(
                made.steps,
                system,
                lambda: Signals.create(state_dir, plans.header(made), made.ports),
                signals=signals,
                wait=1.0,
                who="eth1",
            )
        return kernel

    with pytest.raises(RolledBack, match="interrupted by SIGTERM"):
        attempt(tmp_path / "a")
    assert journal.list_claims(tmp_path / "a").claims == []
    Signals.when = "after"
    assert attempt(tmp_path / "b").up is False
    assert [one.phase for one in journal.list_claims(tmp_path / "b").claims] == ["claimed"]


def test_a_pause_between_two_looks_is_a_boundary(tmp_path: Path) -> None:
    """A vport that stays taken is waited for; ^C then does not wait with it."""
    kernel = plans.furnished(plans.RICH)
    before = plans.picture(kernel)

    class Waits(FakeSystem):
        def pause(self, seconds: float) -> None:
            signal.raise_signal(signal.SIGINT)
            signals.pause(seconds)

    system = Waits(kernel, proofs=("taken",) * 9)
    made = plans.planned(system)
    signals = Interruptible()
    with signals, pytest.raises(RolledBack, match="interrupted by SIGINT"):
        plans.transition.apply(
            made.steps,
            system,
            lambda: plans.create(tmp_path, made, system),
            signals=signals,
            wait=86400.0,
            who="eth1",
        )
    assert plans.same(kernel, before)


def test_undoing_goes_on_whatever_a_step_raises(tmp_path: Path) -> None:
    """A bug in one step is residue of its port, and the journal stays open."""
    kernel = plans.furnished(plans.RICH)

    class Buggy(FakeSystem):
        def set_admin(self, port: Any, up: bool) -> None:
            if up:
                raise ZeroDivisionError("division by zero")
            super().set_admin(port, up)

    with pytest.raises(NotRestored, match="ZeroDivisionError: division by zero"):
        claim(tmp_path, Buggy(kernel, proofs=("cannot",)))
    assert [one.phase for one in journal.list_claims(tmp_path).claims] == ["interrupted"]
    plans.release(tmp_path, FakeSystem(kernel))
    assert kernel.up


def test_what_comes_to_mind_after_the_outcome_is_ignored(tmp_path: Path) -> None:
    """From the last act to the end of the program: the story of it is not cut short."""
    with Interruptible(lasting=True) as signals:
        signals.acting()
    try:
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        interruption.restore()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    with Interruptible(lasting=True), contextlib.suppress(Interrupted):
        pass
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL  # nothing was changed
