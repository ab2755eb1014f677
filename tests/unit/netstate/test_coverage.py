"""Which routes make up a default route."""

from __future__ import annotations

import ipaddress
import random

import pytest

from manactl.netstate.coverage import defaults
from tests.unit.fakes import route

# What WireGuard's users write for "all but private networks".
ALL_BUT_PRIVATE = [
    *("0.0.0.0/5", "8.0.0.0/7", "11.0.0.0/8", "12.0.0.0/6", "16.0.0.0/4", "32.0.0.0/3"),
    *("64.0.0.0/2", "128.0.0.0/3", "160.0.0.0/5", "168.0.0.0/6", "172.0.0.0/12", "172.32.0.0/11"),
    *("172.64.0.0/10", "172.128.0.0/9", "173.0.0.0/8", "174.0.0.0/7", "176.0.0.0/4"),
    *("192.0.0.0/9", "192.128.0.0/11", "192.160.0.0/13", "192.169.0.0/16", "193.0.0.0/8"),
    *("194.0.0.0/7", "196.0.0.0/6", "200.0.0.0/5", "208.0.0.0/4"),
]


def bodies(*networks: str, table: int = 254, kind: int = 1) -> list[bytes]:
    found = []
    for text in networks:
        net = ipaddress.ip_network(text)
        found.append(route(str(net[0]), net.prefixlen, table=table, kind=kind).body)
    return found


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0"])
def test_a_route_to_everywhere_in_any_table(network: str) -> None:
    for table in (254, 7, 1000):
        assert defaults(bodies(network, table=table)) == bodies(network, table=table)


@pytest.mark.parametrize(
    "networks",
    [
        ("0.0.0.0/1", "128.0.0.0/1"),
        ("0.0.0.0/2", "64.0.0.0/2", "128.0.0.0/2"),
        ("0.0.0.0/1", "128.0.0.0/2"),
        ("2000::/3",),
        ("::/1",),
        ("2000::/4", "3000::/4"),
    ],
)
def test_routes_that_together_go_to_nearly_everywhere(networks: tuple[str, ...]) -> None:
    assert sorted(defaults(bodies(*networks))) == sorted(bodies(*networks))


def test_private_networks_may_be_left_out() -> None:
    found = defaults(bodies(*ALL_BUT_PRIVATE))
    assert set(found) <= set(bodies(*ALL_BUT_PRIVATE))
    assert bodies("64.0.0.0/2")[0] == found[0]


@pytest.mark.parametrize(
    "networks",
    [
        ("0.0.0.0/1",),
        ("128.0.0.0/1",),
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
        ("8000::/1",),  # nobody is there
        ("2000::/4",),
        ("fc00::/7", "fe80::/10", "ff00::/8"),
        ("0.0.0.0/1", "0.0.0.0/2", "64.0.0.0/2", "64.0.0.0/3"),  # the same half, again
        ("224.0.0.0/3", "0.0.0.0/2", "64.0.0.0/2"),
    ],
)
def test_routes_to_a_part_of_the_world(networks: tuple[str, ...]) -> None:
    assert defaults(bodies(*networks)) == []


def test_each_table_is_for_itself() -> None:
    apart = bodies("0.0.0.0/1") + bodies("128.0.0.0/1", table=7)
    assert defaults(apart) == []
    both = bodies("128.0.0.0/1", table=7) + bodies("0.0.0.0/1", table=7)
    assert sorted(defaults(apart + both)) == sorted(both)


@pytest.mark.parametrize("kind", [6, 7, 8, 9, 2])
def test_only_routes_that_lead_somewhere_count(kind: int) -> None:
    assert defaults(bodies("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", kind=kind)) == []


def test_of_a_whole_table_of_the_internet_the_widest_are_enough() -> None:
    narrow = [f"{a}.{b}.0.0/16" for a in range(1, 224) for b in range(256)]
    found = defaults(bodies("128.0.0.0/2", *narrow))
    assert found[0] == bodies("128.0.0.0/2")[0]
    world = 0xE0000000
    assert len(found) == 1 + -(-(3 * world // 4 - (1 << 30)) // (1 << 16))


@pytest.mark.parametrize("seed", range(60))
def test_enough_is_what_the_networks_cover(seed: int) -> None:
    """Among many small networks, which do not count together, and in two tables."""
    draw = random.Random(seed)
    world = [ipaddress.ip_network("0.0.0.0/1"), ipaddress.ip_network("128.0.0.0/2"),
             ipaddress.ip_network("192.0.0.0/3")]  # fmt: skip
    all_of = sum(net.num_addresses for net in world)
    tables: dict[int, list[ipaddress.IPv4Network]] = {254: [], 7: []}
    for nets in tables.values():
        for length, most in ((1, 1), (2, 2), (3, 5), (8, 40), (32, 200)):
            for _ in range(draw.randrange(most + 1)):
                start = draw.randrange(1 << length) << (32 - length)
                nets.append(ipaddress.IPv4Network((start, length)))
    expected = set()
    for table, nets in tables.items():
        apart = ipaddress.collapse_addresses(nets)
        covered = sum(
            min(net.num_addresses, inside.num_addresses)
            for net in apart
            for inside in world
            if net.overlaps(inside)
        )
        expected |= {table} if covered * 4 >= all_of * 3 else set()
    routes = [
        body for table, nets in tables.items() for body in bodies(*map(str, nets), table=table)
    ]
    found = defaults(routes)
    assert {
        table for table in tables if {*found} & {*bodies(*map(str, tables[table]), table=table)}
    } == expected
    assert {*found} <= {*routes}
