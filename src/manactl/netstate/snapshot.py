"""The network state of a port: what it holds, what of it is missing, and how to make it again.

Pure: messages in, messages out. Reading them from the kernel is look/rtnetlink.py's part.
"""

from __future__ import annotations

import base64
import enum
import ipaddress
import operator
import socket
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property, lru_cache
from itertools import compress, count, groupby, islice, repeat
from typing import Any, ClassVar, Generic, TypeVar

from manactl.model.named_tuple import NamedTuple
from manactl.model.port import PortId
from manactl.model.uncollected import uncollected
from manactl.model.value import Value
from manactl.netstate import packed
from manactl.netstate.blueprints import Blueprint
from manactl.netstate.link_settings import LinkSettings
from manactl.netstate.members import BridgeState, Member
from manactl.netstate.requests import Request as Request  # noqa: PLC0414 - known from here
from manactl.netstate.uppers import NETVSC, UpperState
from manactl.wire import rtmsg as rt
from manactl.wire.rtmsg import Place, Places

_T = TypeVar("_T")


class Kind(enum.StrEnum):
    """What a fact is, in the order in which facts are made again."""

    ADDRESS = "address"
    NEXTHOP = "nexthop"
    ROUTE = "route"
    NEIGHBOUR = "neighbour"
    # Not facts of their own; counted among what is kept and what came back.
    UPPER = "upper"
    SYSCTL = "sysctl"
    SETTING = "setting"

    @property
    def plural(self) -> str:
        return self + ("es" if self is Kind.ADDRESS else "s")


def counted(count: int, kind: Kind) -> str:
    """ "1 address", "2 routes"."""
    return f"{count} {kind if count == 1 else kind.plural}"


class Fact:
    """One address, nexthop, route or neighbour, as the kernel's dump had it; never changed.

    No dataclass: a full table makes a hundred thousand of these, and compares them many times.
    """

    __slots__ = ("_rest", "body", "key", "kind")

    def __init__(
        self,
        kind: Kind,
        body: bytes,
        rest: bytes | None = None,
        key: RouteKey | None = None,
    ) -> None:
        self.kind = kind
        self.body = body
        self._rest = rest
        self.key = key  # route_key()'s

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Fact):
            return NotImplemented
        return self.body == other.body and self.kind is other.kind

    def __hash__(self) -> int:
        return hash(self.body)  # the hash of an enum takes longer, and tells little more

    def __repr__(self) -> str:
        return f"Fact({self.kind!r}, {self.body!r})"

    @property
    def rest(self) -> bytes:
        """Of a route: what it is apart from its destination (rt.Shape)."""
        found = self._rest
        if found is None:
            found = self._rest = rt.Shape.of(self.body).rest  # it follows from the body
        return found

    @property
    def shape(self) -> rt.Shape:
        """Of a route: that, and the destination."""
        rest = self.rest
        at, end = rt.destination(rest)
        return rt.Shape(rest, at, self.body[at:end])


_kind_of = operator.attrgetter("kind")


class PerShape(Generic[_T]):
    """A question about facts whose answer is the same for all routes of one shape: asked once for
    each shape."""

    def __init__(self, ask: Callable[[Fact], _T]) -> None:
        self._ask = ask
        self._known: dict[bytes, _T] = {}

    def __call__(self, fact: Fact) -> _T:
        if fact.kind is not Kind.ROUTE:
            return self._ask(fact)
        rest = fact.rest
        try:
            return self._known[rest]
        except KeyError:
            found = self._known[rest] = self._ask(fact)
            return found


class Facts(tuple[Fact, ...]):
    """Facts in their order, with what is asked of them again and again: worked out when it is
    first asked for, since none of it changes."""

    @cached_property
    def _by_kind(self) -> dict[Kind, tuple[Fact, ...]]:
        found: dict[Kind, list[Fact]] = {kind: [] for kind in Kind}
        for kind, some in groupby(self, _kind_of):
            found[kind] += some
        return {kind: tuple(some) for kind, some in found.items()}

    @cached_property
    def _groups(self) -> tuple[list[int], list[Fact]]:
        """The routes of each shape, and every other fact by itself: the number of the group of each,
        and one fact of every group."""
        numbers: list[int] = []
        some_of: list[Fact] = []
        of_shapes: dict[bytes, int] = {}
        for kind, alike in groupby(self, _kind_of):
            facts = list(alike)
            if kind is not Kind.ROUTE:
                numbers += range(len(some_of), len(some_of) + len(facts))
                some_of += facts
                continue
            rests = [fact.rest for fact in facts]
            for rest, fact in dict(zip(rests, facts, strict=True)).items():
                if rest not in of_shapes:
                    of_shapes[rest] = len(some_of)
                    some_of.append(fact)
            numbers += map(of_shapes.__getitem__, rests)
        return numbers, some_of

    def of(self, kind: Kind) -> tuple[Fact, ...]:
        """Those of one kind."""
        return self._by_kind[kind]

    def that(self, ask: Callable[[Fact], object]) -> list[Fact]:
        """Those of which it is so, in their order; of routes, the answer must follow from the
        shape: it is asked once for each."""
        numbers, some_of = self._groups
        answers = [bool(ask(fact)) for fact in some_of]
        return [*compress(self, map(answers.__getitem__, numbers))] if any(answers) else []


class Setting(NamedTuple):
    """A sysctl of one device that going down and up changes; `tree` is "net/ipv6/conf"."""

    ifindex: int
    tree: str
    key: str
    value: str


class OtherDevice(NamedTuple):
    """A device that is neither the port nor an upper of it. Its ifindex alone is not enough to know
    it by: the kernel may give that to another one."""

    ifindex: int
    name: str
    mac: str | None


class Accepted(NamedTuple):
    """What one device takes from IPv6 router advertisements, by its sysctls; `routes` is the
    longest prefix of a route in them (RFC 4191). `solicits`: it asks for one when it is up."""

    ifindex: int
    default: bool
    prefixes: bool
    addresses: bool
    routes: int
    solicits: bool = True


class PortState(Value):
    """Everything that refers to a port or to the devices stacked on it, at one instant.

    `taken` is CLOCK_BOOTTIME in seconds. `uppers` are in order from the bottom up. What the facts
    refer to besides: `others` are devices that they or a bond name, `related` nexthops on other
    devices, as members of groups or because they were asked for. `links` are all devices that are
    not of the port, to look for `others` of another state in; they are not kept in JSON.
    `accepted`: of the port and its uppers, those that take anything from a router. `rows`: where
    several routes have one prefix, metric and table, and one is the port's, all in order.
    `link` and `blueprints` are read for a snapshot alone: the settings of the netdev, and what
    makes its uppers again, should it be re-created.
    `member` is what the port, or the synthetic netdev above it, is in a bridge or bond that decides
    by a protocol what forwards. `alone`: without the synthetic netdev, which is to go on working.
    `leaning`: routes of other devices that have an address of the port or its uppers as source.
    `bridge_states`: of the port and its uppers, those in a bridge without STP.
    """

    port: PortId
    ifindex: int
    ifname: str
    up: bool
    carrier: bool
    taken: float
    facts: tuple[Fact, ...]
    uppers: tuple[UpperState, ...] = ()
    settings: tuple[Setting, ...] = ()
    others: tuple[OtherDevice, ...] = ()
    related: tuple[Fact, ...] = ()
    links: tuple[OtherDevice, ...] = ()
    accepted: tuple[Accepted, ...] = ()
    rows: tuple[Fact, ...] = ()
    link: LinkSettings | None = None
    member: Member | None = None
    blueprints: tuple[Blueprint, ...] = ()
    alone: bool = False
    leaning: tuple[Fact, ...] = ()
    bridge_states: tuple[BridgeState, ...] = ()

    _beside: ClassVar[tuple[str, ...]] = ("links", "accepted")

    def __post_init__(self) -> None:
        if not isinstance(self.facts, Facts):
            self.__dict__["facts"] = Facts(self.facts)

    def that(self, ask: Callable[[Fact], object]) -> list[Fact]:
        """The facts of which it is so (Facts.that())."""
        assert isinstance(self.facts, Facts)  # __post_init__()
        return self.facts.that(ask)

    @property
    def synthetic(self) -> UpperState | None:
        """The netdev of hv_netvsc that goes down with the port."""
        return next((upper for upper in self.uppers if upper.kind == NETVSC), None)

    @property
    def stacked(self) -> tuple[UpperState, ...]:
        """The uppers but for that one, which counts as the port itself."""
        return tuple(upper for upper in self.uppers if upper.kind != NETVSC)

    @property
    def in_use(self) -> bool:
        """Whether the port is up, or the synthetic netdev above it."""
        return self.up or (self.synthetic is not None and self.synthetic.up)

    @property
    def main(self) -> str:
        """The name of the netdev that has the addresses."""
        return self.ifname if self.synthetic is None else self.synthetic.name

    @property
    def devices(self) -> Places:
        """The port, its uppers, and the other devices that its facts name."""
        return (*self.places, *(Place(one.ifindex, one.name) for one in self.others))

    @property
    def places(self) -> Places:
        """The port, then its uppers."""
        return (
            Place(self.ifindex, self.ifname),
            *(Place(upper.ifindex, upper.name) for upper in self.uppers),
        )

    @property
    def names(self) -> dict[int, str]:
        return dict(self.devices)

    def name_of(self, ifindex: int) -> str | None:
        """The name of a device of the namespace; None: there is none of that ifindex."""
        names = {link.ifindex: link.name for link in self.links}
        return names.get(ifindex) or dict(self.places).get(ifindex)

    @property
    def own(self) -> tuple[Fact, ...]:
        """Addresses and routes of the port itself and of the synthetic netdev above it, not of
        what is stacked on these."""
        mine = {self.ifindex} | ({self.synthetic.ifindex} if self.synthetic else set())
        kinds = (Kind.ADDRESS, Kind.ROUTE)
        hops = nexthop_devices(self.of(Kind.NEXTHOP))
        return tuple(self.that(lambda f: f.kind in kinds and not mine.isdisjoint(out_of(f, hops))))

    def of(self, kind: Kind) -> tuple[Fact, ...]:
        assert isinstance(self.facts, Facts)
        return self.facts.of(kind)

    @uncollected()
    def to_json(self) -> dict[str, Any]:
        return {
            "port": port_to_json(self.port),
            "ifindex": self.ifindex,
            "ifname": self.ifname,
            "up": self.up,
            "carrier": self.carrier,
            "taken": self.taken,
            "facts": _facts_to_json(self.facts, self.names),
            "related": _facts_to_json(self.related, self.names),
            "rows": _facts_to_json(self.rows, self.names),
            "others": [other._asdict() for other in self.others],
            "uppers": [upper.to_json() for upper in self.uppers],
            "sysctls": [setting._asdict() for setting in self.settings],
            "link": None if self.link is None else self.link.to_json(),
            "member": None if self.member is None else self.member.to_json(),
            "blueprints": [one.to_json() for one in self.blueprints],
            "accepted": [one._asdict() for one in self.accepted],
            "alone": self.alone,
            "leaning": _facts_to_json(self.leaning, self.names),
            "bridge_states": [one._asdict() for one in self.bridge_states],
        }

    @classmethod
    @uncollected()
    def from_json(cls, data: Mapping[str, Any]) -> PortState:
        return cls(
            port_from_json(data["port"]),
            int(data["ifindex"]),
            str(data["ifname"]),
            bool(data["up"]),
            bool(data["carrier"]),
            float(data["taken"]),
            _facts_from_json(data["facts"]),
            tuple(UpperState.from_json(upper) for upper in data.get("uppers", ())),
            tuple(
                Setting(int(found["ifindex"]), found["tree"], found["key"], found["value"])
                for found in data.get("sysctls", ())
            ),
            tuple(
                OtherDevice(int(other["ifindex"]), other["name"], other["mac"])
                for other in data.get("others", ())
            ),
            _facts_from_json(data.get("related", ())),
            rows=_facts_from_json(data.get("rows", ())),
            link=LinkSettings.from_json(data["link"]) if data.get("link") else None,
            member=Member.from_json(data["member"]) if data.get("member") else None,
            blueprints=tuple(map(Blueprint.from_json, data.get("blueprints", ()))),
            accepted=tuple(Accepted(**one) for one in data.get("accepted", ())),
            alone=bool(data.get("alone", False)),
            leaning=_facts_from_json(data.get("leaning", ())),
            bridge_states=tuple(map(BridgeState.from_json, data.get("bridge_states", ()))),
        )


_WORDS = 1000  # more are read by nobody
# In journals: never to be given to another kind.
_CODES = {Kind.ADDRESS: 0, Kind.NEXTHOP: 1, Kind.ROUTE: 2, Kind.NEIGHBOUR: 3}
_OF_CODE = {code: kind for kind, code in _CODES.items()}


def _facts_to_json(facts: Collection[Fact], names: Mapping[int, str]) -> dict[str, Any]:
    """The messages, and what the first of them are in words, for people: of a full table all
    words would take longer than all the rest, in every reader, too."""
    return {
        "text": list(describe_all(islice(facts, _WORDS), names)),
        "messages": packed.pack(
            (_CODES[kind], [fact.body for fact in some]) for kind, some in groupby(facts, _kind_of)
        ),
    }


def _facts_from_json(data: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> tuple[Fact, ...]:
    """ValueError or KeyError for what are no facts. Earlier journals have an object for each."""
    if isinstance(data, Mapping):
        return tuple(_unpacked(packed.unpack(data["messages"])))
    return tuple(
        Fact(Kind(row["kind"]), base64.b64decode(row["message"], validate=True)) for row in data
    )


def _unpacked(messages: Iterable[tuple[int, list[bytes]]]) -> Iterator[Fact]:
    """The facts of a journal, with the shape and the row of each route, of which there may be many."""
    for code, bodies in messages:
        kind = _OF_CODE[code]
        if kind is not Kind.ROUTE:
            yield from (Fact(kind, body) for body in bodies)
            continue
        shapes, keys = _shapes_and_rows(bodies, (), _RouteShape.by((), ()))
        for body, shape, key in zip(bodies, shapes, keys, strict=True):
            yield Fact(kind, body, shape.rest, key)


def port_to_json(port: PortId) -> dict[str, Any]:
    return {"pci": port.pci, "port": port.port, "permanent_mac": port.permanent_mac}


def port_from_json(data: Mapping[str, Any]) -> PortId:
    mac = data["permanent_mac"]
    return PortId(str(data["pci"]), int(data["port"]), None if mac is None else str(mac))


# --- choosing what belongs to a port --------------------------------------------------------


class Dumps(NamedTuple):
    """Message bodies of the tables that can refer to a port, in the kernel's order."""

    addresses: Sequence[bytes]
    nexthops: Sequence[bytes]
    routes: Sequence[bytes]
    neighbours: Sequence[bytes]


RouteKey = tuple[int, bytes]
# None: those with a route of ours and another. A mapping has a route of each that was there: where
# it is there again, byte by byte, it is the same object.
Rows = Collection[RouteKey] | None


_Asked = tuple[Sequence[bytes], frozenset[int], frozenset[int], Rows]
_NEAR, _HUNKS = 64, 16  # routes that may be new or gone in one place; and places
_FEW = 100  # routes that are sooner taken apart than looked up


class RouteChoice(NamedTuple):
    """What of some routes was chosen by which devices, nexthops and rows: the facts, all interfaces
    that these name, and the rows (PortState.rows)."""

    of: _Asked
    facts: tuple[Fact, ...]
    named: frozenset[int]
    rows: tuple[Fact, ...]
    places: Sequence[int]  # of the facts among the routes
    places_of_rows: Sequence[int]

    @property
    def others(self) -> Iterator[bytes]:
        """The routes that were not chosen."""
        routes = self.of[0]
        left = bytearray(b"\1") * len(routes)
        for at in self.places:
            left[at] = 0
        return compress(routes, left)


class Selection(NamedTuple):
    """Facts, all interfaces that the routes among them name, and rows (PortState.rows); `routes`
    is for the next selection."""

    facts: Facts
    named: frozenset[int]
    rows: tuple[Fact, ...]
    routes: RouteChoice


def select(
    dumps: Dumps,
    devices: Collection[int],
    also: Rows = None,
    before: RouteChoice | None = None,
    macs: Mapping[int, str | None] | None = None,
) -> Selection:
    """Everything of the dumps that the kernel may drop when the first of these devices goes down
    and the others are stacked on it.

    Nexthop groups and multipath routes with a member here belong to it too: they lose it. `also`:
    the rows of these keys, instead of all that have a route of ours and another. `before`: an
    earlier choice, whose routes need not be taken apart again. `macs`: of the devices.
    """
    facts = [
        Fact(Kind.ADDRESS, body)
        for body in dumps.addresses
        if rt.IfAddrMsg.of(body).ifindex in devices
    ]
    nexthops, ids = _nexthops(dumps.nexthops, devices)
    facts += nexthops
    asked = (dumps.routes, frozenset(devices), frozenset(ids), also)
    if before is not None and before.of[0] is asked[0] and before.of[1:] == asked[1:]:
        routes = before
    elif before is not None and before.of[1:] == asked[1:]:
        routes = _chosen_again(asked, before)
    else:
        routes = _chosen(asked, before)
    facts += routes.facts
    facts += [
        Fact(Kind.NEIGHBOUR, body)
        for body in dumps.neighbours
        if _lasting(body, devices, macs or {})
    ]
    return Selection(Facts(facts), routes.named, routes.rows, routes)


def _chosen(asked: _Asked, before: RouteChoice | None) -> RouteChoice:
    bodies, devices, ids, also = asked
    known = _known(before, also) if len(bodies) > _FEW else {}
    there: list[Fact | None] = [*map(known.get, bodies)] if known else []
    of, keys = _shapes_and_rows(bodies, there, _RouteShape.by(devices, ids))
    chosen = [*map(_is_chosen, of)]
    places = array("I", compress(count(), chosen))
    if known:
        maybe = compress(there, chosen)
        facts = [
            fact or Fact(Kind.ROUTE, bodies[at], of[at].rest, keys[at])
            for at, fact in zip(places, maybe, strict=True)
        ]
    else:
        columns = (compress(column, chosen) for column in (bodies, map(_rest_of, of), keys))
        facts = [*map(Fact, repeat(Kind.ROUTE), *columns)]
    if also is None:
        also = _shared(keys, facts, devices)
    in_rows = array("I", compress(count(), map(also.__contains__, keys)) if also else ())
    mine = dict(zip(places, facts, strict=True)) if in_rows else {}
    rows = [
        fact or known.get(bodies[at]) or Fact(Kind.ROUTE, bodies[at])
        for at, fact in zip(in_rows, map(mine.get, in_rows), strict=True)
    ]
    return RouteChoice(asked, tuple(facts), _named((*facts, *rows)), tuple(rows), places, in_rows)


def _known(before: RouteChoice | None, also: Rows) -> dict[bytes, Fact]:
    """The routes of an earlier choice, and of what was there, by their bytes."""
    known = {fact.body: fact for fact in also.values()} if isinstance(also, Mapping) else {}
    if before is not None:
        known |= {fact.body: fact for fact in (*before.facts, *before.rows)}
    return known


def _shapes_and_rows(
    bodies: Sequence[bytes], there: Sequence[Fact | None], ask: Callable[[bytes], _RouteShape]
) -> tuple[list[_RouteShape], list[RouteKey]]:
    """The shape of each route, and its row; of those that are `there` these are known. `there` may
    be empty."""
    fresh: Iterable[bytes]
    ask = lru_cache(None)(ask)
    known = sum(map(operator.is_not, there, repeat(None)))
    if 2 * known < len(bodies):  # to put few among many takes longer than to look at them again
        fresh, known = bodies, 0
    else:
        fresh = compress(bodies, map(operator.is_, there, repeat(None)))
    shapes: list[_RouteShape] = []
    keys: list[RouteKey] = []
    for some, destinations in rt.per_shape(fresh, ask):
        shapes += some
        keys += zip(map(_row_in, some), destinations, strict=True)
    if not known:
        return shapes, keys
    new, of_new = iter(shapes), iter(keys)
    return (
        [next(new) if f is None else ask(f._rest or f.rest) for f in there],
        [next(of_new) if f is None else f.key or route_key(f) for f in there],
    )


def _named(routes: Iterable[Fact]) -> frozenset[int]:
    """The interfaces that they name."""
    shapes = {fact._rest or fact.rest for fact in routes}  # without the property: many
    return frozenset(device for rest in shapes for device in rt.ifindexes(rest))


def _chosen_again(asked: _Asked, before: RouteChoice) -> RouteChoice:
    """The same as _chosen() for the rows and devices of before: of a few routes that have come or
    gone the others need not know where the rows are given, or those are in the same rows (only
    their lifetime has gone on, as that of a router's has in each dump)."""
    bodies, devices, ids, also = asked
    old = before.of[0]
    hunks = _hunks(bodies, old)
    if sum(hunk.end - hunk.begin for hunk in hunks) > len(bodies) // 2:
        return _chosen(asked, before)
    if also is None:
        for hunk in hunks:
            if not _in_same_rows(hunk.of(bodies), hunk.of_old(old), devices, ids):
                return _chosen(asked, before)
        also = frozenset(map(route_key, before.rows))
    facts, rows = (_Spliced(some) for some in (before.facts, before.rows))
    for hunk in hunks:
        new = hunk.of(bodies)
        part = _chosen((new, devices, ids, also), before)
        facts.add(before.places, hunk, part.facts, part.places)
        rows.add(before.places_of_rows, hunk, part.rows, part.places_of_rows)
    end = _Hunk(len(bodies), len(bodies), len(old), len(old))
    facts.add(before.places, end, (), ())
    rows.add(before.places_of_rows, end, (), ())
    named = _named((*facts.found, *rows.found))
    return RouteChoice(
        asked, tuple(facts.found), named, tuple(rows.found), facts.places, rows.places
    )


class _Hunk(NamedTuple):
    """Where a table differs from an older one."""

    begin: int
    end: int
    old_begin: int
    old_end: int

    def of(self, table: Sequence[bytes]) -> Sequence[bytes]:
        return table[self.begin : self.end]

    def of_old(self, table: Sequence[bytes]) -> Sequence[bytes]:
        return table[self.old_begin : self.old_end]


def _hunks(table: Sequence[bytes], old: Sequence[bytes]) -> list[_Hunk]:
    """Where they differ, in few places; the last of these may go on to the end."""
    found: list[_Hunk] = []
    at = was = 0
    while True:
        same = map(operator.ne, table[at:], old[was:])
        equal = next(compress(count(), same), min(len(table) - at, len(old) - was))
        at, was = at + equal, was + equal
        if at == len(table) and was == len(old):
            return found
        new, gone = _until_equal(table[at : at + _NEAR], old[was : was + _NEAR])
        if new is None or gone is None or len(found) == _HUNKS:
            tail = common_ends(table[at:], old[was:])[1]
            found.append(_Hunk(at, len(table) - tail, was, len(old) - tail))
            return found
        found.append(_Hunk(at, at + new, was, was + gone))
        at, was = at + new, was + gone


def _until_equal(
    some: Sequence[bytes], others: Sequence[bytes]
) -> tuple[int, int] | tuple[None, None]:
    """How many to skip of each until both go on with the same, the fewest."""
    places = {body: place for place, body in reversed([*enumerate(some)])}
    both = [(places[body], place) for place, body in enumerate(others) if body in places]
    return min(both, key=sum, default=(None, None))


class _Spliced:
    """Facts of an older table with those of hunks in place of theirs, and their places."""

    def __init__(self, had: Sequence[Fact]) -> None:
        self._had = had
        self._taken = 0
        self.found: list[Fact] = []
        self.places = array("I")

    def add(
        self, at: Sequence[int], hunk: _Hunk, new: Sequence[Fact], new_at: Sequence[int]
    ) -> None:
        """What comes before the hunk, by its places, and what is `new` in it."""
        end = bisect_left(at, hunk.old_begin)
        moved = hunk.begin - hunk.old_begin
        self.found += self._had[self._taken : end]
        self.places.extend(place + moved for place in at[self._taken : end])
        self.found += new
        self.places.extend(hunk.begin + place for place in new_at)
        self._taken = bisect_left(at, hunk.old_end)


def _in_same_rows(
    some: Sequence[bytes], others: Sequence[bytes], devices: Collection[int], ids: Collection[int]
) -> bool:
    """Whether each of them is in the row that the other in its place is in, and chosen like it: of
    a route that a nexthop alone leads to the port no row is asked for (_shared())."""
    what = []
    for bodies in (some, others):
        shapes, keys = _shapes_and_rows(bodies, (), _RouteShape.by(devices, ids))
        what.append(([(one.chosen, one.by_device) for one in shapes], keys))
    return what[0] == what[1]


def common_ends(one: Sequence[object], other: Sequence[object]) -> tuple[int, int]:
    """How many in front and then at the end of both are equal."""
    most = min(len(one), len(other))
    head = next(compress(count(), map(operator.ne, one, other)), most)
    ends = map(operator.ne, reversed(one), reversed(other))
    return head, min(next(compress(count(), ends), most), most - head)


def _shared(
    keys: Collection[RouteKey], facts: Iterable[Fact], devices: Collection[int]
) -> set[RouteKey]:
    """The rows with one of these facts, by one of the devices, that have more than one of all these
    routes."""
    last = dict(zip(keys, count(), strict=False))
    if len(last) == len(keys):
        return set()
    again = compress(keys, map(operator.ne, map(last.__getitem__, keys), count()))
    twice = {key for key in again if not _is_everywhere(*key)}
    found = (f for f in facts if route_key(f) in twice) if twice else ()
    return {route_key(f) for f in found if not rt.ifindexes(f.rest).isdisjoint(devices)}


def _is_everywhere(row: int, dst: bytes) -> bool:
    return dst.startswith(_EVERYWHERE) and row in _ROWS_OF_IPV6


class _RouteShape(NamedTuple):
    """What routes of one shape have in common, towards some devices and nexthops. `chosen` are those
    by one of these, `by_device` those that name a device. What the kernel has made of another route
    for a while is in no row."""

    chosen: bool
    row: int
    rest: bytes
    by_device: bool = False

    @classmethod
    def by(cls, devices: Collection[int], ids: Collection[int]) -> Callable[[bytes], _RouteShape]:
        """What a shape (rt.Shape.rest) is."""

        def of(rest: bytes) -> _RouteShape:
            if rt.RtMsg.of(rest).flags & rt.RTM_F_CLONED:
                return cls(False, _NO_ROW, rest)
            by_device = not rt.ifindexes(rest).isdisjoint(devices)
            by_nexthop = bool(ids) and (_nexthop_of(rest) or 0) in ids
            return cls(by_device or by_nexthop, _row_of(rest), rest, by_device)

        return of


_NO_ROW = -1
_is_chosen, _row_in, _rest_of = map(operator.itemgetter, range(3))


def route_key(route: Fact) -> RouteKey:
    """What the routes of one row have in common: of them the kernel takes the first that works."""
    found = route.key
    if found is None:
        rest, _, dst = route.shape
        found = route.key = (_row_of(rest), dst)
    return found


# fe80::/64 and ff00::/8 are on every device: who sends there names the device.
_EVERYWHERE = (b"\xfe\x80", b"\xff")


def is_everywhere(route: Fact) -> bool:
    """Whether every device with IPv6 has such a route."""
    return is_ipv6(route) and route.shape.dst.startswith(_EVERYWHERE)


_KEY = (rt.RTA_SRC, rt.RTA_PRIORITY, rt.RTA_TABLE)


@lru_cache(rt.SHAPES)
def _row_of(rest: bytes) -> int:
    """All of it but the destination, as a number, which is quickly compared."""
    attrs = rt.by_type(rest, rt.RTMSG.size)
    row = (rt.RtMsg.of(rest)[:4], *map(attrs.get, _KEY))  # with family, both lengths, TOS
    number = _ROWS.setdefault(row, len(_ROWS))
    if rt.is_ipv6(rest):
        _ROWS_OF_IPV6.add(number)
    return number


_ROWS: dict[tuple[object, ...], int] = {}  # in this process
_ROWS_OF_IPV6: set[int] = set()


def related(dumps: Dumps, facts: Facts, also: Collection[int] = ()) -> tuple[Fact, ...]:
    """The nexthops that are not among the facts, and are members of groups that are, or have one
    of the ids `also`."""
    chosen = facts.of(Kind.NEXTHOP)
    mine = {nexthop_id(fact) for fact in chosen}
    wanted = {number for fact in chosen for number in rt.group_members(fact.body)}.union(also)
    found = [Fact(Kind.NEXTHOP, body) for body in dumps.nexthops]
    return tuple(fact for fact in found if nexthop_id(fact) in wanted - mine)


def _nexthops(bodies: Sequence[bytes], devices: Collection[int]) -> tuple[list[Fact], set[int]]:
    """The nexthops and then the groups that lead here, and their ids."""
    facts = [Fact(Kind.NEXTHOP, body) for body in bodies]
    ids = {nexthop_id(fact) for fact in facts if not devices_of(fact).isdisjoint(devices)}
    ids |= {nexthop_id(fact) for fact in facts if ids.intersection(rt.group_members(fact.body))}
    return sorted((fact for fact in facts if nexthop_id(fact) in ids), key=rank), ids


def nexthop_devices(hops: Iterable[Fact]) -> dict[int, AbstractSet[int]]:
    """The interfaces that each of these nexthops and groups leads to, by its id."""
    hops = list(hops)
    found = {nexthop_id(hop): devices_of(hop) for hop in hops}
    for hop in hops:
        for member in rt.group_members(hop.body):
            number = nexthop_id(hop)
            found[number] = found[number] | found.get(member, frozenset())
    return found


def out_of(fact: Fact, hops: Mapping[int, AbstractSet[int]]) -> AbstractSet[int]:
    """The interfaces that a fact names, or that the nexthop object leads to by which a route goes:
    without net.ipv4.nexthop_compat_mode it has nothing but the id. `hops`: nexthop_devices()."""
    named = devices_of(fact)
    if named or not hops:
        return named
    return hops.get(nexthop_of(fact) or 0, frozenset())


def nexthop_id(fact: Fact) -> int:
    return rt.number(rt.split(fact.body, rt.NHMSG.size), rt.NHA_ID) or 0


def devices_of(fact: Fact) -> AbstractSet[int]:
    """The interfaces that a fact names itself."""
    if fact.kind is Kind.ADDRESS:
        return {rt.IfAddrMsg.of(fact.body).ifindex}
    if fact.kind is Kind.NEIGHBOUR:
        return {rt.NdMsg.of(fact.body).ifindex}
    if fact.kind is Kind.NEXTHOP:
        out = rt.number(rt.split(fact.body, rt.NHMSG.size), rt.NHA_OIF)
        return set() if out is None else {out}
    return rt.ifindexes(fact.rest)


def other_devices(
    selected: Selection,
    beside: Iterable[Fact],
    uppers: Iterable[UpperState],
    links: Iterable[OtherDevice],
) -> tuple[OtherDevice, ...]:
    """Those of the links that a route or a related nexthop names, or that are the active slave of a
    bond."""
    named = {device for fact in beside for device in devices_of(fact)} | selected.named
    named |= {upper.active for upper in uppers if upper.active is not None}
    return tuple(link for link in links if link.ifindex in named)


def nexthop_ids(state: PortState) -> frozenset[int]:
    """The ids of its nexthops, and of those that its groups have on other devices."""
    return frozenset(map(nexthop_id, (*state.of(Kind.NEXTHOP), *state.related)))


def _lasting(body: bytes, devices: Collection[int], macs: Mapping[int, str | None]) -> bool:
    """Whether somebody configured this neighbour; what the kernel learned it learns again."""
    head = rt.NdMsg.of(body)
    if head.ifindex not in devices:
        return False
    attrs = rt.split(body, rt.NDMSG.size)
    extended = rt.number(attrs, rt.NDA_FLAGS_EXT) or 0
    return bool(
        head.state & rt.NUD_PERMANENT
        or head.flags & (rt.NTF_PROXY | rt.NTF_EXT_LEARNED)
        or extended & rt.NTF_EXT_MANAGED
        or (head.state & rt.NUD_NOARP and _noarp_by_hand(attrs, macs.get(head.ifindex)))
    )


_BROADCAST = "ff:ff:ff:ff:ff:ff"


def _noarp_by_hand(attrs: Sequence[rt.Attr], mac: str | None) -> bool:
    """The kernel makes such entries itself, for groups, broadcasts and loopback addresses, and where
    nobody is asked (arp_constructor(), ndisc_constructor()): these have the device's own address, or
    its broadcast address."""
    to = rt.value(attrs, rt.NDA_DST) or b""
    lladdr = rt.value(attrs, rt.NDA_LLADDR) or b""
    if mac is None or len(lladdr) != 6 or not any(lladdr) or lladdr.hex(":") in (mac, _BROADCAST):
        return False
    address = ipaddress.ip_address(to) if len(to) in (4, 16) else None
    return address is not None and not (address.is_multicast or address.is_loopback)


def expired(fact: Fact, elapsed: int) -> bool:
    """Whether the fact's own lifetime is over, `elapsed` seconds after the snapshot."""
    if fact.kind is Kind.ADDRESS:
        return rt.address(fact.body, (), (), elapsed) is None
    if fact.kind is Kind.ROUTE:
        left = rt.lifetime(fact.rest)
        return left is not None and left <= elapsed
    return False


def is_temporary(fact: Fact) -> bool:
    """An IPv6 privacy address (RFC 8981): a request cannot make one."""
    return (
        fact.kind is Kind.ADDRESS
        and rt.is_ipv6(fact.body)
        and bool(address_flags(fact) & rt.IFA_F_TEMPORARY)
    )


def address_flags(fact: Fact) -> int:
    flags = rt.number(rt.split(fact.body, rt.IFADDR.size), rt.IFA_FLAGS)
    return rt.IfAddrMsg.of(fact.body).flags if flags is None else flags


def made_by_kernel(fact: Fact, state: PortState) -> bool:
    """Whether the kernel makes this by itself once the port is up and its addresses are there.

    Such facts are waited for, and made only when they do not come: the local, broadcast,
    anycast and multicast routes of addresses, their connected routes (unless NOPREFIXROUTE:
    then a manager made them, in the kernel's name), and generated IPv6 link-local addresses.
    """
    if fact.kind is Kind.ADDRESS:
        attrs = rt.split(fact.body, rt.IFADDR.size)
        return rt.is_ipv6(fact.body) and (
            rt.number(attrs, rt.IFA_PROTO) == rt.IFAPROT_KERNEL_LL
            or bool(address_flags(fact) & rt.IFA_F_STABLE_PRIVACY and is_link_scope(fact))
        )
    return by_kernel(fact) and (derived(fact) or connected(fact, state))


def nexthop_of(fact: Fact) -> int | None:
    """The id of the nexthop object that a route goes by; None for any other fact."""
    if fact.kind is not Kind.ROUTE:
        return None
    return _nexthop_of(fact.rest)


@lru_cache(rt.SHAPES)
def _nexthop_of(rest: bytes) -> int | None:
    return rt.number(rt.split(rest, rt.RTMSG.size), rt.RTA_NH_ID)


def target(fact: Fact) -> bytes | None:
    """The address of an address, the destination of a route."""
    if fact.kind is Kind.ADDRESS:
        attrs = rt.split(fact.body, rt.IFADDR.size)
        return rt.value(attrs, rt.IFA_LOCAL) or rt.value(attrs, rt.IFA_ADDRESS)
    return fact.shape.dst or None


def by_kernel(fact: Fact) -> bool:
    """A route of proto kernel."""
    return fact.kind is Kind.ROUTE and fact.body[rt.PROTOCOL_AT] == rt.RTPROT_KERNEL


def connected(route: Fact, state: PortState) -> bool:
    """Whether a route is to the network of one of the state's addresses."""
    return _network(route) in {
        net for address in state.of(Kind.ADDRESS) for net in _connected(address)
    }


def connected_of(addresses: Iterable[Fact], state: PortState) -> list[Fact]:
    """The connected routes of a state that are to the networks of these of its addresses."""
    nets = {net for address in addresses for net in _connected(address)}
    own = state.that(lambda fact: by_kernel(fact) and not derived(fact)) if nets else []
    return [route for route in own if _network(route) in nets]


def derived(fact: Fact) -> bool:
    """A route that is part of an address: only the kernel can make it rightly. That of a new
    IPv6 address comes when duplicate address detection is over."""
    types = (rt.RTN_LOCAL, rt.RTN_BROADCAST, rt.RTN_ANYCAST, rt.RTN_MULTICAST)
    return by_kernel(fact) and rt.RtMsg.of(fact.body).type in types


def is_tentative(fact: Fact) -> bool:
    """An IPv6 address in duplicate address detection."""
    return is_ipv6_address(fact) and bool(address_flags(fact) & rt.IFA_F_TENTATIVE)


def is_link_scope(fact: Fact) -> bool:
    """An address that is valid on its link alone."""
    return rt.IfAddrMsg.of(fact.body).scope == rt.RT_SCOPE_LINK


def of_router(state: PortState, accepted: Collection[Accepted]) -> list[Fact]:
    """The facts that a router has advertised and, by `accepted`, will again: what the kernel learns
    that way it refreshes and withdraws, unlike the same made by a request (RTF_ADDRCONF).

    On-link prefixes are of proto kernel, like the connected routes of addresses: they have a
    lifetime or belong to an address of a router, and to none of ours.
    """
    by_device = {one.ifindex: one for one in accepted}
    if not by_device:
        return []
    ours: set[tuple[int, int, int, int]] = set()
    theirs: set[tuple[int, int, int, int]] = set()
    for fact in state.of(Kind.ADDRESS):
        if is_ipv6(fact):
            (theirs if _is_slaac(fact) else ours).update(_connected(fact))

    def taken(fact: Fact) -> bool:
        devices = devices_of(fact)
        take = by_device.get(min(devices)) if len(devices) == 1 else None
        if take is None or fact.kind is Kind.ADDRESS:
            return take is not None and take.addresses
        head = rt.RtMsg.of(fact.body)
        if head.protocol == rt.RTPROT_RA:
            return take.default if head.dst_len == 0 else head.dst_len <= take.routes
        network = _network(fact)
        limited = rt.lifetime(fact.rest) is not None
        return take.prefixes and network not in ours and (limited or network in theirs)

    return list(filter(taken, state.that(_may_be_advertised)))


def _may_be_advertised(fact: Fact) -> bool:
    """Of the kinds that a router advertises; cheap, since there may be many routes."""
    if fact.kind is Kind.ADDRESS:
        return is_ipv6(fact) and _is_slaac(fact) and not is_temporary(fact)
    if fact.kind is not Kind.ROUTE or not is_ipv6(fact):
        return False
    head = rt.RtMsg.of(fact.body)
    by = (rt.RTPROT_RA, rt.RTPROT_KERNEL)
    return head.type == rt.RTN_UNICAST and head.protocol in by


def _is_slaac(address: Fact) -> bool:
    """An address that the kernel has made from a router's prefix (addrconf_prefix_rcv())."""
    attrs = rt.split(address.body, rt.IFADDR.size)
    return rt.number(attrs, rt.IFA_PROTO) == rt.IFAPROT_KERNEL_RA


def _network(route: Fact) -> tuple[int | None, int, int, int]:
    """Device, family, prefix length and prefix of a route, the prefix as a number."""
    rest, _, dst = route.shape
    out = rt.number(rt.split(rest, rt.RTMSG.size), rt.RTA_OIF)
    return (out, rest[0], rest[1], int.from_bytes(dst, "big"))


def _connected(address: Fact) -> list[tuple[int, int, int, int]]:
    family, length, _, _, index = rt.IfAddrMsg.of(address.body)
    if address_flags(address) & rt.IFA_F_NOPREFIXROUTE:
        return []
    attrs = rt.split(address.body, rt.IFADDR.size)
    raw = rt.value(attrs, rt.IFA_ADDRESS) or rt.value(attrs, rt.IFA_LOCAL) or b""
    bits = len(raw) * 8
    host = int.from_bytes(raw, "big")
    nets = [(index, family, length, host >> (bits - length) << (bits - length))]
    if family == socket.AF_INET6:  # the local end of a peer address has a host route
        local = rt.value(attrs, rt.IFA_LOCAL) or raw
        nets.append((index, family, bits, int.from_bytes(local, "big")))
    return nets


def is_ipv6_address(fact: Fact) -> bool:
    return fact.kind is Kind.ADDRESS and is_ipv6(fact)


_RANKS = {kind: number for number, kind in enumerate(Kind)}
# A route with one of these needs a gateway that can be reached.
_FAR = frozenset({rt.RTA_GATEWAY, rt.RTA_VIA, rt.RTA_MULTIPATH, rt.RTA_NH_ID})


FAR = (_RANKS[Kind.ROUTE], 1)  # the rank of a route by a gateway


def rank(fact: Fact) -> tuple[int, int]:
    """Where it comes in the order of making again."""
    number = _RANKS[fact.kind]
    if fact.kind is Kind.NEXTHOP:
        return number, int(bool(rt.group_members(fact.body)))
    if fact.kind is not Kind.ROUTE:
        return number, 0
    return number, _is_far(fact.rest)


@lru_cache(rt.SHAPES)
def _is_far(rest: bytes) -> int:
    return int(any(one.type in _FAR for one in rt.split(rest, rt.RTMSG.size)))


def global_addresses(facts: Iterable[Fact]) -> list[str]:
    """The addresses among the facts that others can reach: not link-local, not host scope."""
    return [
        _own(fact)
        for fact in facts
        if fact.kind is Kind.ADDRESS and rt.IfAddrMsg.of(fact.body).scope == rt.RT_SCOPE_UNIVERSE
    ]


def addresses(facts: Iterable[Fact]) -> list[str]:
    """Every local address among the facts, as text."""
    return [_own(fact) for fact in facts if fact.kind is Kind.ADDRESS]


def _own(fact: Fact) -> str:
    attrs = rt.split(fact.body, rt.IFADDR.size)
    raw = rt.value(attrs, rt.IFA_LOCAL) or rt.value(attrs, rt.IFA_ADDRESS)
    return str(ipaddress.ip_address(raw)) if raw else "?"


def describe(fact: Fact, names: Mapping[int, str]) -> str:
    """One line in iproute2's words."""
    from manactl.netstate.describe import text  # noqa: PLC0415 - only people need it

    return text(fact.kind, fact.body, names)


def describe_all(facts: Iterable[Fact], names: Mapping[int, str]) -> Iterator[str]:
    """The same for many."""
    from manactl.netstate.describe import Texts, text  # noqa: PLC0415 - only people need it

    texts = Texts(names)
    for fact in facts:
        if fact.kind is Kind.ROUTE:
            yield texts.route(fact.shape)
        else:
            yield text(fact.kind, fact.body, names)


def settings_of(fact: Fact) -> str:
    """What describe() leaves out of it, for two facts that look the same."""
    from manactl.netstate.describe import settings  # noqa: PLC0415 - only people need it

    return settings(fact.kind, fact.body)


def removal(fact: Fact, names: Mapping[int, str]) -> str:
    """The `ip` command that removes it."""
    from manactl.netstate.describe import command  # noqa: PLC0415 - only people need it

    return command(fact.kind, fact.body, names)


def is_ipv6(fact: Fact) -> bool:
    return rt.is_ipv6(fact.body)
