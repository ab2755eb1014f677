"""The entry in the system log, read by the rules of journald's native protocol."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from manactl.act.audit import MESSAGE_IDS, Audit
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


def test_a_logger_that_hangs_or_is_not_there_stops_nobody(
    journald: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr("syslog.syslog", lambda priority, line: lines.append(line))
    with contextlib.suppress(BlockingIOError):
        while True:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(b"x" * 1000, path_of(journald))
    with Audit("claim", BY, [], socket_path=path_of(journald)):
        pass
    with Audit("claim", BY, [], socket_path=path_of(journald) + ".none"):
        pass
    assert len(lines) == 2
    assert all('result="done"' in line and 'sudo_user="operator"' in line for line in lines)


def test_an_endless_message_is_cut_and_arrives(journald: socket.socket) -> None:
    with (
        pytest.raises(Refused),
        Audit("claim", BY, [], socket_path=path_of(journald)),
    ):
        raise Refused("x\n" * 100_000)
    assert len(entry(journald)["MANACTL_WHY"][0]) == 16384
