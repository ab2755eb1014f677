"""Connections of others through a port, on a machine in memory."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from manactl.look import conntrack
from manactl.look.ipvs import Balanced
from manactl.look.sockets import Reach, Turned
from manactl.netstate.surroundings import Forwarded
from manactl.wire.conntrack import Flow
from tests.unit.look.kernel import FakeRtnl, address, attr, rule
from tests.unit.look.test_ipvs import FOUR, table
from tests.unit.wire.test_conntrack import NAT, NAT6, entry, packed

RTNL = FakeRtnl(
    [],
    [
        address(3, "10.1.0.4") + attr(4, packed("10.1.0.255")), address(3, "2001:db8:1::4"),
        address(5, "172.17.0.1"), address(5, "fd17::1"), address(2, "10.8.0.4"),
    ],
    ways={
        "10.1.0.0/24": {3}, "2001:db8:1::/64": {3}, "172.17.0.0/16": {5}, "fd17::/64": {5},
        "10.8.0.0/24": {2}, "0.0.0.0/0": {2}, "fe80::/10": {3},
    },
)  # fmt: skip
REACH = Reach(frozenset({3}), frozenset({packed("10.1.0.4"), packed("2001:db8:1::4")}))


def forwarded(
    rtnl: FakeRtnl, ask: Callable[[], Iterable[bytes]], proc: Path, **more: Any
) -> list[Forwarded]:
    tracked = conntrack.read(rtnl, ask, proc)
    if balanced := more.pop("balanced", ()):
        tracked = tracked._replace(balanced=balanced)
    return conntrack.forwarded(REACH, rtnl, tracked, **more)


def read(tmp_path: Path, *bodies: bytes, count: str | None = "9") -> list[Forwarded]:
    if count is not None:
        path = tmp_path / "sys/net/netfilter/nf_conntrack_count"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{count}\n")
    return forwarded(RTNL, lambda: bodies, tmp_path)


@pytest.mark.parametrize(
    "addresses",
    [
        NAT,  # masqueraded
        NAT6,
        ("172.17.0.2", "10.1.0.9", "10.1.0.9", "172.17.0.2"),  # routed
        ("fd17::2", "2001:db8:1::9", "2001:db8:1::9", "fd17::2"),
        ("10.1.0.9", "172.17.0.2", "172.17.0.2", "10.1.0.9"),  # from there
        ("10.1.0.9", "10.1.0.4", "172.17.0.2", "10.1.0.9"),  # published at the port's address
        ("203.0.113.9", "10.1.0.4", "172.17.0.2", "203.0.113.9"),  # and asked from afar
        ("172.17.0.2", "203.0.113.9", "203.0.113.9", "10.1.0.4"),  # by a rule, with its address
    ],
)
def test_whoever_is_forwarded_through_the_port(
    tmp_path: Path, addresses: tuple[str, str, str, str]
) -> None:
    (found,) = read(tmp_path, entry(*addresses))
    assert (found.source, found.connections, found.netns) == (addresses[0], 1, None)


@pytest.mark.parametrize(
    "addresses",
    [
        ("10.1.0.4", "10.1.0.9", "10.1.0.9", "10.1.0.4"),  # ours: a socket has it
        ("10.1.0.9", "10.1.0.4", "10.1.0.4", "10.1.0.9"),
        ("10.1.0.9", "10.1.0.4", "10.8.0.4", "10.1.0.9"),  # redirected to us
        ("172.17.0.2", "10.8.0.9", "10.8.0.9", "10.8.0.4"),  # by another netdev
        ("172.17.0.2", "172.17.0.3", "172.17.0.3", "172.17.0.2"),
        ("10.1.0.9", "10.1.0.255", "10.1.0.255", "10.1.0.9"),  # to everybody
        ("10.1.0.9", "255.255.255.255", "255.255.255.255", "10.1.0.9"),
        ("10.1.0.9", "224.0.0.251", "224.0.0.251", "10.1.0.9"),
        ("fe80::9", "ff02::fb", "ff02::fb", "fe80::9"),
        ("127.0.0.1", "127.0.0.53", "127.0.0.53", "127.0.0.1"),
    ],
)
def test_what_is_not_forwarded_through_it(
    tmp_path: Path, addresses: tuple[str, str, str, str]
) -> None:
    assert read(tmp_path, entry(*addresses)) == []


def test_connections_are_counted_by_who_made_them_and_those_that_are_over_are_not(
    tmp_path: Path,
) -> None:
    other = ("172.17.0.3", *NAT[1:])
    bodies = [entry(*NAT), entry(*other, number=17, state=None), entry(*NAT), entry(*NAT, state=7)]
    assert read(tmp_path, *bodies) == [
        Forwarded("172.17.0.2", 2, "tcp to 10.1.0.9:7000"),
        Forwarded("172.17.0.3", 1, "udp to 10.1.0.9:7000"),
    ]
    (six,) = read(tmp_path, entry(*NAT6))
    assert six.example == "tcp to [2001:db8:1::9]:7000"
    (ping,) = read(tmp_path, entry(*NAT, number=1, source_port=0, state=None))
    assert ping.example == "icmp to 10.1.0.9"


def test_each_address_is_looked_up_once(tmp_path: Path) -> None:
    rtnl = FakeRtnl([], RTNL.having, ways={"0.0.0.0/0": {2}})
    aside = ("172.17.0.2", "203.0.113.9", "203.0.113.9", "10.8.0.4")
    read(tmp_path)
    assert forwarded(rtnl, lambda: [entry(*aside)] * 50, tmp_path) == []
    assert sorted(one for one, _ in rtnl.asked) == ["172.17.0.2", "203.0.113.9"]


def test_where_nothing_is_tracked_nobody_is_asked(tmp_path: Path) -> None:
    def never() -> list[bytes]:
        raise AssertionError("that would load the module")

    assert forwarded(RTNL, never, tmp_path) == []
    read(tmp_path, count="0")
    assert forwarded(RTNL, never, tmp_path) == []


@pytest.mark.parametrize(
    ("count", "forwarding", "untracked"),
    [
        (None, {}, False),
        (None, {"ipv4": "0", "ipv6": "0"}, False),
        (None, {"ipv4": "1", "ipv6": "0"}, True),
        ("0", {"ipv4": "0", "ipv6": "1"}, True),
        ("5", {"ipv4": "1", "ipv6": "1"}, False),  # it is counted
    ],
)
def test_what_is_forwarded_and_not_tracked(
    tmp_path: Path, count: str | None, forwarding: dict[str, str], untracked: bool
) -> None:
    read(tmp_path, count=count)
    for family, value in forwarding.items():
        path = tmp_path / f"sys/net/{family}/conf/eth1/forwarding"
        path.parent.mkdir(parents=True)
        path.write_text(f"{value}\n")
    assert conntrack.untracked("eth1", tmp_path) is untracked


def test_what_is_tracked_and_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    def refused() -> list[bytes]:
        raise OSError(errno.EPERM, "Operation not permitted")

    read(tmp_path)
    with pytest.raises(OSError, match="not permitted"):
        forwarded(RTNL, refused, tmp_path)


def test_an_address_that_cannot_be_looked_up_leads_nowhere(tmp_path: Path) -> None:
    rtnl = FakeRtnl([], RTNL.having, failing={"leaves_by": OSError(errno.EINVAL, "Invalid")})
    read(tmp_path)
    routed = entry("172.17.0.2", "10.1.0.9", "10.1.0.9", "172.17.0.2")
    assert forwarded(rtnl, lambda: [routed], tmp_path) == []


# --- our own sockets whose packets go elsewhere --------------------------------------------------

FWMARK = rule(a10=b"\7\0\0\0")


def tracked(tmp_path: Path, rtnl: FakeRtnl, *bodies: bytes) -> conntrack.Tracked:
    read(tmp_path)
    return conntrack.read(rtnl, lambda: bodies, tmp_path)


def test_a_connection_of_ours_to_an_address_that_is_translated(tmp_path: Path) -> None:
    sent_on = entry("10.8.0.4", "10.96.0.1", "10.1.0.9", "10.8.0.4")
    plain = entry("10.8.0.4", "10.8.0.9", "10.8.0.9", "10.8.0.4", mark=7)
    found = tracked(tmp_path, RTNL, sent_on, plain)
    flow = Flow(6, packed("10.8.0.4"), 40000, packed("10.96.0.1"), 7000)
    assert found.turned == {flow: Turned(packed("10.1.0.9"), 0)}
    assert (found.others, found.marks) == ([], False)


# `fwmark 0/0xff`: of a mark that is 0 the kernel tells the mask alone.
@pytest.mark.parametrize("asked", [FWMARK, rule(a16=b"\xff\0\0\0")])
def test_marks_are_read_where_rules_ask_for_them(tmp_path: Path, asked: bytes) -> None:
    """Of connections that we made, and of those to us: their answers may get the mark, too."""
    rtnl = dataclasses.replace(RTNL, ruling=[asked])
    ours = entry("10.8.0.4", "10.8.0.9", "10.8.0.9", "10.8.0.4", mark=7)
    to_us = entry("203.0.113.9", "10.8.0.77", "10.8.0.4", "203.0.113.9", mark=9)
    unmarked = entry("10.8.0.4", "10.8.0.8", "10.8.0.8", "10.8.0.4", mark=0)
    found = tracked(tmp_path, rtnl, ours, to_us, unmarked)
    assert found.turned == {
        Flow(6, packed("10.8.0.4"), 40000, packed("10.8.0.9"), 7000): Turned(packed("10.8.0.9"), 7),
        Flow(6, packed("10.8.0.4"), 7000, packed("203.0.113.9"), 40000): Turned(
            packed("203.0.113.9"), 9
        ),
    }
    assert found.marks


# --- by rules, in VRFs, by IPVS ------------------------------------------------------------------

POD = ("172.17.0.2", "203.0.113.9", "203.0.113.9", "172.17.0.2")
IN_BY_5, IN_BY_2 = attr(3, b"\5\0\0\0"), attr(3, b"\2\0\0\0")  # RTA_IIF


@pytest.mark.parametrize("asked", [rule(source="172.17.0.0/16"), rule(a3=b"br0\0")])
def test_rules_for_sources_decide_as_for_a_packet_that_comes_in(
    tmp_path: Path, asked: bytes
) -> None:
    """The way out is that of a packet from there, which comes in by the bridge."""
    ways = {**RTNL.ways, "203.0.113.9/32": {2}}
    to_port = {(0, IN_BY_5): {"203.0.113.9": {3}}, (0, IN_BY_2): {"172.17.0.2": {5}}}
    rtnl = dataclasses.replace(RTNL, ways=ways, ruling=[asked], narrow=to_port)
    read(tmp_path)
    some = [entry(*POD), entry(*POD, source_port=40001)]
    assert forwarded(rtnl, lambda: some, tmp_path) == [
        Forwarded("172.17.0.2", 2, "tcp to 203.0.113.9:7000")
    ]
    assert forwarded(dataclasses.replace(rtnl, ruling=[]), lambda: some, tmp_path) == []
    away = {(0, IN_BY_5): {"203.0.113.9": {2}}, (0, IN_BY_2): {"172.17.0.2": {5}}}
    rtnl = dataclasses.replace(rtnl, ways={**ways, "203.0.113.9/32": {3}}, narrow=away)
    found = forwarded(rtnl, lambda: some, tmp_path)
    assert found == []


def test_sources_that_rules_do_not_tell_apart_are_looked_up_once(tmp_path: Path) -> None:
    ways = {**RTNL.ways, "203.0.113.9/32": {2}}
    rtnl = dataclasses.replace(
        RTNL, ways=ways, ruling=[rule(source="172.17.0.0/17")], asked_more=[]
    )
    read(tmp_path)
    some = [entry(f"172.17.{n % 250}.{n // 250 + 2}", *POD[1:3], "10.8.0.4") for n in range(1000)]
    assert forwarded(rtnl, lambda: some, tmp_path) == []
    to_far = [one for one in rtnl.asked_more if one[2] == IN_BY_5]
    assert len(to_far) == 2  # in the prefix, and out of it


def test_a_mark_of_a_connection_decides_where_rules_ask_for_it(tmp_path: Path) -> None:
    narrow = {
        (7, b""): {"172.17.0.2": {5}, "203.0.113.9": {2}},
        (7, IN_BY_5): {"203.0.113.9": {3}},
    }
    rtnl = dataclasses.replace(RTNL, ruling=[FWMARK], narrow=narrow)
    read(tmp_path)
    marked, other = entry(*POD, mark=7), entry(*POD, mark=0)
    assert len(forwarded(rtnl, lambda: [marked], tmp_path)) == 1
    assert forwarded(rtnl, lambda: [other], tmp_path) == []
    assert forwarded(dataclasses.replace(rtnl, ruling=[]), lambda: [marked], tmp_path) == []


def test_connections_in_a_vrf_by_its_table(tmp_path: Path) -> None:
    bound = {20: {"172.17.0.2": {6}, "203.0.113.9": {3}}, 21: {"203.0.113.9": {3}}}
    rtnl = dataclasses.replace(RTNL, bound_ways=bound)
    read(tmp_path)
    pod = [entry(*POD)]
    assert forwarded(rtnl, lambda: pod, tmp_path) == []
    assert len(forwarded(rtnl, lambda: pod, tmp_path, vrfs=[20])) == 1
    # Nothing in that one leads back to where they come from.
    assert forwarded(rtnl, lambda: pod, tmp_path, vrfs=[21]) == []


def test_the_table_of_ipvs_is_read_where_nothing_else_is_tracked(tmp_path: Path) -> None:
    table(tmp_path, FOUR)
    (one,) = forwarded(RTNL, list, tmp_path)
    assert (one.source, one.example) == ("203.0.113.9", "tcp to 10.1.0.4:80, by IPVS")


def test_connections_of_ipvs_that_nothing_else_tracks(tmp_path: Path) -> None:
    def one(client: str, service: str, server: str, port: int = 1) -> Balanced:
        return Balanced("tcp", packed(client), port, packed(service), 80, packed(server))

    far, real = "203.0.113.9", "172.17.0.2"
    some = [
        one(far, "10.1.0.4", real),  # to an address of the port
        one("10.1.0.9", "10.8.0.77", real),  # from behind it
        one(far, "10.8.0.77", "10.1.0.8"),  # to a real server behind it
        one(far, "10.8.0.77", real),  # by the others
        one(far, "10.1.0.4", "10.8.0.4"),  # this host answers itself: its sockets tell
    ]
    assert forwarded(RTNL, list, tmp_path, balanced=some) == [
        Forwarded(far, 2, "tcp to 10.1.0.4:80, by IPVS"),
        Forwarded("10.1.0.9", 1, "tcp to 10.8.0.77:80, by IPVS"),
    ]
    read(tmp_path)
    known = entry(far, "10.1.0.4", real, far, source_port=9, port=80)
    both = forwarded(RTNL, lambda: [known], tmp_path, balanced=[one(far, "10.1.0.4", real, 9)])
    assert [found.connections for found in both] == [1]


@pytest.mark.parametrize(
    ("addresses", "counts"),
    [
        (("10.1.0.9", "172.17.0.2", "172.17.0.2", "10.1.0.9"), True),  # routed
        (("203.0.113.9", "10.1.0.4", "172.17.0.2", "203.0.113.9"), True),  # published
        (("172.17.0.2", "10.1.0.9", "10.1.0.9", "10.1.0.4"), False),  # its own
        (("10.8.0.9", "10.8.0.4", "172.17.0.2", "10.8.0.9"), False),  # by another netdev
        (("10.1.0.9", "172.17.0.3", "172.17.0.3", "10.1.0.9"), False),
    ],
)
def test_whoever_others_are_connected_to_through_the_port(
    tmp_path: Path, addresses: tuple[str, str, str, str], counts: bool
) -> None:
    path = tmp_path / "sys/net/netfilter/nf_conntrack_count"
    path.parent.mkdir(parents=True)
    path.write_text("9\n")
    tracked = conntrack.read(RTNL, lambda: [entry(*addresses)], tmp_path)
    guest = packed("172.17.0.2")
    found = conntrack.forwarded_to({guest}, REACH, RTNL, tracked)
    assert found == ({guest} if counts else set())


@pytest.mark.parametrize(
    ("client", "service", "server", "counts"),
    [
        ("203.0.113.9", "10.1.0.4", "172.17.0.2", True),  # to an address of the port
        ("10.1.0.9", "10.8.0.77", "172.17.0.2", True),  # from behind it
        ("203.0.113.9", "10.8.0.77", "172.17.0.2", False),  # by another netdev
        ("203.0.113.9", "10.1.0.4", "172.17.0.3", False),
    ],
)
def test_whoever_others_are_connected_to_by_ipvs(
    client: str, service: str, server: str, counts: bool
) -> None:
    one = Balanced("tcp", packed(client), 9, packed(service), 22, packed(server))
    guest = packed("172.17.0.2")
    found = conntrack.forwarded_to({guest}, REACH, RTNL, conntrack.Tracked(balanced=[one]))
    assert found == ({guest} if counts else set())
