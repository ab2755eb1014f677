"""What a reader does not take at once is not waited for, whatever the stream is."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pty
import resource
import socket
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from manactl.cli.outlet import Outlet

LONG = "x" * 10_000  # more than the one page that poll(2) promises


class Stream(NamedTuple):
    """A stream that takes nothing until `read` was called."""

    write: int
    read: Callable[[], bytes]


def filled(fd: int) -> int:
    """Write until there is no room; how much that was."""
    os.set_blocking(fd, False)
    count = 0
    while True:
        try:
            count += os.write(fd, b"-" * 4096)
        except BlockingIOError:
            break
    while True:
        try:
            count += os.write(fd, b"-")
        except BlockingIOError:
            os.set_blocking(fd, True)
            return count


def drained(fd: int) -> bytes:
    """All that is there now."""
    os.set_blocking(fd, False)
    found = b""
    while True:
        try:
            part = os.read(fd, 1 << 16)
        except BlockingIOError:
            return found
        if not part:
            return found
        found += part


def pipe() -> Stream:
    read, write = os.pipe()
    filled(write)
    return Stream(write, lambda: drained(read))


def sockets() -> Stream:
    """As systemd's journal gives them to a service."""
    ours, theirs = socket.socketpair()
    filled(ours.fileno())
    read = theirs.detach()
    return Stream(ours.detach(), lambda: drained(read))


def terminal() -> Stream:
    """Stopped, as by ^S."""
    master, slave = pty.openpty()
    termios.tcflow(slave, termios.TCOOFF)

    def read() -> bytes:
        termios.tcflow(slave, termios.TCOON)
        return drained(master)

    return Stream(slave, read)


@contextlib.contextmanager
def standard_error(stream: Stream) -> Iterator[None]:
    """For the test alone: pytest replaces it around fixtures."""
    with open(stream.write, "w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", file)
        yield


STUCK = pytest.mark.parametrize("make", [pipe, sockets, terminal])


@STUCK
def test_what_is_not_taken_is_not_waited_for(make: Callable[[], Stream]) -> None:
    stream, outlet = make(), Outlet("stderr")
    with standard_error(stream):
        assert not outlet.takes
        assert not outlet.say("lost")
        assert not outlet.say(LONG)
        assert outlet.lost is None
        stream.read()
        assert outlet.takes
        assert outlet.say("taken")
        assert stream.read().replace(b"\r\n", b"\n") == b"taken\n"


def test_without_a_descriptor_left_the_journal_is_not_lost() -> None:
    stream, outlet = sockets(), Outlet("stderr")
    stream.read()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with standard_error(stream):
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            assert outlet.say("taken")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert outlet.lost is None
    assert stream.read() == b"taken\n"


@STUCK
def test_the_flag_of_the_open_file_stays(make: Callable[[], Stream]) -> None:
    """Others have it open as well, and mean to wait."""
    stream = make()
    with standard_error(stream):
        before = fcntl.fcntl(stream.write, fcntl.F_GETFL)
        Outlet("stderr").say("lost")
        assert fcntl.fcntl(stream.write, fcntl.F_GETFL) == before
        assert not before & os.O_NONBLOCK


@pytest.mark.parametrize("descriptors", [True, False])
def test_of_a_line_that_is_taken_in_part_the_rest_comes_first(
    monkeypatch: pytest.MonkeyPatch, descriptors: bool
) -> None:
    read, write = os.pipe()
    left = filled(write)
    left -= len(os.read(read, 4096))  # one page is free, which poll(2) takes for room
    opens = os.open

    def fails(path: object, *words: int) -> int:
        if descriptors:
            return opens(path, *words)  # type: ignore[call-overload, no-any-return]
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with open(write, "w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        monkeypatch.setattr(os, "open", fails)
        outlet = Outlet("stderr")
        assert outlet.say(LONG)
        assert outlet.owes
        assert not outlet.say("too early")
        while left:
            left -= len(os.read(read, min(left, 4096)))
        found = b""
        while not outlet.flush():
            found += drained(read)
        assert not outlet.owes
        assert outlet.say("next")
        assert found + drained(read) == f"{LONG}\nnext\n".encode()
    os.close(read)


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC])
def test_a_stream_that_is_lost_is_known(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if number == errno.EPIPE:
        read, write = os.pipe()
        os.close(read)
    else:
        write = os.open("/dev/full", os.O_WRONLY)
    with open(write, "w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        outlet = Outlet("stdout")
        assert not outlet.say("lost")
        assert outlet.lost is not None
        assert outlet.lost.errno == number
        assert not outlet.say("lost as well")
        assert not outlet.takes


def test_a_file_is_added_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    with path.open("a", encoding="ascii") as file:
        monkeypatch.setattr(sys, "stdout", file)
        assert Outlet("stdout").say("a name: \u00e4\x1b[2J")
    assert path.read_text() == "before\na name: \\xe4\\e[2J\n"


def test_a_stream_in_memory_takes_all(capsys: pytest.CaptureFixture[str]) -> None:
    outlet = Outlet("stdout")
    assert outlet.takes
    assert outlet.say("line")
    assert capsys.readouterr().out == "line\n"
