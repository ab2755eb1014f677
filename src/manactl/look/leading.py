"""To where routes lead by some interfaces. What goes to none of these networks is sent by others,
whatever the rules ask: a look-up ends at a route (fib_table_lookup(), fib6_table_lookup()), or at
the interface that a socket is bound to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from manactl.model.named_tuple import NamedTuple
from manactl.netstate import snapshot
from manactl.netstate.snapshot import Fact, Kind
from manactl.wire import rtmsg as rt

Net = tuple[bytes, int]  # address and length of the prefix

_TO_TABLE = 1  # FR_ACT_TO_TBL
# What a rule has that every packet follows. The length up to which routes are passed over is given
# with each, and is none of them.
_FOR_ALL = frozenset({rt.RTA_TABLE, rt.FRA_PRIORITY, rt.FRA_PROTOCOL, rt.FRA_SUPPRESS_PREFIXLEN})
_NOTHING_PASSED_OVER = b"\xff" * 4
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
    interface."""

    nets: AbstractSet[Net]
    own: AbstractSet[Net]


class _Shape(NamedTuple):
    """What is known of routes but for the destination."""

    nowhere: bytes  # the address of a default route
    length: int
    here: bool  # a local route
    leads: bool
    table: int


def by(ifindexes: Collection[int], rtnl: Ways) -> Leading | None:
    """None where a nexthop object may have segments."""
    objects = rtnl.nexthops()
    if any(map(rt.has_segments, objects)):
        return None
    hops = snapshot.nexthop_devices(Fact(Kind.NEXTHOP, body) for body in objects)
    nets: set[Net] = set()
    own: set[Net] = set()
    others: set[Net] = set()  # of the local routes' table
    for shapes, places in rt.per_shape(rtnl.routes(), lambda rest: _shape(rest, ifindexes, hops)):
        for shape, to in zip(shapes, places, strict=True):
            if shape.leads:
                nets.add((to or shape.nowhere, shape.length))
            if shape.table == rt.RT_TABLE_LOCAL:
                (own if shape.here else others).add((to or shape.nowhere, shape.length))
    sizes = _sizes_of_local_first(rtnl.rules())
    return Leading(
        nets,
        {net for net in own if len(net[0]) in sizes and not any(_within(o, net) for o in others)},
    )


def _shape(rest: bytes, ifindexes: Collection[int], hops: Mapping[int, AbstractSet[int]]) -> _Shape:
    head = rt.RtMsg.of(rest)
    here = head.type == rt.RTN_LOCAL
    named = snapshot.out_of(Fact(Kind.ROUTE, rest, rest), hops)
    leads = not here and (not named.isdisjoint(ifindexes) or rt.has_segments(rest))
    table = rt.number(rt.split(rest, rt.RTMSG.size), rt.RTA_TABLE) or head.table
    return _Shape(bytes(16 if rt.is_ipv6(rest) else 4), head.dst_len, here, leads, table)


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


def _within(one: Net, other: Net) -> bool:
    same_family, length = len(one[0]) == len(other[0]), other[1]
    return same_family and one[1] >= length and _cut(one, length)[0] == _cut(other, length)[0]
