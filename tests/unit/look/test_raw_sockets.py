"""Raw sockets and UDP-Lite, from /proc on a machine in memory, and of this kernel."""

from __future__ import annotations

import errno
import socket
import sys
from pathlib import Path

import pytest

from manactl.look import raw_sockets
from manactl.look.sockets import Reach
from manactl.netstate.surroundings import Connection, Listener
from tests.unit.look.kernel import FakeRtnl

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
REACH = Reach(
    frozenset({3}),
    frozenset(socket.inet_aton(text) for text in ("10.1.0.4", "10.1.0.5")),
)
RTNL = FakeRtnl([], ways={"10.1.0.0/24": {3}, "10.2.0.0/24": {4}, "2001:db8::/32": {3}})


def number(text: str) -> str:
    """As the kernel prints it: words of this machine's byte order."""
    raw = socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    words = [raw[at : at + 4] for at in range(0, len(raw), 4)]
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


def row(local: str, port: int, peer: str, state: int, inode: int, peer_port: int = 0) -> str:  # noqa: PLR0917
    ends = f"{number(local)}:{port:04X} {number(peer)}:{peer_port:04X}"
    return (
        f"  {port}: {ends} {state:02X} 00000000:00000000 00:00000000 00000000   106        0 "
        f"{inode} 2 00000000527e5005 0\n"
    )


def written(root: Path, **tables: str) -> Path:
    (root / "net").mkdir(exist_ok=True)
    (root / "net/dev").touch()
    for name, text in tables.items():
        (root / "net" / name).write_text(HEAD + text)
    return root


def test_those_with_a_peer_that_use_the_port(tmp_path: Path) -> None:
    process = written(
        tmp_path,
        raw=row("10.1.0.4", 47, "10.2.0.9", 1, 11)  # the port's address
        + row("10.8.0.4", 47, "10.1.0.9", 1, 12)  # leaves by it
        + row("10.8.0.4", 47, "10.2.0.9", 1, 13)
        + row("10.1.0.4", 89, "0.0.0.0", 7, 14),
        raw6=row("2001:db8:8::4", 41, "2001:db8::9", 1, 15)
        + row("::ffff:10.1.0.5", 47, "::ffff:10.2.0.9", 1, 16),
        udplite=row("10.1.0.4", 77, "10.1.0.9", 1, 17, 78),
    )
    assert raw_sockets.connected(REACH, RTNL, process) == [
        Connection("10.1.0.4", 47, "10.2.0.9", 0, "established", 11, protocol="raw"),
        Connection("10.8.0.4", 47, "10.1.0.9", 0, "established", 12, protocol="raw"),
        Connection("2001:db8:8::4", 41, "2001:db8::9", 0, "established", 15, protocol="raw"),
        Connection("10.1.0.5", 47, "10.2.0.9", 0, "established", 16, protocol="raw"),
        Connection("10.1.0.4", 77, "10.1.0.9", 78, "established", 17, protocol="udplite"),
    ]


def test_those_that_wait_at_an_address_of_the_port(tmp_path: Path) -> None:
    process = written(
        tmp_path,
        raw=row("10.1.0.4", 89, "0.0.0.0", 7, 14)
        + row("0.0.0.0", 112, "0.0.0.0", 7, 15)
        + row("10.1.0.4", 47, "10.1.0.9", 1, 16),
        udplite=row("10.1.0.5", 53, "0.0.0.0", 7, 18),
    )
    assert raw_sockets.waiting(REACH, process) == [
        Listener("raw", "10.1.0.4", 89, 14),
        Listener("udplite", "10.1.0.5", 53, 18),
    ]


def test_no_table_is_no_socket_and_no_proc_is_not_known(tmp_path: Path) -> None:
    assert raw_sockets.connected(REACH, RTNL, written(tmp_path)) == []
    assert raw_sockets.waiting(REACH, tmp_path) == []
    (tmp_path / "net/dev").unlink()
    for look in (
        lambda: raw_sockets.connected(REACH, RTNL, tmp_path),
        lambda: raw_sockets.waiting(REACH, tmp_path),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            look()  # type: ignore[no-untyped-call]
        assert caught.value.errno == errno.ENOENT


def test_a_row_that_makes_no_sense_is_not_passed_over(tmp_path: Path) -> None:
    process = written(tmp_path, raw="what is this\n")
    with pytest.raises(ValueError, match="unpack"):
        raw_sockets.connected(REACH, RTNL, process)
