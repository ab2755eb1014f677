"""System calls that fail, and signals, at any call of a command: the code is the deed's, nothing is
left half done, and nothing that could not be looked at counts as looked at."""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from manactl.act import audit, guardian
from manactl.act import host as hosts
from manactl.act import signals as interruption
from manactl.cli.main import main
from manactl.journal import file as journal
from tests.unit.act.test_guardian import Guarded
from tests.unit.faults import Calls, Fault, some, some_signals
from tests.unit.host import FakeHost, FakeSystem, claim, furnished, release, two_ports
from tests.unit.kernel import Kernel

UNTOUCHED = ("nothing was touched", "nothing was changed", "no port was touched", "no port was changed")


class Careful(FakeSystem):
    """Says whether anything was asked of the kernel."""

    def set_admin(self, port: Any, up: bool) -> None:
        self.host.touched = True  # type: ignore[attr-defined]
        super().set_admin(port, up)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No system log, and the default of every signal."""
    monkeypatch.setattr(audit, "SYSLOG", "/nonexistent/log")
    monkeypatch.setattr(guardian, "start", lambda *_: Guarded(pid=os.getpid()))
    before = {number: signal.signal(number, signal.SIG_DFL) for number in interruption.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Ran:
    def __init__(self, words: tuple[str, ...], state: Path, kernel: Kernel, faults: tuple[Fault, ...]) -> None:
        host = FakeHost(kernel)
        host.systems = Careful
        host.touched = False  # type: ignore[attr-defined]
        self.calls = Calls()
        self.faults = faults
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hosts, "LiveHost", lambda: host)
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            with self.calls.watched(*faults):
                self.code = main(["--state-dir", str(state), *words])
        self.out, self.err = out.getvalue(), err.getvalue()
        self.touched = host.touched  # type: ignore[attr-defined]

    def __str__(self) -> str:
        names = [self.calls.names[one.at] for one in self.faults if one.at < len(self.calls.names)]
        return f"{list(map(str, self.faults))} {names}: {self.code}\n{self.out}{self.err}"


def left(state: Path) -> list[str]:
    claims, unreadable = journal.list_claims(state, "boot-1")
    assert not unreadable
    return [str(one.phase) for one in claims]


def judged_claim(ran: Ran, state: Path, kernel: Kernel, before: object) -> None:
    """Done, or not: then all is as it was, or the journal is there and says it."""
    assert "bug" not in ran.out + ran.err, ran
    assert "Traceback" not in ran.err, ran
    assert ran.code in (0, 3, 4, 5, 6, 7, 8, 130), ran
    phases = left(state)
    if ran.code == 0:
        assert phases == ["claimed"], ran
        assert not kernel.nics[0].up, ran
    else:
        if "claimed" in phases:  # a record that could not be taken back: recover would let it stand
            assert ran.code == 5, ran
            assert "manactl release eth1" in ran.err, ran
        if ran.code != 5:
            assert phases == [], ran
            assert kernel.picture() == before, ran
        if ran.code in (3, 6, 7, 130) or any(word in ran.err for word in UNTOUCHED):
            assert not ran.touched, ran
    release(state, FakeHost(kernel))
    assert kernel.picture() == before, ran
    assert left(state) == [], ran
