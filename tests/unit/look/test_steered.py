"""Default routes that lead over the port by their first segment."""

from __future__ import annotations

import dataclasses
import socket
import struct

import pytest

from manactl.look import steered
from manactl.wire import rtmsg as rt
from tests.unit.look.kernel import FakeRtnl, attr

WAYS = {"2001:db8:1::/64": {3}, "::/0": {2}}
NAMES = {2: "eth0", 3: "eth1"}


def encap(first: str, kinds: tuple[int, int] = (21, 22)) -> bytes:
    """Of RPL, whose header is short."""
    inner = attr(1, bytes(8) + socket.inet_pton(socket.AF_INET6, first))
    return attr(kinds[1], inner) + attr(kinds[0], struct.pack("=H", 8))


def route(length: int, out: int, more: bytes = b"", first: int = 0) -> bytes:
    head = rt.RtMsg(socket.AF_INET6, length, table=254, protocol=4, type=1).pack()
    dst = attr(1, bytes([first]) + bytes(15)) if length else b""
    return head + dst + attr(4, struct.pack("=I", out)) + more


OVER, ASIDE = encap("2001:db8:1::9"), encap("2001:db8:2::9")


@pytest.mark.parametrize(
    ("routes", "found"),
    [
        ([route(0, 2, OVER)], 1),
        ([route(0, 2, ASIDE)], 0),
        ([route(0, 2)], 0),
        ([route(0, 3, OVER)], 0),  # the port's own: known as such
        ([route(1, 2, OVER), route(1, 2, OVER, 0x80)], 1),  # the first half has the world in it
        ([route(4, 2, OVER, 0x20)], 0),
        ([route(48, 2, OVER, 0x20)], 0),
    ],
)
def test_default_routes_by_their_first_segment(routes: list[bytes], found: int) -> None:
    rtnl = FakeRtnl([], routing=routes, ways=WAYS)
    assert len(steered.defaults({3}, NAMES, rtnl)) == found


def test_one_that_goes_by_a_nexthop_object() -> None:
    hop = rt.NhMsg(socket.AF_INET6).pack() + attr(1, struct.pack("=I", 7))
    hop += attr(5, struct.pack("=I", 2))
    by = attr(30, struct.pack("=I", 7))
    head = rt.RtMsg(socket.AF_INET6, 0, table=254, protocol=4, type=1).pack()
    rtnl = FakeRtnl([], routing=[head + by], ways=WAYS, objects=[hop + encap_of_hop()])
    (text,) = steered.defaults({3}, NAMES, rtnl)
    assert text.startswith("default")
    other = rt.NhMsg(socket.AF_INET6).pack() + attr(1, struct.pack("=I", 9))
    group = rt.NhMsg().pack() + attr(1, struct.pack("=I", 8))
    group += attr(2, struct.pack("=IBBHIBBH", 9, 0, 0, 0, 7, 0, 0, 0))
    through = dataclasses.replace(rtnl, routing=[head + attr(30, struct.pack("=I", 8))])
    through.objects = [group, other, hop + encap_of_hop()]
    assert len(steered.defaults({3}, NAMES, through)) == 1
    through.objects = [group, other, hop]
    assert steered.defaults({3}, NAMES, through) == ()
    rtnl.objects = [hop]
    assert steered.defaults({3}, NAMES, rtnl) == ()


def encap_of_hop() -> bytes:
    return encap("2001:db8:1::9", (7, 8))
