"""Claims with --synthetic=uio: the synthetic netdev is destroyed, and comes back whole.

Both records are asked, as in test_pairs.py: the NIC's and the VMBus's.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import networks
from tests.lab.agent import Process
from tests.lab.build import KERNELS
from tests.lab.furnished import Furnished, Shown
from tests.lab.notes import ANY, is_note
from tests.lab.scene import manactl, owners, status
from tests.lab.site import pairs_on_newest
from tests.lab.test_crash import SLICES, TURNS, kill_at_some
from tests.lab.test_pairs import (
    FURNISHED,
    SPARE,
    STEADY,
    PairBench,
    nic_of,
    promiscuity,
    run,
    serviced,
    takes,
)
from tests.lab.test_powercut import Disk, check_recovery, check_whole, records, whole_run
from tests.lab.test_vmbus import KEY, attached, by_channel, more_cpus, peer, ping
from tests.lab.users import User, eventually, resident, user
from tests.lab.vm import Vm
from tests.unit.wording import wording

CUTS = 4  # of a whole run
# Writes to the bus, and the record that has to be on the disk before.
ANNOUNCED = {
    "/hv_netvsc/unbind": ("doing", "bind-uio"),
    "/uio_hv_generic/bind": ("doing", "bind-uio"),
    "/uio_hv_generic/unbind": ("undoing", "bind-uio"),
    "/hv_netvsc/bind": ("undoing", "bind-uio"),
}
SOME_ACTS = 36  # one of so many is the one to die at
UIO = "uio_hv_generic"
SETTINGS = """
ip link set {twin} mtu 1400 alias 'to the lab' txqueuelen 555
ip link property add dev {twin} altname wan7
ip link add link v10 name m1 type macvlan mode private; ip link set m1 up
tc qdisc replace dev {twin} root handle 7: htb default 20
tc class add dev {twin} parent 7: classid 7:1 htb rate 100mbit
tc class add dev {twin} parent 7:1 classid 7:20 htb rate 10mbit ceil 50mbit
echo 2 > /proc/sys/net/ipv4/conf/{twin}/rp_filter
ethtool -L {twin} combined 2; ethtool -G {twin} rx 1000 tx 50
ethtool -X {twin} weight 1 3; ethtool -X {twin} hkey {key}
ethtool -K {twin} rx-gro off rx-gro-list on; ethtool -s {twin} msglvl 7
echo 5 > /sys/class/net/{twin}/napi_defer_hard_irqs
echo 20000 > /sys/class/net/{twin}/gro_flush_timeout; echo 1 > /sys/class/net/{twin}/threaded
echo 1 > /sys/class/net/{twin}/queues/rx-0/rps_cpus
echo 1 > /sys/class/net/{twin}/queues/tx-0/xps_cpus
modprobe -a vxlan ip_gre ipip
ip link add vx0 type vxlan id 42 dev {twin} dstport 4789
bridge fdb append 00:00:00:00:00:00 dev vx0 dst 10.0.2.9
bridge fdb append 00:00:00:00:00:00 dev vx0 dst 10.0.2.10
ip link add t1 type gretap local 10.0.2.2 remote 10.0.2.9 ttl 9 key 7 dev v10
ip link add t2 type ipip local 10.0.2.2 remote 10.0.2.9 dev {twin}; ip link set t2 mtu 1333 up
tc qdisc add dev {twin} ingress_block 5 clsact
tc filter add block 5 pref 7 protocol ip flower dst_ip 10.9.0.0/16 skip_hw action drop
"""
MORE = """
bridge fdb show dev vx0 | sort; for one in t1 t2; do ip -d link show $one | sed 's/^[0-9]*://'; done
ethtool {twin} | grep -A1 level; cd /sys/class/net/{twin}
grep . threaded gro_flush_timeout napi_defer_hard_irqs queues/rx-0/rps_cpus queues/tx-0/xps_cpus
tc qdisc show dev {twin} clsact; tc filter show block 5 | sed 's/ index .*//'
"""
RESET = """
ip link set {twin} mtu 1500 alias '' txqueuelen 1000; tc qdisc del dev {twin} root
ip link property del dev {twin} altname wan7; ip link del m1
ip link del vx0; ip link del t1; ip link del t2; tc qdisc del dev {twin} clsact
modprobe -r vxlan ip_gre ipip
echo 0 > /proc/sys/net/ipv4/conf/{twin}/rp_filter; ethtool -s {twin} msglvl 247
cd /sys/class/net/{twin}; echo 0 > threaded; echo 0 > gro_flush_timeout
echo 0 > napi_defer_hard_irqs; echo 0 > queues/rx-0/rps_cpus; echo 0 > queues/tx-0/xps_cpus
"""


def view(vm: Vm) -> dict[str, list[str]]:
    read = networks.reading()
    found = networks.settle(lambda: vm.run(["sh", "-s"], input=read).out, steady=STEADY)
    return networks.numberless(found)


def same(vm: Vm, before: dict[str, list[str]]) -> None:
    found = networks.differences(before, view(vm))
    assert found == [], "\n".join(found)


@pytest.fixture
def furnished(pair: Vm) -> Iterator[Vm]:
    """As in test_pairs.py."""
    vm = pair
    vm.run(SPARE)
    for port, twin in vm.twins.items():
        vm.run(f"echo 0 > /proc/sys/net/ipv6/conf/{twin}/accept_dad; ip link set {twin} up")
        takes(vm, port, "vf")
    vm.run("modprobe -a 8021q macvlan; ip addr add 10.0.1.2/24 dev " + vm.twins[1])
    vm.run(["ip", "-batch", "-"], input=FURNISHED.format(name=vm.twins[2]))
    yield vm
    manactl(vm, "release", "--all")
    vm.run("ip link del v10; ip link del spare; rmmod dummy", check=False)
    for twin in vm.twins.values():
        vm.run(f"echo 1 > /proc/sys/net/ipv6/conf/{twin}/accept_dad")


def claim(vm: Vm, *more: str) -> Any:
    return run(vm, "claim", "--raw-qp", vm.twins[2], "--synthetic=uio", "--allow", "upper", *more)


def test_everything_comes_back(furnished: Vm) -> None:
    """On the newest kernel with several channels, which take more CPUs, and seconds of them."""
    several = furnished.prefix == KERNELS[-1]
    with more_cpus(furnished) if several else contextlib.nullcontext():
        check_everything(furnished, channels=2 if several else 1)


def check_everything(vm: Vm, channels: int) -> None:
    twin, vf = vm.twins[2], vm.netdevs[2]
    vm.run(["sh", "-s"], input=SETTINGS.format(twin=twin, key=KEY.hex(":")), check=False)
    ethtool = f"ethtool -k {twin} | sort; tc class show dev {twin}"
    ethtool += "".join(f"; ethtool -{show} {twin}" for show in "lxg") + MORE.format(twin=twin)
    had = attached(vm, nic_of(vm, 2).mac, channels)
    assert had.table == ((0,) * 32 + (1,) * 96 if channels > 1 else (0,) * 128)
    assert had.key == KEY.hex()
    before, shown = view(vm), vm.run(ethtool, check=False).out
    assert {"generic-receive-offload: off", "rx-gro-list: on"} <= set(shown.splitlines())
    assert "dst 10.0.2.10 self" in shown
    assert f"dev {twin}" in shown
    assert "ingress_block 5" in shown
    assert "gro_flush_timeout:20000" in shown
    assert "dst_ip 10.9.0.0/16" in shown
    uuid = nic_of(vm, 2).uuid
    plan = json.loads(claim(vm, "--dry-run", "--json").out)
    assert "bind-uio" in {step["kind"] for step in plan["steps"]}
    with wording:
        assert any("is destroyed" in note for note in plan["notes"])
    assert nic_of(vm, 2).driver == "hv_netvsc"
    claim(vm)
    assert (nic_of(vm, 2).driver, nic_of(vm, 1).driver) == (UIO, "hv_netvsc")
    assert owners(vm) == {1: "ethernet", 2: "free"}
    assert vm.run(f"test -e /sys/class/net/{twin}", check=False).rc != 0
    row = status(vm)[2]
    assert (row["upper"]["netdev"], row["upper"]["vmbus"]) == (twin, uuid)
    assert row["claim"]["synthetic"] == "uio"
    assert (row["drift"], row["upper"]["altnames"]) == ([], ["wan7"])
    assert json.loads(run(vm, "status", "--json", "wan7").out)["ports"] == [row]
    # As udev does to a VF that comes anew, with a name that is free.
    vm.run(["ip", "link", "property", "add", "dev", vf, "altname", "wan7"])
    with user(vm, "rawqp") as holder:
        holder.wait_for("ready")
        holder.ask("create 2", "created")
        assert owners(vm)[2] == "raw-qp"
        run(vm, "release", twin, rc=6)
        holder.say("quit")
        eventually(lambda: owners(vm)[2] == "free", what="the vport")
    told = json.loads(run(vm, "release", twin, "--json").out)["ports"][0]
    lost, marked = told["lost"]  # the second since m1 has an address of its own
    assert (lost["cause"], twin in lost["text"]) == ("not-kept", True)
    assert (marked["cause"], vf in marked["text"]) == ("not-kept", True)
    with wording:
        assert lost["text"].split(" (")[0] == f"{twin} was re-created"
    assert owners(vm) == {1: "ethernet", 2: "ethernet"}
    assert nic_of(vm, 2).path == "vf"
    same(vm, before)
    assert vm.run(ethtool, check=False).out == shown
    now = attached(vm, nic_of(vm, 2).mac, channels)
    assert (now.table, now.key) == (had.table, had.key)
    if channels > 1:
        frames_come(vm)
    assert vm.twins[2] == twin
    assert vm.run(f"cat /sys/class/net/{vf}/master/ifindex", check=False).rc == 0
    vm.run(["sh", "-s"], input=RESET.format(twin=twin), check=False)


def frames_come(vm: Vm) -> None:
    """From the first pair to the second, by the path of the host, and there by the right channels."""
    vm.run(f"ip link set {vm.netdevs[2]} down")
    takes(vm, 2, "synthetic")
    before = nic_of(vm, 2)
    source, to = "10.0.1.2", [f"10.0.1.{number}" for number in range(128, 160)]
    came = [by_channel(before, source, address) for address in to]
    assert 0 < sum(came) < len(to)
    lines = [f"neigh replace {a} lladdr {before.mac} dev {vm.twins[1]} nud permanent" for a in to]
    vm.run(["ip", "-batch", "-"], input="\n".join(lines))
    vm.run(["bash", "-c", "for n in {128..159}; do echo > /dev/udp/10.0.1.$n/9; done"])

    def all_came() -> bool:
        now = nic_of(vm, 2)
        counts = [now.received_by[n] - before.received_by[n] for n in range(2)]
        return all(map(int.__ge__, counts, [came.count(0), came.count(1)]))

    eventually(all_came, what="the frames")
    vm.run(f"ip neigh flush dev {vm.twins[1]} nud permanent; ip link set {vm.netdevs[2]} up")
    takes(vm, 2, "vf")


@pairs_on_newest()
def test_a_vf_that_goes_on_receiving_everything_is_told(furnished: Vm) -> None:
    """hv_netvsc takes nothing back from its VF when it goes (kernel: 6.12 to 7.3)."""
    vm, twin, vf = furnished, furnished.twins[1], furnished.netdevs[1]
    vm.run(f"ip link set {twin} promisc on")
    before = promiscuity(vm, vf)
    run(vm, "claim", "--raw-qp", twin, "--synthetic=uio")
    told = json.loads(run(vm, "release", twin, "--json").out)["ports"][0]["lost"]
    assert [promiscuity(vm, name) - before for name in (twin, vf)] == [1 - before, 1]
    assert (len(told), vf in told[1]["text"]) == (2, True)
    vm.run(f"ip link set {twin} promisc off")
    pci = status(vm)[1]["pci"]
    vm.run(f"cd /sys/bus/pci/drivers/mana; echo {pci} > unbind; echo {pci} > bind")
    takes(vm, 1, "vf")
    assert promiscuity(vm, vm.netdevs[1]) == 0


@pytest.mark.soak
def test_a_table_that_nobody_has_set_stays_so(furnished: Vm) -> None:
    """hv_netvsc fills one in by itself, but zeros once a table was set."""
    vm, twin, mac = furnished, furnished.twins[2], nic_of(furnished, 2).mac
    with more_cpus(vm):
        vm.run(f"ip link set {twin} mtu 1400; ethtool -L {twin} combined 2")
        vm.run(f"ethtool -X {twin} hkey {KEY.hex(':')}")
        assert attached(vm, mac, 2).table == (0, 1) * 64
        claim(vm)
        run(vm, "release")
        assert attached(vm, mac, 2).table == (0, 1) * 64
        vm.run(f"ip link set {twin} mtu 1500")
        now = attached(vm, mac, 2)
        assert (now.table, now.key) == ((0, 1) * 64, KEY.hex())
        vm.run(f"ethtool -X {twin} weight 1 3; ip link set {twin} mtu 1400")
        assert attached(vm, mac, 2).table == (0,) * 128, "as vmbus/README.md says"
        vm.run(f"ip link set {twin} mtu 1500")


def test_nothing_else_goes_to_uio_and_its_id_is_removed(furnished: Vm) -> None:
    """The class was written to new_id: a device without a driver would be taken, too. One that
    driverctl keeps for hv_netvsc goes and comes back all the same."""
    vm, twin, first = furnished, furnished.twins[2], nic_of(furnished, 1).uuid
    bus = "/sys/bus/vmbus/drivers"
    override = f"/sys/bus/vmbus/devices/{nic_of(vm, 2).uuid}/driver_override"
    vm.run(f"echo {first} > {bus}/hv_netvsc/unbind; echo hv_netvsc > {override}")
    claim(vm)
    assert (nic_of(vm, 2).driver, nic_of(vm, 1).driver) == (UIO, None)
    assert vm.get(override) == b"hv_netvsc\n"
    run(vm, "claim", "--raw-qp", twin, "--synthetic=uio")  # already
    assert run(vm, "recover").err == "", "it is as its claim left it"
    vm.run(f"echo {UIO} > {override}")
    run(vm, "release")
    assert vm.get(override) == b"hv_netvsc\n", "as it was before"
    vm.run(f"echo > {override}")
    assert vm.run(f"echo {first} > {bus}/{UIO}/bind", check=False).rc != 0, "the id is still there"
    vm.run(f"echo {first} > {bus}/hv_netvsc/bind")
    eventually(lambda: vm.twins.keys() == {1, 2}, what="the twins")


def test_in_another_namespace_it_is_refused(furnished: Vm) -> None:
    """The new netdev would be in the first one, and the VF here."""
    vm, twin, vf = furnished, furnished.twins[1], furnished.netdevs[1]
    uuid, bus = nic_of(vm, 1).uuid, "/sys/bus/vmbus"
    words = f"claim --raw-qp {twin} --allow upper --synthetic"
    there = f"ip netns exec far env PYTHONPATH=/manactl/src python3 -m manactl {words}"
    vm.run(f"ip netns add far; ip link set {twin} netns far")
    try:
        inside = "from manactl.look import netns; print(netns.own(), netns.own().is_initial)"
        for where in ("", "ip netns exec far "):
            print(vm.run(f"{where}env PYTHONPATH=/manactl/src python3 -c '{inside}'").out)
        ran = vm.run(f"{there} uio --dry-run --json", check=False)
        assert (ran.rc, json.loads(ran.out)["code"]) == (3, "foreign-netns"), str(ran)
        assert vm.run(f"{there} down --dry-run --json").rc == 0
        assert nic_of(vm, 1).driver == "hv_netvsc"
        drivers = f"{bus}/drivers/hv_netvsc"
        vm.run(f"echo {uuid} > {drivers}/unbind; echo {uuid} > {drivers}/bind")
        assert vm.run(f"ls {bus}/devices/{uuid}/net").out.strip(), "in the first one"
        assert "master" not in vm.run(f"ip -n far link show dev {vf}").out
    finally:
        vm.run("ip netns del far")


@pairs_on_newest()
def test_dpdk_s_netvsc_receives_on_a_pair_that_was_claimed_for_it(pair: Vm) -> None:
    """By the VF and, what comes first or is broadcast, by the host's path: F2 and F3 of manactl(7)."""
    vm, twin, mac = pair, pair.twins[1], nic_of(pair, 1).mac
    with peer(vm):
        takes(vm, 2, "vf")
        run(vm, "claim", "--raw-qp", twin, "--synthetic=uio")
        row = status(vm)[1]
        with user(vm, "testpmd", row["pci"], mac, "icmpecho", row["upper"]["vmbus"]) as testpmd:
            testpmd.wait_for("ready", 150)
            testpmd.ask("start", "started")
            assert (owners(vm)[1], nic_of(vm, 1).path) == ("raw-qp", "vf")
            before = vm.nic.station(mac)
            ping(vm, netns="far", to="10.0.9.1")
            after = vm.nic.station(mac)
            assert after["to_vf"] >= before["to_vf"] + 3
            assert after["to_synthetic"] > before["to_synthetic"], "ARP"
            run(vm, "release", twin, rc=6)
            testpmd.ask("quit", "ended")
        run(vm, "release", "--wait", "30")
    assert (nic_of(vm, 1).driver, vm.twins[1]) == ("hv_netvsc", twin)
    assert owners(vm)[1] == "free"


def opened(vm: Vm) -> Process:
    """A program that has the uio device open."""
    holder = vm.spawn(["sh", "-c", "exec 3<>/dev/uio0; exec sleep 1000"])
    eventually(
        lambda: "/dev/uio0" in vm.run(f"ls -l /proc/{holder.pid}/fd", check=False).out,
        what="the open",
    )
    return holder


def test_who_has_the_uio_device_open_is_waited_for(furnished: Vm) -> None:
    vm, before = furnished, view(furnished)
    claim(vm)
    holder = opened(vm)
    ran = run(vm, "release", rc=6)
    assert str(holder.pid) in ran.err
    unseen = (
        "unshare --pid --fork --mount-proc env PYTHONPATH=/manactl/src python3 -m manactl release"
    )
    assert vm.run(unseen, check=False).rc == 6, "from another pid namespace"
    assert nic_of(vm, 2).driver == UIO
    vm.run(["kill", "-9", str(holder.pid)])
    holder.wait()
    run(vm, "release")
    same(vm, before)
    takes(vm, 2, "vf")


def test_the_host_takes_the_device_back_meanwhile(furnished: Vm) -> None:
    """While a program has it open, as DPDK does: its descriptor is of no device any more."""
    vm, before, mac = furnished, view(furnished), nic_of(furnished, 2).mac
    twin = vm.twins[2]
    claim(vm)
    holder = opened(vm)
    vm.vmbus.rescind(mac)
    (drift,) = status(vm)[2]["drift"]
    assert is_note(drift, "drift-not-uio", twin, ANY)
    run(vm, "release", rc=5)
    vm.run(["kill", "-9", str(holder.pid)])
    holder.wait()
    vm.vmbus.offer(mac)
    eventually(lambda: vm.run("ls /sys/bus/vmbus/devices").out.count("-") > 4, what="the offer")
    run(vm, "recover")
    same(vm, before)
    takes(vm, 2, "vf")


@pairs_on_newest()
def test_the_host_takes_the_device_of_a_pair_that_is_down_back_meanwhile(furnished: Vm) -> None:
    """It destroys the synthetic netdev, as uio does; one that is offered again is another one."""
    vm, twin, before, mac = furnished, furnished.twins[2], view(furnished), nic_of(furnished, 2).mac
    run(vm, "claim", "--raw-qp", twin, "--allow", "upper")
    vm.vmbus.rescind(mac)
    (drift,) = status(vm)[2]["drift"]
    assert is_note(drift, "drift-unpaired")
    (row,) = json.loads(run(vm, "status", twin, "--json").out)["ports"]
    assert row["port"] == 2, "by the name that it was claimed by"
    run(vm, "release", rc=5)
    vm.vmbus.offer(mac)
    run(vm, "recover")
    same(vm, before)
    takes(vm, 2, "vf")


@pytest.mark.soak
def test_the_host_takes_the_device_of_a_pair_that_stays_up_back_meanwhile(furnished: Vm) -> None:
    """What was on it is gone, and is in no snapshot: release says so."""
    vm, twin, mac = furnished, furnished.twins[2], nic_of(furnished, 2).mac
    run(vm, "claim", "--raw-qp", twin, "--synthetic=keep")
    vm.vmbus.rescind(mac)
    vm.vmbus.offer(mac)
    (drift,) = status(vm)[2]["drift"]
    assert is_note(drift, "drift-synthetic-recreated", twin, ANY, ANY)
    told = json.loads(run(vm, "release", twin, "--json").out)["ports"][0]
    (lost,) = told["lost"]
    assert (lost["cause"], twin in lost["text"]) == ("not-kept", True)


@pytest.mark.soak
def test_host_servicing_meanwhile(furnished: Vm) -> None:
    """The VF goes and comes back, and there is no synthetic netdev that would open it. The kernel
    gives the VF of the first pair the name that is free, and udev one of its own, as here."""
    vm, twin, before = furnished, furnished.twins[2], view(furnished)
    named = vm.netdevs
    claim(vm)
    serviced(vm)
    takes(vm, 1, "vf")  # hv_netvsc opens it a little later
    for name in ("vf{}", None):
        for port, now in vm.netdevs.items():
            then = name.format(port) if name else named[port]
            vm.run(f"ip link set {now} name {then}")
    assert owners(vm) == {1: "ethernet", 2: "free"}
    told = status(vm)[2]
    assert (told["upper"]["netdev"], told["claim"]["synthetic"]) == (twin, "uio")
    (drift,) = told["drift"]
    assert is_note(drift, "drift-recreated", ANY, ANY)
    run(vm, "release")
    assert owners(vm) == {1: "ethernet", 2: "ethernet"}
    same(vm, before)
    takes(vm, 2, "vf")


@pairs_on_newest()
def test_a_name_that_the_vf_of_another_pair_has_got_is_told(furnished: Vm) -> None:
    """Without udev, at servicing: it is not claimed, so it is left so."""
    vm, twin, named = furnished, furnished.twins[2], furnished.netdevs
    claim(vm)
    serviced(vm)
    takes(vm, 1, "vf")
    if vm.netdevs[1] != twin:
        vm.run(f"ip link set {vm.netdevs[1]} name {twin}")
    (port,) = json.loads(run(vm, "release", "--json").out)["ports"]
    now = vm.twins[2]
    assert not now.startswith("manactl"), "a name for the moment"
    with wording:
        assert any(f"{twin}: it is called {now}" in one["text"] for one in port["lost"])
    takes(vm, 2, "vf")
    vm.run(f"ip link set {vm.netdevs[1]} name vf1; ip link set {vm.netdevs[2]} name vf2")
    vm.run(f"ip link set {now} name {twin}")
    for number, name in named.items():
        vm.run(f"ip link set vf{number} name {name}")


# --- kill -9 ----------------------------------------------------------------------------------


class OnUio(Furnished):
    """A furnished twin, and manactl at hand; what is shown has no numbers."""

    def __init__(self, vm: Vm, program: User) -> None:
        super().__init__(vm, program)
        self.name = vm.twins[2]
        self.claim = f"claim --raw-qp {self.name} --allow upper --synthetic uio"

    def view(self) -> tuple[Shown, list[str]]:
        shown, journals = super().view()
        rows = [
            [json.dumps(networks.without_numbers(json.loads(row))) for row in table]
            for table in shown
        ]
        return [sorted(table) for table in rows], journals


@pairs_on_newest()
def test_killed_at_some_acts_it_is_put_back(furnished: Vm, seed: int) -> None:
    kill_at_some(OnUio(furnished, resident(furnished, "crash")), SOME_ACTS, seed)
    takes(furnished, 2, "vf")


@pytest.mark.soak
@pytest.mark.parametrize("turn", TURNS)
def test_killed_at_every_act_it_is_put_back(furnished: Vm, turn: int) -> None:
    one = OnUio(furnished, resident(furnished, "crash"))
    assert kill_at_some(one, SLICES, turn) > 20
    takes(furnished, 2, "vf")


# --- power cuts -------------------------------------------------------------------------------


def cut(
    one: OnUio, work: Path, pick: Callable[[list[tuple[str, int]]], list[tuple[str, int]]]
) -> int:
    """The power is cut before these acts: what the disk was sure to have by then is enough. Of how
    many."""
    before, _ = one.view()
    disk = Disk(one.vm, work)
    log, files = whole_run(one, disk)
    check_whole(files)
    for number, act in log.marks:
        for end, said in ANNOUNCED.items():
            if act.startswith("write ") and act.endswith(end):
                sure = records(files[log.sure_before(number)])
                assert said in {(one["event"], one.get("kind")) for one in sure}, act
    assert one.view() == (before, [])
    acts = [act for _, act in log.marks]
    claims = acts.index("end")
    moments = [("claim", number) for number in range(claims)]
    moments += [("release", number) for number in range(len(acts) - claims - 2)]
    check_recovery(one, disk, before, pick(moments))
    takes(one.vm, 2, "vf")
    return len(moments)


@pairs_on_newest()
def test_some_power_cuts(furnished: Vm, tmp_path: Path, seed: int) -> None:
    rng = random.Random(f"{seed} cuts")
    one = OnUio(furnished, resident(furnished, "crash"))
    assert cut(one, tmp_path, lambda moments: sorted(rng.sample(moments, CUTS))) > 20


@pytest.mark.soak
def test_every_power_cut(furnished: Vm, tmp_path: Path) -> None:
    assert cut(OnUio(furnished, resident(furnished, "crash")), tmp_path, list) > 20


# --- random networks --------------------------------------------------------------------------


@pytest.mark.parametrize("count", [4, pytest.param(100, marks=pytest.mark.soak)])
def test_random_networks_are_as_they_were(pair: Vm, seed: int, count: int) -> None:
    vm = pair
    vm.run("modprobe -a dummy 8021q macvlan")
    bench = PairBench(vm, steady=STEADY)
    bench.sh(None, SPARE)
    for number in range(count):
        _try(bench, f"{seed} {number}")
    bench.fresh()
    vm.run("ip link del spare; rmmod dummy")


def _try(bench: PairBench, seed: str) -> None:
    vm, rng = bench.vm, random.Random(f"{seed} uio")
    names = bench.fresh()
    drawn = networks.Generator(seed, names, default_routes=False, kept_carriers=False).draw()
    script = drawn.script()
    chosen = rng.choice(([1], [2], [1, 2]))
    print(f"network {seed}, ports {chosen} claimed\n{script}")
    bench.sh(None, script)
    before, owned = view(vm), owners(vm)
    ports = " ".join(f"--raw-qp {names[number - 1]}" for number in chosen)
    bench.manactl(None, f"claim {ports} --allow upper --synthetic uio")
    assert owners(vm) == {**owned, **dict.fromkeys(chosen, "free")}
    bench.manactl(None, "release")
    assert owners(vm) == owned
    found = networks.differences(before, view(vm))
    assert not found, "\n".join(found)
