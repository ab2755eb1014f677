"""What is asked of rtnetlink, and what is made of its answers."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from manactl.look import rtnetlink
from manactl.look.rtnetlink import Rtnl, ntop
from manactl.model.port import PortId
from manactl.netstate import snapshot
from manactl.netstate.snapshot import Fact, Kind, OtherDevice, Request
from manactl.wire import rtmsg as rt
from manactl.wire.netlink import Datagram, Table
from tests.unit.fakes import address, neighbour, nexthop, route
from tests.unit.wording import wording

PORT = PortId("7870:00:00.0", 1, None)
GETLINK, GETADDR, GETROUTE, GETNEIGH, GETNSID, GETNEXTHOP = 18, 22, 26, 30, 90, 106
PEER = socket.inet_aton("192.0.2.9")


class Answer(NamedTuple):
    type: int
    body: bytes


def attr(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def link(index: int, name: str, more: bytes = b"") -> bytes:
    head = struct.pack("=BBHiII", 0, 0, 1, index, 0x1003, 0)
    return (
        head + attr(3, name.encode() + b"\0") + attr(33, b"\1") + attr(1, bytes(5) + b"\7") + more
    )


class Kernel:
    """Tables to dump by request type, answers to requests in turn, and what was asked."""

    def __init__(self) -> None:
        self.tables: dict[int, list[bytes]] = {}
        self.answers: list[list[Answer] | int] = []
        self.asked: list[tuple[int, int, bytes]] = []
        self.closed = False

    def request(self, kind: int, flags: int = 0, body: bytes = b"") -> list[Answer]:
        self.asked.append((kind, flags, body))
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        return answer

    def dump(self, kind: int, body: bytes = b"") -> list[Answer]:
        """Addresses, routes and neighbours of the family asked for, proxies by their flag."""
        self.asked.append((kind, -1, body))
        rows = self.tables.get(kind, [])
        if kind in (GETADDR, GETROUTE, GETNEIGH):
            rows = [row for row in rows if row[0] == body[0]]
        if kind == GETNEIGH:
            rows = [row for row in rows if row[10] & 8 == body[10] & 8]
        return [Answer(kind - 2, row) for row in rows]

    def dump_again(self, kind: int, body: bytes, before: Table | None = None) -> Table:
        """A datagram for each message, and the table from before where none has changed."""
        rows = [row for _, row in self.dump(kind, body)]
        made = (*(Datagram(row, [row]) for row in rows), Datagram(b"end", [], last=True))
        return before if before == made and before is not None else made

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(rtnetlink, "NetlinkSocket", lambda _family: made)
    return made


@pytest.fixture
def rtnl(kernel: Kernel) -> Iterator[Rtnl]:
    with Rtnl() as made:
        yield made
    assert kernel.closed


def test_a_link_or_none(kernel: Kernel, rtnl: Rtnl) -> None:
    kernel.answers = [[Answer(16, link(3, "eth1"))], [], errno.ENODEV]
    found = rtnl.link(3)
    assert (found.ifindex, found.name, found.up, found.carrier) == (3, "eth1", True, True)
    assert kernel.asked[0][0] == GETLINK
    assert struct.unpack_from("=i", kernel.asked[0][2], 4) == (3,)
    for _ in range(2):
        with pytest.raises(OSError, match="No such device"):
            rtnl.link(3)


def test_a_capture_is_all_that_refers_to_the_port(kernel: Kernel, rtnl: Rtnl) -> None:
    vlan = attr(5, struct.pack("=I", 3)) + attr(18, attr(1, b"vlan\0") + attr(2, attr(1, b"\7\0")))
    kernel.tables = {
        GETLINK: [link(3, "eth1"), link(4, "eth2"), link(5, "other0"), link(9, "v7", vlan)],
        GETADDR: [address("10.0.0.2", 24).body, address("2001:db8::9", 64, 9).body,
                  address("10.0.4.2", 24, 4).body],
        GETROUTE: [route("192.0.2.0", 24, 9).body, route("192.0.3.0", 24, 4).body,
                   route("2001:db8:9::", 48).body],
        GETNEIGH: [neighbour("10.0.0.50").body, neighbour("10.0.0.60", proxy=True).body],
        GETNEXTHOP: [nexthop(10).body, nexthop(12, 5).body, nexthop(20, None, (10, 12)).body,
                     nexthop(30, 4).body],
    }  # fmt: skip
    kernel.answers = [[Answer(16, link(3, "eth1"))]]
    found = rtnl.capture(PORT, 3, 99.5, {30})
    assert [fact.body for fact in found.of(Kind.ADDRESS)] == kernel.tables[GETADDR][:2]
    assert [fact.body for fact in found.of(Kind.ROUTE)] == kernel.tables[GETROUTE][::2]
    assert [fact.body for fact in found.of(Kind.NEIGHBOUR)] == kernel.tables[GETNEIGH]
    assert found.of(Kind.NEXTHOP) == (nexthop(10), nexthop(20, None, (10, 12)))
    assert found.related == (nexthop(12, 5), nexthop(30, 4))
    mac = "00:00:00:00:00:07"
    assert found.others == (OtherDevice(4, "eth2", mac), OtherDevice(5, "other0", mac))
    assert found.links == found.others
    assert [upper.name for upper in found.uppers] == ["v7"]
    assert (found.port, found.ifindex, found.ifname, found.up, found.carrier, found.taken) == (
        PORT, 3, "eth1", True, True, 99.5,
    )  # fmt: skip


def test_a_capture_sees_what_has_changed_since_the_last(kernel: Kernel, rtnl: Rtnl) -> None:
    old, new, changed = (route(to, 24).body for to in ("192.0.2.0", "192.0.3.0", "192.0.4.0"))
    six = route("2001:db8:9::", 48).body
    later = route("192.0.2.0", 24, metric=5).body
    for devices, rows, there in (
        ([3], None, [old, six]),
        ([3], None, [old, six]),
        ([3], None, [old, new, six]),
        ([3], None, [later, new, six]),
        ([3, 4], None, [later, route("192.0.2.0", 24, 4, metric=5).body, six]),
        ([3, 4], None, [later, six]),
        ([3], {snapshot.route_key(Fact(Kind.ROUTE, changed))}, [changed, six]),
        ([3], None, []),
    ):
        kernel.tables = {GETLINK: [link(i, f"eth{i}") for i in devices], GETROUTE: there}
        kernel.answers = [[Answer(16, link(3, "eth3"))]] * 2
        found = rtnl.capture(PORT, 3, 99.5, (), rows)
        with Rtnl() as fresh:
            assert found == fresh.capture(PORT, 3, 99.5, (), rows)
        ours = [body for body in there if rt.route_ifindexes(body) == {3}]
        assert [fact.body for fact in found.facts] == ours
        assert bool(found.rows) is (rows is not None or len(ours) != len(there))
    assert rtnl.routes() == []


def test_a_table_that_cannot_be_read_is_an_error_and_not_empty(
    kernel: Kernel, rtnl: Rtnl, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = kernel.dump
    for refused in (GETLINK, GETADDR, GETROUTE, GETNEIGH, GETNEXTHOP):

        def dump(kind: int, body: bytes = b"", refused: int = refused) -> list[Answer]:
            if kind == refused:
                raise OSError(errno.EINVAL, "Invalid argument")
            return plain(kind, body)

        monkeypatch.setattr(kernel, "dump", dump)
        kernel.answers = [[Answer(16, link(3, "eth1"))]]
        with pytest.raises(OSError, match="Invalid argument"):
            rtnl.capture(PORT, 3, 99.5)


def test_guards_go_through_the_routes_of_the_look_before_them(kernel: Kernel, rtnl: Rtnl) -> None:
    some, more = [route("192.0.2.0", 24).body], [route("192.0.3.0", 24).body]
    kernel.tables = {GETLINK: [link(3, "eth3")], GETROUTE: some}
    assert [*rtnl.routes()] == some
    kernel.tables[GETROUTE] = more
    assert [*rtnl.routes()] == some
    kernel.answers = [[Answer(16, link(3, "eth3"))]]
    rtnl.capture(PORT, 3, 99.5)
    kernel.tables[GETROUTE] = []
    assert [*rtnl.routes()] == more


def test_what_leans_on_the_port_does_not_once_its_nexthop_leads_there(
    kernel: Kernel, rtnl: Rtnl
) -> None:
    """With net.ipv4.nexthop_compat_mode=0 the route reads as before."""
    head, *attrs = (rt.RtMsg(2, 24, type=1).pack(), rt.Attr(rt.RTA_TABLE, struct.pack("=I", 254)))
    attrs += [
        rt.Attr(rt.RTA_DST, socket.inet_aton("192.0.2.0")),
        rt.Attr(rt.RTA_PREFSRC, socket.inet_aton("10.0.0.2")),
        rt.Attr(rt.RTA_NH_ID, struct.pack("=I", 10)),
    ]
    kernel.tables = {
        GETLINK: [link(3, "eth1"), link(5, "other0")],
        GETADDR: [address("10.0.0.2", 24).body],
        GETROUTE: [rt.join(head, attrs)],
    }
    found = []
    for device in (5, 3, 5):
        kernel.tables[GETNEXTHOP] = [nexthop(10, device).body]
        kernel.answers = [[Answer(16, link(3, "eth1"))]]
        state = rtnl.capture(PORT, 3, 99.5)
        found.append((len(state.leaning), len(state.of(Kind.ROUTE))))
    assert found == [(1, 0), (0, 1), (1, 0)]


def test_routes_that_could_not_be_read_are_not_those_of_before(
    kernel: Kernel, rtnl: Rtnl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a family that could be read taken for unchanged when the other one is read at last."""
    plain = kernel.dump
    refused: list[int] = []

    def dump(kind: int, body: bytes = b"") -> list[Answer]:
        if kind == GETROUTE and body[0] in refused:
            raise OSError(errno.ENOBUFS, "No buffer space available")
        return plain(kind, body)

    monkeypatch.setattr(kernel, "dump", dump)
    for there in (["192.0.2.0"], ["192.0.2.0", "192.0.3.0"]):
        kernel.tables = {
            GETLINK: [link(3, "eth3")], GETROUTE: [route(to, 24).body for to in there],
        }  # fmt: skip
        if len(there) > 1:
            refused.append(socket.AF_INET6)
            kernel.answers = [[Answer(16, link(3, "eth3"))]]
            for look in (lambda: rtnl.capture(PORT, 3, 99.5), rtnl.routes):
                with pytest.raises(OSError, match="No buffer space"):
                    look()
            refused.clear()
        assert [*rtnl.routes()] == kernel.tables[GETROUTE]


def test_what_is_sent(kernel: Kernel, rtnl: Rtnl) -> None:
    kernel.answers = [[], []]
    rtnl.send(Request(24, 0x400, b"route"))
    rtnl.set_up(3, True)
    assert kernel.asked == [
        (24, 0x400, b"route"), (16, 0, struct.pack("=BBHiII", 0, 0, 0, 3, 1, 1)),
    ]  # fmt: skip


def test_the_number_of_a_namespace(kernel: Kernel, rtnl: Rtnl) -> None:
    def answer(number: int) -> list[Answer]:
        return [Answer(88, bytes(4) + attr(1, struct.pack("=i", number)))]

    kernel.answers = [answer(5), answer(-1), []]
    assert [rtnl.nsid(7), rtnl.nsid(7), rtnl.nsid(7)] == [5, None, None]
    assert kernel.asked[0] == (GETNSID, 0, bytes(4) + attr(3, struct.pack("=I", 7)))


def asked_for(kernel: Kernel, number: int) -> tuple[tuple[int, ...], dict[int, bytes]]:
    """Header and attributes of a route request."""
    body, found, at = kernel.asked[number][2], {}, 12
    while at < len(body):
        length, kind = struct.unpack_from("=HH", body, at)
        found[kind] = body[at + 4 : at + length]
        at += (length + 3) & ~3
    return struct.unpack_from("=BBBBBBBBI", body), found


def test_the_way_to_an_address(kernel: Kernel, rtnl: Rtnl) -> None:
    there = route("192.0.2.0", 24).body
    kernel.answers = [[Answer(2, b""), Answer(24, there)]] * 2
    assert rtnl.way_to(PEER, socket.inet_aton("10.0.0.2"), attr(16, b"mark")) == there
    head, attrs = asked_for(kernel, 0)
    assert (head[:3], head[8]) == ((2, 32, 32), 0x2000)
    assert attrs == {1: PEER, 2: socket.inet_aton("10.0.0.2"), 16: b"mark"}
    assert rtnl.way_to(bytes(16), entry=False) == there
    head, attrs = asked_for(kernel, 1)
    assert (head[:3], head[8], attrs) == ((10, 128, 0), 0, {1: bytes(16)})


def test_a_kernel_without_ipv6(kernel: Kernel, rtnl: Rtnl, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ipv6.disable=1: of rules it refuses that family, of the others it tells all there are."""
    tables = {
        GETADDR: [address("10.0.0.2", 24).body], GETROUTE: [route("192.0.2.0", 24).body],
        rt.RTM_GETRULE: [rt.RtMsg(2).pack()],
    }  # fmt: skip

    def dump(kind: int, body: bytes = b"") -> list[Answer]:
        if kind == rt.RTM_GETRULE and body[0] == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return [Answer(kind - 2, row) for row in tables[kind]]

    monkeypatch.setattr(kernel, "dump", dump)
    assert [rtnl.addresses(), [*rtnl.routes()], rtnl.rules()] == [*tables.values()]
    kernel.answers = [errno.EOPNOTSUPP]
    assert rtnl.leaves_by(socket.inet_pton(socket.AF_INET6, "2001:db8::1")) == set()


@pytest.mark.parametrize("code", ["ENETUNREACH", "EHOSTUNREACH", "EACCES", "EINVAL", "ENODEV"])
def test_no_way(kernel: Kernel, rtnl: Rtnl, code: str) -> None:
    kernel.answers = [getattr(errno, code)]
    assert rtnl.way_to(PEER) is None


def test_a_question_that_was_not_answered_is_an_error(kernel: Kernel, rtnl: Rtnl) -> None:
    kernel.answers = [errno.EPERM, errno.ENOBUFS]
    for _ in range(2):
        with pytest.raises(OSError):  # noqa: PT011 - whatever it is
            rtnl.leaves_by(PEER)


def test_by_which_interfaces_packets_leave(kernel: Kernel, rtnl: Rtnl) -> None:
    out = [Answer(24, route("192.0.2.0", 24, 4).body)]
    local = [Answer(24, route("192.0.2.0", 24, 1, kind=2).body)]
    by_object = [Answer(24, struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 254, 4, 0, 1, 0))]
    kernel.answers = [out]
    assert rtnl.leaves_by(PEER, source=bytes(4), bound=3, mark=9) == {4}
    _, attrs = asked_for(kernel, 0)
    assert attrs == {1: PEER, 2: bytes(4), 4: struct.pack("=I", 3), 16: struct.pack("=I", 9)}
    kernel.answers = [local]
    assert rtnl.leaves_by(PEER) == set()
    kernel.answers = [errno.ENETUNREACH]
    assert rtnl.leaves_by(PEER) == set()
    kernel.asked.clear()
    kernel.answers = [errno.EINVAL, out]  # a source that is no address of ours
    assert rtnl.leaves_by(PEER, source=bytes(4)) == {4}
    assert 2 not in asked_for(kernel, 1)[1]
    kernel.answers = [by_object, out]
    assert rtnl.leaves_by(PEER, source=bytes(16)) == {4}  # of another family: not asked with
    assert [asked_for(kernel, n)[0][8] for n in (2, 3)] == [0x2000, 0]
    kernel.answers = [by_object, errno.ENETUNREACH]
    assert rtnl.leaves_by(PEER) == set()


def test_addresses_as_text() -> None:
    assert ntop(bytes(10) + b"\xff\xff\x0a\0\0\x01") == "10.0.0.1"
    assert ntop(bytes(15) + b"\1") == "::1"
    assert ntop(b"\x0a\0\0\2") == "10.0.0.2"


def test_the_settings_of_a_netdev(kernel: Kernel, rtnl: Rtnl) -> None:
    def qdisc(index: int, handle: int) -> bytes:
        return struct.pack("=BxxxiIII", 0, index, handle, 0xFFFFFFFF, 2) + attr(1, b"prio\0")

    more = attr(4, struct.pack("=I", 9000)) + attr(10, struct.pack("=I", 5))
    more += attr(18, attr(4, b"bridge\0"))
    token = link(3, "eth1", attr(26, attr(10, attr(7, bytes(15) + b"\7"))))
    kernel.answers = [[Answer(16, link(3, "eth1", more))], [Answer(16, token)]]
    static = struct.pack("=BBHiHBB", 7, 0, 0, 3, 0x40, 0, 0)
    static += attr(2, b"\2\xaa\0\0\0\1") + attr(9, struct.pack("=I", 5))
    kernel.tables = {
        38: [qdisc(3, 0x10000), qdisc(4, 0x20000)], GETLINK: [link(5, "br0")], 30: [static], 86: [],
    }  # fmt: skip
    found = rtnl.link_settings(3)
    with wording:
        assert [one.describe() for one in found.bridging] == [
            "ip token", "bridge FDB entry 02:aa:00:00:00:01",
        ]  # fmt: skip
    assert (found.attributes[4], found.master) == (struct.pack("=I", 9000), "br0")
    assert [one.handle for one in found.qdiscs] == [0x10000]
    assert found.names == {"br0": 5}
    kernel.answers = [[]]
    with pytest.raises(OSError, match="No such device"):
        rtnl.link_settings(3)
