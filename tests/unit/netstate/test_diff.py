"""Which facts belong to a port, when two states are the same, and what is sent to make it so."""

from __future__ import annotations

import dataclasses
import struct
from socket import inet_aton

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manactl.netstate import describe, diff, snapshot
from manactl.netstate.diff import Comparison, MissingFact
from manactl.netstate.snapshot import Dumps, Fact, Kind, PortState
from manactl.netstate.uppers import UpperState
from manactl.wire import rtmsg as rt
from manactl.wire.netlink import NLM_F_EXCL, NLM_F_REPLACE
from manactl.wire.rtmsg import Attr, Hop, Place
from tests.unit.fakes import PORT, address, neighbour, nexthop, route, u32

HERE = (Place(3, "eth1"),)
THERE = (Place(7, "enP1"),)


def state(*facts: Fact, taken: float = 100.0, ifindex: int = 3, name: str = "eth1") -> PortState:
    return PortState(PORT, ifindex, name, True, True, taken, facts)


def dumps(*facts: Fact) -> Dumps:
    kinds = (Kind.ADDRESS, Kind.NEXTHOP, Kind.ROUTE, Kind.NEIGHBOUR)
    return Dumps(*([f.body for f in facts if f.kind is kind] for kind in kinds))


def multipath(*hops: Hop) -> Fact:
    attrs = [
        Attr(rt.RTA_TABLE, u32(254)),
        Attr(rt.RTA_DST, bytes.fromhex("20010db8" + "00" * 12)),
        Attr(rt.RTA_MULTIPATH, rt.pack_hops(hops)),
    ]
    return Fact(Kind.ROUTE, rt.join(rt.RTMSG.pack(10, 32, 0, 0, 254, 4, 0, 1, 0), attrs))


def test_what_refers_to_a_port_is_chosen_and_nothing_else() -> None:
    mine = [
        address("10.0.0.2", 24),
        nexthop(10),
        nexthop(20, None, (10, 11)),
        route("192.0.2.0", 24),
        route("192.0.3.0", 24, 9, nhid=20),
        multipath(Hop(0, 0, 3, b""), Hop(0, 0, 9, b"")),
        neighbour("10.0.0.50"),
        neighbour("10.0.0.60", proxy=True),
    ]
    others = [
        address("10.0.9.2", 24, 9),
        nexthop(11, 9),
        nexthop(21, None, (11,)),
        route("192.0.4.0", 24, 9),
        multipath(Hop(0, 0, 9, b"")),
        neighbour("10.0.0.51", 9),
        route("192.0.5.0", 24, flags=rt.RTM_F_CLONED),
    ]
    chosen = snapshot.select(dumps(*others, *mine), {3}).facts
    assert set(chosen) == set(mine)
    beside = snapshot.related(dumps(*others, *mine), chosen)
    assert beside == (nexthop(11, 9),)  # a member of a group of ours
    beside = snapshot.related(dumps(*others, *mine), chosen, {10, 21})
    assert set(beside) == {nexthop(11, 9), nexthop(21, None, (11,))}


def test_learned_neighbours_are_the_kernels_own_business() -> None:
    head = rt.NDMSG.pack(2, 0, 0, 3, 0x02, 0, 1)
    learned = Fact(Kind.NEIGHBOUR, rt.join(head, [Attr(rt.NDA_DST, b"\x0a\0\0\1")]))
    assert snapshot.select(dumps(learned), {3}).facts == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (address("10.0.0.2", 24), address("10.0.0.2", 24, 7, name="enP1")),
        (address("2001:db8::2", 64, flags=0x40), address("2001:db8::2", 64, 7, flags=0x08)),
        (address("2001:db8::2", 64, valid=900), address("2001:db8::2", 64, 7, valid=5)),
        (route("10.9.0.0", 16, flags=0x11), route("10.9.0.0", 16, 7)),
        (route("10.9.0.0", 16, nhid=5), route("10.9.0.0", 16, 99, nhid=5, via="10.0.0.1")),
        (route("2001:db8::", 32, expires=900), route("2001:db8::", 32, 7, expires=5)),
        (multipath(Hop(1, 0, 3, b""), Hop(0, 2, 9, b"")), multipath(Hop(0, 2, 9, b""), Hop(16, 0, 7, b""))),
        (nexthop(20, None, (10, 11)), nexthop(20, None, (11, 10))),
        (neighbour("10.0.0.50"), neighbour("10.0.0.50", 7)),
    ],
)  # fmt: skip
def test_the_same_under_another_ifindex_name_and_time(one: Fact, other: Fact) -> None:
    assert diff.identity(one, HERE) == diff.identity(other, THERE)
    assert diff.key(one, HERE) == diff.key(other, THERE)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (address("10.0.0.2", 24), address("10.0.0.2", 25)),
        (address("10.0.0.2", 24), address("10.0.0.2", 24, flags=0x200)),
        (address("10.0.0.2", 24), address("10.0.0.2", 24, name="eth1:x")),
        (address("2001:db8::2", 64), address("2001:db8::2", 64, flags=0x02)),
        (address("2001:db8::2", 64), address("2001:db8::2", 64, valid=900)),
        (route("10.9.0.0", 16), route("10.9.0.0", 16, metric=5)),
        (route("10.9.0.0", 16), route("10.9.0.0", 16, table=5)),
        (route("10.9.0.0", 16), route("10.9.0.0", 16, proto=16)),
        (route("10.9.0.0", 16), route("10.9.0.0", 16, flags=0x4)),
        (route("10.9.0.0", 16), route("10.9.0.0", 16, 9)),
        (nexthop(20, None, (10, 11)), nexthop(20, None, (10,))),
        (neighbour("10.0.0.50"), neighbour("10.0.0.50", proxy=True)),
    ],
)
def test_every_setting_counts(one: Fact, other: Fact) -> None:
    assert diff.identity(one, HERE) != diff.identity(other, HERE)


def test_attributes_unknown_to_us_are_sent_back() -> None:
    fact = route("10.9.0.0", 16, via="10.0.0.1")
    (request,) = diff.requests(MissingFact(fact, None), state(fact), (Place(7, "x"),), 0)
    attrs = rt.split(request.body, rt.RTMSG.size)
    assert rt.value(attrs, 999) == b"unknown to us"
    assert rt.number(attrs, rt.RTA_OIF) == 7


def test_an_ipv6_address_comes_without_dad_and_then_as_it_was() -> None:
    fact = address("2001:db8::2", 64)
    first, second = diff.requests(MissingFact(fact, None), state(fact), HERE, 0)
    flags = [rt.number(rt.split(r.body, rt.IFADDR.size), rt.IFA_FLAGS) for r in (first, second)]
    assert flags == [rt.IFA_F_NODAD, 0]
    (only,) = diff.requests(MissingFact(address("10.0.0.2", 24), None), state(fact), HERE, 0)
    assert only.flags & NLM_F_REPLACE


def test_an_ipv6_address_that_was_tentative_stays_so() -> None:
    """Else a VLAN that is down would get a local route for it, which it had not."""
    fact = address("2001:db8::2", 64, flags=rt.IFA_F_TENTATIVE)
    (only,) = diff.requests(MissingFact(fact, None), state(fact), HERE, 0)
    assert rt.number(rt.split(only.body, rt.IFADDR.size), rt.IFA_FLAGS) == 0


def local(text: str) -> Fact:
    return route(text, 128, 5, table=255, proto=rt.RTPROT_KERNEL, kind=rt.RTN_LOCAL)


@pytest.mark.parametrize("up", [False, True])
def test_an_address_kept_without_its_local_route_is_made_again(up: bool) -> None:
    """On a VLAN that is down; on one that is up the kernel adds the route by itself."""
    old, bare = (address(f"2001:db8::{n}", 64, 5, flags=rt.IFA_F_NODAD) for n in (1, 2))
    vlan = UpperState("v9", 5, "vlan", 3, "802.1Q 9", up, up, True)
    with_vlan = {"uppers": (vlan,)}
    wanted = dataclasses.replace(
        state(bare, old, local("2001:db8::2"), local("2001:db8::1")), **with_vlan
    )
    now = dataclasses.replace(state(bare, old, local("2001:db8::1")), **with_vlan)
    found = Comparison(wanted, now)
    assert [one.fact for one in found.missing] == [local("2001:db8::2")]
    removed = found.in_the_way
    assert [r.body for r in removed] == ([] if up else [bare.body])
    now = dataclasses.replace(state(bare, old, local("2001:db8::2")), **with_vlan)
    removed = Comparison(wanted, now).in_the_way
    assert [r.body for r in removed] == ([] if up else [old.body, bare.body])  # younger ones first


def test_a_route_is_awaited_only_while_its_address_is_tentative() -> None:
    settled = address("2001:db8::1", 64, 5)
    tentative = address("2001:db8::2", 64, 5, flags=rt.IFA_F_TENTATIVE)
    routes = [local(f"2001:db8::{n}") for n in (1, 2)]
    wanted = state(settled, tentative, *routes)
    assert Comparison(wanted, state(settled, tentative)).awaited == {routes[1]}
    assert Comparison(wanted, state(settled)).awaited == set()


def test_lifetimes_go_on_while_the_port_is_out() -> None:
    fact = address("2001:db8::2", 64, valid=900)
    request, _ = diff.requests(MissingFact(fact, None), state(fact), HERE, 300)
    times = rt.value(rt.split(request.body, rt.IFADDR.size), rt.IFA_CACHEINFO) or b""
    assert struct.unpack_from("=II", times) == (600, 600)
    assert diff.requests(MissingFact(fact, None), state(fact), HERE, 900) == []
    later = dataclasses.replace(state(), taken=1000.0)
    assert Comparison(state(fact), later).missing == []
    assert len(Comparison(state(fact), dataclasses.replace(later, taken=999.0)).missing) == 1


def test_nexthops_of_others_are_not_replaced() -> None:
    wanted = nexthop(10)
    (request,) = diff.requests(MissingFact(wanted, None), state(wanted), HERE, 0)
    assert request.flags & NLM_F_EXCL
    assert diff.requests(MissingFact(wanted, nexthop(10, 9)), state(wanted), HERE, 0) == []
    group, shrunk, foreign = (nexthop(20, None, ids) for ids in ((10, 11), (11,), (11, 12)))
    (request,) = diff.requests(MissingFact(group, shrunk), state(group), HERE, 0)
    assert request.flags & NLM_F_REPLACE
    assert diff.requests(MissingFact(group, foreign), state(group), HERE, 0) == []


def test_ipv6_multipath_makes_its_members_one_by_one_its_own_first() -> None:
    fact = multipath(Hop(0, 1, 3, b""), Hop(0, 2, 9, b""), Hop(0, 3, 3, b""))
    made = diff.requests(MissingFact(fact, None), state(fact), (Place(7, "x"),), 0)
    weights = [
        [h.weight for h in rt.hops(rt.value(rt.split(r.body, 12), rt.RTA_MULTIPATH) or b"")]
        for r in made
    ]
    assert weights == [[1], [3], [2]]


def test_the_order_of_making_again() -> None:
    facts = [
        neighbour("10.0.0.50"),
        route("10.8.0.0", 16, via="10.9.0.1"),
        route("10.9.0.0", 16),
        nexthop(20, None, (10,)),
        nexthop(10),
        address("2001:db8::1", 64),
        address("2001:db8::2", 64),
        address("10.0.0.2", 24),
    ]
    ordered = [one.fact for one in diff.in_order([MissingFact(f, None) for f in facts])]
    assert ordered == [facts[i] for i in (6, 5, 7, 4, 3, 2, 1, 0)]


FACTS = (
    address("10.0.0.2", 24), address("2001:db8::2", 64), nexthop(10), nexthop(20, None, (10, 11)),
    route("10.9.0.0", 16, via="10.0.0.1", expires=5), neighbour("10.0.0.50"),
    multipath(Hop(0, 1, 3, b""), Hop(0, 2, 9, b"")),
)  # fmt: skip


def test_a_state_survives_its_json() -> None:
    assert PortState.from_json(state(*FACTS).to_json()) == state(*FACTS)


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        (FACTS[0], "inet 10.0.0.2/24 dev eth1"),
        (FACTS[1], "inet6 2001:db8::2/64 dev eth1"),
        (FACTS[3], "nexthop id 20 group 10/11"),
        (FACTS[4], "10.9.0.0/16 via 10.0.0.1 dev eth1 proto static"),
        (FACTS[5], "neighbour 10.0.0.50 lladdr 02:00:00:00:00:50 dev eth1 permanent"),
    ],
)
def test_facts_read_as_ip_shows_them(fact: Fact, text: str) -> None:
    assert snapshot.describe(fact, {3: "eth1"}) == text


def with_peer(local: str, peer: str, scope: int) -> Fact:
    attrs = [Attr(rt.IFA_ADDRESS, inet_aton(peer)), Attr(rt.IFA_LOCAL, inet_aton(local))]
    return Fact(Kind.ADDRESS, rt.join(rt.IFADDR.pack(2, 32, 0x80, scope, 3), attrs))


@pytest.mark.parametrize("scope", [0, 253])
def test_the_command_that_removes_an_address_with_a_peer(scope: int) -> None:
    fact = with_peer("10.0.0.2", "10.0.0.7", scope)
    wanted = "ip address del 10.0.0.2 peer 10.0.0.7/32 dev eth1"
    assert snapshot.removal(fact, {3: "eth1"}) == wanted


@given(st.sampled_from(FACTS), st.integers(0, 200))
def test_a_message_cut_short_is_told_not_raised(fact: Fact, length: int) -> None:
    assert isinstance(describe.text(fact.kind, fact.body[:length], {}), str)
