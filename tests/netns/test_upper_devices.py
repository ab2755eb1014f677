"""What is stacked on a port in other namespaces, with real links, sockets and namespaces."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from manactl.look import netns, pyroute2_links, upper_devices
from manactl.look.upper_devices import WHOLE, Found, Standing, View
from manactl.netstate.surroundings import PacketSocket, TunnelWay

pytestmark = [
    pytest.mark.netns,
    pytest.mark.usefixtures("netns"),
    # A test runner may have threads; the command has none.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
KEPT = Standing(carried=True, closes=False)


def ip(*words: str, netns: int | None = None) -> None:
    inside = ["nsenter", f"--net=/proc/{netns}/ns/net"] if netns else []
    subprocess.run([*inside, "ip", *words], check=True)


@contextmanager
def namespace() -> Iterator[int]:
    """A process in a network namespace of its own."""
    with subprocess.Popen(
        ["unshare", "--net", "setpriv", "--pdeathsig", "KILL", "sh", "-c", "echo; cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.fixture
def port() -> int:
    ip("link", "set", "lo", "up")
    ip("link", "add", "port0", "type", "veth", "peer", "name", "wire0")
    ip("link", "set", "wire0", "up")
    ip("link", "set", "port0", "up")
    return socket.if_nametoindex("port0")


@pytest.fixture
def search(tmp_path: Path) -> Callable[..., list[View]]:
    """in_other_netns() among these namespaces alone; other tests have some, too."""
    proc, named = tmp_path / "proc", tmp_path / "named"
    named.mkdir()
    proc.mkdir()
    (proc / "self").symlink_to("/proc/thread-self")

    def find(found: Found, **places: int | str) -> list[View]:
        for name, place in places.items():
            target = place if isinstance(place, str) else f"/proc/{place}/ns/net"
            (named / name).symlink_to(target)
        return upper_devices.in_other_netns(found, str(proc), str(named))

    return find


def here() -> Found:
    """What is found in this namespace, the port included."""
    index = socket.if_nametoindex("port0")
    return upper_devices.grow(pyroute2_links.links(), {index: WHOLE}, {})


def test_nothing_in_other_namespaces(port: int, search: Callable[..., list[View]]) -> None:
    with namespace() as blue:
        assert search({port: WHOLE}, blue=blue) == []


def test_no_other_namespace_at_all(tmp_path: Path) -> None:
    assert upper_devices.in_other_netns({3: WHOLE}, str(tmp_path), str(tmp_path)) == []


def test_an_upper_in_another_namespace_with_all_that_is_on_it(
    port: int, search: Callable[..., list[View]]
) -> None:
    with namespace() as blue, namespace() as green:
        ip("link", "add", "link", "port0", "name", "mv0", "type", "macvlan")
        index = socket.if_nametoindex("mv0")
        ip("link", "set", "mv0", "netns", str(blue))
        for words in (
            "link set lo up", "link set mv0 up", "address add 10.5.0.2/24 dev mv0",
            "address add fd05::2/64 dev mv0 nodad", "route add default via 10.5.0.1",
            "link add mv1 link mv0 type macvlan",
        ):  # fmt: skip
            ip(*words.split(), netns=blue)
        with ExitStack() as stack:
            home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            stack.callback(os.close, home)
            fd = os.open(f"/proc/{blue}/ns/net", os.O_RDONLY)
            stack.callback(os.close, fd)
            os_setns(fd)
            try:
                client = stack.enter_context(socket.socket())
                client.bind(("10.5.0.2", 0))
                client.setblocking(False)
                with pytest.raises(BlockingIOError):
                    client.connect(("10.5.0.9", 7000))
                packet = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3))
                packet.bind(("mv0", 3))
                inode = os.fstat(packet.fileno()).st_ino
            finally:
                os_setns(home)
            (view,) = search(here(), blue=blue, green=green)
    lower, upper = sorted(view.stacked, key=lambda one: one.name)
    assert (lower.name, lower.ifindex, lower.kind, lower.netns) == ("mv0", index, "macvlan", "blue")
    assert (lower.carried, lower.closes) == KEPT
    assert {"10.5.0.2", "fd05::2"} <= set(lower.addresses)
    assert set(lower.reachable) == {"10.5.0.2", "fd05::2"}
    assert len(lower.default_routes) == 1
    assert (upper.name, upper.kind, upper.carried) == ("mv1", "macvlan", True)
    (tcp,) = view.tcp
    assert (tcp.local, tcp.peer, tcp.peer_port) == ("10.5.0.2", "10.5.0.9", 7000)
    assert (tcp.state, tcp.netns, tcp.address_goes, tcp.processes) == (
        "syn-sent", "blue", False, (),
    )  # fmt: skip
    assert view.packets == (PacketSocket(inode, (), "mv0 in blue"),)


def os_setns(fd: int) -> None:
    from manactl.look.netns import set_namespace  # noqa: PLC0415

    set_namespace(fd)


def test_an_upper_in_a_third_namespace_on_one_in_the_second(
    port: int, search: Callable[..., list[View]]
) -> None:
    with namespace() as blue, namespace() as green:
        ip("link", "add", "link", "port0", "name", "mv0", "type", "macvlan")
        ip("link", "set", "mv0", "netns", str(blue))
        ip("link", "add", "br0", "type", "bridge", netns=blue)
        ip("link", "set", "mv0", "master", "br0", netns=blue)
        ip("link", "add", "link", "br0", "name", "mv1", "type", "macvlan", netns=blue)
        ip("link", "set", "mv1", "netns", str(green), netns=blue)
        found = search(here(), a_green=green, b_blue=blue)
    stacked = {(one.name, one.netns) for view in found for one in view.stacked}
    assert stacked == {("mv0", "b_blue"), ("br0", "b_blue"), ("mv1", "a_green")}


def test_a_tunnel_in_another_namespace_whose_packets_are_here(
    port: int, search: Callable[..., list[View]]
) -> None:
    ip("address", "add", "10.1.0.4/24", "dev", "port0")
    with namespace() as blue:
        for name, remote in (("vx0", "10.1.0.9"), ("vx1", "10.8.0.9")):
            vxlan = ["type", "vxlan", "id", "4", "dstport", "4789" if name == "vx0" else "4790"]
            ip("link", "add", name, *vxlan, "remote", remote)
            ip("link", "set", name, "netns", str(blue))
        ip("address", "add", "172.16.0.1/24", "dev", "vx0", netns=blue)
        ip("link", "set", "vx0", "up", netns=blue)
        # And one in that, which it does not share with us.
        ip("link", "add", "vx2", "type", "vxlan", "id", "5", "dstport", "4791", "remote",
           "172.16.0.9", netns=blue)  # fmt: skip
        (view,) = search(here(), blue=blue)
    vx0, vx2 = sorted(view.stacked, key=lambda one: one.name)
    assert (vx0.name, vx0.carried, vx0.closes) == ("vx0", True, False)
    assert "172.16.0.1" in vx0.addresses
    assert vx0.ways == (TunnelWay("10.1.0.9", "port0", False),)
    assert vx2.ways == (TunnelWay("172.16.0.9", "vx0", False), *vx0.ways)


# A program with a TUN device and a connected UDP socket, both of its first namespace.
VPN = """
import fcntl, socket, struct, sys
tun = open("/dev/net/tun", "r+b", buffering=0)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", sys.argv[2].encode(), 0x1001))  # TUNSETIFF, IFF_TUN | IFF_NO_PI
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.connect((sys.argv[1], 1194))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("peer", "found"), [("10.1.0.9", True), ("10.8.0.9", False)])
def test_a_tun_device_that_was_moved_away_from_its_program(
    port: int, search: Callable[..., list[View]], peer: str, found: bool
) -> None:
    ip("address", "add", "10.1.0.4/24", "dev", "port0")
    ip("link", "add", "other0", "type", "veth", "peer", "name", "wire1")
    ip("link", "set", "other0", "up")
    ip("address", "add", "10.8.0.4/24", "dev", "other0")
    # A program is found by that name, which another test may have at the same time.
    name = f"vpn{os.getpid()}"
    with (
        namespace() as blue,
        subprocess.Popen(
            [sys.executable, "-c", VPN, peer, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as vpn,
    ):
        try:
            assert vpn.stdout is not None
            assert vpn.stdout.readline() == b"ready\n"
            ip("link", "set", name, "netns", str(blue))
            ip("link", "set", name, "up", netns=blue)
            ip("address", "add", "172.16.0.1/24", "dev", name, netns=blue)
            views = search(here(), blue=blue)
        finally:
            vpn.kill()
    ways = [one.ways for view in views for one in view.stacked]
    who = f"pid {vpn.pid} {Path(sys.executable).name}"
    assert ways == ([(TunnelWay("10.1.0.9", "port0", False, who),)] if found else [])


def test_a_tun_device_of_this_namespace_is_found_here_alone(
    port: int, search: Callable[..., list[View]]
) -> None:
    """Our own namespace is gone through as well, for what is stacked on a link in another one."""
    ip("address", "add", "10.1.0.4/24", "dev", "port0")
    name = f"vpn{os.getpid()}"
    with subprocess.Popen(
        [sys.executable, "-c", VPN, "10.1.0.9", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as vpn:
        try:
            assert vpn.stdout is not None
            assert vpn.stdout.readline() == b"ready\n"
            ip("link", "set", name, "up")
            views = search(here())
        finally:
            vpn.kill()
    assert views == []


def test_an_upper_of_another_port_is_not_this_ports(
    port: int, search: Callable[..., list[View]]
) -> None:
    with namespace() as blue:
        ip("link", "add", "link", "wire0", "name", "mv0", "type", "macvlan")
        ip("link", "set", "mv0", "netns", str(blue))
        assert search(here(), blue=blue) == []


def test_the_other_end_of_a_pair_is_no_upper(port: int, search: Callable[..., list[View]]) -> None:
    with namespace() as blue:
        ip("link", "set", "wire0", "netns", str(blue))
        assert search(here(), blue=blue) == []


def test_a_place_that_cannot_be_entered_leaves_the_search_undone(
    port: int, search: Callable[..., list[View]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_: object) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(netns, "enter", denied)
    with namespace() as blue, pytest.raises(TimeoutError):
        search(here(), blue=blue)


def test_a_file_that_is_no_namespace_is_passed_over(
    port: int, search: Callable[..., list[View]], tmp_path: Path
) -> None:
    """What is left of `ip netns add` when its mount is lost, as after a lazy unmount."""
    (tmp_path / "file").write_text("")
    with namespace() as blue:
        ip("link", "add", "link", "port0", "name", "mv0", "type", "macvlan")
        ip("link", "set", "mv0", "netns", str(blue))
        (view,) = search(here(), blue=blue, odd=str(tmp_path / "file"))
    assert [one.name for one in view.stacked] == ["mv0"]


def test_a_namespace_that_has_gone_is_passed_over(
    port: int, search: Callable[..., list[View]]
) -> None:
    with namespace() as gone:
        pass
    with namespace() as blue:
        ip("link", "add", "link", "port0", "name", "mv0", "type", "macvlan")
        ip("link", "set", "mv0", "netns", str(blue))
        (view,) = search(here(), a_gone=gone, blue=blue)
    assert [one.name for one in view.stacked] == ["mv0"]


def test_a_search_that_takes_too_long_is_given_up(port: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "blue")  # to open it is to wait for a writer
    with pytest.raises(TimeoutError):
        upper_devices.in_other_netns(here(), "/proc", str(tmp_path), wait=0.05)
