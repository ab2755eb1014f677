"""A child process that works out one answer, and what becomes of it."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from manactl.look import forked
from manactl.look.forked import Child

# A test runner may have threads; the command has none.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
LONG = 60.0  # s: never waited for


def never() -> None:
    signal.pause()


def test_the_answer_is_worked_out_in_another_process() -> None:
    assert Child(os.getppid).collect(LONG) == os.getpid()


@pytest.mark.parametrize(
    "answer", [0, "", [], {"a": [1, (2, b"\xff")]}, "\udcff", b"x" * 1_000_000, None]
)
def test_answers_come_back_as_they_are(answer: object) -> None:
    assert Child(lambda: answer).collect(LONG) == answer


def fail() -> None:
    raise PermissionError(errno.EPERM, "no")


def leave() -> None:
    os._exit(0)


@pytest.mark.parametrize("answer", [fail, leave, object])
def test_a_failure_is_no_answer(answer: Callable[[], Any], capfd: Any) -> None:
    """Also of what marshal does not know; and nothing of it is printed."""
    assert Child(answer).collect(LONG) is None
    assert capfd.readouterr() == ("", "")


def test_an_answer_that_does_not_come_costs_the_wait_and_no_more() -> None:
    child = Child(never)
    assert child.collect(0.05) is None
    assert child._pid in forked._left_behind


def test_the_child_is_killed_and_reaped_later() -> None:
    child = Child(never)
    child.collect(0.0)
    # It is dead or dying; WNOWAIT leaves it to be reaped by the next one.
    os.waitid(os.P_PID, child._pid, os.WEXITED | os.WNOWAIT)
    assert Child(lambda: 1).collect(LONG) == 1
    assert child._pid not in forked._left_behind
    with pytest.raises(ProcessLookupError):
        os.kill(child._pid, 0)


def test_a_child_that_answered_leaves_nothing() -> None:
    before = set(os.listdir("/proc/self/fd"))
    child = Child(lambda: 1)
    assert child.collect(LONG) == 1
    assert set(os.listdir("/proc/self/fd")) == before
    assert child._pid not in forked._left_behind
    with pytest.raises(ChildProcessError):
        os.waitpid(child._pid, os.WNOHANG)


def test_a_child_that_was_reaped_by_somebody_else_is_forgotten() -> None:
    child = Child(never)
    child.collect(0.0)
    os.waitpid(child._pid, 0)
    Child(lambda: 1).collect(LONG)
    assert child._pid not in forked._left_behind


def test_the_child_has_no_descriptor_of_ours_but_the_pipe() -> None:
    """A reader of our output must not wait for it."""
    read, write = os.pipe()
    os.set_inheritable(write, True)

    def descriptors() -> list[Any]:
        known = {
            n: os.readlink(f"/proc/self/fd/{n}")
            for n in map(int, os.listdir("/proc/self/fd"))
            if n < 3
        }
        try:
            os.fstat(write)
        except OSError as error:
            return [known, error.errno]
        return [known, 0]

    answer = Child(descriptors).collect(LONG)
    os.close(read)
    os.close(write)
    assert answer == [dict.fromkeys(range(3), "/dev/null"), errno.EBADF]


def test_a_child_dies_by_kill_alone_and_its_parent_lives() -> None:
    child = Child(never)
    child.collect(0.0)
    status = os.waitpid(child._pid, 0)[1]
    assert os.WTERMSIG(status) == signal.SIGKILL
