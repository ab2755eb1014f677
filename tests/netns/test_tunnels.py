"""Which tunnels send by a port, asked of the running kernel; VXLAN, which every kernel has."""

from __future__ import annotations

import socket
import subprocess

import pytest

from manactl.look import netdevs, tunnels, upper_devices
from manactl.look.rtnetlink import Rtnl
from manactl.look.tunnels import Way
from manactl.look.upper_devices import WHOLE
from manactl.netstate.surroundings import TunnelWay
from tests.netns.port import Here, batch, ip

pytestmark = pytest.mark.netns


@pytest.fixture
def port(here: Here) -> int:
    batch("address add 10.1.0.4/24 dev port0\naddress add 2001:db8:1::4/64 dev port0 nodad")
    return socket.if_nametoindex("port0")


def vxlan(name: str, *words: str) -> None:
    ip("link", "add", name, "type", "vxlan", "id", "42", "dstport", "4789", *words)


def ways(port: int) -> dict[str, Way]:
    with Rtnl() as rtnl:
        found = tunnels.found_by(tunnels.live(), (), {port}, rtnl)
    return {socket.if_indextoname(index): way for index, way in found.items()}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("dev port0 remote 10.1.0.9", ("10.1.0.9", True)),
        ("remote 10.1.0.9", ("10.1.0.9", False)),
        ("remote 2001:db8:1::9", ("2001:db8:1::9", False)),
        ("dev port0", (None, True)),
        ("dev port0 group 239.1.1.1", ("239.1.1.1", True)),
        ("remote 10.8.0.9", None),
        ("dev other0 remote 10.1.0.9", None),
        ("remote 10.1.0.9 local 10.8.0.2", None),  # by a rule for its source, below
        ("dev other0", None),
    ],
)
def test_a_vxlan_and_its_remote(port: int, words: str, expected: tuple[str, bool] | None) -> None:
    batch("route add 10.1.0.0/24 dev other0 table 77\nrule add from 10.8.0.2 lookup 77")
    vxlan("vx0", *words.split())
    found = ways(port).get("vx0")
    assert found == (expected and Way(expected[0], port, expected[1]))


@pytest.mark.parametrize(
    ("remote", "local"), [("10.8.0.9", "10.1.0.4"), ("2001:db8:8::9", "2001:db8:1::4")]
)
def test_a_tunnel_whose_own_end_is_an_address_of_the_port(
    port: int, remote: str, local: str
) -> None:
    """What its peer sends comes in by the port, and an IPv6 address is gone while that is down."""
    vxlan("vx0", "remote", remote, "local", local)
    assert ways(port) == {"vx0": Way(None, port, False, "", local)}
    assert ways(socket.if_nametoindex("other0")) == {
        "vx0": Way(remote, socket.if_nametoindex("other0"), False)
    }
    links = netdevs.links()
    with Rtnl() as rtnl:
        _, chains = upper_devices.dependents(links, tunnels.live(), {port: WHOLE}, rtnl)
    assert list(chains.values()) == [(TunnelWay(None, "port0", False, "", local),)]


def test_the_endpoints_of_a_vxlan_are_in_its_fdb(port: int) -> None:
    vxlan("vx0")
    assert ways(port) == {}
    add = ["bridge", "fdb", "append", "00:00:00:00:00:00", "dev", "vx0", "dst"]
    subprocess.run([*add, "10.8.0.9"], check=True)
    assert ways(port) == {}
    subprocess.run([*add, "10.1.0.9"], check=True)
    assert ways(port) == {"vx0": Way("10.1.0.9", port, False)}


def test_a_nexthop_group_in_its_fdb(port: int) -> None:
    vxlan("vx0")
    batch(
        "nexthop add id 11 via 10.8.0.9 fdb\nnexthop add id 10 group 11 fdb\n"
        "nexthop add id 13 via 10.1.0.9 fdb\nnexthop add id 12 group 11/13 fdb\n"
    )
    add = ["bridge", "fdb", "add", "dev", "vx0"]
    subprocess.run([*add, "02:aa:00:00:00:01", "nhid", "10"], check=True)
    assert ways(port) == {}
    subprocess.run([*add, "02:aa:00:00:00:02", "nhid", "12"], check=True)
    assert ways(port) == {"vx0": Way("10.1.0.9", port, False)}


def test_one_whose_packets_have_the_endpoint_may_send_anywhere(port: int) -> None:
    ip("link", "add", "vx0", "type", "vxlan", "external", "dstport", "4789")
    assert ways(port) == {"vx0": Way(None, None, False)}


def test_a_tunnel_in_a_tunnel_and_the_bridge_over_it(port: int) -> None:
    vxlan("vx0", "remote", "10.1.0.9")
    batch(
        "address add 172.16.0.1/24 dev vx0\nlink set vx0 up\nlink add br0 type bridge\n"
        "link add vx1 type vxlan id 43 remote 172.16.0.9 dstport 4790\nlink set vx1 master br0\n"
        "link add vx2 type vxlan id 44 remote 10.8.0.9 dstport 4791\n"
    )
    links = netdevs.links()
    names = {link.ifindex: link.name for link in links}
    with Rtnl() as rtnl:
        found, chains = upper_devices.dependents(links, tunnels.live(), {port: WHOLE}, rtnl)
    assert {names[index] for index in found} == {"port0", "vx0", "vx1", "br0"}
    assert {names[index]: chain for index, chain in chains.items()} == {
        "vx0": (TunnelWay("10.1.0.9", "port0", False),),
        "vx1": (TunnelWay("172.16.0.9", "vx0", False), TunnelWay("10.1.0.9", "port0", False)),
    }
    assert all(standing.carried for standing in found.values())
