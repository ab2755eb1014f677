"""`manactl hold` as a user runs it: on a machine in memory, ended by signals."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

from manactl.act import audit
from manactl.act.service import Service
from manactl.cli import hold as module
from manactl.cli.hold import Teller, hold
from manactl.errors import Busy, Denied, UsageError
from manactl.look import file_events, link_changes, netdev_opens
from manactl.look.netdev_opens import NetdevOpens
from manactl.model.hold import Apart, Attempt, Cause, Outcome, Target, Trouble
from manactl.model.port import PortId
from tests.unit import schema
from tests.unit.cli.shell import Shell
from tests.unit.host import FakeHost, FakeSystem, claim, furnished, two_ports
from tests.unit.wording import says, wording

PCI = "7870:00:00.0"
ETH1 = Target(PortId(PCI, 1, None), "eth1")


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path / "state", capsys)


class Ends(FakeHost):
    """A machine on which a signal comes as soon as something was set down, or, when there is
    nothing to be set down, at the start."""

    number = signal.SIGTERM
    at_once = False
    holding = False  # the claims before are made in peace

    def system(self, pause: Callable[[float], None]) -> FakeSystem:
        system = super().system(pause)
        if not self.holding:
            return system
        set_up = system.set_up

        def setting(ifindex: int, up: bool) -> None:
            set_up(ifindex, up)
            os.kill(os.getpid(), self.number)

        system.set_up = setting  # type: ignore[method-assign]
        if self.at_once:
            os.kill(os.getpid(), self.number)
        return system


def claimed(shell: Shell) -> Ends:
    """eth1 is claimed, and somebody has set it up meanwhile."""
    host = Ends(furnished())
    claim(shell.state_dir, host)
    host.kernel.set_up(host.kernel.nics[0], True)
    host.holding = True
    return host


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_sets_down_and_tells_until_a_signal_ends_it(
    shell: Shell, number: signal.Signals
) -> None:
    host = claimed(shell)
    host.number = number
    before = signal.getsignal(number)
    shell.run(hold, host, "eth1")
    assert shell.code == 0
    assert not host.kernel.nics[0].up
    down, keeping = shell.lines
    with wording:
        assert keeping.endswith(" keeping down eth1")
        assert " eth1 (port 7870:00:00.0:1) was found up, who set it up is not known: " in down
    assert signal.getsignal(number) is before
    assert host.open_systems == 0


def test_for_programs_it_is_a_document_a_line(shell: Shell) -> None:
    shell.run(hold, claimed(shell), "--json")
    found = [json.loads(line) for line in shell.lines]
    for one in found:
        schema.strict(one)
    assert [one["event"] for one in found] == ["set-down", "holding"]
    assert found[0]["cause"] == "found"


def test_where_nothing_is_claimed_it_waits(shell: Shell) -> None:
    host = Ends(two_ports())
    host.at_once = host.holding = True
    for words in ([], ["eth2"], ["eth1", "7870:00:00.0:2"]):
        shell.run(hold, host, *words)
        (line,) = shell.lines
        with wording:
            assert line.endswith(" nothing is claimed; waiting for a claim")
    assert all(nic.up for nic in host.kernel.nics)


def test_only_the_named_ports_are_kept_down(shell: Shell) -> None:
    host = Ends(two_ports())
    claim(shell.state_dir, host, "eth1", "eth2")
    host.at_once = host.holding = True
    host.kernel.set_up(host.kernel.nics[0], True)
    shell.run(hold, host, "eth2")
    assert host.kernel.nics[0].up
    with wording:
        assert shell.lines[-1].endswith(
            " keeping down eth2; claimed, and not among the given: port 7870:00:00.0:1"
        )


def test_it_needs_the_privilege_and_a_port_that_is(shell: Shell) -> None:
    host = claimed(shell)
    with pytest.raises(UsageError, match="eth9"):
        shell.run(hold, host, "eth9")
    host.mask = 0
    with pytest.raises(Denied, match="hold needs CAP_NET_ADMIN"):
        shell.run(hold, host)
    assert host.kernel.nics[0].up


@pytest.mark.parametrize(
    ("source", "what"),
    [((link_changes, "LinkChanges"), "links"), ((file_events, "FileEvents"), "claims")],
)
@pytest.mark.parametrize(
    "cause",
    [
        (errno.EMFILE, "sysctl fs.inotify.max_user_instances"),
        (errno.ENOSPC, "sysctl fs.inotify.max_user_watches"),
        (errno.ENOMEM, "fix the cause"),
    ],
)
def test_without_room_to_watch_it_says_what_is_used_up(
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    source: tuple[ModuleType, str],
    what: str,
    cause: tuple[int, str],
) -> None:
    host = claimed(shell)
    number, hint = cause

    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*source, fails)
    with pytest.raises(
        Busy, match=says(f"^{what} cannot be watched: .*no port is kept down")
    ) as error:
        shell.run(hold, host)
    with wording:
        assert hint in str(error.value.hint)
    assert host.kernel.nics[0].up


def test_without_a_socket_to_set_netdevs_down_with_it_says_so(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = claimed(shell)

    def fails(*_: object) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(host, "system", fails)
    with pytest.raises(
        Busy, match=says(r"^netdevs cannot be watched: .*no port is kept down")
    ) as error:
        shell.run(hold, host)
    with wording:
        assert "ulimit -n" in str(error.value.hint)


def test_what_cannot_be_watched_is_told_and_changes_nothing_else(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused() -> NetdevOpens:
        return NetdevOpens(pmu=str(tmp_path / "none"))

    monkeypatch.setattr(netdev_opens, "NetdevOpens", refused)
    host = claimed(shell)
    shell.run(hold, host)
    assert not host.kernel.nics[0].up
    with wording:
        assert shell.notes == [
            "manactl: who sets a port up will not be known: this kernel has no kprobe events for perf; "
            "ports are kept down all the same"
        ]


class Links:
    """Something is announced, once."""

    lost = False

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls
        self.fd, self._write = os.pipe()
        os.write(self._write, b"x")

    def __enter__(self) -> Links:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        os.close(self._write)

    def read(self) -> list[object]:
        os.read(self.fd, 1)
        self.calls.append("links")
        return []


class Opens:
    """Openers whose driver was loaded meanwhile. When they are watched again, somebody opens a
    netdev at once."""

    refused: OSError | None = OSError(errno.ENOENT, "neither driver mana nor hv_netvsc is loaded")
    missing: tuple[str, ...] = ()
    descriptors: tuple[int, ...] = ()

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def __enter__(self) -> Opens:
        self.descriptors = os.pipe()
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self.descriptors:
            os.close(fd)

    def read(self) -> list[object]:
        self.calls.append("opens")
        if self.refused is None:
            os.kill(os.getpid(), signal.SIGTERM)
        return []

    def renew(self) -> bool:
        self.calls.append("renew")
        self.__exit__()
        self.refused, self.missing = None, ("netvsc_open",)
        self.descriptors = (os.open("/dev/zero", os.O_RDONLY),)
        return True


def test_a_driver_that_is_loaded_later_is_watched_then(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(netdev_opens, "NetdevOpens", lambda: Opens(calls))
    monkeypatch.setattr(link_changes, "LinkChanges", lambda: Links(calls))
    shell.run(hold, Ends(two_ports()))
    after = calls.index("links")
    assert calls[after : after + 4] == ["links", "opens", "renew", "opens"], "what is urgent first"
    with wording:
        assert shell.notes == [
            "manactl: who sets a port up will not be known: neither driver mana nor hv_netvsc is "
            "loaded; ports are kept down all the same",
            "manactl: who sets up some netdevs will not be known: this kernel has no function "
            "netvsc_open that can be watched; ports are kept down all the same",
        ]


def test_systemd_is_told(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "1000000")
        shell.run(hold, claimed(shell))
        systemd.setblocking(False)
        told = [systemd.recv(4096).decode() for _ in range(3)]
    with wording:
        assert told == ["READY=1\nSTATUS=keeping down eth1", "WATCHDOG=1", "STOPPING=1"]


# --- a reader


def test_a_reader_that_does_not_read_is_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    filled = 0
    while True:
        try:
            filled += os.write(write, b"x" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(write, True)
    with open(write, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        teller = Teller(Service({}), lambda: 0.0, as_json=False)
        teller.holding([ETH1], Apart(), first=True)
        teller.holding([], Apart(), first=False)
        while filled > 0:
            filled -= len(os.read(read, 4096))
        teller.holding([ETH1], Apart(), first=False)
        assert os.read(read, 4096).decode().count("\n") == 1
    os.close(read)
    with wording:
        assert capsys.readouterr().err == (
            "manactl: the reader of standard output did not take 2 lines\n"
        )


def test_warnings_that_nobody_reads_are_logged_at_once_and_said_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(audit, "to_syslog", lambda lines, *_, **__: logged.extend(lines) or True)
    read, write = os.pipe()
    filled = 0
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(write, b"x" * 4096)
    os.set_blocking(write, True)
    texts = [f"warning {n}" for n in range(23)]
    with open(write, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        teller = Teller(Service({}), lambda: 100.0, as_json=False)
        for text in texts:
            teller.warn(text)
        assert logged == [f"hold: {text}" for text in texts]
        assert teller.next_due == 101.0
        while filled > 0:
            filled -= len(os.read(read, 4096))
        teller.sums()
        said = os.read(read, 1 << 16).decode().splitlines()
        assert teller.next_due is None
    os.close(read)
    with wording:
        assert said == [
            *(f"manactl: {text}" for text in texts[:20]),
            "manactl: 3 more warnings are in the system log only",
        ]
    assert len(logged) == 23


def test_a_logger_that_takes_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "log")
    waited: list[float | None] = []

    class Logged(socket.socket):
        def settimeout(self, value: float | None) -> None:
            waited.append(value)
            super().settimeout(value)

    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as logger,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
    ):
        logger.bind(path)
        other.connect(path)
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.send(b"x")
        monkeypatch.setitem(audit.to_syslog.__kwdefaults__, "path", path)
        monkeypatch.setattr(socket, "socket", Logged)
        teller = Teller(Service({}), lambda: 0.0, as_json=False)
        teller.attempt(attempt())
        teller.attempt(attempt())
        logger.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                assert logger.recv(4096) == b"x"
        teller.attempt(attempt())
        first, second = logger.recv(4096), logger.recv(4096)
    with wording:
        assert b"hold: 2 lines before this one are missing" in first
        assert b"hold: eth1 (port 7870:00:00.0:1) was found up" in second
    assert set(waited) == {0}
    assert len(capsys.readouterr().out.splitlines()) == 3


def attempt() -> Attempt:
    return Attempt(datetime.now(UTC), ETH1, "eth1", Outcome.SET_DOWN, Cause.FOUND, ms=1.0)


def gone() -> int:
    """The writing end of a pipe that nobody reads any more."""
    read, write = os.pipe()
    os.close(read)
    return write


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize(
    ("stream", "why"), [(gone, "Broken pipe"), (full, "No space left on device")]
)
def test_an_output_that_is_lost_ends_nothing_and_is_told_once(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, stream: Callable[[], int], why: str
) -> None:
    logged: list[str] = []

    def log(lines: list[str], *_: object, patience: float) -> bool:
        assert patience == 0, "no port waits for a logger"
        logged.extend(lines)
        return True

    host = claimed(shell)
    monkeypatch.setattr(audit, "to_syslog", log)
    with open(stream(), "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        info = os.fstat(out.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{info.st_dev}:{info.st_ino}")  # not logged as well
        shell.run(hold, host)
    assert shell.code == 0
    assert not host.kernel.nics[0].up
    lost, down, keeping = logged
    with wording:
        assert lost == f"hold: standard output: {why}; from now on only the system log tells"
        assert down.startswith("hold: eth1 (port 7870:00:00.0:1) was found up")
        assert keeping == "hold: keeping down eth1"


def test_what_goes_to_the_journal_is_not_logged_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "out").open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        info = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{info.st_dev}:{info.st_ino}")
        assert module._is_journal()
        monkeypatch.setenv("JOURNAL_STREAM", f"{info.st_dev}:{info.st_ino + 1}")
        assert not module._is_journal()


def trouble(of: str, text: str) -> Trouble:
    return Trouble(of, None, 5, text)


@pytest.mark.wording
def test_a_problem_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teller = Teller(Service({}), lambda: 0.0, as_json=False)
    found = Apart(
        (trouble("x", "journal x is corrupt"),),
        trouble("claims", "Permission denied"),
        (ETH1.port,),
        (ETH1.port,),
    )
    teller.problems(found, {PCI: trouble(PCI, "disk")})
    others = Apart(
        (trouble("x", "other words"),), trouble("claims", ""), (ETH1.port,), (ETH1.port,)
    )
    teller.problems(others, {PCI: trouble(PCI, "the same in other words")})
    assert capsys.readouterr().err == (
        "manactl: not kept down until it can be read: journal x is corrupt\n"
        "manactl: what is claimed of 7870:00:00.0 is not kept down until its lock can be had; it is "
        "tried again: disk\n"
        "manactl: claims that are new are not kept down: Permission denied\n"
        "manactl: not kept down: port 7870:00:00.0:1 is claimed in another network namespace; "
        "run `manactl hold` there, too\n"
    )
    teller.problems(Apart(), {})
    teller.problems(Apart(elsewhere=(ETH1.port,)), {})
    assert "another network namespace" in capsys.readouterr().err, "it is so once more"
