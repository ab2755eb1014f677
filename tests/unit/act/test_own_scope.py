"""A scope for this process: what systemd is asked for, and when it is not. The lab has a real one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from manactl.act import guardian, own_scope
from manactl.look import bus
from manactl.look.bus import Bus

NAME = "manactl-guard-7.scope"


class Systemd:
    """Moves the process, or refuses, and remembers what it was asked for."""

    def __init__(self, root: Path, *, fails: bool = False) -> None:
        self.root = root
        self.fails = fails
        self.asked: list[Sequence[str]] = []

    def __call__(self, words: Sequence[str]) -> str:
        self.asked.append(words)
        if self.fails:
            raise OSError("busctl call: Access denied")
        cgroup = self.root / "proc/self/cgroup"
        cgroup.write_text(f"0::/system.slice/{words[words.index('fail') - 1]}\n")
        return '{"type":"o","data":["/org/freedesktop/systemd1/job/4711"]}\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "proc/self/ns").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/user.slice/user-0.slice/session-1.scope\n")
    (tmp_path / "proc/self/ns/pid").symlink_to("pid:[4026531836]")
    return tmp_path


def enter(root: Path, systemd: Systemd) -> bool:
    return own_scope.enter(NAME, "the guardian of a claim", Bus(systemd), root=str(root))


def test_systemd_is_asked_to_adopt_this_process_alone(root: Path) -> None:
    systemd = Systemd(root)
    assert enter(root, systemd)
    (words,) = systemd.asked
    assert words[:5] == [
        "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager", "StartTransientUnit",
    ]  # fmt: skip
    assert words[5:8] == ["ssa(sv)a(sa(sv))", NAME, "fail"]
    assert words[words.index("PIDs") :][:4] == ["PIDs", "au", "1", str(os.getpid())]


def test_one_that_refuses_leaves_it_where_it_is(root: Path) -> None:
    assert not enter(root, Systemd(root, fails=True))


def test_without_systemd_nobody_is_asked(root: Path) -> None:
    (root / "run/systemd/system").rmdir()
    systemd = Systemd(root)
    assert not enter(root, systemd)
    assert systemd.asked == []


def test_in_a_container_the_pid_would_be_another_process(root: Path) -> None:
    (root / "proc/self/ns/pid").unlink()
    (root / "proc/self/ns/pid").symlink_to("pid:[4026532291]")
    systemd = Systemd(root)
    assert not enter(root, systemd)
    assert systemd.asked == []


def test_what_systemd_does_not_do_is_not_believed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_scope, "_MOVED", 0.02)
    answer = '{"type":"o","data":["/org/freedesktop/systemd1/job/4711"]}\n'
    assert not own_scope.enter(NAME, "nobody", Bus(lambda _: answer), root=str(root))


def test_whoever_waits_for_this_process_waits_longer() -> None:
    """A bus that hangs costs the scope, not the claim."""
    assert guardian._ANSWER > own_scope.AT_MOST > bus.longest(own_scope._ASKED)
