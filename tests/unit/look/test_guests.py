"""Logins that come from a container of this host, on a machine in memory."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable
from pathlib import Path

import pytest

from manactl.look import guests
from manactl.look.relays import Asks
from manactl.netstate.surroundings import Connection, Process, SshSession
from manactl.wire import inet_diag as diag
from manactl.wire.inet_diag import TcpSocket
from tests.unit.look.kernel import FakeRtnl


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


GUEST = packed("172.17.0.2")
OWN = {packed("172.17.0.1"), packed("10.1.0.4")}
RTNL = FakeRtnl([], ways={"172.17.0.0/16": {5}, "10.0.0.0/24": {2}, "0.0.0.0/0": {3}})
KINDS = {2: "", 3: "", 5: "bridge"}
IN = SshSession("172.17.0.2", "172.17.0.1", False, "SSH_CONNECTION of pid 9")


def session(client: str, through: bool | None = False) -> SshSession:
    return SshSession(client, "172.17.0.1", through, "SSH_CONNECTION of pid 9")


@pytest.mark.parametrize(
    ("one", "counts"),
    [
        (session("172.17.0.2"), True),
        (session("::ffff:172.17.0.2"), True),
        (session("172.17.0.1"), False),  # this host: look/relays.py
        (session("10.0.0.9"), False),  # by a netdev that leads to others
        (session("172.17.0.2", through=None), False),  # refused anyway
        (session("172.17.0.2", through=True), False),
        (session("fe80::2%eth0"), False),
        (session("UNKNOWN"), False),
    ],
)
def test_the_clients_that_are_on_this_host(one: SshSession, counts: bool) -> None:
    found = guests.addresses([one], OWN, KINDS, RTNL)
    assert found == ({one.client: GUEST} if counts else {})


def reached(
    proc: Path,
    *sockets: TcpSocket,
    forwarded: Collection[bytes] | None = (),
    over: Iterable[Connection] | None = (),
    served: Collection[int] = (),
) -> set[bytes]:
    asked = []

    def tcp(program: bytes) -> Iterable[TcpSocket]:
        asked.append(program)
        return sockets

    listening = [TcpSocket(10, bytes(4), port, bytes(4), 0, 0, 5, 0) for port in served]
    asks = Asks(tcp, lambda _: listening, lambda _: ())
    found = guests.reached({GUEST}, lambda _: forwarded, over, asks, proc)
    assert asked in ([], [diag.any_of(diag.peer([(GUEST, 32)]))])
    return found


def test_what_is_forwarded_there_or_may_be(tmp_path: Path) -> None:
    assert reached(tmp_path, forwarded={GUEST}) == {GUEST}
    assert reached(tmp_path, forwarded=None) == {GUEST}
    assert reached(tmp_path, over=None) == {GUEST}, "which connections take the port is not known"
    assert reached(tmp_path) == set()


def test_a_program_that_has_a_connection_to_it_and_one_over_the_port(tmp_path: Path) -> None:
    """docker-proxy, or a proxy in front of a virtual machine."""
    (tmp_path / "50/fd").mkdir(parents=True)
    (tmp_path / "50/comm").write_text("docker-proxy\n")
    (tmp_path / "50/fd/3").symlink_to("socket:[77]")
    to_guest = TcpSocket(1, packed("172.17.0.1"), 40000, GUEST, 22, 0, 77, 0)

    def over(pid: int) -> Connection:
        ends = ("10.1.0.4", 2222, "203.0.113.9", 5555)
        return Connection(*ends, "established", 78, (Process(pid, "docker-proxy"),))

    assert reached(tmp_path, to_guest, over=[over(50)]) == {GUEST}
    assert reached(tmp_path, to_guest, over=[over(51)]) == set()
    assert reached(tmp_path, over=[over(50)]) == set()


@pytest.mark.parametrize(
    ("comm", "local_port", "counts"),
    [("nginx", 443, False), ("nginx", 40000, True), ("sshd-session", 22, True), ("sshd", 22, True)],
)
def test_a_client_of_a_server_is_passed_on_by_sshd_alone(
    tmp_path: Path, comm: str, local_port: int, counts: bool
) -> None:
    """Else whoever works from a virtual machine and has its web page open would be refused."""
    (tmp_path / "50/fd").mkdir(parents=True)
    (tmp_path / "50/comm").write_text(f"{comm}\n")
    (tmp_path / "50/cmdline").write_bytes(f"{comm}\0".encode())
    (tmp_path / "50/fd/3").symlink_to("socket:[77]")
    here = TcpSocket(1, packed("172.17.0.1"), local_port, GUEST, 5000, 0, 77, 0)
    ends = ("10.1.0.4", local_port, "203.0.113.9", 5555)
    over = Connection(*ends, "established", 78, (Process(50, comm),))
    found = reached(tmp_path, here, over=[over], served={22, 443})
    assert found == ({GUEST} if counts else set())


def test_whether_such_a_session_takes_the_port_is_not_known() -> None:
    known = {IN.client: GUEST}
    found = guests.judged(IN, known, {GUEST})
    assert found == SshSession(IN.client, IN.server, None, IN.found_in, guest=True)
    assert guests.judged(IN, known, set()) is IN
    assert guests.judged(session("10.0.0.9"), known, {GUEST}).through_port is False
