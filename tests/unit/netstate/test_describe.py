"""Facts in iproute2's words, and the commands that remove them."""

from __future__ import annotations

import struct

import pytest

from manactl.netstate import describe
from manactl.netstate.snapshot import Fact, Kind
from manactl.wire import rtmsg as rt
from manactl.wire.rtmsg import Attr
from tests.unit.fakes import address, neighbour, nexthop, route, times, u32
from tests.unit.wire.headers import numbers
from tests.unit.wording import wording

NAMES = {3: "eth1", 4: "eth2"}


def raw_route(*attrs: Attr, family: int = 2, length: int = 24, tos: int = 0, proto: int = 3,
              scope: int = 0, kind: int = 1, table: int = 254, flags: int = 0) -> bytes:  # fmt: skip
    head = struct.pack("=BBBBBBBBI", family, length, 0, tos, table, proto, scope, kind, flags)
    return rt.join(head, attrs)


def raw_address(*attrs: Attr, flags: int = 0, scope: int = 0) -> bytes:
    return rt.join(struct.pack("=BBBBI", 2, 24, flags, scope, 3), attrs)


DST, OIF = Attr(1, bytes([192, 0, 2, 0])), Attr(4, u32(3))
LOCAL, PEER = Attr(2, bytes([10, 0, 0, 2])), Attr(1, bytes([10, 0, 0, 7]))
HOPS = (
    struct.pack("=HBBi", 16, 0, 2, 3) + struct.pack("=HH4B", 8, 5, 10, 0, 0, 1)
    + struct.pack("=HBBi", 8, 0, 0, 4)
)  # fmt: skip
GROUP = rt.join(
    struct.pack("=BBBBI", 0, 0, 0, 0, 0),
    [Attr(1, u32(20)), Attr(2, struct.pack("=IBBHIBBH", 10, 0, 0, 0, 11, 4, 0, 0))],
)
VIA6 = Attr(18, b"\x0a\0" + bytes.fromhex("fe80" + "00" * 13 + "01"))

ADDRESSES = [
    (raw_address(Attr(1, LOCAL.payload), LOCAL), "inet 10.0.0.2/24 dev eth1"),
    (raw_address(LOCAL), "inet 10.0.0.2/24 dev eth1"),
    (raw_address(PEER, LOCAL), "inet 10.0.0.2 peer 10.0.0.7/24 dev eth1"),
    (raw_address(LOCAL, scope=253), "inet 10.0.0.2/24 scope link dev eth1"),
    (raw_address(LOCAL, scope=77), "inet 10.0.0.2/24 scope 77 dev eth1"),
    (raw_address(LOCAL, flags=0x02), "inet 10.0.0.2/24 nodad dev eth1"),
    (raw_address(LOCAL, Attr(8, u32(0x300))), "inet 10.0.0.2/24 noprefixroute mngtmpaddr dev eth1"),
    (raw_address(LOCAL, Attr(9, u32(7))), "inet 10.0.0.2/24 metric 7 dev eth1"),
    (raw_address(LOCAL, Attr(3, b"eth1\0")), "inet 10.0.0.2/24 dev eth1"),
    (raw_address(LOCAL, Attr(3, b"eth1:x\0")), "inet 10.0.0.2/24 label eth1:x dev eth1"),
    (raw_address(LOCAL, Attr(6, times(5, 900))), "inet 10.0.0.2/24 valid_lft 900sec dev eth1"),
    (raw_address(LOCAL, Attr(6, times())), "inet 10.0.0.2/24 dev eth1"),
    (address("2001:db8::2", 64, 9).body, "inet6 2001:db8::2/64 dev if9"),
]
ROUTES = [
    (raw_route(DST, OIF), "192.0.2.0/24 dev eth1 proto boot"),
    (raw_route(OIF, length=0), "default dev eth1 proto boot"),
    (raw_route(OIF, length=0, family=10), "default (IPv6) dev eth1 proto boot"),
    (raw_route(DST, Attr(5, bytes([10, 0, 0, 1])), OIF),
     "192.0.2.0/24 via 10.0.0.1 dev eth1 proto boot"),
    (raw_route(DST, VIA6, OIF), "192.0.2.0/24 via inet6 fe80::1 dev eth1 proto boot"),
    (raw_route(DST, OIF, tos=16), "192.0.2.0/24 tos 0x10 dev eth1 proto boot"),
    (raw_route(DST, OIF, proto=199), "192.0.2.0/24 dev eth1 proto 199"),
    (raw_route(DST, OIF, proto=16, scope=253), "192.0.2.0/24 dev eth1 proto dhcp scope link"),
    (raw_route(DST, OIF, table=253), "192.0.2.0/24 dev eth1 table default proto boot"),
    (raw_route(DST, OIF, Attr(15, u32(4000)), table=252),
     "192.0.2.0/24 dev eth1 table 4000 proto boot"),
    (raw_route(DST, OIF, kind=2, table=255, proto=2),
     "local 192.0.2.0/24 dev eth1 table local proto kernel"),
    (raw_route(DST, kind=7), "unreachable 192.0.2.0/24 proto boot"),
    (raw_route(DST, OIF, Attr(7, bytes([10, 0, 0, 2])), Attr(6, u32(5))),
     "192.0.2.0/24 dev eth1 proto boot src 10.0.0.2 metric 5"),
    (raw_route(DST, OIF, flags=4), "192.0.2.0/24 dev eth1 proto boot onlink"),
    (raw_route(DST, OIF, Attr(30, u32(10))), "192.0.2.0/24 nhid 10 proto boot"),
    (raw_route(DST, Attr(9, HOPS)),
     "192.0.2.0/24 nexthop via 10.0.0.1 dev eth1 weight 3 nexthop dev eth2 weight 1 proto boot"),
]  # fmt: skip
OTHERS = [
    ("nexthop", nexthop(10, 4).body, "nexthop id 10 dev eth2"),
    ("nexthop", rt.join(bytes(8), [Attr(1, u32(5)), Attr(6, bytes([10, 0, 0, 1]))]),
     "nexthop id 5 via 10.0.0.1"),
    ("nexthop", GROUP, "nexthop id 20 group 10/11,5"),
    ("neighbour", neighbour("10.0.0.5").body,
     "neighbour 10.0.0.5 lladdr 02:00:00:00:00:50 dev eth1 permanent"),
    ("neighbour", neighbour("10.0.0.6", 4, proxy=True).body, "proxy neighbour 10.0.0.6 dev eth2"),
    ("neighbour", struct.pack("=BBHiHBB", 2, 0, 0, 3, 0x04, 0x10, 1), "neighbour dev eth1 stale"),
]  # fmt: skip


@pytest.mark.wording
@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        *(("address", body, text) for body, text in ADDRESSES),
        *(("route", body, text) for body, text in ROUTES),
        *OTHERS,
    ],
)
def test_words(kind: str, body: bytes, text: str) -> None:
    assert describe.text(kind, body, NAMES) == text


@pytest.mark.wording
@pytest.mark.parametrize(
    ("fact", "command"),
    [
        (Fact(Kind.ADDRESS, ADDRESSES[5][0]), "ip address del 10.0.0.2/24 dev eth1"),
        (Fact(Kind.ADDRESS, ADDRESSES[2][0]), "ip address del 10.0.0.2 peer 10.0.0.7/24 dev eth1"),
        (route("192.0.2.0", 24, via="10.0.0.1", metric=5),
         "ip route del 192.0.2.0/24 via 10.0.0.1 dev eth1 proto static metric 5"),
        (Fact(Kind.ROUTE, raw_route(DST, OIF, proto=16, scope=253)),
         "ip route del 192.0.2.0/24 dev eth1 proto dhcp"),
        (Fact(Kind.ROUTE, raw_route(OIF, length=0, family=10)),
         "ip -6 route del default dev eth1 proto boot"),
        (nexthop(10), "ip nexthop del id 10"),
        (neighbour("10.0.0.5"), "ip neighbour del 10.0.0.5 dev eth1"),
        (neighbour("10.0.0.6", proxy=True), "ip neighbour del proxy 10.0.0.6 dev eth1"),
    ],
)  # fmt: skip
def test_commands_that_remove_it(fact: Fact, command: str) -> None:
    assert describe.command(fact.kind, fact.body, NAMES) == command


def test_what_the_words_leave_out() -> None:
    metrics = rt.join(
        b"", [Attr(1, u32(1 << 2)), Attr(2, u32(1400)), Attr(8, u32(1300)), Attr(16, b"cubic\0")]
    )
    body = raw_route(DST, OIF, Attr(8 | 0x8000, metrics), Attr(11, u32(5)))
    assert describe.settings("route", body) == "mtu lock 1400, advmss 1300, attribute 11 05000000"
    # Numbers and names by include/uapi/linux/rtnetlink.h (RTAX_*) and ip-route(8).
    every = rt.join(b"", [Attr(number, u32(number)) for number in range(2, 16)])
    assert describe.settings("route", raw_route(DST, OIF, Attr(8 | 0x8000, every))) == (
        "mtu 2, window 3, rtt 4, rttvar 5, ssthresh 6, cwnd 7, advmss 8, reordering 9, "
        "hoplimit 10, initcwnd 11, features 12, rto_min 13, initrwnd 14, quickack 15"
    )
    for ticks, words in ((0, "without lifetime"), (500, "with a lifetime")):
        cache = struct.pack("=IIiIIIII", 0, 0, ticks, 0, 0, 0, 0, 0)
        with wording:
            assert describe.settings("route", raw_route(DST, Attr(12, cache))) == words
    assert describe.settings("route", raw_route(DST, OIF)) == "none"
    assert describe.settings("nexthop", GROUP) == "none"
    assert describe.settings("address", raw_address(LOCAL, Attr(4, b"\x0a\0\0\xff"))) == (
        "attribute 4 0a0000ff"
    )
    assert describe.settings("neighbour", neighbour("10.0.0.5").body) == "attribute 3 " + "00" * 16


@pytest.mark.parametrize("dst", [bytes([192, 0, 2, 0]), bytes(4), bytes([9, 9, 9, 9])])
def test_routes_of_one_shape_read_as_each_does(dst: bytes) -> None:
    """What is put in words once for a shape is what it is for each of its routes."""
    bodies = [body for body, _ in ROUTES]
    assert len(bodies) > 10
    texts = describe.Texts(NAMES)
    for body in (*bodies, *bodies):
        try:
            shape = rt.Shape.of(body)
        except (ValueError, struct.error):
            continue
        assert texts.route(shape) == describe.text("route", body, NAMES)
        if len(shape.dst) == 4:
            other = rt.Shape(shape.rest, shape.at, dst)
            filled = other.filled(shape.rest, shape.at)
            assert texts.route(other) == describe.text("route", filled, NAMES)


@pytest.mark.wording
def test_numbers_have_the_names_of_the_kernels_header() -> None:
    known = numbers("linux/rtnetlink.h")
    types = {name[4:].lower(): n for name, n in known.items() if name.startswith("RTN_")}
    for name, number in types.items():
        if name not in ("unspec", "unicast", "nat", "xresolve"):  # the kernel has no such routes
            said = describe.text("route", raw_route(DST, kind=number), NAMES)
            assert said.split()[0] == name
    protocols = {name[7:].lower(): n for name, n in known.items() if name.startswith("RTPROT_")}
    for name, number in protocols.items():
        if name != "unspec":
            said = describe.text("route", raw_route(DST, proto=number), NAMES)
            assert said.endswith(f" proto {name}")
    scopes = {name[9:].lower(): n for name, n in known.items() if name.startswith("RT_SCOPE_")}
    for name, number in scopes.items():
        if name != "universe":
            said = describe.text("route", raw_route(DST, scope=number), NAMES)
            assert said.endswith(f" scope {name}")
    metrics = {
        n: name[5:].lower()
        for name, n in known.items()
        if name.startswith("RTAX_") and not name.startswith("RTAX_FEATURE_")
    }
    apart = {"unspec", "lock", "cc_algo", "fastopen_no_cookie", "max"}
    assert {n: name for n, name in metrics.items() if name not in apart} == describe._METRICS
    states = {name[4:].lower(): n for name, n in numbers("linux/neighbour.h").items()
              if name.startswith("NUD_")}  # fmt: skip
    assert {name: number for number, name in describe._STATES.items()}.items() <= states.items()
