"""Two states of a port compared, and the requests that make one of them true again. Pure."""

from __future__ import annotations

import sys
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from manactl.model.named_tuple import NamedTuple
from manactl.netstate import losses, rows
from manactl.netstate.losses import Cause, Loss
from manactl.netstate.rows import Row
from manactl.netstate.snapshot import (
    Fact,
    Kind,
    OtherDevice,
    PerShape,
    PortState,
    Request,
    RouteKey,
    address_flags,
    by_kernel,
    connected,
    derived,
    describe,
    devices_of,
    expired,
    is_everywhere,
    is_ipv6_address,
    is_link_scope,
    is_temporary,
    is_tentative,
    nexthop_id,
    nexthop_of,
    of_router,
    rank,
    route_key,
    target,
)
from manactl.netstate.uppers import Pair, pairs
from manactl.wire import rtmsg as rt
from manactl.wire.netlink import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from manactl.wire.rtmsg import Place, Places

_INEXACT = 2.0  # s: the kernel rounds lifetimes, and what is read in turn is not of one instant
_NEUTRAL = 0x70000000  # far from any ifindex


# --- when two facts are the same -----------------------------------------------------------


def _neutral(places: Places) -> Places:
    """The same devices by numbers and names that do not depend on the time."""
    return [Place(_NEUTRAL + number, f"\0{number}") for number in range(len(places))]


def _device(ifindex: int, places: Places) -> int:
    """The number of a device among the places, or its ifindex when it is none of them."""
    return next((n for n, place in enumerate(places) if place.ifindex == ifindex), -ifindex)


def key(fact: Fact, places: Places) -> tuple[object, ...]:
    """What makes this fact the same thing as another: at most one of a key exists at a time
    (routes of one prefix and metric excepted, which may differ in their nexthops)."""
    body = fact.body
    if fact.kind is Kind.ADDRESS:
        family, length, _, _, index = rt.IfAddrMsg.of(body)
        attrs = rt.split(body, rt.IFADDR.size)
        ends = (rt.value(attrs, end) for end in (rt.IFA_ADDRESS, rt.IFA_LOCAL))
        return (fact.kind, family, length, _device(index, places), *ends)
    if fact.kind is Kind.NEXTHOP:
        return (fact.kind, nexthop_id(fact))
    if fact.kind is Kind.NEIGHBOUR:
        head = rt.NdMsg.of(body)
        dst = rt.value(rt.split(body, rt.NDMSG.size), rt.NDA_DST)
        proxy = head.flags & rt.NTF_PROXY
        return (fact.kind, head.family, _device(head.ifindex, places), proxy, dst)
    return (fact.kind, *route_key(fact))


def identity(fact: Fact, places: Places, *, label: bool = True) -> tuple[Hashable, ...]:
    """All of a fact that is configuration; equal for equal facts whatever ifindex and name.

    Lifetimes count as "forever" or "limited" alone. Those of the kernel's own routes do not count:
    they follow from the addresses.
    """
    return Identities(places, label=label)(fact)


class Identities:
    """identity() for many facts of the same places."""

    def __init__(self, places: Places, *, label: bool) -> None:
        self._places, self._neutral = places, _neutral(places)
        self._label = label
        self._shapes: dict[bytes, Hashable] = {}

    def __call__(self, fact: Fact) -> tuple[Hashable, ...]:
        body, places, neutral = fact.body, self._places, self._neutral
        if fact.kind is Kind.ROUTE:
            rest, _, dst = fact.shape
            known = self._shapes.get(rest)
            if known is None:
                known = self._shapes[rest] = self._of_shape(rest)
            return (dst, known)
        if fact.kind is Kind.ADDRESS:
            made = rt.address(body, places, neutral, None) or b""
            limited = rt.address_is_limited(body)
            attrs = rt.split(made, rt.IFADDR.size)
            if not self._label:
                attrs = [a for a in attrs if a.type != rt.IFA_LABEL]
            return (made[: rt.IFADDR.size], limited, *_ordered(attrs))
        if fact.kind is Kind.NEXTHOP:
            made = rt.nexthop(body, places, neutral)
            return (made[: rt.NHMSG.size], *_ordered(_sorted_group(made)))
        made = rt.neighbour(body, places, neutral)
        return (made[: rt.NDMSG.size], *_ordered(rt.split(made, rt.NDMSG.size)))

    def _of_shape(self, rest: bytes) -> Hashable:
        """What routes of one shape are, but for the destination; as a number, which is quickly
        compared."""
        made = rt.route(rest, self._places, self._neutral, None) or b""
        limited = not by_kernel(Fact(Kind.ROUTE, rest)) and rt.lifetime(rest) is not None
        attrs = rt.split(made, rt.RTMSG.size)
        if rt.is_ipv6(made):
            attrs = [_sorted_hops(a) if a.type == rt.RTA_MULTIPATH else a for a in attrs]
        what = (made[: rt.RTMSG.size], limited, *_ordered(attrs))
        return _NUMBERS.setdefault(what, len(_NUMBERS))


_NUMBERS: dict[Hashable, int] = {}  # of the shapes of routes, in this process


def _ordered(attrs: Iterable[rt.Attr]) -> list[tuple[int, bytes]]:
    return sorted((attr.type, attr.payload) for attr in attrs)


def _sorted_hops(attr: rt.Attr) -> rt.Attr:
    """IPv6 keeps no order among the members of a multipath route."""
    return rt.Attr(attr.kind, rt.pack_hops(sorted(rt.hops(attr.payload))))


def _sorted_group(request: bytes) -> list[rt.Attr]:
    """The kernel keeps no order among the members of a group."""
    members = b"".join(sorted(rt.group_entries(request)))
    return [
        rt.Attr(attr.kind, members) if attr.type == rt.NHA_GROUP else attr
        for attr in rt.split(request, rt.NHMSG.size)
    ]


def is_shrunk_group(present: Fact, wanted: Fact) -> bool:
    """Whether a group is the wanted one less some members, as nexthop_flush_dev() leaves it."""
    there, ours = rt.group(present.body), rt.group(wanted.body)
    return bool(there) and set(there) < set(ours) and _but_members(present) == _but_members(wanted)


def _but_members(group: Fact) -> tuple[Hashable, ...]:
    made = rt.nexthop(group.body, (), ())
    attrs = rt.split(made, rt.NHMSG.size)
    return (made[: rt.NHMSG.size], *_ordered(a for a in attrs if a.type != rt.NHA_GROUP))


# --- where the devices are now -------------------------------------------------------------


def aligned(wanted: PortState, now: PortState) -> Places:
    """Where wanted.devices are now, each in turn; a negative ifindex for one that is gone."""
    matched = pairs(wanted.uppers, now.uppers, wanted.ifindex, now.ifindex)
    return (
        Place(now.ifindex, now.ifname),
        *(
            Place(pair.now.ifindex, pair.now.name) if pair.now else _nowhere(pair.was.ifindex)
            for pair in matched
        ),
        *(_other(device, now) for device in wanted.others),
    )


def _nowhere(ifindex: int) -> Place:
    return Place(-ifindex, "\0gone")


def _other(device: OtherDevice, now: PortState) -> Place:
    """A device that is not of the port: by ifindex, which has to be confirmed by name or MAC
    address, else by both of these (its driver may have been bound again)."""
    for link in now.links:
        named, same_mac = link.name == device.name, link.mac is not None and link.mac == device.mac
        if (link.ifindex == device.ifindex and (named or same_mac)) or (named and same_mac):
            return Place(link.ifindex, link.name)
    return _nowhere(device.ifindex)


# --- what keeps a fact from being made again -----------------------------------------------


class Obstacle(NamedTuple):
    """Why a request must not be sent: it would use something that is not what it was.

    `device` is gone (perhaps another one has its ifindex now); `nexthop` cannot be had, since
    `instead` has its id now.
    """

    device: Place | None = None
    nexthop: int | None = None
    instead: Fact | None = None


class MissingFact(NamedTuple):
    """A fact that is not there (`instead` None), or is there with other settings."""

    fact: Fact
    instead: Fact | None


class Comparison:
    """A snapshot held against what is there now.

    `before` is an earlier comparison of the same snapshot, whose work need not be done again.
    """

    def __init__(self, wanted: PortState, now: PortState, before: Comparison | None = None) -> None:
        self.wanted, self.now = wanted, now
        self.elapsed = int(now.taken - wanted.taken)
        self.was: Places = wanted.devices
        self.places = aligned(wanted, now)
        own = zip(wanted.places, self.places, strict=False)
        # The kernel numbers labels in a rename (inetdev_changename()), so they do not count then.
        self._label = all(was.name == is_now.name for was, is_now in own)
        known = before is not None and before._label is self._label
        self._had: dict[Fact, Hashable] = (
            before._had if before and known else self._identities(wanted.facts, self.was)
        )
        self._known: dict[Fact, Loss] = before._known if before else losses.known(wanted)
        self._have = self._identities(now.facts, self.places)
        beside = [fact for fact in now.rows if fact not in self._have]
        self._beside = self._identities(beside, self.places)

    def _identities(self, facts: Iterable[Fact], places: Places) -> dict[Fact, Hashable]:
        identify = Identities(places, label=self._label)
        return {fact: identify(fact) for fact in facts}

    @property
    def moved(self) -> dict[int, int]:
        """The ifindexes that the devices had, to those that they have."""
        both = zip(self.was, self.places, strict=True)
        return {was.ifindex: is_now.ifindex for was, is_now in both}

    @cached_property
    def of_router(self) -> list[Fact]:
        """What a router had advertised, whose advertisements are taken now too."""
        back = dict(zip((place.ifindex for place in self.places), self.was, strict=True))
        taken = [
            one._replace(ifindex=back[one.ifindex].ifindex)
            for one in self.now.accepted
            if one.ifindex in back
        ]
        return of_router(self.wanted, taken)

    @cached_property
    def advertised(self) -> list[Fact]:
        """What of that is not there, and comes with the router's next advertisement. One that is
        there with other settings has been advertised since."""
        if not self.of_router:
            return []
        have = set(self._have.values())
        there = {_advertised_key(fact, self.places) for fact in self.now.facts if passing(fact)}
        return [
            fact
            for fact in self.of_router
            if self._had[fact] not in have and _advertised_key(fact, self.was) not in there
        ]

    @cached_property
    def missing(self) -> list[MissingFact]:
        """What was there, is not, and can be made again; or cannot, for what is there instead."""
        lost = self.lost
        left = [one for one in self._absent if one.fact not in lost] if lost else self._absent
        if self._overtaken:
            left = [one for one in left if not self._has_other_source(one)]
        return [
            MissingFact(one.fact, one.instead or self._joined_to(one.fact))
            if self._has_new_neighbours(one.fact)
            else one
            for one in left
        ]

    @cached_property
    def lost(self) -> dict[Fact, Loss]:
        """What was there, is not, and is not for us to make again."""
        found = {fact: self._known[fact] for fact, _ in self._absent if fact in self._known}
        taken: dict[int, Fact] = {}  # by id: what daemons have put there
        of_daemon = PerShape(losses.is_of_daemon)
        # Of the others of a full table nothing can be in the place.
        daemons = [
            one
            for one in self._absent
            if of_daemon(one.fact)
            and (
                one.instead is not None
                or one.fact.kind is Kind.NEXTHOP
                or nexthop_of(one.fact) is not None
                or self._has_new_neighbours(one.fact)
            )
        ]
        for fact, instead in sorted(daemons, key=lambda one: rank(one.fact)):
            by = self._taken_over(fact, instead, taken)
            if by is not None and fact not in found:
                found[fact] = Loss(Cause.TAKEN_OVER, fact, by)
                if fact.kind is Kind.NEXTHOP:
                    taken[nexthop_id(fact)] = by
        return found

    @cached_property
    def _row_pairs(self) -> list[tuple[Row, Row]]:
        """Each row of the snapshot that others have routes in, with what it is now."""
        wanted, now = self.wanted, self.now
        if not wanted.rows:
            return []
        both = {**self._have, **self._beside}
        known = self._identities((f for f in wanted.rows if f not in self._had), self.was)
        had = {**self._had, **known}
        own = {place.ifindex for place in self.places[: len(wanted.places)]}
        then = {place.ifindex for place in wanted.places}
        before = rows.split(wanted.rows, then, had.__getitem__)
        still = (fact for fact in now.rows if route_key(fact) in before)
        is_now = rows.split(still, own, both.__getitem__)
        return [(row, is_now[key]) for key, row in before.items() if key in is_now]

    @property
    def moves(self) -> list[tuple[Fact, Request]]:
        """The requests that put routes of ours first or last in their rows again."""
        found = []
        for was, now in self._row_pairs:
            for fact, first in rows.moves(was, now):
                made = rt.route(fact.body, (), (), None) or b""
                flags = NLM_F_CREATE if first else NLM_F_CREATE | NLM_F_APPEND
                found.append((fact, Request(rt.RTM_DELROUTE, 0, made)))
                found.append((fact, Request(rt.RTM_NEWROUTE, flags, made)))
        return found

    @property
    def misplaced(self) -> list[Loss]:
        """The routes of ours whose place in their row is not what it was, and those that come after
        what somebody has put there meanwhile."""
        found = [rows.swapped(was, now) for was, now in self._row_pairs]
        found += [rows.overtaken(row, self._had.values(), put) for row, put in self._rows_put_into]
        return [*self._overtaken, *(losses.of_order(swap) for swap in found if swap is not None)]

    @cached_property
    def _overtaken(self) -> list[Loss]:
        """The IPv4 addresses that were the first of their network, and behind which the kernel has put
        them (__inet_insert_ifa()): somebody has set these again before, as a manager does that keeps
        one of a lease and drops one of a file. To set that right all of them would have to go."""
        now = {key(f, self.places): f for f in self.now.of(Kind.ADDRESS) if not rt.is_ipv6(f.body)}
        found = []
        for fact in self.wanted.of(Kind.ADDRESS):
            present = now.get(key(fact, self.was))
            if present is not None and not _is_secondary(fact) and _is_secondary(present):
                of = _network(present)
                first = (f for f in now.values() if not _is_secondary(f) and _network(f) == of)
                found += [Loss(Cause.ORDER, fact, one) for one in first]
        return found

    def _has_other_source(self, missing: MissingFact) -> bool:
        """Whether an address's own route is there, from the address that is the first now."""
        was, now = missing
        return (
            now is not None
            and derived(was)
            and any(
                (_source(was), _source(now)) == (target(one.fact), target(one.instead))
                for one in self._overtaken
                if one.instead is not None
            )
        )

    @property
    def _rows_put_into(self) -> Iterator[tuple[Row, list[Fact]]]:
        """Each row that somebody has put routes in, and these."""
        if not self._put_since:
            return
        own = {place.ifindex for place in self.places[: len(self.wanted.places)]}
        both = {**self._have, **self._beside}
        is_now = rows.split(
            (f for f in self.now.rows if route_key(f) in self._put_since), own, both.__getitem__
        )
        for at, row in is_now.items():
            if put := [f for f in self._put_since[at] if not (derived(f) or is_everywhere(f))]:
                yield row, put

    @cached_property
    def _put_since(self) -> dict[RouteKey, list[Fact]]:
        """The routes on other devices that were not there, by row."""
        had = set(self._had.values())
        had |= set(self._identities(self.wanted.rows, self.was).values())
        found: dict[RouteKey, list[Fact]] = {}
        for fact, what in self._beside.items():
            if what not in had:
                found.setdefault(route_key(fact), []).append(fact)
        return found

    def _has_new_neighbours(self, fact: Fact) -> bool:
        """Whether somebody has put a route in the row of this one."""
        return fact.kind is Kind.ROUTE and route_key(fact) in self._put_since

    def _joined_to(self, fact: Fact) -> Fact | None:
        """The IPv6 route that somebody has put on another device meanwhile and that the kernel would
        make one multipath route of with this one, whatever the flags of the request are."""
        if not self._has_new_neighbours(fact) or not _is_by_gateway(fact):
            return None
        theirs = self._put_since[route_key(fact)]
        found = (r for r in theirs if _is_by_gateway(r) and not passing(r))
        return next((route for route in found if not self._is_rest(route, fact)), None)

    def _taken_over(
        self, fact: Fact, instead: Fact | None, taken: Mapping[int, Fact]
    ) -> Fact | None:
        """What its daemon has put in the place of a fact; None where it has not: what somebody else
        has put there (`ip nexthop replace id N`) is not known to the daemon, and settles nothing.
        """
        if instead is not None and _maker(instead) != _maker(fact):
            instead = None
        if fact.kind is Kind.NEXTHOP:
            members = rt.group_members(fact.body)
            new = [taken[member] for member in members if member in taken]
            if instead is None or is_shrunk_group(instead, fact):
                return new[0] if new else None
            return instead
        if (by := nexthop_of(fact)) is not None and by in taken:
            return taken[by]
        others = self._put_since.get(route_key(fact), ()) if fact.kind is Kind.ROUTE else ()
        theirs = [one for one in others if _maker(one) == _maker(fact)]
        new = [one for one in (instead, *theirs) if one and not self._is_rest(one, fact)]
        return new[0] if new else None

    def _is_rest(self, present: Fact, wanted: Fact) -> bool:
        """Whether a route is what the kernel has left of an IPv6 multipath route."""
        here = [(hop.ifindex, hop.rest) for hop in rt.ways(present.body)]
        moved = self.moved
        had = [(moved.get(hop.ifindex, hop.ifindex), hop.rest) for hop in rt.ways(wanted.body)]
        return len(here) < len(had) and all(hop in had for hop in here)

    @cached_property
    def _absent(self) -> list[MissingFact]:
        """What was there and is not, leaving out what its own lifetime has ended, and what a router
        has advertised and will again: it is nobody else's to make.

        IPv6 temporary addresses are left out: the kernel makes new ones, with other numbers. What
        was on an upper that is gone is left out, too: the upper itself is missed.
        """
        wanted = self.wanted
        have = {*self._have.values(), *self._beside.values()}
        strangers = self._others_by_key()
        of_router = set(self.of_router)
        over_by_now = PerShape(lambda f: is_temporary(f) or expired(f, self.elapsed))
        over = {f for f in wanted.facts if over_by_now(f)} - of_router
        gone = {target(f) for f in (*over, *self.advertised) if f.kind is Kind.ADDRESS}
        is_derived, on_gone_upper = PerShape(derived), PerShape(self._is_on_gone_upper)
        found = []
        for fact, what in self._had.items():
            if what in have:
                continue
            if fact in over or fact in of_router or (is_derived(fact) and _went_with(fact, gone)):
                continue
            if on_gone_upper(fact):
                continue
            instead = strangers.get(key(fact, self.was)) if strangers else None
            found.append(MissingFact(fact, instead))
        return found

    def _others_by_key(self) -> dict[tuple[object, ...], Fact]:
        """What is there now and is nothing of what was."""
        had = set(self._had.values())
        found = [fact for fact, what in self._have.items() if what not in had]
        return {key(fact, self.places): fact for fact in (*self.now.related, *found)}

    def on_upper(self, upper: int) -> list[Fact]:
        """The facts of an upper by the ifindex that it had: they name nothing else, or are routes
        in the table of that VRF."""
        tables = {u.table for u in self.wanted.uppers if u.ifindex == upper and u.table is not None}
        return [fact for fact in self.wanted.facts if _is_of(fact, {upper}, tables)]

    def _is_on_gone_upper(self, fact: Fact) -> bool:
        return _is_of(fact, *self._gone)

    @cached_property
    def _gone(self) -> tuple[set[int], set[int]]:
        """The ifindexes that uppers had which are gone, and the tables of the VRFs among them."""
        moved = self.moved
        left = [upper for upper in self.wanted.uppers if moved[upper.ifindex] < 0]
        return (
            {upper.ifindex for upper in left},
            {upper.table for upper in left if upper.table is not None},
        )

    @cached_property
    def surplus(self) -> list[Fact]:
        """What is there now and was not, and is no other form of what was: somebody else made it.

        Left out is what comes and goes by itself: see passing().
        """
        had = set(self._had.values())
        missed = {key(missing.fact, self.was) for missing in self._absent}
        return [
            fact
            for fact, what in self._have.items()
            if what not in had and not passing(fact) and key(fact, self.places) not in missed
        ]

    @cached_property
    def obstacles(self) -> dict[Fact, Obstacle]:
        """What of the missing must not be made again, and why.

        An id or an ifindex may have been given to something else meanwhile, and what refers to it
        would then send packets another way.
        """
        gone = {
            was.ifindex: Obstacle(device=was)
            for was, is_now in zip(self.was, self.places, strict=True)
            if is_now.ifindex < 0
        }
        nexthops = self._nexthop_obstacles(gone)
        if not gone and not nexthops:
            return {}
        found = {}
        for fact, _ in self.missing:
            if fact.kind is Kind.NEXTHOP:
                obstacle = nexthops.get(nexthop_id(fact))
            elif (by := nexthop_of(fact)) is not None:
                obstacle = nexthops.get(by)
            else:
                named = sorted(devices_of(fact))
                obstacle = next((gone[device] for device in named if device in gone), None)
            if obstacle is not None:
                found[fact] = obstacle
        return found

    def _nexthop_obstacles(self, gone: dict[int, Obstacle]) -> dict[int, Obstacle]:
        """By id, the nexthops and groups that must not be used."""
        now = {nexthop_id(f): f for f in (*self.now.related, *self.now.of(Kind.NEXTHOP))}
        missing = {nexthop_id(f) for f, _ in self._absent if f.kind is Kind.NEXTHOP}
        found: dict[int, Obstacle] = {}
        for fact in (*self.wanted.related, *self.wanted.of(Kind.NEXTHOP)):
            number, ours = nexthop_id(fact), fact in self._had
            present = now.get(number)
            if present is not None and (
                number in missing and not is_shrunk_group(present, fact)
                if ours
                else not self._leads_as_before(fact, present)
            ):
                found[number] = Obstacle(nexthop=number, instead=present)
            elif ours and (out := gone.keys() & devices_of(fact)):  # an object has one device
                found[number] = gone[out.pop()]
        for fact in self.wanted.of(Kind.NEXTHOP):
            number = nexthop_id(fact)
            if number in missing and number not in found:
                bad = [one for one in rt.group_members(fact.body) if one in found]
                if bad:
                    found[number] = found[bad[0]]
        return found

    def _leads_as_before(self, was: Fact, is_now: Fact) -> bool:
        """Whether a nexthop of others leads by the device it led by; its gateway is theirs."""
        moved = self.moved
        return {moved.get(device, device) for device in devices_of(was)} == devices_of(is_now)

    @cached_property
    def in_the_way(self) -> list[Request]:
        """The requests that remove IPv6 addresses which have to be made again: those which a
        missing one has to come before (the kernel puts the youngest first, and keep_addr_on_down
        keeps some of them alone), and those it has kept without their local route on a device that
        is down. None of a router: that would stay away until its next advertisement."""
        missing = {missing.fact for missing in self.missing}
        of_router = set(self.of_router)
        bare = self._bare(missing)
        there = {what: fact for fact, what in self._have.items()}
        found = []
        elder: set[int] = set()
        for fact in reversed(self.wanted.of(Kind.ADDRESS)):
            if not is_ipv6_address(fact) or fact in of_router:
                continue
            ordered = not is_link_scope(fact)
            if fact in bare or (ordered and fact not in missing and devices_of(fact) & elder):
                present = there.get(self._had[fact])
                found += [Request(rt.RTM_DELADDR, 0, present.body)] if present else []
            if ordered and (fact in missing or fact in bare):
                elder |= devices_of(fact)
        return found

    def _bare(self, missing: Collection[Fact]) -> set[Fact]:
        """The IPv6 addresses that are there without the local route they had, on devices that are
        down: where one is up the kernel makes the route by itself (fixup_permanent_addr())."""
        down = {upper.ifindex for upper in self.now.uppers if not upper.up}
        closed = {was for was, is_now in self.moved.items() if is_now in down}
        lost = {(target(fact), *devices_of(fact)) for fact in missing if _is_local(fact)}
        return {
            fact
            for fact in self.wanted.of(Kind.ADDRESS)
            if is_ipv6_address(fact)
            and fact not in missing
            and devices_of(fact) <= closed
            and (target(fact), *devices_of(fact)) in lost
        }

    @cached_property
    def awaited(self) -> set[Fact]:
        """The missing routes that the kernel adds when duplicate address detection ends."""
        pending = {target(fact) for fact in self.now.facts if is_tentative(fact)}
        if not pending:
            return set()
        return {
            missing.fact
            for missing in self.missing
            if derived(missing.fact)
            and (not _is_local(missing.fact) or target(missing.fact) in pending)
        }

    @property
    def unrouted(self) -> list[MissingFact]:
        """The missing local routes of addresses that are there, and past duplicate address
        detection."""
        there = {target(fact) for fact in self.now.facts if fact.kind is Kind.ADDRESS}
        return [
            missing
            for missing in self.missing
            if _is_local(missing.fact)
            and target(missing.fact) in there
            and missing.fact not in self.awaited
        ]

    @cached_property
    def strays(self) -> list[tuple[Fact, Request]]:
        """What the kernel has made because links went down and up here, and the requests to remove
        it: connected routes that somebody had deleted from addresses which are as they were, and
        link-local addresses of uppers that had carrier for the moment alone in which a VLAN was up.
        """
        wanted, now = self.wanted, self.now
        back = dict(zip((place.ifindex for place in self.places), self.was, strict=True))
        had = set(self._had.values())
        off = {u.ifindex for u in wanted.uppers if u.up and not u.carrier}
        off_now = {u.ifindex for u in now.uppers if u.up and not u.carrier}
        found = []
        for fact, what in self._have.items():
            if what in had:
                continue
            on = {back[index].ifindex if index in back else -1 for index in devices_of(fact)}
            unlinked = on <= off and devices_of(fact) <= off_now
            if not on:
                continue
            if fact.kind is Kind.ADDRESS:
                attrs = rt.split(fact.body, rt.IFADDR.size)
                if unlinked and rt.number(attrs, rt.IFA_PROTO) == rt.IFAPROT_KERNEL_LL:
                    found.append((fact, Request(rt.RTM_DELADDR, 0, fact.body)))
            elif by_kernel(fact):
                then = Fact(fact.kind, rt.route(fact.body, self.places, self.was, None) or b"")
                own = not derived(fact) and connected(then, wanted)
                if own or (unlinked and rt.is_ipv6(fact.body)):
                    found.append((fact, Request(rt.RTM_DELROUTE, 0, fact.body)))
        return found

    def requests(self, missing: MissingFact) -> list[Request]:
        """The requests that bring a missing fact back, or as much of it as can be had."""
        if missing.fact in self.obstacles and not _is_divisible(missing.fact):
            return []
        if self._has_new_neighbours(missing.fact) and self._joined_to(missing.fact) is not None:
            return []
        return requests(missing, self.wanted, self.places, self.elapsed, self._routes)

    @cached_property
    def _routes(self) -> rt.RouteRequests:
        return rt.RouteRequests(self.was, self.places, self.elapsed)

    @property
    def matched(self) -> list[Pair]:
        """Each upper that was there with its present self."""
        wanted, now = self.wanted, self.now
        return pairs(wanted.uppers, now.uppers, wanted.ifindex, now.ifindex)


def _maker(fact: Fact) -> int:
    """Whose a route or a nexthop is, by its protocol."""
    head = rt.NhMsg if fact.kind is Kind.NEXTHOP else rt.RtMsg
    return head.of(fact.body).protocol


def _is_by_gateway(fact: Fact) -> bool:
    """An IPv6 route that may be, or become, a multipath route (rt6_qualify_for_ecmp())."""
    if not rt.is_ipv6(fact.body) or nexthop_of(fact) is not None:
        return False
    attrs = rt.split(fact.body, rt.RTMSG.size)
    return any(rt.value(attrs, one) is not None for one in (rt.RTA_GATEWAY, rt.RTA_MULTIPATH))


def _is_divisible(fact: Fact) -> bool:
    """An IPv6 multipath route, whose members the kernel keeps as routes of their own."""
    if fact.kind is not Kind.ROUTE or not rt.is_ipv6(fact.body) or nexthop_of(fact) is not None:
        return False
    return rt.has_members(fact.rest)


def _is_of(fact: Fact, devices: Collection[int], tables: Collection[int]) -> bool:
    """Whether a fact names these devices and no other, or is a route in one of the tables."""
    if tables and fact.kind is Kind.ROUTE and _table(fact) in tables:
        return True
    return bool(devices and (named := devices_of(fact)) and named <= set(devices))


def _table(route: Fact) -> int:
    table = rt.number(rt.split(route.body, rt.RTMSG.size), rt.RTA_TABLE)
    return rt.RtMsg.of(route.body).table if table is None else table


def _advertised_key(fact: Fact, places: Places) -> tuple[object, ...]:
    """What one advertisement after another brings in the place of: a router has one default route
    of each device, whatever its preference or hop limit is now."""
    if fact.kind is not Kind.ROUTE:
        return key(fact, places)
    gateway = rt.value(rt.split(fact.body, rt.RTMSG.size), rt.RTA_GATEWAY)
    devices = sorted(_device(ifindex, places) for ifindex in devices_of(fact))
    return (*key(fact, places), gateway, *devices)


def _went_with(route: Fact, gone: Collection[bytes | None]) -> bool:
    """Whether a derived route went with an address: its own, or (broadcast) perhaps with one."""
    if _is_local(route):
        return target(route) in gone
    return bool(gone)


def _is_secondary(address: Fact) -> bool:
    """Of IPv4: not the first of its network."""
    return bool(address_flags(address) & rt.IFA_F_SECONDARY) and not rt.is_ipv6(address.body)


def _network(address: Fact) -> tuple[int, int, int]:
    """Device, prefix length and prefix of an IPv4 address."""
    head = rt.IfAddrMsg.of(address.body)
    end = rt.value(rt.split(address.body, rt.IFADDR.size), rt.IFA_ADDRESS) or bytes(4)
    return head.ifindex, head.prefixlen, int.from_bytes(end, "big") >> 32 - head.prefixlen


def _source(route: Fact) -> bytes | None:
    return rt.value(rt.split(route.rest, rt.RTMSG.size), rt.RTA_PREFSRC)


def _is_local(fact: Fact) -> bool:
    """The route of an address of ours."""
    return derived(fact) and rt.RtMsg.of(fact.body).type == rt.RTN_LOCAL


def passing(fact: Fact) -> bool:
    """What the kernel makes by itself, or because a router or a DHCP server has sent it."""
    if fact.kind is Kind.ADDRESS:
        attrs = rt.split(fact.body, rt.IFADDR.size)
        of_kernel = rt.number(attrs, rt.IFA_PROTO) in rt.IFAPROT_OF_KERNEL
        of_router = rt.is_ipv6(fact.body) and bool(address_flags(fact) & rt.IFA_F_MANAGETEMPADDR)
        return of_kernel or of_router or is_temporary(fact)
    if fact.kind is Kind.ROUTE:
        return rt.RtMsg.of(fact.body).protocol in rt.RTPROT_PASSING
    return False


def changes(was: PortState, now: PortState) -> list[str]:
    """What somebody has changed between two looks at a port, a line each.

    Not what passes by itself: lifetimes, duplicate address detection, routes that are part of an
    address.
    """
    found = []
    if (was.ifindex, was.ifname) != (now.ifindex, now.ifname):
        found.append(f"{was.ifname} (ifindex {was.ifindex}) is {now.ifname} ({now.ifindex}) now")
    if was.up is not now.up:
        found.append(f"{now.ifname} was set {'up' if now.up else 'down'}")
    elif was.carrier is not now.carrier:
        found.append(f"{now.ifname} {'got' if now.carrier else 'lost'} its carrier")
    upper = [
        one for one in (*was.uppers, *now.uppers) if one not in was.uppers or one not in now.uppers
    ]
    found += [f"upper {name} changed" for name in dict.fromkeys(one.name for one in upper)]
    settings = {(one.tree, one.key) for one in {*was.settings} ^ {*now.settings}}
    found += [f"sysctl {tree}: {key} changed" for tree, key in sorted(settings)]
    if was.others != now.others:
        found.append("a device that its routes name changed")
    same = was.facts == now.facts and was.related == now.related
    had, have = ({}, {}) if same else (_told_apart(was, now), _told_apart(now, was))
    found += [f"added: {describe(f, now.names)}" for what, f in have.items() if what not in had]
    found += [f"removed: {describe(f, was.names)}" for what, f in had.items() if what not in have]
    if not found and _addresses(was) != _addresses(now):
        found.append("the order of its addresses changed")
    return found


def renewed(was: PortState, now: PortState) -> list[str]:
    """The addresses whose lifetime somebody has extended since: by the older state they would end
    too early."""
    places = {key(fact, was.devices): fact for fact in was.of(Kind.ADDRESS)}
    found = []
    for fact in now.of(Kind.ADDRESS):
        before = places.get(key(fact, now.devices))
        had = None if before is None else rt.valid_lifetime(before.body)
        has = rt.valid_lifetime(fact.body)
        if had is None or has is None:
            continue
        if has - had + (now.taken - was.taken) > _INEXACT:
            found.append(f"lifetime extended: {describe(fact, now.names)}")
    return found


def _told_apart(state: PortState, other: PortState) -> dict[Hashable, Fact]:
    """The facts of a state, by what they are, but for those that the other has byte by byte."""
    places, identify = state.devices, Identities(state.devices, label=True)
    same = {*other.facts, *other.related}
    return {
        key(fact, places) if _is_probed(fact) else identify(fact): fact
        for fact in (*state.facts, *state.related)
        if fact not in same and not derived(fact)
    }


def _is_probed(fact: Fact) -> bool:
    """A neighbour whose state the kernel changes all the time (REACHABLE, STALE)."""
    fixed = rt.NUD_PERMANENT | rt.NUD_NOARP
    return fact.kind is Kind.NEIGHBOUR and not rt.NdMsg.of(fact.body).state & fixed


def _addresses(state: PortState) -> list[Hashable]:
    return list(map(Identities(state.devices, label=True), state.of(Kind.ADDRESS)))


# --- requests ------------------------------------------------------------------------------


def requests(
    missing: MissingFact,
    wanted: PortState,
    now: Places,
    elapsed: int,
    routes: rt.RouteRequests | None = None,
) -> list[Request]:
    """The requests that bring a missing fact back; none for what only somebody else may change.
    `routes`: of the same places and time, where many are asked for.

    An IPv6 address comes without duplicate address detection, which would keep live connections
    waiting for a second or two, and then gets its own flags (inet6_addr_modify() starts no DAD).
    """
    fact, instead = missing
    if fact.kind is Kind.ROUTE:
        again = (routes or rt.RouteRequests(wanted.devices, now, elapsed))(fact.shape)
        if again is None or (instead is not None and _would_join(again, instead)):
            return []
        return _route_requests(again, fact, now[: len(wanted.places)])
    was = wanted.devices
    flags = NLM_F_CREATE | NLM_F_REPLACE
    if fact.kind is Kind.ADDRESS:
        # One that was tentative has never been used, and stays so where there is no carrier.
        quick = instead is None and not is_tentative(fact)
        return _address_requests(rt.address(fact.body, was, now, elapsed), quick=quick)
    if fact.kind is Kind.NEIGHBOUR:
        return [Request(rt.RTM_NEWNEIGH, flags, rt.neighbour(fact.body, was, now))]
    made = rt.nexthop(fact.body, was, now)
    if instead is None:
        return [Request(rt.RTM_NEWNEXTHOP, NLM_F_CREATE | NLM_F_EXCL, made)]
    return [Request(rt.RTM_NEWNEXTHOP, flags, made)] if is_shrunk_group(instead, fact) else []


def _address_requests(made: bytes | None, *, quick: bool) -> list[Request]:
    if made is None:
        return []
    flags = NLM_F_CREATE | NLM_F_REPLACE
    requests = [Request(rt.RTM_NEWADDR, flags, made)]
    first = rt.with_address_flags(made, rt.IFA_F_NODAD)
    if quick and rt.is_ipv6(made) and first != made:
        requests.insert(0, Request(rt.RTM_NEWADDR, flags, first))
    return requests


def _would_join(made: bytes, instead: Fact) -> bool:
    """Whether the kernel would make one multipath route of an IPv6 route and of what somebody has
    put in its place (fib6_add_rt2node()): half of the packets would leave by each. It joins no
    route that a router has announced (rt6_qualify_for_ecmp())."""
    attrs, there = (rt.split(body, rt.RTMSG.size) for body in (made, instead.body))
    members = rt.value(there, rt.RTA_MULTIPATH)
    return (
        rt.is_ipv6(made)
        and not passing(instead)
        and rt.value(attrs, rt.RTA_GATEWAY) is not None
        and (members is not None or rt.value(there, rt.RTA_GATEWAY) is not None)
    )


def _route_requests(made: bytes, wanted: Fact, port: Places) -> list[Request]:
    """IPv4 routes of one prefix and metric keep their order by appending. IPv6 would join an
    appended one to the others as a member, which is right for multipath routes alone: each
    member is made by itself, those on our own devices first: one on another device may be there
    still, or have to wait for its port. Without those on devices that are gone."""
    if not rt.is_ipv6(made):
        return [Request(rt.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, made)]
    if not _is_divisible(wanted):
        return [Request(rt.RTM_NEWROUTE, NLM_F_CREATE, made)]
    own = {place.ifindex for place in port}
    members = rt.value(rt.split(made, rt.RTMSG.size), rt.RTA_MULTIPATH) or b""
    return [
        Request(rt.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, rt.with_hops(made, [hop]))
        for hop in sorted(rt.hops(members), key=lambda hop: hop.ifindex not in own)
        if hop.ifindex > 0
    ]


def to_gateways(request: Request) -> list[Request]:
    """Host routes to the gateways of a route, in its table. The kernel wants a gateway to be
    reachable when a route is made, and does not care when it ceases to be."""
    if request.type != rt.RTM_NEWROUTE:
        return []
    head = rt.RtMsg.of(request.body)
    attrs = rt.split(request.body, rt.RTMSG.size)
    table = [one for one in attrs if one.type == rt.RTA_TABLE]
    found = []
    for way in rt.ways(request.body):
        gateway = rt.value(rt.split(way.rest, 0), rt.RTA_GATEWAY)
        if gateway is None:
            continue
        out = rt.Attr(rt.RTA_OIF, way.ifindex.to_bytes(4, sys.byteorder))
        to = head._replace(
            dst_len=len(gateway) * 8, src_len=0, tos=0, scope=rt.RT_SCOPE_LINK, flags=0,
            protocol=rt.RTPROT_BOOT, type=rt.RTN_UNICAST,
        )  # fmt: skip
        body = rt.join(to.pack(), [rt.Attr(rt.RTA_DST, gateway), out, *table])
        found.append(Request(rt.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body))
    return found


def in_order(missing: Sequence[MissingFact]) -> list[MissingFact]:
    """As they are to be made again: addresses, nexthops before groups, on-link routes before
    those through a gateway (which must be reachable), neighbours.

    IPv6 addresses go backwards: the kernel puts a new one before its elders (of one scope,
    ipv6_link_dev_addr()), and the order takes part in choosing source addresses.
    """
    six = [one for one in missing if is_ipv6_address(one.fact)]
    rest = [one for one in missing if not is_ipv6_address(one.fact)]
    ranked = PerShape(rank)
    ranks = {one.fact: ranked(one.fact) for one in missing}
    # The routes of a row keep their order: all come as late as the last of them.
    by_row: dict[RouteKey, list[Fact]] = {}
    for one in rest:
        if one.fact.kind is Kind.ROUTE:
            by_row.setdefault(route_key(one.fact), []).append(one.fact)
    for row in by_row.values():
        if len(row) > 1:
            last = max(ranks[fact] for fact in row)
            ranks.update(dict.fromkeys(row, last))
    return sorted([*reversed(six), *rest], key=lambda one: ranks[one.fact])
