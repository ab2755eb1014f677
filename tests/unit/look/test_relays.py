"""Who passes remote logins on to sshd, on a machine in memory."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from manactl.look import relays
from manactl.look.relays import Relays
from manactl.netstate.surroundings import Connection, Process, SshSession
from manactl.wire import inet_diag as diag
from manactl.wire.inet_diag import TcpSocket

LOCAL = SshSession("127.0.0.1", "127.0.0.1", False, "SSH_CONNECTION of pid 9")
FAR = SshSession("203.0.113.9", "10.0.0.4", False, "SSH_CONNECTION of pid 9")
UNKNOWN = SshSession("UNKNOWN", "UNKNOWN", None, "SSH_CONNECTION of pid 9")
SSHD, PROXY, FRONT, SSH, OTHER = 40, 50, 60, 70, 80


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


@dataclass
class Machine:
    """Processes with the inodes of their sockets, and sockets."""

    proc: Path
    sockets: list[TcpSocket] = field(default_factory=list)
    open_to_all: list[TcpSocket] = field(default_factory=list)
    listening: list[TcpSocket] = field(default_factory=list)
    asked: list[bytes] = field(default_factory=list)

    def process(self, pid: int, comm: str, *inodes: int, parent: int = 1) -> None:
        place = self.proc / str(pid)
        (place / "fd").mkdir(parents=True)
        (place / "comm").write_text(comm + "\n")
        (place / "stat").write_text(f"{pid} ({comm}) S {parent} 1 1")
        for number, inode in enumerate(inodes):
            (place / "fd" / str(number)).symlink_to(f"socket:[{inode}]")

    def link(self, client: int, server: int, port: int, address: str = "127.0.0.1") -> None:
        """A connection within the host: the inodes of both ends."""
        here, number = packed(address), 40000 + len(self.sockets)
        self.sockets += [
            TcpSocket(1, here, number, here, port, 0, client, 0),
            TcpSocket(1, here, port, here, number, 0, server, 0),
        ]
        self.listening.append(TcpSocket(10, bytes(4), port, bytes(4), 0, 0, 999, 0))

    def tcp(self, program: bytes) -> Iterable[TcpSocket]:
        self.asked.append(program)
        if program == relays._TO_SSHD:
            return [one for one in self.sockets if one.local_port == 22]
        return self.sockets

    def read(self, *sessions: SshSession, own: Iterable[str] = ()) -> Relays:
        asks = relays.Asks(self.tcp, lambda _: self.listening, lambda _: self.open_to_all)
        return relays.of_logins(sessions, set(map(packed, own)), asks, self.proc)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_where_no_login_comes_from_here_nothing_is_read(machine: Machine) -> None:
    machine.process(SSHD, "sshd", 2)
    machine.process(OTHER, "curl", 1)
    machine.link(1, 3, 8080)
    assert machine.read(FAR) == Relays()
    assert machine.asked == [relays._TO_SSHD]


@pytest.mark.parametrize("port", [22, 2222])
def test_a_proxy_in_front_of_sshd(machine: Machine, port: int) -> None:
    machine.process(SSHD, "sshd-session", 2)
    machine.process(PROXY, "stunnel", 1, 9)
    machine.process(OTHER, "curl", 5)
    machine.link(1, 2, port)
    machine.link(5, 6, 8080)
    assert machine.read(LOCAL) == Relays(frozenset({PROXY}))


def test_logins_of_others_are_passed_on_too(machine: Machine) -> None:
    """Nobody's SSH_CONNECTION tells of a file that is copied."""
    machine.process(SSHD, "sshd", 2)
    machine.process(SSH, "ssh", 1)  # ssh -R
    machine.link(1, 2, 22)
    assert machine.read() == Relays(frozenset({SSH}))


def test_one_proxy_behind_another(machine: Machine) -> None:
    machine.process(SSHD, "sshd", 2)
    machine.process(PROXY, "sslh", 1, 4)
    machine.process(FRONT, "haproxy", 3)
    machine.link(1, 2, 22)
    machine.link(3, 4, 8443)
    assert machine.read(LOCAL).pids == {PROXY, FRONT}


def test_sshd_itself_is_not_gone_through(machine: Machine) -> None:
    """What else it serves, and whom its users connect to, is not in front of this login."""
    machine.process(SSHD, "sshd", 2, 5)
    machine.process(PROXY, "stunnel", 1)
    machine.process(OTHER, "postgres", 6)
    machine.link(1, 2, 22)
    machine.link(5, 6, 5432)
    assert machine.read(LOCAL) == Relays(frozenset({PROXY}))


def test_by_an_address_of_this_host(machine: Machine) -> None:
    machine.process(SSHD, "sshd", 2)
    machine.process(PROXY, "stunnel", 1)
    machine.link(1, 2, 2222, "10.0.0.4")
    session = SshSession("10.0.0.4", "10.0.0.4", False, "x")
    assert machine.read(session) == Relays()  # of another host
    assert machine.read(session, own=["10.0.0.4"]).pids == {PROXY}
    assert machine.asked[-1] == diag.any_of(diag.peer([*diag.LOOPBACK, (packed("10.0.0.4"), 32)]))


def test_one_that_is_not_visible_may_be_anybody(machine: Machine) -> None:
    machine.process(SSHD, "sshd", 2)
    machine.link(1, 2, 22)
    assert machine.read(LOCAL) == Relays(unseen=True)


@pytest.mark.parametrize(("local", "unseen"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_one_with_a_socket_for_anybody(machine: Machine, local: str, unseen: bool) -> None:
    """QUIC's, say."""
    machine.process(SSHD, "sshd", 2)
    machine.process(PROXY, "cloudflared", 1, 9)
    machine.link(1, 2, 22)
    machine.open_to_all = [TcpSocket(7, packed(local), 443, bytes(4), 0, 0, 9, 0)]
    assert machine.read(LOCAL) == Relays(frozenset({PROXY}), unseen)


def test_whoever_has_started_an_sshd_without_a_connection(machine: Machine) -> None:
    """socat, say: its connection is the login's."""
    machine.process(os.getpid(), "python3", parent=90)
    machine.process(90, "bash", parent=SSHD)
    machine.process(SSHD, "sshd-session", parent=41)
    machine.process(41, "sshd", parent=PROXY)
    machine.process(PROXY, "socat", 7)
    machine.process(1, "systemd", parent=0)
    assert machine.read(UNKNOWN) == Relays(frozenset({PROXY}))


@pytest.mark.parametrize("comm", ["sshd", "tmux"])
def test_where_nobody_is_seen_that_has_started_it(machine: Machine, comm: str) -> None:
    machine.process(os.getpid(), "python3", parent=SSHD if comm == "sshd" else 1)
    machine.process(SSHD, comm, parent=1)
    assert machine.read(UNKNOWN) == Relays(unseen=True)


# --- what follows for a session ---------------------------------------------------------------

OVER = Connection("10.0.0.4", 443, "203.0.113.9", 5, "established", 9, (Process(PROXY, "x"),))


@pytest.mark.parametrize("session", [LOCAL, UNKNOWN])
@pytest.mark.parametrize(
    ("relays_", "over", "through"),
    [
        (Relays(frozenset({PROXY})), [OVER], True),
        (Relays(frozenset({PROXY})), [], False),
        (Relays(frozenset({FRONT})), [OVER], False),
        (Relays(frozenset({FRONT}), unseen=True), [OVER], None),
        (Relays(frozenset({PROXY}), unseen=True), [OVER], True),
    ],
)
def test_a_session_takes_the_port_if_what_passes_it_on_does(
    session: SshSession, relays_: Relays, over: list[Connection], through: bool | None
) -> None:
    assert relays.judged(session, relays_, (), over).through_port is through


@pytest.mark.parametrize("through", [True, False, None])
def test_a_session_from_afar_is_what_it_was(through: bool | None) -> None:
    session = SshSession("203.0.113.9", "10.0.0.4", through, "x")
    assert relays.judged(session, Relays(frozenset({PROXY})), (), [OVER]) == session
