"""Default routes of other netdevs that lead over a port all the same: of routes with SRv6, RPL or IOAM
encapsulation the kernel looks up the way to the first segment, whatever device they name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from manactl.netstate import coverage, snapshot
from manactl.netstate.snapshot import Fact, Kind
from manactl.wire import rtmsg as rt

_WIDE = 4  # bits; a default route, or a few that make one up together


class Ways(Protocol):
    """What is asked of rtnetlink."""

    def routes(self) -> Sequence[bytes]: ...
    def nexthops(self) -> list[bytes]: ...
    def leaves_by(self, address: bytes) -> set[int]: ...


def defaults(ifindexes: Collection[int], names: Mapping[int, str], rtnl: Ways) -> tuple[str, ...]:
    """Those that do, as iproute2 shows them, but for those of these interfaces themselves."""
    hops = _segments(rtnl.nexthops())
    through = []
    for body in [one for one in rtnl.routes() if one[1] <= _WIDE]:  # there may be many others
        fact = Fact(Kind.ROUTE, body)
        segments = rt.route_segments(body) or hops.get(snapshot.nexthop_of(fact) or 0, [])
        if not segments or not snapshot.devices_of(fact).isdisjoint(ifindexes):
            continue
        if any(not rtnl.leaves_by(to).isdisjoint(ifindexes) for to in segments):
            through.append(body)
    found = coverage.defaults(through)
    return tuple(snapshot.describe(Fact(Kind.ROUTE, body), names) for body in found)


def _segments(nexthops: Sequence[bytes]) -> dict[int, list[bytes]]:
    """The first segments of nexthop objects that have any, and of groups of such, by their ids."""
    by_id = {snapshot.nexthop_id(Fact(Kind.NEXTHOP, body)): body for body in nexthops}
    found = {number: to for number, body in by_id.items() if (to := rt.nexthop_segments(body))}
    if not found:
        return {}
    groups = {
        number: [to for member in rt.group_members(body) for to in found.get(member, ())]
        for number, body in by_id.items()
    }
    return found | {number: ends for number, ends in groups.items() if ends}
