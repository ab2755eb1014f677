"""Routes that lean on an address of the port, as values."""

from __future__ import annotations

import socket

import pytest

from manactl.netstate import leaning
from manactl.netstate.snapshot import Fact, Kind
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import attr, attr_u32
from manactl.wire.netlink import NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def route(
    to: str, device: int, *, source: str = "", via: str = "", kind: int = 1, flags: int = 0,
    protocol: int = 4, hops: tuple[int, ...] = (),
) -> Fact:  # fmt: skip
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    net, _, length = to.partition("/")
    head = rt.RtMsg(family, int(length), table=254, protocol=protocol, type=kind, flags=flags)
    body = head.pack() + attr_u32(rt.RTA_TABLE, 254) + attr(rt.RTA_DST, packed(net))
    body += attr(rt.RTA_PREFSRC, packed(source)) if source else b""
    body += attr(rt.RTA_GATEWAY, packed(via)) if via else b""
    if hops:
        body += attr(rt.RTA_MULTIPATH, rt.pack_hops(rt.Hop(0, 0, one, b"") for one in hops))
    return Fact(Kind.ROUTE, body + attr_u32(rt.RTA_OIF, device) if device else body)


OWN = (packed("10.1.0.4"), packed("2001:db8:1::4"))
FOUR = route("192.0.2.0/24", 2, source="10.1.0.4")
SIX = route("2001:db8:a::/64", 2, source="2001:db8:1::4", via="2001:db8:8::9")
BARE = route("2001:db8:a::/64", 2, via="2001:db8:8::9")
OWN_BY_OBJECT = Fact(
    Kind.ROUTE, route("192.0.9.0/24", 0, source="10.1.0.4").body + attr_u32(rt.RTA_NH_ID, 8)
)
BESIDE = route("2001:db8:a::/64", 2, via="2001:db8:8::7")


@pytest.mark.parametrize(
    ("one", "leans"),
    [
        (FOUR, True),
        (SIX, True),
        # What names no device, and what is among the port's own, or has a way by the port.
        (route("192.0.2.0/24", 0, source="10.1.0.4", kind=rt.RTN_UNREACHABLE), True),
        (OWN_BY_OBJECT, False),
        (route("192.0.2.0/24", 0, source="10.1.0.4", hops=(2, 5)), True),
        (route("192.0.2.0/24", 0, source="10.1.0.4", hops=(2, 3)), False),
        (route("192.0.2.0/24", 3, source="10.1.0.4"), False),  # the port's own
        (route("192.0.2.0/24", 2, source="10.8.0.2"), False),
        (route("192.0.2.0/24", 2), False),
        (route("192.0.2.0/24", 2, source="10.1.0.4", flags=rt.RTM_F_CLONED), False),
        (route("10.1.0.4/32", 1, source="10.1.0.4", kind=rt.RTN_LOCAL, protocol=2), False),
        # The bytes of such an attribute, in another's place.
        (route("192.0.2.0/24", 2, via="10.1.0.4"), False),
    ],
)
def test_which_lean_on_the_port(one: Fact, leans: bool) -> None:
    assert leaning.find([one.body], OWN, {3}, [OWN_BY_OBJECT]) == ((one,) if leans else ())


def test_few_among_many_are_found() -> None:
    others = [route(f"10.{n >> 8}.{n & 255}.0/24", 2).body for n in range(1000)]
    many = [FOUR.body, *others[:255], SIX.body, *others, FOUR.body]
    assert leaning.find(many, OWN, {3}) == (FOUR, SIX, FOUR)


def test_without_an_address_nothing_leans() -> None:
    assert leaning.find([FOUR.body], (), {3}) == ()


CREATE = NLM_F_CREATE | NLM_F_APPEND


def lacking(wanted: Fact, *now: Fact, recreated: bool = False) -> list[tuple[int, int, bytes]]:
    found = leaning.lacking([wanted], now, recreated=recreated)
    return [tuple(request) for one in found for request in one.requests]


def test_one_that_is_there_lacks_nothing_whatever_the_state_of_its_device_is() -> None:
    head = rt.RtMsg.of(SIX.body)
    down = Fact(Kind.ROUTE, head._replace(flags=16).pack() + SIX.body[rt.RTMSG.size :])
    assert lacking(SIX, BESIDE, down) == []


def test_a_source_comes_back_in_place_or_beside_others() -> None:
    (one,) = lacking(SIX, BARE)
    assert one[:2] == (rt.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE)
    removed, made = lacking(SIX, BESIDE, BARE)
    assert removed == (rt.RTM_DELROUTE, 0, BARE.body)
    assert made[:2] == (rt.RTM_NEWROUTE, CREATE)
    assert rt.value(rt.split(made[2], rt.RTMSG.size), rt.RTA_PREFSRC) == OWN[1]


def test_one_that_another_would_be_removed_for_is_left() -> None:
    plain = route("2001:db8:a::/64", 2, source="2001:db8:1::4")
    bare = route("2001:db8:a::/64", 2)
    (one,) = leaning.lacking([plain], [BESIDE, bare], recreated=False)
    assert one == (plain, (), None)
    elsewhere = route("2001:db8:a::/64", 5, via="2001:db8:5::7")
    assert len(lacking(plain, elsewhere, bare)) == 2


def test_what_has_lost_a_source_that_is_not_on_the_port() -> None:
    wanted = [FOUR, SIX]
    assert leaning.orphaned(wanted, [BARE, BESIDE], ()) == wanted
    assert leaning.orphaned(wanted, [BARE], OWN) == []
    assert leaning.orphaned(wanted, [FOUR, SIX], ()) == []
    assert leaning.orphaned(wanted, [BESIDE], OWN[:1]) == []  # somebody has removed it


@pytest.mark.parametrize(("recreated", "count"), [(False, 0), (True, 1)])
def test_an_ipv4_route_comes_back_where_its_address_was_destroyed(
    recreated: bool, count: int
) -> None:
    other = route("192.0.2.0/24", 2, via="10.8.0.9")
    assert len(lacking(FOUR, other, recreated=recreated)) == count
    assert lacking(SIX, BESIDE, recreated=recreated) == []  # of IPv6 only the source goes
