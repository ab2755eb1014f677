"""IPv6 addresses that come back with IFF_UP, before any look, on the running kernel."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass

import pytest

from manactl.act import restore
from manactl.act.addresses_first import with_addresses
from manactl.act.plan import SetAdmin
from manactl.act.restore import Prepared, Restored
from manactl.look.netdevs_of import Found, NetdevNow
from manactl.look.rtnetlink import Rtnl
from manactl.model.port import PortId
from manactl.netstate.snapshot import Fact, Kind, PortState
from manactl.wire import rtmsg as rt
from tests.netns.port import PORT, Here, batch, everything, ip, settle

pytestmark = pytest.mark.netns

MANY = """
address add 10.4.0.2/24 dev port0
address add 2001:db8:4::1/64 dev port0 nodad
address add 2001:db8:5::1/64 dev port0 nodad noprefixroute
address add 2001:db8:6::1/64 dev port0 valid_lft 9000 preferred_lft 8000 nodad
address add 2001:db8:4::2/64 dev port0 preferred_lft 0 nodad
address add 2001:db8:7::1 peer 2001:db8:7::9/128 dev port0 nodad
address add fe80::77/64 dev port0 nodad
address add 2001:db8:4::3/64 dev port0 metric 77 nodad
-6 route add 2001:db8:100::/48 via 2001:db8:4::9
-6 route add 2001:db8:200::/48 via 2001:db8:4::9 src 2001:db8:4::2
"""


@dataclass
class Netdevs:
    """addresses_first.Netdevs on interfaces found by name: port 1 is port0."""

    rtnl: Rtnl

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def netdev(self, port: PortId) -> Found:
        link = self.rtnl.link(socket.if_nametoindex(f"port{port.port - 1}"))
        return NetdevNow(link.name, link.ifindex, link.up)

    def synthetic(self, uuid: str) -> Found:
        return None

    def addresses(self, ifindex: int) -> list[Fact]:
        bodies = self.rtnl.addresses()
        return [
            Fact(Kind.ADDRESS, body) for body in bodies if rt.IfAddrMsg.of(body).ifindex == ifindex
        ]


def others_reach() -> list[str]:
    shown = json.loads(ip("-j", "-6", "address", "show", "dev", "port0", "scope", "global"))
    return [one["local"] for row in shown for one in row.get("addr_info", ()) if one]


def given_back(here: Here, state: PortState) -> tuple[list[str], Restored]:
    """The addresses that came with IFF_UP, and what came of all."""
    prepared = Prepared(state)
    down = SetAdmin(PORT, "port0", up=False, was=True, had_carrier=True)
    (step,) = with_addresses([down], [prepared], (), Netdevs(here.rtnl))
    assert isinstance(step, SetAdmin)
    here.rtnl.set_up(state.ifindex, True)
    if step.addresses:
        assert set(here.rtnl.send_all(step.addresses)) == {None}
    at_once = others_reach()
    (done,) = restore.restore_ports(here, [state], 3.0, prepared=[prepared])
    return at_once, done


def test_all_of_them_in_their_order(here: Here) -> None:
    batch(MANY)
    settle()
    before, order = everything(), others_reach()
    assert len(order) == 6
    state = here.capture(PORT)
    ip("link", "set", "port0", "down")
    assert others_reach() == []
    at_once, done = given_back(here, state)
    assert at_once == order
    assert (done.residue, done.extra, done.lost) == ((), (), ())
    settle()
    assert everything() == before
    assert done.counts[Kind.ADDRESS] == 7, "with the one of its link"


def test_what_the_kernel_has_kept_is_not_overtaken(here: Here) -> None:
    """`keep_addr_on_down`, set since: a later address goes before it, whose order nobody sees."""
    batch(MANY)
    settle()
    before, order = everything(), others_reach()
    state = here.capture(PORT)
    ip("link", "set", "port0", "down")
    ip("address", "add", "2001:db8:4::3/64", "dev", "port0", "metric", "77", "nodad")
    at_once, done = given_back(here, state)
    assert at_once == ["2001:db8:4::3"]
    assert done.residue == ()
    settle()
    assert others_reach() == order
    assert everything() == before
