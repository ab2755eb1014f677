"""Addresses for a time that another has taken the place of, with the routes from them."""

from __future__ import annotations

import socket

import pytest

from manactl.netstate import leases
from manactl.netstate.snapshot import Fact, PortState
from manactl.wire import rtmsg as rt
from tests.unit.fakes import PORT, Attr, address, route

OLD, NEW = address("10.9.0.100", 24, valid=900), address("10.9.0.101", 24, valid=900)
BY_HAND = address("10.9.0.200", 24)
FAR = route("10.77.0.0", 16, via="10.9.0.1", proto=16)


def sourced(fact: Fact, source: str) -> Fact:
    raw = rt.join(b"", [Attr(rt.RTA_PREFSRC, socket.inet_aton(source))])
    return Fact(fact.kind, fact.body + raw)


LOCAL = sourced(route("10.9.0.100", 32, table=255, proto=2, kind=rt.RTN_LOCAL), "10.9.0.100")
LEASED = sourced(FAR, "10.9.0.100")


def state(*facts: Fact) -> PortState:
    return PortState(PORT, 3, "eth1", True, True, 1000.0, facts)


def test_another_lease_takes_the_place_of_the_old_one_and_of_its_routes() -> None:
    was = state(OLD, BY_HAND, LOCAL, FAR, LEASED)
    assert leases.replaced(was, state(NEW, FAR)) == [OLD, LOCAL, LEASED]


@pytest.mark.parametrize(
    ("now", "why"),
    [
        ((OLD, NEW), "it is there still"),
        ((BY_HAND,), "what has come is no lease"),
        ((), "none has come: it is only missing"),
        ((address("2001:db8::7", 64, valid=900),), "that is another family"),
    ],
)
def test_else_it_is_left_to_the_snapshot(now: tuple[Fact, ...], why: str) -> None:
    assert leases.replaced(state(OLD, LEASED), state(*now)) == [], why


def test_what_is_for_ever_is_no_lease() -> None:
    assert leases.replaced(state(BY_HAND), state(NEW)) == []


def test_a_router_may_give_several_addresses_at_a_time() -> None:
    six = address("2001:db8::1", 64, valid=900)
    assert leases.replaced(state(six), state(address("2001:db8::2", 64, valid=900))) == []
