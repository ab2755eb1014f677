"""What systemd is told, on a real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from manactl.act.service import Service


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def test_each_word_is_a_datagram(systemd: socket.socket) -> None:
    service = Service({"NOTIFY_SOCKET": systemd.getsockname()})
    service.ready("keeping down eth1\nREADY=0")
    assert systemd.recv(4096) == b"READY=1\nSTATUS=keeping down eth1 READY=0"
    service.status("waiting")
    assert systemd.recv(4096) == b"STATUS=waiting"
    service.alive()
    assert systemd.recv(4096) == b"WATCHDOG=1"
    service.stopping()
    assert systemd.recv(4096) == b"STOPPING=1"


def test_an_abstract_socket_has_an_at_sign() -> None:
    name = f"manactl-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        sock.setblocking(False)
        Service({"NOTIFY_SOCKET": f"@{name}"}).alive()
        assert sock.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize("path", ["", "vsock:2:1234", "/none/such"])
def test_where_nobody_listens_it_is_no_error(path: str) -> None:
    service = Service({"NOTIFY_SOCKET": path})
    service.ready("ready")
    service.stopping()


@pytest.mark.parametrize(
    ("more", "every"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
        ({}, None),
    ],
)
def test_how_often_it_has_to_be_alive(more: dict[str, str], every: float | None) -> None:
    assert Service({"NOTIFY_SOCKET": "/none", **more}).alive_every == every
    assert Service(more).alive_every is None, "nobody to tell"
