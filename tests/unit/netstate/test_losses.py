"""What is lost before anything is done, and why."""

from __future__ import annotations

import dataclasses
import socket

import pytest

from manactl.netstate import losses
from manactl.netstate.losses import Cause
from manactl.netstate.snapshot import Fact, Kind, PortState
from manactl.netstate.uppers import UpperState
from manactl.wire import rtmsg as rt
from manactl.wire.rtmsg import Attr
from tests.unit.fakes import PORT, address, nexthop, route, u32
from tests.unit.wire.headers import numbers

VLAN = UpperState("v9", 9, "vlan", 3, "802.1Q 9", True, True, True)
LOOSE = UpperState("v8", 8, "vlan", 3, "802.1Q 8", True, True, False)
MACVLAN = UpperState("m7", 7, "macvlan", 9, None, True, True, False)
BRIDGE = UpperState("br0", 6, "bridge", 3, None, True, True, False)


def state(*facts: Fact, uppers: tuple[UpperState, ...] = ()) -> PortState:
    return PortState(PORT, 3, "eth1", True, True, 1.0, facts, uppers)


def anycast(text: str, ifindex: int = 3) -> Fact:
    return route(text, 128, ifindex, table=255, proto=2, kind=rt.RTN_ANYCAST)


def by_bpf(fact: Fact) -> Fact:
    """The same route or nexthop with `encap bpf`, as a dump has it."""
    kinds = (21, 22) if fact.kind is Kind.ROUTE else (7, 8)
    inner = rt.join(b"", [Attr(3, rt.join(b"", [Attr(2, b"two\0")]))])
    more = [Attr(kinds[0], b"\6\0"), Attr(kinds[1], inner)]
    return Fact(fact.kind, fact.body + rt.join(b"", more))


def causes(of: PortState) -> dict[Fact, Cause]:
    return {loss.fact: loss.cause for loss in losses.coming(of)}


def test_an_anycast_address_of_a_program_is_told_from_the_kernels_own() -> None:
    """The kernel joins the subnet-router address of each prefix shorter than 127."""
    own = [anycast("2001:db8:1::"), anycast("fe80::"), anycast("2001:db8:3::", 9)]
    joined = [anycast("2001:db8:1::77"), anycast("2001:db8:2::2"), anycast("2001:db8:1::", 9)]
    there = state(
        address("2001:db8:1::4", 64), address("2001:db8:2::2", 127), address("fe80::9", 64),
        address("2001:db8:3::1", 64, 9), *own, *joined, uppers=(VLAN,),
    )  # fmt: skip
    assert causes(there) == dict.fromkeys(joined, Cause.ANYCAST)
    static = route("2001:db8::7", 128, table=255, kind=rt.RTN_ANYCAST)
    assert causes(state(static)) == {}
    four = route("10.0.0.7", 32, table=255, proto=2, kind=rt.RTN_ANYCAST)
    assert not losses.is_anycast(four)


def test_an_address_that_cannot_be_read_makes_no_route() -> None:
    cut = address("2001:db8:1::4", 64)
    cut = Fact(cut.kind, cut.body[: rt.IFADDR.size])
    joined = anycast("2001:db8:1::")
    assert causes(state(cut, joined)) == {joined: Cause.ANYCAST}


def test_what_stays_is_not_lost() -> None:
    on = [anycast("2001:db8::7", upper.ifindex) for upper in (VLAN, LOOSE, MACVLAN, BRIDGE)]
    found = causes(state(*on, uppers=(VLAN, LOOSE, MACVLAN, BRIDGE)))
    assert found == {on[0]: Cause.ANYCAST}


def test_what_runs_a_bpf_program_is_lost_with_what_goes_by_it() -> None:
    plain, bpf = route("192.0.2.0", 24), by_bpf(route("192.0.3.0", 24))
    hop, good = by_bpf(nexthop(10)), nexthop(11)
    both, other, alone = (
        nexthop(n, None, ids) for n, ids in ((20, (10, 11)), (21, (11,)), (22, (10, 12)))
    )
    routes = [route(f"198.51.{n}.0", 24, nhid=n) for n in (10, 11, 20, 21, 22)]
    found = losses.coming(state(plain, bpf, hop, good, both, other, alone, *routes))
    assert {loss.fact: (loss.cause, loss.nexthop) for loss in found} == {
        bpf: (Cause.BPF, None),
        hop: (Cause.BPF, None),
        both: (Cause.NEXTHOP, 10),
        alone: (Cause.NEXTHOP, 10),
        routes[0]: (Cause.NEXTHOP, 10),
        routes[2]: (Cause.NEXTHOP, 20),
        # The group of routes[4] only loses a member: its other one is on another device.
    }
    second = by_bpf(nexthop(9))
    found = losses.coming(state(hop, second, nexthop(20, None, (10, 9))))
    assert max(loss.nexthop or 0 for loss in found) == 9, "of several the first is named"


def test_autojoin_addresses_that_would_go() -> None:
    flags = rt.IFA_F_MCAUTOJOIN
    groups = [address("ff05::1", 128, index, flags=flags) for index in (3, 9, 8)]
    four = address("239.1.1.1", 32, flags=flags)
    there = state(*groups, four, address("2001:db8::1", 64), uppers=(VLAN, LOOSE))
    assert losses.autojoined(there) == (groups[0], groups[1])


def test_the_order_among_others() -> None:
    mine, other = route("2001:db8::", 32, 3), route("2001:db8::", 32, 5)
    there = dataclasses.replace(state(mine), rows=(mine, other))
    (loss,) = losses.coming(there)
    assert (loss.cause, loss.fact, loss.instead) == (Cause.ORDER, mine, other)
    assert losses.coming(dataclasses.replace(there, rows=(other, mine))) == []


@pytest.mark.parametrize(
    ("protocol", "of_daemon"),
    [
        *((protocol, True) for protocol in (11, 84, 186, 189, *range(191, 199))),
        *((protocol, False) for protocol in (2, 3, 4, 9, 16, 83, 85, 190, 199)),
    ],
)
def test_whose_an_object_is(protocol: int, of_daemon: bool) -> None:
    assert losses.is_of_daemon(route("192.0.2.0", 24, proto=protocol)) is of_daemon
    hop = rt.join(rt.NHMSG.pack(socket.AF_INET, 0, protocol, 0, 0), [Attr(rt.NHA_ID, u32(5))])
    assert losses.is_of_daemon(Fact(Kind.NEXTHOP, hop)) is of_daemon
    assert not losses.is_of_daemon(address("10.0.0.2", 24))


def test_what_the_kernel_drops() -> None:
    groups = [nexthop(20, None, (10, 11)), nexthop(21, None, (11, 12))]
    goes = [
        address("2001:db8::2", 64), nexthop(10), nexthop(11, 7), *groups,
        route("192.0.2.0", 24), route("192.0.3.0", 24, nhid=11), route("192.0.4.0", 24, nhid=20),
    ]  # fmt: skip
    stays = [
        address("10.0.0.2", 24), address("2001:db8::7", 64, 7), nexthop(12, 6),
        route("192.0.5.0", 24, 7), route("192.0.6.0", 24, nhid=21),
        route("10.0.0.2", 32, table=255, proto=2, kind=rt.RTN_LOCAL),
    ]  # fmt: skip
    assert losses.dropped(state(*goes, *stays, uppers=(VLAN, MACVLAN, BRIDGE))) == goes


def test_a_synthetic_netdev_goes_down_with_the_port_and_its_vlans_with_it() -> None:
    above = UpperState("eth0", 6, "netvsc", 3, "000d3aaa", True, True, False)
    vlan = UpperState("v7", 7, "vlan", 6, "802.1Q 7", True, True, True)
    goes = [address("2001:db8::6", 64, 6), address("2001:db8::7", 64, 7), route("192.0.2.0", 24, 6)]
    stays = [address("10.0.0.6", 24, 6)]
    there = state(*goes, *stays, uppers=(above, vlan))
    assert losses.dropped(there) == goes
    assert losses.gone(there) == ({3, 6, 7}, set())


def test_all_that_the_kernels_header_has_are_of_daemons_but_those_of_people_and_leases() -> None:
    known = numbers("linux/rtnetlink.h")
    named = {name: n for name, n in known.items() if name.startswith("RTPROT_")}
    others = {"UNSPEC", "REDIRECT", "KERNEL", "BOOT", "STATIC", "RA", "DHCP"}
    for name, protocol in named.items():
        of_daemon = name.removeprefix("RTPROT_") not in others
        assert losses.is_of_daemon(route("192.0.2.0", 24, proto=protocol)) is of_daemon, name
