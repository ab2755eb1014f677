"""Which tunnels send by a port, on a machine in memory."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from manactl.look.tunnels import Way, found_by, read, way
from manactl.wire.tunnels import Outer, Tunnel
from tests.unit.look.kernel import FakeRtnl, address, attr, route
from tests.unit.wire.test_genetlink import HEAD, peer, sockaddr

GENERIC, XFRM, CTRL, GETSA = 16, 6, 16, 0x12
WIREGUARD, L2TP = 0x1D, 0x1E


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


FAR, FAR6 = packed("10.1.0.9"), packed("2001:db8::9")


def u32(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack("=I", value))


def link(index: int, name: str, kind: str = "", *data: bytes) -> bytes:
    head = struct.pack("=BxHiII", 0, 1, index, 0x1003, 0)
    info = attr(18, attr(1, kind.encode() + b"\0") + attr(2, b"".join(data))) if kind else b""
    return head + attr(3, name.encode() + b"\0") + info


def neighbour(index: int, *attrs: bytes, family: int = 2) -> bytes:
    return struct.pack("=BBHiHBB", family, 0, 0, index, 0x80, 0, 0) + b"".join(attrs)


class Answer(NamedTuple):
    type: int
    body: bytes


class Kernel:
    """Links, forwarding entries, neighbours, and answers of generic netlink and xfrm."""

    def __init__(self, *links: bytes) -> None:
        self._links = list(links)
        self.fdb: list[bytes] = []
        self.near: list[bytes] = []
        self.routing: list[bytes] = []
        self.objects: list[bytes] = []
        self.peers: dict[int, list[bytes]] = {}
        self.sas: list[bytes] = []
        self.l2tp: dict[int, list[bytes]] = {4: [], 8: []}
        self.opened: list[int] = []
        self.of_programs: list[Tunnel] = []

    def links(self) -> list[bytes]:
        return self._links

    def forwarding(self, ifindex: int) -> list[bytes]:
        return self.fdb

    def neighbours(self) -> list[bytes]:
        return self.near

    def routes(self) -> list[bytes]:
        return self.routing

    def nexthops(self) -> list[bytes]:
        return self.objects

    @contextlib.contextmanager
    def open(self, family: int) -> Iterator[Kernel]:
        self.opened.append(family)
        yield self

    def request(self, kind: int, flags: int = 0, body: bytes = b"") -> list[Any]:
        assert (kind, body[0]) == (CTRL, 3)
        name = body[8:].rstrip(b"\0")
        number = {b"wireguard": WIREGUARD, b"l2tp": L2TP}[name]
        return [Answer(CTRL, HEAD + attr(1, struct.pack("=H", number)))]

    def dump(self, kind: int, body: bytes = b"") -> list[Any]:
        if kind == GETSA:
            return [Answer(0x10, sa) for sa in self.sas]
        if kind == L2TP:
            return [Answer(kind, HEAD + row) for row in self.l2tp[body[0]]]
        assert kind == WIREGUARD
        (index,) = struct.unpack_from("=I", body, 8)
        return [Answer(kind, HEAD + part) for part in self.peers[index]]

    def read(self, sys: Path = Path("/nonexistent")) -> list[Tunnel]:
        return read(self, self.open, sys, lambda links: self.of_programs)


def test_nothing_is_asked_where_there_is_no_tunnel() -> None:
    kernel = Kernel(link(1, "lo"), link(3, "eth1"), link(9, "v7", "vlan"))
    assert kernel.read() == []
    assert kernel.opened == []


def test_a_vxlan_sends_to_its_remote_and_to_what_is_in_its_fdb() -> None:
    kernel = Kernel(link(7, "vx0", "vxlan", attr(2, FAR), attr(4, b"me__")))
    other = packed("10.2.0.9")
    kernel.fdb = [
        neighbour(7, attr(1, FAR), family=7),
        neighbour(7, attr(1, other), u32(8, 4), family=7),
        neighbour(7, attr(2, bytes(6)), family=7),  # of a device below, without a destination
        neighbour(8, attr(1, packed("10.3.0.9")), family=7),
    ]
    (found,) = kernel.read()
    assert found.outers == (Outer(FAR, b"me__"), Outer(other, b"me__", 0, 4))


def test_an_entry_of_a_vxlans_fdb_by_a_nexthop_group() -> None:
    kernel = Kernel(link(7, "vx0", "vxlan", attr(4, b"me__")))
    kernel.fdb = [
        neighbour(7, attr(2, b"\x02\xaa\0\0\0\x01"), u32(13, 10), family=7),
        neighbour(7, attr(2, b"\x02\xaa\0\0\0\x02"), u32(13, 10), family=7),
        neighbour(7, attr(2, b"\x02\xaa\0\0\0\x03"), u32(13, 20), family=7),  # gone since
        neighbour(8, attr(2, b"\x02\xaa\0\0\0\x04"), u32(13, 12), family=7),
    ]
    members = b"".join(struct.pack("=IBBH", number, 0, 0, 0) for number in (11, 14))
    kernel.objects = [
        fdb_hop(10, attr(2, members)),
        fdb_hop(11, attr(6, FAR)),
        fdb_hop(12, attr(6, packed("10.1.0.98"))),
        fdb_hop(14, attr(6, packed("10.1.0.14"))),
    ]
    (found,) = kernel.read()
    assert found.outers == (Outer(FAR, b"me__"), Outer(packed("10.1.0.14"), b"me__"))


def fdb_hop(number: int, *attrs: bytes) -> bytes:
    return struct.pack("=BBBBI", 2, 0, 0, 0, 0) + u32(1, number) + b"".join(attrs) + attr(11, b"")


def test_wireguard_sends_to_its_peers() -> None:
    kernel = Kernel(link(7, "wg0", "wireguard"), link(8, "wg1", "wireguard"))
    kernel.peers = {
        7: [u32(7, 99) + attr(8, peer(attr(4, sockaddr(FAR)))), attr(8, peer(attr(4, sockaddr(FAR6, 3))))],
        8: [b""],
    }  # fmt: skip
    first, second = kernel.read()
    assert first.outers == (Outer(FAR, b"", 99), Outer(FAR6, b"", 99, 3))
    assert second.outers == ()


def test_an_xfrm_interface_sends_where_its_associations_do() -> None:
    kernel = Kernel(link(7, "x0", "xfrm", u32(1, 3), u32(2, 42)))
    body = bytearray(224)
    body[56:60] = FAR
    struct.pack_into("=H", body, 212, 2)
    kernel.sas = [bytes(body) + u32(31, 42), bytes(body) + u32(31, 43)]
    (found,) = kernel.read()
    assert found.outers == (Outer(FAR, bytes(4)),)


def test_a_gre_without_an_end_sends_to_its_neighbours() -> None:
    kernel = Kernel(
        link(7, "g0", "gre", attr(6, b"me__")), link(8, "g1", "gre", attr(7, FAR)),
        link(9, "g2", "gre", attr(18, b"")),
    )  # fmt: skip
    kernel.near = [
        neighbour(7, attr(2, FAR)), neighbour(7, attr(2, bytes(4))), neighbour(7, attr(1, FAR)),
        neighbour(3, attr(2, bytes(6))), neighbour(8, attr(2, b"nope")),
    ]  # fmt: skip
    first, second, third = kernel.read()
    assert first.outers == (Outer(FAR, b"me__"),)
    assert second.outers == (Outer(FAR),)
    assert (third.outers, third.metadata) == ((), True)


def via(family: int, index: int, *attrs: bytes) -> bytes:
    head = struct.pack("=BBBBBBBBI", family, 24, 0, 0, 254, 12, 0, 1, 0)
    return head + attr(1, bytes(3)) + (u32(4, index) if index else b"") + b"".join(attrs)


def hop(index: int, number: int, *attrs: bytes) -> bytes:
    return struct.pack("=BBBBI", 2, 0, 0, 0, 0) + u32(1, number) + u32(5, index) + b"".join(attrs)


def test_an_ipip_without_an_end_sends_to_the_gateways_of_its_routes() -> None:
    kernel = Kernel(
        link(7, "tunl0", "ipip"), link(8, "t1", "ipip", attr(3, FAR)), link(9, "t2", "ip6tnl"),
        link(10, "t3", "ipip", attr(19, b"")), link(11, "t4", "ipip", attr(2, b"me__")),
    )  # fmt: skip
    far, more, fifth = map(packed, ("10.1.0.10", "10.1.0.11", "10.1.0.12"))
    members = b"".join(
        struct.pack("=HBBI", 16, 0, 0, index) + attr(5, to) for index, to in ((3, FAR), (7, far))
    )
    kernel.routing = [
        via(2, 7, attr(5, FAR)),
        via(2, 7, attr(5, FAR)),
        via(2, 7),  # on-link
        via(2, 7, attr(18, struct.pack("=H", 10) + FAR6)),  # taken for the inner address
        via(2, 0, attr(9, members)),
        via(2, 0, u32(30, 5)),
        via(2, 3, attr(5, packed("10.1.0.99"))),
        via(2, 8, attr(5, packed("10.1.0.98"))),
        via(10, 9, attr(5, FAR6)),
        via(2, 10, attr(5, FAR)),
        via(2, 0, u32(30, 4)),
    ]
    group = struct.pack("=BBBBI", 2, 0, 0, 0, 0) + u32(1, 5)
    kernel.objects = [
        hop(11, 4, attr(6, fifth)), hop(7, 6, attr(6, more)), hop(3, 8, attr(6, FAR)),
        group + attr(2, struct.pack("=IBxHIBxH", 6, 0, 0, 8, 0, 0)),
        hop(7, 9, attr(6, packed("10.1.0.97"))),  # nothing goes by it
    ]  # fmt: skip
    found = {one.name: one.outers for one in kernel.read()}
    assert found == {
        "tunl0": (Outer(FAR), Outer(far), Outer(more)),
        "t1": (Outer(FAR),),
        "t2": (Outer(FAR6),),
        "t3": (),
        "t4": (Outer(fifth, b"me__"),),
    }
    kernel.routing = []
    assert kernel.read()[0] == Tunnel(7, "tunl0", "ipip")  # it sends nowhere


def test_a_sit_without_an_end_sends_anywhere() -> None:
    first, second = Kernel(link(7, "s0", "sit"), link(8, "s1", "sit", attr(3, FAR))).read()
    assert (first.metadata, second.metadata) == (True, False)


def test_l2tp_is_asked_for_only_where_it_is_loaded(tmp_path: Path) -> None:
    kernel = Kernel(link(7, "l2tpeth0"), link(8, "l2tpeth1"))
    kernel.l2tp = {
        4: [u32(9, 5) + attr(24, b"me__") + attr(25, FAR), u32(9, 6)],
        8: [u32(9, 5) + attr(8, b"l2tpeth0\0"), u32(9, 6) + attr(8, b"l2tpeth1\0"), u32(9, 5)],
    }
    assert kernel.read(tmp_path) == []
    (tmp_path / "module/l2tp_netlink").mkdir(parents=True)
    first, second = kernel.read(tmp_path)
    assert first == Tunnel(7, "l2tpeth0", "l2tp", outers=(Outer(FAR, b"me__"),))
    assert second == Tunnel(8, "l2tpeth1", "l2tp", metadata=True)


# --- which way --------------------------------------------------------------------------------

RTNL = FakeRtnl([], ways={"10.1.0.0/24": {3}, "10.2.0.0/24": {4}, "2001:db8::/32": {3}})


@pytest.mark.parametrize(
    ("tunnel", "expected"),
    [
        ({"outers": (Outer(FAR),)}, Way("10.1.0.9", 3, False)),
        ({"outers": (Outer(packed("10.2.0.9")),)}, None),
        ({"outers": (Outer(packed("10.2.0.9")), Outer(FAR6))}, Way("2001:db8::9", 3, False)),
        ({"under": 3}, Way(None, 3, True)),
        ({"under": 4}, None),
        ({"under": 3, "outers": (Outer(packed("10.9.0.9")),)}, Way("10.9.0.9", 3, True)),
        ({"under": 4, "outers": (Outer(FAR),)}, None),  # bound to another
        ({"outers": (Outer(packed("fe80::9"), b"", 0, 3),)}, Way("fe80::9", 3, False)),
        ({"outers": (Outer(packed("fe80::9"), b"", 0, 4),)}, None),
        ({"metadata": True}, Way(None, None, False)),
        ({"metadata": True, "under": 4}, None),
        ({"metadata": True, "outers": (Outer(packed("10.2.0.9")),)}, None),
        ({}, None),
    ],
)
def test_why_a_tunnel_sends_by_the_port(tunnel: dict[str, Any], expected: Way | None) -> None:
    assert way(Tunnel(7, "t0", "vxlan", **tunnel), {3, 9}, RTNL) == expected


@pytest.mark.parametrize(
    ("index", "end", "counts"),
    [(3, "10.1.0.4", True), (4, "10.1.0.4", False), (3, "fe80::4", False)],
)
def test_one_whose_own_end_is_an_address_of_the_port(index: int, end: str, counts: bool) -> None:
    """A link-local address may be another interface's."""
    near, elsewhere = packed(end), packed("10.2.0.9")
    rtnl = FakeRtnl([], [address(index, end)], ways=RTNL.ways)
    expected = {7: Way(None, 3, False, "", end)} if counts else {}
    for one in (
        Tunnel(7, "t0", "gre", outers=(Outer(elsewhere, near),)),
        Tunnel(7, "t0", "vxlan", local=near),
        Tunnel(7, "t0", "gre", 4, outers=(Outer(elsewhere, near),), metadata=True),
    ):
        assert found_by([one], (), {3}, rtnl) == expected


def test_the_tunnels_of_programs_are_among_them() -> None:
    kernel = Kernel(link(7, "tun0", "tun"))
    kernel.of_programs = [Tunnel(7, "tun0", "tun", by="pid 7 vpn")]
    assert kernel.read() == kernel.of_programs


@pytest.mark.parametrize(
    ("to", "by", "leads"),
    [
        ("10.1.0.0/24", 3, True),
        ("0.0.0.0/0", 3, True),
        ("2001:db8::/64", 9, True),
        ("10.1.0.0/24", 4, False),
        ("fe80::/64", 3, False),
        ("ff00::/8", 3, False),
    ],
)
def test_a_program_with_unknown_peers_needs_a_route_to_them(to: str, by: int, leads: bool) -> None:
    rtnl = FakeRtnl([], ways=RTNL.ways, routing=[route(by, to)])
    vpn = Tunnel(7, "tun0", "tun", metadata=True, by="pid 7 vpn")
    expected = Way(None, None, False, "pid 7 vpn") if leads else None
    assert way(vpn, {3, 9}, rtnl) == expected
    # One that is known is told before those that are not.
    known = vpn._replace(outers=(Outer(FAR),))
    assert way(known, {3, 9}, rtnl) == Way("10.1.0.9", 3, False, "pid 7 vpn")


def test_packets_are_looked_up_as_the_tunnel_sends_them() -> None:
    asked: list[dict[str, Any]] = []

    class Recording(FakeRtnl):
        def leaves_by(self, address: bytes, **more: Any) -> set[int]:
            asked.append(more)
            return set()

    way(Tunnel(7, "t0", "gre", 5, outers=(Outer(FAR, b"me__", 9),)), {3}, Recording([]))
    way(Tunnel(7, "t0", "xfrm", 5, outers=(Outer(FAR),)), {3}, Recording([]))
    assert asked == [
        {"source": b"me__", "bound": 5, "mark": 9},
        {"source": b"", "bound": 0, "mark": 0},
    ]


def test_those_already_known_are_left_out_and_nothing_depends_on_nothing() -> None:
    some = [Tunnel(7, "t0", "gre", 3), Tunnel(8, "t1", "gre", 3), Tunnel(9, "t2", "gre", 4)]
    assert found_by(some, {8}, {3}, RTNL) == {7: Way(None, 3, True)}
    assert found_by([Tunnel(7, "t0", "gre", metadata=True)], (), (), RTNL) == {}


PPPOE = "Id       Address              Device\n"


def test_pppoe_sends_by_the_devices_of_its_sessions(tmp_path: Path) -> None:
    """Which device is whose only pppd knows."""
    kernel = Kernel(link(3, "eth1"), link(4, "eth2"), link(7, "ppp0", "ppp"), link(8, "wan", "ppp"))

    def found() -> list[tuple[str, int]]:
        made = read(kernel, kernel.open, tmp_path, lambda _: [], tmp_path)
        assert {one.kind for one in made} <= {"ppp"}
        return [(one.name, one.under) for one in made]

    (tmp_path / "net").mkdir()
    (tmp_path / "net/pppoe").write_text(
        PPPOE + "00000001 02:15:5d:00:00:03 eth1\n00000002 02:15:5d:00:00:04 eth2\n"
    )
    assert found() == [("ppp0", 3), ("ppp0", 4), ("wan", 3), ("wan", 4)]
    made = read(kernel, kernel.open, tmp_path, lambda _: [], tmp_path)
    ways = found_by(made, (), {3}, FakeRtnl([]))
    assert {index: way.out for index, way in ways.items()} == {7: 3, 8: 3}


@pytest.mark.parametrize("table", [None, "", PPPOE])
def test_ppp_without_a_session_of_pppoe_goes_by_its_programs_sockets(
    tmp_path: Path, table: str | None
) -> None:
    """L2TP, PPTP, SSTP; one without a carrier sends nothing."""
    up = link(7, "ppp0", "ppp") + attr(33, b"\1")  # IFLA_CARRIER
    kernel = Kernel(up, link(8, "ppp1", "ppp"))
    if table is not None:
        (tmp_path / "net").mkdir()
        (tmp_path / "net/pppoe").write_text(table)
    made = read(kernel, kernel.open, tmp_path, lambda _: [], tmp_path)
    assert made == [Tunnel(7, "ppp0", "ppp", metadata=True)]
    leads = FakeRtnl([], routing=[route(3, "10.1.0.0/24")])
    assert found_by(made, (), {3}, leads) == {7: Way(None, None, False)}
    assert found_by(made, (), {4}, leads) == {}


@pytest.mark.parametrize("kind", ["ovpn", "ovpn-dco-v2", "gtp"])
@pytest.mark.parametrize(("to", "counts"), [("10.1.0.0/24", True), (None, False)])
def test_devices_that_send_by_a_programs_socket_may_send_where_the_port_leads(
    kind: str, to: str | None, counts: bool
) -> None:
    (one,) = Kernel(link(7, "vpn0", kind)).read()
    rtnl = FakeRtnl([], routing=[route(3, to)] if to else [])
    found = found_by([one], (), {3}, rtnl)
    assert found == ({7: Way(None, None, False)} if counts else {})
