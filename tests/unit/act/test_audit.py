"""The entry in the system log, read by the rules of journald's native protocol."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from manactl.act.audit import MESSAGE_IDS, Audit, to_syslog
from manactl.errors import Refused

BY = {"uid": 0, "sudo_user": "operator", "loginuid": 1000}


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "socket"))
        sock.settimeout(60)
        yield sock


def parse(data: bytes) -> dict[str, list[str]]:
    """KEY=value, or KEY, a length and so many bytes."""
    found: dict[str, list[str]] = {}
    while data:
        head, _, rest = data.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if not equals:
            (length,) = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        found.setdefault(name.decode(), []).append(value.decode())
        data = rest
    return found


def entry(sock: socket.socket) -> dict[str, list[str]]:
    return parse(sock.recv(1 << 20))


def path_of(sock: socket.socket) -> str:
    return str(sock.getsockname())


def test_a_claim_says_who_what_and_how_long(journald: socket.socket) -> None:
    with Audit("claim", BY, ["eth1"], socket_path=path_of(journald)) as audit:
        audit.fields["ports"] = ["7870:00:00.0:1", "7870:00:00.0:2"]
        audit.fields["waived"] = ["last-port", "tcp-established"]
        audit.fields["proven"] = {"7870:00:00.0:1": True}
        audit.fields["nothing"] = None
    said = entry(journald)
    assert int(said.pop("MANACTL_DURATION_MS")[0]) >= 0
    assert said == {
        "MESSAGE": ["claim 7870:00:00.0:1, 7870:00:00.0:2 (uid 0, for operator): done"],
        "MESSAGE_ID": [MESSAGE_IDS["claim"]],
        "PRIORITY": ["5"],
        "SYSLOG_IDENTIFIER": ["manactl"],
        "SYSLOG_FACILITY": ["3"],
        "MANACTL_VERB": ["claim"],
        "MANACTL_ASKED": ["eth1"],
        "MANACTL_UID": ["0"],
        "MANACTL_SUDO_USER": ["operator"],
        "MANACTL_LOGINUID": ["1000"],
        "MANACTL_PORTS": ["7870:00:00.0:1", "7870:00:00.0:2"],
        "MANACTL_WAIVED": ["last-port", "tcp-established"],
        "MANACTL_PROVEN": ['{"7870:00:00.0:1": true}'],
        "MANACTL_RESULT": ["done"],
        "MANACTL_EXIT": ["0"],
    }


def test_a_refusal_says_why_and_no_line_of_it_becomes_a_field(journald: socket.socket) -> None:
    why = "refused\nMANACTL_RESULT=done\nMANACTL_UID=7"
    with (
        pytest.raises(Refused),
        Audit("claim", BY, ["eth1\nPRIORITY=0"], socket_path=path_of(journald)),
    ):
        raise Refused(why)
    said = entry(journald)
    assert said["MANACTL_WHY"] == [why]
    assert said["MANACTL_RESULT"] == ["refused"]
    assert (said["MANACTL_EXIT"], said["PRIORITY"]) == (["3"], ["4"])
    assert said["MANACTL_ASKED"] == ["eth1\nPRIORITY=0"]


def test_a_bug_is_named(journald: socket.socket) -> None:
    with (
        contextlib.suppress(ZeroDivisionError),
        Audit("release", BY, [], socket_path=path_of(journald)),
    ):
        _ = 1 / 0
    assert entry(journald)["MANACTL_RESULT"] == ["ZeroDivisionError"]


def test_a_dry_run_says_nothing(journald: socket.socket) -> None:
    with Audit("recover", BY, [], socket_path=path_of(journald)) as audit:
        audit.quiet = True
    journald.setblocking(False)
    with pytest.raises(BlockingIOError):
        journald.recv(1)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_logger_that_hangs_or_is_not_there_stops_nobody(
    journald: socket.socket, tmp_path: Path, kind: socket.SocketKind
) -> None:
    log = str(tmp_path / "log")
    with contextlib.suppress(BlockingIOError):
        while True:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(b"x" * 1000, path_of(journald))
    with Audit("claim", BY, ["eth1\0"], socket_path=path_of(journald), syslog_path=log):
        pass  # neither is there
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.bind(log)
        if kind == socket.SOCK_STREAM:
            sock.listen(1)
        sock.settimeout(60)
        for path in (path_of(journald), path_of(journald) + ".none"):
            with Audit("claim", BY, ["eth1\0"], socket_path=path, syslog_path=log):
                pass
            line = received(sock)
            assert line.startswith(f"<29>manactl[{os.getpid()}]: ".encode())
            assert b'result="done"' in line
            assert b'asked=["eth1\\u0000"]' in line
            assert b'sudo_user="operator"' in line
            assert line.endswith(b"\0") is (kind == socket.SOCK_STREAM)
        # One that hangs, too: nobody takes what it is sent.
        fill(log, kind)
        with Audit("claim", BY, [], socket_path=path, syslog_path=log):
            pass


def received(sock: socket.socket) -> bytes:
    if sock.type == socket.SOCK_DGRAM:
        return sock.recv(65536)
    with sock.accept()[0] as connection, connection.makefile("rb") as file:
        return file.read()


def fill(path: str, kind: socket.SocketKind) -> None:
    """Until nothing more is taken."""
    with contextlib.ExitStack() as stack, contextlib.suppress(BlockingIOError):
        while True:
            sock = stack.enter_context(socket.socket(socket.AF_UNIX, kind))
            sock.setblocking(False)
            sock.connect(path)
            sock.send(b"x" * 1000)


def test_without_a_descriptor_to_load_it_with_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "socket", None)
    assert to_syslog(["x"], 5, 3) is False
    with Audit("claim", {"uid": 0}, ["eth1"]):
        pass


def test_any_number_of_words_leaves_an_entry(journald: socket.socket) -> None:
    words = [f"eth{number}" for number in range(60_000)]
    with Audit("claim", BY, words, socket_path=path_of(journald)) as audit:
        audit.fields["ports"] = ["7870:00:00.0:1"]
    said = entry(journald)
    assert said["MANACTL_ASKED"] == words[: len(said["MANACTL_ASKED"])]
    assert said["MANACTL_ASKED_COUNT"] == ["60000"]
    assert 50 < len(said["MANACTL_ASKED"]) < 1000
    assert said["MANACTL_PORTS"] == ["7870:00:00.0:1"]
    assert "MANACTL_PORTS_COUNT" not in said


def test_words_of_any_length_leave_an_entry(journald: socket.socket) -> None:
    with Audit("claim", BY, ["x" * 130_000] * 60, socket_path=path_of(journald)):
        pass
    said = entry(journald)
    assert said["MANACTL_ASKED"] == ["x" * 4096]
    assert said["MANACTL_ASKED_COUNT"] == ["60"]
    assert said["MANACTL_UID"] == ["0"]


def test_any_number_of_words_leaves_a_line_in_syslog(tmp_path: Path) -> None:
    words = [f"eth{number}" for number in range(60_000)]
    log = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(log)
        sock.settimeout(60)
        with Audit("claim", BY, words, socket_path=log + ".none", syslog_path=log):
            pass
        line = sock.recv(65536)
    assert len(line) <= 8000
    assert b"asked_count=60000" in line
    assert b'sudo_user="operator"' in line


def test_an_endless_message_is_cut_and_arrives(journald: socket.socket) -> None:
    with (
        pytest.raises(Refused),
        Audit("claim", BY, [], socket_path=path_of(journald)),
    ):
        raise Refused("x\n" * 100_000)
    assert len(entry(journald)["MANACTL_WHY"][0]) == 16384


def test_a_line_for_syslog_is_as_long_as_rsyslog_takes_it(tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(log)
        sock.settimeout(60)
        with (
            pytest.raises(Refused),
            Audit("claim", BY, ["eth1"], socket_path=log + ".none", syslog_path=log),
        ):
            raise Refused("x" * 100_000)
        line = sock.recv(1 << 20)
    assert len(line) == 8000
    assert line.endswith(b"xxx")


def test_a_name_makes_no_line_of_its_own_in_syslog(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as logger:
        logger.bind(path)
        assert to_syslog(["by x\n<0>kernel: \x1b[2J\0"], 5, 3, path=path)
        line = logger.recv(4096)
    assert line.endswith(b"by x\\n<0>kernel: \\e[2J\\x00")
