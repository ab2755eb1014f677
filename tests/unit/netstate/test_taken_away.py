"""Addresses that somebody has taken from a netdev that is down: told from those that all went."""

from __future__ import annotations

from dataclasses import replace

import pytest

from manactl.netstate import taken_away
from manactl.netstate.link_settings import LinkSettings
from manactl.netstate.snapshot import Fact, PortState
from manactl.wire import rtmsg as rt
from tests.unit.fakes import PORT, address, route
from tests.unit.netstate.test_leases import sourced

FIRST, SECOND = address("10.9.0.2", 24), address("192.0.2.77", 32)
LEASE = address("10.9.0.100", 24, valid=900)
SIX, OTHER_SIX = address("2001:db8::2", 64), address("2001:db8:1::2", 64)
LINK_LOCAL = address("fe80::1", 64)
KEEPS = LinkSettings(sysctls={("net/ipv6/conf", "keep_addr_on_down"): "1"})


def state(*facts: Fact, link: LinkSettings | None = None) -> PortState:
    return PortState(PORT, 3, "eth1", True, True, 1000.0, facts, link=link)


def found(
    was: PortState, *left: Fact, netdev: str = "eth1", drops: tuple[str, ...] = ()
) -> list[Fact]:
    return taken_away.found(was, state(*left), {netdev: drops})


def test_one_of_several_was_meant() -> None:
    assert found(state(FIRST, SECOND), FIRST) == [SECOND]
    assert found(state(FIRST, LEASE), LEASE) == [FIRST]
    assert found(state(FIRST, SECOND), FIRST, SECOND) == []


@pytest.mark.parametrize(
    ("was", "left", "why"),
    [
        ((FIRST, SECOND), (), "all are gone: somebody has flushed them"),
        ((FIRST,), (), "it was the only one"),
        ((FIRST, LEASE), (FIRST,), "its lease has ended"),
        ((FIRST, SIX), (SIX,), "that is another family"),
        ((FIRST, SECOND), (address("10.9.0.2", 24, 4),), "that is another netdev"),
        ((FIRST, SECOND), (address("10.9.0.2", 25),), "that is another address"),
    ],
)
def test_else_it_comes_back(was: tuple[Fact, ...], left: tuple[Fact, ...], why: str) -> None:
    assert found(state(*was), *left) == [], why


def test_of_a_netdev_that_its_manager_kept_nothing_is_known() -> None:
    assert found(state(FIRST, SECOND), FIRST, netdev="eth2") == []


def test_a_netdev_that_was_re_created_shows_nothing() -> None:
    """Somebody has set one of its addresses again; the others went with the old netdev."""
    was = state(FIRST, SECOND)
    now = replace(state(address("10.9.0.2", 24, 9)), ifindex=9)
    assert taken_away.found(was, now, {"eth1": ()}) == []


@pytest.mark.parametrize(("promotes", "meant"), [("1", True), ("0", False), (None, False)])
def test_the_kernel_removes_secondary_addresses_with_their_primary(
    promotes: str | None, meant: bool
) -> None:
    """The primary one goes with its lease, or its manager drops it."""
    second = address("10.9.0.3", 24, flags=0x01)
    sysctls = {} if promotes is None else {("net/ipv4/conf", "promote_secondaries"): promotes}
    for first, drops in ((LEASE, ()), (FIRST, ("10.9.0.2/24",))):
        was = state(first, second, SECOND, link=LinkSettings(sysctls=sysctls))
        assert found(was, SECOND, drops=drops) == ([second] if meant else [])
        assert found(was, first, SECOND, drops=drops) == [second], "its primary is there still"


def test_what_its_manager_drops_itself_shows_nothing() -> None:
    third = address("192.0.2.78", 32)
    was = state(FIRST, SECOND, third)
    assert found(was, SECOND, drops=("10.9.0.2/24",)) == [third]
    assert found(was, drops=("10.9.0.2/24",)) == []
    assert found(was, FIRST, drops=("10.9.0.2/24",)) == [], "nothing of somebody's own is left"


@pytest.mark.parametrize(("value", "kept"), [("1", True), ("0", False), ("-1", False), ("", False)])
def test_ipv6_addresses_only_where_the_kernel_keeps_them(value: str, kept: bool) -> None:
    link = replace(KEEPS, sysctls={("net/ipv6/conf", "keep_addr_on_down"): value})
    was = state(SIX, OTHER_SIX, LINK_LOCAL, link=link)
    assert found(was, SIX, LINK_LOCAL) == ([OTHER_SIX] if kept else [])
    assert found(state(SIX, OTHER_SIX), SIX) == []


def test_a_link_local_address_is_the_kernels() -> None:
    assert found(state(SIX, LINK_LOCAL, link=KEEPS), SIX) == []


def test_its_routes_go_with_it() -> None:
    local = sourced(route("192.0.2.77", 32, table=255, proto=2, kind=rt.RTN_LOCAL), "192.0.2.77")
    by_it = sourced(route("10.77.0.0", 16, via="10.9.0.1"), "192.0.2.77")
    plain = route("10.78.0.0", 16, via="10.9.0.1")
    was = state(FIRST, SECOND, local, by_it, plain)
    assert taken_away.with_routes(was, [SECOND]) == [SECOND, local, by_it]


def test_so_does_the_route_to_its_network_unless_another_is_there_too() -> None:
    """That of IPv6 has no source."""
    near = route("2001:db8:1::", 64, proto=rt.RTPROT_KERNEL, metric=256)
    was = state(SIX, OTHER_SIX, near)
    assert taken_away.with_routes(was, [OTHER_SIX]) == [OTHER_SIX, near]
    assert taken_away.with_routes(was, [SIX]) == [SIX]
    beside = state(SIX, OTHER_SIX, address("2001:db8:1::3", 64), near)
    assert taken_away.with_routes(beside, [OTHER_SIX]) == [OTHER_SIX]


def test_what_is_there_again_is_not_absent() -> None:
    was = state(FIRST, SECOND)
    assert taken_away.absent([FIRST, SECOND], was, state(SECOND)) == [FIRST]


@pytest.mark.wording
def test_the_line_has_the_command_that_sets_it() -> None:
    labelled = address("10.0.0.3", 24, name="eth1:x", flags=0x200)
    assert taken_away.text(labelled, state()) == (
        "inet 10.0.0.3/24 noprefixroute label eth1:x dev eth1 (somebody removed it while the port "
        "was claimed: left out; to set it: ip address add 10.0.0.3/24 noprefixroute label eth1:x "
        "dev eth1)"
    )
