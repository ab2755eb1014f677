"""Plain routes held against a snapshot by themselves, compared with the comparison of all with all."""

from __future__ import annotations

import dataclasses
import random

import pytest

from manactl.netstate import snapshot
from manactl.netstate.diff import Comparison
from manactl.netstate.plain import PlainRoutes
from manactl.netstate.snapshot import Dumps, Fact, Kind, OtherDevice, PortState, Rows
from manactl.netstate.uppers import UpperState
from manactl.wire import rtmsg as rt
from manactl.wire.rtmsg import Attr, Place
from tests.unit.fakes import PORT, address, nexthop, route, u32
from tests.unit.netstate.test_snapshot import random_routes, with_attrs

OTHERS = tuple(OtherDevice(n, f"eth{n}", f"02:00:00:00:00:0{n}") for n in (5, 9))
HERE = (Place(3, "eth3"),)
KINDS = (Kind.ADDRESS, Kind.NEXTHOP, Kind.ROUTE, Kind.NEIGHBOUR)  # as Dumps has them


def seen(facts: list[Fact], rows: Rows = None, taken: float = 0.0) -> PortState:
    """The port as a capture shows it."""
    tables = Dumps(*([f.body for f in facts if f.kind is kind] for kind in KINDS))
    found = snapshot.select(tables, {3}, rows)
    made = PortState(PORT, 3, "eth3", True, True, taken, found.facts, rows=found.rows)
    return dataclasses.replace(made, others=OTHERS, links=OTHERS)


def keys_of(state: PortState) -> list[snapshot.RouteKey]:
    return [*map(snapshot.route_key, state.of(Kind.ROUTE))]


def keys(state: PortState) -> frozenset[snapshot.RouteKey]:
    return frozenset(keys_of(state))


def far(number: int, **more: int) -> Fact:
    via = more.pop("via", 1)
    made = route(f"198.18.{number}.0", 24, more.pop("on", 3), **more)
    return with_attrs(made, Attr(rt.RTA_GATEWAY, bytes([10, 0, 0, via])))


def changed(draw: random.Random, facts: list[Fact]) -> list[Fact]:
    """What somebody, or the kernel, may have made of it: some gone, others in between, some with
    another gateway or beside another route of the same prefix."""
    left = [one for one in facts if draw.random() < draw.choice((0.2, 0.9, 1.0))]
    new = [
        *random_routes(draw, draw.choice((0, 0, 6))),
        *(far(draw.randrange(40), via=draw.choice((1, 2))) for _ in range(draw.choice((0, 5)))),
        *(far(draw.randrange(40), on=5) for _ in range(draw.choice((0, 3)))),
    ]
    left += new
    if draw.random() < 0.5:
        draw.shuffle(left)
    return left


@pytest.mark.parametrize("seed", range(150))
def test_what_it_finds_is_what_comparing_all_with_all_finds(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(seed)
    hops = [nexthop(10, 3), nexthop(20, 5), nexthop(30, None, (10, 20))]
    then = [address("10.0.0.2", 24), *hops, *random_routes(draw, 30), *map(far, range(40))]
    if draw.random() < 0.5:
        draw.shuffle(then)
    wanted = seen(then)
    # Every other time those that are as they were are the very routes of the snapshot.
    rows = dict(zip(keys_of(wanted), wanted.of(Kind.ROUTE), strict=True))
    monkeypatch.setattr(snapshot, "_FEW", 0)
    now = seen(changed(draw, then), rows if seed % 2 else keys(wanted), 7.0)
    exact = Comparison(wanted, now)
    plain = PlainRoutes(wanted, at_least=1)
    known = len(wanted.facts) - len(plain.wanted.facts)
    assert known > 20
    rest, given = plain.apart(now, last=True)
    found = Comparison(plain.wanted, rest)
    assert len(given) == known - (len(wanted.facts) - len(plain.wanted.facts))
    assert set(found.missing) == set(exact.missing)
    assert found.lost == exact.lost
    assert set(found.surplus) == set(exact.surplus)
    assert found.misplaced == exact.misplaced
    assert found.moves == exact.moves
    assert found.obstacles == exact.obstacles
    assert found.strays == exact.strays
    assert found.in_the_way == exact.in_the_way


@pytest.mark.parametrize("seed", range(40))
def test_what_it_asks_for_is_what_would_be_asked_for(seed: int) -> None:
    draw = random.Random(seed)
    wanted = seen([address("10.0.0.2", 24), *random_routes(draw, 30), *map(far, range(40))])
    now = seen(changed(draw, list(wanted.facts)), keys(wanted))
    exact = Comparison(wanted, now)
    plain = PlainRoutes(wanted, at_least=1)
    plain.apart(now, last=False)
    absent = {
        one.fact: one for one in exact.missing if snapshot.route_key(one.fact) in plain.absent
    }
    assert len(absent) == len(plain.absent)
    due = [request for one in absent.values() for request in exact.requests(one)]
    asked = [*plain.ask(exact.places, exact.elapsed).each()]
    assert sorted(asked) == sorted(due)
    ranks = [any(a.type == rt.RTA_GATEWAY for a in rt.split(r.body, rt.RTMSG.size)) for r in asked]
    assert ranks == sorted(ranks)  # on-link routes first
    assert not plain.absent


def test_one_that_was_asked_for_and_has_not_come_is_plain_no_more() -> None:
    wanted = seen([far(n) for n in range(5)])
    plain = PlainRoutes(wanted, at_least=1)
    assert plain.wanted.facts == ()
    for facts in ([], [far(0)]):  # absent alone it may still be asked for
        rest, given = plain.apart(seen(facts, keys(wanted)), last=False)
        assert (rest.facts, rest.rows, given) == ((), (), [])
    assert len(plain.ask(HERE, 0).fillings) == 4
    there = seen([far(n) for n in (0, 1, 2)], keys(wanted))
    rest, given = plain.apart(there, last=False)
    assert (rest.facts, sorted(f.body for f in given)) == ((), sorted(far(n).body for n in (3, 4)))
    assert sorted(f.body for f in plain.wanted.facts) == sorted(f.body for f in given)
    assert plain.back() == 2
    assert plain.apart(there, last=True) == (rest, [])


def test_one_with_another_in_its_place_is_plain_no_more() -> None:
    wanted = seen([far(n) for n in range(4)])
    plain = PlainRoutes(wanted, at_least=1)
    rows = keys(wanted)
    rest, given = plain.apart(seen([far(0), far(1, on=5), far(2), far(3)], rows), last=False)
    assert given == [far(1)]
    assert rest.rows == (far(1, on=5),)
    rest, given = plain.apart(seen([far(0), far(1), far(2, via=9), far(3)], rows), last=False)
    assert given == [far(2)]
    assert rest.facts == (far(1), far(2, via=9))
    rest, given = plain.apart(seen([far(0), far(3), far(3, on=9)], rows), last=False)
    assert given == [far(3)]
    assert rest.rows == (far(3), far(3, on=9))
    assert plain.wanted.facts == (far(1), far(2), far(3))


def test_which_are_plain() -> None:
    expires = route("2001:db8:1::", 48, 3, expires=100)
    by_kernel, by_object = route("10.0.0.0", 24, 3, proto=2), far(1, nhid=10)
    there = [far(2), route("192.0.2.0", 24, 3), route("2001:db8:2::", 48, 3)]
    elsewhere, shared = far(3, on=5), [far(4), far(4, on=5), far(5), far(5, via=2)]
    wanted = seen([*there, expires, by_kernel, by_object, elsewhere, *shared, nexthop(10, 3)])
    left = PlainRoutes(wanted, at_least=3).wanted
    assert {*wanted.facts} - {*left.facts} == {*there}
    assert PlainRoutes(wanted, at_least=4).wanted == wanted


def test_of_a_port_that_has_lost_an_upper_none_is_plain() -> None:
    red = UpperState("red", 20, "vrf", 3, None, True, True, False, None, 100, "02:00:00:00:00:14")
    wanted = dataclasses.replace(seen([far(1), far(2)]), uppers=(red,))
    now = seen([far(1)], keys(wanted))
    plain = PlainRoutes(wanted, at_least=1)
    with_red = dataclasses.replace(now, uppers=(red,))
    assert plain.apart(with_red, last=False) == (
        dataclasses.replace(with_red, facts=(), rows=()),
        [],
    )
    assert plain.apart(now, last=False) == (now, [far(1), far(2)])
    assert plain.wanted == wanted


def test_a_port_that_has_another_number_and_name_is_the_same() -> None:
    wanted = seen([far(1), far(2)])
    moved = dataclasses.replace(
        seen([], keys(wanted)),
        ifindex=7,
        ifname="eth7",
        facts=(far(1, on=7),),
        rows=(far(1, on=7),),
    )
    plain = PlainRoutes(wanted, at_least=1)
    rest, given = plain.apart(moved, last=False)
    assert (rest.facts, rest.rows, given) == ((), (), [])
    (asked,) = plain.ask((Place(7, "eth7"),), 0).each()
    attrs = rt.split(asked.body, rt.RTMSG.size)
    assert rt.value(attrs, rt.RTA_OIF) == u32(7)
