"""A child that answers, or does not: whatever comes between, the question costs nobody more."""

from __future__ import annotations

import errno
import marshal
import os
import signal
import time
from collections.abc import Callable

import pytest

from manactl.look import forked
from manactl.look.forked import Child, collect_unless_blocked

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def test_the_answer_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    assert Child(lambda: {"a": (1, b"x", None)}).collect(60) == {"a": (1, b"x", None)}
    assert sorted(os.listdir("/proc/self/fd")) == before


def killed_while_it_writes() -> object:
    """Half of an answer is in the pipe when the process is gone."""
    (pipe,) = [
        int(fd) for fd in os.listdir("/proc/self/fd") if writable_pipe(int(fd))
    ]  # the one that the child was given
    os.write(pipe, marshal.dumps(list(range(1000)))[:500])
    os.kill(os.getpid(), signal.SIGKILL)
    return None


def writable_pipe(fd: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:")
    except OSError:
        return False


def fails() -> object:
    raise ZeroDivisionError


def unknown_to_marshal() -> object:
    return object()


@pytest.mark.parametrize("answer", [killed_while_it_writes, fails, unknown_to_marshal])
def test_a_child_that_fails_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[], object]
) -> None:
    fork = os.fork
    children: list[int] = []

    def noted() -> int:
        children.append(fork())
        return children[-1]

    monkeypatch.setattr(os, "fork", noted)
    before = sorted(os.listdir("/proc/self/fd"))
    assert Child(answer).collect(60) is None
    assert sorted(os.listdir("/proc/self/fd")) == before
    (child,) = children
    with pytest.raises(ChildProcessError):  # it was waited for; whoever runs this may have others
        os.waitpid(child, os.WNOHANG)


@pytest.mark.parametrize(("call", "number"), [("fork", errno.EAGAIN), ("pipe", errno.EMFILE)])
def test_without_a_child_there_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    def none() -> int:
        raise OSError(number, os.strerror(number))

    before = sorted(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, call, none)
        child = Child(lambda: 1)
    assert child.collect(60) is None
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_child_that_does_not_answer_is_left_behind_and_reaped_later() -> None:
    child = Child(lambda: time.sleep(3600))
    assert child.collect(0) is None
    assert Child(lambda: 1).collect(60) == 1


def test_the_child_keeps_nothing_of_ours_open() -> None:
    """A lock that a hanging child holds would be held for good; descriptors below and above the
    pipe's are closed."""
    with open("/dev/null") as below:
        high = os.dup2(below.fileno(), 900)
        try:
            found = Child(lambda: [fd for fd in (below.fileno(), high) if is_open(fd)]).collect(60)
        finally:
            os.close(high)
    assert found == []


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_signal_in_the_child_is_none_of_its_business(monkeypatch: pytest.MonkeyPatch) -> None:
    """^C reaches the whole process group. A handler that ran in the child would have it leave by
    our own way out: it would say that it was interrupted, and take back what is ours."""
    real = os.fork
    parent = os.getpid()

    def interrupted() -> int:
        pid = real()
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGINT)
        return pid

    monkeypatch.setattr(os, "fork", interrupted)
    assert Child(lambda: os.getpid() != parent).collect(5.0) is True


def busy_for(seconds: float) -> Callable[[], object]:
    def answer() -> object:
        while time.process_time() < seconds:
            pass
        return "done"

    return answer


def test_a_child_that_runs_is_waited_for_and_one_that_is_blocked_is_not() -> None:
    """A machine that is short of processors is no kernel that does not answer."""
    before = sorted(os.listdir("/proc/self/fd"))
    children = [Child(busy_for(0.5)), Child(lambda: time.sleep(3600)), Child(fails)]
    assert collect_unless_blocked(children, 0.2, 60) == ["done", None, None]
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_child_that_runs_for_ever_is_not_waited_for_for_ever() -> None:
    assert collect_unless_blocked([Child(busy_for(3600))], 0.1, 0.3) == [None]


def test_a_machine_that_stood_still_has_blocked_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of a virtual machine goes on while its host lets none of its processors run."""
    real = time.monotonic
    readings: list[float] = []

    def jumped() -> float:
        readings.append(real())
        return readings[-1] + (20 if len(readings) > 1 else 0)

    monkeypatch.setattr(forked.time, "monotonic", jumped)
    child = Child(lambda: time.sleep(0.5) or "done")
    assert collect_unless_blocked([child], 2, 5) == ["done"]
    assert len(readings) > 1


def test_an_answer_that_is_there_counts_however_late_it_is_read() -> None:
    child = Child(lambda: "done")
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert child.collect(0) == "done"


def test_a_process_of_another_shows_no_life() -> None:
    """/proc may be of another pid namespace, and the number of somebody else there."""
    assert forked._life(os.getpid()) == b""  # it is not a child of itself
    assert forked._life(0) == b""


def test_without_a_child_none_of_several_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> int:
        raise OSError(errno.EAGAIN, "")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", none)
        child = Child(lambda: 1)
    assert collect_unless_blocked([child, Child(lambda: 2)], 60, 60) == [None, 2]
    assert collect_unless_blocked([], 60, 60) == []
