"""What surrounds a port, gathered from the running kernel."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from manactl.decide import guards
from manactl.decide.refusal import Refusal
from manactl.look.rtnetlink import Rtnl
from manactl.look.surroundings import Sources, gather
from manactl.model.port import Certainty, Netdev, Owner, PortId, PortStatus
from manactl.netstate.surroundings import Surroundings

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("netns")]
PORT = PortId("0000:00:00.0", 1, None)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def pair(number: int) -> None:
    ip("link", "add", f"port{number}", "type", "veth", "peer", "name", f"wire{number}")
    ip("link", "set", f"wire{number}", "up")
    ip("link", "set", f"port{number}", "up")


def settled(condition: Callable[[], bool]) -> None:
    """Carriers and the local routes of IPv6 addresses come from workqueues."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Callable[..., Surroundings]]:
    """What surrounds port0; other namespaces and RDMA devices are other tests' matter."""
    ip("link", "set", "lo", "up")
    pair(0)
    pair(1)
    (tmp_path / "self").symlink_to("/proc/thread-self")
    (tmp_path / "filesystems").write_text("nodev\tproc\n")
    with Rtnl() as rtnl:

        def look(*claimed: str) -> Surroundings:
            index = socket.if_nametoindex("port0")
            netdev = Netdev("port0", index, None, None, None, None, None)
            status = PortStatus(PORT, netdev, None, None, None, Owner.ETHERNET, Certainty.PROVEN)
            state = rtnl.capture(PORT, index, 0.0)
            taken = [socket.if_nametoindex(name) for name in ("port0", *claimed)]
            sources = Sources(
                proc=tmp_path, run=tmp_path, sys=tmp_path, in_other_netns=lambda _: []
            )
            return gather(status, state, taken, rtnl, sources)

        settled(lambda: bool(rtnl.link(socket.if_nametoindex("port0")).carrier))
        settled(lambda: bool(rtnl.link(socket.if_nametoindex("port1")).carrier))
        yield look


def refusals(found: Surroundings) -> list[Refusal]:
    index = found.state.ifindex if found.state else 0
    netdev = Netdev("port0", index, None, None, None, None, None)
    status = PortStatus(PORT, netdev, None, None, None, Owner.ETHERNET, Certainty.PROVEN)
    return guards.refusals(status, found)


def codes(found: Surroundings) -> list[str]:
    return [str(refusal.code) for refusal in refusals(found)]


def test_a_quiet_port(read: Callable[..., Surroundings]) -> None:
    found = read()
    assert (found.uppers, found.elsewhere, found.connections, found.packet_sockets) == ((),) * 4
    assert (found.xdp, found.others, found.managers, found.rdma_users) == (False, (), (), ())
    assert codes(found) == []


def test_another_way_in_is_up_has_carrier_and_a_global_address(
    read: Callable[..., Surroundings],
) -> None:
    ip("address", "add", "10.0.0.2/24", "dev", "port0")
    ip("address", "add", "10.9.9.9/32", "dev", "lo")
    assert read().others == ()
    assert codes(read()) == ["last-port"]
    ip("address", "add", "10.1.0.2/24", "dev", "port1")
    assert read().others == ("port1",)
    assert codes(read()) == []
    assert read("port1").others == ()  # claimed with it
    with Rtnl() as rtnl:
        ip("link", "set", "wire1", "down")
        settled(lambda: not rtnl.link(socket.if_nametoindex("port1")).carrier)
        assert read().others == ()
        ip("link", "set", "wire1", "up")
        settled(lambda: bool(rtnl.link(socket.if_nametoindex("port1")).carrier))
    assert read().others == ("port1",)
    ip("link", "set", "port1", "down")
    assert read().others == ()


def test_a_bridge_on_the_port_and_what_leaves_by_it(read: Callable[..., Surroundings]) -> None:
    ip("link", "add", "br0", "type", "bridge")
    ip("link", "set", "port0", "master", "br0")
    ip("link", "set", "br0", "up")
    ip("address", "add", "10.2.0.2/24", "dev", "br0")
    ip("route", "add", "default", "via", "10.2.0.1")
    found = read()
    assert found.uppers is not None
    (bridge,) = found.uppers
    assert (bridge.name, bridge.kind, bridge.carried, bridge.closes) == (
        "br0", "bridge", True, False,
    )  # fmt: skip
    assert bridge.reachable == ("10.2.0.2",)
    assert found.others == ()
    server, imds = found.fabric or ()
    assert (server.through_port, server.host_route) == (True, False)
    assert (imds.through_port, imds.host_route) == (True, False)
    assert codes(found) == ["default-route", "last-port", "upper"]
    for address in ("168.63.129.16", "169.254.169.254"):
        ip("route", "add", address, "via", "10.2.0.1")
        assert "azure-fabric" in codes(read())
        ip("route", "add", address, "dev", "port1", "metric", "9")
        assert "azure-fabric" not in codes(read())
        assert {one.remaining for one in read().fabric or () if one.address == address} == {"port1"}
        ip("route", "del", address, "dev", "port1")
        ip("route", "add", address, "dev", "port1", "table", "77")
        assert "azure-fabric" in codes(read())
        ip("route", "del", address, "via", "10.2.0.1")


def test_connections_over_ipv6_within_the_host_are_lost_and_over_ipv4_not(
    read: Callable[..., Surroundings],
) -> None:
    for address in ("10.0.0.2/24", "10.0.0.3/24", "fd00::2/64", "fd00::3/64"):
        ip("address", "add", address, "dev", "port0", *(["nodad"] if ":" in address else []))
    ip("address", "add", "10.1.0.2/24", "dev", "port1")

    def bindable(address: str) -> bool:
        with socket.socket(socket.AF_INET6) as trial:
            return trial.connect_ex((address, 1)) == 111  # ECONNREFUSED: it is here

    settled(lambda: bindable("fd00::2") and bindable("fd00::3"))
    with ExitStack() as stack:
        for family, here, there in (
            (socket.AF_INET, "10.0.0.2", "10.0.0.3"),
            (socket.AF_INET6, "fd00::2", "fd00::3"),
        ):
            server = stack.enter_context(socket.create_server((there, 0), family=family))
            client = stack.enter_context(socket.socket(family))
            client.bind((here, 0))
            client.connect(server.getsockname())
            stack.enter_context(server.accept()[0])
            found = read()
            assert found.connections is not None
            mine = [one for one in found.connections if one.is_ipv6 is (family == socket.AF_INET6)]
            assert {(one.local, one.peer) for one in mine} == {(here, there), (there, here)}
            assert {one.address_goes for one in mine} == {one.is_ipv6 for one in mine}
            expected = ["tcp-established"] if family == socket.AF_INET6 else []
            assert codes(found) == expected
        server.close()
        client.shutdown(socket.SHUT_WR)
        half_closed = {"fin-wait-2", "close-wait"}
        settled(lambda: {c.state for c in read().connections or () if c.is_ipv6} == half_closed)
        assert codes(read()) == ["tcp-established"]
