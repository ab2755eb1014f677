"""The terminal that a screen takes and gives back, and the signals it hears."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from manactl.cli import screen

TOP = Path(__file__).parents[3]
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"


def test_entering_and_leaving_frame_what_is_painted(capsys: pytest.CaptureFixture[str]) -> None:
    with screen.Screen() as shown:
        assert shown.keyboard is None  # standard input is no terminal of ours
        shown.paint(["one", "two"])
    assert capsys.readouterr().out == (f"{ENTER}\x1b[H\x1b[2Kone\r\n\x1b[2Ktwo\x1b[J{LEAVE}")


def test_what_does_not_fit_below_is_not_painted(capsys: pytest.CaptureFixture[str]) -> None:
    shown = screen.Screen()
    assert shown.size == (80, 24)  # standard output is no terminal
    shown.paint([str(number) for number in range(30)])
    lines = capsys.readouterr().out.split("\r\n")
    assert (len(lines), lines[-1]) == (24, "\x1b[2K23\x1b[J")


def test_the_screen_hears_of_a_new_size_and_of_being_stopped() -> None:
    with screen.signals() as descriptor:
        os.kill(os.getpid(), signal.SIGWINCH)
        os.kill(os.getpid(), signal.SIGTSTP)
        os.kill(os.getpid(), signal.SIGCONT)
        assert select.select([descriptor], [], [], 10)[0]
        heard = sorted(os.read(descriptor, 64))
    assert heard == sorted([signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_it_is_an_exit_so_that_the_screen_is_left(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, screen.signals(), screen.Screen():
        signal.raise_signal(number)
    assert ended.value.code == 128 + number
    assert capsys.readouterr().out == ENTER + LEAVE


PROGRAM = """
import os, sys
from manactl.cli.screen import Screen
shown = Screen()
print("size", *shown.size, flush=True)
with shown:
    print("keyboard", shown.keyboard, flush=True)
    print("read", os.read(0, 1), flush=True)
print("left", shown.keyboard, flush=True)
os.read(0, 1)
"""


class Terminal:
    """A program that leads a session on a terminal of 50 columns and 7 rows."""

    def __init__(self) -> None:
        self.pid, self.number = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 7, 50, 0, 0))
            env = {"PYTHONPATH": str(TOP / "src")}
            os.execve(sys.executable, [sys.executable, "-c", PROGRAM], env)
        self.text = ""

    def shows(self, text: str) -> None:
        while text not in self.text:
            assert select.select([self.number], [], [], 60)[0], self.text
            self.text += os.read(self.number, 4096).decode()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    os.kill(made.pid, signal.SIGKILL)
    os.waitpid(made.pid, 0)
    os.close(made.number)


def echoes(terminal: Terminal) -> bool:
    flags = termios.tcgetattr(terminal.number)[3]
    assert bool(flags & termios.ICANON) is bool(flags & termios.ECHO)
    return bool(flags & termios.ECHO)


def test_a_key_is_read_at_once_and_unechoed_and_the_terminal_is_as_before(
    terminal: Terminal,
) -> None:
    terminal.shows("size 50 7")
    terminal.shows("keyboard 0")
    assert not echoes(terminal)
    os.write(terminal.number, b"q")
    terminal.shows("read b'q'")
    terminal.shows("left None")
    assert echoes(terminal)
    assert terminal.text.index(ENTER) < terminal.text.index("read") < terminal.text.index(LEAVE)


def test_in_the_background_the_terminal_is_not_touched() -> None:
    """tcsetattr() from there would stop the program."""
    script = (
        "import os, pty, sys\n"
        "from manactl.cli.screen import Screen\n"
        "pid, number = pty.fork()\n"
        "if pid == 0:\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        os.setpgid(0, 0)\n"
        "        with Screen() as shown:\n"
        "            os._exit(10 if shown.keyboard is None else 11)\n"
        "    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, os.WUNTRACED)[1]))\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    env = {"PYTHONPATH": str(TOP / "src")}
    done = subprocess.run([sys.executable, "-c", script], env=env, check=False, timeout=60)
    assert done.returncode == 10
