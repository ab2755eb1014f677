"""Which routes make up a default route, alone or together. Pure.

VPNs install 0.0.0.0/1 and 128.0.0.0/1, or 2000::/3, or a list of everything but private networks,
so that the default route that is there stays as it is.
"""

from __future__ import annotations

import _socket
from collections import Counter, defaultdict
from collections.abc import Iterable

from manactl.model.named_tuple import NamedTuple
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import as_int

# Where others are: of IPv4 all but multicast and what is reserved, of IPv6 the global addresses.
_WORLD = {
    _socket.AF_INET: (0, 0xE0000000),
    _socket.AF_INET6: (0x2 << 124, 0x4 << 124),
}
_BITS = {_socket.AF_INET: 32, _socket.AF_INET6: 128}


class _Way(NamedTuple):
    """A unicast route, and the addresses of the world that it leads to."""

    length: int
    start: int
    end: int
    body: bytes


def defaults(routes: Iterable[bytes]) -> list[bytes]:
    """Those of `routes` that go to everywhere, and those that together do, as far as three quarters
    of the world are: of each table, and of these the widest that are enough."""
    routes = list(routes)
    heads = Counter(body[: rt.RTMSG.size] for body in routes)
    there = {head: rt.RtMsg.of(head) for head in heads}
    unicast = {
        raw: head
        for raw, head in there.items()
        if head.type == rt.RTN_UNICAST and head.family in _WORLD
    }
    room = dict.fromkeys(_WORLD, 0)  # addresses that all of them lead to, as if none lay in another
    for raw, head in unicast.items():
        room[head.family] += heads[raw] << (_BITS[head.family] - head.dst_len)
    # A full table of small networks need not be gone through one by one.
    looked_at = {
        raw: head
        for raw, head in unicast.items()
        if head.dst_len == 0 or room[head.family] >= _enough(head.family)
    }
    found = []
    tables: defaultdict[tuple[int, int], list[_Way]] = defaultdict(list)
    for body in routes:
        head_of = looked_at.get(body[: rt.RTMSG.size])
        if head_of is None:
            continue
        if head_of.dst_len == 0:
            found.append(body)
            continue
        rest, _, dst = rt.Shape.of(body)
        way = _way(head_of, dst, body)
        if way.start < way.end:
            table = rt.by_type(rest, rt.RTMSG.size).get(rt.RTA_TABLE)
            number = head_of.table if table is None else as_int(table)
            tables[head_of.family, number].append(way)
    for (family, _), ways in tables.items():
        found += _together(family, ways)
    return found


def _enough(family: int) -> int:
    """Three quarters of the world."""
    low, high = _WORLD[family]
    return 3 * (high - low) // 4


def _way(head: rt.RtMsg, destination: bytes, body: bytes) -> _Way:
    bits, (low, high) = _BITS[head.family], _WORLD[head.family]
    first = int.from_bytes(destination, "big")
    start, end = max(first, low), min(first + (1 << bits - head.dst_len), high)
    return _Way(head.dst_len, start, end, body)


def _together(family: int, ways: list[_Way]) -> list[bytes]:
    """The widest of these that cover enough, or none when all of them do not."""
    left = _enough(family)
    outer: list[_Way] = []
    for way in sorted(ways, key=lambda way: (way.start, way.length)):
        # Networks lie in each other or apart, and a wider one comes before.
        if not outer or way.start >= outer[-1].end:
            outer.append(way)
    taken = []
    for way in sorted(outer, key=lambda way: way.length):
        taken.append(way.body)
        left -= way.end - way.start
        if left <= 0:
            return taken
    return []
