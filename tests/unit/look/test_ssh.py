"""Remote logins, on a machine in memory."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from manactl.look import ssh
from manactl.look.sockets import Reach
from manactl.netstate.surroundings import Process, SshSession
from manactl.wire.inet_diag import TcpSocket
from tests.unit.look.kernel import FakeRtnl, address, link
from tests.unit.wording import wording


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def packed(*addresses: str) -> frozenset[bytes]:
    return frozenset(
        socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a) for a in addresses
    )


def found_by(
    proc: Path, ifindexes: set[int] | None = None, *own: str, rtnl: FakeRtnl | None = None,
    run: Path = Path("/nonexistent"),
) -> tuple[SshSession, ...]:  # fmt: skip
    reach = Reach(frozenset(ifindexes or {3}), packed(*own))
    return ssh.sessions(reach, rtnl or Routes(), proc, run)


class Routes(FakeRtnl):
    def __init__(self) -> None:
        super().__init__(
            [],
            [address(3, "fe80::3", scope=253)],
            ways={"10.9.9.9/32": {3}, "2001:db8::/32": {3}, "0.0.0.0/0": {2}},
        )


def sessions(tmp_path: Path, value: str, ifindexes: set[int]) -> SshSession:
    me = os.getpid()
    write(tmp_path / f"{me}/environ", f"A=b\0SSH_CONNECTION={value}\0B=SSH_CONNECTION=1 2 3 4\0")
    write(tmp_path / f"{me}/stat", f"{me} (x) S 0 1 1")
    (found,) = found_by(tmp_path, ifindexes)
    return found


@pytest.mark.wording
def test_ssh_is_found_in_an_ancestor_since_sudo_clears_the_environment(tmp_path: Path) -> None:
    me = os.getpid()
    write(tmp_path / f"{me}/environ", "PATH=/bin\0")
    write(tmp_path / f"{me}/stat", f"{me} (odd ) name) S 70 1 1")
    write(tmp_path / "70/environ", "A=b\0SSH_CONNECTION=10.9.9.9 50022 10.0.0.2 22\0")
    write(tmp_path / "70/stat", "70 (bash) S 60 1 1")
    write(tmp_path / "60/environ", "SSH_CONNECTION=10.9.9.9 50022 10.0.0.2 22\0")  # the same
    write(tmp_path / "60/stat", "60 (bash) S 50 1 1")
    write(tmp_path / "50/environ", "SSH_CONNECTION=10.8.8.8 50022 10.8.0.2 22\0")  # and beyond
    write(tmp_path / "50/stat", "50 (bash) S 1 1 1")
    write(tmp_path / "1/stat", "1 (init) S 0 1 1")
    assert found_by(tmp_path) == (
        SshSession("10.9.9.9", "10.0.0.2", True, "SSH_CONNECTION of pid 70"),
        SshSession("10.8.8.8", "10.8.0.2", False, "SSH_CONNECTION of pid 50"),
    )


@pytest.mark.wording
def test_the_first_process_of_a_container_is_an_ancestor(tmp_path: Path) -> None:
    me = os.getpid()
    (tmp_path / f"{me}").mkdir()
    (tmp_path / f"{me}/stat").write_bytes(b"%d (\xff) S 1 1 1" % me)
    write(tmp_path / "1/environ", "SSH_CONNECTION=10.9.9.9 50022 10.0.0.2 22\0")
    write(tmp_path / "1/stat", "1 (sh) S 0 1 1")
    (found,) = found_by(tmp_path)
    assert found.found_in == "SSH_CONNECTION of pid 1"


@pytest.mark.parametrize(("ancestor", "found"), [(62, 1), (63, 1), (64, 0)])
def test_of_a_long_line_of_ancestors_64_are_asked(
    tmp_path: Path, ancestor: int, found: int
) -> None:
    line = [os.getpid(), *range(5_000_001, 5_000_080)]
    for pid, parent in itertools.pairwise(line):
        write(tmp_path / f"{pid}/stat", f"{pid} (x) S {parent} 1 1")
    value = "SSH_CONNECTION=10.9.9.9 50022 10.0.0.2 22\0"
    write(tmp_path / f"{line[ancestor]}/environ", value)
    assert len(found_by(tmp_path)) == found


def test_an_environment_that_is_no_text_is_read_as_far_as_it_is(tmp_path: Path) -> None:
    me = os.getpid()
    (tmp_path / f"{me}").mkdir()
    (tmp_path / f"{me}/environ").write_bytes(b"\xff=1\0SSH_CONNECTION=a=b\xff 1 c=d 2\0")
    (found,) = found_by(tmp_path)
    assert (found.client, found.server, found.through_port) == ("a=b\udcff", "c=d", None)


@pytest.mark.parametrize("stat", [None, "1 (x) S", "1 (x) S zero", "1 (x) S 0 1"])
def test_the_search_ends_at_the_first_process_and_where_nothing_can_be_read(
    tmp_path: Path, stat: str | None
) -> None:
    if stat is not None:
        write(tmp_path / f"{os.getpid()}/stat", stat)
    for pid in (0, 1):
        write(tmp_path / f"{pid}/environ", "SSH_CONNECTION=10.9.9.9 50022 10.0.0.2 22\0")
    assert found_by(tmp_path) == ()


def test_ancestors_that_go_round_in_circles_are_left(tmp_path: Path) -> None:
    me = os.getpid()
    write(tmp_path / f"{me}/stat", f"{me} (x) S {me} 1 1")
    assert found_by(tmp_path) == ()


@pytest.mark.parametrize(
    ("value", "ifindexes", "through"),
    [
        ("10.9.9.9 50022 10.0.0.2 22", {3}, True),
        ("10.9.9.9 50022 10.0.0.2 22", {4}, False),
        ("10.8.8.8 50022 10.0.0.2 22", {3}, False),
        ("2001:db8::9 50022 2001:db8::2 22", {3, 9}, True),
        ("UNKNOWN 0 UNKNOWN 0", {3}, None),
        (" ", {3}, None),
        ("fe80::9 50022 fe80::2 22", {1}, None),  # behind which interface?
        ("fe80::9%lo 50022 fe80::2%lo 22", {1}, True),
        ("fe80::9%lo 50022 fe80::2%lo 22", {3}, False),
        ("fe80::9%nonesuch0 50022 fe80::2%nonesuch0 22", {3}, None),
        ("fe80::9%1 50022 fe80::2%1 22", {1}, True),  # lo, by its number
        ("fe80::9%1 50022 fe80::2%1 22", {3}, False),
        ("fe80::9%lo 50022 fe80::2 22", {1}, True),
        ("fe80::9 50022 fe80::2%lo 22", {1}, True),
        ("fe80::9%4000000 50022 fe80::2%4000000 22", {3}, None),
        ("fe80::9%99999999999 50022 fe80::2 22", {3}, None),
        ("fe80::9 50022 fe80::3 22", {3}, True),  # by who has the server's address
        ("fe80::9 50022 fe80::3 22", {4}, False),
        ("169.254.9.9 50022 169.254.0.2 22", {3}, False),  # by the routing table
    ],
)
def test_which_way_a_session_goes(
    tmp_path: Path, value: str, ifindexes: set[int], through: bool | None
) -> None:
    assert sessions(tmp_path, value, ifindexes).through_port is through


def test_a_session_over_ipv4_is_told_so_whatever_the_server_listens_on(tmp_path: Path) -> None:
    found = sessions(tmp_path, "::ffff:10.9.9.9 50022 ::ffff:10.0.0.2 22", {3})
    assert (found.client, found.server, found.through_port) == ("10.9.9.9", "10.0.0.2", True)


def test_the_same_link_local_address_on_two_interfaces_is_told_by_its_zone(tmp_path: Path) -> None:
    me = os.getpid()
    write(tmp_path / f"{me}/stat", f"{me} (x) S 0 1 1")
    for zone, elsewhere in (("%lo", False), ("%1", False), ("", True), ("%nonesuch0", True)):
        value = f"fe80::9{zone} 50022 fe80::2{zone} 22"
        write(tmp_path / f"{me}/environ", f"SSH_CONNECTION={value}\0")
        (found,) = found_by(tmp_path, {1, 3}, "fe80::2")
        assert found.through_port is True, zone
        (found,) = found_by(tmp_path, {3}, "fe80::2")
        assert found.through_port is elsewhere, zone


class Recording(Routes):
    def __init__(self, on: int = 3) -> None:
        super().__init__()
        self.links = [link(3, "eth1", master=9), link(9, "red", "vrf")]
        self.having.append(address(on, "10.0.0.2"))
        self.more: dict[str, Any] = {}

    def leaves_by(self, address: bytes, **more: Any) -> set[int]:
        self.more = more
        return {3}


@pytest.mark.parametrize("on", [3, 9], ids=["member", "vrf"])
def test_the_way_is_looked_up_as_the_sessions_socket_would(tmp_path: Path, on: int) -> None:
    """From its own address, in the VRF that has it, with protocol and ports for rules on them."""
    me, rtnl = os.getpid(), Recording(on)
    write(tmp_path / f"{me}/environ", "SSH_CONNECTION=10.9.9.9 50022 10.0.0.2 22\0")
    write(tmp_path / f"{me}/stat", f"{me} (x) S 0 1 1")
    (found,) = found_by(tmp_path, {3}, rtnl=rtnl)
    assert found.through_port
    flow = b"\5\0\x1b\0\6\0\0\0\6\0\x1c\0\0\x16\0\0\6\0\x1d\0\xc3\x66\0\0"
    (source,) = packed("10.0.0.2")
    assert rtnl.more == {"source": source, "bound": 9, "flow": flow}


@pytest.mark.parametrize("error", [OSError("no answer"), ValueError("half an answer")])
def test_a_way_that_cannot_be_looked_up_is_not_known(tmp_path: Path, error: Exception) -> None:
    me, rtnl = os.getpid(), Recording()
    rtnl.failing["leaves_by"] = error
    rtnl.leaves_by = Routes.leaves_by.__get__(rtnl)  # type: ignore[method-assign]
    write(tmp_path / f"{me}/environ", "SSH_CONNECTION=10.9.9.9 50022 10.0.0.2 22\0")
    write(tmp_path / f"{me}/stat", f"{me} (x) S 0 1 1")
    (found,) = found_by(tmp_path, {3}, rtnl=rtnl)
    assert found.through_port is None


# --- logind -------------------------------------------------------------------------------------


@pytest.mark.wording
@pytest.mark.parametrize(
    ("text", "through"),
    [
        ("REMOTE=1\nREMOTE_HOST=10.9.9.9\nSTATE=active\n", True),
        ("REMOTE=1\nREMOTE_HOST=10.8.8.8\nSTATE=online\n", False),
        ("REMOTE=1\nREMOTE_HOST=10.9.9.9\nSTATE=closing\n", None),  # tmux has stayed
        ("REMOTE=0\nREMOTE_HOST=10.9.9.9\nSTATE=active\n", None),
        ("REMOTE=1\nREMOTE_HOST=desk.example\nSTATE=active\n", None),
        ("REMOTE=1\nSTATE=active\n", None),
    ],
)
def test_sessions_that_logind_knows(tmp_path: Path, text: str, through: bool | None) -> None:
    write(tmp_path / "run/systemd/sessions/7", text)
    os.mkfifo(tmp_path / "run/systemd/sessions/7.ref")
    leader = os.open(tmp_path / "run/systemd/sessions/7.ref", os.O_RDWR)  # as pam_systemd has it
    try:
        found = found_by(tmp_path, run=tmp_path / "run")
    finally:
        os.close(leader)
    expected = SshSession(text.split()[1][12:], "", through, "logind session 7", False)
    assert found == (() if through is None else (expected,))


def test_ones_own_session_is_not_told_twice(tmp_path: Path) -> None:
    me = os.getpid()
    write(tmp_path / f"{me}/environ", "SSH_CONNECTION=10.9.9.9 50022 10.0.0.2 22\0")
    write(tmp_path / f"{me}/stat", f"{me} (x) S 0 1 1")
    write(tmp_path / "run/systemd/sessions/7", "REMOTE=1\nREMOTE_HOST=10.9.9.9\nSTATE=active\n")
    (found,) = found_by(tmp_path, run=tmp_path / "run")
    assert found.own


# --- by their sockets ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("comm", "exe", "cgroup", "serves"),
    [
        ("sshd", "/bin/x", "0::/", True),
        ("sshd-session", "/bin/x", "0::/", True),
        ("dropbear", "/bin/x", "0::/", True),
        ("odd", "/usr/sbin/sshd", "0::/", True),
        ("odd", "/usr/sbin/sshd (deleted)", "0::/", True),
        ("odd", "/bin/x", "0::/system.slice/ssh.service", True),
        ("odd", "/bin/x", "0::/system.slice/system-sshd.slice/sshd@7.service", True),
        ("odd", "/bin/x", "0::/user.slice/user-0.slice/session-7.scope", False),
        ("ssh", "/usr/bin/ssh", "0::/", False),
        ("curl", "/usr/bin/curl", "0::/system.slice/sshguard.service", False),
    ],
)
def test_who_serves_remote_logins(
    tmp_path: Path, comm: str, exe: str, cgroup: str, serves: bool
) -> None:
    write(tmp_path / "9/cgroup", cgroup + "\n")
    (tmp_path / "9/exe").symlink_to(exe)
    assert ssh.is_server(Process(9, comm), tmp_path) is serves
    assert ssh.of_servers([(7000, (Process(9, comm),))], tmp_path) == [serves]


def test_a_connection_to_sshds_port_whose_process_nobody_sees_is_a_login(tmp_path: Path) -> None:
    assert ssh.of_servers([(22, ()), (2222, ())], tmp_path) == [True, False]
    assert ssh.of_servers([(22, (Process(9, "haproxy"),))], tmp_path) == [False]


def mosh(
    proc: Path, local: str, environ: str | None, comm: str = "mosh-server"
) -> list[SshSession]:
    write(proc / "9/comm", comm + "\n")
    if environ is not None:
        write(proc / "9/environ", f"A=b\0{environ}\0")
    (proc / "9/fd").mkdir()
    (proc / "9/fd/4").symlink_to("socket:[801]")
    write(proc / "10/comm", "named\n")
    (here,) = packed(local)
    some = [TcpSocket(7, here, 60001, bytes(4), 0, 0, 801, 0)]
    some.append(TcpSocket(7, here, 53, bytes(4), 0, 0, 802, 0))
    reach = Reach(frozenset({3}), packed("10.0.0.2"))
    return ssh.mosh(reach, Routes(), lambda: some, proc)


@pytest.mark.parametrize(
    ("local", "environ", "through"),
    [
        ("10.0.0.2", None, True),  # its address goes
        ("10.0.0.2", "SSH_CONNECTION=10.8.8.8 5 10.0.0.2 22", True),
        ("0.0.0.0", "SSH_CONNECTION=10.9.9.9 5 10.8.0.2 22", True),
        ("0.0.0.0", "SSH_CONNECTION=10.8.8.8 5 10.8.0.2 22", False),
        ("10.8.0.2", "SSH_CONNECTION=10.9.9.9 5 10.8.0.2 22", True),
        ("10.8.0.2", "SSH_CONNECTION=10.8.8.8 5 10.8.0.2 22", False),
    ],
)
def test_sessions_of_mosh(tmp_path: Path, local: str, environ: str | None, through: bool) -> None:
    (found,) = mosh(tmp_path, local, environ)
    assert (found.through_port, found.own) == (through, False)
    with wording:
        assert found.found_in == "pid 9 mosh-server on UDP port 60001"


def test_a_session_of_mosh_whose_client_nobody_knows(tmp_path: Path) -> None:
    (found,) = mosh(tmp_path, "0.0.0.0", None)
    assert found.through_port is None


def test_no_session_of_mosh(tmp_path: Path) -> None:
    assert mosh(tmp_path / "a", "10.8.0.2", None) == []  # of another netdev
    assert mosh(tmp_path / "b", "10.0.0.2", None, comm="named") == []


def test_an_environment_that_nobody_answers_for_is_waited_for_in_vain_and_not_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of a process may be a file of a silent server (FUSE): who reads it hangs beyond
    SIGKILL. Here a FIFO that nobody writes to."""
    monkeypatch.setattr(ssh, "_WAIT", 0.1)
    me = os.getpid()
    write(tmp_path / f"{me}/stat", f"{me} (x) S 70 1 1")
    os.mkfifo(tmp_path / f"{me}/environ")
    write(tmp_path / "70/environ", "SSH_CONNECTION=10.8.8.8 50022 10.8.0.2 22\0")
    write(tmp_path / "70/stat", "70 (x) S 71 1 1")
    (tmp_path / "71").mkdir()
    os.mkfifo(tmp_path / "71/environ")
    silent, other, first = found_by(tmp_path)
    with wording:
        assert first.found_in == "SSH_CONNECTION of pid 71"
    assert (silent.client, silent.through_port) == ("?", None)
    with wording:
        assert silent.found_in == f"SSH_CONNECTION of pid {me}"
    assert other.client == "10.8.8.8"


def test_an_environment_that_comes_slowly_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads it runs again and again, however late the machine lets it."""
    monkeypatch.setattr(ssh, "_WAIT", 1.0)
    me = os.getpid()
    write(tmp_path / f"{me}/stat", f"{me} (x) S 1 1 1")
    os.mkfifo(tmp_path / f"{me}/environ")

    def slowly() -> None:
        with (tmp_path / f"{me}/environ").open("wb", buffering=0) as pipe:
            for byte in b"SSH_CONNECTION=10.8.8.8 50022 10.8.0.2 22\0":
                pipe.write(bytes([byte]))
                time.sleep(0.04)

    writer = threading.Thread(target=slowly, daemon=True)
    writer.start()
    (session,) = found_by(tmp_path)
    writer.join()
    assert session.client == "10.8.8.8"


def test_a_mosh_server_whose_environment_hangs_may_have_any_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "_WAIT", 0.1)
    (tmp_path / "9").mkdir()
    os.mkfifo(tmp_path / "9/environ")
    (found,) = mosh(tmp_path, "0.0.0.0", None)
    assert (found.client, found.through_port) == ("?", None)
