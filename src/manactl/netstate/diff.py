"""Two states of a port compared, and the requests that make one of them true again. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from manactl.netstate.snapshot import (
    Fact,
    Kind,
    PortState,
    Request,
    address_flags,
    by_kernel,
    connected,
    derived,
    devices_of,
    expired,
    is_ipv6_address,
    is_link_scope,
    is_temporary,
    is_tentative,
    rank,
)
from manactl.netstate.uppers import pairs
from manactl.wire import rtmsg as rt
from manactl.wire.netlink import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from manactl.wire.rtmsg import Place, Places

_NEUTRAL = 0x70000000  # far from any ifindex


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
        family, length, _, _, index = rt.IFADDR.unpack_from(body)
        attrs = rt.split(body, rt.IFADDR.size)
        local = (rt.value(attrs, a) for a in (1, 2))
        return (fact.kind, family, length, _device(index, places), *local)
    if fact.kind is Kind.NEXTHOP:
        return (fact.kind, rt.number(rt.split(body, rt.NHMSG.size), rt.NHA_ID))
    if fact.kind is Kind.NEIGHBOUR:
        family, _, _, index, _, flags, _ = rt.NDMSG.unpack_from(body)
        dst = rt.value(rt.split(body, rt.NDMSG.size), rt.NDA_DST)
        return (fact.kind, family, _device(index, places), flags & rt.NTF_PROXY, dst)
    head = rt.RTMSG.unpack_from(body)
    attrs = rt.split(body, rt.RTMSG.size)
    wanted = (rt.RTA_DST, 2, rt.RTA_PRIORITY, rt.RTA_TABLE)  # 2: RTA_SRC
    return (fact.kind, *head[:4], *(rt.value(attrs, a) for a in wanted))


def identity(fact: Fact, places: Places, *, label: bool = True) -> tuple[object, ...]:
    """All of a fact that is configuration; equal for equal facts whatever ifindex and name.

    Lifetimes count as "forever" or "limited" alone.
    """
    body, neutral = fact.body, _neutral(places)
    if fact.kind is Kind.ADDRESS:
        made = rt.address(body, places, neutral, 0) or b""
        attrs = rt.split(made, rt.IFADDR.size)
        times = rt.value(attrs, rt.IFA_CACHEINFO) or b"\xff" * 8
        left_out = (rt.IFA_CACHEINFO,) if label else (rt.IFA_CACHEINFO, rt.IFA_LABEL)
        rest = [a for a in attrs if a.type not in left_out]
        return (*rt.IFADDR.unpack_from(made), times[4:8] == b"\xff" * 4, *_ordered(rest))
    if fact.kind is Kind.NEXTHOP:
        made = rt.nexthop(body, places, neutral)
        return (*rt.NHMSG.unpack_from(made), *_ordered(_sorted_group(made)))
    if fact.kind is Kind.NEIGHBOUR:
        made = rt.neighbour(body, places, neutral)
        return (*rt.NDMSG.unpack_from(made), *_ordered(rt.split(made, rt.NDMSG.size)))
    made = rt.route(body, places, neutral, 0) or b""
    attrs = [a for a in rt.split(made, rt.RTMSG.size) if a.type != rt.RTA_EXPIRES]
    if rt.is_ipv6(made):
        attrs = [_sorted_hops(a) if a.type == rt.RTA_MULTIPATH else a for a in attrs]
    return (*rt.RTMSG.unpack_from(made), *_ordered(attrs))


def _ordered(attrs: Iterable[rt.Attr]) -> list[tuple[int, bytes]]:
    return sorted((one.type, one.payload) for one in attrs)


def _sorted_hops(one: rt.Attr) -> rt.Attr:
    """IPv6 keeps no order among the members of a multipath route."""
    return rt.Attr(one.kind, rt.pack_hops(sorted(rt.hops(one.payload))))


def _sorted_group(request: bytes) -> list[rt.Attr]:
    return [
        rt.Attr(a.kind, b"".join(sorted(a.payload[i : i + 8] for i in range(0, len(a.payload), 8))))
        if a.type == rt.NHA_GROUP
        else a
        for a in rt.split(request, rt.NHMSG.size)
    ]


class Lack(NamedTuple):
    """A fact that is not there (`instead` None), or is there with other settings."""

    fact: Fact
    instead: Fact | None


def aligned(wanted: PortState, now: PortState) -> Places:
    """Where the devices of `wanted` are now, one by one; a negative ifindex for one that is gone."""
    matched = pairs(wanted.uppers, now.uppers, wanted.ifindex, now.ifindex)
    return (
        Place(now.ifindex, now.ifname),
        *(
            Place(one.now.ifindex, one.now.name) if one.now else Place(-one.was.ifindex, "\0gone")
            for one in matched
        ),
    )


def lacking(wanted: PortState, now: PortState) -> list[Lack]:
    """What of `wanted` is not in `now`, leaving out what its own lifetime has ended.

    IPv6 temporary addresses are left out: the kernel makes new ones, with other numbers. After a
    rename labels are not compared: the kernel numbers them anew (inetdev_changename()). What was
    on an upper that is gone is left out, too: the upper itself is missed.
    """
    elapsed = int(now.taken - wanted.taken)
    places = aligned(wanted, now)
    label = all(was.name == is_now.name for was, is_now in zip(wanted.places, places, strict=True))
    have = {_hashable(identity(fact, places, label=label)) for fact in now.facts}
    by_key = {key(fact, places): fact for fact in now.facts}
    over = [fact for fact in wanted.facts if is_temporary(fact) or expired(fact, elapsed)]
    gone = {_target(fact) for fact in over if fact.kind is Kind.ADDRESS}
    left = _departed(wanted, places)
    found = []
    for fact in wanted.facts:
        if fact in over or (derived(fact) and _went_with(fact, gone)):
            continue
        if left and (on := devices_of(fact)) and on <= left:
            continue
        if _hashable(identity(fact, wanted.places, label=label)) not in have:
            found.append(Lack(fact, by_key.get(key(fact, wanted.places))))
    return found


def _departed(wanted: PortState, places: Places) -> set[int]:
    """The ifindexes that uppers had which are gone."""
    both = zip(wanted.places, places, strict=True)
    return {was.ifindex for was, is_now in both if is_now.ifindex < 0}


def _target(fact: Fact) -> bytes | None:
    """The address of an address, the destination of a route."""
    if fact.kind is Kind.ADDRESS:
        attrs = rt.split(fact.body, rt.IFADDR.size)
        return rt.value(attrs, rt.IFA_LOCAL) or rt.value(attrs, rt.IFA_ADDRESS)
    return rt.value(rt.split(fact.body, rt.RTMSG.size), rt.RTA_DST)


def _went_with(route: Fact, gone: Collection[bytes | None]) -> bool:
    """Whether a derived route went with an address: its own, or (broadcast) perhaps with one."""
    if _is_local(route):
        return _target(route) in gone
    return bool(gone)


def surplus(wanted: PortState, now: PortState) -> list[Fact]:
    """What is there now and was not, and is no other form of what was: somebody else made it.

    Left out is what comes and goes by itself: see passing().
    """
    places = aligned(wanted, now)
    label = wanted.ifname == now.ifname
    had = {_hashable(identity(fact, wanted.places, label=label)) for fact in wanted.facts}
    missed = {key(lack.fact, wanted.places) for lack in lacking(wanted, now)}
    return [
        fact
        for fact in now.facts
        if not passing(fact)
        and key(fact, places) not in missed
        and _hashable(identity(fact, places, label=label)) not in had
    ]


def in_the_way(wanted: PortState, now: PortState, lacks: Sequence[Lack]) -> list[Request]:
    """The requests that remove IPv6 addresses which have to be made again: those which a lacking
    one has to come before (the kernel puts the youngest first, and keep_addr_on_down keeps some of
    them alone), and those it has kept without their local route on a device that is down."""
    missing = {lack.fact for lack in lacks}
    bare = _bare(wanted, now, missing)
    places = aligned(wanted, now)
    there = {_hashable(identity(fact, places)): fact for fact in now.facts}
    found = []
    elder: set[int] = set()
    for fact in reversed(wanted.of(Kind.ADDRESS)):
        if not is_ipv6_address(fact):
            continue
        ordered = not is_link_scope(fact)
        if fact in bare or (ordered and fact not in missing and devices_of(fact) & elder):
            one = there.get(_hashable(identity(fact, wanted.places)))
            found += [Request(rt.RTM_DELADDR, 0, one.body)] if one else []
        if ordered and (fact in missing or fact in bare):
            elder |= devices_of(fact)
    return found


def _bare(wanted: PortState, now: PortState, missing: Collection[Fact]) -> set[Fact]:
    """The IPv6 addresses that are there without the local route they had, on devices that are down:
    where one is up the kernel makes the route by itself (fixup_permanent_addr())."""
    down = {upper.ifindex for upper in now.uppers if not upper.up}
    moved = zip(wanted.places, aligned(wanted, now), strict=True)
    closed = {was.ifindex for was, is_now in moved if is_now.ifindex in down}
    lost = {(_target(fact), *devices_of(fact)) for fact in missing if _is_local(fact)}
    return {
        fact
        for fact in wanted.of(Kind.ADDRESS)
        if is_ipv6_address(fact)
        and fact not in missing
        and devices_of(fact) <= closed
        and (_target(fact), *devices_of(fact)) in lost
    }


def awaited(lacks: Sequence[Lack], now: PortState) -> set[Fact]:
    """The routes among what lacks that the kernel adds when duplicate address detection ends."""
    pending = {_target(fact) for fact in now.facts if is_tentative(fact)}
    return {
        one.fact
        for one in lacks
        if pending
        and derived(one.fact)
        and (not _is_local(one.fact) or _target(one.fact) in pending)
    }


def _is_local(fact: Fact) -> bool:
    """The route of an address of ours."""
    return derived(fact) and bool(rt.RTMSG.unpack_from(fact.body)[7] == rt.RTN_LOCAL)


def strays(wanted: PortState, now: PortState) -> list[tuple[Fact, Request]]:
    """What the kernel has made because links went down and up here, and the requests to remove
    it: connected routes that somebody had deleted from addresses which are as they were, and
    link-local addresses of uppers that had carrier for the moment alone in which a VLAN was up.
    """
    places = aligned(wanted, now)
    back = dict(zip((one.ifindex for one in places), wanted.places, strict=True))
    had = {_hashable(identity(fact, wanted.places)) for fact in wanted.facts}
    off = {u.ifindex for u in wanted.uppers if u.up and not u.carrier}
    off_now = {u.ifindex for u in now.uppers if u.up and not u.carrier}
    found = []
    for fact in now.facts:
        on = {back[index].ifindex if index in back else -1 for index in devices_of(fact)}
        unlinked = on <= off and devices_of(fact) <= off_now
        if _hashable(identity(fact, places)) in had or not on:
            continue
        if fact.kind is Kind.ADDRESS:
            attrs = rt.split(fact.body, rt.IFADDR.size)
            if unlinked and rt.number(attrs, rt.IFA_PROTO) == rt.IFAPROT_KERNEL_LL:
                found.append((fact, Request(rt.RTM_DELADDR, 0, fact.body)))
        elif fact.kind is Kind.ROUTE and by_kernel(fact):
            again = Fact(fact.kind, rt.route(fact.body, places, wanted.places, 0) or fact.body)
            own = not derived(fact) and connected(again, wanted)
            if own or (unlinked and rt.is_ipv6(fact.body)):
                found.append((fact, Request(rt.RTM_DELROUTE, 0, fact.body)))
    return found


def passing(fact: Fact) -> bool:
    """What the kernel makes by itself, or because a router or a DHCP server said so."""
    if fact.kind is Kind.ADDRESS:
        attrs = rt.split(fact.body, rt.IFADDR.size)
        by_kernel = rt.number(attrs, rt.IFA_PROTO) in rt.IFAPROT_OF_KERNEL
        of_router = rt.is_ipv6(fact.body) and bool(address_flags(fact) & rt.IFA_F_MANAGETEMPADDR)
        return by_kernel or of_router or is_temporary(fact)
    if fact.kind is Kind.ROUTE:
        return rt.RTMSG.unpack_from(fact.body)[5] in rt.RTPROT_PASSING
    return False


def _hashable(parts: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(tuple(p) if isinstance(p, list) else p for p in parts)


def requests(lack: Lack, wanted: PortState, now: Places, elapsed: int) -> list[Request]:
    """The requests that bring a lacking fact back; none for what only somebody else may change.

    An IPv6 address comes without duplicate address detection, which would keep live connections
    waiting for a second or two, and then gets its own flags (inet6_addr_modify() starts no DAD).
    """
    fact, instead = lack
    was = wanted.places
    flags = NLM_F_CREATE | NLM_F_REPLACE
    if fact.kind is Kind.ADDRESS:
        # One that was tentative has never been used, and stays so where there is no carrier.
        quick = instead is None and not is_tentative(fact)
        return _address_requests(rt.address(fact.body, was, now, elapsed), quick=quick)
    if fact.kind is Kind.NEIGHBOUR:
        return [Request(rt.RTM_NEWNEIGH, flags, rt.neighbour(fact.body, was, now))]
    if fact.kind is Kind.NEXTHOP:
        made = rt.nexthop(fact.body, was, now)
        if instead is None:
            return [Request(rt.RTM_NEWNEXTHOP, NLM_F_CREATE | NLM_F_EXCL, made)]
        return [Request(rt.RTM_NEWNEXTHOP, flags, made)] if _shrunk_group(instead, fact) else []
    again = rt.route(fact.body, was, now, elapsed)
    return [] if again is None else _route_requests(again, {place.ifindex for place in now})


def _address_requests(made: bytes | None, *, quick: bool) -> list[Request]:
    if made is None:
        return []
    flags = NLM_F_CREATE | NLM_F_REPLACE
    requests = [Request(rt.RTM_NEWADDR, flags, made)]
    first = rt.with_address_flags(made, rt.IFA_F_NODAD)
    if quick and rt.is_ipv6(made) and first != made:
        requests.insert(0, Request(rt.RTM_NEWADDR, flags, first))
    return requests


def _shrunk_group(present: Fact, wanted: Fact) -> bool:
    """Whether the group there is ours less some members, as nexthop_flush_dev() leaves it."""
    there, ours = rt.group_members(present.body), rt.group_members(wanted.body)
    return bool(there) and set(there) < set(ours)


def _route_requests(made: bytes, own: Collection[int]) -> list[Request]:
    """IPv4 routes of one prefix and metric keep their order by appending. IPv6 would join an
    appended one to the others as a member, which is right for multipath routes alone: each
    member is made by itself, those on our own devices first: one elsewhere may be there still, or
    have to wait for its port."""
    if not rt.is_ipv6(made):
        return [Request(rt.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, made)]
    members = rt.value(rt.split(made, rt.RTMSG.size), rt.RTA_MULTIPATH)
    if members is None:
        return [Request(rt.RTM_NEWROUTE, NLM_F_CREATE, made)]
    return [
        Request(rt.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, rt.with_hops(made, [hop]))
        for hop in sorted(rt.hops(members), key=lambda hop: hop.ifindex not in own)
    ]


def in_order(lacks: Sequence[Lack]) -> list[Lack]:
    """As they are to be made again: addresses, nexthops before groups, on-link routes before
    those through a gateway (which must be reachable), neighbours.

    IPv6 addresses go backwards: the kernel puts a new one before its elders (of one scope,
    ipv6_link_dev_addr()), and the order takes part in choosing source addresses.
    """
    six = [one for one in lacks if is_ipv6_address(one.fact)]
    rest = [one for one in lacks if not is_ipv6_address(one.fact)]
    return sorted([*reversed(six), *rest], key=lambda one: rank(one.fact))
