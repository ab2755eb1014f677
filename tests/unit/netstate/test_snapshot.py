"""What a fact is, which belong to a port, and what the journal keeps of them."""

from __future__ import annotations

import base64
import dataclasses
import json
import random
import socket
import struct

import pytest

from manactl.netstate import diff, losses, snapshot
from manactl.netstate.snapshot import (
    Accepted,
    Dumps,
    Fact,
    Kind,
    OtherDevice,
    PortState,
    Setting,
    counted,
)
from manactl.netstate.uppers import UpperState
from manactl.wire import rtmsg as rt
from manactl.wire.rtmsg import Attr
from tests.unit.fakes import PORT, address, neighbour, nexthop, route, u32

VLAN = UpperState("v9", 9, "vlan", 3, "802.1Q 9", True, True, True)
RED = UpperState("red", 20, "vrf", 3, None, True, True, False, None, 100, "02:00:00:00:00:14")
OTHER = OtherDevice(5, "other0", "02:00:00:00:00:05")


def state(*facts: Fact, **more: object) -> PortState:
    made = PortState(PORT, 3, "eth1", True, False, 100.5, facts)
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


def multipath(*ifindexes: int, **more: int) -> Fact:
    hops = b"".join(struct.pack("=HBBi", 8, 0, 0, index) for index in ifindexes)
    return with_attrs(route("192.0.2.0", 24, ifindexes[0], **more), Attr(rt.RTA_MULTIPATH, hops))


def with_attrs(fact: Fact, *attrs: Attr) -> Fact:
    return Fact(fact.kind, fact.body + rt.join(b"", attrs))


def test_a_state_survives_the_journal() -> None:
    full = state(
        address("10.0.0.2", 24),
        multipath(3, 5),
        uppers=(VLAN, RED),
        settings=(Setting(3, "net/ipv6/conf", "mtu", "1400"),),
        others=(OTHER, OtherDevice(6, "none", None)),
        related=(nexthop(12, 5),),
        links=(OTHER,),
        accepted=(Accepted(3, True, True, False, 48), Accepted(5, False, True, True, 0, False)),
    )
    again = PortState.from_json(json.loads(json.dumps(full.to_json())))
    assert again == full
    assert again.others == full.others
    assert again.related == full.related
    assert again.accepted == full.accepted
    assert again.links == ()  # what else was there is nobody's business


def test_a_journal_of_an_earlier_version_is_read() -> None:
    data = state(address("10.0.0.2", 24)).to_json()
    for name in ("related", "others", "uppers", "sysctls", "accepted"):
        del data[name]
    assert PortState.from_json(data) == state(address("10.0.0.2", 24))
    old = {k: v for k, v in RED.to_json().items() if k not in ("table", "mac", "active")}
    assert UpperState.from_json(old) == RED._replace(table=None, mac=None)


def test_what_the_journal_says_of_it_can_be_read() -> None:
    data = state(nexthop(10, 3), related=(nexthop(12, 5),), others=(OTHER,)).to_json()
    assert data["port"] == {
        "pci": "7870:00:00.0", "port": 1, "permanent_mac": "00:0d:3a:aa:00:10",
    }  # fmt: skip
    assert (data["ifindex"], data["ifname"], data["up"]) == (3, "eth1", True)
    assert (data["carrier"], data["taken"]) == (False, 100.5)
    assert data["facts"]["text"][0] == "nexthop id 10 dev eth1"
    assert data["related"]["text"][0] == "nexthop id 12 dev other0"
    assert snapshot.port_from_json({**data["port"], "permanent_mac": None}).permanent_mac is None


def test_a_journal_has_the_words_of_the_first_thousand_facts_and_all_messages() -> None:
    many = [route(f"10.{n >> 8}.{n & 255}.0", 24) for n in range(1500)]
    data = json.loads(json.dumps(state(*many).to_json()))
    assert len(data["facts"]["text"]) == 1000
    assert data["facts"]["text"][999].startswith("10.3.231.0/24 ")
    assert PortState.from_json(data).facts == tuple(many)


def test_its_devices_and_their_names() -> None:
    full = state(uppers=(VLAN,), others=(OTHER,), links=(OTHER, OtherDevice(8, "more", None)))
    assert full.places == ((3, "eth1"), (9, "v9"))
    assert full.devices == ((3, "eth1"), (9, "v9"), (5, "other0"))
    assert full.names == {3: "eth1", 9: "v9", 5: "other0"}
    assert [full.name_of(n) for n in (3, 9, 5, 8, 77)] == ["eth1", "v9", "other0", "more", None]


def test_its_own_addresses_and_routes() -> None:
    mine = (address("10.0.0.2", 24), multipath(9, 3))
    others = (
        address("10.1.0.2", 24, 9),
        route("10.9.0.0", 16, 9),
        nexthop(10),
        neighbour("10.0.0.5"),
    )
    assert state(*mine, *others).own == mine
    assert state(*mine, *others).of(Kind.NEXTHOP) == (nexthop(10),)


def test_counting_words() -> None:
    assert [counted(1, Kind.ADDRESS), counted(2, Kind.ADDRESS)] == ["1 address", "2 addresses"]
    assert [counted(0, Kind.ROUTE), counted(1, Kind.SYSCTL)] == ["0 routes", "1 sysctl"]


# --- choosing -------------------------------------------------------------------------------


def dumps(*facts: Fact) -> Dumps:
    kinds = (Kind.ADDRESS, Kind.NEXTHOP, Kind.ROUTE, Kind.NEIGHBOUR)
    return Dumps(*([f.body for f in facts if f.kind is kind] for kind in kinds))


def test_other_devices_are_those_that_routes_nexthops_and_bonds_name() -> None:
    facts = dumps(
        address("10.0.0.2", 24), multipath(3, 5), multipath(6, 7), nexthop(12, 4),
        nexthop(10), nexthop(20, None, (10, 12)),
    )  # fmt: skip
    chosen = snapshot.select(facts, {3})
    assert chosen.named == {3, 5, 6, 7}  # 6 and 7: their route is in a row with one of ours
    assert chosen.rows == (multipath(3, 5), multipath(6, 7))
    beside = snapshot.related(facts, chosen.facts)
    assert beside == (nexthop(12, 4),)
    links = [OtherDevice(n, f"dev{n}", None) for n in range(4, 10)]
    bond = UpperState("bond0", 30, "bond", 3, None, True, True, False, 8)
    found = snapshot.other_devices(chosen, beside, (bond, VLAN), links)
    assert [one.ifindex for one in found] == [4, 5, 6, 7, 8]
    full = state(*chosen.facts, related=beside)
    assert snapshot.nexthop_ids(full) == {10, 12, 20}


def test_a_route_by_the_group_of_another_nexthop_is_not_ours() -> None:
    facts = dumps(nexthop(10), nexthop(12, 4), nexthop(21, None, (12,)),
                  route("192.0.2.0", 24, 4, nhid=21), route("192.0.3.0", 24, 4, nhid=10))  # fmt: skip
    assert snapshot.select(facts, {3}).facts == (nexthop(10), route("192.0.3.0", 24, 4, nhid=10))


def neighbour_with(state: int = 0, flags: int = 0, extended: int = 0, index: int = 3) -> Fact:
    head = struct.pack("=BBHiHBB", 2, 0, 0, index, state, flags, 1)
    attrs = [Attr(rt.NDA_DST, b"\x0a\0\0\1"), Attr(rt.NDA_FLAGS_EXT, u32(extended))]
    return Fact(Kind.NEIGHBOUR, rt.join(head, attrs))


@pytest.mark.parametrize(
    ("fact", "kept"),
    [
        (neighbour_with(state=0x80), True),
        (neighbour_with(state=0x80, index=4), False),
        (neighbour_with(flags=0x08), True),
        (neighbour_with(state=0x02, flags=0x10), True),
        (neighbour_with(state=0x02, extended=1), True),
        (neighbour_with(state=0x02, extended=2), False),
        (neighbour_with(state=0x02), False),
        (neighbour_with(state=0x40, flags=0x80), False),
    ],
)
def test_neighbours_that_somebody_configured(fact: Fact, kept: bool) -> None:
    assert (fact in snapshot.select(dumps(fact), {3}).facts) is kept


MAC = "02:00:00:00:00:01"


@pytest.mark.parametrize(
    ("to", "lladdr", "kept"),
    [
        ("10.1.0.9", "02:00:00:00:00:09", True),
        ("2001:db8::9", "02:00:00:00:00:09", True),
        ("fe80::9", "02:00:00:00:00:09", True),
        ("10.1.0.9", "03:bf:0a:01:00:09", True),  # a cluster's, of network load balancing
        ("10.1.0.9", MAC, False),  # the kernel's, where nobody is asked: ipvlan in mode l3
        ("10.1.0.9", "00:00:00:00:00:00", False),
        ("10.1.0.9", "", False),
        ("10.1.0.9", "0a:01:00:09", False),  # a tunnel's
        ("10.1.0.255", "ff:ff:ff:ff:ff:ff", False),
        ("224.0.0.251", "01:00:5e:00:00:fb", False),
        ("ff02::16", "33:33:00:00:00:16", False),
        ("127.0.0.1", "02:00:00:00:00:09", False),
        ("::1", "02:00:00:00:00:09", False),
    ],
)
def test_neighbours_that_are_not_asked_for(to: str, lladdr: str, kept: bool) -> None:
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    attrs = [Attr(rt.NDA_DST, socket.inet_pton(family, to))]
    attrs.append(Attr(rt.NDA_LLADDR, bytes.fromhex(lladdr.replace(":", ""))))
    head = rt.NdMsg(family, 3, rt.NUD_NOARP).pack()
    fact = Fact(Kind.NEIGHBOUR, rt.join(head, attrs))
    assert (fact in snapshot.select(dumps(fact), {3}, macs={3: MAC}).facts) is kept
    assert snapshot.select(dumps(fact), {3}, macs={3: None}).facts == ()


# --- what a fact is -------------------------------------------------------------------------


def kernels(text: str, length: int, kind: int = 1, table: int = 254, ifindex: int = 3) -> Fact:
    return route(text, length, ifindex, proto=2, kind=kind, table=table)


LINK_LOCAL = address("fe80::d", 64, proto=3)


@pytest.mark.parametrize(
    ("fact", "made"),
    [
        (LINK_LOCAL, True),
        (address("fe80::d", 64, flags=0x800), True),
        (address("2001:db8::2", 64, flags=0x800), False),
        (address("fe80::d", 64), False),
        (address("10.0.0.2", 24, proto=3), False),
        (kernels("10.0.0.2", 32, rt.RTN_LOCAL, 255), True),
        (kernels("10.0.0.255", 32, rt.RTN_BROADCAST, 255), True),
        (kernels("2001:db8::", 128, rt.RTN_ANYCAST, 255), True),
        (kernels("ff00::", 8, rt.RTN_MULTICAST, 255), True),
        (kernels("10.0.0.0", 24), True),
        (kernels("10.0.0.0", 24, ifindex=4), False),
        (kernels("10.0.0.0", 25), False),
        (kernels("10.1.0.0", 24), False),
        (kernels("10.2.0.0", 24), False),  # of an address that brings no route
        (kernels("2001:db8::", 64), True),
        (kernels("2001:db8::2", 128), True),
        (route("10.0.0.0", 24), False),
        (route("10.0.0.2", 32, kind=rt.RTN_LOCAL), False),
        (nexthop(10), False),
        (neighbour("10.0.0.5"), False),
    ],
)
def test_what_the_kernel_makes_by_itself(fact: Fact, made: bool) -> None:
    addresses = (address("10.0.0.2", 24), address("2001:db8::2", 64),
                 address("10.2.0.2", 24, flags=0x200))  # fmt: skip
    assert snapshot.made_by_kernel(fact, state(*addresses)) is made


def test_both_ends_of_a_peer_address_have_routes() -> None:
    head = struct.pack("=BBBBI", 10, 64, 0x80, 0, 3)
    near, far = (bytes.fromhex(f"20010db8000{n}" + "00" * 9 + "07") for n in (1, 2))
    both = Fact(Kind.ADDRESS, rt.join(head, [Attr(1, far), Attr(2, near)]))
    for text, length, expected in (
        ("2001:db8:2::", 64, True), ("2001:db8:1::7", 128, True), ("2001:db8:1::", 64, False),
    ):  # fmt: skip
        assert snapshot.connected(kernels(text, length), state(both)) is expected


def test_kinds_of_addresses() -> None:
    six = address("2001:db8::2", 64, flags=0x01)
    assert snapshot.is_temporary(six)
    assert not snapshot.is_temporary(address("10.0.0.2", 24, flags=0x01))  # secondary
    assert not snapshot.is_temporary(route("2001:db8::", 32, flags=0x01))
    assert snapshot.is_tentative(address("2001:db8::2", 64, flags=0x40))
    assert not snapshot.is_tentative(address("2001:db8::2", 64))
    assert not snapshot.is_tentative(address("10.0.0.2", 24, flags=0x40))
    assert snapshot.is_link_scope(LINK_LOCAL)
    assert not snapshot.is_link_scope(six)
    old = Fact(Kind.ADDRESS, struct.pack("=BBBBI", 10, 64, 0x41, 0, 3))
    assert snapshot.address_flags(old) == 0x41
    assert snapshot.address_flags(address("2001:db8::2", 64, flags=0x300)) == 0x380


def test_addresses_as_text() -> None:
    facts = [address("10.0.0.2", 24), LINK_LOCAL, route("10.9.0.0", 16), address("2001:db8::2", 64)]
    assert snapshot.addresses(facts) == ["10.0.0.2", "fe80::d", "2001:db8::2"]
    assert snapshot.global_addresses(facts) == ["10.0.0.2", "2001:db8::2"]
    assert snapshot.addresses([Fact(Kind.ADDRESS, struct.pack("=BBBBI", 10, 64, 0, 0, 3))]) == ["?"]


def test_the_order_of_making_again() -> None:
    order = [
        address("10.0.0.2", 24), nexthop(10), nexthop(20, None, (10,)), route("10.8.0.0", 16),
        route("10.9.0.0", 16, via="10.8.0.1"), neighbour("10.0.0.5"),
    ]  # fmt: skip
    assert sorted(reversed(order), key=snapshot.rank) == order
    near, far = snapshot.rank(order[3]), snapshot.rank(order[4])
    assert near < far
    assert snapshot.rank(multipath(3, 4)) == far
    assert snapshot.rank(route("10.9.0.0", 16, nhid=5)) == far
    via = with_attrs(route("10.9.0.0", 16), Attr(rt.RTA_VIA, b"\x0a\0" + bytes(16)))
    assert snapshot.rank(via) == far


@pytest.mark.parametrize("elapsed", [49, 50])
def test_expiry(elapsed: int) -> None:
    over = elapsed >= 50
    assert snapshot.expired(address("2001:db8::2", 64, valid=50), elapsed) is over
    assert snapshot.expired(route("2001:db8::", 32, expires=50), elapsed) is over
    assert not snapshot.expired(address("2001:db8::2", 64), elapsed)
    assert not snapshot.expired(route("2001:db8::", 32), elapsed)
    assert not snapshot.expired(neighbour("10.0.0.5"), elapsed)


def test_devices_of_facts() -> None:
    assert snapshot.devices_of(address("10.0.0.2", 24, 4)) == {4}
    assert snapshot.devices_of(neighbour("10.0.0.5", 5)) == {5}
    assert snapshot.devices_of(nexthop(10, 6)) == {6}
    assert snapshot.devices_of(nexthop(20, None, (10,))) == set()
    assert snapshot.devices_of(multipath(7, 8)) == {7, 8}


def test_an_earlier_journal_is_read() -> None:
    """It had an object for each fact."""
    facts = (address("10.0.0.2", 24), nexthop(10), multipath(3, 5), neighbour("10.0.0.5"))
    full = state(*facts, related=(nexthop(12, 5),), rows=(multipath(3, 5),))
    data = json.loads(json.dumps(full.to_json()))
    for name in ("facts", "related", "rows"):
        data[name] = [
            {
                "kind": str(fact.kind),
                "text": "",
                "message": base64.b64encode(fact.body).decode(),
            }
            for fact in getattr(full, name)
        ]
    again = PortState.from_json(data)
    assert (again, again.related, again.rows) == (full, full.related, full.rows)
    for name in ("related", "rows"):
        del data[name]  # by one that did not know of these
    assert (PortState.from_json(data).facts, PortState.from_json(data).rows) == (facts, ())


def test_rows_have_ours_and_others_in_the_kernels_order() -> None:
    ours, theirs = route("192.0.2.0", 24, 3), route("192.0.2.0", 24, 5)
    alone, foreign = route("192.0.3.0", 24, 3), route("192.0.4.0", 24, 5)
    on_all = [route(to, n, i) for to, n in (("fe80::", 64), ("ff00::", 8)) for i in (3, 5)]
    facts = dumps(theirs, ours, alone, foreign, *on_all)
    chosen = snapshot.select(facts, {3})
    assert chosen.rows == (theirs, ours)
    assert chosen.named == {3, 5}
    # Later they are asked for by key, whether one of ours is there or not.
    later = snapshot.select(facts, {9}, {snapshot.route_key(foreign)})
    assert (later.rows, later.facts) == ((foreign,), ())


def test_a_pair_is_one_thing() -> None:
    above = UpperState("eth0", 6, "netvsc", 3, "000d3aaa", True, True, False)
    mine, other = address("10.0.0.6", 24, 6), address("10.0.0.7", 24, 7)
    pair = PortState(PORT, 3, "vf0", False, False, 0.0, (mine, other), (above,))
    assert (pair.main, pair.in_use, pair.own) == ("eth0", True, (mine,))
    assert (pair.synthetic, pair.stacked) == (above, ())
    down = dataclasses.replace(pair, uppers=(above._replace(up=False),))
    assert not down.in_use
    kept = dataclasses.replace(pair, uppers=(), alone=True)
    assert (kept.main, kept.in_use, kept.own) == ("vf0", False, ())
    assert PortState.from_json(json.loads(json.dumps(kept.to_json()))).alone


# --- what is worked out once holds for each ---------------------------------------------------


def random_routes(draw: random.Random, count: int) -> list[Fact]:
    """Routes of few prefixes over few devices, so that many are alike in something."""
    found = []
    for _ in range(count):
        six = draw.random() < 0.5
        to = draw.choice(("2001:db8::", "fe80::", "ff00::", "2001:db8:1::") if six else V4)
        more: dict[str, int] = {"metric": draw.choice((0, 0, 100))}
        if draw.random() < 0.2:
            more["nhid"] = draw.choice((10, 20, 30))
        if six and draw.random() < 0.2:
            more["expires"] = draw.choice((10, 50))
        more["proto"] = draw.choice((2, 3, 4, 9, 12))
        kind = draw.choice((1, 1, 1, 2, 3, 4, 5))
        one = route(to, draw.choice((24, 32)), draw.choice((3, 5, 9)), **more)
        head = rt.RtMsg.of(one.body)._replace(type=kind)
        if draw.random() < 0.05:
            head = head._replace(flags=head.flags | rt.RTM_F_CLONED)
        one = Fact(one.kind, head.pack() + one.body[rt.RTMSG.size :])
        if draw.random() < 0.1:
            hops = b"".join(struct.pack("=HBBi", 8, 0, 0, i) for i in draw.sample((3, 5, 9), 2))
            one = with_attrs(one, Attr(rt.RTA_MULTIPATH, hops))
        if draw.random() < 0.1:
            one = with_attrs(one, Attr(rt.RTA_ENCAP_TYPE, struct.pack("=H", draw.choice((6, 7)))))
        found.append(one)
    return found


V4 = ("192.0.2.0", "192.0.3.0", "198.51.100.0", "203.0.113.0")


@pytest.mark.parametrize("seed", range(60))
def test_a_selection_is_the_same_whatever_was_selected_before(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(seed)
    if seed % 2:
        monkeypatch.setattr(snapshot, "_FEW", 0)
    hops = [nexthop(10, 3), nexthop(20, 5), nexthop(30, None, (10, 20))]
    then = random_routes(draw, 80)
    now = [one for one in then if draw.random() < 0.8] + random_routes(draw, 20)
    draw.shuffle(now)
    first = snapshot.select(dumps(*then, *hops), {3, 9})
    assert len({*first.facts, *first.rows}) > 20
    keys = {snapshot.route_key(one) for one in then if draw.random() < 0.5}
    for devices, also in (({3, 9}, None), ({5}, None), ({3}, keys)):
        exact = snapshot.select(dumps(*now, *hops), devices, also)
        again = snapshot.select(dumps(*now, *hops), devices, also, first.routes)
        assert again == exact
        same = dumps(*now, *hops)._replace(routes=exact.routes.of[0])
        assert snapshot.select(same, devices, also, exact.routes).routes is exact.routes
        other = snapshot.select(same, {3, 5}, {snapshot.route_key(now[0])}, exact.routes)
        assert other == snapshot.select(same, {3, 5}, {snapshot.route_key(now[0])})
        # Each by itself, without what is worked out for those of a shape.
        ours = {one for one in exact.facts if one.kind is Kind.ROUTE}
        for one in now:
            alone = snapshot.select(dumps(one, *hops), devices, ())
            assert (one in ours) is (one in alone.facts)
            assert one not in ours or alone.named <= exact.named
        assert [*exact.routes.others] == [one.body for one in now if one not in ours]
    # What was there in these rows, and is again, is the same object; else nothing is another.
    was = {key: one for one in then if (key := snapshot.route_key(one)) in keys}
    known = snapshot.select(dumps(*now, *hops), {3}, was)
    assert (known.facts, known.named, known.rows) == (exact.facts, exact.named, exact.rows)
    again_there = [one for one in known.rows if one == was[snapshot.route_key(one)]]
    if seed % 2:
        assert all(one is was[snapshot.route_key(one)] for one in again_there)
        assert again_there


@pytest.mark.parametrize("seed", range(60))
def test_a_selection_of_a_table_of_which_little_has_changed(seed: int) -> None:
    """Lifetimes that have gone on, a route more or less, another in its place."""
    draw = random.Random(seed)
    hops = [nexthop(10, 3), nexthop(20, 5), nexthop(30, None, (10, 20))]
    now = random_routes(draw, 150)
    rows = frozenset(snapshot.route_key(one) for one in now if draw.random() < 0.5)
    asked = ({3, 9}, draw.choice((None, rows)))
    last = snapshot.select(dumps(*now, *hops), *asked)
    for _ in range(12):
        at = draw.randrange(len(now) - 3)
        match draw.randrange(4):
            case 0:
                limited = [n for n, one in enumerate(now) if rt.lifetime(one.rest)]
                for n in limited[:20]:
                    times = struct.pack("=IIiIIIII", 0, 0, draw.randrange(100, 5000), *[0] * 5)
                    attrs = rt.split(now[n].body, rt.RTMSG.size)
                    attrs = [
                        Attr(a.kind, times) if a.type == rt.RTA_CACHEINFO else a for a in attrs
                    ]
                    now[n] = Fact(Kind.ROUTE, rt.join(now[n].body[: rt.RTMSG.size], attrs))
            case 1:
                del now[at : at + draw.randrange(3)]
            case 2:
                now[at:at] = random_routes(draw, 2)
            case 3:
                now[at : at + 2] = random_routes(draw, 2)
        exact = snapshot.select(dumps(*now, *hops), *asked)
        last = snapshot.select(dumps(*now, *hops), *asked, last.routes)
        assert last._replace(routes=exact.routes) == exact
        assert [*last.routes.places] == [*exact.routes.places]
        assert [*last.routes.places_of_rows] == [*exact.routes.places_of_rows]


def test_a_route_that_is_by_a_device_now_and_was_by_a_nexthop_is_in_a_row_with_others() -> None:
    """With net.ipv4.nexthop_compat_mode=0 the kernel tells the nexthop alone, and of such a route no
    row is asked for."""
    before, after = route("192.0.2.0", 24, 5, nhid=10), route("192.0.2.0", 24, 3)
    rest = [route("192.0.2.0", 24, 9), *(route(f"10.{n}.0.0", 16, 3) for n in range(9))]
    for was, now in ((before, after), (after, before)):
        last = snapshot.select(dumps(was, *rest, nexthop(10)), {3})
        exact = snapshot.select(dumps(now, *rest, nexthop(10)), {3})
        again = snapshot.select(dumps(now, *rest, nexthop(10)), {3}, None, last.routes)
        assert again._replace(routes=exact.routes) == exact
        assert exact.rows == ((now, rest[0]) if now is after else ())


@pytest.mark.parametrize("seed", range(30))
def test_routes_of_one_shape_have_one_answer(seed: int) -> None:
    draw = random.Random(seed)
    bpf = Attr(rt.RTA_ENCAP_TYPE, struct.pack("=H", 6))
    facts = [
        *random_routes(draw, 150),
        address("10.0.0.2", 24),
        nexthop(10, 3),
        route("2001:db8::", 64, proto=rt.RTPROT_KERNEL, kind=rt.RTN_ANYCAST),
        with_attrs(route("203.0.113.0", 24), bpf),
        route("2001:db8:9::", 48, expires=10),
    ]
    questions = (
        snapshot.derived,
        snapshot.is_temporary,
        snapshot.devices_of,
        snapshot.rank,
        snapshot._may_be_advertised,
        losses._has_bpf,
        losses.is_anycast,
        lambda fact: snapshot.expired(fact, 20),
        lambda fact: losses._goes(fact, {3}, {10}, {30}),
        lambda fact: diff._is_of(fact, {3, 9}, {100}),
    )
    for ask in questions:
        once = snapshot.PerShape(ask)
        assert [once(fact) for fact in facts] == [ask(fact) for fact in facts]
        assert len({repr(ask(fact)) for fact in facts}) > 1 or ask is snapshot.is_temporary


@pytest.mark.parametrize(
    ("fact", "may_be"),
    [
        (route("2001:db8::", 64, proto=rt.RTPROT_KERNEL), True),
        (route("::", 0, via="fe80::1", proto=rt.RTPROT_RA), True),
        (route("2001:db8::", 64, proto=rt.RTPROT_STATIC), False),
        (route("2001:db8::", 64, proto=rt.RTPROT_RA, kind=rt.RTN_ANYCAST), False),
        (route("10.0.0.0", 24, proto=rt.RTPROT_KERNEL), False),
        # Its ifindex stands where a route has its protocol and type.
        (neighbour("2001:db8::9", struct.unpack("=I", b"\0\2\0\1")[0]), False),
    ],
)
def test_what_a_router_may_advertise(fact: Fact, may_be: bool) -> None:
    assert snapshot._may_be_advertised(fact) is may_be


def test_a_fact_is_no_other_thing() -> None:
    fact = address("10.0.0.2", 24)
    assert fact == Fact(fact.kind, fact.body)
    assert fact != Fact(Kind.NEIGHBOUR, fact.body)
    assert fact != fact.body
    assert fact != "fact"
    assert repr(fact) == f"Fact({fact.kind!r}, {fact.body!r})"
