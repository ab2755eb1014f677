"""Words and signals while a step is stuck."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from manactl.act import signals as interrupt
from manactl.act.signals import SignalGate, StopRequested, stuck_in
from manactl.errors import Interrupted
from tests.conftest import lacking
from tests.unit.wording import OWN_WORDS, says, wording


@pytest.fixture(autouse=True)
def undisturbed() -> Iterator[None]:
    """What ran us may ignore the signals (nohup does)."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in interrupt.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Said:
    """What was said, and the wait for it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.news = threading.Condition()

    def __call__(self, line: str) -> None:
        with self.news:
            self.lines.append(line)
            self.news.notify()

    def wait_for(self, text: str) -> str:
        text = text if OWN_WORDS else ""
        with self.news:
            assert self.news.wait_for(lambda: any(text in line for line in self.lines), 60), text
            return next(line for line in self.lines if text in line)


def proc(root: Path, state: str, stack: str | None, others: tuple[str, ...] = ()) -> str:
    """A /proc of one thread, and of other processes that wait in the driver."""
    task = root / "self/task/77"
    task.mkdir(parents=True)
    (task / "stat").write_text(f"77 (ma) nactl) {state} 1 2 3\n")
    if stack is not None:
        (task / "stack").write_text(stack)
    for pid, function in enumerate(others, 9001):
        (root / str(pid)).mkdir()
        (root / str(pid) / "stat").write_text(f"{pid} (ip) D 1 2 3\n")
        (root / str(pid) / "stack").write_text(f"[<0>] {function}+0x1/0x2 [mana]\n")
    return str(root)


IN_DRIVER = "[<0>] msleep+0x2d/0x40\n[<0>] mana_hwc_send_request+0x4f1/0x6a0 [mana]\n"
FOR_RTNL = "[<0>] rtnetlink_rcv_msg+0x1f/0x30\n"


@pytest.mark.wording
def test_the_driver_is_named(tmp_path: Path) -> None:
    words = stuck_in(77, proc(tmp_path, "D", IN_DRIVER))
    assert words == "the driver waits for the device to answer (mana_hwc_send_request)"


def test_whoever_has_the_network_lock_is_named(tmp_path: Path) -> None:
    words = stuck_in(77, proc(tmp_path, "D", FOR_RTNL, ("mana_hwc_send_request",)))
    assert words is not None
    with wording:
        assert "ip (pid 9001) has the kernel's network lock" in words


@pytest.mark.wording
def test_any_other_place_is_named(tmp_path: Path) -> None:
    assert stuck_in(77, proc(tmp_path, "D", FOR_RTNL)) == "the kernel is in rtnetlink_rcv_msg"


def test_without_root_it_is_a_guess_and_sleeping_is_not_stuck(tmp_path: Path) -> None:
    with wording:
        assert "usually" in (stuck_in(77, proc(tmp_path / "a", "D", None)) or "")
    assert stuck_in(77, proc(tmp_path / "b", "S", FOR_RTNL)) is None
    assert stuck_in(78, proc(tmp_path / "c", "D", IN_DRIVER)) is None


def test_a_step_that_takes_long_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "stuck_in", lambda thread, proc: "the driver waits")
    said = Said()
    with SignalGate(said, patience=0.01) as signals, signals.step("set eth1 down"):
        line = said.wait_for("the driver waits")
    with wording:
        assert line == "set eth1 down: not done after 0 s: the driver waits; still waiting"


def reporters() -> int:
    """Whoever runs us may have threads of his own."""
    return sum(thread.name == "stuck-step" for thread in threading.enumerate())


def test_a_quick_step_says_nothing() -> None:
    said = Said()
    with SignalGate(said) as signals:
        for _ in range(3):
            with signals.step("set eth1 down"):
                assert reporters() == 1
    assert said.lines == []
    assert reporters() == 0


@pytest.mark.parametrize(
    ("phase", "reply"),
    [("look", "will stop when"), ("act", "will undo when"), ("unwind", "ignored, since")],
)
def test_a_signal_is_noted_while_the_main_thread_cannot_hear_it(phase: str, reply: str) -> None:
    """The signal comes while the system call runs; the lock stands for one that does not end."""
    said, held = Said(), threading.Event()
    caught: StopRequested | None = None
    with SignalGate(said) as signals:
        if phase == "act":
            signals.acting()
        if phase == "unwind":
            signals.ignore()
        try:
            with signals.step("set eth1 down"):
                blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
                assert signal.SIGINT in blocked
                os.kill(os.getpid(), signal.SIGINT)
                said.wait_for(reply)
                held.set()
            signals.boundary()
        except StopRequested as stop:
            caught = stop
    assert (caught is None) is (phase == "unwind")
    assert said.lines[0].startswith("SIGINT: ")
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def test_a_signal_that_is_reported_late_is_not_said_to_be_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a busy machine the step is over, and is being undone, before the thread gets to it."""
    monkeypatch.setattr(interrupt, "stuck_in", lambda thread, proc: "the driver waits")
    said, writing, go_on = Said(), threading.Event(), threading.Event()

    def slow(line: str) -> None:
        writing.set()
        assert go_on.wait(60)
        said(line)

    with SignalGate(slow, patience=0.01) as signals:
        signals.acting()
        with signals.step("set eth1 down"):
            assert writing.wait(60)
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(StopRequested):
            _until_it_counts(signals)
        signals.ignore()
        go_on.set()
        said.wait_for("SIGINT: ")
        with signals.step("set eth1 up"):
            os.kill(os.getpid(), signal.SIGINT)
            said.wait_for("ignored, since")
    with wording:
        first, second = (line for line in said.lines if line.startswith("SIGINT"))
        assert (first, second) == (
            "SIGINT: will undo when the current system call returns",
            "SIGINT: ignored, since the change under way has to be finished",
        )


def _until_it_counts(signals: SignalGate) -> None:
    """The kernel may give the signal to the other thread, whose handler is this one's affair."""
    for _ in range(600):
        signals.pause(0.1)


def test_a_signal_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    said = Said()
    with SignalGate(said) as signals, signals.step("set eth1 down"):
        os.kill(os.getpid(), signal.SIGHUP)
    assert said.lines == []


def interrupted_while_looking() -> None:
    with SignalGate(Said()) as signals, signals.as_interrupted(), signals.step("look at eth1"):
        os.kill(os.getpid(), signal.SIGTERM)
        while True:
            threading.Event().wait(0.02)


def test_before_the_first_act_a_signal_is_code_130() -> None:
    with pytest.raises(Interrupted, match=says("SIGTERM; nothing was changed")) as caught:
        interrupted_while_looking()
    assert caught.value.exit_code == 130


def test_a_signal_that_came_meanwhile_counts_when_signals_are_heard_again() -> None:
    with SignalGate() as signals:
        signals.listen()  # nothing came yet
        signals.ignore()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StopRequested, match="15") as caught:
            signals.listen()
        assert caught.value.name == "SIGTERM"


def test_a_signal_is_heard_again_between_two_things_that_are_not_left_half_done() -> None:
    with SignalGate() as signals:
        signals.ignore()
        signals.listen()
        with pytest.raises(StopRequested):
            os.kill(os.getpid(), signal.SIGINT)


def no_pipe(*_args: object) -> tuple[int, int]:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def no_thread(*_args: object) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize(
    ("where", "name", "fails"),
    [(os, "pipe2", no_pipe), (threading.Thread, "start", no_thread)],
)
def test_a_step_runs_without_a_thread_or_a_pipe(
    monkeypatch: pytest.MonkeyPatch, where: object, name: str, fails: Callable[..., object]
) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(where, name, fails)
    said = Said()
    done = []
    with SignalGate(said) as signals:
        signals.acting()
        for number in range(2):
            with signals.step("set eth1 down"):
                done.append(number)
                assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(StopRequested):
            signals.boundary()
        signals.boundary()  # once is enough: unwinding is not interrupted again
    assert (done, said.lines) == ([0, 1], [])
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1


def test_nobody_who_listens_does_not_end_the_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error on a full device; and no descriptor for a look at /proc."""
    answers: list[str | OSError] = [OSError(errno.EMFILE, "Too many open files"), "it waits", "x"]
    calls = 0
    heard = threading.Event()

    def stuck(_thread: int, _proc: str) -> str:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, OSError):
            raise answer
        return answer

    def say(_line: str) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            heard.set()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(interrupt, "stuck_in", stuck)
    monkeypatch.setattr(interrupt, "AGAIN", 0.001)
    with SignalGate(say, patience=0.001) as signals, signals.step("set eth1 down"):
        assert heard.wait(60)


def test_descriptors_above_those_of_select_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        lacking("netns", "no more than 1024 descriptors here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
    real = os.pipe2

    def high(flags: int) -> tuple[int, int]:
        moved = []
        for end in real(flags):
            moved.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 1500))
            os.close(end)
        return moved[0], moved[1]

    monkeypatch.setattr(os, "pipe2", high)
    monkeypatch.setattr(interrupt, "stuck_in", lambda thread, proc: "the driver waits")
    said = Said()
    try:
        with SignalGate(said, patience=0.01) as signals, signals.step("set eth1 down"):
            said.wait_for("the driver waits")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_only_the_first_signal_while_looking_counts() -> None:
    with SignalGate() as signals:
        with pytest.raises(StopRequested) as caught:
            signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGINT)
        signals.boundary()
    assert caught.value.name == "SIGHUP"
    assert isinstance(caught.value, KeyboardInterrupt)
    assert not isinstance(caught.value, Exception)


def test_a_signal_that_was_noted_is_forgotten_when_unwinding_begins() -> None:
    with SignalGate() as signals:
        signals.acting()
        signal.raise_signal(signal.SIGINT)
        signals.ignore()
        signals.boundary()
        signals.pause(0)


def test_a_pause_without_a_signal_is_as_long_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]

    def sleep(seconds: float) -> None:
        assert 0 < seconds <= 0.1
        now[0] += seconds

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", sleep)
    with SignalGate() as signals:
        signals.acting()
        signals.pause(0.75)
    assert now[0] == pytest.approx(100.75)


def test_a_signal_ends_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may have been given it: then no sleep of ours has ended early."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("time.sleep", sleep)
    with SignalGate() as signals:
        signals.acting()
        with pytest.raises(StopRequested):
            signals.pause(60.0)
    assert len(slept) == 1
    assert slept[0] < 1
