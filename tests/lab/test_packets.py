"""What packets meet before a claim and after its release, on random networks where the port shares
subnets with another device: the way to fifty destinations, and the peers that answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.lab import packets
from tests.lab.site import Site, site
from tests.lab.users import eventually
from tests.lab.vm import Vm

SOME, MANY = 3, 150


@pytest.fixture
def here(vm: Vm) -> Iterator[Site]:
    vm.run("modprobe -a bridge vrf 8021q veth")
    with site(vm) as made:
        made.sh(packets.SEGMENT.format(far=made.first))
        yield made
        clean(made)
        vm.run("ip rule del pref 1000; ip -6 rule del pref 1000", check=False)


def clean(here: Site) -> None:
    here.vm.run(packets.CLEAN.format(port=here.second), check=False)


def try_one(here: Site, seed: int, number: int, shapes: Sequence[str]) -> str:
    shape = shapes[(seed + number) % len(shapes)]
    net = packets.draw(f"{seed} {number}", here.second, shape)
    script = net.script()
    print(f"network {seed} {number}, {net.shape}\n{script}")
    here.vm.run(["sh", "-s"], input=script)

    def ways() -> packets.Ways:
        return packets.ways(here.vm.run(["sh", "-s"], input=net.asking()).out)

    def answers() -> set[str]:
        return set(here.vm.run(["sh", "-s"], input=net.pinging()).out.split())

    reached: set[str] = set()

    def some() -> bool:
        reached.update(answers())
        return bool(reached)

    eventually(some, 60, "a peer that answers")
    # The kernel makes the local route of an IPv6 address when it is tentative no more.
    eventually(lambda: not here.sh("ip -6 addr show tentative").strip(), 30, "addresses")
    before = ways()
    assert len(before) >= packets.DESTINATIONS / 2, before
    claim = here.well("claim", "--json", "--raw-qp", here.second, "--allow", "upper")
    ran = here.well("release", "--json")
    told = [one["text"] for one in ran.port["lost"] if one["cause"] == "order"]
    assert len(told) == len(ran.port["lost"]), ran.port["lost"]
    known = [text.split(" (")[0] for text in claim.document["plan"]["lost"]]
    assert [text for text in told if text.split(" (")[0] not in known] == []
    # IPv4 loses a place between two others alone, which no packet meets while both work.
    six = [text for text in told if ":" in text.split()[0]]
    found: list[str] = []

    def as_before() -> bool:
        found[:] = packets.differences(before, ways(), six)
        return not found

    # A gateway whose neighbour entry has failed is passed over for a moment.
    try:
        eventually(as_before, 60, "the ways of packets")
    except AssertionError as error:
        raise AssertionError("\n".join([str(error), *found])) from None

    def all_again() -> bool:
        return answers() >= reached

    eventually(all_again, 60, f"answers of {sorted(reached)}")
    clean(here)
    return net.shape


@pytest.mark.parametrize("count", [SOME, pytest.param(MANY, marks=pytest.mark.soak)])
def test_packets_meet_what_they_met(here: Site, seed: int, count: int) -> None:
    shapes = packets.SHAPES if count == SOME else (*packets.SHAPES, *packets.VRFS)
    print([try_one(here, seed, number, shapes) for number in range(count)])
