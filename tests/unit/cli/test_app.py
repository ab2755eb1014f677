"""Where words go: to the right stream, harmless, and broken to fit only on a terminal."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import struct
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from manactl.cli.app import STATE_DIR, App

LONG = "word " * 20 + "end"


def test_where_the_state_is() -> None:
    assert (App().state, App().debug) == (STATE_DIR, False)
    assert App("/x", debug=True).debug is True
    assert App("/x/y").state_dir == Path("/x/y")


def test_each_outlet_has_its_stream(capsys: pytest.CaptureFixture[str]) -> None:
    app = App()
    app.out("out")
    app.wrapped("told", "twice")
    app.err("err")
    app.warn("warned")
    out, err = capsys.readouterr()
    assert out == "out\ntold\ntwice\n"
    assert err == "err\nmanactl: warned\n"
    app.out()
    assert capsys.readouterr() == ("", "")


def test_every_outlet_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    app, nasty = App(), "a\x1b[2J\udcffb"
    for outlet in (app.out, app.wrapped, app.err, app.warn):
        outlet(nasty)
    out, err = capsys.readouterr()
    spelled = "a\\e[2J\\xffb\n"
    assert out == spelled * 2
    assert err == f"{spelled}manactl: {spelled}"


def test_a_document_is_the_only_thing_on_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    App().document({"schema": "x/1", "name": "a\x1b"})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"schema": "x/1", "name": "a\x1b"}
    assert out.endswith("}\n")
    assert err == ""


class Tty(io.TextIOWrapper):
    """A terminal of 40 columns, and what was written there."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
        super().__init__(os.fdopen(slave, "wb"), encoding="utf-8", write_through=True)

    def lines(self) -> list[str]:
        self.flush()
        return os.read(self.master, 65536).decode().splitlines()


@pytest.fixture
def tty() -> Iterator[Tty]:
    made = Tty()
    yield made
    made.close()
    os.close(made.master)


def test_sentences_are_broken_on_a_terminal_and_tables_are_not(
    tty: Tty, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Here, since pytest sets both between a fixture and its test.
    monkeypatch.setattr(sys, "stdout", tty)
    monkeypatch.setattr(sys, "stderr", tty)
    app = App()
    app.out(LONG)
    assert tty.lines() == [LONG]
    app.err(LONG, wrap=False)
    assert tty.lines() == [LONG]
    for outlet, text in ((app.wrapped, LONG), (app.err, LONG), (app.warn, f"manactl: {LONG}")):
        outlet(LONG)
        lines = tty.lines()
        assert len(lines) == 3
        assert max(map(len, lines)) <= 40
        assert " ".join(line.strip() for line in lines) == text


def test_in_a_pipe_a_sentence_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    App().wrapped(LONG)
    App().err(LONG)
    assert capsys.readouterr() == (f"{LONG}\n", f"{LONG}\n")
