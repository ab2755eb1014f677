"""What is shown while a claim or release runs: on a terminal, piped, and where showing fails."""

from __future__ import annotations

import io
import threading
from typing import TextIO

import pytest
from rich.cells import cell_len
from rich.text import Text

from manactl.act.plan import Plan
from manactl.render import progress
from tests.unit.fakes import PORT
from tests.unit.wording import wording


class Screen(io.StringIO):
    """A terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    """A pipe that nobody reads any more."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


PLAN = Plan("claim", (PORT,), (), stops=("traffic of a name that goes on and on " * 4,))
TERMINAL = {"TERM": "xterm-256color"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "COLORTERM", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")


def run(follower: progress.Plain) -> None:
    follower.planned("claim eth1", PLAN)
    follower.ended("set eth1 down", 0.00321, failed=False)
    follower.ended("set eth1 \x1b[31mup", 1.44, failed=True)
    follower.noted("SIGTERM sent to pid 7")
    with follower.waiting("pid 7 to end", 30.0):
        pass


def test_piped_it_is_a_plain_line_a_step() -> None:
    out, err = io.StringIO(), io.StringIO()
    run(progress.follow(out, err, verbose=False, environ=TERMINAL))
    assert out.getvalue().splitlines() == [
        "ok      set eth1 down (3.2 ms)",
        "failed  set eth1 \\e[31mup (1.4 s)",
    ]
    with wording:
        assert err.getvalue().splitlines() == [
            "manactl: SIGTERM sent to pid 7",
            "manactl: waiting up to 30 s for pid 7 to end",
        ]


def test_verbose_shows_the_plan_before() -> None:
    out = io.StringIO()
    run(progress.follow(out, io.StringIO(), verbose=True, environ=TERMINAL))
    assert out.getvalue().splitlines()[:2] == ["Stops:", f"  {PLAN.stops[0]}"]


def test_with_json_only_notes_are_shown() -> None:
    out, err = io.StringIO(), io.StringIO()
    run(progress.for_document(out, err))
    assert out.getvalue() == ""
    assert len(err.getvalue().splitlines()) == 2


@pytest.mark.parametrize("verbose", [False, True])
def test_on_a_terminal_there_are_a_heading_marks_and_colours(verbose: bool) -> None:
    out = Screen()
    run(progress.follow(out, Screen(), verbose=verbose, environ=TERMINAL))
    assert "\x1b[1m" in out.getvalue()
    lines = Text.from_ansi(out.getvalue()).plain.splitlines()
    assert lines[0] == ("Stops:" if verbose else "Claim eth1")
    assert "✓ set eth1 down  3.2 ms" in lines
    assert "✗ set eth1 \\e[31mup  1.4 s" in lines
    assert all(cell_len(line) <= 80 for line in lines)


class Watched(Screen):
    """A terminal that reports when some text has been written to it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.seen = text, threading.Event()

    def write(self, text: str) -> int:
        count = super().write(text)
        if self.text in self.getvalue():
            self.seen.set()
        return count


def test_a_step_that_takes_long_is_shown_while_it_runs() -> None:
    out = Watched("Restore [red]eth1\\n")
    follower = progress.Terminal(out, Screen(), long=0)
    with follower.doing("restore [red]eth1\n"):
        assert out.seen.wait(60)
        assert "0:00:0" in out.getvalue()
    # rich's own thread, which refreshes the bar, may end a moment later.
    assert progress.THREAD not in {thread.name for thread in threading.enumerate()}
    follower.ended("restore eth1", 3.0, failed=False)
    assert Text.from_ansi(out.getvalue().rpartition("\x1b[2K")[2]).plain.strip() == (
        "✓ restore eth1  3.0 s"
    )


def test_a_step_that_is_quick_shows_nothing_meanwhile() -> None:
    out = Screen()
    with progress.Terminal(out, Screen(), long=3600).doing("set eth1 down"):
        pass
    assert out.getvalue() == ""


def test_a_step_is_done_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    done = []
    with progress.Terminal(Screen(), Screen(), long=0).doing("set eth1 down"):
        done.append(True)
    assert done == [True]


def test_piped_a_step_shows_nothing_meanwhile() -> None:
    out, err = io.StringIO(), io.StringIO()
    with progress.Plain(out, err).doing("set eth1 down"):
        pass
    assert (out.getvalue(), err.getvalue()) == ("", "")


@pytest.mark.parametrize(
    ("out", "environ"),
    [
        (io.StringIO(), TERMINAL),
        (Screen(), {"TERM": "dumb"}),
        (Screen(), {"TERM": "unknown"}),
        (Screen(), {}),
        (Screen(), {**TERMINAL, "NO_COLOR": "1"}),
    ],
)
def test_elsewhere_it_is_plain(out: TextIO, environ: dict[str, str]) -> None:
    assert type(progress.follow(out, Screen(), verbose=False, environ=environ)) is progress.Plain


def test_a_terminal_that_cannot_show_the_marks_gets_words() -> None:
    class Latin(Screen):
        encoding = "iso-8859-1"

    follower = progress.follow(Latin(), Screen(), verbose=False, environ=TERMINAL)
    assert type(follower) is progress.Plain


def test_an_output_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    run(progress.Plain(Broken(), Broken(), verbose=True))

    class BrokenScreen(Broken, Screen):
        pass

    run(progress.Terminal(BrokenScreen(), Broken(), verbose=True))


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0, "0.0 ms"), (0.9994, "999.4 ms"), (1.0, "1.0 s"), (61.26, "61.3 s")]
)
def test_costs_are_shown_as_people_read_them(seconds: float, shown: str) -> None:
    assert progress.took(seconds) == shown
