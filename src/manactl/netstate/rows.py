"""The order of routes of one prefix, metric and table, of which the kernel takes the first. Pure.

A route that is made again comes last in its row. IPv4 can be asked to put it first (a request
without NLM_F_APPEND, fib_table_insert()); IPv6 cannot (fib6_add_rt2node()), and neither can put
it between two others. So some order is lost, unless the routes of other devices were touched.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence

from manactl.model.named_tuple import NamedTuple
from manactl.netstate import snapshot
from manactl.netstate.snapshot import Fact, Kind, PortState, RouteKey, devices_of, is_ipv6
from manactl.wire import rtmsg as rt


class Entry(NamedTuple):
    """A route in its row. `what` it is, whatever ifindexes are; `ours`: it is on devices of the
    port alone. A multipath route with a way on another device stays where it is."""

    what: Hashable
    fact: Fact
    ours: bool


Row = list[Entry]


class Swap(NamedTuple):
    """Two entries of a row: one came before the other, and is to come or comes after it."""

    first: Entry
    then: Entry


def split(
    facts: Iterable[Fact], own: Collection[int], identify: Callable[[Fact], Hashable]
) -> dict[RouteKey, Row]:
    """The rows that these routes make."""
    found: dict[RouteKey, Row] = {}
    for fact in facts:
        entry = Entry(identify(fact), fact, devices_of(fact) <= set(own))
        found.setdefault(snapshot.route_key(fact), []).append(entry)
    return found


def swapped(was: Row, now: Row) -> Swap | None:
    """The first of ours that comes on the other side of another than it did."""
    before, after = _common(was, now)
    place = {entry.what: number for number, entry in enumerate(after)}
    for number, one in enumerate(before):
        for other in before[number + 1 :]:
            if (one.ours or other.ours) and place[other.what] < place[one.what]:
                return Swap(one, other)
    return None


def overtaken(now: Row, had: Collection[Hashable], put: Collection[Fact]) -> Swap | None:
    """The first of ours, of what there `had` been, that comes after one of those `put` there."""
    ahead = next((number for number, one in enumerate(now) if one.fact in put), len(now))
    ours = (one for one in now[ahead:] if one.ours and one.what in had)
    return next((Swap(one, now[ahead]) for one in ours), None)


def _common(was: Row, now: Row) -> tuple[Row, Row]:
    both = {entry.what for entry in was} & {entry.what for entry in now}
    return [e for e in was if e.what in both], [e for e in now if e.what in both]


def moves(was: Row, now: Row) -> list[tuple[Fact, bool]]:
    """Those of ours, as they are now, that have to be put first (True) or last, in turn; IPv6
    routes cannot be, nor what was between others."""
    before, after = _common(was, now)
    if not before or is_ipv6(before[0].fact):
        return []
    here = {entry.what: entry.fact for entry in after}
    head = _ours(before)
    tail = _ours(before[::-1]) if len(head) < len(before) else []
    found = []
    if [e.what for e in after[: len(head)]] != [e.what for e in head]:
        found += [(here[entry.what], True) for entry in reversed(head)]
    if [e.what for e in after[-len(tail) :]] != [e.what for e in reversed(tail)]:
        found += [(here[entry.what], False) for entry in reversed(tail)]
    return found


def with_claimed(state: PortState, others: Iterable[PortState]) -> tuple[Fact, ...]:
    """The rows of a port (PortState.rows) as they would be without the claims of other ports:
    `others` are the snapshots of these, and what they had in a row with the port is put in its place.

    Else whichever of two ports is released last comes last, whatever the order was.
    """
    others = [other for other in others if other.rows]
    if not others:
        return state.rows
    own = {_plain(fact) for fact in state.of(Kind.ROUTE)}
    found: dict[RouteKey, list[Fact]] = {}
    for fact in state.rows:
        found.setdefault(snapshot.route_key(fact), []).append(fact)
    for other in others:
        absent = {place.ifindex for place in other.places}
        theirs: dict[RouteKey, list[Fact]] = {}
        for fact in other.rows:
            theirs.setdefault(snapshot.route_key(fact), []).append(fact)
        for key, row in theirs.items():
            if any(_plain(fact) in own for fact in row):
                alone = [f for f in state.of(Kind.ROUTE) if snapshot.route_key(f) == key]
                found[key] = _woven(found.get(key, alone), row, absent)
    return tuple(fact for row in found.values() for fact in row)


def _woven(line: Sequence[Fact], row: Sequence[Fact], absent: Collection[int]) -> list[Fact]:
    """`line` with what `row` has of these devices, each behind what it was behind."""
    made = list(line)
    known = [_plain(fact) for fact in made]
    for number, fact in enumerate(row):
        what = _plain(fact)
        if what in known or not devices_of(fact) <= set(absent):
            continue
        before = (_plain(one) for one in reversed(row[:number]))
        at = next((known.index(one) + 1 for one in before if one in known), 0)
        made.insert(at, fact)
        known.insert(at, what)
    return made


def _plain(route: Fact) -> bytes:
    """What it is, whatever the state of its device is and remains of its lifetime."""
    return rt.route(route.body, (), (), None) or b""


def _ours(row: Sequence[Entry]) -> Row:
    """Those of ours that the row begins with."""
    end = next((number for number, entry in enumerate(row) if not entry.ours), len(row))
    return list(row[:end])


def unkept(facts: Iterable[Fact], closed: Collection[int]) -> list[Swap]:
    """What comes after another once these devices were closed, and cannot be put before it."""
    found = []
    for row in split(facts, closed, lambda fact: fact).values():
        six = is_ipv6(row[0].fact)
        start = 0 if six else len(_ours(row))
        for number, entry in enumerate(row[start:], start):
            after = [other for other in row[number + 1 :] if not other.ours]
            if entry.ours and after:
                found.append(Swap(entry, after[0]))
                break
    return found
