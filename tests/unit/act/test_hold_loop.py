"""What the loop of hold asks of its keeper, and when: on descriptors that are real."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from manactl.act.hold_loop import Loop
from manactl.act.service import Service
from manactl.cli.hold import Teller
from manactl.errors import Refused
from manactl.look.file_events import FileEvents
from manactl.model.hold import Apart, Target

PCI = "7870:00:00.0"


class FakeKeeper:
    """Counts what the loop asks of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.again_in: float | None = None
        self.targets: tuple[Target, ...] = ()
        self.apart = Apart()
        self.unlocked: dict[str, str] = {}
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
    keeper.unlocked = {PCI: "Too many open files"}
    one.run()
    assert keeper.asked == ["reload", "again", "again", "again"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("it is tried again: Too many open files")


def test_journals_that_were_written_are_read_again(
    loop: tuple[Loop, FakeKeeper], tmp_path: Path
) -> None:
    one, keeper = loop
    claims = tmp_path / "claims"
    claims.mkdir()
    with FileEvents(claims) as files:
        one.on(files.fd, lambda: one.written(files, claims))
        (claims / "new").touch()
        one.run()
    assert keeper.asked == ["reload", "reload"]


def test_what_could_not_be_read_is_read_again(
    loop: tuple[Loop, FakeKeeper], tmp_path: Path
) -> None:
    """Nothing is announced when there are descriptors again, or a disk."""
    one, keeper = loop
    keeper.apart = Apart(unread=("journal x could not be read",))
    one.run()
    assert keeper.asked[:2] == ["reload", "reload"]


def test_without_its_directory_it_would_hear_nothing(
    loop: tuple[Loop, FakeKeeper], tmp_path: Path
) -> None:
    one, _ = loop
    claims = tmp_path / "claims"
    claims.mkdir()
    with FileEvents(claims) as files:
        one.on(files.fd, lambda: one.written(files, claims))
        shutil.rmtree(claims)
        with pytest.raises(Refused, match=r"it was removed, .* no port is kept down$") as ended:
            one.run()
    assert "start `manactl hold` again" in str(ended.value.hint)


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
