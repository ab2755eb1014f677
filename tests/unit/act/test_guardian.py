"""The guardian of a claim: what it waits for, and what it then does.

Its end of the conversation runs here, over a machine in memory; that a real one outlives what
starts it is tested with processes at the end, and in the lab.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from manactl.act import guardian, progress_words
from manactl.act.guardian import Watch
from manactl.errors import ManactlError, RolledBack
from manactl.journal import file as journal
from manactl.journal import lock, unconfirmed
from manactl.journal.file import Journal
from manactl.model.port import Report
from tests.unit.fakes import archived
from tests.unit.host import FakeHost, Fate, Killed, claim, furnished, release
from tests.unit.kernel import Kernel
from tests.unit.wording import Coded, says, wording

PID = 77
SOON = 30  # s that a process may take


@dataclass
class Told:
    """A guard that remembers, and fails where it is told to."""

    pid: int = 4242
    started: int | None = None
    said: list[tuple[object, ...]] = field(default_factory=list)
    fails: bool = False
    late: bool = False

    def arm(self, path: Path, deadline: float | None) -> None:
        self.said.append(("arm", path, deadline))
        if self.fails:
            raise RolledBack("the guardian is dead; nothing was touched", code="guardian")

    def watch(self, pid: int) -> None:
        self.said.append(("watch", pid))

    def leave(self) -> None:
        self.said.append(("leave",))
        if self.late:
            raise RolledBack("the time to confirm it was over before it was made")


class Guarded(Told):
    """The same as a context manager."""

    def __enter__(self) -> Guarded:
        return self

    def __exit__(self, *_: object) -> None:
        self.said.append(("gone",))


class Runner:
    """The other end: says all that it has to say, and is gone."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def say(self, **message: object) -> None:
        self.ours.sendall(json.dumps(message).encode())

    def heard(self) -> list[object]:
        self.ours.settimeout(0)
        found = []
        with contextlib.suppress(BlockingIOError):
            while data := self.ours.recv(4096):
                answer = json.loads(data)
                found.append("too late" if answer.get("late") else answer["failed"])
        return found

    def dies(self) -> None:
        self.ours.shutdown(socket.SHUT_WR)


@pytest.fixture
def runner() -> Iterator[Runner]:
    made = Runner()
    with made.ours, made.theirs:
        yield made


def claimed(state_dir: Path, kernel: Kernel, **more: object) -> Path:
    found = claim(state_dir, FakeHost(kernel), guard=Told(), **more).journal
    assert found is not None
    return found


def test_a_runner_that_dies_before_anything_is_claimed_leaves_nothing_to_do(
    runner: Runner, tmp_path: Path
) -> None:
    host = FakeHost(furnished())
    runner.dies()
    Watch(runner.theirs, tmp_path, host).run()
    assert host.looks == 0
    assert host.kernel.links == []


def test_a_claim_whose_runner_is_gone_is_released(runner: Runner, tmp_path: Path) -> None:
    kernel = furnished()
    path = claimed(tmp_path, kernel, command=("sleep",))
    runner.say(arm=str(path), deadline=None)
    runner.dies()
    host = FakeHost(kernel)
    Watch(runner.theirs, tmp_path, host).run()
    assert kernel.nics[0].up
    assert not path.exists()
    assert runner.heard() == [None]
    (record,) = [r for r in journal.read(archived(path)).records
                 if r["event"] == "releasing"]  # fmt: skip
    assert record["why"] == "abandoned"
    assert host.audits[-1].fields["reason"] == "abandoned"


def test_the_command_and_then_every_holder_is_waited_for(runner: Runner, tmp_path: Path) -> None:
    """The command ends first; a child of it has the queue pair still."""
    kernel = furnished()
    nic = kernel.nics[0]
    path = claimed(tmp_path, kernel, command=("testpmd",))
    nic.holders = [PID, PID + 1]
    host = FakeHost(kernel)
    seen: list[tuple[list[int], bool]] = []

    def later() -> None:
        seen.append((list(nic.holders), nic.up))
        if len(seen) in (3, 6):
            nic.holders.pop(0)

    host.at_pause = later
    runner.say(arm=str(path), deadline=None)
    runner.say(watch=PID)
    runner.dies()
    Watch(runner.theirs, tmp_path, host).run()
    assert nic.up
    assert ([PID + 1], False) in seen  # the command was gone, and nothing was set up yet
    assert all(not up for holders, up in seen if holders)
    assert [PID + 1001] in host.processes.waits  # by an event, not by the clock alone
    assert host.processes.descriptors == []
    assert len(host.audits) == 1


def test_a_command_that_has_ended_is_watched_no_more(runner: Runner, tmp_path: Path) -> None:
    """Its descriptor stays readable: a guardian whose runner lives would not sleep any more."""
    host = FakeHost(furnished())
    watch = Watch(runner.theirs, tmp_path, host)
    before = set(watch._events)
    assert watch._obey({"watch": PID})
    (fd,) = set(watch._events) - before
    watch._events[fd]()
    assert (set(watch._events), watch._process, watch._why) == (before, None, None)


def test_a_claim_that_somebody_else_ends_needs_no_guardian(runner: Runner, tmp_path: Path) -> None:
    kernel = furnished()
    path = claimed(tmp_path, kernel, command=("testpmd",))
    host = FakeHost(kernel)
    runner.say(arm=str(path), deadline=None)
    host.at_pause = lambda: path.exists() and release(tmp_path, FakeHost(kernel))
    Watch(runner.theirs, tmp_path, host).run()  # the runner lives
    assert host.audits == []
    assert kernel.nics[0].up


def test_a_later_claim_of_the_port_is_another_one(runner: Runner, tmp_path: Path) -> None:
    kernel = furnished()
    path = claimed(tmp_path, kernel, command=("testpmd",))
    host = FakeHost(kernel)
    runner.say(arm=str(path), deadline=None)
    release(tmp_path, FakeHost(kernel))
    claim(tmp_path, FakeHost(kernel))
    runner.dies()
    Watch(runner.theirs, tmp_path, host).run()
    assert not kernel.nics[0].up
    assert len(list((tmp_path / "claims").glob("*.journal"))) == 1
    assert runner.heard() != [None]  # the journal was gone when it was to be watched


def test_it_tries_again_while_the_port_is_busy(runner: Runner, tmp_path: Path) -> None:
    kernel = furnished()
    nic = kernel.nics[0]
    path = claimed(tmp_path, kernel, command=("testpmd",))
    nic.holders = [PID]
    host = FakeHost(kernel)
    host.blind = True  # who has it cannot be seen: only the kernel's refusal tells
    start = kernel.clock

    def later() -> None:
        if kernel.clock > start + 40:
            nic.holders.clear()

    host.at_pause = later
    runner.say(arm=str(path), deadline=None)
    runner.dies()
    Watch(runner.theirs, tmp_path, host).run()
    assert nic.up
    assert len(host.audits) > 2
    assert [audit.quiet for audit in host.audits] == [True] * (len(host.audits) - 1) + [False]


def test_what_cannot_be_restored_is_for_people_after_some_attempts(
    runner: Runner, tmp_path: Path
) -> None:
    kernel = furnished()
    path = claimed(tmp_path, kernel, command=("testpmd",))
    kernel.nics[0].present = False
    host = FakeHost(kernel)
    runner.say(arm=str(path), deadline=None)
    runner.dies()
    Watch(runner.theirs, tmp_path, host).run()
    assert path.exists()
    assert len(host.audits) == 4
    assert {2.0, 10.0, 60.0} <= set(host.pauses)


def test_a_journal_that_cannot_be_watched_is_refused(runner: Runner, tmp_path: Path) -> None:
    runner.say(arm=str(tmp_path / "none"), deadline=None)
    runner.dies()
    Watch(runner.theirs, tmp_path, FakeHost(furnished())).run()
    assert runner.heard() == ["No such file or directory"]


# --- until it is confirmed ----------------------------------------------------------------------

PAST = 1.0  # s of CLOCK_BOOTTIME
FUTURE = 1e9


def waiting(state_dir: Path, kernel: Kernel, *words: str) -> Path:
    """A claim that is to be confirmed, whose guardian is the one under test."""
    found = claim(state_dir, FakeHost(kernel), *words, guard=Told(), confirm_within=60).journal
    assert found is not None
    return found


def confirmed(path: Path) -> None:
    with Journal.open(path) as log:
        log.append("confirmed", by={"uid": 0})


def released(state_dir: Path, path: Path) -> list[object]:
    """The reasons of the releases that its journal has."""
    records = journal.read(archived(path)).records
    return [record.get("why") for record in records if record["event"] == "releasing"]


@pytest.mark.parametrize("lives", [False, True])
def test_a_claim_that_nobody_confirms_in_time_goes_back(
    runner: Runner, tmp_path: Path, lives: bool
) -> None:
    kernel = furnished()
    path = waiting(tmp_path, kernel)
    host = FakeHost(kernel)
    runner.say(arm=str(path), deadline=FUTURE)
    runner.say(leave=True)
    if not lives:
        runner.dies()
    watch = Watch(runner.theirs, tmp_path, host)
    host.at_pause = lambda: time_is_over(watch)
    watch.run()
    assert kernel.nics[0].up
    assert released(tmp_path, path) == ["expired"]
    assert host.audits[-1].fields["reason"] == "expired"
    assert runner.heard() == [None, None]


def time_is_over(watch: Watch) -> None:
    """What the timer does when it fires; nothing on it can be told to a machine in memory."""
    timers = [fd for fd in watch._events if _is_timer(fd)]
    for fd in timers:
        watch._events[fd]()


def _is_timer(fd: int) -> bool:
    return os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[timerfd]"


@pytest.mark.parametrize("number", range(56, 64))
def test_a_word_of_the_runner_comes_before_a_deadline_that_is_read_with_it(
    runner: Runner, tmp_path: Path, number: int
) -> None:
    """Whatever number its descriptor has: that is what a set of them is sorted by."""
    kernel = furnished()
    path = waiting(tmp_path, kernel)
    runner.say(arm=str(path), deadline=PAST)
    runner.say(leave=True)
    runner.dies()
    copy = fcntl.fcntl(runner.theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, number)
    with socket.socket(fileno=copy) as theirs:
        Watch(theirs, tmp_path, FakeHost(kernel)).run()
    assert runner.heard() == [None, None]
    assert kernel.nics[0].up


def test_until_then_it_is_left_alone(runner: Runner, tmp_path: Path) -> None:
    kernel = furnished()
    path = waiting(tmp_path, kernel)
    host = FakeHost(kernel)
    runner.say(arm=str(path), deadline=FUTURE)
    runner.say(leave=True)
    runner.dies()
    pauses: list[float] = []

    def later() -> None:
        pauses.append(kernel.clock)
        if len(pauses) == 3:
            confirmed(path)

    host.at_pause = later
    Watch(runner.theirs, tmp_path, host).run()
    assert not kernel.nics[0].up
    assert journal.read(path).phase == "claimed"
    assert host.audits == []


def test_a_runner_that_dies_before_it_is_claimed_leaves_nobody_to_confirm_it(
    runner: Runner, tmp_path: Path
) -> None:
    """It had said that it leaves, which comes right before the record."""
    kernel = furnished()
    fate = Fate()
    with pytest.raises(Killed):
        claim(tmp_path, FakeHost(kernel, fate), guard=Dying(fate=fate), confirm_within=60)
    (path,) = (tmp_path / "claims").glob("*.journal")
    assert not kernel.nics[0].up
    runner.say(arm=str(path), deadline=FUTURE)
    runner.say(leave=True)
    runner.dies()
    Watch(runner.theirs, tmp_path, FakeHost(kernel)).run()
    assert kernel.nics[0].up
    assert released(tmp_path, path) == ["abandoned"]


@dataclass
class Dying(Told):
    """The runner is killed right after it has said that it leaves."""

    fate: Fate = field(default_factory=Fate)

    def leave(self) -> None:
        self.fate.dies_at = self.fate.operations


def test_a_claim_that_took_too_long_is_undone(tmp_path: Path) -> None:
    kernel = furnished()
    with pytest.raises(RolledBack, match=says("the time to confirm it was over")) as caught:
        claim(tmp_path, FakeHost(kernel), guard=Told(late=True), confirm_within=60)
    with wording:
        assert "Everything is restored" in caught.value.message
    assert kernel.nics[0].up
    assert list((tmp_path / "claims").iterdir()) == []


def test_the_runner_is_told_that_it_is_too_late(runner: Runner, tmp_path: Path) -> None:
    kernel = furnished()
    path = waiting(tmp_path, kernel)
    host = FakeHost(kernel)
    runner.say(arm=str(path), deadline=PAST)
    watch = Watch(runner.theirs, tmp_path, host)

    def later() -> None:
        if path.exists() and watch._late:
            runner.say(leave=True)
            host.at_pause = lambda: path.exists() and release(tmp_path, FakeHost(kernel))

    host.at_pause = later
    watch.run()
    assert runner.heard() == [None, "too late"]
    assert host.audits == []  # the runner has undone it


def test_going_back_waits_for_the_last_holder_and_reports_it_once(
    runner: Runner, tmp_path: Path
) -> None:
    kernel = furnished()
    nic = kernel.nics[0]
    path = waiting(tmp_path, kernel)
    nic.holders = [PID]
    host = FakeHost(kernel)
    pauses: list[float] = []

    def later() -> None:
        pauses.append(kernel.clock)
        if len(pauses) > 500:
            nic.holders = []

    host.at_pause = later
    runner.say(arm=str(path), deadline=PAST)
    runner.say(leave=True)
    runner.dies()
    Watch(runner.theirs, tmp_path, host).run()
    assert nic.up
    assert kernel.killed == []
    assert [PID + 1000] in [fds[-1:] for fds in host.processes.waits]
    told = [audit for audit in host.audits if not audit.quiet]
    assert [audit.fields.get("exit") for audit in told] == [6, 0]
    assert "pid 77" in str(told[0].fields["why"])


def test_while_it_waits_for_a_holder_it_can_be_confirmed(runner: Runner, tmp_path: Path) -> None:
    kernel = furnished()
    nic = kernel.nics[0]
    path = waiting(tmp_path, kernel)
    nic.holders = [PID]
    host = FakeHost(kernel)

    def later() -> None:
        if host.audits and path.exists() and journal.read(path).waiting:
            confirmed(path)

    host.at_pause = later
    runner.say(arm=str(path), deadline=PAST)
    runner.say(leave=True)
    runner.dies()
    Watch(runner.theirs, tmp_path, host).run()  # ends, though the holder does not
    assert not nic.up
    assert nic.holders == [PID]
    assert journal.read(path).phase == "claimed"


def test_what_could_not_go_back_at_once_is_tried_again(runner: Runner, tmp_path: Path) -> None:
    kernel = furnished()
    path = waiting(tmp_path, kernel)
    kernel.nics[0].present = False
    host = FakeHost(kernel)
    host.at_pause = lambda: setattr(kernel.nics[0], "present", 60.0 in host.pauses)
    runner.say(arm=str(path), deadline=PAST)
    runner.say(leave=True)
    runner.dies()
    Watch(runner.theirs, tmp_path, host).run()
    assert kernel.nics[0].up
    assert not path.exists()


def test_whatever_keeps_it_from_going_back_it_is_tried_until_it_has(
    runner: Runner, tmp_path: Path
) -> None:
    """A state directory that others may write to for a while: no attempt is the last."""
    kernel = furnished()
    path = waiting(tmp_path, kernel)
    tmp_path.chmod(0o777)
    host = FakeHost(kernel)

    def mended_later() -> None:
        if len(host.pauses) > 12:
            tmp_path.chmod(0o700)

    host.at_pause = mended_later
    runner.say(arm=str(path), deadline=PAST)
    runner.say(leave=True)
    runner.dies()
    Watch(runner.theirs, tmp_path, host).run()
    assert kernel.nics[0].up
    assert not path.exists()
    assert len(host.pauses) > 12


def test_a_journal_that_cannot_be_read_for_long_is_tried_until_it_can(
    runner: Runner, tmp_path: Path
) -> None:
    kernel = furnished()
    path = waiting(tmp_path, kernel)
    good = path.read_bytes()
    path.write_bytes(good.replace(b'"claimed"', b'"clamied"'))
    host = FakeHost(kernel)

    def mended_later() -> None:
        if len(host.pauses) == 70:
            path.write_bytes(good)

    host.at_pause = mended_later
    runner.say(arm=str(path), deadline=PAST)
    runner.say(leave=True)
    runner.dies()
    Watch(runner.theirs, tmp_path, host).run()
    assert len(host.pauses) > 70
    assert kernel.nics[0].up
    assert not path.exists()


@pytest.mark.parametrize("stays", [False, True])
def test_what_a_runner_has_left_is_read_again_while_it_cannot_be(
    tmp_path: Path, runner: Runner, stays: bool
) -> None:
    """Where it cannot be read at all, the deadline ends the claim."""
    kernel = furnished()
    path = waiting(tmp_path, kernel)
    good = path.read_bytes()
    path.write_bytes(b"not a journal\n" + good)
    host = FakeHost(kernel)

    def mended_later() -> None:
        if len(host.pauses) == 3 and not stays:
            path.write_bytes(good)

    host.at_pause = mended_later
    watch = Watch(runner.theirs, tmp_path, host)
    assert watch._stands(path) is False  # it has not said that it leaves
    watch._left = True
    assert watch._stands(path) is True
    assert host.pauses == [1.0] * (60 if stays else 3)
    path.unlink()
    assert watch._stands(path) is False


def test_a_claim_whose_journal_is_gone_is_over(tmp_path: Path, runner: Runner) -> None:
    path = waiting(tmp_path, furnished())
    watch = Watch(runner.theirs, tmp_path, FakeHost(furnished()))
    assert watch._is_confirmed(path) is False
    path.unlink()
    assert watch._is_confirmed(path) is True


def test_a_socket_that_fails_is_the_end_of_the_runner(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = furnished()
    path = claimed(tmp_path, kernel, command=("sleep",))
    runner.say(arm=str(path), deadline=None)
    watch = Watch(runner.theirs, tmp_path, FakeHost(kernel))
    watch._told()
    runner.theirs.setblocking(False)  # as if it were reset: nothing can be read of it
    watch._told()
    assert watch._why == "abandoned"


class Answering:
    """The guardian's end of the socket, for what it has to say."""

    def __init__(self, **answer: object) -> None:
        self.answer, self.heard = answer, list[object]()

    def sendall(self, data: bytes) -> None:
        self.heard.append(json.loads(data))

    def recv(self, _size: int) -> bytes:
        return json.dumps(self.answer).encode()


def test_a_runner_that_leaves_says_so_and_hears_when_that_is_too_late() -> None:
    for late in (False, True):
        sock = Answering(failed=None, late=late)
        guard = guardian.LiveGuard(sock, os.getpid())  # type: ignore[arg-type]
        if late:
            with pytest.raises(RolledBack, check=Coded("guardian")) as caught:
                guard.leave()
            with wording:
                assert "--confirm-within" in (caught.value.hint or "")
        else:
            guard.leave()
        assert sock.heard == [{"leave": True}]


def test_a_guardian_that_cannot_be_started_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(guardian.socket, "socketpair", fails)
    with pytest.raises(RolledBack, match="Too many open files", check=Coded("guardian")):
        guardian.start(tmp_path, FakeHost(furnished()))


def test_a_fault_of_our_own_is_logged_and_not_the_end(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = furnished()
    path = waiting(tmp_path, kernel)
    host = FakeHost(kernel)
    logged: list[str] = []
    faults = iter([MemoryError(), ValueError("never thought of")])
    look = host.look

    def failing() -> Report:
        if (fault := next(faults, None)) is not None:
            raise fault
        return look()

    monkeypatch.setattr(host, "look", failing)
    monkeypatch.setattr(guardian, "to_syslog", lambda lines, *_: logged.append(lines[-1]))
    runner.say(arm=str(path), deadline=PAST)
    runner.say(leave=True)
    runner.dies()
    Watch(runner.theirs, tmp_path, host).run()
    assert kernel.nics[0].up
    assert logged == ["MemoryError", "ValueError: never thought of"]


def test_a_confirmation_counts_once_its_writer_has_let_go(runner: Runner, tmp_path: Path) -> None:
    """Its record is taken back when it cannot be synced; its writer has the lock until then."""
    kernel = furnished()
    path = waiting(tmp_path, kernel)
    before = path.read_bytes()
    watch = Watch(runner.theirs, tmp_path, FakeHost(kernel))
    with Journal.open(path) as log:
        log.append("confirmed", by={})
    assert watch._is_confirmed(path)
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        with lock.functions(tmp_path, [kernel.nics[0].pci]):
            os.write(ready[1], b"!")
            os.read(go[0], 1)
            path.write_bytes(before)
        os._exit(0)
    os.read(ready[0], 1)
    os.write(go[1], b"!")
    assert not watch._is_confirmed(path)
    os.waitpid(pid, 0)
    assert not watch._is_confirmed(path)


def test_a_confirmation_is_waited_for_while_its_writer_has_the_lock(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written after it: who does not wait would not hear of it before the deadline."""
    kernel = furnished()
    path = waiting(tmp_path, kernel)
    confirmed(path)
    waits: list[float] = []

    @contextlib.contextmanager
    def functions(_state_dir: Path, _pcis: object, *, wait: float = 0.0) -> Iterator[None]:
        waits.append(wait)
        yield

    monkeypatch.setattr(lock, "functions", functions)
    assert Watch(runner.theirs, tmp_path, FakeHost(kernel))._is_confirmed(path)
    assert waits == [30.0]


def test_what_a_runner_writes_that_lives_is_no_end(runner: Runner, tmp_path: Path) -> None:
    """The claim of a command is not to be confirmed, so nothing says that it is not."""
    kernel = furnished()
    path = claimed(tmp_path, kernel, command=("testpmd",))
    watch = Watch(runner.theirs, tmp_path, FakeHost(kernel))
    runner.say(arm=str(path), deadline=None)
    watch._told()
    confirmed(path)
    watch._written()
    runner.dies()
    watch.run()
    assert kernel.nics[0].up
    assert released(tmp_path, path) == ["abandoned"]


def test_one_that_cannot_even_begin_is_no_riddle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(ours: socket.socket, theirs: socket.socket, *_: object) -> None:
        os._exit(0)

    monkeypatch.setattr(guardian, "_second_fork", nothing)
    with pytest.raises(
        RolledBack, match=says(r"it ended at once .*; no port is claimed"), check=Coded("guardian")
    ):
        guardian.start(tmp_path, FakeHost(furnished()))


def test_one_that_fails_says_why_in_the_system_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "log"

    def fails(*_: object) -> None:
        raise KeyError("scope")

    def log(lines: Iterable[str], *how: int) -> None:
        said.write_text(json.dumps([how, *lines]))

    monkeypatch.setattr(guardian.own_scope, "enter", fails)
    monkeypatch.setattr(guardian, "to_syslog", log)
    with pytest.raises(RolledBack):
        guardian.start(tmp_path, FakeHost(furnished()))
    how, first, *trace = json.loads(said.read_text())
    assert (how, first) == ([3, 3], progress_words.GUARDIAN_FAILED)
    assert trace[-1] == "KeyError: 'scope'"


# --- what a claim does about it ----------------------------------------------------------------


def test_the_guardian_is_armed_before_the_first_change(tmp_path: Path) -> None:
    kernel = furnished()
    guard = Told()
    path = claim(tmp_path, FakeHost(kernel), guard=guard, command=("testpmd",)).journal
    assert path is not None
    assert guard.said == [("arm", path, None)]
    first, second = journal.read(path).records[:2]
    assert (first["event"], first["guardian"]) == ("armed", 4242)
    assert (first["deadline"], "confirm_by" in first) == (None, False)
    assert (first["runner"], first["runner_started"]) == (
        os.getpid(),
        unconfirmed.started(os.getpid()),
    )
    assert first["pid_namespace"] == os.readlink("/proc/self/ns/pid")
    assert second["event"] == "doing"


def test_when_it_goes_back_is_on_the_disk_before_the_first_change(tmp_path: Path) -> None:
    kernel = furnished()
    guard = Told(started=7)
    start = kernel.clock
    result = claim(tmp_path, FakeHost(kernel), guard=guard, confirm_within=90)
    path = result.journal
    assert path is not None
    arm, leave = guard.said
    assert leave == ("leave",)
    assert arm[:2] == ("arm", path)
    assert start + 90 <= float(str(arm[2])) <= kernel.clock + 90
    first, second, *_ = journal.read(path).records
    assert (first["event"], first["deadline"], first["started"]) == ("armed", arm[2], 7)
    assert second["event"] == "doing"
    assert result.confirm_by is not None
    assert journal.stamp(result.confirm_by) == first["confirm_by"]
    assert result.plan is not None
    with wording:
        assert any("is released automatically 90 s after" in note for note in result.plan.notes)


def test_without_a_descriptor_to_look_at_itself_no_journal_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(unconfirmed, "started", lacks)
    kernel = furnished()
    with pytest.raises(ManactlError):
        claim(tmp_path, FakeHost(kernel), guard=Told(), command=("testpmd",))
    assert kernel.links == []
    assert list((tmp_path / "claims").iterdir()) == []


def test_without_its_guardian_nothing_is_touched(tmp_path: Path) -> None:
    kernel = furnished()
    with pytest.raises(ManactlError, match="nothing was touched") as caught:
        claim(tmp_path, FakeHost(kernel), guard=Told(fails=True), command=("testpmd",))
    assert (caught.value.exit_code, caught.value.code) == (4, "guardian")
    assert kernel.links == []
    assert list((tmp_path / "claims").iterdir()) == []


# --- a real one ---------------------------------------------------------------------------------


def gone(pid: int) -> bool:
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            if select.select([fd], [], [], 1)[0]:
                return True
        finally:
            os.close(fd)
    return False


def test_a_real_one_has_left_the_session_and_holds_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a file system that is in use cannot be unmounted
    read, write = os.pipe()
    high = fcntl.fcntl(write, fcntl.F_DUPFD_CLOEXEC, 200)
    host = FakeHost(furnished())
    with guardian.start(tmp_path, host) as guard:
        os.close(write)
        os.close(high)
        assert os.read(read, 1) == b""  # nobody else has that end
        os.close(read)
        stat = Path(f"/proc/{guard.pid}/stat").read_text().rpartition(")")[2].split()
        assert int(stat[1]) != os.getpid()
        assert int(stat[3]) != os.getsid(0)
        assert int(stat[3]) != guard.pid  # no leader: it can get no terminal
        assert Path(f"/proc/{guard.pid}/comm").read_text() == "manactl-guard\n"
        links = [os.readlink(f"/proc/{guard.pid}/fd/{number}") for number in (0, 1, 2)]
        assert links == ["/dev/null"] * 3
        assert os.readlink(f"/proc/{guard.pid}/cwd") == "/"
        lines = Path(f"/proc/{guard.pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if line.startswith("Sig"))
        blocked, ignored = (int(status[name], 16) for name in ("SigBlk", "SigIgn"))
        assert (blocked, ignored >> signal.SIGTERM - 1 & 1) == (0, 0)
        for number in (
            signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGPIPE,
        ):  # fmt: skip
            assert ignored >> number - 1 & 1, number
        with pytest.raises(RolledBack, match="No such file"):
            guard.arm(tmp_path / "none", None)
    assert gone(guard.pid)


def test_one_that_was_killed_is_missed(tmp_path: Path) -> None:
    with guardian.start(tmp_path, FakeHost(furnished())) as guard:
        os.kill(guard.pid, 9)
        assert gone(guard.pid)
        with pytest.raises(RolledBack, match=r"it has ended|Broken pipe"):
            guard.watch(os.getpid())


def test_one_that_is_armed_ends_with_its_journal(tmp_path: Path) -> None:
    kernel = furnished()
    path = claimed(tmp_path, kernel)
    with guardian.start(tmp_path, FakeHost(kernel)) as guard:
        guard.arm(path, None)
        with Journal.open(path) as log:
            log.append("closed", how="released")
            log.archive()
        assert gone(guard.pid)


def children() -> set[int]:
    tasks = Path("/proc/self/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


def test_starting_it_leaves_no_child(tmp_path: Path) -> None:
    """It is nobody's child, and the one between has been waited for: no zombie beside the command."""
    before = children()
    with guardian.start(tmp_path, FakeHost(furnished())):
        assert children() == before
