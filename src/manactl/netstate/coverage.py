"""Which routes make up a default route, alone or together. Pure.

VPNs install 0.0.0.0/1 and 128.0.0.0/1, or 2000::/3, or a list of everything but private networks,
so that the default route that is there stays as it is.
"""

from __future__ import annotations

import _socket
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from manactl.wire import rtmsg as rt

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
    found = []
    tables: defaultdict[tuple[int, int], list[_Way]] = defaultdict(list)
    for body in routes:
        head = rt.RtMsg.of(body)
        if head.type != rt.RTN_UNICAST or head.family not in _WORLD:
            continue
        if head.dst_len == 0:
            found.append(body)
            continue
        attrs = rt.split(body, rt.RTMSG.size)
        table = rt.number(attrs, rt.RTA_TABLE)
        way = _way(head, rt.value(attrs, rt.RTA_DST) or b"", body)
        if way.start < way.end:
            tables[head.family, head.table if table is None else table].append(way)
    for (family, _), ways in tables.items():
        found += _together(family, ways)
    return found


def _way(head: rt.RtMsg, destination: bytes, body: bytes) -> _Way:
    bits, (low, high) = _BITS[head.family], _WORLD[head.family]
    first = int.from_bytes(destination, "big")
    start, end = max(first, low), min(first + (1 << bits - head.dst_len), high)
    return _Way(head.dst_len, start, end, body)


def _together(family: int, ways: list[_Way]) -> list[bytes]:
    """The widest of these that cover enough, or none when all of them do not."""
    low, high = _WORLD[family]
    left = 3 * (high - low) // 4
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
