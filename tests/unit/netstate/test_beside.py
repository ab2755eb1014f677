"""What hangs on no port: which of the kernel's messages, which are missing, and in JSON."""

from __future__ import annotations

import json
import struct

from manactl.netstate import beside
from manactl.netstate.beside import Beside, Kind
from manactl.netstate.snapshot import Fact
from manactl.netstate.snapshot import Kind as FactKind
from tests.unit.fakes import nexthop, route
from tests.unit.wording import wording

DETACHED, INVERT = 0x8, 0x2


def rule(priority: int, *, flags: int = 0, protocol: int = 3, family: int = 2) -> bytes:
    """struct fib_rule_hdr with FRA_PRIORITY and FRA_PROTOCOL."""
    head = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 88, 0, 0, 1, flags)
    attrs = struct.pack("=HHI", 8, 6, priority) + struct.pack("=HHBxxx", 5, 21, protocol)
    return head + attrs


BLACKHOLE = struct.pack("=BBBBI", 2, 0, 3, 0, 0) + struct.pack("=HHI", 8, 1, 66) + b"\4\0\4\0"
GROUP = (
    struct.pack("=BBBBI", 0, 0, 3, 0, 0)
    + struct.pack("=HHI", 8, 1, 67)
    + struct.pack("=HHIBBH", 12, 2, 66, 0, 0, 0)
)


def test_the_kernels_own_rules_are_left_out() -> None:
    assert beside.select([rule(1), rule(2, protocol=2)], [], []) == (Beside(Kind.RULE, rule(1)),)
    bare = rule(1)[:20]  # an old kernel tells no protocol
    assert beside.select([bare], [], []) == (Beside(Kind.RULE, bare),)


def test_nexthops_and_routes_with_a_device_are_left_out() -> None:
    on_device = nexthop(10).body
    assert beside.select(
        [], [on_device, BLACKHOLE], [route("10.9.0.0", 16, via="10.0.0.9").body]
    ) == (Beside(Kind.NEXTHOP, BLACKHOLE),)


def test_routes_that_lead_nowhere_but_for_the_kernels() -> None:
    body = bytearray(route("10.9.0.0", 16, via="10.0.0.9").body)
    for number, wanted in ((1, 0), (6, 1), (7, 1), (8, 1), (9, 1)):
        body[7] = number
        assert len(beside.select([], [], [bytes(body)])) == wanted
    body[5] = 2
    assert beside.select([], [], [bytes(body)]) == ()


def test_routes_by_such_a_nexthop() -> None:
    by = route("10.9.0.0", 16, nhid=66).body
    assert [one.kind for one in beside.select([], [BLACKHOLE], [by])] == [Kind.NEXTHOP, Kind.ROUTE]
    assert beside.select([], [], [by]) == ()


def test_what_a_snapshot_has_is_left_to_that() -> None:
    found = beside.select([rule(1)], [BLACKHOLE], [])
    left = beside.without(found, [Fact(FactKind.NEXTHOP, BLACKHOLE)])
    assert left == (Beside(Kind.RULE, rule(1)),)


def test_what_is_missing_comes_once_and_in_order() -> None:
    was = beside.select([rule(1), rule(2)], [GROUP, BLACKHOLE], [])
    found = beside.missing([*was, *was], beside.select([rule(2)], [], []))
    assert found == [
        Beside(Kind.NEXTHOP, BLACKHOLE), Beside(Kind.NEXTHOP, GROUP), Beside(Kind.RULE, rule(1)),
    ]  # fmt: skip


def test_flags_that_are_the_kernels_make_no_difference() -> None:
    was = Beside(Kind.RULE, rule(1, flags=INVERT | DETACHED))
    assert beside.missing([was], [Beside(Kind.RULE, rule(1, flags=INVERT))]) == []
    assert beside.missing([was], [Beside(Kind.RULE, rule(1))]) == [was]
    assert beside.request(was).body == rule(1, flags=INVERT)


def test_requests_create_and_replace_nothing() -> None:
    way = bytearray(route("10.9.0.0", 16).body)
    way[7] = 6
    ones = beside.select([rule(1)], [BLACKHOLE], [bytes(way)])
    made = [beside.request(one) for one in ones]
    assert [(one.type, one.flags) for one in made] == [(104, 0x600), (24, 0x600), (32, 0x600)]


def test_in_words_and_in_json() -> None:
    one, six = Beside(Kind.RULE, rule(500)), Beside(Kind.RULE, rule(7, family=10))
    with wording:
        assert [beside.text(one), beside.text(six)] == [
            "IPv4 policy rule 500",
            "IPv6 policy rule 7",
        ]
    assert "66" in beside.text(Beside(Kind.NEXTHOP, BLACKHOLE))
    assert Beside.from_json(json.loads(json.dumps(one.to_json()))) == one
