"""Two states of a port compared, and the requests that make one of them true again. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from manactl.nl import rtmsg as rt
from manactl.nl.rtmsg import Place
from manactl.nl.socket import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from manactl.snapshot import (
    Fact,
    Kind,
    PortState,
    Request,
    derived,
    expired,
    is_ipv6_address,
    is_temporary,
    rank,
)


def key(fact: Fact, place: Place) -> tuple[object, ...]:
    """What makes this fact the same thing as another: at most one of a key exists at a time
    (routes of one prefix and metric excepted, which may differ in their nexthops)."""
    body = fact.body
    if fact.kind is Kind.ADDRESS:
        family, length, _, _, _ = rt.IFADDR.unpack_from(body)
        attrs = rt.split(body, rt.IFADDR.size)
        return (fact.kind, family, length, *(rt.value(attrs, a) for a in (1, 2)))
    if fact.kind is Kind.NEXTHOP:
        return (fact.kind, rt.number(rt.split(body, rt.NHMSG.size), rt.NHA_ID))
    if fact.kind is Kind.NEIGHBOUR:
        family, _, _, index, _, flags, _ = rt.NDMSG.unpack_from(body)
        dst = rt.value(rt.split(body, rt.NDMSG.size), rt.NDA_DST)
        return (fact.kind, family, index == place.ifindex, flags & rt.NTF_PROXY, dst)
    head = rt.RTMSG.unpack_from(body)
    attrs = rt.split(body, rt.RTMSG.size)
    wanted = (rt.RTA_DST, 2, rt.RTA_PRIORITY, rt.RTA_TABLE)  # 2: RTA_SRC
    return (fact.kind, *head[:4], *(rt.value(attrs, a) for a in wanted))


def identity(fact: Fact, place: Place, *, label: bool = True) -> tuple[object, ...]:
    """All of a fact that is configuration; equal for equal facts whatever ifindex and name.

    Lifetimes count as "forever" or "limited" alone.
    """
    body = fact.body
    if fact.kind is Kind.ADDRESS:
        made = rt.address(body, place, rt.ANYWHERE, 0) or b""
        attrs = rt.split(made, rt.IFADDR.size)
        times = rt.value(attrs, rt.IFA_CACHEINFO) or b"\xff" * 8
        left_out = (rt.IFA_CACHEINFO,) if label else (rt.IFA_CACHEINFO, rt.IFA_LABEL)
        rest = [a for a in attrs if a.type not in left_out]
        return (*rt.IFADDR.unpack_from(made), times[4:8] == b"\xff" * 4, *_ordered(rest))
    if fact.kind is Kind.NEXTHOP:
        made = rt.nexthop(body, place, rt.ANYWHERE)
        return (*rt.NHMSG.unpack_from(made), *_ordered(_sorted_group(made)))
    if fact.kind is Kind.NEIGHBOUR:
        made = rt.neighbour(body, place, rt.ANYWHERE)
        return (*rt.NDMSG.unpack_from(made), *_ordered(rt.split(made, rt.NDMSG.size)))
    made = rt.route(body, place, rt.ANYWHERE, 0) or b""
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


def lacking(wanted: PortState, now: PortState) -> list[Lack]:
    """What of `wanted` is not in `now`, leaving out what its own lifetime has ended.

    IPv6 temporary addresses are left out: the kernel makes new ones, with other numbers. After a
    rename labels are not compared: the kernel numbers them anew (inetdev_changename()).
    """
    elapsed = int(now.taken - wanted.taken)
    label = wanted.ifname == now.ifname
    have = {_hashable(identity(fact, now.place, label=label)) for fact in now.facts}
    by_key = {key(fact, now.place): fact for fact in now.facts}
    over = [fact for fact in wanted.facts if is_temporary(fact) or expired(fact, wanted, elapsed)]
    gone = {_target(fact) for fact in over if fact.kind is Kind.ADDRESS}
    found = []
    for fact in wanted.facts:
        if fact in over or (derived(fact) and _went_with(fact, gone)):
            continue
        if _hashable(identity(fact, wanted.place, label=label)) not in have:
            found.append(Lack(fact, by_key.get(key(fact, wanted.place))))
    return found


def _target(fact: Fact) -> bytes | None:
    """The address of an address, the destination of a route."""
    if fact.kind is Kind.ADDRESS:
        attrs = rt.split(fact.body, rt.IFADDR.size)
        return rt.value(attrs, rt.IFA_LOCAL) or rt.value(attrs, rt.IFA_ADDRESS)
    return rt.value(rt.split(fact.body, rt.RTMSG.size), rt.RTA_DST)


def _went_with(route: Fact, gone: Collection[bytes | None]) -> bool:
    """Whether a derived route went with an address: its own, or (broadcast) perhaps with one."""
    if rt.RTMSG.unpack_from(route.body)[7] == rt.RTN_LOCAL:
        return _target(route) in gone
    return bool(gone)


def surplus(wanted: PortState, now: PortState) -> list[Fact]:
    """What is there now and was not: nobody here made it, so nobody here removes it."""
    had = {key(fact, wanted.place) for fact in wanted.facts}
    return [f for f in now.facts if key(f, now.place) not in had and not is_temporary(f)]


def _hashable(parts: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(tuple(p) if isinstance(p, list) else p for p in parts)


def requests(lack: Lack, wanted: PortState, now: Place, elapsed: int) -> list[Request]:
    """The requests that bring a lacking fact back; none for what only somebody else may change.

    An IPv6 address comes without duplicate address detection, which would keep live connections
    waiting for a second or two, and then gets its own flags (inet6_addr_modify() starts no DAD).
    """
    fact, instead = lack
    was = wanted.place
    flags = NLM_F_CREATE | NLM_F_REPLACE
    if fact.kind is Kind.ADDRESS:
        return _address_requests(rt.address(fact.body, was, now, elapsed), fresh=instead is None)
    if fact.kind is Kind.NEIGHBOUR:
        return [Request(rt.RTM_NEWNEIGH, flags, rt.neighbour(fact.body, was, now))]
    if fact.kind is Kind.NEXTHOP:
        made = rt.nexthop(fact.body, was, now)
        if instead is None:
            return [Request(rt.RTM_NEWNEXTHOP, NLM_F_CREATE | NLM_F_EXCL, made)]
        return [Request(rt.RTM_NEWNEXTHOP, flags, made)] if _shrunk_group(instead, fact) else []
    again = rt.route(fact.body, was, now, elapsed)
    return [] if again is None else _route_requests(again, now.ifindex)


def _address_requests(made: bytes | None, *, fresh: bool) -> list[Request]:
    if made is None:
        return []
    flags = NLM_F_CREATE | NLM_F_REPLACE
    requests = [Request(rt.RTM_NEWADDR, flags, made)]
    quick = rt.with_address_flags(made, rt.IFA_F_NODAD)
    if fresh and rt.is_ipv6(made) and quick != made:
        requests.insert(0, Request(rt.RTM_NEWADDR, flags, quick))
    return requests


def _shrunk_group(present: Fact, wanted: Fact) -> bool:
    """Whether the group there is ours less some members, as nexthop_flush_dev() leaves it."""
    there, ours = rt.group_members(present.body), rt.group_members(wanted.body)
    return bool(there) and set(there) < set(ours)


def _route_requests(made: bytes, ifindex: int) -> list[Request]:
    """IPv4 routes of one prefix and metric keep their order by appending. IPv6 would join an
    appended one to the others as a member, which is right for multipath routes alone: each
    member here is made by itself, so that members elsewhere, whoever made them, stay."""
    if not rt.is_ipv6(made):
        return [Request(rt.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, made)]
    members = rt.value(rt.split(made, rt.RTMSG.size), rt.RTA_MULTIPATH)
    if members is None:
        return [Request(rt.RTM_NEWROUTE, NLM_F_CREATE, made)]
    return [
        Request(rt.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, rt.with_hops(made, [hop]))
        for hop in rt.hops(members)
        if hop.ifindex == ifindex
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
