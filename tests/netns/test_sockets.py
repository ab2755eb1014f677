"""Sockets and their processes, from the kernel itself."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from manactl.sources import sockets
from manactl.sources.rtnl import Rtnl, ntop, out_interface
from manactl.surroundings import Connection

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("netns")]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.mark.parametrize(
    ("family", "here"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_connections_have_both_ends_and_their_process(family: int, here: str) -> None:
    ip("link", "set", "lo", "up")
    with socket.socket(family) as server, socket.socket(family) as client:
        server.bind((here, 0))
        server.listen()
        port = server.getsockname()[1]
        client.connect((here, port))
        peer, _ = server.accept()
        with peer:
            found = sockets.with_processes(sockets.tcp_connections())
            mine = client.getsockname()[1]
    ends = {(one.local, one.local_port, one.peer, one.peer_port) for one in found}
    assert ends == {(here, mine, here, port), (here, port, here, mine)}
    assert all(one.state == "established" for one in found)
    assert all([p.pid for p in one.processes] == [os.getpid()] for one in found)


def test_a_listener_is_no_connection_and_mapped_addresses_are_ipv4() -> None:
    ip("link", "set", "lo", "up")
    with socket.socket(socket.AF_INET6) as server, socket.socket() as client:
        server.bind(("::", 0))
        server.listen()
        assert sockets.tcp_connections() == []
        client.connect(("127.0.0.1", server.getsockname()[1]))
        found = sockets.tcp_connections()
    assert {one.local for one in found} == {"127.0.0.1"}
    assert not any(one.is_ipv6 for one in found)


def test_a_connection_without_process_is_perhaps_the_kernels() -> None:
    one = Connection("10.0.0.2", 1, "10.0.0.3", 2049, "established", 0)
    assert one.of_kernel
    assert sockets.with_processes([one]) == (one,)


def test_packet_sockets_are_found_by_interface() -> None:
    ip("link", "add", "port0", "type", "veth", "peer", "name", "wire0")
    index = socket.if_nametoindex("port0")
    # /proc/net is the main thread's; this one has a namespace of its own.
    proc = sockets.Path("/proc/thread-self")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3) as bound:
        bound.bind(("port0", 3))
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3):
            (found,) = sockets.packet_sockets(index, proc)
            assert found.inode == os.fstat(bound.fileno()).st_ino
            assert sockets.packet_sockets(index + 1, proc) == []


def test_the_way_to_an_address_is_the_route_it_takes() -> None:
    ip("link", "add", "port0", "type", "veth", "peer", "name", "wire0")
    ip("link", "set", "port0", "up")
    ip("link", "set", "wire0", "up")
    ip("address", "add", "10.0.0.2/24", "dev", "port0")
    ip("route", "add", "168.63.129.16/32", "via", "10.0.0.1")
    index = socket.if_nametoindex("port0")
    with Rtnl() as rtnl:
        route = rtnl.way_to(socket.inet_aton("168.63.129.16"))
        assert route is not None
        assert out_interface(route) == {index}
        assert route[1] == 32
        assert rtnl.way_to(socket.inet_aton("192.0.2.1")) is None
        assert not rtnl.link(index).xdp_mode
        assert rtnl.link(index).name == "port0"
        with pytest.raises(OSError, match="No such device"):
            rtnl.link(9999)


def test_addresses_as_text() -> None:
    assert ntop(bytes(10) + b"\xff\xff\x0a\0\0\x01") == "10.0.0.1"
    assert ntop(bytes(15) + b"\1") == "::1"
