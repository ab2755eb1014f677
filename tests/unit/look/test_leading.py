"""To where routes lead by some interfaces, of messages as the kernel has them."""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manactl.look import leading
from manactl.wire.attrs import attr, attr_u32
from tests.unit.look.kernel import FakeRtnl, local, route, rule

LOCAL = attr_u32(15, 255)[4:]  # FRA_TABLE
FIRST = rule(a15=LOCAL, a14=b"\xff" * 4, a21=b"\2")
FIRST_OF_SIX = rule(socket.AF_INET6, a15=LOCAL)


def net(text: str) -> leading.Net:
    found = ipaddress.ip_network(text)
    return found.network_address.packed, found.prefixlen


def nets(*texts: str) -> set[leading.Net]:
    return set(map(net, texts))


def by(
    routing: list[bytes], *, ruling: list[bytes] | None = None, **more: list[bytes]
) -> leading.Leading:
    found = leading.by({3, 9}, FakeRtnl([], routing=routing, ruling=ruling or [], **more))
    assert found is not None
    return found


def test_the_routes_of_every_table_that_name_one_of_them() -> None:
    found = by([
        route(3, "10.1.0.0/16"), route(2, "10.2.0.0/16"), route(9, "10.3.0.0/16", table=77),
        route(3, "0.0.0.0/0"), route(9, "2001:db8::/64"), route(2, "::/0"), route(3, "::/0", table=9),
    ])  # fmt: skip
    assert found.nets == nets("10.1.0.0/16", "10.3.0.0/16", "0.0.0.0/0", "2001:db8::/64", "::/0")


def test_one_of_several_ways_is_enough() -> None:
    hops = b"".join(struct.pack("=HBBI", 8, 0, 0, index) for index in (2, 3))
    plain = route(2, "10.1.0.0/16")
    several = plain[: 12 + 8] + attr(9, hops)
    assert by([several]).nets == nets("10.1.0.0/16")


def test_a_nexthop_object_leads_by_its_interface() -> None:
    one = bytes(8) + attr_u32(1, 5) + attr_u32(5, 3)  # NHA_ID, NHA_OIF
    to = route(2, "10.1.0.0/16")[: 12 + 8] + attr_u32(30, 5)  # RTA_NH_ID
    assert by([to], objects=[one]).nets == nets("10.1.0.0/16")


def test_where_segments_lead_is_not_known() -> None:
    encapsulated = attr(21, struct.pack("=H", 5)) + attr(22, bytes(4))  # RTA_ENCAP_TYPE: seg6
    assert by([route(2, "2001:db8:a::/48") + encapsulated]).nets == nets("2001:db8:a::/48")
    of_object = bytes(8) + attr_u32(1, 5) + attr(7, struct.pack("=H", 5))
    assert leading.by({3}, FakeRtnl([], objects=[of_object])) is None


def test_what_the_host_takes_itself_does_not_lead_away() -> None:
    routing = [local("10.1.2.0/24"), local("10.0.0.2/32"), local("2001:db8::2/128")]
    found = by(routing, ruling=[FIRST, FIRST_OF_SIX])
    assert found.own == nets("10.1.2.0/24", "10.0.0.2/32", "2001:db8::2/128")
    assert not found.nets
    assert by(routing, ruling=[FIRST]).own == nets("10.1.2.0/24", "10.0.0.2/32")


def test_a_local_route_of_another_table_is_reached_by_rules_only() -> None:
    assert not by([local("10.1.2.0/24", table=77)], ruling=[FIRST]).own


@pytest.mark.parametrize(
    ("other", "taken"), [("10.1.2.255/32", False), ("10.1.2.0/24", False), ("10.1.3.255/32", True)]
)
def test_a_longer_route_of_that_table_may_lead_away(other: str, taken: bool) -> None:
    found = by([local("10.1.2.0/24"), local(other, kind=3)], ruling=[FIRST])
    assert found.own == (nets("10.1.2.0/24") if taken else set())


@pytest.mark.parametrize(
    ("other", "taken"), [("10.1.2.7/32", False), ("10.1.2.0/25", False), ("10.1.0.0/16", True)]
)
def test_a_longer_route_of_any_table_may_be_asked_first(other: str, taken: bool) -> None:
    """Without rules of others the tables local and main are one in the kernel."""
    found = by([local("10.1.2.0/24"), route(3, other)], ruling=[FIRST])
    assert found.own == (nets("10.1.2.0/24") if taken else set())
    elsewhere = by([local("10.1.2.0/24"), route(2, other)], ruling=[FIRST])
    assert elsewhere.own == nets("10.1.2.0/24")


@pytest.mark.parametrize("at", [2, 3], ids=["source", "TOS"])
def test_a_local_route_for_some_packets_only_does_not_count(at: int) -> None:
    body = local("2001:db8::2/128")
    assert by([body], ruling=[FIRST_OF_SIX]).own
    some = body[:at] + b"\x08" + body[at + 1 :]
    assert not by([some], ruling=[FIRST_OF_SIX]).own


def test_ipv6_sockets_over_ipv4_are_not_the_hosts_by_a_route_of_ipv6() -> None:
    found = by([local("::/0"), local("2001:db8::/32")], ruling=[FIRST_OF_SIX])
    assert found.own == nets("2001:db8::/32")


def test_loopback_is_asked_for_by_itself() -> None:
    found = by([local("127.0.0.0/8"), local("::1/128")], ruling=[FIRST, FIRST_OF_SIX])
    assert not found.own


@pytest.mark.parametrize(
    "first",
    [
        rule(source="10.9.0.0/16", a15=LOCAL),
        rule(a15=LOCAL, a10=struct.pack("=I", 7)),  # FRA_FWMARK
        rule(a15=LOCAL, a3=b"eth1\0"),
        rule(a15=LOCAL, a14=struct.pack("=I", 0)),
        rule(a15=attr_u32(15, 254)[4:]),
        bytes([2, 0, 0, 0, 255, 0, 0, 6, 0, 0, 0, 0]),  # blackhole
        bytes([2, 0, 0, 0, 255, 0, 0, 1, 2, 0, 0, 0]),  # not
        bytes([2, 0, 0, 4, 255, 0, 0, 1, 0, 0, 0, 0]),  # tos
    ],
)
def test_only_a_first_rule_for_everything_counts(first: bytes) -> None:
    assert not by([local("10.1.2.0/24")], ruling=[first, FIRST]).own
    assert by([local("10.1.2.0/24")], ruling=[FIRST, first]).own


@given(
    st.sets(st.tuples(st.ip_addresses(), st.integers(0, 128)), min_size=1, max_size=60),
    st.integers(2, 20),
)
def test_fewer_networks_have_all_that_was_in_more(
    drawn: set[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]], most: int
) -> None:
    before = {
        net(str(ipaddress.ip_network((a, min(n, a.max_prefixlen)), strict=False))) for a, n in drawn
    }
    after = leading.coarser(before, most)
    assert len(after) <= most
    if len(before) <= most:
        assert after == before
    around = [ipaddress.ip_network(one) for one in after]
    for one in map(ipaddress.ip_network, before):
        assert any(one.version == other.version and one.subnet_of(other) for other in around)  # type: ignore[arg-type]
