"""Routes of other netdevs whose source is an address of the port, on the running kernel."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from manactl.act import taken_away
from manactl.netstate import snapshot
from manactl.netstate.losses import Cause
from manactl.netstate.snapshot import Kind, PortState
from tests.netns.port import PORT, Here, batch, everything, ip, put_back, settle
from tests.unit.wording import wording

pytestmark = pytest.mark.netns

ADDRESSES = """
address add 10.1.0.4/24 dev port0
address add 10.1.0.5/24 dev port0
address add 2001:db8:1::4/64 dev port0 nodad
address add 2001:db8:1::5/64 dev port0 nodad
address add 2001:db8:1::6/64 dev port0 nodad
"""
ROUTES = """
-4 route add 192.0.2.0/24 via 10.8.0.9 dev other0 src 10.1.0.4
-4 route add 192.0.3.0/24 dev other0 src 10.1.0.5 metric 7 table 77
-4 route add 192.0.2.0/24 via 10.8.0.9 dev other0 metric 9
-6 route add 2001:db8:a::/64 via 2001:db8:8::9 dev other0 src 2001:db8:1::4
-6 route add 2001:db8:b::/64 dev other0 src 2001:db8:1::5 metric 7 table 77
-6 route append 2001:db8:c::/64 via 2001:db8:8::7 dev other0 src 2001:db8:1::5 metric 5
-6 route append 2001:db8:c::/64 via 2001:db8:8::8 dev other0 metric 5
"""
SOME = 5  # of them lean on the port


def kept(here: Here) -> PortState:
    return PortState.from_json(json.loads(json.dumps(here.capture(PORT).to_json())))


@pytest.fixture
def full(here: Here) -> Here:
    batch(ADDRESSES)
    settle()
    batch(ROUTES)
    return here


# Others that name no device, several of their own, or one of the port among them.
MORE = """
nexthop add id 7 via 10.8.0.9 dev other0
nexthop add id 8 via 10.1.0.9 dev port0
-4 route add unreachable 192.0.10.0/24 src 10.1.0.4
-4 route add 192.0.11.0/24 nhid 7 src 10.1.0.4
-4 route add 192.0.12.0/24 nhid 8 src 10.1.0.4
-4 route add 192.0.13.0/24 src 10.1.0.4 nexthop via 10.8.0.9 dev other0 nexthop via 10.8.0.10 dev other0
-4 route add 192.0.14.0/24 src 10.1.0.4 nexthop via 10.8.0.9 dev other0 nexthop via 10.1.0.10 dev port0
-6 route add unreachable 2001:db8:e::/64 src 2001:db8:1::5
-6 route add 2001:db8:f::/64 src 2001:db8:1::5 nexthop via 2001:db8:8::9 dev other0 nexthop via 2001:db8:8::a dev other0
-6 route add 2001:db8:10::/64 src 2001:db8:1::5 nexthop via 2001:db8:8::9 dev other0 nexthop via 2001:db8:1::a dev port0
"""


def leaning_on_it() -> list[str]:
    """The routes that are from an address of the port."""
    rows = ip("-4", "route", "show", "table", "all") + ip("-6", "route", "show", "table", "all")
    return sorted(re.findall(r"^.* src \S+(?:.*(?:\n\t.*)*)", rows, re.MULTILINE))


@pytest.mark.parametrize("compat", ["1", "0"])
def test_one_that_names_no_device_or_several_comes_back(full: Here, compat: str) -> None:
    """Without the compatibility mode a route by a nexthop object names that alone."""
    sysctl = Path("/proc/sys/net/ipv4/nexthop_compat_mode")
    sysctl.write_text(compat)
    batch(MORE)
    state, before = kept(full), leaning_on_it()
    ip("link", "del", "port0")
    batch("link add port0 address 02:00:00:00:00:01 type veth peer name wire0\nlink set wire0 up")
    batch("link set port0 up")
    assert leaning_on_it() != before
    done = put_back(full, state)
    assert done.residue == ()
    assert leaning_on_it() == before


def of_other() -> list[str]:
    """The routes that go by the other netdev."""
    routes = [rows for name, rows in everything().items() if "route" in name]
    return [row for rows in routes for row in rows if "other0" in row]


def test_they_are_known(full: Here) -> None:
    state = kept(full)
    assert len(state.leaning) == SOME
    assert not set(state.leaning) & set(state.facts)


def test_a_port_that_was_down_has_cost_nothing(full: Here) -> None:
    before, state = everything(), kept(full)
    ip("link", "set", "port0", "down")
    ip("link", "set", "port0", "up")
    assert put_back(full, state).residue == ()
    settle()
    assert everything() == before


def test_their_source_comes_back_with_an_address_that_was_removed_for_its_order(
    full: Here,
) -> None:
    """keep_addr_on_down keeps some addresses, so that the others would come after them."""
    state = kept(full)
    before = everything()
    ip("link", "set", "port0", "down")
    ip("link", "set", "port0", "up")
    batch(
        "address add 2001:db8:1::5/64 dev port0 nodad\naddress add 2001:db8:1::6/64 dev port0 nodad"
    )
    settle()
    done = put_back(full, state)
    assert done.residue == ()
    settle()
    assert everything() == before


def test_they_come_back_where_the_netdev_was_destroyed(full: Here) -> None:
    state = kept(full)
    before = of_other()
    ip("link", "del", "port0")
    assert "192.0.2.0/24 via 10.8.0.9 dev other0 src" not in ip("route")
    batch("link add port0 address 02:00:00:00:00:01 type veth peer name wire0\nlink set wire0 up")
    batch("link set port0 up")
    done = put_back(full, state)
    assert done.residue == ()
    assert of_other() == before


def test_one_that_the_kernel_does_not_tell_from_another_is_lost_and_the_other_is_not(
    full: Here,
) -> None:
    batch(
        "-6 route append 2001:db8:d::/64 via 2001:db8:8::7 dev other0 metric 5\n"
        "-6 route append 2001:db8:d::/64 dev other0 src 2001:db8:1::5 metric 5"
    )
    state = kept(full)
    ip("-6", "address", "del", "2001:db8:1::5/64", "dev", "port0")
    done = put_back(full, state)
    assert done.residue == ()
    (lost,) = [one.text for one in done.lost]
    assert "2001:db8:d::/64 dev other0 proto boot src 2001:db8:1::5" in lost
    with wording:
        assert "the source address of route 2001:db8:d::/64 dev other0" in lost
    assert "via 2001:db8:8::7" in ip("-6", "route", "show", "2001:db8:d::/64")


def test_one_that_somebody_has_removed_stays_away(full: Here) -> None:
    state = kept(full)
    ip("link", "set", "port0", "down")
    ip("route", "del", "192.0.2.0/24", "via", "10.8.0.9", "src", "10.1.0.4")
    ip("-6", "route", "del", "2001:db8:a::/64")
    ip("link", "set", "port0", "up")
    assert put_back(full, state).residue == ()
    assert "src 10.1.0.4" not in ip("route", "show", "192.0.2.0/24")
    assert ip("-6", "route", "show", "2001:db8:a::/64") == ""


def test_one_whose_source_has_moved_to_another_netdev_is_named(full: Here) -> None:
    """Release leaves such an address out (netstate/taken_away.py), and so its routes."""
    state = kept(full)
    moved = {"10.1.0.4", "2001:db8:1::4"}
    here = [f for f in state.of(Kind.ADDRESS) if snapshot.addresses([f])[0] in moved]
    for one, length, *more in (("10.1.0.4", "24"), ("2001:db8:1::4", "64", "nodad")):
        ip("address", "del", f"{one}/{length}", "dev", "port0")
        ip("address", "add", f"{one}/{length}", "dev", "other0", *more)
    settle()
    done = put_back(full, taken_away.left(state, here))
    assert done.residue == ()
    lost = sorted(one.text for one in done.lost)
    assert [one.cause for one in done.lost] == [Cause.CHANGED] * 2
    for text, route in zip(lost, ("192.0.2.0/24", "2001:db8:a::/64"), strict=True):
        assert f"{route} " in text
    with wording:
        assert [text.split()[1] for text in lost] == ["192.0.2.0/24", "2001:db8:a::/64"]
        assert all("its source address is not on the port any more" in text for text in lost)
    # Whoever has moved it has moved its routes, too.
    batch(
        "-4 route add 192.0.2.0/24 via 10.8.0.9 dev other0 src 10.1.0.4\n"
        "-6 route replace 2001:db8:a::/64 via 2001:db8:8::9 dev other0 src 2001:db8:1::4"
    )
    assert put_back(full, taken_away.left(state, here)).lost == ()


def test_one_whose_other_netdev_is_away_is_named(full: Here) -> None:
    state = kept(full)
    ip("link", "del", "port0")
    ip("link", "del", "other0")
    batch("link add port0 address 02:00:00:00:00:01 type veth peer name wire0\nlink set wire0 up")
    batch("link set port0 up")
    done = put_back(full, state, 0.5)
    assert any("192.0.2.0/24" in line and "10.1.0.4" in line for line in done.residue)
