"""What comes back is what packets meet, or it is told before and after; no journal stays open for
what can never come back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.notes import is_note
from tests.lab.site import Run, Site, on_oldest_and_newest, site
from tests.lab.users import GUEST, eventually, user
from tests.lab.vm import Vm
from tests.unit.wording import wording

pytestmark = on_oldest_and_newest()
ANYCAST = "fd00:2::77"


@pytest.fixture
def here(vm: Vm) -> Iterator[Site]:
    with site(vm) as made:
        yield made
        vm.run("ip nexthop flush", check=False)


def lost(ran: Run) -> dict[str, str]:
    """By what it is, why."""
    return {one["text"].split(" (")[0]: one["cause"] for one in ran.port["lost"]}


def told(document: dict[str, Any]) -> list[str]:
    """What the plan of a claim says cannot be restored."""
    return [text.split(" (")[0] for text in document["plan"]["lost"]]


def both_ways(here: Site, *more: str) -> tuple[dict[str, Any], Run]:
    """Claim and release the second port; what was said."""
    claimed = here.well("claim", "--json", "--raw-qp", here.second, *more).document
    ran = here.well("release", "--json")
    assert here.journals() == {}
    assert here.well("recover", "--json").document["ports"] == []
    with wording:
        assert here.well("recover").out.strip() == "nothing to recover"
    return claimed, ran


@pytest.mark.parametrize("lives", [True, False], ids=["lives", "ended"])
def test_an_anycast_address_of_a_program(here: Site, lives: bool) -> None:
    line = f"anycast {ANYCAST}/128 dev {here.second} table local proto kernel metric 0"
    with user(here.vm, "makers", "anycast", here.second, ANYCAST) as program:
        program.wait_for("joined")
        here.sh(f"ip -6 route show table local type anycast | grep {ANYCAST}")
        claimed = here.claim(here.second).document
        assert [text for text in told(claimed) if text.startswith(f"anycast {ANYCAST}")]
        if not lives:
            program.process.kill()
        ran = here.well("release", "--json")
    (text,) = lost(ran)
    assert text.split(" metric")[0] == line.split(" metric", maxsplit=1)[0]
    assert lost(ran)[text] == "anycast"
    assert here.journals() == {}
    both_ways(here)


def test_autojoin_encapsulations_and_bpf(here: Site) -> None:
    dev = here.second
    here.sh(
        f"modprobe 8021q; ip link add link {dev} name v9 type vlan id 9; ip link set v9 up\n"
        f"ip -6 addr add ff05::1234/128 dev {dev} autojoin\n"
        f"ip -6 addr add ff05::99/128 dev v9 autojoin\n"
        f"ip addr add 239.1.1.1/32 dev {dev} autojoin\n"
        f"ip -6 route add 2001:db8:f5::/64 encap rpl segs fd00:2::7 dev {dev} || true\n"
        f"ip -6 route add 2001:db8:f6::/64 encap seg6 mode encap segs fd00:2::7 dev {dev} || true\n"
    )
    before, groups = here.view(), sorted(here.sh("ip maddress show").split())
    claimed, ran = both_ways(here, "--allow", "upper")
    assert lost(ran) == {}
    here.same(before)
    assert sorted(here.sh("ip maddress show").split()) == groups
    here.sh("ip link del v9")
    network = "198.51.77.0/24"
    here.sh(f"python3 {GUEST}/makers.py bpf {dev} {network}")
    claimed, ran = both_ways(here)
    line = f"{network} dev {dev} proto static scope link"
    assert line in told(claimed)
    assert lost(ran) == {line: "bpf"}
    claimed, ran = both_ways(here)
    assert (lost(ran), line in told(claimed)) == ({}, False)


def test_a_daemon_that_has_taken_over(here: Site) -> None:
    here.sh(
        f"ip nexthop add id 10 via 10.0.2.20 dev {here.second} proto zebra\n"
        "ip route add 192.0.2.0/24 nhid 10; ip route add 192.0.3.0/24 nhid 10 proto bgp"
    )
    here.claim(here.second)
    here.sh("ip nexthop add id 10 via 198.51.100.20 dev spare proto zebra")
    here.sh("ip route add 192.0.2.0/24 nhid 10")
    theirs = here.sh("ip nexthop")
    ran = here.well("release", "--json")
    taken = lost(ran)
    assert set(taken.values()) == {"taken-over"}
    assert f"nexthop id 10 via 10.0.2.20 dev {here.second}" in taken
    with wording:
        texts = [one["text"] for one in ran.port["lost"]]
        assert any("(taken over" in text and "dev spare)" in text for text in texts)
    assert here.sh("ip nexthop") == theirs
    assert here.sh("ip route show 192.0.3.0/24") == ""
    both_ways(here)


GET = "for a in 10.5.0.77 10.5.0.255 192.0.2.7 2001:db8:5::77; do ip route get $a | head -n 1; done"


@pytest.mark.parametrize("first", [1, 2])
def test_two_ports_in_one_subnet(here: Site, first: int) -> None:
    order = [here.first, here.second] if first == 1 else [here.second, here.first]
    for number, dev in enumerate(order, 4):
        here.sh(
            f"ip addr add 10.5.0.{number}/24 dev {dev}\n"
            f"ip -6 addr add 2001:db8:5::{number}/64 dev {dev} nodad\n"
            f"ip route append 192.0.2.0/24 via 10.5.0.{number + 10} dev {dev} metric 100"
        )
    before, ways = here.view(), here.sh(GET)
    claimed, ran = both_ways(here)
    here.same(before)
    now = here.sh(GET)
    line = f"2001:db8:5::/64 dev {here.second} proto kernel metric 256"
    if first == 1:
        assert (now, lost(ran)) == (ways, {})
    else:  # all but the last
        assert now.splitlines()[:3] == ways.splitlines()[:3]
        assert now.splitlines()[3] != ways.splitlines()[3]
        assert (line in told(claimed), lost(ran)) == (True, {line: "order"})


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("crosswise", [False, True])
def test_two_claims_in_one_subnet(here: Site, first: int, crosswise: bool) -> None:
    """Released in the order in which they were claimed or the other way round: what comes first is
    what came first, or (IPv6 cannot be put first) it is said by plan and release."""
    order = [here.first, here.second] if first == 1 else [here.second, here.first]
    for number, dev in enumerate(order, 4):
        here.sh(
            f"ip addr add 10.5.0.{number}/24 dev {dev}\n"
            f"ip -6 addr add 2001:db8:5::{number}/64 dev {dev} nodad\n"
            f"ip route append 192.0.2.0/24 via 10.5.0.{number + 10} dev {dev} metric 100"
        )
    before, ways = here.view(), here.sh(GET)
    plans: list[str] = []
    for dev in (here.first, here.second):
        plans += told(here.claim(dev).document)
    said: dict[str, str] = {}
    for dev in (here.second, here.first) if crosswise else (here.first, here.second):
        said |= lost(here.well("release", dev, "--json"))
    here.same(before)
    now = here.sh(GET).splitlines()
    assert now[:3] == ways.splitlines()[:3]
    assert all(text.startswith("2001:") for text in said), said
    assert (now[3] == ways.splitlines()[3]) is (said == {})
    assert set(said) <= set(plans)


SETTINGS = """
ip link set {dev} mtu {mtu}; ip link set {dev} txqueuelen 555 promisc on alias 'to the lab'
ip link property add dev {dev} altname wan7
tc qdisc replace dev {dev} root handle 1: prio
echo 2 > /proc/sys/net/ipv4/conf/{dev}/rp_filter
echo 77 > /proc/sys/net/ipv4/neigh/{dev}/gc_stale_time
echo {six} > /proc/sys/net/ipv6/conf/{dev}/mtu
"""
SHOW = """
ip -j -d link show {dev} | jq -S '.[0] | [.mtu, .txqlen, .ifalias, .altnames, .promiscuity]'
tc qdisc show dev {dev} root
cd /proc/sys/net; grep . ipv4/conf/{dev}/* ipv4/neigh/{dev}/* ipv6/neigh/{dev}/* ipv6/conf/{dev}/*
"""


@pytest.mark.parametrize("mtu", [1500, 4000])
def test_a_netdev_that_was_recreated_while_claimed(here: Site, mtu: int) -> None:
    dev, vm = here.second, here.vm
    most = vm.run(f"ip link set {dev} mtu {mtu}", check=False)
    if most.rc:
        mtu = 1400  # this driver takes no more than the usual
    here.sh(SETTINGS.format(dev=dev, mtu=mtu, six=mtu - 100))
    shown = vm.run(SHOW.format(dev=dev), check=False).out
    addresses, routes = (here.sh(f"ip -br {what} show dev {dev}") for what in ("addr", "route"))
    here.well("claim", "--json", "--raw-qp", dev)
    old = here.status()[2]["ifindex"]
    drivers = "/sys/bus/pci/drivers/mana"
    vm.run(f"echo {vm.pci} > {drivers}/unbind; echo {vm.pci} > {drivers}/bind")
    there = f"ls /sys/bus/pci/devices/{vm.pci}/infiniband"
    eventually(lambda: vm.run(there, check=False).out, 60, "the RDMA devices")
    row = here.status()[2]
    new = row["ifindex"]
    assert new != old
    (drift,) = row["drift"]
    assert is_note(drift, "drift-recreated", old, new)
    ran = here.well("release", "wan7", "--json")
    assert [one["cause"] for one in ran.port["lost"]] == ["not-kept"]
    assert ran.port["restored"]["settings"] >= 7
    now = vm.run(SHOW.format(dev=dev), check=False).out
    assert now.splitlines() == shown.splitlines()
    assert here.sh(f"ip -br addr show dev {dev}") == addresses
    assert here.sh(f"ip -br route show dev {dev}") == routes
    assert here.status()[2]["altnames"] == ["wan7"]
    vm.run(f"ip link property del dev {dev} altname wan7; ip link set {dev} promisc off")
    vm.run(f"tc qdisc del dev {dev} root; ip link set {dev} txqueuelen 1000 alias ''", check=False)
    vm.run(f"echo {vm.pci} > {drivers}/unbind; echo {vm.pci} > {drivers}/bind")
    eventually(lambda: vm.run(there, check=False).out, 60, "the RDMA devices")


STP = """
ip netns add peer; ip link set {first} netns peer; ip -n peer link set {first} up
ip -n peer addr add 10.9.0.9/24 dev {first}
ip addr flush dev {second}; ip -6 route flush dev {second} proto boot; modprobe bridge
ip link add br7 type bridge stp_state 1 forward_delay 400; ip link set br7 up
ip link set {second} master br7; ip addr add 10.9.0.4/24 dev br7
"""
PORT_STATE = "bridge -j link show dev {} | jq -r '.[0].state'"
PING = "ping -c 1 -W 1 10.9.0.9"


def test_a_port_of_a_bridge_with_stp_forwards_later(here: Site) -> None:
    here.sh(STP.format(first=here.first, second=here.second))
    state = PORT_STATE.format(here.second)
    eventually(lambda: here.sh(state).strip() == "forwarding", 60, "the bridge to forward")
    eventually(lambda: here.vm.run(PING, check=False).rc == 0, 60, "an answer")
    claimed = here.well("claim", "--json", "--raw-qp", here.second, "--allow", "upper").document
    assert [text for text in claimed["plan"]["stops"] if here.second in text and "br7" in text]
    with wording:
        assert [text for text in claimed["plan"]["stops"] if "STP" in text and "up to 8 s" in text]
    ran = here.well("release", "--json")
    settling = ran.port["settling"]
    assert (settling["master"], settling["kind"], settling["state"]) == (
        "br7", "bridge", "listening",
    )  # fmt: skip
    assert 0 < settling["within_s"] <= 8
    eventually(lambda: here.sh(state).strip() == "forwarding", 60, "the bridge to forward")

    here.well("claim", "--raw-qp", here.second, "--allow", "upper")
    ran = here.well("release", "--wait", "60", "--json")
    assert ran.port["settling"] is None
    assert here.sh(state).strip() == "forwarding"
    eventually(lambda: here.vm.run(PING, check=False).rc == 0, 60, "an answer")
