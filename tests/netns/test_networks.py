"""Random networks on two veth interfaces: down, up and restored, they are as they were.

The cheap relative of tests/lab/test_networks.py: the same networks and the same judge, on this
host's kernel, without a NIC and without manactl's commands. A host may have no module for VLANs or
none for macvlans; the guest has both, and the test there requires them.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import random
import re
import socket
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import pytest

from manactl.act import restore
from manactl.act.addresses_first import with_addresses
from manactl.act.plan import SetAdmin
from manactl.look import sockets, stacked_links
from manactl.look.rtnetlink import Rtnl
from manactl.model.port import PortId
from manactl.netstate.requests import Filled
from manactl.netstate.snapshot import Kind, PortState, Request, Rows
from manactl.wire import rtmsg as rt
from tests.conftest import lacking
from tests.lab import networks
from tests.netns.test_addresses_first import Netdevs

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("netns")]

SEED = os.environ.get("MANACTL_SEED", "20261123")
PORTS = ("port0", "port1")
_WIRE = re.compile(r'"(ifname|dev)": "wire|/wire')


@dataclass
class Both:
    """restore.Network on two interfaces: port N of the device is PORTS[N - 1]."""

    rtnl: Rtnl

    def monotonic(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def capture(
        self,
        port: PortId,
        nexthops: Collection[int] = (),
        rows: Rows = None,
        *,
        alone: bool = False,
    ) -> PortState:
        taken = time.clock_gettime(time.CLOCK_BOOTTIME)
        ifindex = socket.if_nametoindex(PORTS[port.port - 1])
        return self.rtnl.capture(port, ifindex, taken, nexthops, rows, alone=alone)

    def send(self, request: Request) -> None:
        self.rtnl.send(request)

    def send_all(self, requests: Sequence[Request]) -> list[OSError | None]:
        return self.rtnl.send_all(requests)

    def send_alike(self, requests: Filled) -> None:
        self.rtnl.send_alike(requests)

    def set_sysctl(self, path: str, value: str) -> None:
        stacked_links.put_setting(path, value)


def sh(script: str) -> str:
    done = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True)
    if done.stderr:
        print(done.stderr)
    return done.stdout


def kinds() -> list[str]:
    """The kinds of upper that this host's kernel has, at least one."""
    found = []
    for kind, more in (("vlan", "id 9"), ("macvlan", ""), ("macvtap", "")):
        made = subprocess.run(
            [
                "sh",
                "-c",
                f"ip link add link port0 name try0 type {kind} {more} && ip link del try0",
            ],
            capture_output=True,
            check=False,
        )
        found += [kind] * (made.returncode == 0)
    return found or lacking("netns", "this kernel stacks nothing on an interface")


@pytest.fixture
def both() -> Iterator[Both]:
    for number, name in enumerate(PORTS):
        sh(f"ip link add {name} type veth peer name wire{number}; ip link set wire{number} up")
        sh(f"ip link set {name} up")
    sh("ip link set lo up")
    deadline = time.monotonic() + 20
    while sh("ip -br link").count(" UP ") < 2 * len(PORTS):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with Rtnl() as rtnl:
        yield Both(rtnl)


def settled() -> dict[str, list[str]]:
    """The view, without the far ends, whose carrier follows a second later."""
    found = networks.settle(lambda: sh(networks.reading()))
    return {what: [row for row in rows if not _WIRE.search(row)] for what, rows in found.items()}


@pytest.mark.parametrize("number", range(10))
def test_a_random_network_is_as_it_was(both: Both, number: int) -> None:
    seed = f"{SEED} {number}"
    net = networks.Generator(seed, PORTS, kinds()).draw()
    script = net.script()
    print(f"MANACTL_SEED={SEED}, network {number}\n{script}")
    sh(script)
    before = settled()
    ports = [PortId("0000:00:00.0", n, None) for n in (1, 2)]
    states = [state for state in map(both.capture, ports) if state.up]
    for state in states:
        sh(f"ip link set {state.ifname} down")
    # Each second time with the addresses first, as a release sends them.
    prepared = [restore.Prepared(state) for state in states] if number % 2 else []
    downs = [SetAdmin(one.port, one.ifname, up=False, was=True, had_carrier=True) for one in states]
    steps = with_addresses(downs, prepared, (), Netdevs(both.rtnl))
    for state, step in zip(states, steps, strict=True):
        both.rtnl.set_up(state.ifindex, True)
        if isinstance(step, SetAdmin) and step.addresses:
            both.send_all(step.addresses)
    told = restore.restore_ports(both, states, 5.0, prepared=prepared)
    assert [one.residue for one in told] == [()] * len(states)
    assert [one.extra for one in told] == [()] * len(states)
    assert not (found := networks.differences(before, settled())), "\n".join(found)


ROUTES = """
ip route add 198.18.{n}.0/24 dev port0 proto static metric {m}
ip route add 198.19.{n}.0/24 via 100.64.0.9 dev port0 onlink proto bird table {t}
ip -6 route add 2001:db8:18:{n}::/64 via fe80::9 dev port0 proto static metric {m}
ip -6 route add 2001:db8:19:{n}::/64 dev port0 proto bgp table {t}
"""


def _steady(restored: restore.Restored) -> restore.Restored:
    """Without how many neighbours were lost: what stands on a port loses its carrier, and they with
    it, when the kernel's linkwatch comes to it, if the port is not up again by then."""
    counts = {kind: n for kind, n in restored.counts.items() if kind is not Kind.NEIGHBOUR}
    return replace(restored, counts=counts)


@pytest.mark.parametrize("number", range(5))
def test_many_plain_routes_come_back_as_all_others_do(both: Both, number: int) -> None:
    """Together (netstate/plain.py), or each by itself, in the same random network. Meanwhile others
    have put some of their own in the place, or of the same prefix on another device."""
    seed = f"{SEED} plain {number}"
    draw = random.Random(seed)
    net = networks.Generator(seed, PORTS, kinds()).draw()
    script = net.script()
    for n in range(20):
        script += ROUTES.format(n=n, m=draw.choice((0, 5, 5)), t=draw.choice((254, 77)))
    print(f"MANACTL_SEED={SEED}, network {number}\n{script}")
    sh(script)
    before = settled()
    ports = [PortId("0000:00:00.0", n, None) for n in (1, 2)]
    states = [state for state in map(both.capture, ports) if state.up]
    strangers = draw.sample(range(20), 3)
    told = []
    for many in (1 << 30, 1):
        for state in states:
            sh(f"ip link set {state.ifname} down")
        for state in states:
            sh(f"ip link set {state.ifname} up")
        sh(
            f"ip route add 198.18.{strangers[0]}.0/24 via 100.64.0.7 dev port0 onlink metric 5\n"
            f"ip -6 route add 2001:db8:18:{strangers[1]}::/64 dev port1 metric 5\n"
            f"ip route add 198.19.{strangers[2]}.0/24 dev lo proto bird table 77"
        )
        restored = restore.restore_ports(both, states, 5.0, many=many)
        told.append((list(map(_steady, restored)), settled()))
        sh(
            f"ip route del 198.18.{strangers[0]}.0/24 via 100.64.0.7 dev port0 metric 5\n"
            f"ip -6 route del 2001:db8:18:{strangers[1]}::/64 dev port1 metric 5\n"
            f"ip route del 198.19.{strangers[2]}.0/24 dev lo table 77"
        )
        restore.restore_ports(both, states, 5.0)
        assert not (found := networks.differences(before, settled())), "\n".join(found)
    assert told[0][0] == told[1][0]
    assert not (found := networks.differences(told[0][1], told[1][1])), "\n".join(found)
    assert any(one.counts.get(Kind.ROUTE, 0) > 70 for one in told[1][0])


FAR = ("10.5.5.5", "fd00:5::5")
LEADING = (
    "ip rule add pref 50 from 10.1.0.0/16 lookup 77", "ip -6 rule add pref 51 lookup 77",
    "ip rule add pref 52 dport 7000 lookup 77",
    "ip route add 10.96.0.0/12 dev port0; ip route add local 10.97.0.0/16 dev lo",
    "ip route add local 10.94.0.0/16 dev lo; ip route add 10.94.6.0/24 dev port1 table local",
    # Another rule before that of local routes.
    "ip rule add pref 100 lookup local; ip rule del pref 0\n"
    "ip rule add pref 53 to 10.97.5.0/24 lookup 88; ip route add 10.97.5.0/24 dev port0 table 88",
    "ip -6 rule add pref 100 lookup local; ip -6 rule del pref 0",
    "sysctl -qw net.ipv4.nexthop_compat_mode=0\n"
    "ip nexthop add id 900 dev port0; ip route add 10.93.0.0/16 nhid 900",
    "ip route add 10.95.0.0/16 nexthop dev port0 nexthop dev port1",
)  # fmt: skip


def _destinations(draw: random.Random) -> list[str]:
    """An address of each network that any route names, and its last one, which may be another's."""
    found = [
        "192.0.2.77",
        "2001:db8:77::7",
        *(f"10.{n}.0.9" for n in range(95, 100)),
        *(f"10.97.{n}.9" for n in (5, 6)),
    ]
    for family in ("-4", "-6"):
        for route in json.loads(sh(f"ip -j {family} route show table all") or "[]"):
            if route["dst"] != "default" and route.get("type") != "multicast":
                net = ipaddress.ip_network(route["dst"], strict=False)
                found += [str(net[draw.randrange(min(net.num_addresses, 200))]), str(net[-1])]
    return draw.sample(found, len(found))


@pytest.mark.parametrize("number", range(4))
def test_of_many_sockets_the_same_use_a_port(both: Both, number: int) -> None:
    """Whether the kernel is asked for all of them, or for those to where routes lead by the port."""
    seed = f"{SEED} sockets {number}"
    draw = random.Random(seed)
    script = networks.Generator(seed, PORTS, kinds()).draw().script()
    script += "".join(f"\nip addr add {address} dev lo nodad" for address in FAR)
    script += "\n".join(("", *(line for line in LEADING if not number or draw.random() < 0.5)))
    print(f"MANACTL_SEED={SEED}, network {number}\n{script}")
    sh(script)
    settled()
    devices = [name for _, name in socket.if_nameindex() if name != "lo"]
    with contextlib.ExitStack() as stack:
        for to in _destinations(draw):
            family = socket.AF_INET6 if ":" in to else socket.AF_INET
            one = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            if draw.random() < 0.2:
                name = draw.choice(devices).encode()
                one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if draw.random() < 0.8:  # else the kernel takes one of the interface that it goes by
                one.bind((FAR[":" in to], 0))
            with contextlib.suppress(OSError):  # no way there
                one.connect((to, draw.choice((7000, 7001))))
        counts = []
        for name in devices:
            addresses = [body for body in both.rtnl.addresses() if _index(body) == _number(name)]
            own = {rt.value(rt.split(body, rt.IFADDR.size), rt.IFA_ADDRESS) for body in addresses}
            reach = sockets.Reach(frozenset({_number(name)}), frozenset(filter(None, own)))
            every, few = (
                sockets.using(reach, both.rtnl, sockets.udp, socket.IPPROTO_UDP, many=many)
                for many in (False, True)
            )
            assert set(few) == set(every), name
            counts.append(len(every))
    assert sum(counts) > 10


def _number(name: str) -> int:
    return socket.if_nametoindex(name)


def _index(address: bytes) -> int:
    return rt.IfAddrMsg.of(address).ifindex
