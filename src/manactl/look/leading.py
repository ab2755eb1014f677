"""The networks that routes lead to by some interfaces. Packets to all others leave elsewhere, whatever
the rules ask: a look-up ends at a route (fib_table_lookup(), fib6_table_lookup()), or at the
interface that a socket is bound to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from manactl.model.named_tuple import NamedTuple
from manactl.netstate import snapshot
from manactl.netstate.snapshot import Fact, Kind
from manactl.wire import rtmsg as rt
from manactl.wire.inet_diag import LOOPBACK

Net = tuple[bytes, int]  # address and length of the prefix

_TO_TABLE = 1  # FR_ACT_TO_TBL
# What a rule has that every packet follows. The length up to which routes are passed over is given
# with each, and is none of them.
_FOR_ALL = frozenset({rt.RTA_TABLE, rt.FRA_PRIORITY, rt.FRA_PROTOCOL, rt.FRA_SUPPRESS_PREFIXLEN})
_NOTHING_PASSED_OVER = b"\xff" * 4
# Of IPv6 sockets over IPv4, which take IPv4 routes.
_MAPPED = (bytes(10) + b"\xff\xff" + bytes(4), 96)
_COARSER = ((24, 64), (16, 48), (8, 32), (4, 16), (0, 0))  # bits of IPv4 and IPv6


class Ways(Protocol):
    """What is asked of rtnetlink."""

    def routes(self) -> Sequence[bytes]: ...
    def rules(self) -> list[bytes]: ...
    def nexthops(self) -> list[bytes]: ...


class Leading(NamedTuple):
    """`nets` are the destinations of all routes, of every table, that name one of the interfaces, or
    that go first to a segment, the way to which is another route's. `own` are networks whose
    packets this host takes itself before any other rule is asked, unless the socket is bound to an
    interface; loopback, which is asked for by itself, is not among them."""

    nets: AbstractSet[Net]
    own: AbstractSet[Net]


class _Shape(NamedTuple):
    """What is known of routes but for the destination."""

    nowhere: bytes  # the address of a default route
    length: int
    leads: bool
    own: bool  # a local route of their table, whatever the source and TOS
    beside: bool  # another route of that table


def by(ifindexes: Collection[int], rtnl: Ways) -> Leading | None:
    """None where a nexthop object may have segments."""
    objects = rtnl.nexthops()
    if any(map(rt.has_segments, objects)):
        return None
    hops = snapshot.nexthop_devices(Fact(Kind.NEXTHOP, body) for body in objects)
    nets: set[Net] = set()
    own: set[Net] = set()
    others: set[Net] = {_MAPPED}
    for shapes, places in rt.per_shape(rtnl.routes(), lambda rest: _shape(rest, ifindexes, hops)):
        for shape, to in zip(shapes, places, strict=True):
            if shape.leads:
                nets.add((to or shape.nowhere, shape.length))
            if shape.own:
                own.add((to or shape.nowhere, shape.length))
            elif shape.beside:
                others.add((to or shape.nowhere, shape.length))
    sizes = _sizes_of_local_first(rtnl.rules())
    own = {net for net in own.difference(LOOPBACK) if len(net[0]) in sizes}
    # A longer route of the main table counts, too: until somebody adds a rule, that and the table of
    # local routes are one (fib_new_table(), fib_unmerge()).
    return Leading(nets, own - _around(own, (*others, *nets)))


def _shape(rest: bytes, ifindexes: Collection[int], hops: Mapping[int, AbstractSet[int]]) -> _Shape:
    head = rt.RtMsg.of(rest)
    local = head.type == rt.RTN_LOCAL
    named = snapshot.out_of(Fact(Kind.ROUTE, rest, rest), hops)
    leads = not local and (not named.isdisjoint(ifindexes) or rt.has_segments(rest))
    table = rt.number(rt.split(rest, rt.RTMSG.size), rt.RTA_TABLE) or head.table
    of_local = table == rt.RT_TABLE_LOCAL
    own = local and of_local and not (head.src_len or head.tos)
    nowhere = bytes(16 if rt.is_ipv6(rest) else 4)
    return _Shape(nowhere, head.dst_len, leads, own, of_local and not local)


def _sizes_of_local_first(rules: Iterable[bytes]) -> set[int]:
    """Of which addresses, by their size, the table of local routes is asked before all others, as it
    is unless somebody has moved that rule (fib_default_rules_init(), fib6_rules_net_init())."""
    firsts: dict[bool, bytes] = {}
    for body in rules:  # in the order in which they are asked
        firsts.setdefault(rt.is_ipv6(body), body)
    return {16 if ipv6 else 4 for ipv6, body in firsts.items() if _all_to_local(body)}


def _all_to_local(rule: bytes) -> bool:
    head, attrs = rt.RtMsg.of(rule), rt.split(rule, rt.RTMSG.size)  # struct fib_rule_hdr
    passed_over = rt.value(attrs, rt.FRA_SUPPRESS_PREFIXLEN)
    return (
        (head.dst_len, head.src_len, head.tos, head.type, head.flags) == (0, 0, 0, _TO_TABLE, 0)
        and (rt.number(attrs, rt.RTA_TABLE) or head.table) == rt.RT_TABLE_LOCAL
        and {one.type for one in attrs} <= _FOR_ALL
        and passed_over in (None, _NOTHING_PASSED_OVER)
    )


def coarser(nets: Collection[Net], most: int) -> set[Net]:
    """No more than so many networks (two at least) that all of these are in."""
    found = set(nets)
    for of_ipv4, of_ipv6 in _COARSER:
        if len(found) <= most:
            break
        found = {_cut(net, of_ipv4 if len(net[0]) == 4 else of_ipv6) for net in found}
    return found


def _cut(net: Net, most: int) -> Net:
    address, length = net
    kept, bits = min(length, most), len(address) * 8
    number = int.from_bytes(address, "big") >> (bits - kept) << (bits - kept)
    return number.to_bytes(len(address), "big"), kept


def _around(nets: AbstractSet[Net], others: Iterable[Net]) -> set[Net]:
    """Networks with the lengths of `nets` that any of the others is in, or is equal to."""
    lengths: dict[int, set[int]] = {4: set(), 16: set()}
    for address, length in nets:
        lengths[len(address)].add(length)
    least = {size: min(some, default=129) for size, some in lengths.items()}
    longer = [other for other in others if other[1] >= least[len(other[0])]]  # few of a full table
    return {
        _cut(other, length)
        for other in longer
        for length in lengths[len(other[0])]
        if length <= other[1]
    }
