"""TUN and TAP devices and their programs, on a machine in memory."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from manactl.look import tuntap
from manactl.look.source_words import UNSEEN_PROGRAM
from manactl.look.tuntap import Sources
from manactl.wire.if_link import IfLink
from manactl.wire.inet_diag import TcpSocket
from manactl.wire.tunnels import Outer, Tunnel
from tests.unit.look.kernel import attr

ANY = bytes(4)


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def tun(index: int, name: str, *, tap: bool = False, offloads: bool = False, carrier: bool = True,
        master: int | None = None) -> IfLink:  # fmt: skip
    data = attr(3, bytes([2 if tap else 1])) + attr(5, bytes([offloads]))
    body = struct.pack("=BxHiII", 0, 1, index, 1, 0) + attr(3, name.encode() + b"\0")
    body += attr(33, bytes([carrier])) + attr(18, attr(1, b"tun\0") + attr(2, data))
    return IfLink(body + (attr(10, struct.pack("=I", master)) if master else b""))


def sock(
    inode: int, peer: str, local: str = "10.1.0.4", mark: int = 0, bound: int = 0
) -> TcpSocket:
    return TcpSocket(1, packed(local), 5000, packed(peer), 1194, bound, inode, mark)


class Machine:
    """A /proc, and the sockets of a network namespace."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.tcp: list[TcpSocket] = []
        self.udp: list[TcpSocket] = []
        self.unconnected: list[TcpSocket] = []
        self.asked = 0

    def run(self, pid: int, comm: str, *devices: str, sockets: tuple[int, ...] = ()) -> None:
        base = self.proc / str(pid)
        for part in ("fd", "fdinfo"):
            (base / part).mkdir(parents=True)
        (base / "comm").write_text(comm + "\n")
        for number, device in enumerate(devices, 3):
            (base / f"fd/{number}").symlink_to("/dev/net/tun")
            (base / f"fdinfo/{number}").write_text(f"pos:\t0\nflags:\t0104002\niff:\t{device}\n")
        for number, inode in enumerate(sockets, 20):
            (base / f"fd/{number}").symlink_to(f"socket:[{inode}]")

    def _listed(self, what: str) -> Callable[[bytes], list[TcpSocket]]:
        def ask(program: bytes) -> list[TcpSocket]:
            assert program == b""
            self.asked += 1
            found: list[TcpSocket] = getattr(self, what)
            return found

        return ask

    def read(self, *links: IfLink) -> list[Tunnel]:
        sources = Sources(*map(self._listed, ("tcp", "udp", "unconnected")))
        return tuntap.tunnels(links, self.proc, sources)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "self").mkdir()
    made = Machine(tmp_path)
    made.run(5, "sshd", sockets=(50,))
    made.tcp = [sock(50, "203.0.113.7")]
    return made


def test_a_client_with_connected_sockets(machine: Machine) -> None:
    machine.run(70, "openconnect", "tun0", sockets=(71, 72, 73))
    machine.tcp.append(sock(71, "10.1.0.9", mark=7, bound=3))
    machine.tcp.append(sock(72, "127.0.0.1", "127.0.0.1"))  # its management
    machine.udp.append(sock(73, "2001:db8::9", "2001:db8::4"))
    assert machine.read(tun(8, "tun0")) == [
        Tunnel(8, "tun0", "tun", by="pid 70 openconnect", outers=(
            Outer(packed("10.1.0.9"), packed("10.1.0.4"), 7, 3),
            Outer(packed("2001:db8::9"), packed("2001:db8::4")),
        ))
    ]  # fmt: skip


@pytest.mark.parametrize(("local", "found"), [("0.0.0.0", True), ("::", True),
                                              ("127.0.0.53", False), ("::1", False)])  # fmt: skip
def test_a_server_may_send_to_anybody(machine: Machine, local: str, found: bool) -> None:
    machine.run(70, "openvpn", "tun0", sockets=(71,))
    machine.unconnected = [sock(71, "0.0.0.0", local), sock(99, "0.0.0.0", "0.0.0.0")]
    expected = [Tunnel(8, "tun0", "tun", metadata=True, by="pid 70 openvpn")]
    assert machine.read(tun(8, "tun0")) == (expected if found else [])


def test_a_program_without_sockets_is_no_vpn(machine: Machine) -> None:
    machine.run(70, "qemu", "tun0", sockets=(71,))
    machine.run(80, "other", "tun9", sockets=(81,))
    machine.udp.append(sock(81, "10.1.0.9"))
    assert machine.read(tun(8, "tun0")) == []


def test_what_is_open_by_nobody_visible_may_send_anywhere(machine: Machine) -> None:
    """As in a container, whose VPN runs on the host."""
    (found,) = machine.read(tun(8, "tun0"))
    assert (found.metadata, found.unseen, found.by) == (True, True, UNSEEN_PROGRAM)


@pytest.mark.parametrize(
    "link",
    [
        tun(8, "tun0", carrier=False),  # nobody has it open
        tun(8, "tap0", tap=True, offloads=True),  # a virtual machine's
        tun(8, "tap0", tap=True, master=4),
    ],
)
def test_devices_that_are_no_vpns(machine: Machine, link: IfLink) -> None:
    machine.run(70, "qemu", "tap0", "tun0", sockets=(71,))
    machine.udp.append(sock(71, "10.1.0.9"))
    assert machine.read(link) == []
    assert machine.asked == 0


def test_other_tuns_and_taps_are_looked_at(machine: Machine) -> None:
    machine.run(70, "vpn", "tap0", "tun1", sockets=(71,))
    machine.run(72, "vpn", "tap0")  # a worker
    machine.udp.append(sock(71, "10.1.0.9"))
    first, second = machine.read(tun(8, "tap0", tap=True), tun(9, "tun1", offloads=True))
    assert sorted(first.by.split(", ")) == ["pid 70 vpn", "pid 72 vpn"]
    assert second.by == "pid 70 vpn"


def test_a_process_that_ends_meanwhile_is_passed_over(machine: Machine) -> None:
    machine.run(70, "vpn", "tun0", sockets=(71,))
    os.unlink(machine.proc / "70/fdinfo/3")
    (found,) = machine.read(tun(8, "tun0"))
    assert found.unseen


def test_a_program_in_another_namespace_may_send_to_anybody(machine: Machine) -> None:
    """Its sockets are not seen from here."""
    machine.run(70, "tailscaled", "tun0", sockets=(71,))
    for pid, where in (("70", 2), ("self", 1)):
        (machine.proc / pid / "ns").mkdir()
        (machine.proc / pid / "ns/net").symlink_to(f"net:[{where}]")
    expected = [Tunnel(8, "tun0", "tun", metadata=True, by="pid 70 tailscaled")]
    assert machine.read(tun(8, "tun0")) == expected
    (machine.proc / "self/ns/net").unlink()
    (machine.proc / "self/ns/net").symlink_to("net:[2]")
    assert machine.read(tun(8, "tun0")) == []
