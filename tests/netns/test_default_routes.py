"""Default routes by nexthop objects, whose interface the kernel leaves out of them without
net.ipv4.nexthop_compat_mode: what would be lost with the port, and what remains."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from manactl.look import fabric, netdevs, tunnels, upper_devices
from manactl.look.tunnels import Way
from manactl.look.upper_devices import WHOLE
from manactl.netstate import coverage
from manactl.netstate.snapshot import Kind
from manactl.wire.tunnels import TUN, Tunnel
from tests.netns.port import PORT, Here, batch

pytestmark = pytest.mark.netns

NEXTHOPS = """
address add 10.1.0.4/24 dev port0
address add 2001:db8:1::4/64 dev port0 nodad
nexthop add id 10 via 10.1.0.1 dev port0
nexthop add id 11 via 10.8.0.1 dev other0
nexthop add id 12 via 2001:db8:1::1 dev port0
nexthop add id 13 via 2001:db8:8::1 dev other0
nexthop add id 20 group 10/11
nexthop add id 21 group 12/13
nexthop add id 22 group 11
"""


@pytest.fixture(params=["0", "1"])
def compat(request: pytest.FixtureRequest, here: Here) -> Here:
    Path("/proc/sys/net/ipv4/nexthop_compat_mode").write_text(request.param)
    batch(NEXTHOPS)
    return here


def defaults(here: Here, name: str) -> tuple[int, int]:
    """How many are found of the port, and of the same netdev as an upper."""
    here.name = name
    state = here.capture(PORT)
    own = [fact.body for fact in state.own if fact.kind is Kind.ROUTE]
    index = socket.if_nametoindex(name)
    (upper,) = upper_devices.stacked(netdevs.links(), {index: WHOLE}, here.rtnl, None)
    return len(coverage.defaults(own)), len(upper.default_routes)


@pytest.mark.parametrize(
    ("nexthop", "port0", "other0"),
    [
        ("route add default nhid 10", 1, 0),
        ("route add default nhid 20", 1, 1),
        ("route add default nhid 11", 0, 1),
        ("route add default nhid 22", 0, 1),
        ("-6 route add default nhid 12", 1, 0),
        ("-6 route add default nhid 21", 1, 1),
        ("-6 route add default nhid 13", 0, 1),
        ("route add 192.0.2.0/24 nhid 10", 0, 0),
    ],
)
def test_default_routes_by_nexthop_objects(
    compat: Here, nexthop: str, port0: int, other0: int
) -> None:
    batch(nexthop)
    assert defaults(compat, "port0") == (port0, port0)
    assert defaults(compat, "other0") == (other0, other0)


@pytest.mark.parametrize(
    ("rest", "remaining"),
    [
        ("route add default nhid 11 metric 500", "other0"),
        ("route add default nhid 22 metric 500", "other0"),
        ("route add default nhid 11 table 77", None),
        ("route add 192.0.2.0/24 nhid 11", None),
    ],
)
def test_a_way_that_remains(compat: Here, rest: str, remaining: str | None) -> None:
    batch(f"route add default via 10.1.0.1\n{rest}")
    port, other = map(socket.if_nametoindex, ("port0", "other0"))
    for route in fabric.routes({port}, {other: "other0"}, compat.rtnl):
        assert route.through_port
        assert route.remaining == remaining


@pytest.mark.parametrize(("nexthop", "leads"), [(12, True), (21, True), (13, False)])
def test_where_the_peers_of_a_program_may_be(compat: Here, nexthop: int, leads: bool) -> None:
    batch("address flush dev port0 scope global")  # no other route leads there
    batch(f"-6 route add 2001:db8:9::/48 nhid {nexthop}")
    port = socket.if_nametoindex("port0")
    program = Tunnel(99, "tun0", TUN, metadata=True, by="prog (pid 7)")
    found = tunnels.way(program, {port}, compat.rtnl)
    assert found == (Way(None, None, False, "prog (pid 7)") if leads else None)
