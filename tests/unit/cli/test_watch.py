"""`status --watch`: the real loop and outlets, in processes of their own."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte
import pytest

from manactl.cli.main import main

ROOT = Path(__file__).parents[3]
ENV = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "TERM": "xterm", "PATH": os.environ["PATH"]}
WITHIN = 60.0  # s, for a machine that does other things too


class Ports:
    """What the watched program sees."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def are(self, *words: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(" ".join(words))
        new.rename(self.path)


@pytest.fixture
def ports(tmp_path: Path) -> Ports:
    made = Ports(tmp_path / "ports")
    made.are("eth0=ethernet", "eth1=free")
    return made


@contextmanager
def program(*argv: str, **more: object) -> Iterator[subprocess.Popen[bytes]]:
    run = subprocess.Popen([sys.executable, *argv], env=ENV, **more)  # type: ignore[call-overload]
    try:
        yield run
    finally:
        run.kill()
        run.wait()
        for stream in (run.stdout, run.stderr):
            if stream:
                stream.close()


def watched(kind: str, ports: Ports, *words: str) -> list[str]:
    return ["-m", "tests.unit.cli.watched", kind, str(ports.path), *words]


class Lines:
    """Lines of a pipe, waited for until a deadline."""

    def __init__(self, run: subprocess.Popen[bytes]) -> None:
        assert run.stdout
        self._number = run.stdout.fileno()
        self._rest = b""

    def next(self) -> str:
        deadline = time.monotonic() + WITHIN
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            assert left > 0, f"no line within {WITHIN} s, only {self._rest!r}"
            if select.select([self._number], [], [], left)[0]:
                data = os.read(self._number, 4096)
                assert data, "the program ended"
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def until(self, start: str) -> list[str]:
        lines = [self.next()]
        while not lines[-1].startswith(start):
            lines.append(self.next())
        return lines

    @property
    def waiting(self) -> bool:
        return bool(self._rest or select.select([self._number], [], [], 0)[0])


def test_piped_there_is_a_block_for_each_change(ports: Ports) -> None:
    with program(*watched("blocks", ports), stdout=subprocess.PIPE) as run:
        lines = Lines(run)
        stamp, header, *_ = lines.until("eth1")
        assert stamp.startswith("--- 2")
        assert stamp.endswith("Z")
        assert header.startswith("PORT")
        ports.are("eth0=ethernet", "eth1=raw-qp")
        block = lines.until("eth1")
        assert block[0] == ""
        assert block[2] == "* eth1: owner free (proven) -> raw-qp (proven)"
        ports.are("eth0=ethernet", "lan1=raw-qp")
        assert "* lan1: was eth1" in lines.until("lan1")


def test_ports_that_were_named_stay_watched_under_other_names(ports: Ports) -> None:
    with program(*watched("json", ports, "eth1"), stdout=subprocess.PIPE) as run:
        lines = Lines(run)

        def seen() -> list[tuple[str, str]]:
            return [(p["netdev"], p["owner"]) for p in json.loads(lines.next())["ports"]]

        assert seen() == [("eth1", "free")]
        ports.are("eth0=ethernet", "lan1=free")
        assert seen() == [("lan1", "free")]
        ports.are("eth0=ethernet")
        assert seen() == []
        ports.are("eth1=free", "lan1=raw-qp")
        assert seen() == [("lan1", "raw-qp")]


def test_interrupt_is_how_it_ends(ports: Ports) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with program(*watched("json", ports), **pipes) as run:
        assert json.loads(Lines(run).next())["schema"] == "manactl.status/1"
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=WITHIN)
        assert run.returncode == 0
        assert err == b"ended\n"


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_it_ends_quietly_when_the_reader_goes_though_nothing_changes(form: list[str]) -> None:
    """On a machine with or without ports: nobody has to change one for it."""
    argv = ["-m", "manactl", "status", "--watch", *form]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with program(*argv, **pipes) as run:
        assert run.stdout
        assert run.stderr
        Lines(run).next()
        run.stdout.close()
        run.wait(WITHIN)
        assert run.returncode == 128 + signal.SIGPIPE
        assert run.stderr.read() == b""


def test_a_metrics_file_is_kept_fresh(tmp_path: Path) -> None:
    path = tmp_path / "manactl.prom"
    argv = ["-m", "manactl", "status", "--watch", "--format", "prometheus", "--output", str(path)]
    with program(*argv):
        wait_for(path.exists)
        first = path.stat().st_ino
        wait_for(lambda: path.stat().st_ino != first)
        assert path.read_text().startswith("# HELP manactl_build_info")


@pytest.mark.parametrize(
    "words",
    [
        ["--json", "--format", "prometheus"],
        ["--output", "f"],
        ["--watch", "--format", "prometheus"],
        ["--format", "xml"],
    ],
)
def test_forms_that_exclude_each_other(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", *words]) == 2
    assert "--" in capsys.readouterr().err


def test_an_unknown_port_is_a_usage_error_before_anything_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["status", "--watch", "no-such-port"]) == 2
    assert "no-such-port" in capsys.readouterr().err


def wait_for(fact: Callable[[], bool]) -> None:
    deadline, pause = time.monotonic() + WITHIN, 0.01
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)


class Terminal:
    """A program on a pseudo-terminal, and what a person sees there."""

    def __init__(self, argv: list[str], columns: int = 80, rows: int = 24) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.pid, self.number = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [sys.executable, *argv], ENV)
        self.resize(columns, rows)
        self.before = termios.tcgetattr(self.number)

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        fcntl.ioctl(self.number, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    def shows(self, *texts: str) -> str:
        """Read until the screen has them all."""
        return self._read_until(lambda: all(text in self.text for text in texts), str(texts))

    def gets(self, data: bytes) -> None:
        self._read_until(lambda: data in self.raw, repr(data))

    def _read_until(self, fact: Callable[[], bool], what: str) -> str:
        deadline = time.monotonic() + WITHIN
        while not fact():
            left = deadline - time.monotonic()
            assert left > 0, f"{what} not on the screen:\n{self.text}"
            if select.select([self.number], [], [], left)[0]:
                data = os.read(self.number, 65536)
                self.raw += data
                self._stream.feed(data)
        return self.text

    def ends(self) -> int:
        deadline = time.monotonic() + WITHIN
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                with contextlib.suppress(OSError):  # EIO: nobody else has the terminal open
                    while data := os.read(self.number, 65536):
                        self.raw += data
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, self.text
            if select.select([self.number], [], [], 0.05)[0]:
                try:
                    self.raw += os.read(self.number, 65536)
                except OSError:
                    continue

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.number)


@pytest.fixture
def terminal(ports: Ports) -> Iterator[Terminal]:
    made = Terminal(watched("screen", ports))
    yield made
    made.close()


LEAVE = b"\x1b[?7h\x1b[?25h\x1b[?1049l"


def test_the_screen_is_repainted_and_changes_are_marked(ports: Ports, terminal: Terminal) -> None:
    text = terminal.shows("eth0", "eth1", "q ends")
    assert "*" not in text
    ports.are("eth0=ethernet", "eth1=raw-qp")
    text = terminal.shows("raw-qp", "changes")
    (row,) = [line for line in text.splitlines() if line.startswith("* ")]
    assert row.split()[1:3] == ["eth1", "raw-qp"]
    assert "eth1: owner free (proven) -> raw-qp (proven)" in text
    ports.are("eth0=free", "eth1=raw-qp")
    text = terminal.shows("* eth0")
    assert "* eth1" not in text
    assert "eth1: owner free" in text  # still among the latest changes


def test_a_new_size_is_used_at_once(ports: Ports, terminal: Terminal) -> None:
    terminal.shows("eth1")
    ports.are(*(f"port{number}=free" for number in range(40)))
    terminal.shows("port0", "more lines")
    terminal.resize(100, 60)
    text = terminal.shows("* port30")
    assert "more lines" not in text
    terminal.resize(40, 10)
    text = terminal.shows("more lines", "port39: new")  # the last line
    assert len(text.splitlines()) == 10


@pytest.mark.parametrize(("key", "code"), [(b"q", 0), (b"\x03", 0)])
def test_a_key_ends_it_and_the_terminal_is_as_before(
    terminal: Terminal, key: bytes, code: int
) -> None:
    terminal.shows("eth1")
    assert termios.tcgetattr(terminal.number) != terminal.before  # no echo
    os.write(terminal.number, key)
    assert terminal.ends() == code
    assert LEAVE in terminal.raw
    assert termios.tcgetattr(terminal.number) == terminal.before


def test_a_signal_that_ends_it_gives_the_terminal_back(terminal: Terminal) -> None:
    terminal.shows("eth1")
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.ends() == 128 + signal.SIGTERM
    assert LEAVE in terminal.raw
    assert termios.tcgetattr(terminal.number) == terminal.before


def test_suspended_it_leaves_the_terminal_and_comes_back(ports: Ports, terminal: Terminal) -> None:
    # A session leader's group is orphaned and would not stop; what can be seen is the way out and
    # in again.
    terminal.shows("eth1")
    os.kill(terminal.pid, signal.SIGTSTP)
    terminal.gets(LEAVE)
    os.kill(terminal.pid, signal.SIGCONT)
    ports.are("eth0=ethernet", "eth1=raw-qp")
    terminal.shows("raw-qp")


def test_it_does_not_spin(ports: Ports) -> None:
    """Each look is paid for by a sleep: the process gives the processor back before the next."""
    with program(*watched("json", ports), stdout=subprocess.PIPE) as run:
        lines = Lines(run)
        lines.next()
        looked = Path(f"{ports.path}.looks")
        first, slept = looked.stat().st_size, sleeps(run.pid)
        wait_for(lambda: looked.stat().st_size >= first + 50)
        # The counts are read one after the other, and a look may end between them.
        assert sleeps(run.pid) - slept >= looked.stat().st_size - first - 2
        assert not lines.waiting


def sleeps(pid: int) -> int:
    """How often a process has given the processor back by itself."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
