"""Addresses for a time that a network manager has got others for. Pure."""

from __future__ import annotations

from manactl.netstate import snapshot
from manactl.netstate.snapshot import Fact, Kind, PortState
from manactl.wire import rtmsg as rt


def replaced(was: PortState, now: PortState) -> list[Fact]:
    """IPv4 addresses with a lifetime that are gone, where another one with a lifetime has come, and
    the routes from them: the server may have given the old one to another host by now. `now` is
    what is there once the manager is done."""
    had, have = (_addresses(state) for state in (was, now))
    came = [fact for raw, fact in have.items() if raw not in had and _is_lease(fact)]
    gone = {raw: fact for raw, fact in had.items() if raw not in have and _is_lease(fact)}
    if not came or not gone:
        return []
    return [
        fact
        for fact in was.facts
        if fact in gone.values()
        or (fact.kind is Kind.ROUTE and not gone.keys().isdisjoint(ends(fact)))
    ]


def _addresses(state: PortState) -> dict[bytes, Fact]:
    """The port's own by their bytes."""
    return {
        raw: fact
        for fact in state.own
        if fact.kind is Kind.ADDRESS and (raw := snapshot.target(fact)) is not None
    }


def _is_lease(fact: Fact) -> bool:
    return not rt.is_ipv6(fact.body) and rt.address_is_limited(fact.body)


def ends(route: Fact) -> tuple[bytes | None, ...]:
    """The address that a route is from, and of one of the kernel's own the one that it is for."""
    source = rt.value(rt.split(route.body, rt.RTMSG.size), rt.RTA_PREFSRC)
    return (source, snapshot.target(route) if snapshot.derived(route) else None)
