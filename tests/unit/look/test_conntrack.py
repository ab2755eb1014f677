"""Connections of others through a port, on a machine in memory."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from manactl.look import conntrack
from manactl.look.sockets import Reach
from manactl.netstate.surroundings import Forwarded
from tests.unit.look.kernel import FakeRtnl, address, attr
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


def read(tmp_path: Path, *bodies: bytes, count: str | None = "9") -> list[Forwarded]:
    if count is not None:
        path = tmp_path / "sys/net/netfilter/nf_conntrack_count"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{count}\n")
    return conntrack.forwarded(REACH, RTNL, lambda: bodies, tmp_path)


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
    assert conntrack.forwarded(REACH, rtnl, lambda: [entry(*aside)] * 50, tmp_path) == []
    assert sorted(one for one, _ in rtnl.asked) == ["172.17.0.2", "203.0.113.9"]


def test_where_nothing_is_tracked_nobody_is_asked(tmp_path: Path) -> None:
    def never() -> list[bytes]:
        raise AssertionError("that would load the module")

    assert conntrack.forwarded(REACH, RTNL, never, tmp_path) == []
    read(tmp_path, count="0")
    assert conntrack.forwarded(REACH, RTNL, never, tmp_path) == []


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
        conntrack.forwarded(REACH, RTNL, refused, tmp_path)


def test_an_address_that_cannot_be_looked_up_leads_nowhere(tmp_path: Path) -> None:
    rtnl = FakeRtnl([], RTNL.having, failing={"leaves_by": OSError(errno.EINVAL, "Invalid")})
    read(tmp_path)
    routed = entry("172.17.0.2", "10.1.0.9", "10.1.0.9", "172.17.0.2")
    assert conntrack.forwarded(REACH, rtnl, lambda: [routed], tmp_path) == []
