"""Refusals on the real drivers: every guard that can be provoked, and that nothing is touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.lab.scene import manactl, names_every_port, owners, status
from tests.lab.test_mainjob import Watch
from tests.lab.users import eventually, user
from tests.lab.vm import Vm
from tests.unit import schema
from tests.unit.wording import wording

SSH = "SSH_CONNECTION=10.7.0.2 50022 10.7.0.1 22"
# Its own port, and as little as possible on it: all that the guards find is on VLANs.
SCENE = """
set -e
ip netns add peer; ip netns add blue
ip link set {far} netns peer
ip link add link {port} name v7 type vlan id 7
ip link add link {port} name v8 type vlan id 8
ip link set v8 netns blue
ip link set {port} up; ip link set v7 up; ip -n blue link set v8 up
ip addr add 10.7.0.1/24 dev v7; ip addr add fd07::1/64 dev v7 nodad
ip -n blue addr add 10.8.0.1/24 dev v8
ip -n peer link set {far} up
for n in 7 8; do
    ip -n peer link add link {far} name v$n type vlan id $n; ip -n peer link set v$n up
    ip -n peer addr add 10.$n.0.2/24 dev v$n
done
ip -n peer addr add fd07::2/64 dev v7 nodad
ip route add default via 10.7.0.2 dev v7
ip route add 168.63.129.16/32 via 10.7.0.2 dev v7
mkdir -p /run/NetworkManager/devices
echo managed=true > /run/NetworkManager/devices/$(cat /sys/class/net/{port}/ifindex)
cp /bin/sleep /tmp/NetworkManager
"""
CODES = (
    "ssh-session", "default-route", "last-port", "tcp-established", "storage", "azure-fabric",
    "rdma-users", "upper", "xdp", "packet-sockets", "manager",
)  # fmt: skip


@contextmanager
def untouched(vm: Vm) -> Iterator[None]:
    """Fails if rtnetlink tells of anything but neighbours meanwhile, or the NIC is asked for
    anything but counters."""

    def mark(address: str) -> None:
        vm.run(["ip", "route", "add", "unreachable", address])

    def listening() -> bool:
        mark(f"192.0.2.{next(numbers)}")
        return "unreachable" in monitor.out

    monitor = vm.spawn(["ip", "monitor", "label", "all"])
    try:
        numbers = iter(range(1, 250))
        eventually(listening, what="ip monitor to say something")
        mark("198.51.100.1")
        monitor.read_until("198.51.100.1", 20)
        monitor.read_until("\n", 20)
        before, watch = owners(vm), Watch.start(vm)
        yield
        requests = watch.requests()
        mark("198.51.100.2")
        heard = monitor.read_until("198.51.100.2", 20).splitlines()
        assert [line for line in heard[:-1] if not line.startswith("[NEIGH]")] == []
        assert requests == set()
        assert watch.programmed() == []
        assert owners(vm) == before
    finally:
        monitor.kill()
        vm.run("ip route flush type unreachable")


def refused(vm: Vm, *words: str) -> dict[str, dict[str, Any]]:
    """The refusals of a claim by their code; stdout holds the document, stderr the same in words."""
    result = manactl(vm, "claim", "--json", *words, prefix=("env", SSH))
    assert result.rc == 3, result.out + result.err
    document: dict[str, Any] = json.loads(result.out)
    schema.strict(document)
    for one in document["evidence"]:
        assert one["value"]["evidence"], one
        assert f"  {one['fact']}: " in result.err
    with wording:
        assert "nothing was touched" in result.err
    assert vm.run("ls /var/lib/manactl/claims/*", check=False).rc != 0
    return {one["fact"]: one["value"] for one in document["evidence"]}


def test_every_guard_refuses_and_touches_nothing(vm: Vm) -> None:
    port, far = vm.netdevs[1], vm.netdevs[2]
    rdma = status(vm)[1]["rdma"]
    device = rdma["others"][0].partition("/")[0] if rdma["others"] else rdma["device"]
    with ExitStack() as stack:
        stack.callback(vm.run, f"ip link set {port} xdp off; rm -r /run/NetworkManager")
        vm.run(SCENE.format(port=port, far=far))
        for program in (("occupy", "xdp", port), ("occupy", "packet", "v7"), ("rnic", device)):
            stack.enter_context(user(vm, *program)).wait_for("ready")
        vm.spawn(["/tmp/NetworkManager", "600"])
        for address, number, where in (
            ("10.7.0.2", "2049", None),
            ("fd07::2", "7001", None),
            ("10.8.0.2", "7002", "blue"),
        ):
            server = stack.enter_context(user(vm, "tcp", "serve", address, number, netns="peer"))
            server.wait_for("listening")
            prober = stack.enter_context(
                user(vm, "tcp", "probe", address, number, "2000", netns=where)
            )
            prober.wait_for("connected")
        with untouched(vm):
            refusals = refused(vm, "--raw-qp", port)
        assert tuple(refusals) == CODES
        tells_what_survives(refusals)
        with untouched(vm):
            waive = [word for code in CODES for word in ("--allow", code)]
            words = ("claim", "--json", "--raw-qp", port, *waive)
            result = manactl(vm, *words, prefix=("env", SSH))
        assert result.rc == 3, result.out
        stand = {one["fact"] for one in result.json()["evidence"]}
        assert stand >= {"ssh-session", "default-route", "last-port"}
        assert not stand & {"tcp-established", "storage", "manager", "azure-fabric"}
        for code in ("tcp-established", "storage", "manager", "azure-fabric"):
            assert f"  {code}: " not in result.err
        with wording:
            for code in ("ssh-session", "default-route", "last-port"):
                assert f"--allow {code} has no effect" in result.err
        with untouched(vm):
            assert list(refused(vm, "--raw-qp", f"{vm.pci}:2")) == ["foreign-netns"]


def tells_what_survives(refusals: dict[str, dict[str, Any]]) -> None:
    uppers = refusals["upper"]["message"]
    assert all(word in uppers for word in ("v8", "vlan", "blue"))
    found = [e["value"] for e in refusals["tcp-established"]["evidence"]]
    survives = {(one["peer"], one["netns"]): one["survives"] for one in found}
    assert survives.keys() == {
        ("10.7.0.2 2049", None), ("fd07::2 7001", None), ("10.8.0.2 7002", "blue"),
    }  # fmt: skip
    by_ipv6 = survives.pop(("fd07::2 7001", None))
    assert (set(survives.values()), by_ipv6 == "yes") == ({"yes"}, False)
    with wording:
        assert "v8 (vlan) in the network namespace blue" in uppers
        assert by_ipv6 == "if its address is back in time"
    assert all([p["comm"] for p in one["processes"]] == ["python3"] for one in found)


# Every kind of upper, on the port, on each other, in another namespace; VLAN 8 binds loosely.
STACK = """
set -e
modprobe -a 8021q macvlan ipvlan bridge vrf; modprobe bonding max_bonds=0
ip netns add blue; modprobe dummy; ip link add dm0 type dummy; ip link set dm0 up
ip link add link {port} name v7 type vlan id 7
ip link add link {port} name v8 type vlan id 8 loose_binding on
ip link add link v7 name v77 type vlan proto 802.1ad id 7
ip link add link v7 name mv0 type macvlan
ip link add link {far} name iv0 type ipvlan
ip link add link {port} name away type vlan id 9; ip link set away netns blue
ip link add bd0 type bond; ip link add br0 type bridge; ip link add vrf0 type vrf table 9
ip link set mv0 down; ip link set mv0 master bd0; ip link set v77 master br0
ip link set v8 master vrf0; ip link add link br0 name v10 type vlan id 10
"""
COMPARE = """
import json
from importlib.metadata import version
from manactl.look import netdevs, pyroute2_links
from manactl.look.rtnetlink import Rtnl
from manactl.look.stacked_links import BESIDE
from manactl.wire.if_link import IfLink
theirs = pyroute2_links.links()
with Rtnl() as rtnl:
    ours = [(one.ifindex, one.name, one.kind, one.up, one.carrier, one.link,
             None if one.kind in BESIDE else one.far_lower, one.master, one.follows)
            for one in rtnl.stack()]
    links = map(IfLink, rtnl.links())
    plain = [netdevs.as_decoded(link) for link in links if netdevs.is_plain(link)]
print(json.dumps([version("pyroute2"), theirs, ours, plain]))
"""


def test_pyroute2_decodes_every_kind_of_upper_as_snapshots_have_it(vm: Vm) -> None:
    """The distribution's, which is the oldest that manactl works with."""
    port, far = vm.netdevs[1], vm.netdevs[2]
    try:
        vm.run(STACK.format(port=port, far=far))
        for inside in ([], ["ip", "netns", "exec", "blue"]):
            ran = vm.run([*inside, "python3", "-c", COMPARE])
            release, theirs, ours, plain = json.loads(ran.out)
            assert release == "0.7.7"
            assert theirs == ours
            assert [one for one in plain if one not in theirs] == []
            assert {name for _, name, *_ in plain} >= ({"lo"} if inside else {"lo", "dm0"})
            kinds = {kind for _, _, kind, *_ in theirs if kind}
            assert kinds >= ({"vlan"} if inside else {
                "vlan", "macvlan", "ipvlan", "bond", "bridge", "vrf",
            })  # fmt: skip
    finally:
        vm.run("for one in v10 vrf0 br0 bd0 iv0 v8 v7 dm0; do ip link del $one; done; "
               "ip netns del blue; ip rule del pref 1000; ip -6 rule del pref 1000", check=False)  # fmt: skip


def test_a_use_count_left_behind_is_told_from_a_holder(vm: Vm) -> None:
    """Drivers up to 6.18 keep it when the NIC refuses an open half-way."""
    name = vm.netdevs[1]
    vm.nic.fault("MANA_CREATE_WQ_OBJ", status=0xC0000001)
    assert vm.run(["ip", "link", "set", name, "up"], check=False).rc != 0
    assert owners(vm) == {1: "free", 2: "free"}
    assert (status(vm)[1]["owner"], status(vm)[1]["certainty"]) == ("free", "proven")
    result = manactl(vm, "claim", "--json", "--raw-qp", name)
    assert (result.rc == 0) is names_every_port(vm), result.err
    if result.rc:
        document = json.loads(result.out)
        schema.strict(document)
        assert (result.rc, document["code"]) == (3, "kernel-bug"), result.err
        assert "modprobe -r mana_ib mana" in document["hint"]
        assert vm.run("ls /var/lib/manactl/claims/*", check=False).rc != 0
        vm.nic.clear_violations()  # the driver destroys what it never got: its own fault
        vm.run("modprobe -r mana_ib mana && modprobe mana && modprobe mana_ib")
        eventually(lambda: vm.run(["ls", f"/sys/class/net/{name}"], check=False).rc == 0)
        eventually(lambda: vm.run("ls /sys/class/infiniband").out)
        result = manactl(vm, "claim", "--json", "--raw-qp", name)
    assert result.rc == 0, result.err
    schema.strict(json.loads(result.out))
    assert manactl(vm, "release").rc == 0
