"""Routes on which nothing else depends: of a full table nearly all. Pure.

Each is the only one of its prefix, metric and table, unicast, by a device of the port and without a
lifetime, a nexthop object or several ways, and made by no part of the kernel. While such a route is
as it was, or absent with nothing in its place, that is all there is to know of it: it is missing
or not, and no other fact changes by it. So these are held against a snapshot and made again
without a comparison of all with all (diff.Comparison). One that turns out otherwise is left to that.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from itertools import compress, groupby

from manactl.model.named_tuple import NamedTuple
from manactl.netstate import snapshot
from manactl.netstate.diff import Identities, aligned
from manactl.netstate.requests import Alike, Filled
from manactl.netstate.snapshot import Fact, Kind, PortState, RouteKey, route_key
from manactl.wire import rtmsg as rt
from manactl.wire.netlink import NLM_F_APPEND, NLM_F_CREATE
from manactl.wire.rtmsg import Places

_kind_of = operator.attrgetter("kind")
MANY = 1000  # of fewer nobody has to wait for the comparison


class _Seen(NamedTuple):
    """What a look at the port has shown: the rows that have the plain route alone, those that have
    anything else, those without any, and all facts and rows but for the first."""

    places: Places
    of_facts: tuple[Fact, ...]
    of_rows: tuple[Fact, ...]
    there: set[RouteKey]
    others: set[RouteKey]
    absent: set[RouteKey]
    facts: tuple[Fact, ...]
    rest_of_rows: tuple[Fact, ...]

    def is_of(self, now: PortState) -> bool:
        """Whether another look has shown the very same."""
        return self.of_facts is now.facts and self.of_rows is now.rows


class PlainRoutes:
    """The plain routes of a snapshot, from one look at the port to the next.

    `wanted` is the snapshot without them. `absent` are those that are not there and were not asked
    for; `asked` those that were. There are none when a snapshot has fewer than `at_least`.
    """

    def __init__(self, state: PortState, at_least: int = MANY) -> None:
        self._state = state
        self._known: dict[RouteKey, Fact] = {}
        self._due: dict[RouteKey, object] = {}  # what each is, wherever its device is
        known, due = _plain(state)
        if len(known) >= at_least:
            self._known, self._due = known, due
        self._seen: _Seen | None = None  # at the last look
        self.wanted = self._without()
        self.absent: set[RouteKey] = set()
        self.asked: set[RouteKey] = set()

    def apart(self, now: PortState, *, last: bool) -> tuple[PortState, list[Fact]]:
        """What is there now but for the plain routes that are as they were; and the routes that
        are plain no more: somebody has put another in the place, it was asked for and has not come,
        or it is absent and this is the `last` look."""
        if not self._known:
            return now, []
        places = aligned(self._state, now)
        if any(place.ifindex < 0 for place in places[: len(self._state.places)]):
            return now, self._give_up(list(self._known))
        seen = self._seen
        if seen is None or seen.places != places or not seen.is_of(now):
            seen = self._sorted(now, places)
        self.absent = seen.absent - self.asked if self.asked else seen.absent
        over = seen.others | (seen.absent if last else seen.absent & self.asked)
        given = self._give_up(over) if over else []
        self._seen = None if given else seen
        return replace(now, facts=seen.facts, rows=seen.rest_of_rows), given

    def _sorted(self, now: PortState, places: Places) -> _Seen:
        due = self._due
        before = self._seen
        if before is not None and before.places == places:
            head, tail = snapshot.common_ends(now.rows, before.of_rows)
            changed = (some[head : len(some) - tail] for some in (now.rows, before.of_rows))
            if not any(route_key(fact) in due for some in changed for fact in some):
                return self._as_seen(now, places, before.there, before.others)
        there = self._unmoved(now, places)
        numbers = Identities(places, label=True)
        of_shapes: dict[bytes, object] = {}
        others: set[RouteKey] = set()
        left, unmoved = _without(now.rows, there), len(there)
        for fact in left:
            key = fact.key or route_key(fact)
            number = due.get(key)
            if number is None:
                continue
            rest = fact.rest
            try:
                found = of_shapes[rest]
            except KeyError:
                found = of_shapes[rest] = numbers(fact)[1]
            if number == found and key not in there:
                there.add(key)
            else:
                others.add(key)
        there -= others
        return self._as_seen(now, places, there, others, left if len(there) == unmoved else None)

    def _unmoved(self, now: PortState, places: Places) -> set[RouteKey]:
        """The rows that have the plain route alone, as far as that is sure at a glance: the very
        routes of the snapshot, where each device is what it was."""
        if places != self._state.devices:
            return set()
        keys = [fact.key or route_key(fact) for fact in now.rows]
        same = [*map(operator.is_, map(self._known.get, keys), now.rows)]
        there = set(compress(keys, same))
        if len(there) < sum(same):
            there -= _repeated(keys)
        return there.difference(compress(keys, map(operator.not_, same)))

    def _as_seen(
        self,
        now: PortState,
        places: Places,
        there: set[RouteKey],
        others: set[RouteKey],
        rest_of_rows: tuple[Fact, ...] | None = None,
    ) -> _Seen:
        return _Seen(
            places,
            now.facts,
            now.rows,
            there,
            others,
            self._due.keys() - there - others,
            _without(now.facts, there),
            _without(now.rows, there) if rest_of_rows is None else rest_of_rows,
        )

    def _give_up(self, keys: Collection[RouteKey]) -> list[Fact]:
        given = [self._known.pop(key) for key in keys]
        for key in keys:
            del self._due[key]
        self.absent = self.absent - set(keys)
        self.wanted = self._without()
        return given

    def _without(self) -> PortState:
        if not self._known:
            return self._state
        return replace(self._state, facts=_without(self._state.facts, self._known))

    def ask(self, places: Places, elapsed: int) -> Filled:
        """The requests for those that are absent, on-link routes before those by a gateway, each in
        the order of the snapshot: the kernel puts one next to another in less time than here and
        there."""
        absent = self.absent
        alike: list[Alike] = []
        of_shapes: dict[bytes, tuple[int, bool]] = {}
        near: list[tuple[int, bytes]] = []
        far: list[tuple[int, bytes]] = []
        was = self._state.devices
        for key, fact in self._known.items():
            if key not in absent:
                continue
            rest, dst = fact.rest, key[1]
            try:
                number, is_far = of_shapes[rest]
            except KeyError:
                made = rt.route(rest, was, places, elapsed) or b""  # it has no lifetime
                at = rt.Shape.of(made).at
                flags = NLM_F_CREATE if rt.is_ipv6(made) else NLM_F_CREATE | NLM_F_APPEND
                after = made[at + len(dst) :] if at else b""
                before = made[:at] if at else made
                number, is_far = len(alike), snapshot.rank(fact) >= snapshot.FAR
                of_shapes[rest] = number, is_far
                alike.append(Alike(rt.RTM_NEWROUTE, flags, before, len(dst), after))
            (far if is_far else near).append((number, dst))
        self.asked |= absent
        self.absent = set()
        return Filled(alike, near + far)

    def back(self) -> int:
        """How many have come of those that were asked for, as of the last look."""
        return len(self.asked & self._known.keys())


def _without(facts: Iterable[Fact], rows: Collection[RouteKey]) -> tuple[Fact, ...]:
    """The facts but for the routes in these rows."""
    if not rows:
        return tuple(facts)
    left: list[Fact] = []
    for kind, some in groupby(facts, _kind_of):
        if kind is not Kind.ROUTE:
            left += some
            continue
        routes = list(some)
        keys = [fact.key or route_key(fact) for fact in routes]
        left += compress(routes, map(operator.not_, map(rows.__contains__, keys)))
    return tuple(left)


def _plain(state: PortState) -> tuple[dict[RouteKey, Fact], dict[RouteKey, object]]:
    """The plain routes by their rows, and what each is."""
    own = {state.ifindex} | ({state.synthetic.ifindex} if state.synthetic else set())
    numbers = Identities(state.devices, label=True)
    routes = state.of(Kind.ROUTE)
    rests = [fact.rest for fact in routes]
    of_shapes = {
        rest: numbers(fact)[1] if _is_plain(fact, own) else None
        for rest, fact in dict(zip(rests, routes, strict=True)).items()
    }
    keys = [fact.key or route_key(fact) for fact in routes]
    due = dict(zip(keys, map(of_shapes.__getitem__, rests), strict=True))
    found = dict(zip(keys, routes, strict=True))
    out = {key for key, number in due.items() if number is None}  # not plain
    out.update(map(route_key, state.rows))
    if len(due) < len(keys):
        out |= _repeated(keys)
    for key in out:
        due.pop(key, None)
        found.pop(key, None)
    return found, due


def _repeated(keys: Iterable[RouteKey]) -> set[RouteKey]:
    return {key for key, many in Counter(keys).items() if many > 1}


def _is_plain(fact: Fact, own: AbstractSet[int]) -> bool:
    """Whether a route is, by its shape alone."""
    rest = fact.rest
    head = rt.RtMsg.of(rest)
    return (
        head.type == rt.RTN_UNICAST
        and head.protocol not in rt.RTPROT_PASSING
        and not rt.has_members(rest)
        and snapshot.nexthop_of(fact) is None
        and rt.lifetime(rest) is None
        and not rt.route_has_bpf(rest)
        and len(rt.ifindexes(rest)) == 1
        and rt.ifindexes(rest) <= own
    )
