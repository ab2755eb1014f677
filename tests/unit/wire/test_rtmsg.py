"""Dump messages taken apart and made into requests, and the numbers in them."""

from __future__ import annotations

import random
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manactl.wire import rtmsg as rt
from manactl.wire.rtmsg import Attr, Hop, IfAddrMsg, Member, NdMsg, NhMsg, Place, RtMsg
from tests.unit.wire.headers import numbers, public
from tests.unit.wording import says

WAS = (Place(3, "eth1"), Place(9, "v9"))
NOW = (Place(7, "enP1"), Place(8, "renamed"))
FOREVER = 0xFFFFFFFF


def attr(kind: int, payload: bytes) -> bytes:
    padding = bytes(-len(payload) % 4)
    return struct.pack("=HH", 4 + len(payload), kind) + payload + padding


def u32(*values: int) -> bytes:
    return struct.pack(f"={len(values)}I", *values)


def test_numbers_are_the_kernels() -> None:
    theirs = numbers("linux/rtnetlink.h", "linux/if_addr.h", "linux/neighbour.h", "linux/nexthop.h",
                     "linux/fib_rules.h", "linux/net_namespace.h")  # fmt: skip
    ours = public(rt, "RTM_", "RTA_", "RTN", "RT_", "RTPROT_", "IFA_", "IFAPROT_", "NDA_", "NUD_",
                  "NTF_", "NHA_", "FRA_", "FIB_", "NETNSA_")  # fmt: skip
    assert len(ours) > 80
    # Newer than the headers of some distributions.
    young = {"IFAPROT_KERNEL_LL", "NTF_EXT_MANAGED", "NDA_FLAGS_EXT", "IFA_PROTO"}
    missing = ours.keys() - theirs.keys()
    assert missing <= young
    common = ours.keys() - missing
    assert {name: ours[name] for name in common} == {name: theirs[name] for name in common}


@pytest.mark.parametrize(
    ("head", "packed"),
    [
        (IfAddrMsg(2, 24, 0x80, 253, 7), struct.pack("=BBBBI", 2, 24, 0x80, 253, 7)),
        (RtMsg(10, 1, 2, 3, 4, 5, 6, 7, 0x80000001),
         struct.pack("=BBBBBBBBI", 10, 1, 2, 3, 4, 5, 6, 7, 0x80000001)),
        (NdMsg(2, -1, 0x80, 8, 1), struct.pack("=BBHiHBB", 2, 0, 0, -1, 0x80, 8, 1)),
        (NhMsg(2, 253, 4, 0, 5), struct.pack("=BBBBI", 2, 253, 4, 0, 5)),
    ],
)  # fmt: skip
def test_headers_by_name(head: IfAddrMsg | RtMsg | NdMsg | NhMsg, packed: bytes) -> None:
    assert head.pack() == packed
    assert type(head).of(packed + b"attributes") == head
    with pytest.raises(struct.error):
        type(head).of(packed[:-1])


def test_attributes_keep_their_flag_bits_and_the_last_of_a_type_counts() -> None:
    body = b"HEAD" + attr(1, b"a") + attr(2 | 0x8000, b"bcd") + attr(1, b"")
    attrs = rt.split(body, 4)
    assert attrs == [Attr(1, b"a"), Attr(0x8002, b"bcd"), Attr(1, b"")]
    assert [one.type for one in attrs] == [1, 2, 1]
    assert rt.join(b"HEAD", attrs) == body
    assert (rt.value(attrs, 1), rt.value(attrs, 2), rt.value(attrs, 3)) == (b"", b"bcd", None)
    assert rt.number(attrs, 3) is None
    assert rt.number([Attr(4, u32(77))], 4) == 77


@pytest.mark.parametrize("length", [0, 3, 9, 4000])
def test_a_length_outside_the_message_is_an_error(length: int) -> None:
    with pytest.raises(ValueError, match=says(f"attribute at 2: length {length} of 8")):
        rt.split(b"HH" + struct.pack("=HHI", length, 1, 0), 2)


def test_hops_are_read_and_written_back() -> None:
    rest = attr(5, bytes([10, 0, 0, 1])) + struct.pack("=HHB", 5, 9, 1)
    packed = struct.pack("=HBBi", 8 + len(rest), 4, 2, 3) + rest + bytes(3)
    packed += struct.pack("=HBBi", 8, 16, 0, 9)
    assert rt.hops(packed) == [Hop(4, 2, 3, rest), Hop(16, 0, 9, b"")]
    assert rt.pack_hops(rt.hops(packed)) == packed
    for broken in (struct.pack("=HBBi", 7, 0, 0, 3), struct.pack("=HBBi", 9, 0, 0, 3)):
        with pytest.raises(ValueError, match=says("nexthop at 0")):
            rt.hops(broken)


def test_interfaces_of_a_route() -> None:
    hops = struct.pack("=HBBi", 8, 0, 0, 5) + struct.pack("=HBBi", 8, 0, 0, 6)
    assert rt.route_ifindexes(RtMsg(2).pack()) == set()
    assert rt.route_ifindexes(RtMsg(2).pack() + attr(4, u32(3))) == {3}
    assert rt.route_ifindexes(RtMsg(2).pack() + attr(4, u32(3)) + attr(9, hops)) == {3, 5, 6}


def test_members_of_a_group_have_sixteen_bits_of_weight() -> None:
    body = NhMsg().pack() + attr(2, struct.pack("=IBBHIBBH", 10, 0, 0, 0, 11, 255, 1, 0))
    assert rt.group(body) == [Member(10, 1), Member(11, 512)]
    assert rt.group_members(body) == [10, 11]
    assert rt.group_entries(body) == [
        struct.pack("=IBBH", 10, 0, 0, 0), struct.pack("=IBBH", 11, 255, 1, 0),
    ]  # fmt: skip
    assert rt.group(NhMsg().pack()) == rt.group_entries(NhMsg().pack()) == []


# --- from dump to request -------------------------------------------------------------------


def an_address(*, valid: int = FOREVER, preferred: int = FOREVER, label: bytes = b"eth1") -> bytes:
    return (
        struct.pack("=BBBBI", 2, 24, 0x80, 253, 3)
        + attr(1, bytes([10, 0, 0, 7])) + attr(2, bytes([10, 0, 0, 2]))
        + attr(3, label + b"\0") + attr(99, b"unknown")
        + attr(6, u32(preferred, valid, 111, 222))
        + attr(8, u32(0x80 | 0x40 | 0x20 | 0x08 | 0x04 | 0x01 | 0x02 | 0x10 | 0x100 | 0x200 | 0x400 | 0x800))
    )  # fmt: skip


def attrs_of(body: bytes | None, size: int) -> dict[int, bytes]:
    assert body is not None
    return {one.type: one.payload for one in rt.split(body, size)}


def test_an_address_as_a_request() -> None:
    made = rt.address(an_address(), WAS, NOW, 0)
    assert made is not None
    assert made[:8] == struct.pack("=BBBBI", 2, 24, 0x12, 253, 7)
    assert attrs_of(made, 8) == {
        1: bytes([10, 0, 0, 7]),
        2: bytes([10, 0, 0, 2]),
        3: b"enP1\0",
        99: b"unknown",
        6: u32(FOREVER, FOREVER, 0, 0),
        8: u32(0x712),
    }


@pytest.mark.parametrize(
    ("elapsed", "valid", "preferred"), [(0, 900, 800), (800, 100, 0), (850, 50, 0), (899, 1, 0)]
)
def test_times_that_remain(elapsed: int, valid: int, preferred: int) -> None:
    made = rt.address(an_address(valid=900, preferred=800), WAS, NOW, elapsed)
    assert attrs_of(made, 8)[6] == u32(preferred, valid, 0, 0)
    assert rt.address(an_address(valid=900), WAS, NOW, 900) is None
    made = rt.address(an_address(valid=FOREVER, preferred=0), WAS, NOW, 900)
    assert attrs_of(made, 8)[6] == u32(0, FOREVER, 0, 0)


def test_without_times() -> None:
    made = rt.address(an_address(valid=0), WAS, NOW, None)
    assert set(attrs_of(made, 8)) == {1, 2, 3, 8, 99}
    assert rt.address_is_limited(an_address(valid=0))
    assert not rt.address_is_limited(an_address(preferred=5))
    assert not rt.address_is_limited(IfAddrMsg(2).pack())


@pytest.mark.parametrize(
    ("label", "expected"),
    [(b"eth1", b"enP1"), (b"eth1:x", b"enP1:x"), (b"eth10", b"eth10"), (b"mine", b"mine"),
     (b"\xff:1", b"\xff:1")],
)  # fmt: skip
def test_labels_follow_the_name(label: bytes, expected: bytes) -> None:
    made = rt.address(an_address(label=label), WAS, NOW, 0)
    assert attrs_of(made, 8)[3] == expected + b"\0"


def test_flags_of_an_old_header_and_more_flags() -> None:
    plain = struct.pack("=BBBBI", 10, 64, 0x82, 0, 3) + attr(1, bytes(16))
    made = rt.address(plain, WAS, NOW, 0)
    assert attrs_of(made, 8)[8] == u32(0x02)
    assert made is not None
    more = rt.with_address_flags(made, 0x110)
    assert more[2] == 0x12
    assert attrs_of(more, 8)[8] == u32(0x112)
    assert attrs_of(more, 8)[1] == bytes(16)


def a_route(*attrs: bytes, flags: int = 0) -> bytes:
    return struct.pack("=BBBBBBBBI", 2, 24, 0, 4, 254, 3, 253, 1, flags) + b"".join(attrs)


def cache(ticks: int) -> bytes:
    return attr(12, struct.pack("=IIiIIIII", 1, 2, ticks, 4, 5, 6, 7, 8))


def test_a_route_as_a_request() -> None:
    hop = struct.pack("=HBBi", 8, 0x1 | 0x2 | 0x4 | 0x10, 1, 9)
    body = a_route(
        attr(4, u32(3)), attr(9 | 0x8000, hop), attr(99, b"x"), cache(0), flags=0x1 | 0x6 | 0x10
    )
    made = rt.route(body, WAS, NOW, 0)
    assert made is not None
    assert made[:12] == struct.pack("=BBBBBBBBI", 2, 24, 0, 4, 254, 3, 253, 1, 0x6)
    assert rt.split(made, 12) == [
        Attr(4, u32(7)), Attr(0x8009, struct.pack("=HBBi", 8, 0x6, 1, 8)), Attr(99, b"x"),
    ]  # fmt: skip


def test_a_route_by_object_asks_for_nothing_of_the_object() -> None:
    shown = [attr(n, u32(3)) for n in (4, 5, 9, 11, 18, 21, 22)]
    body = a_route(attr(30, u32(10)), *shown, attr(6, u32(5)), flags=0x4)
    made = rt.route(body, WAS, NOW, 0)
    assert made is not None
    assert rt.RtMsg.of(made).flags == 0
    assert attrs_of(made, 12) == {30: u32(10), 6: u32(5)}


@pytest.mark.parametrize(
    ("ticks", "elapsed", "left"),
    [(50_000, 0, 500), (50_099, 100, 400), (50_000, 499, 1), (50_000, 500, None), (50, 0, None),
     (-1, 0, None), (-50_000, 0, None)],
)  # fmt: skip
def test_the_time_that_a_route_has_left(ticks: int, elapsed: int, left: int | None) -> None:
    made = rt.route(a_route(cache(ticks)), WAS, NOW, elapsed)
    assert (None if made is None else attrs_of(made, 12)) == (
        None if left is None else {23: u32(left)}
    )
    assert attrs_of(rt.route(a_route(cache(ticks)), WAS, NOW, None), 12) == {}
    assert rt.route_is_limited(a_route(cache(ticks)))


def test_a_route_without_end() -> None:
    assert attrs_of(rt.route(a_route(cache(0)), WAS, NOW, 10**6), 12) == {}
    assert not rt.route_is_limited(a_route(cache(0)))
    assert not rt.route_is_limited(a_route())


def test_other_members() -> None:
    body = a_route(attr(9, b"before"), attr(1, b"dst."))
    made = rt.with_hops(body, [Hop(0, 1, 3, b"")])
    assert made[:12] == body[:12]
    assert attrs_of(made, 12) == {9: struct.pack("=HBBi", 8, 0, 1, 3), 1: b"dst."}


def test_a_nexthop_as_a_request() -> None:
    inner = attr(1, u32(32)) + attr(2, u32(60)) + attr(4, bytes(8))
    states = [attr(n, b"st") for n in (13, 14, 15, 17)]
    body = struct.pack("=BBBBI", 2, 253, 4, 9, 0x4 | 0x1 | 0x10) + attr(1, u32(10))
    body += attr(5, u32(3)) + attr(12, inner) + b"".join(states) + attr(16, b"hw")
    made = rt.nexthop(body, WAS, NOW)
    assert made[:8] == struct.pack("=BBBBI", 2, 0, 4, 0, 0x4)
    assert attrs_of(made, 8) == {
        1: u32(10), 5: u32(7), 12: attr(1, u32(32)) + attr(2, u32(60)), 16: b"hw",
    }  # fmt: skip


def test_a_neighbour_as_a_request() -> None:
    states = [attr(n, b"st") for n in (3, 4, 8, 9, 10)]
    body = struct.pack("=BBHiHBB", 2, 1, 2, 9, 0x80, 0x18, 1) + attr(1, b"dst.") + b"".join(states)
    body += attr(2, b"lladdr") + attr(12, b"\x09")
    made = rt.neighbour(body, WAS, NOW)
    assert made[:12] == struct.pack("=BBHiHBB", 2, 0, 0, 8, 0x80, 0x18, 1)
    assert attrs_of(made, 12) == {1: b"dst.", 2: b"lladdr", 12: b"\x09"}
    assert rt.neighbour(struct.pack("=BBHiHBB", 2, 0, 0, 77, 0, 0, 1), WAS, NOW)[4] == 77


def test_families() -> None:
    assert rt.is_ipv6(bytes([10]))
    assert not rt.is_ipv6(bytes([2]))


def test_a_flow_has_its_ports_in_network_order_or_is_left_out() -> None:
    assert rt.flow(6, 22, 0) == rt.flow(6, 0, 50022) == b""
    attrs = rt.split(rt.flow(17, 53, 0x1234), 0)
    assert attrs == [rt.Attr(27, b"\x11"), rt.Attr(28, b"\0\x35"), rt.Attr(29, b"\x12\x34")]


def test_of_protocols_that_the_kernel_refuses_to_be_asked_for_there_are_the_ports() -> None:
    for protocol in (132, 136):  # SCTP, UDP-Lite
        assert rt.split(rt.flow(protocol, 53, 9), 0) == rt.split(rt.flow(17, 53, 9), 0)[1:]


# --- encapsulations -------------------------------------------------------------------------

NESTED = 0x8000
RPL, SEG6_LOCAL, BPF = 8, 7, 6


def encap(kind: int, payload: bytes, of_type: int = 21, of_encap: int = 22) -> bytes:
    return attr(of_type, struct.pack("=H", kind)) + attr(of_encap, payload)


ROUTE = RtMsg(10, 64, table=254, type=1).pack()


@pytest.mark.parametrize("kind", [1, 2, 5, RPL, 9, 10])
def test_an_encapsulation_is_marked_as_nested(kind: int) -> None:
    """Some kinds are refused without (rpl_build_state(), ioam6_build_state(), xfrmi_build_state())."""
    payload = attr(1, u32(7))
    one = ROUTE + encap(kind, payload)
    made = rt.split(rt.route(one, WAS, NOW, 0) or b"", rt.RTMSG.size)
    assert made[-1] == Attr(22 | NESTED, payload)
    hop = Hop(0, 0, 3, encap(kind, payload))
    many = ROUTE + attr(9, rt.pack_hops([hop, Hop(0, 0, 4, b"")]))
    made = rt.split(rt.route(many, WAS, NOW, 0) or b"", rt.RTMSG.size)
    first, second = rt.hops(rt.value(made, 9) or b"")
    assert (first.ifindex, rt.split(first.rest, 0)[-1]) == (7, Attr(22 | NESTED, payload))
    assert second.rest == b""
    obj = NhMsg(10).pack() + attr(1, u32(5)) + encap(kind, payload, 7, 8)
    assert rt.split(rt.nexthop(obj, WAS, NOW), rt.NHMSG.size)[-1] == Attr(8 | NESTED, payload)


def test_a_seg6_action_names_the_device_of_now_and_counts_from_nothing() -> None:
    counters = attr(2, struct.pack("=Q", 9)) + attr(3, struct.pack("=Q", 99))
    inner = attr(1, u32(2)) + attr(7, u32(9)) + attr(6, u32(4)) + attr(10, counters)
    made = rt.route(ROUTE + encap(SEG6_LOCAL, inner), WAS, NOW, 0) or b""
    parts = rt.split(rt.value(rt.split(made, rt.RTMSG.size), 22) or b"", 0)
    assert [rt.number(parts, kind) for kind in (1, 7, 6)] == [2, 8, 4]
    counts = rt.split(rt.value(parts, 10) or b"", 0)
    assert counts == [Attr(2, bytes(8)), Attr(3, bytes(8))]


def test_what_runs_a_bpf_program() -> None:
    end_bpf, end = attr(1, u32(15)), attr(1, u32(1))
    for kind, payload, runs in (
        (BPF, b"", True), (RPL, b"", False), (SEG6_LOCAL, end_bpf, True), (SEG6_LOCAL, end, False),
    ):  # fmt: skip
        assert rt.route_has_bpf(ROUTE + encap(kind, payload)) is runs
        hops = [Hop(0, 0, 3, b""), Hop(0, 0, 4, encap(kind, payload))]
        assert rt.route_has_bpf(ROUTE + attr(9, rt.pack_hops(hops))) is runs
        obj = NhMsg(10).pack() + attr(1, u32(5)) + encap(kind, payload, 7, 8)
        assert rt.nexthop_has_bpf(obj) is runs
    assert not rt.route_has_bpf(ROUTE + attr(1, struct.pack("=HHHH", 6, 21, 6, 0)))


def test_the_ways_of_a_route() -> None:
    gateway = attr(5, bytes(16))
    one = ROUTE + gateway + attr(4, u32(3)) + attr(6, u32(1024))
    assert rt.ways(one) == [Hop(0, 0, 3, gateway)]
    many = ROUTE + attr(9, rt.pack_hops([Hop(1, 5, 3, gateway), Hop(0, 0, 4, b"")]))
    assert rt.ways(many) == [Hop(0, 0, 3, gateway), Hop(0, 0, 4, b"")]
    assert rt.ways(ROUTE + attr(30, u32(5))) == []


def test_attributes_by_type_for_many_messages() -> None:
    body = ROUTE + attr(4, u32(3)) + attr(9 | NESTED, rt.pack_hops([Hop(0, 0, 5, b"")]))
    assert set(rt.by_type(body, rt.RTMSG.size)) == {4, 9}
    assert rt.route_ifindexes(body) == rt.ifindexes(body) == {3, 5}
    assert rt.route_ifindexes(ROUTE) == set()
    with pytest.raises(ValueError, match="length 40 of 8"):
        rt.by_type(ROUTE + struct.pack("=HHI", 40, 4, 3), rt.RTMSG.size)


# --- shapes ---------------------------------------------------------------------------------


@st.composite
def route_messages(draw: st.DrawFn) -> bytes:
    """Routes with whatever before and after their destination, which may be missing."""
    six = draw(st.booleans())
    size = 16 if six else 4
    numbers = st.integers(0, 2**32 - 1).map(u32)
    addresses = st.binary(min_size=size, max_size=size)
    others = st.sampled_from(
        [rt.RTA_OIF, rt.RTA_PRIORITY, rt.RTA_TABLE, rt.RTA_GATEWAY, rt.RTA_PREFSRC, 77]
    )
    found = {kind: draw(addresses if kind in (5, 7) else numbers) for kind in draw(st.sets(others))}
    attrs = [attr(kind, payload) for kind, payload in found.items()]
    length = draw(st.integers(0, size * 8))
    if length:
        attrs.insert(draw(st.integers(0, len(attrs))), attr(rt.RTA_DST, draw(addresses)))
    if draw(st.booleans()):
        expires = draw(st.sampled_from([0, 1, 50_000, 2**31 - 1]))
        attrs.append(attr(rt.RTA_CACHEINFO, struct.pack("=IIiIIIII", 0, 0, expires, 0, 0, 0, 0, 0)))
    head = rt.RtMsg(10 if six else 2, length, table=254, protocol=draw(st.integers(0, 255)), type=1)
    return head.pack() + b"".join(draw(st.permutations(attrs)))


@given(body=route_messages(), elapsed=st.sampled_from([None, 0, 100, 1000]))
def test_a_route_by_its_shape_is_the_route(body: bytes, elapsed: int | None) -> None:
    """What is worked out once for all routes of a shape is what it is for each."""
    shape = rt.Shape.of(body)
    assert shape.filled(shape.rest, shape.at) == body
    dst = rt.value(rt.split(body, rt.RTMSG.size), rt.RTA_DST)
    assert shape.dst == (dst or b"")
    was, now = [rt.Place(3, "a"), rt.Place(4, "b")], [rt.Place(7, "a"), rt.Place(8, "c")]
    made_again = rt.RouteRequests(was, now, elapsed)
    wanted = rt.route(body, was, now, elapsed)
    assert made_again(shape) == wanted
    assert made_again(shape) == wanted, "and the second time"
    other = rt.Shape(shape.rest, shape.at, bytes(reversed(shape.dst)))
    made = other.filled(shape.rest, shape.at)
    assert made_again(other) == rt.route(made, was, now, elapsed)
    assert rt.Shape.of(made) == other


@pytest.mark.parametrize("length", [3, 0xFFFF])
def test_a_broken_route_has_no_shape(length: int) -> None:
    """A length that no attribute has, or that points outside the message."""
    body = rt.RtMsg(2, 24, type=1).pack() + struct.pack("=HH", length, 4) + u32(3)
    with pytest.raises(ValueError, match=says("attribute at 12")):
        rt.Shape.of(body)


@pytest.mark.parametrize("seed", range(20))
def test_many_routes_are_taken_apart_like_one(seed: int) -> None:
    draw = random.Random(seed)
    made = []
    for _ in range(60):
        six = draw.random() < 0.5
        to = struct.pack("=I", draw.randrange(4)) * (4 if six else 1)
        attrs = [rt.Attr(rt.RTA_DST, to), rt.Attr(rt.RTA_OIF, struct.pack("=I", 3))]
        if draw.random() < 0.9:
            attrs.insert(0, rt.Attr(rt.RTA_TABLE, struct.pack("=I", draw.choice((254, 100)))))
        if draw.random() < 0.1:
            draw.shuffle(attrs)
        length = draw.choice((0, 24, 32))
        made.append(rt.join(rt.RtMsg(10 if six else 2, length).pack(), attrs))
    made.append(rt.RtMsg(2).pack())
    one_by_one = [(one.rest, one.dst) for one in map(rt.Shape.of, made)]
    assert [*rt.shapes(made)] == one_by_one
    # In a full table those of one length and family follow each other, again and again.
    runs = [which for at in draw.sample(range(61), 9) for which in [at] * draw.choice((1, 700))]
    assert [*rt.shapes(made[at] for at in runs)] == [one_by_one[at] for at in runs]
    with pytest.raises(ValueError, match="length"):
        list(rt.shapes([made[0][:12] + b"\1\0\1\0", rt.RtMsg(2, 24).pack() + b"\3\0\1\0"]))


def test_a_route_of_another_family_is_not_cut_up_by_that_of_the_first() -> None:
    """Of one length, where the destination of one is as long as what is behind that of the other."""
    table, behind = rt.Attr(rt.RTA_TABLE, bytes(4)), rt.Attr(rt.RTA_PRIORITY, bytes(8))
    four = rt.join(rt.RtMsg(2, 32).pack(), [table, rt.Attr(rt.RTA_DST, b"4444"), behind])
    six = rt.join(rt.RtMsg(10, 128).pack(), [table, rt.Attr(rt.RTA_DST, b"6" * 16)])
    assert len(four) == len(six)
    for made in ([four, six], [six, four], [four], [six, six, four, six]):
        assert [dst for _, dst in rt.shapes(made)] == [
            b"4444" if body is four else b"6" * 16 for body in made
        ]


def test_a_shape_is_asked_about_once() -> None:
    asked: list[bytes] = []

    def length(rest: bytes) -> int:
        asked.append(rest)
        return len(rest)

    to = [bytes([1, 2, n & 255, n >> 8]) for n in range(2000)]
    table = rt.Attr(rt.RTA_TABLE, bytes(4))
    made = [rt.join(rt.RtMsg(2, 32).pack(), [table, rt.Attr(rt.RTA_DST, one)]) for one in to]
    found = [*rt.per_shape(made, length)]
    assert [dst for _, some in found for dst in some] == to
    assert {answer for some, _ in found for answer in some} == {28}
    assert len(asked) == 1


# --- segments -----------------------------------------------------------------------------------

_SEGMENTS = [socket.inet_pton(socket.AF_INET6, f"2001:db8:{n}::9") for n in (1, 2)]


def _encapped(kind: int, inner: bytes, kinds: tuple[int, int] = (21, 22)) -> bytes:
    return attr(kinds[1], inner) + attr(kinds[0], struct.pack("=H", kind))


def _srh(segments: list[bytes], left: int = 1) -> bytes:
    first = len(segments) - 1
    return bytes([0, 2 * len(segments), 4, left, first, 0, 0, 0]) + b"".join(segments[::-1])


@pytest.mark.parametrize(
    ("encap", "expected"),
    [
        (_encapped(5, attr(1, struct.pack("=i", 1) + _srh(_SEGMENTS))), _SEGMENTS[:1]),
        # The kernel takes the first one, whatever is left (seg6_validate_srh()).
        (_encapped(5, attr(1, struct.pack("=i", 1) + _srh(_SEGMENTS, 0))), _SEGMENTS[:1]),
        (_encapped(8, attr(1, bytes(8) + b"".join(_SEGMENTS))), _SEGMENTS[:1]),
        (_encapped(9, attr(1, b"\2") + attr(2, _SEGMENTS[0]) + attr(3, bytes(8))), _SEGMENTS[:1]),
        (_encapped(9, attr(1, b"\1") + attr(3, bytes(8))), []),  # put into the packet itself
        (_encapped(5, attr(1, bytes(9))), []),  # cut off
        (_encapped(1, attr(1, bytes(4))), []),  # MPLS: the device and the gateway decide
        (b"", []),
    ],
)
def test_the_first_segment_of_a_route_and_of_a_nexthop(encap: bytes, expected: list[bytes]) -> None:
    head = rt.RtMsg(socket.AF_INET6, 0, type=1).pack()
    assert rt.route_segments(head + encap) == expected
    hop = rt.pack_hops([rt.Hop(0, 0, 3, encap), rt.Hop(0, 0, 4, b"")])
    assert rt.route_segments(head + attr(9, hop)) == expected
    assert rt.nexthop_segments(rt.NhMsg(10).pack() + _as_nexthop(encap)) == expected


def _as_nexthop(encap: bytes) -> bytes:
    kinds = {22: 8, 21: 7}
    return b"".join(attr(kinds[one.type], one.payload) for one in rt.split(encap, 0))
