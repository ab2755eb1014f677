"""Which facts belong to a port, when two states are the same, and what is sent to make it so."""

from __future__ import annotations

import dataclasses
import struct
from socket import inet_aton

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manactl.netstate import describe, diff, snapshot
from manactl.netstate.diff import Comparison, MissingFact, Obstacle
from manactl.netstate.requests import Request
from manactl.netstate.snapshot import Accepted, Dumps, Fact, Kind, OtherDevice, PortState
from manactl.netstate.uppers import UpperState
from manactl.wire import rtmsg as rt
from manactl.wire.netlink import NLM_F_EXCL, NLM_F_REPLACE
from manactl.wire.rtmsg import Attr, Hop, Place
from tests.unit.fakes import PORT, address, neighbour, nexthop, route, u32
from tests.unit.wording import wording

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


def test_an_ipv6_route_is_not_joined_to_another_that_took_its_place() -> None:
    wanted = route("2001:db8:9::", 48, via="fe80::9")
    assert len(diff.requests(MissingFact(wanted, None), state(wanted), HERE, 0)) == 1
    for present in (route("2001:db8:9::", 48, via="fe80::8"), multipath(Hop(0, 0, 3, b""))):
        assert diff.requests(MissingFact(wanted, present), state(wanted), HERE, 0) == []
    on_link = route("2001:db8:9::", 48)
    announced = route("2001:db8:9::", 48, via="fe80::8", proto=9)
    for present in (on_link, announced):
        assert len(diff.requests(MissingFact(wanted, present), state(wanted), HERE, 0)) == 1
    four, other = (route("192.0.2.0", 24, via=f"10.0.0.{n}") for n in (8, 9))
    assert len(diff.requests(MissingFact(four, other), state(four), HERE, 0)) == 1


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


def test_routes_of_one_row_come_in_their_order_and_as_late_as_the_last_of_them() -> None:
    """Of two to one destination the kernel asks the first."""
    far, near = route("10.8.0.0", 16, via="10.9.0.1", table=100), route("10.8.0.0", 16, table=100)
    way = route("10.9.0.0", 16, table=100)
    for row in ([far, near], [near, far]):
        facts = [*row, way]
        assert [one.fact for one in diff.in_order([MissingFact(f, None) for f in facts])] == [
            way,
            *row,
        ]


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


# --- two looks compared -----------------------------------------------------------------------


def with_attrs(fact: Fact, *attrs: Attr) -> Fact:
    return Fact(fact.kind, fact.body + rt.join(b"", attrs))


GATEWAY, METRICS, ENCAP = rt.RTA_GATEWAY, rt.RTA_METRICS, rt.RTA_ENCAP


@pytest.mark.parametrize(
    "changed",
    [
        route("10.9.0.0", 16, via="10.0.0.2"),
        route("10.9.0.0", 16),
        with_attrs(route("10.9.0.0", 16, via="10.0.0.1"), Attr(METRICS, b"\x08\0\x02\0\x78\5\0\0")),
        with_attrs(route("10.9.0.0", 16, via="10.0.0.1"), Attr(ENCAP, b"1234")),
        with_attrs(route("10.9.0.0", 16, via="10.0.0.1"), Attr(rt.RTA_PREFSRC, b"\x0a\0\0\2")),
        with_attrs(route("10.9.0.0", 16, via="10.0.0.1"), Attr(rt.RTA_FLOW, u32(5))),
        route("10.9.0.0", 16, via="10.0.0.1", expires=5),
        route("10.9.0.0", 16, via="10.0.0.1", kind=rt.RTN_LOCAL),
        route("10.9.0.0", 16, via="10.0.0.1", proto=rt.RTPROT_DHCP),
    ],
)
def test_a_route_that_differs_is_missing_and_the_other_named(changed: Fact) -> None:
    fact = route("10.9.0.0", 16, via="10.0.0.1")
    found = Comparison(state(fact), state(changed, ifindex=7, name="enP1"))
    assert found.missing == [MissingFact(fact, changed)]
    assert Comparison(state(fact), state(fact)).missing == []


def test_the_kernels_own_routes_have_the_lifetimes_of_their_addresses() -> None:
    fact, now = (route("2001:db8::", 64, proto=2, expires=n) for n in (None, 900))
    assert Comparison(state(fact), state(now)).missing == []


def test_another_of_ours_is_not_what_is_there_instead() -> None:
    """Two routes of one prefix and metric: one is back, the other is not."""
    back, away = (route("10.9.0.0", 16, via=f"10.0.0.{n}") for n in (1, 2))
    assert Comparison(state(back, away), state(back)).missing == [MissingFact(away, None)]


def test_labels_do_not_count_after_a_rename() -> None:
    was = address("10.0.0.2", 24, name="eth1:x")
    now = address("10.0.0.2", 24, 7, name="enP1:0")
    assert Comparison(state(was), state(now, ifindex=7, name="enP1")).missing == []
    same_name = address("10.0.0.2", 24, 7, name="eth1:0")
    assert len(Comparison(state(was), state(same_name, ifindex=7)).missing) == 1


def test_a_comparison_goes_on_from_an_earlier_one() -> None:
    was = address("10.0.0.2", 24, name="eth1:x")
    first = Comparison(state(was), state())
    renamed = state(address("10.0.0.2", 24, 7, name="enP1:0"), ifindex=7, name="enP1")
    second = Comparison(state(was), renamed, first)
    assert second.missing == []
    back = Comparison(state(was), state(address("10.0.0.2", 24)), second)
    assert len(back.missing) == 1
    assert back.moved == {3: 3}
    assert second.moved == {3: 7}


def test_temporary_addresses_and_their_routes_are_nobodys_loss() -> None:
    gone = address("2001:db8::77", 64, flags=rt.IFA_F_TEMPORARY)
    its_route = route("2001:db8::77", 128, proto=2, table=255, kind=rt.RTN_LOCAL)
    other = route("2001:db8::78", 128, proto=2, table=255, kind=rt.RTN_LOCAL)
    found = Comparison(state(gone, its_route, other), state())
    assert [one.fact for one in found.missing] == [other]
    new = address("2001:db8::99", 64, flags=rt.IFA_F_TEMPORARY)
    assert Comparison(state(), state(new)).surplus == []


def test_a_broadcast_route_may_have_gone_with_an_address() -> None:
    over = address("10.0.0.2", 24, valid=10)
    cast = route("10.0.0.255", 32, proto=2, table=255, kind=rt.RTN_BROADCAST)
    later = dataclasses.replace(state(), taken=200.0)
    assert Comparison(state(over, cast), later).missing == []
    assert len(Comparison(state(cast), later).missing) == 1


@pytest.mark.parametrize(
    ("fact", "extra"),
    [
        (route("10.9.0.0", 16), True),
        (route("10.9.0.0", 16, proto=rt.RTPROT_RA), False),
        (route("10.9.0.0", 16, proto=rt.RTPROT_DHCP), False),
        (route("10.9.0.0", 16, proto=rt.RTPROT_REDIRECT), False),
        (route("10.9.0.0", 16, proto=rt.RTPROT_KERNEL), False),
        (address("10.0.0.9", 24), True),
        (address("2001:db8::9", 64), True),
        (address("2001:db8::9", 64, proto=2), False),
        (address("2001:db8::9", 64, flags=rt.IFA_F_MANAGETEMPADDR), False),
        (neighbour("10.0.0.9"), True),
        (nexthop(99), True),
    ],
)
def test_what_somebody_else_made(fact: Fact, extra: bool) -> None:
    kept = address("10.0.0.2", 24)
    found = Comparison(state(kept), state(kept, fact))
    assert found.surplus == ([fact] if extra else [])


def test_another_form_of_what_was_is_not_extra() -> None:
    was, now = (route("10.9.0.0", 16, via=f"10.0.0.{n}") for n in (1, 2))
    assert Comparison(state(was), state(now)).surplus == []


# --- devices ----------------------------------------------------------------------------------

OTHER = OtherDevice(9, "eth9", "02:00:00:00:00:09")


@pytest.mark.parametrize(
    ("links", "index"),
    [
        ([OTHER], 9),
        ([OTHER._replace(name="renamed")], 9),
        ([OTHER._replace(mac="02:00:00:00:00:99")], 9),
        ([OTHER._replace(mac=None)], 9),
        ([OTHER._replace(name="renamed", mac="02:00:00:00:00:99")], -9),
        ([OTHER._replace(name="renamed", mac=None)], -9),
        ([OTHER._replace(ifindex=12)], 12),
        ([OTHER._replace(ifindex=12, name="x")], -9),
        ([OTHER._replace(ifindex=12, mac="02:00:00:00:00:99")], -9),
        ([OtherDevice(9, "x", "x"), OTHER._replace(ifindex=12)], 12),
        ([], -9),
    ],
)
def test_where_another_device_is_now(links: list[OtherDevice], index: int) -> None:
    wanted = dataclasses.replace(state(), others=(OTHER,))
    found = diff.aligned(wanted, dataclasses.replace(state(ifindex=7), links=tuple(links)))
    assert [place.ifindex for place in found] == [7, index]


def test_a_device_without_mac_address_is_known_by_number_and_name_alone() -> None:
    bare = OTHER._replace(mac=None)
    wanted = dataclasses.replace(state(), others=(bare,))
    for link, index in ((bare, 9), (bare._replace(ifindex=12), -9), (bare._replace(name="x"), -9)):
        found = diff.aligned(wanted, dataclasses.replace(state(), links=(link,)))
        assert found[1].ifindex == index


def test_a_member_on_a_device_that_is_gone() -> None:
    """Of an IPv4 route nothing is sent, of an IPv6 one the other members."""
    hops = struct.pack("=HBBi", 8, 0, 0, 9) + struct.pack("=HBBi", 8, 0, 1, 3)
    four = with_attrs(route("10.9.0.0", 16), Attr(rt.RTA_MULTIPATH, hops))
    six = multipath(Hop(0, 0, 9, b""), Hop(0, 1, 3, b""))
    wanted = dataclasses.replace(state(four, six), others=(OTHER,))
    stranger = OtherDevice(9, "new0", "02:00:00:00:00:77")
    found = Comparison(wanted, dataclasses.replace(state(), links=(stranger,)))
    assert found.obstacles == dict.fromkeys((four, six), Obstacle(device=Place(9, "eth9")))
    assert found.requests(MissingFact(four, None)) == []
    (only,) = found.requests(MissingFact(six, None))
    members = rt.value(rt.split(only.body, rt.RTMSG.size), rt.RTA_MULTIPATH) or b""
    assert [hop.ifindex for hop in rt.hops(members)] == [3]
    found = Comparison(wanted, dataclasses.replace(state(), links=(OTHER,)))
    assert found.obstacles == {}
    assert len(found.requests(MissingFact(four, None))) == 1


def test_nexthops_that_are_not_what_they_were() -> None:
    ours, group = nexthop(10), nexthop(20, None, (10, 12))
    by, by_group = route("10.8.0.0", 16, nhid=10), route("10.9.0.0", 16, nhid=20)
    free = route("10.7.0.0", 16, via="10.0.0.1")
    wanted = dataclasses.replace(
        state(ours, group, by, by_group, free), related=(nexthop(12, 9),), others=(OTHER,)
    )

    def obstacles(*related: Fact, facts: tuple[Fact, ...] = ()) -> dict[Fact, Obstacle]:
        now = dataclasses.replace(state(*facts), related=related, links=(OTHER,))
        return Comparison(wanted, now).obstacles

    assert obstacles() == {}
    assert obstacles(nexthop(12, 9)) == {}
    taken = Obstacle(nexthop=10, instead=nexthop(10, 9))
    assert obstacles(nexthop(10, 9)) == dict.fromkeys((ours, group, by, by_group), taken)
    moved = Obstacle(nexthop=12, instead=nexthop(12, 8))
    assert obstacles(nexthop(12, 8)) == dict.fromkeys((group, by_group), moved)
    elsewhere = nexthop(20, None, (30,))
    there = Obstacle(nexthop=20, instead=elsewhere)
    assert obstacles(elsewhere) == dict.fromkeys((group, by_group), there)
    shrunk = nexthop(20, None, (12,))
    assert obstacles(nexthop(12, 9), shrunk) == {}
    assert obstacles(nexthop(12, 8), shrunk, facts=(ours,)) == dict.fromkeys(
        (group, by_group), moved
    )
    assert obstacles(nexthop(12, 9), facts=(ours, group)) == {}


def test_a_nexthop_on_an_upper_that_is_gone() -> None:
    vlan = UpperState("v5", 5, "vlan", 3, "802.1Q 5", True, True, True)
    on_it, group = nexthop(10, 5), nexthop(20, None, (10, 11))
    by_group = route("10.9.0.0", 16, nhid=20)
    wanted = dataclasses.replace(state(on_it, nexthop(11), group, by_group), uppers=(vlan,))
    found = Comparison(wanted, state(nexthop(11)))
    assert found.obstacles == dict.fromkeys((group, by_group), Obstacle(device=Place(5, "v5")))
    assert found.on_upper(5) == [on_it]


@pytest.mark.parametrize(
    ("there", "shrunk"),
    [
        (nexthop(20, None, (10,)), True),
        (nexthop(20, None, (10, 11)), False),
        (nexthop(20, None, (10, 12)), False),
        (nexthop(20, None, (10, 11, 12)), False),
        (nexthop(20), False),
        (Fact(Kind.NEXTHOP, nexthop(20, None, (10,)).body[:2] + b"\x63" + nexthop(20, None, (10,)).body[3:]), False),
        (with_attrs(nexthop(20, None, (10,)), Attr(3, b"\1\0")), False),
        (Fact(Kind.NEXTHOP, nexthop(20, None, (10,)).body[:-4] + b"\5\0\0\0"), False),
    ],
)  # fmt: skip
def test_a_group_that_lost_members_is_like_ours_in_all_else(there: Fact, shrunk: bool) -> None:
    assert diff.is_shrunk_group(there, nexthop(20, None, (10, 11))) is shrunk


def test_routes_of_a_vrf_go_with_it() -> None:
    red = UpperState("red", 20, "vrf", 3, None, True, True, False, None, 100)
    inside, outside = route("10.9.0.0", 16, table=100), route("10.9.0.0", 16)
    old = Fact(Kind.ROUTE, struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 100, 3, 0, 1, 0))  # no RTA_TABLE
    wanted = dataclasses.replace(state(inside, outside, old), uppers=(red,))
    found = Comparison(wanted, state())
    assert [one.fact for one in found.missing] == [outside]
    assert found.on_upper(20) == [inside, old]
    found = Comparison(wanted, dataclasses.replace(state(), uppers=(red,)))
    assert len(found.missing) == 3


# --- what the kernel made meanwhile -------------------------------------------------------------


def test_a_connected_route_that_somebody_had_deleted_is_a_stray() -> None:
    had = address("10.0.0.2", 24)
    new, other = route("10.0.0.0", 24, proto=2), route("10.5.0.0", 24, proto=2)
    found = Comparison(state(had), state(had, new, other)).strays
    assert [(fact, request.type, request.flags, request.body) for fact, request in found] == [
        (new, rt.RTM_DELROUTE, 0, new.body)
    ]
    assert Comparison(state(had, new), state(had, new)).strays == []


@pytest.mark.parametrize(("carrier", "carrier_now"), [(c, n) for c in (0, 1) for n in (0, 1)])
def test_what_an_upper_got_by_a_moment_of_carrier_is_a_stray(
    carrier: int, carrier_now: int
) -> None:
    upper = UpperState("m5", 5, "macvlan", 3, None, True, bool(carrier), False)
    own = address("fe80::5", 64, 5, proto=3)
    by_hand = address("fe80::6", 64, 5)
    its = route("fe80::", 64, 5, proto=2)
    not_by_link = route("10.7.0.0", 16, 5, proto=2)
    wanted = dataclasses.replace(state(), uppers=(upper,))
    now = dataclasses.replace(
        state(own, by_hand, its, not_by_link), uppers=(upper._replace(carrier=bool(carrier_now)),)
    )
    found = Comparison(wanted, now).strays
    expected = [] if carrier or carrier_now else [(own, rt.RTM_DELADDR), (its, rt.RTM_DELROUTE)]
    assert [(fact, request.type) for fact, request in found] == expected


def test_an_elder_address_is_made_again_after_a_younger_one_that_is_missing() -> None:
    first, second, third = (address(f"2001:db8::{n}", 64) for n in (3, 2, 1))  # youngest first
    other = address("2001:db8::4", 64, 9)
    local_ = address("fe80::1", 64)
    wanted = state(first, second, third, other, local_)
    now = state(first, third, other, local_)
    assert [r.body for r in Comparison(wanted, now).in_the_way] == [first.body]
    assert [r.type for r in Comparison(wanted, now).in_the_way] == [rt.RTM_DELADDR]
    now = state(second, third, other, local_)
    assert Comparison(wanted, now).in_the_way == []
    assert Comparison(wanted, state(first, second, third, other)).in_the_way == []


# --- changes between two looks --------------------------------------------------------------

HOME = address("10.0.0.2", 24)
SIX = address("2001:db8::2", 64, valid=900)


def test_what_passes_by_itself_is_no_change() -> None:
    """Lifetimes, duplicate address detection, and the routes that come with its end."""
    later = address("2001:db8::2", 64, valid=300)
    tentative = address("2001:db8::2", 64, valid=900, flags=rt.IFA_F_TENTATIVE)
    local = route("2001:db8::2", 128, table=255, proto=2, kind=rt.RTN_LOCAL)
    assert diff.changes(state(HOME, SIX), state(HOME, later, taken=700.0)) == []
    assert diff.changes(state(HOME, tentative), state(HOME, SIX, local)) == []
    learned = [
        Fact(Kind.NEIGHBOUR, rt.NdMsg(2, 3, nud, rt.NTF_EXT_LEARNED).pack()) for nud in (2, 4)
    ]
    assert diff.changes(state(learned[0]), state(learned[1])) == []


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (state(HOME, SIX, route("10.9.0.0", 16, via="10.0.0.9")), "added: 10.9.0.0/16 via"),
        (state(HOME), "removed: inet6 2001:db8::2/64"),
        (state(HOME, address("2001:db8::2", 64)), "added: inet6 2001:db8::2/64"),
        (state(HOME, SIX, neighbour("10.0.0.50")), "added: neighbour 10.0.0.50"),
        (state(SIX, HOME), "the order of its addresses changed"),
        (dataclasses.replace(state(HOME, SIX), up=False, carrier=False), "eth1 was set down"),
        (dataclasses.replace(state(HOME, SIX), carrier=False), "eth1 lost its carrier"),
        (state(HOME, SIX, name="lan7"), "eth1 (ifindex 3) is lan7 (3) now"),
        (
            dataclasses.replace(
                state(HOME, SIX),
                uppers=(UpperState("v7", 9, "vlan", 3, "802.1Q 7", True, True, True),),
            ),
            "upper v7 changed",
        ),
        (
            dataclasses.replace(
                state(HOME, SIX),
                settings=(snapshot.Setting(3, "net/ipv6/conf", "accept_ra", "2"),),
            ),
            "sysctl net/ipv6/conf: accept_ra changed",
        ),
        (
            dataclasses.replace(state(HOME, SIX), others=(OtherDevice(5, "lan0", None),)),
            "a device that its routes name changed",
        ),
        (dataclasses.replace(state(HOME, SIX), related=(nexthop(8, 5),)), "added: nexthop id 8"),
    ],
)
def test_a_change_is_told_in_words(now: PortState, expected: str) -> None:
    found = diff.changes(state(HOME, SIX), now)
    with wording:
        assert expected in "\n".join(found)
    assert diff.changes(now, now) == []


@pytest.mark.parametrize(
    ("valid", "found"), [(800, 0), (801, 0), (803, 1), (900, 1), (rt.FOREVER, 0)]
)
def test_a_lifetime_that_does_not_end_when_it_should_was_extended(valid: int, found: int) -> None:
    """900 s, and 100 s later. One that became "for ever" is a change of settings."""
    later = state(HOME, address("2001:db8::2", 64, valid=valid), taken=200.0)
    assert len(diff.renewed(state(HOME, SIX), later)) == found
    assert diff.renewed(state(HOME), later) == []


# --- routers ----------------------------------------------------------------------------------

EVERYTHING = Accepted(3, default=True, prefixes=True, addresses=True, routes=64)
GATEWAY = "fe80::9"
RA = rt.RTPROT_RA
DEFAULT = route("::", 0, via=GATEWAY, proto=RA, expires=900)
INFORMED = route("2001:db8:bb::", 64, via=GATEWAY, proto=RA, expires=900)
PREFIX = route("2001:db8:aa::", 64, proto=rt.RTPROT_KERNEL, expires=900)
SLAAC = address("2001:db8:aa::2", 64, valid=900, proto=rt.IFAPROT_KERNEL_RA)
ROUTERS = (SLAAC, DEFAULT, INFORMED, PREFIX)
ENDLESS = route("2001:db8:aa::", 64, proto=rt.RTPROT_KERNEL)


def hears(now: PortState, accepted: Accepted = EVERYTHING) -> PortState:
    return dataclasses.replace(now, accepted=(accepted,))


def test_what_a_router_has_advertised_is_not_missing_but_comes() -> None:
    own = route("2001:db8:9::", 64, via=GATEWAY)
    found = Comparison(state(*ROUTERS, own), hears(state()))
    assert found.advertised == list(ROUTERS)
    assert [one.fact for one in found.missing] == [own]
    deaf = Comparison(state(*ROUTERS, own), state())
    assert (deaf.advertised, len(deaf.missing)) == ([], 5)
    there = Comparison(state(*ROUTERS), hears(state(*ROUTERS)))
    assert (there.advertised, there.missing) == ([], [])


def test_a_lifetime_that_is_over_is_the_routers_to_renew() -> None:
    later = hears(dataclasses.replace(state(), taken=5000.0))
    assert Comparison(state(*ROUTERS), later).advertised == list(ROUTERS)


@pytest.mark.parametrize(
    ("more", "left"),
    [
        ({"default": False}, DEFAULT),
        ({"prefixes": False}, PREFIX),
        ({"addresses": False}, SLAAC),
        ({"routes": 63}, INFORMED),
        ({"ifindex": 4}, None),
    ],
)
def test_what_the_device_does_not_take_is_missing(more: dict[str, int], left: Fact | None) -> None:
    found = Comparison(state(*ROUTERS), hears(state(), EVERYTHING._replace(**more)))
    expected = [left] if left else list(ROUTERS)
    # The connected route of an address that we make comes with it.
    if left is SLAAC:
        assert SLAAC in [one.fact for one in found.missing]
    else:
        assert [one.fact for one in found.missing] == expected


def test_a_device_is_known_by_where_it_is_now() -> None:
    now = hears(state(ifindex=7, name="enP1"), EVERYTHING._replace(ifindex=7))
    assert Comparison(state(*ROUTERS), now).advertised == list(ROUTERS)


@pytest.mark.parametrize(
    ("facts", "of_router"),
    [
        ((SLAAC, ENDLESS), {SLAAC, ENDLESS}),
        ((ENDLESS,), set()),
        ((address("2001:db8:aa::7", 64), SLAAC, PREFIX), {SLAAC}),
        ((address("2001:db8:aa::7", 64, flags=rt.IFA_F_NOPREFIXROUTE), PREFIX), {PREFIX}),
        ((address("2001:db8:aa::7", 64, valid=900), PREFIX), set()),
        ((address("2001:db8:aa::7", 64, flags=1, proto=rt.IFAPROT_KERNEL_RA),), set()),
        ((address("fe80::7", 64, proto=rt.IFAPROT_KERNEL_LL),), set()),
        ((route("2001:db8:9::", 64, expires=900),), set()),
        ((route("192.0.2.0", 24, proto=RA, expires=900),), set()),
        ((route("2001:db8:9::", 64, proto=RA, kind=rt.RTN_UNREACHABLE),), set()),
        ((route("2001:db8:9::", 64, 9, proto=RA),), set()),
        ((neighbour("2001:db8::5"), nexthop(3)), set()),
    ],
)
def test_what_is_a_routers(facts: tuple[Fact, ...], of_router: set[Fact]) -> None:
    assert set(snapshot.of_router(state(*facts), [EVERYTHING])) == of_router


def test_what_was_advertised_again_with_other_settings_has_come() -> None:
    again = route("::", 0, via=GATEWAY, proto=RA, expires=900, flags=rt.RTNH_F_ONLINK)
    endless = address("2001:db8:aa::2", 64, proto=rt.IFAPROT_KERNEL_RA)
    now = hears(state(endless, again, INFORMED, ENDLESS))
    found = Comparison(state(*ROUTERS), now)
    assert (found.advertised, found.missing) == ([], [])


def test_another_router_is_another_route() -> None:
    other = route("::", 0, via="fe80::7", proto=RA, expires=900)
    assert Comparison(state(DEFAULT), hears(state(other))).advertised == [DEFAULT]
    static = route("::", 0, via=GATEWAY)
    assert Comparison(state(DEFAULT), hears(state(static))).advertised == [DEFAULT]


def test_routes_of_an_advertised_address_come_with_it() -> None:
    its, other = local("2001:db8:aa::2"), local("2001:db8:aa::3")
    upper = UpperState("v9", 5, "vlan", 3, "802.1Q 9", True, True, True)
    slaac = address("2001:db8:aa::2", 64, 5, valid=900, proto=rt.IFAPROT_KERNEL_RA)
    was = dataclasses.replace(state(slaac, its, other), uppers=(upper,))
    now = dataclasses.replace(state(), uppers=(upper,))
    found = Comparison(was, hears(now, EVERYTHING._replace(ifindex=5)))
    assert (found.advertised, [one.fact for one in found.missing]) == ([slaac], [other])


def test_what_a_router_has_brought_is_not_removed_for_the_order() -> None:
    own = address("2001:db8::2", 64)
    was, now = state(SLAAC, own), state(SLAAC)
    assert Comparison(was, hears(now)).in_the_way == []
    assert [request.body for request in Comparison(was, now).in_the_way] == [SLAAC.body]


# --- what is not for us to make again -------------------------------------------------------


def of(protocol: int, number: int, ifindex: int = 3) -> Fact:
    """A nexthop of a program."""
    made = nexthop(number, ifindex)
    head = rt.NHMSG.pack(2, 253, protocol, 0, 0)
    return Fact(Kind.NEXTHOP, head + made.body[rt.NHMSG.size :])


def beside(here: PortState, *rows: Fact, related: tuple[Fact, ...] = ()) -> PortState:
    return dataclasses.replace(here, rows=rows, related=related)


@pytest.mark.parametrize(("protocol", "settled"), [(11, True), (4, False)])
def test_an_id_that_was_taken_over_is_its_daemons_affair(protocol: int, settled: bool) -> None:
    had = of(protocol, 10)
    wanted = state(had, route("192.0.2.0", 24, nhid=10, proto=protocol))
    found = Comparison(wanted, beside(state(), related=(of(protocol, 10, 9),)))
    assert (set(found.lost) == set(wanted.facts)) is settled
    assert (found.missing == []) is settled
    # A person's, or another daemon's, has not been put there by the one that it is missing from.
    for stranger in (0, 3, 12):
        found = Comparison(wanted, beside(state(), related=(of(stranger, 10, 9),)))
        assert found.lost == {}
        assert found.missing[0].fact == had
        assert {one.nexthop for one in found.obstacles.values()} == {10}
    static = state(had, route("192.0.2.0", 24, nhid=10))
    found = Comparison(static, beside(state(), related=(of(4, 10, 9),)))
    missing = [one.fact for one in found.missing]
    assert static.facts[1] in missing
    assert found.obstacles[static.facts[1]].nexthop == 10  # it would leave by another device


def test_a_route_by_the_same_id_that_is_there_is_not_missing() -> None:
    by_id = route("192.0.2.0", 24, nhid=10)
    elsewhere = route("192.0.2.0", 24, 9, nhid=10)  # its nexthop leads to another device now
    assert Comparison(state(by_id), beside(state(), elsewhere)).missing == []
    assert len(Comparison(state(by_id), state()).missing) == 1


def test_a_daemons_route_that_it_has_put_on_another_device() -> None:
    ours, theirs = (route("192.0.2.0", 24, index, proto=186) for index in (3, 9))
    others = route("192.0.2.0", 24, 9, proto=12)
    assert Comparison(state(ours), beside(state(), theirs)).lost[ours].instead == theirs
    assert Comparison(state(ours), beside(state(), others)).lost == {}
    # One that was there before, beside ours, has not taken its place.
    assert Comparison(beside(state(ours), ours, theirs), beside(state(), theirs)).lost == {}


WAYS = (("10.1.0.1", 186), ("10.1.0.2", 4))


def test_a_daemons_route_that_a_person_has_replaced_is_not_settled() -> None:
    ours, by_hand = (route("192.0.2.0", 24, via=via, proto=p) for via, p in WAYS)
    found = Comparison(state(ours), state(by_hand))
    assert found.lost == {}
    assert [one.fact for one in found.missing] == [ours]
    again = route("192.0.2.0", 24, via="10.1.0.2", proto=186)
    assert Comparison(state(ours), state(again)).lost[ours].instead == again


def test_routes_of_ours_are_put_first_again() -> None:
    ours, theirs = (route("192.0.2.0", 24, index, metric=5) for index in (3, 9))
    wanted = beside(state(ours), ours, theirs)
    moved = route("192.0.2.0", 24, 7, metric=5)
    now = beside(state(moved, ifindex=7, name="enP1"), theirs, moved)
    found = Comparison(wanted, now)
    (removed, made) = [request for _, request in found.moves]
    assert (removed.type, made.type, made.flags) == (25, 24, 0x400)  # NLM_F_CREATE alone: first
    assert rt.route_ifindexes(made.body) == {7}
    assert [(one.fact, one.instead) for one in found.misplaced] == [(ours, theirs)]
    right = Comparison(wanted, beside(now, moved, theirs))
    assert (right.moves, right.misplaced) == ([], [])


def test_a_route_that_somebody_has_put_before_ours_is_reported() -> None:
    ours, theirs = (route("192.0.2.0", 24, index, via="10.0.0.9") for index in (3, 9))
    found = Comparison(state(ours), beside(state(ours), theirs, ours))
    assert (found.missing, found.moves) == ([], [])  # it is theirs to remove
    assert [(one.fact, one.instead) for one in found.misplaced] == [(ours, theirs)]
    assert Comparison(state(ours), beside(state(ours), ours, theirs)).misplaced == []
    # One that was there before is not new because its lifetime goes on.
    short, later = (route("2001:db8::", 32, 9, proto=RA, expires=left) for left in (900, 800))
    ours = route("2001:db8::", 32, via=GATEWAY)
    wanted = beside(state(ours), short, ours)
    assert Comparison(wanted, beside(state(ours), later, ours)).misplaced == []


def test_what_comes_later_on_a_device_that_is_not_ours_is_no_loss() -> None:
    """A device of the snapshot, since a route of ours goes by it, too."""
    both = multipath(Hop(0, 0, 3, b""), Hop(0, 0, 9, b""))
    put = route("2001:db8::", 32, 11)
    known = dataclasses.replace(state(both), others=(OTHER,), links=(OTHER,))
    found = Comparison(beside(known, both), beside(known, put, both))
    assert found.places[1:] == (Place(9, OTHER.name),)
    assert found.misplaced == []


@pytest.mark.parametrize("protocol", [2, 255])
def test_what_the_kernel_has_on_every_device_overtakes_nothing(protocol: int) -> None:
    for prefix in ("fe80::", "ff00::"):
        ours, theirs = (route(prefix, 64, index, proto=protocol) for index in (3, 9))
        assert Comparison(state(ours), beside(state(ours), theirs, ours)).misplaced == []


def test_no_ipv6_route_is_joined_to_one_that_somebody_has_put_elsewhere() -> None:
    """The kernel would make one multipath route of both: half of the packets would leave by each."""
    ours, theirs = (route("2001:db8::", 32, index, via=GATEWAY) for index in (3, 9))
    both = multipath(Hop(0, 0, 3, b""), Hop(0, 0, 9, b""))
    for wanted in (ours, both):
        other = theirs if wanted is ours else route("2001:db8::", 32, 8, via=GATEWAY)
        found = Comparison(state(wanted), beside(state(), other))
        (missing,) = found.missing
        assert missing.instead == other
        assert found.requests(missing) == []
    # The kernel joins none of these, and what it has left of a multipath route is no obstacle.
    for harmless in (
        route("2001:db8::", 32, 9),
        route("2001:db8::", 32, 9, via=GATEWAY, proto=RA, expires=900),
        route("2001:db8::", 32, 9, via=GATEWAY, metric=7),
    ):
        found = Comparison(state(ours), beside(state(), harmless))
        assert found.requests(found.missing[0])
    found = Comparison(state(both), beside(state(), multipath(Hop(0, 0, 9, b""))))
    assert found.requests(found.missing[0])


def test_a_moment_of_reach_for_each_gateway() -> None:
    one = route("192.0.2.0", 24, via="10.0.0.9", table=100)
    (made,) = diff.requests(MissingFact(one, None), state(one), HERE, 0)
    (way,) = diff.to_gateways(made)
    head, attrs = rt.RtMsg.of(way.body), rt.split(way.body, rt.RTMSG.size)
    assert (head.dst_len, head.scope, head.type) == (32, rt.RT_SCOPE_LINK, rt.RTN_UNICAST)
    assert rt.value(attrs, rt.RTA_DST) == inet_aton("10.0.0.9")
    assert (rt.number(attrs, rt.RTA_OIF), rt.number(attrs, rt.RTA_TABLE)) == (3, 100)
    gateway = bytes.fromhex("20010db8" + "00" * 11 + "09")
    hops = (Hop(0, 0, 3, b""), Hop(0, 0, 3, rt.join(b"", [Attr(rt.RTA_GATEWAY, gateway)])))
    (way,) = diff.to_gateways(Request(rt.RTM_NEWROUTE, 0, multipath(*hops).body))
    assert rt.value(rt.split(way.body, rt.RTMSG.size), rt.RTA_DST) == gateway
    on_link = route("192.0.2.0", 24)
    (made,) = diff.requests(MissingFact(on_link, None), state(on_link), HERE, 0)
    assert diff.to_gateways(made) == []
    assert diff.to_gateways(diff.requests(MissingFact(FACTS[0], None), state(), HERE, 0)[0]) == []
