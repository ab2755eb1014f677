"""Random networks: claimed and released, everything is as it was, judged without manactl.

MANACTL_SEED=N draws the same networks again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab import networks, stacks
from tests.lab.scene import owners
from tests.lab.users import eventually, resident
from tests.lab.vm import Vm

SOME, MANY = 8, 300
AWAY = "away"  # the other network namespace
View = dict[str, list[str]]
# That the claimed port is never the last one; and nobody waits for what has no carrier.
SPARE = """
ip link add spare type dummy && ip link set spare up && ip addr add 198.51.100.1/24 dev spare
ip link set lo up
"""
BARE = """
ip nexthop flush; ip rule flush; ip -6 rule flush
ip rule add table main pref 32766; ip rule add table default pref 32767
ip -6 rule add table main pref 32766
"""
# Without what the kernel makes of it by itself: 52 facts, and half are lost by down and up.
COUNTED = """
ip link set {other} up; ip addr add 10.1.0.2/24 dev {other}
ip -6 addr add 2001:db8:f::2/64 dev {other} nodad
echo 0 > /proc/sys/net/ipv6/conf/{name}/accept_dad
ip link add link {name} name v10 type vlan id 10; ip link add link {name} name v11 type vlan id 11
ip link set {name} up; ip link set v10 up; ip link set v11 up; ip link set v11 down
ip -batch - <<'END'
address add 10.2.0.2/24 dev {name}
address add 10.2.0.3/24 dev {name} label {name}:x
address add 10.10.0.2/24 dev v10
address add 10.10.0.3/24 dev v10 label v10:x
address add 10.11.0.2/24 dev v11
address add 2001:db8:12::2/64 dev v11 nodad
address add 2001:db8:1::2/64 dev {name} nodad
address add 2001:db8:2::2/64 dev {name} noprefixroute nodad
address add 2001:db8:10::2/64 dev v10 nodad
address add 2001:db8:20::2/64 dev v10 noprefixroute nodad
address add 2001:db8:3::2/64 dev {name} nodad
address add 2001:db8:11::2/64 dev v10 nodad valid_lft 9000 preferred_lft 8000
route add 192.0.2.0/24 via 10.2.0.9 dev {name}
route add 192.0.3.0/24 dev {name} scope link table 100
route add 192.0.4.0/24 via 10.10.0.9 dev v10 table 100
route add 192.0.5.0/24 nexthop via 10.2.0.5 weight 3 nexthop via 10.2.0.6
route add 192.0.6.0/24 via 10.2.0.9 dev {name} proto static mtu 1400
route add 2001:db8:100::/40 via 2001:db8:1::1 dev {name}
route add 2001:db8:300::/40 via 2001:db8:10::1 dev v10 table 100
route add 2001:db8:400::/40 dev {name} metric 77
route add 2001:db8:500::/40 via fe80::2 dev v10 table 200 proto static
route add 192.0.7.0/24 via 10.10.0.9 dev v10 table 100 metric 50
route add 2001:db8:200::/40 via fe80::1 dev {name} table 200
nexthop add id 10 via 10.2.0.20 dev {name}
nexthop add id 11 via 10.1.0.20 dev {other}
nexthop add id 12 via 10.10.0.20 dev v10
nexthop add id 20 group 10,2/11,3
route add 198.18.0.0/24 nhid 20
route add 198.18.1.0/24 nhid 10
route add 198.18.2.0/24 nhid 12
neighbour add 10.2.0.50 lladdr 02:00:00:00:00:50 dev {name} nud permanent
neighbour add 2001:db8:1::50 lladdr 02:00:00:00:00:51 dev {name} nud permanent
neighbour add 10.10.0.50 lladdr 02:00:00:00:00:52 dev v10 nud permanent
neighbour add proxy 2001:db8:1::60 dev {name}
neighbour add proxy 10.2.0.60 dev {name}
neighbour add 2001:db8:10::50 lladdr 02:00:00:00:00:53 dev v10 nud permanent
neighbour add 10.10.0.51 lladdr 02:00:00:00:00:54 dev v10 nud permanent
neighbour add proxy 2001:db8:10::60 dev v10
rule add from 10.2.0.0/24 table 100 pref 1000
rule add iif v10 table 100 pref 1001
END
"""


@dataclass
class Bench:
    """A guest whose driver is bound again for each network, so that none finds another's settings.

    The first network namespace is one of its places.
    """

    vm: Vm
    places: tuple[str | None, ...] = (None,)  # network namespaces
    steady: float = 0  # s that a view must last

    def fresh(self) -> list[str]:
        """The names of both ports, which are as the driver makes them."""
        vm = self.vm
        drivers = "/sys/bus/pci/drivers/mana"
        vm.run(f"echo {vm.pci} > {drivers}/unbind; echo {vm.pci} > {drivers}/bind")
        there = f"ls /sys/bus/pci/devices/{vm.pci}/infiniband"
        eventually(lambda: vm.run(there, check=False).out, 60, "the RDMA devices")
        for place in self.places:
            self.sh(place, BARE)
        return [vm.netdevs[1], vm.netdevs[2]]

    def sh(self, place: str | None, script: str) -> str:
        argv = ["sh", "-s"] if place is None else ["ip", "netns", "exec", place, "sh", "-s"]
        return self.vm.run(argv, input=script, check=False).out

    def settled(self, *places: str | None) -> dict[str | None, View]:
        def settled(place: str | None) -> View:
            read = networks.reading()
            return networks.settle(lambda: self.sh(place, read), steady=self.steady)

        return {place: settled(place) for place in places}

    def manactl(self, place: str | None, words: str) -> None:
        verb = "run" if place is None else f"in {place}"
        told = resident(self.vm, "crash").ask(f"{verb} whole {words}", "ran", timeout=180)
        assert told["rc"] == 0, f"{words}: {told['rc']} {told['text']}"


@pytest.fixture
def bench(vm: Vm) -> Iterator[Bench]:
    vm.run("modprobe dummy numdummies=0")
    made = Bench(vm, (None, AWAY))
    vm.run(["ip", "netns", "add", AWAY])
    for place in made.places:
        made.sh(place, SPARE)
    for kind in networks.KINDS:  # scripts go on where one is missing, and would test less
        more = "id 9" if kind == "vlan" else ""
        vm.run(f"ip link add link spare name try0 type {kind} {more} && ip link del try0")
    yield made
    made.fresh()
    vm.run("rmmod dummy")


def judged(before: dict[str | None, View], after: dict[str | None, View]) -> list[str]:
    return [
        f"{f'in {place}: ' if place else ''}{line}"
        for place, view in before.items()
        for line in networks.differences(view, after[place])
    ]


def try_one(bench: Bench, seed: str) -> str:
    """Draw a network, claim one port or both, release: nothing is missing, nothing is new.

    Both ports are here, or in another namespace where manactl runs then, or one is there whose
    part of the network the claim of the other must not touch.
    """
    rng = random.Random(f"{seed} place")
    where = rng.choice(("here", "here", "away", "split"))
    names = bench.fresh()
    chosen = [2] if where == "split" else rng.choice(([1], [2], [1, 2]))
    place = AWAY if where == "away" else None
    places = [place] if where != "split" else [None, AWAY]
    script = networks.Generator(seed, names, default_routes=False).draw().script()
    print(f"network {seed}, {where}, ports {chosen} claimed\n{script}")
    for name in {"here": [], "away": names, "split": names[:1]}[where]:
        bench.vm.run(["ip", "link", "set", name, "netns", AWAY])
    for one in places:  # where a device is not, ip -force goes on
        bench.sh(one, script)
    before, owned = bench.settled(*places), owners(bench.vm)
    ports = " ".join(f"--raw-qp {names[number - 1]}" for number in chosen)
    bench.manactl(place, f"claim {ports} --allow upper")
    assert owners(bench.vm) == {**owned, **dict.fromkeys(chosen, "free")}
    bench.manactl(place, "release")
    assert owners(bench.vm) == owned
    found = judged(before, bench.settled(*places))
    assert not found, "\n".join(found)
    return where


@pytest.mark.parametrize("count", [SOME, pytest.param(MANY, marks=pytest.mark.soak)])
def test_random_networks_are_as_they_were(bench: Bench, seed: int, count: int) -> None:
    places = [try_one(bench, f"{seed} {number}") for number in range(count)]
    print({place: places.count(place) for place in sorted(set(places))})


@pytest.mark.parametrize("stack", stacks.OF_TWO)
def test_a_port_below_a_master_is_as_it_was(bench: Bench, stack: str) -> None:
    other, name = bench.fresh()
    vm = bench.vm
    kinds = stacks.STACKS[stack][2]
    modules = {"bond": "bonding", "vlan": "8021q"}
    vm.run(["modprobe", "-a", *(modules.get(kind, kind) for kind in kinds)])
    vm.run(["ip", "link", "set", other, "up"])
    vm.run(stacks.script(stack, name, other))
    before, owned = bench.settled(None), owners(vm)
    bench.manactl(None, f"claim --raw-qp {name} --allow upper")
    assert owners(vm) == {**owned, 2: "free"}
    bench.manactl(None, "release")
    assert owners(vm) == owned
    found = judged(before, bench.settled(None))
    vm.run(stacks.ending(stack) + "echo 1 > /proc/sys/net/ipv6/conf/default/accept_dad")
    assert not found, "\n".join(found)


def test_none_is_lost_of_what_down_and_up_lose_half(bench: Bench) -> None:
    def drawn() -> View:
        other, name = bench.fresh()
        bench.sh(None, COUNTED.format(name=name, other=other))
        return bench.settled(None)[None]

    def configured(view: View) -> set[str]:
        return {fact for fact in networks.facts(view) if '"protocol": "kernel"' not in fact}

    before = configured(drawn())
    name = bench.vm.netdevs[2]
    bench.vm.run(f"ip link set {name} down; ip link set {name} up")
    lost = before - configured(bench.settled(None)[None])
    print(f"Linux {bench.vm.prefix}: {len(lost)} of {len(before)} facts are lost by down and up")
    assert len(before) == 52
    assert len(lost) >= 25
    view = drawn()
    bench.manactl(None, f"claim --raw-qp {name} --allow upper")
    bench.manactl(None, "release")
    assert not judged({None: view}, bench.settled(None))
