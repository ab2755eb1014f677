"""What nobody but its maker can put back once the kernel has dropped it. Pure.

Such a fact is told before the claim and listed at release. It is no residue: no second attempt
brings it, so it keeps no journal open.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable

from manactl.model.named_tuple import NamedTuple
from manactl.netstate import rows, snapshot, uppers
from manactl.netstate.rows import Swap
from manactl.netstate.snapshot import Fact, Kind, PortState, devices_of, nexthop_id
from manactl.wire import rtmsg as rt

# rtnetlink.h, and FRR's rt_netlink.h for those that it has no names for: protocols of programs that
# watch the kernel and make their objects again themselves.
_DAEMONS = frozenset({
    8, 10, 11, 12, 13, 14, 15,  # gated, mrt, zebra, bird, dnrouted, xorp, ntk
    17, 18, 42, 84, 99,  # mrouted, keepalived, babel, ovn, openr
    186, 187, 188, 189,  # bgp, isis, ospf, rip
    191, 192, 193, 194, 195,  # FRR's: nhrp, eigrp, ldp, sharp, pbr
    196, 197, 198,  # staticd, openfabric, srte
})  # fmt: skip
_NO_SUBNET_ROUTER = 127  # from this length on (addrconf_join_anycast())


class Cause(enum.StrEnum):
    """Why it cannot be restored."""

    ANYCAST = "anycast"  # a program has joined it (IPV6_JOIN_ANYCAST); a request cannot
    BPF = "bpf"  # the kernel shows the name of a BPF program, and wants its descriptor
    NEXTHOP = "nexthop"  # it goes by a nexthop that is lost
    JOINED = "joined"  # the kernel has kept the group of an autojoin address, not the address
    ORDER = "order"  # the route or IPv4 address is there, after another that it came before
    NOT_KEPT = "not-kept"  # of a netdev that was re-created
    CHANGED = "changed"  # a setting of the netdev, by somebody or by a move to a netns and back
    MANAGER = "manager"  # what a network manager has not done again
    REMOVED = "removed"  # an address that somebody has removed on purpose
    TAKEN_OVER = "taken-over"  # a routing daemon has put something else in its place


class Loss(NamedTuple):
    """A fact that is lost, or its place. `instead` is what a daemon has put there, or what
    comes first now; `nexthop` the id of the lost nexthop that it goes by."""

    cause: Cause
    fact: Fact
    instead: Fact | None = None
    nexthop: int | None = None


def known(state: PortState) -> dict[Fact, Loss]:
    """The facts of a state that are lost when the kernel drops them."""
    found = {fact: Loss(Cause.BPF, fact) for fact in state.that(_has_bpf)}
    found |= {fact: Loss(Cause.ANYCAST, fact) for fact in _joined_by_programs(state)}
    gone = {nexthop_id(fact) for fact in found if fact.kind is Kind.NEXTHOP}
    if gone:
        found |= _by_nexthop(state, gone)
    return found


def _has_bpf(fact: Fact) -> bool:
    if fact.kind is Kind.ROUTE:
        return rt.route_has_bpf(fact.rest)
    return fact.kind is Kind.NEXTHOP and rt.nexthop_has_bpf(fact.body)


def _by_nexthop(state: PortState, gone: set[int]) -> dict[Fact, Loss]:
    """What goes by one of these nexthops, or by a group that has one as a member."""
    found = {}
    for group in state.of(Kind.NEXTHOP):
        if lost := gone.intersection(rt.group_members(group.body)):
            found[group] = Loss(Cause.NEXTHOP, group, nexthop=min(lost))
    gone = gone | {nexthop_id(group) for group in found}
    for route in state.of(Kind.ROUTE):
        if (by := snapshot.nexthop_of(route)) in gone:
            found[route] = Loss(Cause.NEXTHOP, route, nexthop=by)
    return found


def _joined_by_programs(state: PortState) -> Iterable[Fact]:
    """Anycast routes but for the subnet-router ones, which the kernel makes where it forwards."""
    routes = state.that(is_anycast)
    if not routes:
        return []
    ours = {net for fact in state.of(Kind.ADDRESS) for net in _subnet_router(fact)}
    return [fact for fact in routes if (snapshot.target(fact), *devices_of(fact)) not in ours]


def is_anycast(fact: Fact) -> bool:
    """An IPv6 anycast route that the kernel has made."""
    return (
        snapshot.by_kernel(fact)
        and snapshot.is_ipv6(fact)
        and rt.RtMsg.of(fact.body).type == rt.RTN_ANYCAST
    )


def _subnet_router(address: Fact) -> list[tuple[bytes | None, int]]:
    head = rt.IfAddrMsg.of(address.body)
    if not snapshot.is_ipv6(address) or head.prefixlen >= _NO_SUBNET_ROUTER:
        return []
    bits = 128 - head.prefixlen
    own = int.from_bytes(snapshot.target(address) or b"", "big")
    return [((own >> bits << bits).to_bytes(16, "big"), head.ifindex)]


def is_autojoin(fact: Fact) -> bool:
    """An IPv6 group address that was added with `autojoin`."""
    flags = snapshot.address_flags(fact) if snapshot.is_ipv6_address(fact) else 0
    return bool(flags & rt.IFA_F_MCAUTOJOIN)


def is_of_daemon(fact: Fact) -> bool:
    """A route or a nexthop that a routing daemon has made."""
    if fact.kind is Kind.ROUTE:
        return rt.RtMsg.of(fact.body).protocol in _DAEMONS
    return fact.kind is Kind.NEXTHOP and rt.NhMsg.of(fact.body).protocol in _DAEMONS


# --- what the kernel drops ------------------------------------------------------------------


def gone(state: PortState) -> tuple[set[int], set[int]]:
    """The devices that the kernel closes with the port, itself included, and those on them that
    lose their carrier alone."""
    closed: set[int] = {state.ifindex}
    silent: set[int] = set()
    for upper in state.uppers:  # from the bottom up
        if upper.lower in closed and (upper.follows or upper.kind == uppers.NETVSC):
            closed.add(upper.ifindex)
        elif upper.lower in closed | silent and upper.kind in uppers.LINKED:
            silent.add(upper.ifindex)
    return closed, silent


def dropped(state: PortState) -> list[Fact]:
    """What the kernel forgets when the port goes down, but for routes that are part of an address.

    A device that is closed keeps its IPv4 addresses alone (fib_netdev_event() takes only their
    routes). One that loses its carrier loses its nexthop objects (nexthop_flush_dev()).
    """
    closed, silent = gone(state)
    hops = state.of(Kind.NEXTHOP)
    ids = {nexthop_id(fact) for fact in hops if devices_of(fact) & (closed | silent)}
    # A group goes with its last member.
    members = {nexthop_id(fact): set(rt.group_members(fact.body)) for fact in hops}
    empty = {group for group, all_of in members.items() if all_of and all_of <= ids}
    return state.that(lambda f: not snapshot.derived(f) and _goes(f, closed, ids, empty))


def _goes(
    fact: Fact, closed: Collection[int], ids: Collection[int], empty: Collection[int]
) -> bool:
    devices = devices_of(fact)
    if fact.kind is Kind.ADDRESS:
        return snapshot.is_ipv6(fact) and not devices.isdisjoint(closed)
    if fact.kind is Kind.NEXTHOP:
        members = rt.group_members(fact.body)
        return nexthop_id(fact) in ids or any(member in ids for member in members)
    if fact.kind is Kind.ROUTE and (by := snapshot.nexthop_of(fact)):
        return by in ids or by in empty
    if fact.kind is Kind.ROUTE and len(devices) > 1:
        return devices <= set(closed)  # a multipath route only loses a way for a while
    return not devices.isdisjoint(closed)


def coming(state: PortState) -> list[Loss]:
    """What is lost when the port goes down now."""
    closed, _ = gone(state)
    found = known(state)
    goes = {*dropped(state)} if found else set()
    facts = [
        loss
        for fact, loss in found.items()
        if fact in goes or (snapshot.derived(fact) and devices_of(fact) <= closed)
    ]
    return facts + [of_order(swap) for swap in rows.unkept(state.rows, closed)]


def of_order(swap: Swap) -> Loss:
    return Loss(Cause.ORDER, swap.first.fact, swap.then.fact)


def autojoined(state: PortState) -> tuple[Fact, ...]:
    """The autojoin addresses that the kernel would drop and go on being a member for."""
    closed, _ = gone(state)
    return tuple(fact for fact in state.that(is_autojoin) if devices_of(fact) <= closed)
