"""Claims of a netvsc pair: the synthetic netdev has the addresses, the port is its VF.

Both records are asked: the NIC's who has the vport, the VMBus's which path the guest asked for.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import networks
from tests.lab.furnished import Furnished
from tests.lab.notes import is_note, noted
from tests.lab.scene import manactl, names_every_port, owners, status
from tests.lab.site import pairs_on_newest
from tests.lab.test_crash import SLICES, TURNS, kill_at_some
from tests.lab.test_networks import Bench, judged
from tests.lab.test_vmbus import KEY, attached, more_cpus
from tests.lab.users import User, eventually, resident, user
from tests.lab.vm import Vm
from tests.lab.vmbus.host import Nic
from tests.unit.wording import wording

SOME_ACTS = 40  # one of so many is the one to die at
# s. hv_netvsc passes a carrier on every 2 s at most, and the kernel one to uppers every second.
STEADY = 2.5
SPARE = """
modprobe dummy numdummies=0
ip link add spare type dummy && ip link set spare up && ip addr add 198.51.100.1/24 dev spare
"""
FURNISHED = """
link add link {name} name v10 type vlan id 10
link set v10 up
address add 10.0.2.2/24 dev {name}
address add 10.0.2.3/24 dev {name} label {name}:x
address add 2001:db8:1::2/64 dev {name} nodad
address add 2001:db8:2::2/64 dev {name} noprefixroute nodad
address add 2001:db8:10::2/64 dev v10 nodad
address add 10.10.0.2/24 dev v10
route add 192.0.2.0/24 via 10.0.2.9 mtu 1400
route add 192.0.4.0/24 nexthop via 10.0.2.5 weight 3 nexthop via 10.0.2.6
route add 2001:db8:100::/40 via 2001:db8:1::1
route add 2001:db8:300::/40 via 2001:db8:10::1 dev v10 table 100
nexthop add id 10 via 10.0.2.20 dev {name}
route add 198.18.1.0/24 nhid 10
neighbour add 10.0.2.50 lladdr 02:00:00:00:00:50 dev {name} nud permanent
neighbour add proxy 2001:db8:1::60 dev {name}
"""


def nic_of(vm: Vm, port: int) -> Nic:
    return vm.vmbus.nic(str(vm.nic.state()["vports"][port - 1]["mac"]))


def takes(vm: Vm, port: int, wanted: str) -> None:
    """Wait until the guest has told the host to send this way."""
    eventually(lambda: nic_of(vm, port).path == wanted, what=f"path {wanted} of port {port}")


def flags(vm: Vm, name: str) -> bool:
    """IFF_UP."""
    return bool(int(vm.get(f"/sys/class/net/{name}/flags"), 16) & 1)


def shown(vm: Vm) -> list[list[str]]:
    """What `ip` shows, without times, once no address is tentative any more."""

    def read() -> list[list[str]]:
        found = []
        for what in ("-4 route show table all", "-6 route show table all", "addr", "nexthop",
                     "neigh show nud permanent", "neigh show proxy"):  # fmt: skip
            text = vm.run(f"ip -j {what}").out
            rows = json.loads(text or "[]")
            found.append(sorted(json.dumps(_timeless(row), sort_keys=True) for row in rows))
        return found

    def settled() -> bool:
        return not vm.run("ip -6 -o addr show tentative").out

    eventually(settled, what="addresses that are tentative")
    return read()


def _timeless(value: Any) -> Any:
    times = {"valid_life_time", "preferred_life_time", "expires", "flags", "operstate"}
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in times}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def run(vm: Vm, *words: str, rc: int = 0) -> Any:
    ran = manactl(vm, *words)
    assert ran.rc == rc, (words, ran.rc, ran.out, ran.err)
    return ran


@pytest.fixture
def furnished(pair: Vm) -> Iterator[Vm]:
    """Both twins up, the second with something of everything; the way out is another netdev."""
    vm = pair
    vm.run(SPARE)
    for port, twin in vm.twins.items():
        vm.run(f"echo 0 > /proc/sys/net/ipv6/conf/{twin}/accept_dad; ip link set {twin} up")
        takes(vm, port, "vf")
    vm.run("modprobe 8021q; ip addr add 10.0.1.2/24 dev " + vm.twins[1])
    vm.run(["ip", "-batch", "-"], input=FURNISHED.format(name=vm.twins[2]))
    yield vm
    manactl(vm, "release", "--all")
    vm.run("ip link del v10; ip link del spare; rmmod dummy", check=False)
    for twin in vm.twins.values():
        vm.run(f"echo 1 > /proc/sys/net/ipv6/conf/{twin}/accept_dad")


def test_down_takes_both_and_brings_both_back(furnished: Vm) -> None:
    vm, twin, vf = furnished, furnished.twins[2], furnished.netdevs[2]
    before = shown(vm)
    row = status(vm)[2]
    assert row["upper"]["netdev"] == twin
    assert row["upper"]["kind"] == "netvsc"
    assert row["upper"]["vmbus"] == nic_of(vm, 2).uuid
    assert row["upper"]["admin"] == "up"
    told = run(vm, "claim", "--raw-qp", twin, "--allow", "upper").out
    assert twin in told
    with wording:
        assert f"{twin} is claimed" in told
    assert owners(vm) == {1: "ethernet", 2: "free"}
    assert not flags(vm, twin)
    assert not flags(vm, vf)
    assert nic_of(vm, 2).path == "synthetic"
    row = status(vm)[2]
    assert row["claim"]["synthetic"] == "down"
    assert row["drift"] == []
    assert row["upper"]["admin"] == "down"
    run(vm, "release")
    assert owners(vm) == {1: "ethernet", 2: "ethernet"}
    assert nic_of(vm, 2).path == "vf"
    assert shown(vm) == before


def test_a_vlan_that_stays_down_leaves_nothing_promiscuous(furnished: Vm) -> None:
    """hv_netvsc cannot filter by address: it is promiscuous while an upper has one of its own."""
    vm, twin, vf = furnished, furnished.twins[2], furnished.netdevs[2]
    vm.run(
        f"modprobe macvlan; ip link add link {twin} name v11 type vlan id 11; ip link set v11 up\n"
        "ip link add link v11 name m12 type macvlan mode bridge; ip link set m12 up\n"
        f"ip link set v11 down; ip link set {twin} up"
    )
    assert [promiscuity(vm, name) for name in (twin, vf)] == [0, 0]
    vm.run(f"ip link set {twin} down; ip link set {twin} up")
    eventually(lambda: flags(vm, "v11"), what="the VLAN that opens with it")
    vm.run("ip link set v11 down")
    assert [promiscuity(vm, name) for name in (twin, vf)] == [1, 1]  # without manactl
    vm.run(f"ip link set {twin} up")
    run(vm, "claim", "--raw-qp", twin, "--allow", "upper")
    run(vm, "release")
    assert [promiscuity(vm, name) for name in (twin, vf)] == [0, 0]
    vm.run("ip link del v11")


@pytest.mark.soak
@pairs_on_newest()
def test_down_and_up_with_several_channels(furnished: Vm) -> None:
    """The synthetic netdev is closed and opened: its channels, and where frames come by them, stay."""
    vm, twin, mac = furnished, furnished.twins[2], nic_of(furnished, 2).mac
    with more_cpus(vm):
        vm.run(f"ip link set {twin} mtu 1400; ethtool -L {twin} combined 2", check=False)
        vm.run(f"ethtool -X {twin} weight 1 3; ethtool -X {twin} hkey {KEY.hex(':')}")
        had = attached(vm, mac, 2)
        assert (had.table, had.key) == ((0,) * 32 + (1,) * 96, KEY.hex())
        before = shown(vm)
        run(vm, "claim", "--raw-qp", twin, "--allow", "upper", "--synthetic=down")
        assert (flags(vm, twin), nic_of(vm, 2).path) == (False, "synthetic")
        run(vm, "release")
        takes(vm, 2, "vf")
        now = attached(vm, mac, 2)
        assert (now.table, now.key) == (had.table, had.key)
        assert shown(vm) == before
        vm.run(f"ip link set {twin} mtu 1500")


def test_keep_takes_the_vf_and_leaves_the_rest(furnished: Vm) -> None:
    vm, twin, vf = furnished, furnished.twins[2], furnished.netdevs[2]
    before = shown(vm)
    run(vm, "claim", "--raw-qp", vf, "--synthetic=keep")
    assert owners(vm) == {1: "ethernet", 2: "free"}
    assert flags(vm, twin)
    assert not flags(vm, vf)
    row = status(vm)[2]
    assert row["claim"]["synthetic"] == "keep"
    assert row["drift"] == []
    assert row["upper"]["data_path"] == "synthetic"
    assert shown(vm) == before
    run(vm, "release", twin)
    assert owners(vm) == {1: "ethernet", 2: "ethernet"}
    assert nic_of(vm, 2).path == "vf"
    assert shown(vm) == before


def test_guards_judge_what_is_on_the_synthetic_netdev(furnished: Vm) -> None:
    vm, twin, vf = furnished, furnished.twins[2], furnished.netdevs[2]
    vm.run(f"ip link set spare down; ip link set {vm.twins[1]} down")
    vm.run(["ip", "route", "add", "default", "via", "10.0.2.9", "dev", twin])
    for word in (twin, vf):
        refused = run(vm, "claim", "--raw-qp", word, rc=3)
        for code in ("last-port", "default-route", "upper"):
            assert f"{code}: " in refused.err, code
        assert f"claim {word}" in refused.err, "the name that was typed"
    assert flags(vm, twin)
    assert flags(vm, vf)
    run(vm, "claim", "--raw-qp", twin, "--synthetic=keep")
    run(vm, "release")
    vm.run(["ip", "route", "del", "default"])


@pairs_on_newest()
@pytest.mark.parametrize("how", ["set", "netns"])
def test_a_kept_netdev_that_somebody_takes_down_is_told(furnished: Vm, how: str) -> None:
    """With it what hv_netvsc sends by: the VF alone is up after the release."""
    vm, twin = furnished, furnished.twins[1]
    run(vm, "claim", "--raw-qp", twin, "--synthetic=keep")
    there = f"ip link set {twin} netns far; ip -n far link set {twin} netns 1"
    vm.run(f"ip netns add far; {there}" if how == "netns" else f"ip link set {twin} down")
    try:
        (drift,) = status(vm)[1]["drift"]
        assert is_note(drift, "drift-synthetic-down", twin)
        (port,) = json.loads(run(vm, "release", twin, "--json").out)["ports"]
        (lost,) = port["lost"]
        assert (lost["cause"], twin in lost["text"]) == ("not-kept", True)
        assert not flags(vm, twin)
    finally:
        vm.run("ip netns del far", check=False)
        vm.run(f"ip link set {twin} up; ip addr replace 10.0.1.2/24 dev {twin}")
    takes(vm, 1, "vf")


@pairs_on_newest()
@pytest.mark.parametrize("mode", ["down", "keep"])
def test_a_lower_mtu_is_left_and_told(furnished: Vm, mode: str) -> None:
    """hv_netvsc sets it for the VF, too, and the kernel takes no larger one for IPv6 then."""
    vm, twin, vf = furnished, furnished.twins[2], furnished.netdevs[2]
    run(vm, "claim", "--raw-qp", twin, "--allow", "upper", "--synthetic", mode)
    vm.run(f"ip link set {twin} mtu 1400")
    try:
        (port,) = json.loads(run(vm, "release", twin, "--json").out)["ports"]
        assert {one["cause"] for one in port["lost"]} == {"changed"}
        assert any(f"net/ipv6/conf/{vf}/mtu" in one["text"] for one in port["lost"])
        takes(vm, 2, "vf")
    finally:
        vm.run(f"ip link set {twin} mtu 1500")


@pairs_on_newest()
def test_what_a_move_takes_of_a_netdev_that_is_down_is_told(furnished: Vm) -> None:
    """In another network namespace and back it has the sysctls of a new one, and no altname if
    somebody has taken that."""
    vm, twin = furnished, furnished.twins[1]
    vm.run(f"echo 2 > /proc/sys/net/ipv4/conf/{twin}/rp_filter")
    vm.run(f"ip link property add dev {twin} altname wan7; ip netns add far")
    run(vm, "claim", "--raw-qp", twin)
    try:
        vm.run(f"ip link set {twin} netns far; ip -n far link set {twin} netns 1")
        vm.run(f"ip link property del dev {twin} altname wan7")
        (port,) = json.loads(run(vm, "release", twin, "--json").out)["ports"]
        assert {one["cause"] for one in port["lost"]} == {"changed"}
        for word in ("rp_filter", "wan7"):
            assert any(f"{twin}: " in one["text"] and word in one["text"] for one in port["lost"])
        takes(vm, 1, "vf")
    finally:
        manactl(vm, "release", "--all")
        vm.run(f"ip netns del far; echo 0 > /proc/sys/net/ipv4/conf/{twin}/rp_filter", check=False)


def test_a_raw_qp_has_the_vport_of_a_claimed_pair(furnished: Vm) -> None:
    vm, twin = furnished, furnished.twins[2]
    before = shown(vm)
    run(vm, "claim", "--raw-qp", twin, "--allow", "upper")
    with user(vm, "rawqp") as holder:
        pid = holder.wait_for("ready")["pid"]
        holder.ask("create 2", "created")
        assert owners(vm)[2] == "raw-qp"
        if names_every_port(vm):
            row = status(vm)[2]
            assert row["owner"] == "raw-qp"
            assert [one["pid"] for one in row["holders"]] == [pid]
        run(vm, "release", twin, rc=6)
        assert not flags(vm, twin), "release waits for the holder before it sets anything up"
        holder.say("quit")
        eventually(lambda: owners(vm)[2] == "free", what="the vport")
    run(vm, "release", twin)
    assert shown(vm) == before
    assert owners(vm)[2] == "ethernet"


@pairs_on_newest()
def test_testpmd_on_a_claimed_pair(furnished: Vm) -> None:
    """The mana PMD alone, to which the host delivers nothing; test_uio.py has DPDK's netvsc."""
    vm, twin = furnished, furnished.twins[2]
    before, row = shown(vm), status(vm)[2]
    run(vm, "claim", "--raw-qp", twin, "--allow", "upper")
    with user(vm, "testpmd", row["pci"], row["permanent_mac"]) as testpmd:
        testpmd.wait_for("ready", 180)
        assert owners(vm) == {1: "ethernet", 2: "raw-qp"}
        assert nic_of(vm, 2).path == "synthetic"
        testpmd.ask("quit", "ended")
    run(vm, "release", "--wait", "30")
    assert shown(vm) == before
    assert nic_of(vm, 2).path == "vf"


def test_two_pairs_are_one_claim_and_come_back_one_by_one(furnished: Vm) -> None:
    vm = furnished
    before, (one, two) = shown(vm), furnished.twins.values()
    run(vm, "claim", "--raw-qp", one, "--raw-qp", furnished.netdevs[2], "--allow", "upper")
    assert owners(vm) == {1: "free", 2: "free"}
    assert not flags(vm, one)
    assert not flags(vm, two)
    run(vm, "release", one)
    assert owners(vm) == {1: "ethernet", 2: "free"}
    assert not flags(vm, two)
    run(vm, "release", "--all")
    assert owners(vm) == {1: "ethernet", 2: "ethernet"}
    assert shown(vm) == before


def test_a_stranger_sets_them_up_and_that_is_drift(furnished: Vm) -> None:
    vm, twin, vf = furnished, furnished.twins[2], furnished.netdevs[2]
    before = shown(vm)
    run(vm, "claim", "--raw-qp", twin, "--allow", "upper")
    vm.run(["ip", "link", "set", vf, "up"])
    assert noted(status(vm)[2]["drift"], "drift-up")
    vm.run(["ip", "link", "set", twin, "up"])
    told = status(vm)[2]["drift"]
    assert noted(told, "drift-synthetic-up", twin)
    assert noted(told, "drift-vf-up", twin)
    run(vm, "claim", "--raw-qp", twin, rc=6)
    run(vm, "release")
    assert shown(vm) == before


def serviced(vm: Vm) -> None:
    """The host takes the VFs and gives them back: the netdevs are other ones."""
    pci, drivers = vm.pci, "/sys/bus/pci/drivers/mana"
    vm.run(f"echo {pci} > {drivers}/unbind; echo {pci} > {drivers}/bind")
    eventually(lambda: vm.netdevs.keys() == {1, 2}, what="the VFs")
    eventually(lambda: vm.run(f"ls /sys/bus/pci/devices/{pci}/infiniband", check=False).out,
               60, "the RDMA devices")  # fmt: skip


@pytest.mark.parametrize("mode", ["down", "keep"])
def test_host_servicing_while_claimed(furnished: Vm, mode: str) -> None:
    vm, twin = furnished, furnished.twins[2]
    before = shown(vm)
    run(vm, "claim", "--raw-qp", twin, "--synthetic", mode, "--allow", "upper")
    serviced(vm)
    takes(vm, 1, "vf")
    if mode == "keep":
        takes(vm, 2, "vf")
        assert noted(status(vm)[2]["drift"], "drift-vf-up", twin)
    else:
        assert owners(vm)[2] == "free", "a VF that comes back below a twin that is down stays down"
        drift = status(vm)[2]["drift"]
        with wording:
            assert not any("is up" in line for line in drift)
    run(vm, "release")
    takes(vm, 2, "vf")
    assert owners(vm) == {1: "ethernet", 2: "ethernet"}
    assert differing(shown(vm), before) == []


def differing(now: list[list[str]], before: list[list[str]]) -> list[str]:
    """What differs but for the netdevs that were re-created: VFs have no addresses to lose."""
    return [
        line
        for one, other in zip(now, before, strict=True)
        for line in set(one) ^ set(other)
        if '"master"' not in line and '"dev": "enp' not in line
    ]


def test_without_a_claim_the_slow_path_comes_without_a_word(furnished: Vm) -> None:
    """`ip link set` of the synthetic netdev succeeds while a raw QP has its VF, and does nothing
    when that has ended: status says so, explain why; a claim and its release end on the VF."""
    vm, twin, vf = furnished, furnished.twins[2], furnished.netdevs[2]
    vm.run(f"ip link set {twin} down")
    mark = vm.dmesg_mark()
    with user(vm, "rawqp") as raw:
        raw.wait_for("ready")
        raw.ask("create 2", "created")
        vm.run(f"ip link set {twin} up")
        line = vm.wait_kmsg("unable to open slave", since=mark)
        assert noted(status(vm)[2]["notes"], "slow-path", twin)
        raw.ask("quit", "leaving")
    topics = json.loads(run(vm, "explain", "--json", line.text).out)["topics"]
    assert "netvsc-vf-not-opened" in {topic["name"] for topic in topics}
    eventually(lambda: owners(vm)[2] == "free", what="the vport")
    vm.run(f"ip link set {twin} up")
    assert (flags(vm, twin), flags(vm, vf), nic_of(vm, 2).path) == (True, False, "synthetic")
    row = status(vm)[2]
    assert noted(row["notes"], "slow-path", twin)
    assert row["upper"]["data_path"] == "synthetic"
    vm.run(f"ip link set {vf} up")
    takes(vm, 2, "vf")
    run(vm, "claim", "--raw-qp", twin, "--allow", "upper")
    with user(vm, "rawqp") as raw:
        raw.wait_for("ready")
        raw.ask("create 2", "created")
        raw.ask("quit", "leaving")
    eventually(lambda: owners(vm)[2] == "free", what="the vport")
    run(vm, "release")
    takes(vm, 2, "vf")
    row = status(vm)[2]
    assert row["upper"]["data_path"] != "synthetic"
    with wording:
        assert not noted(row["notes"], "slow-path", twin)


def test_a_vf_that_is_not_joined_is_no_plain_port(pair: Vm) -> None:
    """As at boot, before hv_netvsc has probed its device."""
    vm, vf, uuid = pair, pair.netdevs[1], nic_of(pair, 1).uuid
    bind = "/sys/bus/vmbus/drivers/hv_netvsc"
    vm.run(f"ip link set {vf} up; echo {uuid} > {bind}/unbind")
    assert noted(status(vm)[1]["notes"], "unjoined", f"VMBus device {uuid}")
    ran = run(vm, "claim", "--raw-qp", vf, rc=6)
    assert uuid in ran.err
    with wording:
        assert f"the VF of VMBus device {uuid}" in ran.err
    vm.run(f"echo {uuid} > {bind}/bind")
    eventually(lambda: vm.twins.keys() == {1, 2}, what="the twins")
    assert status(vm)[1]["upper"]["netdev"] == vm.twins[1]


def test_a_pair_in_another_namespace_is_refused_here(furnished: Vm) -> None:
    vm, twin = furnished, furnished.twins[1]
    port = status(vm)[1]
    name = f"{port['pci']}:{port['port']}"
    vm.run(f"ip netns add far; ip link set {twin} netns far")
    try:
        ran = run(vm, "claim", "--raw-qp", name, rc=3)
        assert "foreign-netns" in ran.err
        words = ("claim", "--raw-qp", twin, "--synthetic=uio", "--dry-run")
        ran = manactl(vm, *words, prefix=("ip", "netns", "exec", "far"))
        assert (ran.rc, "foreign-netns: " in ran.err) == (3, True), "hv_netvsc makes it elsewhere"
    finally:
        vm.run(f"ip -n far link set {twin} netns 1; ip netns del far")


def test_a_mute_host_stops_a_claim_and_recover_puts_it_back(furnished: Vm) -> None:
    """status answers meanwhile; kill -9 takes effect when the host speaks again."""
    vm, twin = furnished, furnished.twins[2]
    before, mac = shown(vm), str(vm.nic.state()["vports"][1]["mac"])
    vm.vmbus.set(mac, muted=True)
    argv = ["env", "PYTHONPATH=/manactl/src", "python3", "-m", "manactl",
            "claim", "--raw-qp", twin, "--allow", "upper"]  # fmt: skip
    claiming = vm.spawn(argv)
    try:
        eventually(lambda: _stat(vm, claiming.pid) == b"D", 60, what="a claim that hangs")
        rows = json.loads(run(vm, "status", "--json").out)["ports"]
        assert [row["upper"]["netdev"] for row in rows] == list(vm.twins.values())
        assert manactl(vm, "doctor", "--json").rc in {0, 3}
        assert vm.twins[1] in completed(vm), "the other may be claimed by now"
        vm.run(["kill", "-9", str(claiming.pid)])
    finally:
        vm.vmbus.set(mac, muted=False)
    claiming.wait()
    run(vm, "recover")
    assert shown(vm) == before
    takes(vm, 2, "vf")


@pytest.mark.soak
@pytest.mark.parametrize("mode", ["down", "keep", "uio"])
def test_a_mute_host_stops_a_release_and_recover_ends_it(furnished: Vm, mode: str) -> None:
    vm, twin, mac = furnished, furnished.twins[2], nic_of(furnished, 2).mac
    before = shown(vm)
    run(vm, "claim", "--raw-qp", twin, "--allow", "upper", "--synthetic", mode)
    vm.vmbus.set(mac, muted=True)
    argv = ["env", "PYTHONPATH=/manactl/src", "python3", "-m", "manactl", "release", twin]
    releasing = vm.spawn(argv)
    try:
        eventually(lambda: _stat(vm, releasing.pid) == b"D", 60, what="a release that hangs")
        assert status(vm)[2]["claim"]["synthetic"] == mode
        vm.run(["kill", "-9", str(releasing.pid)])
    finally:
        vm.vmbus.set(mac, muted=False)
    releasing.wait()
    run(vm, "recover")
    takes(vm, 2, "vf")
    assert owners(vm) == {1: "ethernet", 2: "ethernet"}
    if mode != "uio":  # test_uio.py compares what has other numbers
        assert shown(vm) == before


def completed(vm: Vm) -> str:
    """What bash is offered for `manactl claim --raw-qp `."""
    words = ["PYTHONPATH=/manactl/src", "_MANACTL_COMPLETE=bash_complete", "COMP_CWORD=3"]
    argv = ["env", *words, "COMP_WORDS=manactl claim --raw-qp ", "python3", "-m", "manactl"]
    return str(vm.run(argv, check=False).out)


def _stat(vm: Vm, pid: int) -> bytes:
    return vm.get(f"/proc/{pid}/stat").split()[2]


# --- kill -9 ----------------------------------------------------------------------------------


def promiscuity(vm: Vm, name: str) -> int:
    """How many want it to receive everything (IFLA_PROMISCUITY)."""
    (link,) = json.loads(vm.run(f"ip -d -j link show {name}").out)
    return int(link["promiscuity"])


class Pair(Furnished):
    """A furnished twin, and manactl at hand."""

    def __init__(self, vm: Vm, program: User, mode: str) -> None:
        super().__init__(vm, program)
        self.name = vm.twins[2]
        self.claim = f"claim --raw-qp {self.name} --allow upper --synthetic {mode}"


@pairs_on_newest()
@pytest.mark.parametrize("mode", ["down", "keep"])
def test_killed_at_some_acts_it_is_put_back(furnished: Vm, seed: int, mode: str) -> None:
    kill_at_some(Pair(furnished, resident(furnished, "crash"), mode), SOME_ACTS, seed)
    takes(furnished, 2, "vf")


@pytest.mark.soak
@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("mode", ["down", "keep"])
def test_killed_at_every_act_it_is_put_back(furnished: Vm, mode: str, turn: int) -> None:
    one = Pair(furnished, resident(furnished, "crash"), mode)
    assert kill_at_some(one, SLICES, turn) > 20
    takes(furnished, 2, "vf")


# --- random networks --------------------------------------------------------------------------


class PairBench(Bench):
    """A guest whose pairs are offered again, and whose driver is bound again, for each network."""

    def fresh(self) -> list[str]:
        vm = self.vm
        macs = [nic.mac for nic in vm.vmbus.nics()]
        for mac in macs:
            vm.vmbus.rescind(mac)
        for mac in sorted(macs):
            vm.vmbus.offer(mac)
        super().fresh()
        eventually(lambda: vm.twins.keys() == {1, 2}, what="the twins")
        return list(vm.twins.values())


@pytest.mark.parametrize("count", [4, pytest.param(100, marks=pytest.mark.soak)])
@pytest.mark.parametrize("mode", ["down", "keep"])
def test_random_networks_on_pairs_are_as_they_were(
    pair: Vm, seed: int, mode: str, count: int
) -> None:
    vm = pair
    vm.run("modprobe -a dummy 8021q macvlan")
    bench = PairBench(vm, steady=STEADY)
    bench.sh(None, SPARE)
    for number in range(count):
        _try(bench, f"{seed} {number}", mode)
    bench.fresh()
    vm.run("ip link del spare; rmmod dummy")


def _try(bench: PairBench, seed: str, mode: str) -> None:
    vm, rng = bench.vm, random.Random(f"{seed} pairs")
    names = bench.fresh()
    script = networks.Generator(seed, names, default_routes=False).draw().script()
    chosen = rng.choice(([1], [2], [1, 2]))
    print(f"network {seed}, {mode}, ports {chosen} claimed\n{script}")
    bench.sh(None, script)
    before, owned = bench.settled(None), owners(vm)
    ports = " ".join(f"--raw-qp {names[number - 1]}" for number in chosen)
    bench.manactl(None, f"claim {ports} --allow upper --synthetic {mode}")
    assert owners(vm) == {**owned, **dict.fromkeys(chosen, "free")}
    bench.manactl(None, "release")
    assert owners(vm) == owned
    found = judged(before, bench.settled(None))
    assert not found, "\n".join(found)
