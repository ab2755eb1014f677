"""A port below a bond, a bridge or a VRF: claimed and released, all is as it was, or is reported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab import networks
from tests.lab.notes import ANY, noted
from tests.lab.site import Site, View, on, site
from tests.lab.users import eventually
from tests.lab.vm import Vm
from tests.unit.wording import wording

pytestmark = on(1)
ACTIVE = "/sys/class/net/up7/bonding/active_slave"
BOTH_UP = "grep -A1 'Slave Interface' /proc/net/bonding/up7 | grep -c 'Status: up'; :"
UPPERS = {
    "bond": """
        ip link set {first} down; ip link set {second} down
        ip link add up7 type bond mode active-backup fail_over_mac active miimon 100
        ip link set {first} master up7; ip link set {second} master up7
    """,
    "bridge": """
        ip link add up7 type bridge stp_state 0
        ip link set {second} master up7
        bridge fdb add 02:00:00:00:07:07 dev {second} master static
        bridge link set dev {second} cost 77 priority 9
    """,
    "vrf": "ip link add up7 type vrf table 777; ip link set {second} master up7",
}
UP = """
        echo 0 > /proc/sys/net/ipv6/conf/up7/accept_dad
        ip link set up7 up; ip link set {first} up; ip link set {second} up
    """
# What hangs on the upper, but for the VRF: there the port has it.
FURNITURE = """
echo 1400 > /proc/sys/net/ipv6/conf/{dev}/mtu
ip -batch - <<'END'
address add 10.5.0.1/24 dev {dev}
address add 10.5.0.2 peer 10.5.0.6/32 dev {dev}
address add 2001:db8:5::1/64 dev {dev} nodad
route add 192.0.2.0/24 via 10.5.0.9 dev {dev} {table}
route add 192.0.3.0/24 via 10.5.0.9 dev {dev} metric 50 {table}
route add 192.0.4.0/24 via 10.5.0.9 dev {dev} src 10.5.0.1 {table}
route add 2001:db8:99::/48 via 2001:db8:5::9 dev {dev} metric 60 {table}
neighbour add 10.5.0.50 lladdr 02:00:00:00:00:50 dev {dev} nud permanent
END
"""


@pytest.fixture
def here(vm: Vm) -> Iterator[Site]:
    vm.run("modprobe -a bridge vrf; modprobe bonding max_bonds=0")
    with site(vm) as made:
        yield made
        # The first VRF makes rules, which stay.
        vm.run("ip link del up7; ip rule del pref 1000; ip -6 rule del pref 1000", check=False)


def bare(here: Site, kind: str) -> None:
    names = {"first": here.first, "second": here.second}
    here.sh("set -e\n" + UPPERS[kind].format(**names) + UP.format(**names))


def build(here: Site, kind: str) -> View:
    """The upper with all that hangs on it; what is there then."""
    bare(here, kind)
    dev, table = (here.second, "table 777") if kind == "vrf" else ("up7", "")
    here.sh(FURNITURE.format(dev=dev, table=table))
    if kind == "bond":
        eventually(lambda: here.sh(BOTH_UP).strip() == "2", what="both members to be up")
        here.sh(f"echo {here.second} > {ACTIVE}")
    return here.view()


ACTIVE_CHOICES = (
    "grep -A1 'Slave Interface' /proc/net/bonding/up7 | grep -c 'Status: up' | grep 2; :"
)


def of_bridge(here: Site) -> list[str]:
    """What `ip` does not tell: the forwarding table without what was learnt, and the port's own."""
    table = "bridge fdb show br up7 | grep -E 'static|permanent'"
    learnt = "sed 's/mcast_n_groups [0-9]*//'"
    shown = here.sh(f"{table}; bridge -d link show | {learnt}; bridge vlan show")
    return sorted(shown.splitlines())


@pytest.mark.parametrize("kind", UPPERS)
def test_a_member_comes_back_as_it_was(here: Site, kind: str) -> None:
    before = build(here, kind)
    bridged = of_bridge(here)
    claim = ("claim", "--raw-qp", here.second)
    with here.untouched():
        ran = here.fails(3, "upper", *claim)
        assert ran.document["evidence"][0]["value"]["waivable"] is True
    document = here.well(*claim, "--allow", "upper", "--json").document
    assert [one["code"] for one in document["waived"]] == ["upper"]
    assert here.owners() == {1: "ethernet", 2: "free"}
    if kind == "bond":
        eventually(lambda: here.sh(f"cat {ACTIVE}").strip() == here.first)
    here.well("release")
    if kind == "bond":  # at once, since release has compared
        assert here.sh(f"cat {ACTIVE}").strip() == here.second
    assert here.journals() == {}
    here.same(before)
    assert of_bridge(here) == bridged


def test_a_bond_with_an_updelay_uses_its_member_later(here: Site) -> None:
    build(here, "bond")
    here.sh("ip link set up7 type bond updelay 9000")
    claimed = here.well("claim", "--json", "--raw-qp", here.second, "--allow", "upper").document
    assert [text for text in claimed["plan"]["stops"] if here.second in text and "up7" in text]
    with wording:
        assert [text for text in claimed["plan"]["stops"] if "updelay" in text and "9 s" in text]
    ran = here.well("release", "--json")
    told = ran.port["settling"]
    then = f"ip link set up7 type bond active_slave {here.second}"
    assert (told["state"], told["within_s"], told["then"]) == ("updelay", 9.0, then)
    assert here.journals() == {}
    eventually(lambda: here.sh(BOTH_UP).strip() == "2", what="both members to be up")
    assert here.sh(f"cat {ACTIVE}").strip() == here.first
    here.sh(told["then"])
    assert here.sh(f"cat {ACTIVE}").strip() == here.second
    here.well("claim", "--raw-qp", here.second, "--allow", "upper")
    ran = here.well("release", "--wait", "60", "--json")
    assert ran.port["settling"] is None
    assert here.sh(f"cat {ACTIVE}").strip() == here.second


@dataclass(frozen=True)
class Meddling:
    """What somebody changes meanwhile, and what release has to do with it."""

    command: str
    extra: tuple[str, ...] = ()  # what it leaves alone, and reports


MEDDLINGS = (
    Meddling(
        "ip addr del 10.5.0.2 peer 10.5.0.6/32 dev up7;"
        "ip addr add 10.5.0.2 peer 10.5.0.7/32 dev up7",
        ("10.5.0.7/32", "10.5.0.7"),
    ),
    Meddling("ip route replace 192.0.2.0/24 via 10.5.0.8 dev up7", ("192.0.2.0/24 via 10.5.0.8",)),
    Meddling(
        "ip route del 192.0.3.0/24; ip route add 192.0.3.0/24 via 10.5.0.9 dev up7 metric 51",
        ("192.0.3.0/24 via 10.5.0.9 dev up7 proto boot metric 51",),
    ),
    Meddling("ip route replace 192.0.4.0/24 via 10.5.0.9 dev up7", ("192.0.4.0/24 via 10.5.0.9",)),
    Meddling(
        "ip neigh replace 10.5.0.50 lladdr 02:00:00:00:00:51 dev up7 nud permanent",
    ),
    Meddling("echo 1401 > /proc/sys/net/ipv6/conf/up7/mtu"),
)


def test_what_was_changed_meanwhile_is_put_right_or_reported(here: Site) -> None:
    before = build(here, "bond")
    here.well("claim", "--raw-qp", here.second, "--allow", "upper")
    for one in MEDDLINGS:
        here.sh(one.command)
    ran = here.well("release", "--json")
    extra = list(ran.port["extra"])
    for text in (text for one in MEDDLINGS for text in one.extra):
        assert [line for line in extra if text in line], f"{text} is not reported: {extra}"
    print(extra)
    # Nothing that was there is missing, and whatever is new is in the report.
    after = here.view()
    left = networks.differences(facts(before), facts(after))
    assert [line for line in left if line.startswith("- ")] == []
    new = [line for line in left if line.startswith("+ ")]
    assert len(new) == len(extra), f"{new} of which {extra} are reported"
    for command in extra:
        here.sh(command)
    here.same(before)


def facts(view: View) -> View:
    """Without the routes that the kernel makes of addresses."""
    configured = {fact for fact in networks.facts(view) if '"protocol": "kernel"' not in fact}
    return {"facts": sorted(configured), "sysctl": view["sysctl"]}


def test_another_gateway_of_an_ipv6_route_is_left_alone_and_reported(here: Site) -> None:
    before = build(here, "bond")
    shown = "ip -6 route show 2001:db8:99::/48"
    here.well("claim", "--raw-qp", here.second, "--allow", "upper")
    here.sh("ip route replace 2001:db8:99::/48 via 2001:db8:5::8 dev up7 metric 60")
    ran = here.fails(5, "residue", "release")
    assert "2001:db8:99::/48 via 2001:db8:5::9 dev up7" in ran.err
    assert len(here.journals()) == 1
    assert here.sh(shown).split()[:3] == ["2001:db8:99::/48", "via", "2001:db8:5::8"]
    here.sh("ip route del 2001:db8:99::/48")
    here.well("recover")
    here.same(before)


def test_an_upper_that_is_gone_is_residue(here: Site) -> None:
    """Made again it gets back what hung on it."""
    before = build(here, "bond")
    here.well("claim", "--raw-qp", here.second, "--allow", "upper")
    here.sh("ip link del up7")
    ran = here.fails(5, "residue", "release")
    residue = [one["value"] for one in ran.document["evidence"] if one["source"] == "rtnetlink"]
    assert [line for line in residue if line.startswith("bond up7 (")] == residue[:1]
    assert len(here.journals()) == 1
    assert noted(here.status()[2]["notes"], "not-restored", ANY, ANY)
    with wording:
        assert residue[0].startswith("bond up7 (it is gone")
        assert "compared" not in ran.out + ran.err
        (note,) = [n for n in here.status()[2]["notes"] if "not fully restored" in n]
        assert "up7" in note
    bare(here, "bond")
    here.well("recover")
    assert here.journals() == {}
    left = networks.differences(facts(before), facts(here.view()))
    assert left == [], "\n".join(left)
