"""Sockets and their processes, from the kernel itself."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from manactl.explain import guards
from manactl.look import raw_sockets, sockets
from manactl.look.rtnetlink import Rtnl, ntop
from manactl.look.sockets import Reach
from manactl.netstate.surroundings import Connection
from manactl.wire import inet_diag as diag
from manactl.wire import rtmsg as rt

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("netns")]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def pack(*addresses: str) -> frozenset[bytes]:
    return frozenset(socket.inet_pton(socket.AF_INET6 if ":" in a else 2, a) for a in addresses)


@contextlib.contextmanager
def pairs(here: str, *, count: int = 1, source: str | None = None) -> Iterator[int]:
    """Connections to `here`, both ends ours; the port they go to."""
    with contextlib.ExitStack() as stack:
        family = socket.AF_INET6 if ":" in here else socket.AF_INET
        server = stack.enter_context(socket.socket(family))
        server.bind((here, 0))
        server.listen(count)
        for _ in range(count):
            client = stack.enter_context(socket.socket(family))
            if source is not None:
                client.bind((source, 0))
            client.connect(server.getsockname())
            stack.enter_context(server.accept()[0])
        yield server.getsockname()[1]


def named(found: list[Connection]) -> tuple[Connection, ...]:
    return sockets.with_processes(found, sockets.owners_of({one.inode for one in found}))


@pytest.mark.parametrize("here", ["127.0.0.1", "::1"])
def test_connections_have_both_ends_and_their_process(here: str) -> None:
    ip("link", "set", "lo", "up")
    reach = Reach(frozenset(), pack(here))
    with pairs(here) as port, Rtnl() as rtnl:
        found = named(sockets.connections(sockets.using(reach, rtnl), reach))
    assert sorted(port in (one.local_port, one.peer_port) for one in found) == [True, True]
    assert {(one.local, one.peer) for one in found} == {(here, here)}
    assert all(one.state == "established" for one in found)
    assert all([p.pid for p in one.processes] == [os.getpid()] for one in found)


def test_a_listener_is_no_connection_and_mapped_addresses_are_ipv4() -> None:
    ip("link", "set", "lo", "up")
    with socket.socket(socket.AF_INET6) as server, socket.socket() as client:
        server.bind(("::", 0))
        server.listen()
        assert sockets.tcp() == []
        client.connect(("127.0.0.1", server.getsockname()[1]))
        mine = diag.any_of(diag.local(pack("127.0.0.1")))
        found = sockets.tcp(mine)
    assert [ntop(one.local) for one in found] == ["127.0.0.1"] * 2


FAR = ("10.1.0.1", "10.2.0.1", "fd00:1::1", "fd00:2::1")


@pytest.fixture
def far(netns: None) -> None:
    ip("link", "set", "lo", "up")
    for one in FAR:
        ip("address", "add", one, "dev", "lo", *(["nodad"] if ":" in one else []))
    # The kernel makes the local route of an IPv6 address later, from a workqueue.
    awaited = {one for one in FAR if ":" in one}
    deadline = time.monotonic() + 60
    while not awaited <= local_routes():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def local_routes() -> set[str]:
    asked = ["ip", "-j", "-6", "route", "show", "table", "local"]
    routes = json.loads(subprocess.run(asked, check=True, capture_output=True).stdout)
    return {route["dst"] for route in routes}


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("own", [(FAR[0],), (FAR[2],), FAR[:3], FAR, ("10.9.9.9", *FAR[1:3])])
def test_the_kernel_tells_only_of_the_addresses_asked_for(own: tuple[str, ...]) -> None:
    with contextlib.ExitStack() as stack:
        for one in FAR:
            stack.enter_context(pairs(one))
        yes = {ntop(s.local) for s in sockets.tcp(diag.any_of(diag.local(pack(*own))))}
        no = {ntop(s.local) for s in sockets.tcp(diag.none_of(diag.local(pack(*own))))}
    assert yes == set(own) & set(FAR)
    assert no == set(FAR) - set(own)


@pytest.mark.usefixtures("far")
def test_more_addresses_than_a_filter_can_name_are_sorted_out_here() -> None:
    many = [f"fd00:3::{n:x}" for n in range(1, 3000)]
    reach = Reach(frozenset(), pack(FAR[2], *many))
    with contextlib.ExitStack() as stack, Rtnl() as rtnl:
        for one in FAR:
            stack.enter_context(pairs(one))
        assert {ntop(s.local) for s in sockets.using(reach, rtnl)} == {FAR[2]}


@pytest.fixture
def wired(netns: None) -> int:
    """A port with a peer behind it; the ifindex of port0."""
    ip("link", "set", "lo", "up")
    ip("link", "add", "port0", "type", "veth", "peer", "name", "wire0")
    ip("link", "set", "port0", "up")
    ip("link", "set", "wire0", "up")
    ip("address", "add", "10.0.0.2/24", "dev", "port0")
    ip("address", "add", "10.5.5.5/32", "dev", "lo")
    return socket.if_nametoindex("port0")


def other_port() -> None:
    ip("link", "add", "port9", "type", "veth", "peer", "name", "wire9")
    ip("link", "set", "port9", "up")
    ip("link", "set", "wire9", "up")


class Counting(Rtnl):
    """An rtnetlink that counts what it is asked."""

    asked = 0

    def leaves_by(self, *words: object, **more: object) -> set[int]:
        self.asked += 1
        return super().leaves_by(*words, **more)  # type: ignore[arg-type]


@contextlib.contextmanager
def half_open(source: str, peer: str, count: int = 1) -> Iterator[None]:
    """Connections that wait for an answer which never comes."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.bind((source, 0))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect((peer, 7000))
        yield


def test_what_leaves_by_the_port_counts_wherever_its_address_is(wired: int) -> None:
    """The address is on the loopback interface; one look-up for each peer, not each connection."""
    reach = Reach(frozenset({wired}), pack("10.0.0.2"))
    with half_open("10.5.5.5", "10.0.0.9", 5), Counting() as rtnl:
        found = sockets.using(reach, rtnl)
        assert rtnl.asked == 1
    assert [(ntop(s.local), ntop(s.peer)) for s in found] == [("10.5.5.5", "10.0.0.9")] * 5


def test_rules_by_source_decide_by_which_interface_it_leaves(wired: int) -> None:
    other_port()
    ip("address", "add", "10.6.6.6/32", "dev", "lo")
    ip("route", "add", "10.0.0.0/24", "dev", "port9", "table", "77")
    ip("rule", "add", "from", "10.6.6.6", "lookup", "77")
    reach = Reach(frozenset({wired}), frozenset())
    with half_open("10.5.5.5", "10.0.0.9"), half_open("10.6.6.6", "10.0.0.9"), Rtnl() as rtnl:
        found = sockets.using(reach, rtnl)
    assert [ntop(s.local) for s in found] == ["10.5.5.5"]


def test_rules_that_ask_for_ports_leave_sctp_where_its_routes_lead(
    wired: int, tmp_path: Path
) -> None:
    """The kernel refuses a question for a protocol that is neither TCP nor UDP."""
    ip("rule", "add", "dport", "7", "lookup", "77")
    ip("route", "add", "blackhole", "default", "table", "77")
    (tmp_path / "net/sctp").mkdir(parents=True)
    (tmp_path / "net/dev").touch()
    title = "UID INODE LPORT RPORT LADDRS <-> RADDRS\n"
    rows = "0 70 5000 9 10.5.5.5 <-> *10.0.0.9\n0 71 5000 7 10.5.5.5 <-> *10.0.0.9\n"
    (tmp_path / "net/sctp/assocs").write_text(title + rows)
    with Rtnl() as rtnl:
        found = sockets.sctp(Reach(frozenset({wired}), frozenset()), rtnl, tmp_path)
    assert [one.inode for one in found] == [70]


def test_of_many_sockets_the_kernel_tells_of_one_to_a_longer_route_than_a_local_one(
    wired: int,
) -> None:
    """Until a rule is added, the kernel has the tables local and main in one (fib_new_table())."""
    ip("route", "add", "local", "192.0.2.0/24", "dev", "lo")
    ip("route", "add", "192.0.2.7/32", "dev", "port0")
    reach = Reach(frozenset({wired}), frozenset())
    with contextlib.ExitStack() as stack, Rtnl() as rtnl:
        for to in ("192.0.2.7", "192.0.2.8"):
            udp = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            udp.bind(("10.5.5.5", 0))
            udp.connect((to, 9))
        for many in (False, True):
            found = sockets.using(reach, rtnl, sockets.udp, socket.IPPROTO_UDP, many=many)
            assert [ntop(one.peer) for one in found] == ["192.0.2.7"]


def test_raw_sockets_of_this_kernel(wired: int) -> None:
    reach = Reach(frozenset({wired}), pack("10.0.0.2"))
    with contextlib.ExitStack() as stack, Rtnl() as rtnl:
        for number, local, peer in (
            (47, "10.0.0.2", "10.0.0.9"), (41, "10.5.5.5", "10.0.0.9"), (46, "127.0.0.1", "127.0.0.1"),
            (89, "10.0.0.2", None), (112, "10.5.5.5", None),
        ):  # fmt: skip
            raw = stack.enter_context(socket.socket(type=socket.SOCK_RAW, proto=number))
            raw.bind((local, 0))
            if peer:
                raw.connect((peer, 0))
        connected = raw_sockets.connected(reach, rtnl, Path("/proc/thread-self"))
        waiting = raw_sockets.waiting(reach, Path("/proc/thread-self"))
    assert {(one.local, one.local_port, one.peer) for one in connected} == {
        ("10.0.0.2", 47, "10.0.0.9"), ("10.5.5.5", 41, "10.0.0.9"),
    }  # fmt: skip
    assert [(one.address, one.port) for one in waiting] == [("10.0.0.2", 89)]


def test_thousands_of_connections_within_the_host_cost_nothing(wired: int) -> None:
    """The kernel does not report them, and nobody looks up where they go."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
    reach = Reach(frozenset({wired}), pack("10.0.0.2"))

    try:
        with pairs("127.0.0.1", count=1500), Counting() as rtnl:
            rest = diag.none_of([*diag.local(reach.addresses), *diag.peer(diag.LOOPBACK)])
            assert len(sockets.tcp()) == 3000
            assert sockets.tcp(rest) == []
            assert sockets.using(reach, rtnl) == []
            assert rtnl.asked == 0
            with half_open("10.0.0.2", "10.0.0.9"):
                (one,) = sockets.using(reach, rtnl)
            assert rtnl.asked == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert ntop(one.peer) == "10.0.0.9"


def test_link_local_addresses_are_told_apart_by_their_interface(wired: int) -> None:
    other_port()
    for name in ("port0", "port9"):
        ip("address", "add", "fe80::77/64", "dev", name, "nodad")
    other = socket.if_nametoindex("port9")
    with contextlib.ExitStack() as stack, Rtnl() as rtnl:
        for index in (wired, other):
            client = stack.enter_context(socket.socket(socket.AF_INET6))
            client.bind(("fe80::77", 0, 0, index))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(("fe80::99", 7000, 0, index))
        for index in (wired, other):
            reach = Reach(frozenset({index}), pack("fe80::77"))
            assert [one.bound for one in sockets.using(reach, rtnl)] == [index]


def test_a_connection_without_process_is_perhaps_the_kernels() -> None:
    one = Connection("10.0.0.2", 1, "10.0.0.3", 2049, "established", 0)
    assert one.of_kernel
    assert named([one]) == (one,)


def test_the_command_of_explain_shows_what_a_program_has_closed_too() -> None:
    ip("link", "set", "lo", "up")
    (check,) = next(one for one in guards.TOPICS if one.name == "tcp-established").check
    assert check.command is not None
    command = check.command.replace("ADDRESS", "127.0.0.1").split()
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            local = "{}:{}".format(*client.getsockname())
            peer, _ = server.accept()
        with peer:
            shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert [line.split()[3] for line in shown.splitlines() if "FIN-WAIT" in line] == [local]


def test_packet_sockets_are_found_by_interface() -> None:
    ip("link", "add", "port0", "type", "veth", "peer", "name", "wire0")
    index = socket.if_nametoindex("port0")
    # /proc/net is the main thread's; this one has a namespace of its own.
    proc = sockets.Path("/proc/thread-self")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3) as bound:
        bound.bind(("port0", 3))
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3):
            (found,) = sockets.packet_sockets({index: "vlan7"}, proc)
            assert found.inode == os.fstat(bound.fileno()).st_ino
            assert found.netdev == "vlan7"
            assert sockets.packet_sockets({index + 1: None}, proc) == []


def test_the_way_to_an_address_is_the_route_it_takes() -> None:
    ip("link", "add", "port0", "type", "veth", "peer", "name", "wire0")
    ip("link", "set", "port0", "up")
    ip("link", "set", "wire0", "up")
    ip("address", "add", "10.0.0.2/24", "dev", "port0")
    ip("route", "add", "168.63.129.16/32", "via", "10.0.0.1")
    ip("nexthop", "add", "id", "5", "via", "10.0.0.1", "dev", "port0")
    ip("route", "add", "10.8.0.0/16", "nhid", "5")
    index = socket.if_nametoindex("port0")
    with Rtnl() as rtnl:
        route = rtnl.way_to(socket.inet_aton("168.63.129.16"))
        assert route is not None
        assert route[1] == 32
        for address, out in (
            ("168.63.129.16", {index}),
            ("10.0.0.9", {index}),
            ("10.8.1.1", {index}),
            ("10.0.0.2", set()),  # our own: it stays here
            ("192.0.2.1", set()),
        ):
            assert rtnl.leaves_by(socket.inet_aton(address)) == out, address
        unknown = socket.inet_aton("10.7.7.7")
        assert rtnl.leaves_by(socket.inet_aton("10.0.0.9"), source=unknown) == {index}
        assert rtnl.way_to(socket.inet_aton("192.0.2.1")) is None
        assert not rtnl.link(index).xdp_mode
        assert rtnl.link(index).name == "port0"
        with pytest.raises(OSError, match="No such device"):
            rtnl.link(9999)


def test_addresses_as_text() -> None:
    assert ntop(bytes(10) + b"\xff\xff\x0a\0\0\x01") == "10.0.0.1"
    assert ntop(bytes(15) + b"\1") == "::1"


def udp(stack: contextlib.ExitStack, here: tuple[str, int], peer: tuple[str, int] | None) -> None:
    family = socket.AF_INET6 if ":" in here[0] else socket.AF_INET
    sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
    sock.bind(here)
    if peer:
        sock.connect(peer)


def test_udp_sockets_are_told_by_whether_they_are_connected(wired: int) -> None:
    reach = Reach(frozenset({wired}), pack("10.0.0.2"))
    with contextlib.ExitStack() as stack, Rtnl() as rtnl:
        udp(stack, ("10.0.0.2", 4789), ("10.0.0.9", 4789))
        udp(stack, ("10.5.5.5", 4790), ("10.0.0.9", 4790))  # leaves by the port
        udp(stack, ("10.5.5.5", 4791), ("127.0.0.1", 4791))
        udp(stack, ("10.0.0.2", 53), None)
        udp(stack, ("10.5.5.5", 54), None)
        udp(stack, ("0.0.0.0", 55), None)
        for address, number in (("10.0.0.2", 443), ("10.5.5.5", 444), ("0.0.0.0", 445)):
            server = stack.enter_context(socket.socket())
            server.bind((address, number))
            server.listen()
        connected = sockets.using(reach, rtnl, sockets.udp, socket.IPPROTO_UDP)
        waiting = sockets.serving(reach, sockets.unconnected)
        listening = sockets.serving(reach)
    assert {sock.local_port for sock in connected} == {4789, 4790}
    assert [(ntop(sock.local), sock.local_port) for sock in waiting] == [("10.0.0.2", 53)]
    assert [(ntop(sock.local), sock.local_port) for sock in listening] == [("10.0.0.2", 443)]


def test_rules_that_tell_ports_apart_are_asked_with_those_of_each_connection(wired: int) -> None:
    other_port()
    ip("route", "add", "10.0.0.0/24", "dev", "port9", "table", "77")
    reach = Reach(frozenset({wired}), frozenset())
    with half_open("10.5.5.5", "10.0.0.9"), Rtnl() as rtnl:
        assert rt.FRA_OF_FLOWS.isdisjoint(rtnl.rules_ask())
        assert len(sockets.using(reach, rtnl)) == 1
        ip("rule", "add", "ipproto", "tcp", "dport", "7001", "lookup", "77")
        assert rt.FRA_DPORT_RANGE in rtnl.rules_ask()
        assert len(sockets.using(reach, rtnl)) == 1
        ip("rule", "add", "ipproto", "tcp", "dport", "7000", "lookup", "77")
        assert sockets.using(reach, rtnl) == []
        assert rtnl.vrf_of(wired) == 0


def test_rules_for_users_are_asked_with_that_of_each_connection(wired: int) -> None:
    other_port()
    ip("route", "add", "10.0.0.0/24", "dev", "port9", "table", "77")
    ip("rule", "add", "uidrange", "1000-1999", "lookup", "77")
    reach = Reach(frozenset({wired}), frozenset())
    with contextlib.ExitStack() as stack, Rtnl() as rtnl:
        for uid, number in ((0, 7000), (1500, 7001)):
            client = stack.enter_context(socket.socket())
            os.fchown(client.fileno(), uid, -1)
            client.bind(("10.5.5.5", 0))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(("10.0.0.9", number))
        (found,) = sockets.using(reach, rtnl)
        assert (found.peer_port, found.uid) == (7000, 0)
        (other,) = sockets.using(
            Reach(frozenset({socket.if_nametoindex("port9")}), frozenset()), rtnl
        )
        assert (other.peer_port, other.uid) == (7001, 1500)


@pytest.mark.parametrize("mode", ["encap", "inline"])
def test_the_first_segment_decides_where_a_route_with_segments_leads(wired: int, mode: str) -> None:
    """By the port though the route names another netdev, and the other way round by both: a route
    goes with its device."""
    other_port()
    other = socket.if_nametoindex("port9")
    for netdev, net in (("port0", "1"), ("port9", "2")):
        ip("-6", "address", "add", f"2001:db8:{net}::4/64", "dev", netdev, "nodad")
    deadline = time.monotonic() + 60
    while not {"2001:db8:1::4", "2001:db8:2::4"} <= local_routes():
        assert time.monotonic() < deadline
        time.sleep(0.01)

    def route(to: str, *words: str) -> None:
        ip("-6", "route", "add", to, *words)

    segments = ("encap", "seg6", "mode", mode, "segs")
    route("2001:db8:a::/64", *segments, "2001:db8:1::9,2001:db8:2::9", "dev", "port9")
    route("2001:db8:b::/64", *segments, "2001:db8:2::9", "dev", "port9")
    route("2001:db8:c::/64", *segments, "2001:db8:2::9", "dev", "port0")
    route("2001:db8:d::/64", *segments, "2001:db8:a::9", "dev", "port9")  # by another such route
    with Rtnl() as rtnl:
        for net, out in (("a", {wired, other}), ("b", {other}), ("c", {wired, other}),
                         ("d", {wired, other})):  # fmt: skip
            to = socket.inet_pton(socket.AF_INET6, f"2001:db8:{net}::1")
            assert rtnl.leaves_by(to) == out, net
