"""Restoring against a network in memory, which has its own idea of links, facts and sysctls."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from manactl.act import restore
from manactl.act.restore import Restored
from manactl.model.port import PortId
from manactl.netstate import leaning
from manactl.netstate.losses import Cause
from manactl.netstate.members import BridgeState, Member
from manactl.netstate.requests import Filled
from manactl.netstate.snapshot import (
    Accepted,
    Fact,
    Kind,
    OtherDevice,
    PortState,
    Request,
    Rows,
    Setting,
)
from manactl.netstate.uppers import UpperState
from manactl.wire import rtmsg as rt
from manactl.wire.if_link import IfInfoMsg
from tests.unit import fakes
from tests.unit.fakes import address, neighbour, nexthop, refused, route
from tests.unit.kernel import ADDRESS, Kernel, Message, Nic, meaning
from tests.unit.netstate import test_leaning
from tests.unit.wording import wording

PORT = PortId("7870:00:00.0", 1, "00:0d:3a:aa:00:10")
OTHER = PortId("7870:00:00.0", 2, "00:0d:3a:aa:00:11")
LOW, HIGH = 3, 4  # ifindexes of the two ports


def machine() -> Kernel:
    """Two ports that are up."""
    kernel = Kernel(Nic(1, "eth1", LOW), Nic(2, "eth2", HIGH, "00:0d:3a:aa:00:11"))
    for nic in kernel.nics:
        kernel.set_up(nic, True)
    return kernel


@dataclass
class World:
    """restore.Network on that kernel, with uppers, sysctls, and refusals by request."""

    kernel: Kernel = field(default_factory=machine)
    uppers: list[UpperState] = field(default_factory=list)
    settings: dict[tuple[int, str], str] = field(default_factory=dict)
    links: list[OtherDevice] = field(default_factory=list)
    accepted: tuple[Accepted, ...] = ()
    member: Member | None = None
    bridge_states: tuple[BridgeState, ...] = ()
    refuses: Callable[[Request], int] = lambda _request: 0
    on_pause: Callable[[World], None] = lambda _world: None
    paused: list[float] = field(default_factory=list)
    sent: list[Request] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.kernel.clock

    def pause(self, seconds: float) -> None:
        self.paused.append(seconds)
        self.kernel.clock += max(seconds, 0.001)
        self.on_pause(self)

    def capture(
        self,
        port: PortId,
        nexthops: Collection[int] = (),
        rows: Rows = None,
        *,
        alone: bool = False,
    ) -> PortState:
        nic = self.kernel.nics[port.port - 1]
        facts = [Fact(Kind(m.kind), m.pack()) for m in self.kernel.of(nic)]
        mine = {(f.kind, f.body) for f in facts}
        related = [
            Fact(Kind.NEXTHOP, m.pack())
            for m in self.kernel.messages
            if m.kind == "nexthop" and m.u32(1) in nexthops
        ]
        uppers = tuple(u for u in self.uppers if u.lower == nic.ifindex or nic.number == 1)
        known = {nic.ifindex, *(u.ifindex for u in uppers)}
        facts += [
            Fact(Kind(m.kind), m.pack())
            for m in self.kernel.messages
            if m.device in known - {nic.ifindex}
        ]
        others = [
            OtherDevice(one.ifindex, one.name, one.mac)
            for one in self.kernel.nics
            if one is not nic and one.present
        ]
        return PortState(
            port, nic.ifindex, nic.name, nic.up, nic.up, self.kernel.clock, tuple(facts),
            uppers if nic.number == 1 else (),
            tuple(Setting(index, "net/ipv6/conf", key, value)
                  for (index, key), value in self.settings.items() if index in known),
            tuple(others),
            tuple(f for f in related if (f.kind, f.body) not in mine),
            (*others, *self.links),
            self.accepted,
            member=self.member,
            bridge_states=self.bridge_states,
        )  # fmt: skip

    def send(self, request: Request) -> None:
        if number := self.refuses(request):
            raise OSError(number, os.strerror(number))
        self.sent.append(request)
        if request.type == 19:
            return  # a state in a bridge: the kernel may take it, and do otherwise
        if request.type == 16:
            assert request.flags == 0
            self._set_link(request.body)
        else:
            self.kernel.send(request.type, request.flags, request.body)

    def send_all(self, requests: Sequence[Request]) -> list[OSError | None]:
        return [refused(self.send, request) for request in requests]

    def send_alike(self, requests: Filled) -> None:
        self.send_all([*requests.each()])

    def _set_link(self, body: bytes) -> None:
        _, _, _, index, flags, change = struct.unpack_from("=BBHiII", body)
        if change == 0x40:  # IFF_RUNNING: nothing changes
            return
        (at,) = [n for n, one in enumerate(self.uppers) if one.ifindex == index]
        if change:
            assert change == 1
            self.uppers[at] = self.uppers[at]._replace(up=bool(flags & 1))
        else:  # IFLA_LINKINFO with IFLA_BOND_ACTIVE_SLAVE as the last thing
            slave = struct.unpack_from("=I", body, len(body) - 4)[0]
            self.uppers[at] = self.uppers[at]._replace(active=slave)

    def set_sysctl(self, path: str, value: str) -> None:
        tree, name, key = path.rsplit("/", 2)
        assert tree == "net/ipv6/conf"
        names = {one.name: one.ifindex for one in (*self.uppers, *self.kernel.nics)}
        if self.refuses(Request(0, 0, path.encode())):
            raise OSError(errno.EACCES, "Permission denied")
        self.settings[names[name], key] = value

    def add(self, *facts: Fact) -> None:
        for one in facts:
            self.kernel.add(str(one.kind), one.body)

    def bounce(self, *numbers: int) -> None:
        for number in numbers or (1,):
            nic = self.kernel.nics[number - 1]
            self.kernel.set_up(nic, False)
            self.kernel.set_up(nic, True)

    def forget_routes(self) -> None:
        """Those that somebody configured."""
        self.kernel.messages = [
            m for m in self.kernel.messages if m.kind != "route" or m.head[5] == 2
        ]

    def routes(self) -> set[object]:
        """Destinations of routes that somebody configured."""
        return {
            m.attrs.get(1)
            for m in self.kernel.messages
            if m.kind == "route" and m.head[5] != 2
        }  # fmt: skip


@pytest.fixture
def world() -> World:
    return World()


def put_back(world: World, state: PortState, patience: float = 5.0) -> Restored:
    (done,) = restore.restore_ports(world, [state], patience)
    return done


def furnished(world: World) -> PortState:
    world.add(
        address("10.0.0.2", 24), address("2001:db8::2", 64), address("2001:db8::3", 64),
        nexthop(10), nexthop(11), nexthop(20, None, (10, 11)),
        route("192.0.2.0", 24, via="10.0.0.9"), route("192.0.3.0", 24, nhid=20),
        route("192.0.4.0", 24, nhid=10), neighbour("10.0.0.50"), neighbour("10.0.0.60", proxy=True),
    )  # fmt: skip
    return world.capture(PORT)


def test_all_that_was_lost_is_back_and_counted(world: World) -> None:
    state = furnished(world)
    before = world.kernel.picture()
    world.bounce()
    assert world.kernel.picture() != before
    done = put_back(world, state)
    assert (done.residue, done.expired, done.extra) == ((), (), ())
    assert world.kernel.picture() == before
    assert world.paused == []
    assert done.counts == {Kind.ADDRESS: 2, Kind.NEXTHOP: 3, Kind.ROUTE: 4, Kind.NEIGHBOUR: 2}


def test_what_is_as_it_was_is_left_alone(world: World) -> None:
    done = put_back(world, furnished(world))
    assert done == Restored()
    assert (world.sent, world.paused) == ([], [])


def test_an_address_between_others_comes_back_between_them(world: World) -> None:
    """The kernel puts the youngest first: the younger ones are made again, too."""
    world.add(*(address(f"2001:db8::{n}", 64, flags=0x02) for n in (1, 2, 3)))
    state = world.capture(PORT)
    before = world.kernel.picture()
    world.kernel.messages = [
        m
        for m in world.kernel.messages
        if m.kind != ADDRESS or m.attrs[1] != bytes.fromhex("20010db8" + "00" * 11 + "02")
    ]
    assert put_back(world, state).residue == ()
    assert world.kernel.picture() == before


def test_what_the_kernel_refuses_is_residue_with_its_reason(world: World) -> None:
    state = furnished(world)
    world.bounce()
    world.refuses = lambda request: errno.ENOMEM if request.type == 28 else 0
    done = put_back(world, state)
    with wording:
        assert sorted(done.residue) == [
            "neighbour 10.0.0.50 lladdr 02:00:00:00:00:50 dev eth1 permanent (Cannot allocate memory)",
            "proxy neighbour 10.0.0.60 dev eth1 (Cannot allocate memory)",
        ]
    assert Kind.NEIGHBOUR not in done.counts
    assert done.counts[Kind.ROUTE] == 4  # with the IPv6 network's


def test_a_refusal_is_tried_again_until_the_patience_ends(world: World) -> None:
    state = furnished(world)
    world.bounce()
    start = world.kernel.clock
    world.refuses = lambda request: errno.ENETUNREACH if request.type == 24 else 0
    assert len(put_back(world, state, 3.0).residue) == 3
    assert world.kernel.clock == pytest.approx(start + 3.0)
    assert world.paused[:3] == [0.02, 0.04, 0.08]
    assert max(world.paused) == 0.25

    def relent(world: World) -> None:
        world.refuses = lambda _request: 0

    world.on_pause = relent
    done = put_back(world, state, 3.0)
    assert done.residue == ()
    assert world.kernel.clock < start + 4


def test_nothing_is_waited_for_while_the_kernel_takes_what_it_is_asked_for(world: World) -> None:
    """All of it with one message, as each of it needs one request."""
    state = furnished(world)
    world.forget_routes()
    assert put_back(world, state).residue == ()
    assert world.paused == []
    world.forget_routes()
    world.refuses = lambda request: 0 if world.paused else errno.ENETUNREACH
    assert put_back(world, state).residue == ()
    assert world.paused == [0.02]


def test_what_does_not_stay_is_residue(world: World) -> None:
    """A stranger removes it each time; nothing has been refused."""
    state = furnished(world)
    gone = route("192.0.2.0", 24, via="10.0.0.9")

    def remove() -> None:
        world.kernel.messages = [
            m
            for m in world.kernel.messages
            if not (m.kind == "route" and m.attrs.get(1) == bytes([192, 0, 2, 0]))
        ]

    class Tidied(World):
        def capture(
            self,
            port: PortId,
            nexthops: Collection[int] = (),
            rows: Rows = None,
            *,
            alone: bool = False,
        ) -> PortState:
            remove()
            return super().capture(port, nexthops, rows, alone=alone)

    tidied = Tidied(world.kernel)
    done = put_back(tidied, state, 1.0)
    with wording:
        assert done.residue == (
            "192.0.2.0/24 via 10.0.0.9 dev eth1 proto static (it does not stay so)",
        )
    assert Fact(gone.kind, gone.body) in state.facts


def test_lifetimes_end_meanwhile(world: World) -> None:
    world.add(address("2001:db8::2", 64, valid=90), route("192.0.2.0", 24, expires=50))
    world.add(address("2001:db8:1::2", 64, valid=900))
    state = world.capture(PORT)
    world.bounce()
    world.kernel.clock += 100
    done = put_back(world, state)
    assert done.residue == ()
    assert [line.split("/")[0] for line in done.expired] == ["inet6 2001:db8::2", "192.0.2.0"]
    (left,) = [
        struct.unpack_from("=I", m.attrs[6], 4)[0]
        for m in world.kernel.messages
        if m.kind == ADDRESS and m.attrs[1][:6] == bytes.fromhex("20010db80001")
    ]
    assert left == 800


ROUTERS = (
    address("2001:db8:aa::2", 64, flags=0x200, valid=90, proto=2),
    route("2001:db8:aa::", 64, proto=2, expires=90),
    route("::", 0, via="fe80::9", proto=9, expires=90),
)


def hearing(world: World) -> PortState:
    """What of the port is there, a router's among it; the router's goes now, with all the rest."""
    world.accepted = (Accepted(LOW, default=True, prefixes=True, addresses=True, routes=64),)
    world.add(*ROUTERS, address("10.0.0.2", 24), route("2001:db8:9::", 48, via="fe80::9"))
    state = world.capture(PORT)
    world.bounce()
    world.kernel.messages = [
        m for m in world.kernel.messages if all(m.pack() != fact.body for fact in ROUTERS)
    ]
    return state


def test_what_a_router_has_advertised_is_awaited_and_never_made(world: World) -> None:
    state = hearing(world)
    done = put_back(world, state)
    assert (done.residue, done.expired, done.extra) == ((), (), ())
    assert [text.split(" proto")[0] for text in done.advertised] == [
        "inet6 2001:db8:aa::2/64 noprefixroute valid_lft 90sec dev eth1",
        "2001:db8:aa::/64 dev eth1",
        "default (IPv6) via fe80::9 dev eth1",
    ]
    assert done.counts == {Kind.ROUTE: 1}
    assert sum(world.paused) == pytest.approx(5.0)


def test_what_the_router_brings_meanwhile_is_counted_and_ends_the_wait(world: World) -> None:
    def answer(world: World) -> None:
        if len(world.paused) == 3:
            world.add(*ROUTERS)

    state = hearing(world)
    world.kernel.clock += 1000.0  # their lifetimes are over, and begin again
    world.on_pause = answer
    done = put_back(world, state)
    assert (done.residue, done.expired, done.advertised) == ((), (), ())
    assert done.counts == {Kind.ADDRESS: 1, Kind.ROUTE: 3}
    assert len(world.paused) == 3


def test_where_no_router_is_heard_all_is_made_again(world: World) -> None:
    state = hearing(world)
    world.accepted = ()
    done = put_back(world, state)
    assert (done.residue, done.advertised) == ((), ())
    assert done.counts == {Kind.ADDRESS: 1, Kind.ROUTE: 3}


def test_an_anycast_address_of_a_router_that_forwards_no_more_is_lost(world: World) -> None:
    """addrconf_join_anycast(): the kernel has it for a network while it forwards there."""
    world.add(address("2001:db8::2", 64), route("2001:db8::", 128, table=255, proto=2, kind=4))
    state = world.capture(PORT)
    world.bounce()
    done = put_back(world, state)
    assert done.residue == ()
    assert [one.cause for one in done.lost] == [Cause.ANYCAST]


def test_a_lifetime_that_was_over_is_no_error(world: World) -> None:
    """The kernel collects an expired route later, and shows it until then."""
    world.add(route("192.0.2.0", 24), route("2001:db8:9::", 48, expires=-3))
    world.add(address("2001:db8:7::2", 64, valid=0))
    state = world.capture(PORT)
    assert put_back(world, state).residue == ()
    world.bounce()
    assert put_back(world, state).residue == ()


def test_what_somebody_else_made_is_told_with_the_command_that_removes_it(world: World) -> None:
    state = furnished(world)
    world.bounce()
    world.add(address("10.5.0.2", 24), route("198.18.0.0", 24, via="10.0.0.8"))
    world.add(route("198.19.0.0", 24, proto=9))  # a router's: not somebody's work
    done = put_back(world, state)
    assert done.residue == ()
    assert done.extra == (
        "ip address del 10.5.0.2/24 dev eth1",
        "ip route del 198.18.0.0/24 via 10.0.0.8 dev eth1 proto static",
    )


def test_an_address_with_other_settings_is_set_right(world: World) -> None:
    world.add(address("10.0.0.2", 24, flags=0x200))
    state = world.capture(PORT)
    before = world.kernel.picture()
    world.kernel.messages.clear()
    world.add(address("10.0.0.2", 24))
    world.kernel.messages = [m for m in world.kernel.messages if m.kind == ADDRESS]
    assert put_back(world, state).residue == ()
    shown = [meaning(m, world.kernel.names) for m in world.kernel.messages if m.kind == ADDRESS]
    assert shown
    assert repr(shown[0]) in before[1]  # type: ignore[operator]


@pytest.mark.wording
def test_the_other_form_of_it_is_named(world: World) -> None:
    world.add(route("192.0.2.0", 24, via="10.0.0.9"))
    state = world.capture(PORT)
    world.forget_routes()
    world.add(route("192.0.2.0", 24, via="10.0.0.7"))
    world.refuses = lambda _request: errno.EPERM
    (line,) = put_back(world, state, 0.0).residue
    assert line.endswith("(there is instead: 192.0.2.0/24 via 10.0.0.7 dev eth1 proto static)")
    body = bytearray(route("192.0.2.0", 24, via="10.0.0.9").body)
    body[-8:-4] = b"ELSE"  # the last attribute, which nobody can read
    world.forget_routes()
    world.kernel.add("route", bytes(body))
    (line,) = put_back(world, state, 0.0).residue
    assert "there is instead: the same with other settings: attribute 999 " in line


def test_two_ports_come_back_together(world: World) -> None:
    """The group needs a nexthop on the other port, which comes back after it."""
    world.add(
        nexthop(10, LOW), nexthop(12, HIGH), nexthop(20, None, (10, 12)),
        route("192.0.2.0", 24, LOW, nhid=20),
    )  # fmt: skip
    states = [world.capture(port) for port in (PORT, OTHER)]
    before = world.kernel.picture()
    world.bounce(1, 2)
    done = restore.restore_ports(world, states, 5.0)
    assert [one.residue for one in done] == [(), ()]
    assert world.kernel.picture() == before


def test_a_nexthop_that_is_somebody_elses_is_not_used(world: World) -> None:
    state = furnished(world)
    world.bounce()
    world.add(nexthop(10, HIGH))
    done = put_back(world, state, 1.0)
    assert world.routes() == {bytes([192, 0, 2, 0])}
    ids = [m.u32(1) for m in world.kernel.messages if m.kind == "nexthop"]
    assert sorted(filter(None, ids)) == [10, 11]
    assert len(done.residue) == 4
    with wording:
        kept_back = [line for line in done.residue if "nexthop id 10 is not what it was" in line]
        assert len(kept_back) == 3


# --- uppers -----------------------------------------------------------------------------------


def vlan(name: str, ifindex: int, number: int, *, up: bool = True) -> UpperState:
    return UpperState(name, ifindex, "vlan", LOW, f"802.1Q {number}", up, up, True)


BOND = UpperState("bond0", 30, "bond", LOW, None, True, True, False, LOW)


def test_uppers_are_set_as_they_were(world: World) -> None:
    world.uppers = [vlan("v1", 11, 1), vlan("v2", 12, 2, up=False)]
    state = world.capture(PORT)
    world.uppers = [vlan("v1", 11, 1, up=False), vlan("v2", 12, 2)]
    done = put_back(world, state)
    assert done.residue == ()
    assert [one.up for one in world.uppers] == [True, False]
    assert done.counts == {Kind.UPPER: 2}
    assert world.paused == []  # what was set is looked at again at once


def test_the_port_filters_again_once_an_upper_was_set_down(world: World) -> None:
    """hv_netvsc is left promiscuous by a VLAN that had a MAC address above it. One look more."""
    world.uppers = [vlan("v1", 11, 1, up=False), vlan("v2", 12, 2)]
    state = world.capture(PORT)
    world.uppers = [vlan("v1", 11, 1, up=False), vlan("v2", 12, 2, up=False)]
    put_back(world, state)
    assert [one.ifindex for one in map(_header, world.sent)] == [12]
    world.uppers = [vlan("v1", 11, 1), vlan("v2", 12, 2)]
    world.sent.clear()
    put_back(world, state)
    down, again = map(_header, world.sent)
    assert (down.ifindex, down.flags & 1, down.change & 1) == (11, 0, 1)
    assert (again.ifindex, again.change) == (state.uppers[0].lower, 0x40)


def _header(request: Request) -> IfInfoMsg:
    assert request.type == 16
    return IfInfoMsg.of(request.body)


def test_vlans_that_are_to_be_down_are_awaited_before_they_are_closed(world: World) -> None:
    """From 7.2 on the kernel opens them by deferred work: closing one before would be in vain."""
    world.uppers = [vlan("v2", 12, 2, up=False)]
    state = world.capture(PORT)

    def open_late(world: World) -> None:
        if world.kernel.clock > 1000.3 and not world.sent:
            world.uppers = [vlan("v2", 12, 2)]

    world.on_pause = open_late
    done = put_back(world, state)
    assert done.residue == ()
    assert [one.up for one in world.uppers] == [False]
    assert world.kernel.clock < 1001


def test_a_vlan_that_nobody_opens_is_waited_for_a_second(world: World) -> None:
    world.uppers = [vlan("v2", 12, 2, up=False)]
    assert put_back(world, world.capture(PORT)).residue == ()
    assert 1001 <= world.kernel.clock < 1001.5


@pytest.mark.parametrize("number", [0, errno.EINVAL])
def test_a_patience_that_ends_before_vlans_are_open_leaves_nothing_untold(
    world: World, number: int
) -> None:
    world.uppers = [vlan("v2", 12, 2, up=False)]
    state = furnished(world)
    world.bounce()
    world.refuses = lambda request: number if request.type == 28 else 0
    done = put_back(world, state, patience=0.3)
    assert (len(done.residue), done.counts[Kind.ADDRESS]) == (2 if number else 0, 2)


def test_an_upper_that_does_not_obey_is_residue(world: World) -> None:
    world.uppers = [vlan("v1", 11, 1)]
    state = world.capture(PORT)
    world.uppers = [vlan("v1", 11, 1, up=False)]
    world.refuses = lambda request: errno.ENETDOWN if request.type == 16 else 0
    assert put_back(world, state).residue == ("vlan v1 (802.1Q 1) up (Network is down)",)
    world.uppers = [vlan("v1", 11, 1)]
    state = replace(state, uppers=(vlan("v1", 11, 1, up=False),))
    assert put_back(world, state).residue == ("vlan v1 (802.1Q 1) down (Network is down)",)


def test_an_upper_that_is_gone_is_residue_with_what_it_had(world: World) -> None:
    world.uppers = [vlan("v1", 11, 1)]
    state = replace(
        world.capture(PORT), facts=(address("10.1.0.2", 24, 11), route("10.1.0.0", 24, 11))
    )
    world.uppers = []
    with wording:
        assert put_back(world, state, 1.0).residue == (
            "vlan v1 (802.1Q 1) (it is gone, with 2 addresses, routes or the like)",
        )
    assert world.sent == []


def test_the_table_of_a_vrf_that_is_gone_belongs_to_nobody(world: World) -> None:
    red = UpperState("red", 40, "vrf", LOW, None, True, True, False, None, 100)
    world.uppers = [red]
    world.add(route("192.0.2.0", 24, table=100), route("192.0.3.0", 24))
    state = world.capture(PORT)
    world.kernel.messages.clear()
    world.uppers = [red._replace(name="blue", table=200)]
    done = put_back(world, state, 1.0)
    with wording:
        assert done.residue == ("vrf red (it is gone, with 1 addresses, routes or the like)",)
    assert world.routes() == {bytes([192, 0, 3, 0])}
    world.uppers = [red]
    assert put_back(world, state).residue == ()
    assert len(world.routes()) == 2


def test_a_bond_sends_by_the_slave_it_sent_by(world: World) -> None:
    world.uppers = [BOND]
    state = world.capture(PORT)
    world.uppers = [BOND._replace(active=HIGH)]
    done = put_back(world, state)
    assert done.residue == ()
    assert world.uppers == [BOND]
    assert world.paused == []


@pytest.mark.wording
def test_a_bond_that_cannot_is_residue(world: World) -> None:
    world.uppers = [BOND]
    state = world.capture(PORT)
    world.uppers = [BOND._replace(active=HIGH)]
    world.refuses = lambda _request: errno.EINVAL
    assert put_back(world, state, 1.0).residue == (
        "active slave eth1 of bond0: now eth2 (Invalid argument)",
    )
    world.uppers = [BOND._replace(active=None)]
    assert put_back(world, state, 1.0).residue == (
        "active slave eth1 of bond0: now none (Invalid argument)",
    )


SENDS = Member("bond0", "bond", "forwarding", True, 8.0, "updelay")
WAITS = SENDS._replace(state="updelay", forwards=False)


def test_a_bond_that_waits_for_its_updelay_is_no_residue(world: World) -> None:
    world.uppers, world.member = [BOND], SENDS
    state = world.capture(PORT)
    world.uppers, world.member = [BOND._replace(active=HIGH)], WAITS
    world.refuses = lambda _request: errno.EINVAL
    done = put_back(world, state, 1.0)
    assert (done.residue, done.settling) == ((), WAITS._replace(active=True))
    # The port has become the active slave of itself.
    world.uppers = [BOND]
    assert put_back(world, state, 1.0).settling == WAITS
    # It waits no more, and is refused all the same; or waits in another bond.
    world.uppers = [BOND._replace(active=HIGH)]
    for now in (SENDS, WAITS._replace(master="bond1")):
        world.member = now
        done = put_back(world, state, 1.0)
        assert done.settling is None
        assert len(done.residue) == 1


def test_the_other_slave_of_a_bond_does_not_wait(world: World) -> None:
    """It was the active one, and the port's own updelay is no excuse for it."""
    world.uppers, world.member = [BOND._replace(active=HIGH)], SENDS
    state = world.capture(PORT)
    world.uppers, world.member = [BOND], WAITS
    world.refuses = lambda _request: errno.EINVAL
    done = put_back(world, state, 1.0)
    assert done.settling == WAITS
    with wording:
        assert done.residue == ("active slave eth2 of bond0: now eth1 (Invalid argument)",)


def test_a_bond_whose_active_slave_is_gone(world: World) -> None:
    """Its ifindex may be another device's by now, so nothing is sent."""
    world.uppers = [BOND._replace(active=HIGH)]
    state = world.capture(PORT)
    world.uppers = [BOND]
    world.kernel.nics[1].present = False
    world.links = [OtherDevice(HIGH, "new0", "02:00:00:00:00:09")]
    with wording:
        assert put_back(world, state, 1.0).residue == (
            "active slave eth2 of bond0: now eth1 (it is gone)",
        )
    assert world.sent == []


DISABLED = BridgeState(LOW, "br0", 0, True)
FORWARDS = DISABLED._replace(state=3)


def test_a_state_in_a_bridge_is_set_again_once_there_is_carrier(world: World) -> None:
    world.bridge_states = (DISABLED,)
    state = world.capture(PORT)
    # The kernel itself has it disabled, until it has carrier.
    world.bridge_states = (DISABLED._replace(running=False),)

    def later(world: World) -> None:
        if world.kernel.clock - start > 1.0 and not world.bridge_states[0].running:
            world.bridge_states = (FORWARDS,)
        elif world.bridge_states[0].running:
            world.bridge_states = (DISABLED,)  # what was sent is so now

    start, world.on_pause = world.kernel.clock, later
    done = put_back(world, state)
    assert (done.residue, done.lost) == ((), ())
    asked = DISABLED.request(LOW)
    assert world.sent[-1] == asked
    assert world.bridge_states == (DISABLED,)


def test_a_state_in_a_bridge_that_does_not_stay_is_residue(world: World) -> None:
    world.bridge_states = (DISABLED,)
    state = world.capture(PORT)
    world.bridge_states = (FORWARDS,)
    line = "state disabled of eth1 in br0: now forwarding"
    with wording:
        assert put_back(world, state, 1.0).residue == (f"{line} (it does not stay so)",)
        assert restore.compare(world, state).residue == (f"{line} (it does not stay so)",)
    world.refuses = lambda _request: errno.ENETDOWN
    assert put_back(world, state, 1.0).residue == (f"{line} (Network is down)",)


def test_a_state_in_a_bridge_waits_for_carrier_or_is_residue(world: World) -> None:
    world.bridge_states = (DISABLED,)
    state = world.capture(PORT)
    world.bridge_states = (DISABLED._replace(running=False),)
    (line,) = put_back(world, state, 1.0).residue
    with wording:
        assert line == (
            "state disabled of eth1 in br0 (it lasts only when br0 is up, and eth1 with carrier)"
        )


def test_a_state_that_no_request_sets_is_lost(world: World) -> None:
    world.bridge_states = (DISABLED._replace(state=4),)
    state = world.capture(PORT)
    world.bridge_states = (FORWARDS,)
    done = put_back(world, state)
    assert (done.residue, world.sent, world.paused) == ((), [], [])
    with wording:
        assert [one.text for one in done.lost] == [
            "state blocking of eth1 in br0: now forwarding (only the program that had set it can set it "
            "again)"
        ]


def test_a_state_in_a_bridge_that_is_none_of_its_own_any_more_is_left(world: World) -> None:
    world.bridge_states = (DISABLED,)
    state = world.capture(PORT)
    # In another bridge; in one that has STP now; and as it was before.
    for now in ((FORWARDS._replace(master="br1"),), (), (DISABLED,)):
        world.bridge_states = now
        assert put_back(world, state).residue == ()
    world.bridge_states = (FORWARDS,)
    state = world.capture(PORT)
    world.bridge_states = (DISABLED,)
    assert put_back(world, state).residue == ()
    assert world.sent == []


def test_sysctls_are_set_as_they_were(world: World) -> None:
    world.uppers = [vlan("v1", 11, 1)]
    world.settings = {(LOW, "mtu"): "1400", (11, "mtu"): "1300"}
    state = world.capture(PORT)
    world.settings = {(LOW, "mtu"): "1500", (11, "mtu"): "1500"}
    done = put_back(world, state)
    assert done.residue == ()
    assert world.settings == {(LOW, "mtu"): "1400", (11, "mtu"): "1300"}
    assert done.counts == {Kind.SYSCTL: 2}


def test_a_sysctl_that_does_not_stay_is_residue(world: World) -> None:
    world.settings = {(LOW, "mtu"): "1400"}
    state = world.capture(PORT)
    world.settings = {(LOW, "mtu"): "1500"}
    world.refuses = lambda _request: errno.EACCES
    line = "sysctl net/ipv6/conf/eth1/mtu = 1400"
    assert put_back(world, state, 1.0).residue == (f"{line} (Permission denied)",)

    class Stubborn(World):
        def set_sysctl(self, path: str, value: str) -> None:
            return

    class Late(World):
        """Refuses once, and does as it likes then."""

        def set_sysctl(self, path: str, value: str) -> None:
            if not self.paused:
                raise OSError(errno.EACCES, "Permission denied")

    late = Late(world.kernel, settings=world.settings)
    with wording:
        assert put_back(late, state, 1.0).residue == (f"{line} (it is changed back)",)
    stubborn = Stubborn(world.kernel, settings=world.settings)
    with wording:
        assert put_back(stubborn, state, 1.0).residue == (f"{line} (it is changed back)",)
    world.settings.clear()  # IPv6 was switched off: there is nothing to set
    assert put_back(world, state, 1.0).residue == ()


def test_an_ipv6_mtu_above_that_of_the_netdev_is_lost(world: World) -> None:
    """Somebody has lowered that one, which release leaves so: no later attempt could do more."""

    class Lowered(World):
        def set_sysctl(self, path: str, value: str) -> None:
            if int(value) > 1400:  # addrconf_sysctl_mtu()
                raise OSError(errno.EINVAL, "Invalid argument")
            super().set_sysctl(path, value)

    world.settings = {(LOW, "mtu"): "1500"}
    state = world.capture(PORT)
    lowered = Lowered(world.kernel, settings={(LOW, "mtu"): "1400"})
    done = put_back(lowered, state)
    assert done.residue == ()
    (lost,) = done.lost
    assert (lost.cause, "net/ipv6/conf/eth1/mtu" in lost.text) == (Cause.CHANGED, True)
    assert lowered.settings == {(LOW, "mtu"): "1400"}
    assert not lowered.paused, "nothing comes by itself"


def test_messages_of_the_fake_are_those_of_the_fixtures() -> None:
    """Both are made by hand; that they agree keeps either from drifting."""
    fact = fakes.route("192.0.2.0", 24, via="10.0.0.9")
    assert Message.parse("route", fact.body).pack() == fact.body


# --- routes of others that have an address of the port as source ------------------------------


@dataclass
class Leaned(World):
    """With two routes of another netdev in one row, of which this is said when one is made."""

    beside: list[Fact] = field(default_factory=lambda: [test_leaning.BESIDE, test_leaning.BARE])
    says: int = 0
    keeps: int = 0  # and this when one is removed
    asked: list[int] = field(default_factory=list)

    def capture(self, *args: Any, **more: Any) -> PortState:
        return replace(super().capture(*args, **more), rows=tuple(self.beside))

    def send(self, request: Request) -> None:
        if request.type not in (rt.RTM_NEWROUTE, rt.RTM_DELROUTE) or self._is_own(request):
            super().send(request)
            return
        self.asked.append(request.type)
        if request.type == rt.RTM_DELROUTE:
            if self.keeps:
                raise OSError(self.keeps, os.strerror(self.keeps))
            self.beside = [one for one in self.beside if one.body != request.body]
            return
        if self.says and leaning.source(Fact(Kind.ROUTE, request.body)):
            raise OSError(self.says, os.strerror(self.says))
        self.beside.append(Fact(Kind.ROUTE, request.body))

    def _is_own(self, request: Request) -> bool:
        return 2 not in rt.ifindexes(request.body)


def leaned(source: Fact, **more: Any) -> tuple[Leaned, PortState]:
    world = Leaned(**more)
    world.add(source)
    return world, replace(world.capture(PORT), leaning=(test_leaning.SIX,))


def test_a_source_comes_back_once_its_address_is_there() -> None:
    world, state = leaned(address("2001:db8:1::4", 64))
    assert put_back(world, state).residue == ()
    assert world.asked == [rt.RTM_DELROUTE, rt.RTM_NEWROUTE]
    assert [leaning.source(one) is not None for one in world.beside] == [False, True]


def test_a_route_is_left_whose_source_is_left_out_or_has_expired() -> None:
    """The kernel would refuse it, and keep the journal open; and it would have been removed first."""
    world, state = leaned(address("2001:db8:1::9", 64), says=errno.EINVAL)
    assert put_back(world, state).residue == ()
    assert (world.asked, world.beside) == ([], [test_leaning.BESIDE, test_leaning.BARE])


def test_no_route_is_removed_for_a_source_that_is_tentative() -> None:
    world, state = leaned(address("2001:db8:1::4", 64, flags=rt.IFA_F_TENTATIVE), says=errno.EINVAL)
    (line,) = put_back(world, state).residue
    with wording:
        assert line.endswith("(its source is in duplicate address detection)")
    assert (world.asked, world.beside) == ([], [test_leaning.BESIDE, test_leaning.BARE])


def test_a_route_that_was_removed_is_there_again_when_the_kernel_refuses_it() -> None:
    world, state = leaned(address("2001:db8:1::4", 64), says=errno.ENOMEM)
    (line,) = put_back(world, state, patience=0.0).residue
    assert "Cannot allocate memory" in line
    assert world.asked == [rt.RTM_DELROUTE, rt.RTM_NEWROUTE, rt.RTM_NEWROUTE]
    assert {leaning._plain(one) for one in world.beside} == {
        leaning._plain(one) for one in (test_leaning.BESIDE, test_leaning.BARE)
    }


def test_a_route_that_the_kernel_keeps_is_not_made_twice() -> None:
    world, state = leaned(address("2001:db8:1::4", 64), says=errno.ENOMEM, keeps=errno.EPERM)
    (line,) = put_back(world, state, patience=0.0).residue
    assert "Cannot allocate memory" in line
    assert world.asked == [rt.RTM_DELROUTE, rt.RTM_NEWROUTE]
    assert world.beside == [test_leaning.BESIDE, test_leaning.BARE]


def test_a_tentative_source_keeps_no_other_route_waiting() -> None:
    world, state = leaned(address("2001:db8:1::4", 64))
    world.add(address("2001:db8:1::5", 64, flags=rt.IFA_F_TENTATIVE))
    prefix, ways = "2001:db8:b::/64", ("2001:db8:8::7", "2001:db8:8::9")
    world.beside += [test_leaning.route(prefix, 2, via=via) for via in ways]
    late = test_leaning.route(prefix, 2, source="2001:db8:1::5", via=ways[1])
    (line,) = put_back(world, replace(state, leaning=(late, *state.leaning))).residue
    with wording:
        assert line.endswith("(its source is in duplicate address detection)")
    assert world.asked == [rt.RTM_DELROUTE, rt.RTM_NEWROUTE]
    assert [one for one in world.beside if leaning.source(one)], "the other one is as it was"
