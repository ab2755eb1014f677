"""What the loop of hold asks of its keeper, and when: on descriptors that are real."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from manactl.act import hold_loop
from manactl.act.hold_loop import Loop
from manactl.act.service import Service
from manactl.cli.hold import Teller
from manactl.errors import Refused
from manactl.journal import state_dir as statedir
from manactl.look import link_changes, netdev_opens
from manactl.look.file_events import FileEvents
from manactl.model.hold import Apart, Attempt, Outcome, Target, Trouble
from tests.unit.host import FakeHost, claim, furnished, two_ports
from tests.unit.wording import Coded, says, wording

PCI = "7870:00:00.0"


@pytest.fixture(autouse=True)
def default_signals() -> Iterator[None]:
    """What ran us may ignore some (nohup does), and then hold rightly ignores them, too."""
    before = {
        number: signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class FakeKeeper:
    """Counts what the loop asks of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.again_in: float | None = None
        self.targets: tuple[Target, ...] = ()
        self.apart = Apart()
        self.unlocked: dict[str, Trouble] = {}
        self.then: Callable[[], object] = lambda: None

    def reload(self) -> bool:
        self.asked.append("reload")
        if self.asked.count("reload") > 1:
            self.then()
        return False

    def again(self) -> None:
        self.asked.append("again")
        if self.asked.count("again") == 3:
            self.again_in = None
            self.then()


class Clock:
    """Each look at it is a second later."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[Loop, FakeKeeper]]:
    read, write = os.pipe()
    keeper: Any = FakeKeeper()
    service = Service({})
    clock = Clock()
    teller = Teller(service, clock, as_json=False)
    made = Loop(keeper, teller, service, clock)
    made.on(read, lambda: made.signalled(read))
    keeper.then = lambda: os.write(write, bytes([signal.SIGTERM]))
    yield made, keeper
    os.close(read)
    os.close(write)


def test_what_was_left_is_looked_at_again_and_again(
    loop: tuple[Loop, FakeKeeper], tmp_path: Path
) -> None:
    one, keeper = loop
    keeper.again_in = 0.02
    one.run()
    assert keeper.asked == ["reload", "again", "again", "again"]


def test_a_lock_that_cannot_be_had_is_told_once(
    loop: tuple[Loop, FakeKeeper], capsys: pytest.CaptureFixture[str]
) -> None:
    one, keeper = loop
    keeper.again_in = 0.02
    keeper.unlocked = {PCI: Trouble(PCI, None, errno.EMFILE, "Too many open files")}
    one.run()
    assert keeper.asked == ["reload", "again", "again", "again"]
    (line,) = capsys.readouterr().err.splitlines()
    with wording:
        assert line.endswith("it is tried again: Too many open files")


def test_journals_that_were_written_are_read_again(
    loop: tuple[Loop, FakeKeeper], tmp_path: Path
) -> None:
    one, keeper = loop
    claims = tmp_path / "claims"
    claims.mkdir()
    with FileEvents(claims) as files:
        one.watch(files)
        (claims / "new").touch()
        one.run()
    assert keeper.asked == ["reload", "reload"]


def test_what_could_not_be_read_is_read_again(
    loop: tuple[Loop, FakeKeeper], tmp_path: Path
) -> None:
    """Nothing is announced when there are descriptors again, or a disk."""
    one, keeper = loop
    keeper.apart = Apart(unread=(Trouble("x", "journal", None, "journal x could not be read"),))
    one.run()
    assert keeper.asked[:2] == ["reload", "reload"]


def replaced(claims: Path) -> None:
    claims.rename(claims.with_name("elsewhere"))
    claims.mkdir()


@pytest.mark.parametrize(
    "act",
    [shutil.rmtree, lambda claims: claims.rename(claims.with_name("elsewhere")), replaced],
    ids=["removed", "moved", "replaced"],
)
def test_without_its_directory_it_would_hear_nothing(
    loop: tuple[Loop, FakeKeeper], tmp_path: Path, act: Callable[[Path], object]
) -> None:
    one, keeper = loop
    keeper.then = lambda: pytest.fail("it goes on")
    claims = tmp_path / "claims"
    claims.mkdir()
    with FileEvents(claims) as files:
        one.watch(files)
        act(claims)
        with pytest.raises(
            Refused,
            match=says(r"it was removed, .* no port is kept down$"),
            check=Coded("state-dir"),
        ) as ended:
            one.run()
    with wording:
        assert "put the directory back" in str(ended.value.hint)


def test_that_the_state_directory_was_moved_is_seen_at_the_next_look(
    loop: tuple[Loop, FakeKeeper], tmp_path: Path
) -> None:
    """The kernel does not tell it to who watches the directory in it."""
    one, keeper = loop
    keeper.again_in = 0.02
    keeper.then = lambda: pytest.fail("it goes on")
    claims = tmp_path / "state" / "claims"
    claims.mkdir(parents=True)
    with FileEvents(claims) as files:
        one.watch(files)
        (tmp_path / "state").rename(tmp_path / "elsewhere")
        with pytest.raises(
            Refused, match=says("it was removed, moved or replaced"), check=Coded("state-dir")
        ):
            one.run()


def test_another_signal_does_not_end_it(loop: tuple[Loop, FakeKeeper], tmp_path: Path) -> None:
    one, keeper = loop
    end, keeper.then = keeper.then, lambda: None
    read, write = os.pipe()
    os.write(write, bytes([signal.SIGWINCH]))
    handled: list[int] = []

    def other() -> None:
        one.signalled(read)
        handled.append(1)
        end()

    one.on(read, other)
    one.run()
    assert handled == [1]
    os.close(read)
    os.close(write)


# --- all of it


class Listing:
    """Notes what it is told; a signal comes with the first attempt, or once all is known that is
    kept down."""

    next_due: float | None = None

    def __init__(self, number: signal.Signals, *, awaits_attempt: bool) -> None:
        self.number, self.awaits_attempt = number, awaits_attempt
        self.attempts: list[Attempt] = []
        self.held: list[tuple[list[str], bool]] = []
        self.asked_last = False

    def attempt(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        os.kill(os.getpid(), self.number)

    def sums(self, *, everything: bool = False) -> None:
        self.asked_last = everything

    def holding(self, targets: Sequence[Target], apart: Apart, *, first: bool) -> None:
        self.held.append(([one.name for one in targets], first))
        if not self.awaits_attempt:
            os.kill(os.getpid(), self.number)

    def problems(self, apart: Apart, unlocked: Mapping[str, Trouble]) -> None:
        pass

    def warn(self, text: str) -> None:
        pass


@pytest.fixture
def state(tmp_path: Path) -> Path:
    statedir.prepare(tmp_path / "state")
    return tmp_path / "state"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_what_is_claimed_and_up_is_set_down_until_a_signal_comes(
    state: Path, number: signal.Signals
) -> None:
    host = FakeHost(furnished())
    claim(state, host)
    host.kernel.set_up(host.kernel.nics[0], True)
    teller = Listing(number, awaits_attempt=True)
    before = signal.getsignal(number)
    hold_loop.run(state, host, teller, Service({}))
    assert not host.kernel.nics[0].up
    assert [one.outcome for one in teller.attempts] == [Outcome.SET_DOWN]
    assert teller.held == [(["eth1"], True)]
    assert teller.asked_last, "what was not told one by one is told at the end"
    assert signal.getsignal(number) is before
    assert host.open_systems == 0


def test_of_several_claims_those_are_kept_down_that_are_given(state: Path) -> None:
    host = FakeHost(two_ports())
    claim(state, host, "eth1", "eth2")
    host.kernel.set_up(host.kernel.nics[0], True)
    teller = Listing(signal.SIGTERM, awaits_attempt=False)
    hold_loop.run(state, host, teller, Service({}), only=frozenset({(PCI, 2)}))
    assert (teller.held, teller.attempts) == ([(["eth2"], True)], [])
    assert host.kernel.nics[0].up


def test_a_signal_that_is_ignored_stays_so(state: Path) -> None:
    """nohup: it goes on when its terminal is gone."""
    host = FakeHost(furnished())
    claim(state, host)
    host.kernel.set_up(host.kernel.nics[0], True)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        teller = Listing(signal.SIGTERM, awaits_attempt=True)
        handlers = []
        teller.sums = lambda **_: handlers.append(  # type: ignore[method-assign]
            signal.getsignal(signal.SIGHUP)
        )
        hold_loop.run(state, host, teller, Service({}))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert set(handlers) == {signal.SIG_IGN}


class Events:
    """A source of events whose descriptor is a real pipe."""

    lost = False

    def __init__(self) -> None:
        self.fd, self._write = os.pipe()

    def happens(self) -> None:
        os.write(self._write, b"!")

    def read(self) -> list[Any]:
        os.read(self.fd, 64)
        return []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        os.close(self._write)


class Opens:
    """Watches by one descriptor, and by another after a driver was loaded."""

    refused: OSError | None = None
    missing: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.before, self.after = Events(), Events()
        self.descriptors: tuple[int, ...] = (self.before.fd,)
        self.reads = 0
        self.end_at = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for events in (self.before, self.after):
            events.__exit__()

    def renew(self) -> bool:
        self.descriptors = (self.after.fd,)
        self.before.happens()  # it is another's by now, in truth
        self.after.happens()
        self.end_at = self.reads + 1
        return True

    def read(self) -> list[Any]:
        self.reads += 1
        if self.reads == self.end_at:
            self.after.read()
            os.kill(os.getpid(), signal.SIGTERM)
        return []


def test_when_a_driver_was_loaded_its_opens_are_watched_instead(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = FakeHost(furnished())
    claim(state, host)
    changes, opens = Events(), Opens()
    changes.happens()
    monkeypatch.setattr(link_changes, "LinkChanges", lambda: changes)
    monkeypatch.setattr(netdev_opens, "NetdevOpens", lambda: opens)
    hold_loop.run(state, host, Listing(signal.SIGTERM, awaits_attempt=True), Service({}))
    assert opens.reads == 2, "once with the change, and once by the new descriptor"


def test_where_announcements_were_lost_everything_is_looked_at_once() -> None:
    done: list[object] = []
    keeper: Any = SimpleNamespace(
        opened=done.append,
        changed=lambda found, received: done.append((found, received)),
        look=lambda: done.append("look"),
    )
    changes: Any = SimpleNamespace(read=lambda: ["change"], lost=True)
    opens: Any = SimpleNamespace(read=lambda: "opens")
    for _ in range(2):
        hold_loop._announced(keeper, changes, opens, lambda: 5.0)
    once = ["opens", (["change"], 5.0)]
    assert (done, changes.lost) == ([*once, "look", *once], False)


def test_a_descriptor_that_is_watched_no_more_is_forgotten(loop: tuple[Loop, FakeKeeper]) -> None:
    """Another one may have its number next."""
    one, _ = loop
    read, write = os.pipe()
    one.on(read, lambda: None)
    one.off(read)
    assert read not in one._handlers
    with pytest.raises(KeyError):
        one._poll.unregister(read)
    os.close(read)
    os.close(write)


def at(now: list[float], service: Any, keeper: Any) -> Loop:
    """A loop whose clock shows `now`."""
    teller: Any = SimpleNamespace(
        next_due=None, holding=lambda *_, **__: None, problems=lambda *_: None
    )
    return Loop(keeper, teller, service, lambda: now[0])


def test_the_service_manager_hears_of_it_as_often_as_it_asked_for() -> None:
    now, told = [0.0], list[float]()
    service = SimpleNamespace(alive_every=10.0, alive=lambda: told.append(now[0]))
    one, waits = at(now, service, FakeKeeper()), []
    for now[0] in (0.0, 4.0, 10.0):
        waits.append(one._patience(None))
    assert (told, waits) == ([0.0, 10.0], [10001.0, 6001.0, 10001.0])


def test_what_cannot_be_read_is_read_less_and_less_often() -> None:
    keeper = FakeKeeper()
    keeper.apart = unread = Apart(unread=(Trouble("x", None, errno.EIO, "it could not be read"),))
    one = at([100.0], Service({}), keeper)
    found = []
    for keeper.apart in (*[unread] * 7, Apart(), unread):
        one._reload()
        found.append(one._reload_at and one._reload_at - 100)
    assert found == [1, 2, 4, 8, 16, 30, 30, None, 1]
