"""Which sockets a port going down touches, and whose they are; without a kernel."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manactl.look import sockets
from manactl.look.rtnetlink import ntop
from manactl.look.sockets import Reach, Turned
from manactl.netstate.surroundings import Connection, Listener, PacketSocket, Process
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import attr_u32
from manactl.wire.conntrack import Flow
from manactl.wire.inet_diag import TcpSocket
from tests.unit.look.kernel import FakeRtnl, local, route, rule
from tests.unit.wire.socket_filter import audit, holds


def packed(*addresses: str) -> frozenset[bytes]:
    return frozenset(
        socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a) for a in addresses
    )


def tcp(local: str, peer: str, *, state: int = 1, bound: int = 0, mark: int = 0) -> TcpSocket:
    (here,), (there,) = packed(local), packed(peer)
    return TcpSocket(state, here, 5000, there, 22, bound, 801, mark)


def using(reach: Reach, rtnl: FakeRtnl, *found: TcpSocket) -> list[TcpSocket]:
    """With a kernel that filters nothing, as one that ignores the program would."""
    asked: list[bytes] = []

    def ask(program: bytes) -> Iterable[TcpSocket]:
        asked.append(program)
        return found

    answer = sockets.using(reach, rtnl, ask)
    assert len(asked) == 1
    return answer


NO_WAY = FakeRtnl([])
REACH = Reach(frozenset({3, 9}), packed("10.0.0.2", "2001:db8::2", "fe80::2"))


@pytest.mark.parametrize(
    ("one", "counts"),
    [
        (tcp("10.0.0.2", "10.9.9.9"), True),
        (tcp("2001:db8::2", "2001:db8::9"), True),
        (tcp("10.0.0.3", "10.9.9.9"), False),
        (tcp("10.0.0.3", "10.9.9.9", bound=9), True),
        (tcp("10.0.0.3", "10.9.9.9", bound=4), False),
        (tcp("10.0.0.2", "10.9.9.9", bound=4), True),  # its address is lost all the same
        (tcp("fe80::2", "fe80::9"), True),  # not bound: perhaps
        (tcp("fe80::2", "fe80::9", bound=9), True),
        (tcp("fe80::2", "fe80::9", bound=4), False),
        (tcp("feb0::2", "feb0::9", bound=9), True),
    ],
)
def test_sockets_by_address_and_by_interface(one: TcpSocket, counts: bool) -> None:
    assert using(REACH, NO_WAY, one) == ([one] if counts else [])


@pytest.mark.parametrize(
    ("address", "link_local"),
    [
        ("fe80::2", True),
        ("febf::2", True),
        ("fec0::2", False),
        ("fe00::2", False),
        ("fd80::2", False),
    ],
)
def test_of_link_local_addresses_the_interface_decides(address: str, link_local: bool) -> None:
    elsewhere = tcp(address, "fe80::9", bound=4)
    reach = Reach(frozenset({3}), packed(address))
    assert using(reach, NO_WAY, elsewhere) == ([] if link_local else [elsewhere])


def test_of_ipv4_addresses_it_does_not() -> None:
    one = tcp("254.128.0.2", "10.9.9.9", bound=4)
    assert using(Reach(frozenset({3}), packed("254.128.0.2")), NO_WAY, one) == [one]


def test_without_an_address_only_the_ways_count() -> None:
    rtnl = FakeRtnl([], ways={"10.0.0.0/8": {3}})
    out, other = tcp("192.0.2.2", "10.9.9.9"), tcp("192.0.2.2", "203.0.113.9")
    assert using(Reach(frozenset({3}), frozenset()), rtnl, out, other) == [out]


def test_each_way_is_looked_up_once() -> None:
    rtnl = FakeRtnl([], ways={"10.0.0.0/8": {3}})
    some = [
        tcp("192.0.2.2", "10.9.9.9"), tcp("192.0.2.2", "10.9.9.9"),
        tcp("192.0.2.2", "10.9.9.9", mark=7), tcp("192.0.2.2", "10.9.9.8"),
        tcp("192.0.2.3", "10.9.9.9"),
    ]  # fmt: skip
    assert using(Reach(frozenset({3}), frozenset()), rtnl, *some) == some
    assert rtnl.asked == [("10.9.9.9", 0), ("10.9.9.9", 7), ("10.9.9.8", 0), ("10.9.9.9", 0)]


DPORT, UIDS = rule(a24=bytes(4)), rule(a20=bytes(8))


def test_where_rules_tell_users_apart_each_user_is_looked_up() -> None:
    """Else the kernel takes the user who asks it, which is root."""
    root, other = tcp("192.0.2.2", "10.9.9.9"), tcp("192.0.2.2", "10.9.9.9")._replace(uid=1000)
    of_other = attr_u32(25, 1000)  # RTA_UID
    rtnl = FakeRtnl(
        [], ways={"10.0.0.0/8": {3}}, ruling=[UIDS], narrow={(0, of_other): {"10.9.9.9": {2}}}
    )
    assert using(Reach(frozenset({3}), frozenset()), rtnl, root, other, root) == [root, root]
    assert len(rtnl.asked) == 2
    rtnl.ruling = []
    assert using(Reach(frozenset({3}), frozenset()), rtnl, root, other) == [root, other]


TURNED = Flow(6, *packed("192.0.2.2"), 5000, *packed("10.96.0.1"), 22)


@pytest.mark.parametrize(
    ("to", "mark", "counts"),
    [
        (None, 0, False),
        ("10.1.0.9", 0, True),  # a service's address that leads elsewhere
        ("10.8.0.9", 0, False),
        ("10.8.0.9", 7, True),  # by its mark
        ("10.96.0.1", 7, True),
        ("10.96.0.1", 8, False),
    ],
)
def test_where_the_packets_of_a_socket_really_go(to: str | None, mark: int, counts: bool) -> None:
    one = tcp("192.0.2.2", "10.96.0.1")
    marked = {"10.8.0.9": {3}, "10.96.0.1": {3}}
    rtnl = FakeRtnl([], ways={"10.1.0.0/24": {3}, "0.0.0.0/0": {2}}, narrow={(7, b""): marked})
    turned = {} if to is None else {TURNED: Turned(*packed(to), mark)}
    reach = Reach(frozenset({3}), frozenset())
    found = sockets.using(reach, rtnl, lambda _: [one], turned=turned)
    assert found == ([one] if counts else [])
    assert sockets.using(reach, rtnl, lambda _: [one], 17, turned) == []  # of another protocol


def test_one_to_the_host_itself_that_is_sent_elsewhere() -> None:
    """The kernel leaves out those within the host, so it is asked for these."""
    inside, one = tcp("127.0.0.1", "127.0.0.9"), tcp("127.0.0.1", "127.0.0.2")
    asked: list[bytes] = []

    def ask(program: bytes) -> Iterable[TcpSocket]:
        audit(program)
        asked.append(program)
        return [inside, one]

    flow = Flow(6, one.local, 5000, one.peer, 22)
    rtnl = FakeRtnl([], ways={"10.1.0.0/24": {3}, "127.0.0.0/8": {3}})
    reach = Reach(frozenset({3}), frozenset())
    turned = {flow: Turned(*packed("10.1.0.9"), 0)}
    assert sockets.using(reach, rtnl, ask, turned=turned) == [one]
    (program,) = asked
    assert holds(program, "127.0.0.1", "127.0.0.2")
    assert not holds(program, "127.0.0.1", "127.0.0.9")


def filtering(reach: Reach, rtnl: FakeRtnl, some: dict[str, TcpSocket], **more: Any) -> set[str]:
    """What of many sockets the kernel is let through by the program; found is the same with all."""
    programs: list[bytes] = []

    def ask(program: bytes) -> Iterable[TcpSocket]:
        audit(program)
        programs.append(program)
        return [
            one
            for one in some.values()
            if holds(program, ntop(one.local), ntop(one.peer), one.bound)
        ]

    found = sockets.using(reach, rtnl, ask, many=True, **more)
    assert found == sockets.using(reach, rtnl, lambda _: some.values(), **more)
    (program,) = programs
    return {
        name
        for name, one in some.items()
        if holds(program, ntop(one.local), ntop(one.peer), one.bound)
    }


FIRST = rule(a15=struct.pack("=I", 255))  # FRA_TABLE: the table of local routes


def test_of_many_sockets_only_those_are_asked_for_that_may_use_the_port() -> None:
    routes = [route(3, "10.1.0.0/16"), route(2, "0.0.0.0/0"), local("10.1.2.0/24")]
    rtnl = FakeRtnl(
        [], ways={"10.1.2.0/24": set(), "10.1.0.0/16": {3}, "10.9.0.0/16": {3}, "0.0.0.0/0": {2}},
        ruling=[FIRST], routing=routes, bound_ways={7: {"10.1.2.3": {3}}},
    )  # fmt: skip
    reach = Reach(frozenset({3}), packed("10.0.0.2"))
    some = {
        "mine": tcp("10.0.0.2", "203.0.113.9"),
        "there": tcp("192.0.2.2", "10.1.9.9"),
        "elsewhere": tcp("192.0.2.2", "203.0.113.9"),
        "own": tcp("192.0.2.2", "10.1.2.3"),
        "bound": tcp("192.0.2.2", "203.0.113.9", bound=3),
        "bound elsewhere": tcp("192.0.2.2", "203.0.113.9", bound=4),
        "leaked": tcp("192.0.2.2", "10.1.2.3", bound=7),  # a VRF with a route to the port
        "turned": tcp("192.0.2.2", "10.96.0.1"),
        "six": tcp("2001:db8::1", "2001:db8::9"),
        "inside": tcp("127.0.0.1", "127.0.0.1"),
    }
    flow = Flow(6, *packed("192.0.2.2"), 5000, *packed("10.96.0.1"), 22)
    turned = {flow: Turned(*packed("10.9.0.9"), 0)}
    asked = filtering(reach, rtnl, some, turned=turned)
    assert asked == {"mine", "there", "bound", "leaked", "turned"}
    rtnl.ruling = []  # somebody has moved the rule of local routes
    assert filtering(reach, rtnl, some, turned=turned) == {*asked, "own"}
    rtnl.ipsec = lambda *_: ()
    everything = some.keys() - {"inside"}
    assert filtering(reach, rtnl, some, turned=turned) == everything


def test_a_program_for_many_devices_is_not_longer_than_the_kernel_takes() -> None:
    """4094 VLANs are on a port, and its other networks and addresses are as many as can be named."""
    routes = [route(3, f"10.{n}.0.0/16") for n in range(64)]
    mine = packed(*(f"2001:db8::{n:x}" for n in range(1, 900)))
    rtnl = FakeRtnl([], ways={"0.0.0.0/0": {3}}, routing=routes)
    elsewhere = {"elsewhere": tcp("192.0.2.2", "203.0.113.9", bound=9999)}
    few = Reach(frozenset(range(3, 104)), mine)
    assert filtering(few, rtnl, elsewhere) == set()
    every = Reach(frozenset(range(3, 4097)), mine)
    assert filtering(every, rtnl, elsewhere) == {"elsewhere"}


@pytest.mark.parametrize(
    ("told", "is_so"),
    [
        ({"sockstat": "sockets: used 9\nTCP: inuse 2001 orphan 0 tw 0 alloc 1 mem 0\n"}, True),
        ({"sockstat": "TCP: inuse 2000 orphan 0\n"}, False),
        ({"sockstat": "TCP: inuse 1500 orphan 0\n", "sockstat6": "TCP6: inuse 501\n"}, True),
        ({"sockstat": "UDP: inuse 9000 mem 0\nTCP: inuse 1\n"}, False),
        ({"sockstat": "TCP: orphan 0 inuse\n"}, False),
        ({}, False),
    ],
)
def test_whether_sockets_are_many(tmp_path: Path, told: dict[str, str], is_so: bool) -> None:
    (tmp_path / "net").mkdir()
    for name, text in told.items():
        (tmp_path / "net" / name).write_text(text)
    assert sockets.are_many(socket.IPPROTO_TCP, tmp_path) is is_so
    assert sockets.are_many(socket.IPPROTO_UDP, tmp_path) is ("UDP" in told.get("sockstat", ""))


def test_where_rules_tell_ports_apart_each_connection_is_looked_up() -> None:
    rtnl = FakeRtnl([], ways={"10.0.0.0/8": {3}}, ruling=[DPORT])
    one = tcp("192.0.2.2", "10.9.9.9")
    two = one._replace(local_port=5001)
    assert using(Reach(frozenset({3}), frozenset()), rtnl, one, two, one) == [one, two, one]
    assert len(rtnl.asked) == 2


class Recording(FakeRtnl):
    def leaves_by(self, address: bytes, **more: Any) -> set[int]:
        self.more = more
        return set()


def test_a_way_is_looked_up_as_the_socket_would() -> None:
    rtnl = Recording([])
    one = tcp("192.0.2.2", "10.9.9.9", bound=4, mark=7)
    using(Reach(frozenset({3}), frozenset()), rtnl, one)
    assert rtnl.more == {"source": one.local, "bound": 4, "mark": 7, "flow": b""}
    rtnl.ruling = [DPORT]
    using(Reach(frozenset({3}), frozenset()), rtnl, one)
    assert len(rtnl.more["flow"]) == 24


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (1, "established"), (2, "syn-sent"), (3, "syn-recv"), (4, "fin-wait-1"),
        (5, "fin-wait-2"), (8, "close-wait"), (9, "last-ack"), (11, "closing"), (13, "13"),
    ],
)  # fmt: skip
def test_states_have_their_names(number: int, name: str) -> None:
    (found,) = sockets.connections([tcp("10.0.0.2", "10.9.9.9", state=number)], REACH)
    assert found == Connection("10.0.0.2", 5000, "10.9.9.9", 22, name, 801)


def test_addresses_that_go_and_namespaces_are_noted() -> None:
    reach = REACH._replace(going=packed("2001:db8::2"))
    some = [tcp("2001:db8::2", "2001:db8::9"), tcp("10.0.0.2", "10.9.9.9")]
    found = sockets.connections(some, reach, "blue")
    assert [(one.netns, one.address_goes) for one in found] == [("blue", True), ("blue", False)]


# --- listeners, SCTP --------------------------------------------------------------------------


def waiting(local: str, port: int, inode: int, bound: int = 0) -> TcpSocket:
    (here,) = packed(local)
    return TcpSocket(10, here, port, bytes(len(here)), 0, bound, inode, 0)


def test_who_listens_at_an_address_of_the_port() -> None:
    mine = [
        waiting("10.0.0.2", 443, 1), waiting("2001:db8::2", 443, 2), waiting("fe80::2", 443, 3, 9),
        waiting("0.0.0.0", 80, 4, bound=9), waiting("::", 80, 5, bound=3),
    ]  # fmt: skip
    others = [
        waiting("0.0.0.0", 22, 6), waiting("::", 22, 7), waiting("10.8.0.2", 443, 8),
        waiting("fe80::2", 443, 9, 4), waiting("0.0.0.0", 80, 10, bound=4),
    ]  # fmt: skip
    asked: list[bytes] = []

    def ask(program: bytes) -> list[TcpSocket]:
        asked.append(program)
        return [*mine, *others]

    found = sockets.serving(REACH, ask)
    assert found == mine
    assert len(asked) == 2
    assert sockets.listeners(found[:2], "udp", "blue") == [
        Listener("udp", "10.0.0.2", 443, 1, (), "blue"),
        Listener("udp", "2001:db8::2", 443, 2, (), "blue"),
    ]
    assert [str(one) for one in sockets.listeners(found[:2], "tcp")] == [
        "tcp 10.0.0.2:443", "tcp [2001:db8::2]:443",
    ]  # fmt: skip


ASSOCS = (
    " ASSOC     SOCK   STY SST ST HBKT ASSOC-ID TX_QUEUE RX_QUEUE UID INODE LPORT RPORT LADDRS <->"
    " RADDRS HBINT INS OUTS MAXRT T1X T2X RTXC wmema wmemq sndbuf rcvbuf\n"
    "ffff0 ffff1 2   1   3  0       1        0        0       0 7001 36412 5000  {} <-> {} \t"
    "    7500    10    10   10    0    0        0        1        0   212992   212992\n"
)


@pytest.mark.parametrize(
    ("locals_", "peers", "found"),
    [
        ("10.0.0.2", "*10.0.0.9", ("10.0.0.2", "10.0.0.9")),
        ("10.8.0.2 *10.0.0.2", "*10.8.0.9 10.0.0.9", ("10.0.0.2", "10.8.0.9")),
        ("2001:0db8:0000:0000:0000:0000:0000:0002", "*2001:db8::9", ("2001:db8::2", "2001:db8::9")),
        ("10.8.0.2", "*10.0.0.9", None),
        # Any of its paths, whatever address it has.
        ("10.8.0.2", "*10.0.0.9 10.3.0.9", ("10.8.0.2", "10.3.0.9")),
        ("127.0.0.1 10.8.0.2", "10.3.0.9 *127.0.0.1", ("10.8.0.2", "10.3.0.9")),
        ("2001:db8:8::2 10.8.0.2", "*2001:db8:3::9", ("2001:db8:8::2", "2001:db8:3::9")),
        ("2001:db8:8::2", "*10.3.0.9", None),
    ],
)
def test_associations_that_have_an_address_of_the_port(
    tmp_path: Path, locals_: str, peers: str, found: tuple[str, str] | None
) -> None:
    (tmp_path / "net/sctp").mkdir(parents=True)
    (tmp_path / "net/dev").write_text("")
    (tmp_path / "net/sctp/assocs").write_text(ASSOCS.format(locals_, peers))
    reach = REACH._replace(going=packed("2001:db8::2"))
    expected = []
    if found:
        one = Connection(found[0], 36412, found[1], 5000, "association", 7001, protocol="sctp")
        expected.append(replace(one, address_goes=found[0] == "2001:db8::2"))
    rtnl = FakeRtnl([], ways={"10.3.0.0/24": {3}, "2001:db8:3::/64": {3}})
    assert sockets.sctp(reach, rtnl, tmp_path) == expected


def test_paths_of_associations_by_user_and_ports(tmp_path: Path) -> None:
    (tmp_path / "net/sctp").mkdir(parents=True)
    (tmp_path / "net/dev").write_text("")
    (tmp_path / "net/sctp/assocs").write_text(ASSOCS.format("10.8.0.2", "*10.3.0.9"))
    flow = rt.flow(132, 36412, 5000) + attr_u32(25, 0)
    rtnl = FakeRtnl([], ruling=[DPORT, UIDS], narrow={(0, flow): {"10.3.0.9": {3}}})
    assert len(sockets.sctp(REACH, rtnl, tmp_path)) == 1
    rtnl.ruling = [DPORT]
    assert sockets.sctp(REACH, rtnl, tmp_path) == []


def test_without_the_protocol_there_is_no_association(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sockets.sctp(REACH, NO_WAY, tmp_path)
    (tmp_path / "net").mkdir()
    (tmp_path / "net/dev").write_text("")
    assert sockets.sctp(REACH, NO_WAY, tmp_path) == []
    (tmp_path / "net/sctp").mkdir()
    (tmp_path / "net/sctp/assocs").write_text("")
    assert sockets.sctp(REACH, NO_WAY, tmp_path) == []
    (tmp_path / "net/sctp/assocs").write_text("something else\n")
    with pytest.raises(ValueError, match="UID"):
        sockets.sctp(REACH, NO_WAY, tmp_path)


EPS = " ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS\n"


def test_endpoints_that_wait_at_an_address_of_the_port(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sockets.sctp_listeners(REACH, tmp_path)
    (tmp_path / "net/sctp").mkdir(parents=True)
    (tmp_path / "net/dev").write_text("")
    assert sockets.sctp_listeners(REACH, tmp_path) == []
    eps = tmp_path / "net/sctp/eps"
    eps.write_text("")
    assert sockets.sctp_listeners(REACH, tmp_path) == []
    rows = [
        f"ffff0 ffff1 2   {state:<3} 3    {port:<5}     0  {port + 1} {addresses} \n"
        for state, port, addresses in (
            (10, 36412, "10.8.0.2 10.0.0.2"),
            (10, 36422, "2001:0db8:0000:0000:0000:0000:0000:0002"),
            (10, 36432, "10.8.0.2"),
            (7, 36442, "10.0.0.2"),
            (10, 36452, "0.0.0.0"),
        )
    ]
    eps.write_text("".join([EPS, *rows]))
    assert sockets.sctp_listeners(REACH, tmp_path) == [
        Listener("sctp", "10.0.0.2", 36412, 36413),
        Listener("sctp", "2001:db8::2", 36422, 36423),
    ]


# --- packet sockets ---------------------------------------------------------------------------

TITLE = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"


def table(tmp_path: Path, *rows: tuple[int, int]) -> Path:
    net = tmp_path / "net"
    net.mkdir()
    (net / "dev").write_text("")
    lines = [f"0000000000000000 3      3    0003   {i}     1 0      0      {n}\n" for i, n in rows]
    (net / "packet").write_text(TITLE + "".join(lines))
    return tmp_path


def test_packet_sockets_are_told_by_their_interface(tmp_path: Path) -> None:
    process = table(tmp_path, (3, 900), (0, 901), (9, 902), (33, 903))
    assert sockets.packet_sockets({3: None, 9: "vlan7"}, process) == [
        PacketSocket(900),
        PacketSocket(902, (), "vlan7"),
    ]
    assert sockets.packet_sockets({}, process) == []


def test_no_packet_protocol_is_no_socket_and_no_proc_is_not_known(tmp_path: Path) -> None:
    process = table(tmp_path, (3, 900))
    (process / "net/packet").unlink()
    assert sockets.packet_sockets({3: None}, process) == []
    (process / "net/dev").unlink()
    with pytest.raises(FileNotFoundError):
        sockets.packet_sockets({3: None}, process)


def test_rows_that_make_no_sense_are_not_skipped(tmp_path: Path) -> None:
    process = table(tmp_path)
    (process / "net/packet").write_text(TITLE + "0 3 3\n")
    with pytest.raises(IndexError):
        sockets.packet_sockets({3: None}, process)


# --- processes --------------------------------------------------------------------------------


def process(proc: Path, pid: int, comm: str, *links: str) -> None:
    (proc / f"{pid}/fd").mkdir(parents=True)
    (proc / f"{pid}/comm").write_text(comm + "\n")
    for number, link in enumerate(links):
        (proc / f"{pid}/fd/{number}").symlink_to(link)


def test_every_process_that_has_the_socket_is_found(tmp_path: Path) -> None:
    process(tmp_path, 100, "child", "/dev/null", "socket:[1]")
    process(tmp_path, 9, "parent", "socket:[1]", "socket:[2]", "socket:[1]", "socket:[77]")
    process(tmp_path, 10, "other", "socket:[3]", "pipe:[1]")
    (tmp_path / "net").mkdir()
    (tmp_path / "9/fd/9").write_text("no link")
    (tmp_path / "11").mkdir()  # it has ended
    parent, child = Process(9, "parent"), Process(100, "child")
    assert sockets.owners_of({1, 2, 4}, tmp_path) == {1: (parent, child), 2: (parent,)}


def test_no_socket_no_search(tmp_path: Path) -> None:
    assert sockets.owners_of(set(), tmp_path / "missing") == {}
    with pytest.raises(FileNotFoundError):
        sockets.owners_of({1}, tmp_path / "missing")


def test_names_that_are_not_utf8_are_kept(tmp_path: Path) -> None:
    process(tmp_path, 9, "x", "socket:[1]")
    (tmp_path / "9/comm").write_bytes(b"\xff\xfe\n")
    assert sockets.owners_of({1}, tmp_path) == {1: (Process(9, "\udcff\udcfe"),)}


def test_sockets_get_their_processes() -> None:
    who = {801: (Process(9, "x"),)}
    connection = sockets.connections([tcp("10.0.0.2", "10.9.9.9")], REACH)[0]
    (found,) = sockets.with_processes([connection], who)
    assert found.processes == who[801]
    assert not found.of_kernel
    (none,) = sockets.with_processes([PacketSocket(1)], who)
    assert none == PacketSocket(1)
