"""Routes of other netdevs, or of none, that have an address of the port as their source. Pure.

They stay while the port is down, and lose with the address: of IPv6 their source, when it is removed
(fib6_remove_prefsrc()), of IPv4 themselves (fib_sync_down_addr()). An address goes where its netdev
is destroyed, and where release removes it for a moment, so that several come in their order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import islice

from manactl.model.named_tuple import NamedTuple
from manactl.netstate import snapshot
from manactl.netstate.snapshot import Fact, Kind, Request, devices_of, is_ipv6, route_key
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import attr
from manactl.wire.netlink import NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE

_AT_ONCE = 256


def find(
    routes: Iterable[bytes],
    addresses: Collection[bytes],
    own: Collection[int],
    facts: Iterable[Fact] = (),
) -> tuple[Fact, ...]:
    """Those that have one of these addresses as source, and no way by `own`, the netdevs that the
    addresses are on: what has one is among the `facts` of the port, and restored as such. A route
    by a nexthop object may name no device (net.ipv4.nexthop_compat_mode), and an IPv4 one of type
    unreachable never does."""
    if not addresses:
        return ()
    import re  # noqa: PLC0415 - a claim needs it, what only shows does not

    sources = [attr(rt.RTA_PREFSRC, one) for one in addresses]
    marks, heads = re.compile(b"|".join(map(re.escape, sources))), {one[:4] for one in sources}
    found = []
    routes = iter(routes)
    while some := list(islice(routes, _AT_ONCE)):  # which have none at all, as a rule
        joined = b"".join(some)
        if any(head in joined for head in heads):
            found += [Fact(Kind.ROUTE, body) for body in some if marks.search(body)]
    mine = {*facts} if found else set()
    return tuple(
        one
        for one in found
        if source(one) in addresses
        and devices_of(one).isdisjoint(own)
        and one not in mine
        and not rt.RtMsg.of(one.body).flags & rt.RTM_F_CLONED
        and not snapshot.derived(one)
    )


class Lacking(NamedTuple):
    """A route that is not as it was, and the requests that make it so, in their order; none where
    the kernel would take another of its row for it. The first removes it where there are two, and
    `undo` makes it again without a source."""

    fact: Fact
    requests: tuple[Request, ...]
    undo: Request | None = None


def lacking(wanted: Sequence[Fact], now: Iterable[Fact], *, recreated: bool) -> list[Lacking]:
    """Of the wanted routes those that have lost their source, or have gone with it. `now` has all
    routes of their rows. Where the netdev was not `recreated`, a route that has gone was removed by
    somebody, for good."""
    there: dict[snapshot.RouteKey, list[Fact]] = {}
    for fact in now:
        there.setdefault(route_key(fact), []).append(fact)
    found = []
    for fact in wanted:
        row = there.get(route_key(fact), [])
        made = _plain(fact)
        if made in map(_plain, row):
            continue
        bare = [one for one in row if _plain(one) == _without_source(made)]
        if bare and is_ipv6(fact):
            found.append(Lacking(fact, *_with_source(made, bare[0], row)))
        elif recreated and not is_ipv6(fact):
            flags = NLM_F_CREATE | NLM_F_APPEND
            found.append(Lacking(fact, (Request(rt.RTM_NEWROUTE, flags, made),)))
    return found


def orphaned(
    wanted: Iterable[Fact], now: Iterable[Fact], addresses: Collection[bytes | None]
) -> list[Fact]:
    """Of the wanted routes those that have lost a source which is none of these addresses, or have
    gone with it (IPv4). An IPv6 route that is not there at all was removed by somebody."""
    there: dict[snapshot.RouteKey, set[bytes]] = {}
    for fact in now:
        there.setdefault(route_key(fact), set()).add(_plain(fact))
    found = []
    for fact in wanted:
        if source(fact) in addresses:
            continue
        row, made = there.get(route_key(fact), set()), _plain(fact)
        if made not in row and (not is_ipv6(fact) or _without_source(made) in row):
            found.append(fact)
    return found


def _with_source(
    made: bytes, bare: Fact, row: Sequence[Fact]
) -> tuple[tuple[Request, ...], Request | None]:
    """At once where it is alone in its row: of several the kernel replaces the first. One without a
    gateway is not told from the others of its device when it is to be removed (ip6_route_del())."""
    if len(row) == 1:
        return (Request(rt.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, made),), None
    there = [one for one in row if devices_of(one) & devices_of(bare)]
    if len(there) > 1 and rt.value(rt.split(made, rt.RTMSG.size), rt.RTA_GATEWAY) is None:
        return (), None
    flags = NLM_F_CREATE | NLM_F_APPEND
    requests = (Request(rt.RTM_DELROUTE, 0, bare.body), Request(rt.RTM_NEWROUTE, flags, made))
    return requests, Request(rt.RTM_NEWROUTE, flags, _plain(bare))


def source(route: Fact) -> bytes | None:
    """The address that it has as its source."""
    return rt.value(rt.split(route.rest, rt.RTMSG.size), rt.RTA_PREFSRC)


def _plain(route: Fact) -> bytes:
    """What it is, whatever the state of its device is."""
    return rt.route(route.body, (), (), None) or b""


def _without_source(made: bytes) -> bytes:
    attrs = rt.split(made, rt.RTMSG.size)
    return rt.join(made[: rt.RTMSG.size], (one for one in attrs if one.type != rt.RTA_PREFSRC))
