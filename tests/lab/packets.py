"""Random networks in which a port shares subnets with another device, and where packets go there.

Nothing here knows manactl. One segment joins the port under test, a second device and the peers;
a network is drawn from a seed, and the judge asks the kernel for the way to fifty destinations.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

SHAPES = ("plain", "bridge", "vlan")
VRFS = ("vrf", "both in a vrf")
TABLES = (254, 254, 254, 100, 4000)
VRF_TABLE = 700
SHARED, OWN = range(1, 4), range(11, 13)  # subnets of both devices, and of the port alone
DESTINATIONS = 50
_NEAR = 30  # of them
_PEER = 9
# Those that do not answer are passed over by IPv6, sooner or later.
GATEWAYS = range(9, 12)
_MARK = "==="

# `{far}` is a port of the NIC, behind which the peers are; `side0` is the second device.
SEGMENT = """
ip netns add far; ip link set {far} netns far
ip link add side0 type veth peer name side1 netns far
mac=$(ip netns exec far cat /sys/class/net/{far}/address)
ip -n far link add seg address $mac type bridge stp_state 0
for d in {far} side1; do ip -n far link set $d master seg; ip -n far link set $d up; done
ip netns exec far sh -c 'echo 0 > /proc/sys/net/ipv6/conf/seg/accept_dad'
ip -n far link set seg up
ip -n far link add v9 link seg type vlan id 9
ip netns exec far sh -c 'echo 0 > /proc/sys/net/ipv6/conf/v9/accept_dad'
ip -n far link set v9 up
echo 0 > /proc/sys/net/ipv6/conf/side0/accept_dad; ip link set side0 up
"""
CLEAN = """
ip link del br7; ip link del red; ip link del v9
ip link set {port} nomaster; ip link set side0 nomaster
ip addr flush dev {port}; ip addr flush dev side0
ip route flush table 100; ip route flush table 4000
ip -6 route flush table 100; ip -6 route flush table 4000
ip nexthop flush; ip route flush proto 77; ip -6 route flush proto 77
for p in 1001 1002; do ip rule del pref $p; ip -6 rule del pref $p; done
ip -n far addr flush dev seg; ip -n far addr flush dev v9
ip link set {port} down; ip link set {port} up
"""
# The kernel makes this rule with the first VRF alone (vrf_add_fib_rules()).
L3MDEV = """for f in -4 -6; do
    ip $f rule show pref 1000 | grep -q l3mdev || ip $f rule add pref 1000 l3mdev protocol kernel
done"""


@dataclass
class Network:
    """The commands that make it, the destinations to ask for, and the peers that may answer."""

    shape: str
    links: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    far: list[str] = field(default_factory=list)
    destinations: list[str] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    vrf: bool = False  # whether the port is in one

    def script(self) -> str:
        return "\n".join(self.links) + "\n" + _batch(self.facts) + _batch(self.far, "-n far")

    def asking(self) -> str:
        """For `sh`: a line for each destination, after one that says where."""
        here = _batch([f"route get {to}" for to in self.destinations], "-o")
        there = _batch([f"route get {to} vrf red" for to in self.destinations], "-o")
        return f"echo {_MARK} main\n{here}" + (f"echo {_MARK} red\n{there}" if self.vrf else "")

    def pinging(self) -> str:
        """For `sh`: the peers that answer."""
        by = "-I red " if self.vrf else ""
        each = (f"(ping {by}-c 1 -W 2 {to} > /dev/null 2>&1 && echo {to}) &" for to in self.peers)
        return "\n".join([*each, "wait"])


def _batch(lines: list[str], options: str = "") -> str:
    text = "\n".join(lines)
    return f"ip {options} -force -batch - <<'END' 2>/dev/null || true\n{text}\nEND\n"


def draw(seed: str, port: str, shape: str) -> Network:
    rng = random.Random(seed)
    net = Network(shape)
    device, other = port, "side0"
    if net.shape == "bridge":
        device = "br7"
        net.links += [
            "ip link add br7 type bridge stp_state 0",
            "echo 0 > /proc/sys/net/ipv6/conf/br7/accept_dad",
            f"ip link set {port} master br7; ip link set br7 up",
        ]
    elif net.shape == "vlan":
        device = "v9"
        net.links += [
            f"ip link add link {port} name v9 type vlan id 9",
            "echo 0 > /proc/sys/net/ipv6/conf/v9/accept_dad; ip link set v9 up",
        ]
    elif "vrf" in net.shape:
        net.vrf = True
        net.links += [
            f"ip link add red type vrf table {VRF_TABLE}; ip link set red up",
            L3MDEV,
            f"ip link set {port} master red",
        ]
        if net.shape == "both in a vrf":
            net.links.append("ip link set side0 master red")
    far = ("seg", "v9") if net.shape == "vlan" else ("seg",)
    for subnet in (*SHARED, *OWN):
        devices = [(device, 5), (other, 4)] if subnet in SHARED else [(device, 5)]
        rng.shuffle(devices)
        metric = rng.choice(("", "", f"metric {rng.randint(1, 900)}"))
        for name, host in devices:
            if rng.random() < 0.9:
                own = metric if rng.random() < 0.8 else "metric 950"
                net.facts.append(f"addr add {v4(subnet, host)}/24 dev {name} {own}")
            if rng.random() < 0.9:
                net.facts.append(f"addr add {v6(subnet, host)}/64 dev {name} nodad {metric}")
        for host in GATEWAYS:
            net.far += [f"addr add {v4(subnet, host)}/24 dev {dev}" for dev in far]
            net.far += [f"addr add {v6(subnet, host)}/64 dev {dev} nodad" for dev in far]
        net.peers += [v4(subnet, _PEER), v6(subnet, _PEER)]
    table = [VRF_TABLE] if net.vrf else TABLES
    net.facts += _routes(rng, [device, other], table)
    net.facts += _rules(rng)
    net.destinations = sorted(_destinations(rng))
    return net


def v4(subnet: int, host: int) -> str:
    return f"10.7.{subnet}.{host}"


def v6(subnet: int, host: int) -> str:
    return f"fd00:7:{subnet:x}::{host:x}"


def _routes(
    rng: random.Random, devices: list[str], tables: list[int] | tuple[int, ...]
) -> Iterator[str]:
    for number in range(10):
        table, metric = rng.choice(tables), rng.choice((100, 100, 200))
        # Mixed in one row, a dump of the kernel leaves some out (fib6_dump_node() jumps to the
        # last of a multipath route).
        far = rng.random() < 0.5
        for device in rng.sample(devices * 2, rng.randint(1, 3)):
            subnet, gateway = rng.choice(SHARED), rng.choice(GATEWAYS)
            verb = rng.choice(("append", "append", "prepend"))
            more = f"dev {device} table {table} metric {metric} proto 77"
            yield f"route {verb} 192.0.{number}.0/24 via {v4(subnet, gateway)} {more}"
            way = f"via {v6(subnet, gateway)} " if far else ""
            yield f"route {verb} fd01:{number:x}::/48 {way}{more}"
    for number in range(10, 14):
        ways = [(rng.choice(SHARED), rng.choice(GATEWAYS), rng.choice(devices)) for _ in range(3)]
        rest = f"table {rng.choice(tables)} proto 77"
        four = " ".join(f"nexthop via {v4(s, g)} dev {d} onlink" for s, g, d in ways)
        six = " ".join(f"nexthop via {v6(s, g)} dev {d}" for s, g, d in ways)
        yield f"route add 192.0.{number}.0/24 {rest} {four}"
        yield f"route add fd01:{number:x}::/48 {rest} {six}"
    for hop, device in enumerate(devices, 14):
        yield f"nexthop add id {hop} via {v4(rng.choice(SHARED), 10)} dev {device}"
        yield f"route add 192.0.{hop}.0/24 nhid {hop} table {rng.choice(tables)} proto 77"
    yield "nexthop add id 30 group 14/15"
    yield f"route add 192.0.16.0/24 nhid 30 table {rng.choice(tables)} proto 77"


def _rules(rng: random.Random) -> Iterator[str]:
    for pref, table in ((1001, 100), (1002, 4000)):
        if rng.random() < 0.6:
            number = rng.randint(0, 9)
            yield f"rule add to 192.0.{number}.0/24 table {table} pref {pref}"
            yield f"-6 rule add to fd01:{number:x}::/48 table {table} pref {pref}"


def _destinations(rng: random.Random) -> set[str]:
    """More than half of them in subnets, most of which there are; a route may be in a table that no
    rule leads to."""
    near = [v4(s, h) for s in (*SHARED, *OWN) for h in (4, 5, _PEER, 77, 255)]
    near += [v6(s, h) for s in (*SHARED, *OWN) for h in (4, 5, _PEER, 0x77)]
    far = [f"192.0.{n}.{h}" for n in range(17) for h in (1, 200)]
    far += [f"fd01:{n:x}::{h}" for n in range(14) for h in (1, 99)]
    return {*rng.sample(near, _NEAR), *rng.sample(far, DESTINATIONS - _NEAR)}


Ways = dict[tuple[str, str], str]  # by where it was asked and the destination


def ways(shown: str) -> Ways:
    """What `ip -o route get` has said, without what changes by itself; nothing of what has no way."""
    found: Ways = {}
    where = ""
    for line in shown.splitlines():
        words = [word for word in line.split() if word not in {"cache", "\\"}]
        if words[:1] == [_MARK]:
            where = words[1]
        elif words:
            to = words[1] if words[0].isalpha() else words[0]
            found[where, to] = " ".join(words)
    return found


def differences(before: Ways, after: Ways, told: list[str]) -> list[str]:
    """Ways that are not what they were, but for those to networks whose change was told."""
    networks = [ipaddress.ip_network(text.split()[0]) for text in told if "/" in text.split()[0]]
    found = []
    for which in sorted({*before, *after}):
        was, now = before.get(which, "no way"), after.get(which, "no way")
        to = ipaddress.ip_address(which[1])
        if was != now and not any(to.version == n.version and to in n for n in networks):
            found += [f"- {which}: {was}", f"+ {which}: {now}"]
    return found
