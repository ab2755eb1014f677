"""A port that has heard an IPv6 router, claimed and released on real drivers: what the router has
advertised stays its own. Judged by the kernel's flags in /proc/net/ipv6_route."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.guest import ra
from tests.lab.site import Site, site
from tests.lab.users import GUEST, eventually, user
from tests.lab.vm import Vm
from tests.unit.wording import wording

SCENE = """
ip netns add peer; ip link set {second} netns peer
echo 0 > /proc/sys/net/ipv6/conf/{first}/router_solicitations
echo 64 > /proc/sys/net/ipv6/conf/{first}/accept_ra_rt_info_max_plen
ip netns exec peer sh -c 'echo 0 > /proc/sys/net/ipv6/conf/{second}/accept_dad'
ip -n peer link set {second} up
"""
ADDRCONF, PREFIX_RT, EXPIRES, ROUTEINFO = 0x40000, 0x80000, 0x400000, 0x800000
OWN = {
    "20010db800aa0000": PREFIX_RT | ADDRCONF | EXPIRES,
    "20010db800bb0000": ROUTEINFO | EXPIRES,
}


@pytest.fixture
def here(vm: Vm) -> Iterator[Site]:
    with site(vm) as made:
        vm.run(SCENE.format(first=made.first, second=made.second))
        yield made


def flags(here: Site) -> dict[str, int]:
    """Those of the routes to the advertised networks by the port, as the kernel has them."""
    rows = [line.split() for line in here.sh("cat /proc/net/ipv6_route").splitlines()]
    return {
        row[0][:16]: int(row[8], 16)
        for row in rows
        if row[0][:16] in OWN and row[1] == "40" and row[9] == here.first
    }


def is_own(here: Site) -> bool:
    """Whether they are the kernel's own, as learned from a router, and so is an address."""
    found = flags(here)
    shown = here.sh(f"ip -6 address show dev {here.first} -tentative")
    there = ra.PREFIX.removesuffix(":") in shown
    return there and all(found.get(net, 0) & m == m for net, m in OWN.items())


def advertise(here: Site, lifetime: int, *, own: bool) -> None:
    """Until the port has heard it: the first are lost while a link gets its carrier."""
    words = f"python3 {GUEST}/ra.py send {here.second} {lifetime} 0"

    def heard() -> bool:
        here.sh(f"ip netns exec peer {words}")
        return is_own(here) if own else flags(here) == {}

    eventually(heard, 30, f"an advertisement of {lifetime} s to be heard")


def test_what_a_router_has_advertised_stays_its_own(here: Site) -> None:
    advertise(here, 600, own=True)
    plan = here.claim(here.first).document["plan"]
    with wording:
        assert any("the next router advertisement" in text for text in plan["restores"])

    # Nobody asks the router: it is left to its next advertisement, lifetime 0 included.
    port = here.well("release", "--json").port
    assert (port["outcome"], len(port["advertised"])) == ("restored", 3)
    assert flags(here) == {}
    advertise(here, 700, own=True)
    advertise(here, 0, own=False)

    # The kernel asks when the port is up, and the router answers.
    advertise(here, 600, own=True)
    here.sh(f"echo -1 > /proc/sys/net/ipv6/conf/{here.first}/router_solicitations")
    words = ("answer", here.second, "900", "0")
    with user(here.vm, "ra", *words, netns="peer") as router:
        router.wait_for("listening")
        here.claim(here.first)
        port = here.well("release", "--json").port
        # Usually within the 5 s of the release; a loaded guest may take longer to answer.
        eventually(lambda: is_own(here), 30, "the router's answer to be heard")
    assert port["outcome"] == "restored"
