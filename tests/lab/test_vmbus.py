"""hv_netvsc above the ports, on the lab's own VMBus: what the drivers do is in both records.

Nothing here is about manactl. It holds the lab to what Azure shows and vmbus/README.md promises.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.agent import Process
from tests.lab.users import eventually
from tests.lab.vm import Vm
from tests.lab.vmbus.host import CLASS, Nic

# Until the module was built on more than one machine.
pytestmark = pytest.mark.soak

BUS = "/sys/bus/vmbus/drivers"


def mac_of(vm: Vm, port: int) -> str:
    return str(vm.nic.state()["vports"][port - 1]["mac"])


def nic_of(vm: Vm, port: int) -> Nic:
    return vm.vmbus.nic(mac_of(vm, port))


def master(vm: Vm, netdev: str) -> str:
    """The netdev that `netdev` is below, or ""."""
    return vm.run(f"basename $(readlink /sys/class/net/{netdev}/master) 2>/dev/null; :").out.strip()


def path(vm: Vm, port: int, wanted: str) -> None:
    """Wait until the guest has told the host to send this way."""
    eventually(lambda: nic_of(vm, port).path == wanted, what=f"path {wanted} of port {port}")


def blocked(vm: Vm, process: Process) -> None:
    """Wait until a program sleeps in the kernel and no signal would wake it."""
    eventually(lambda: vm.get(f"/proc/{process.pid}/stat").split()[2] == b"D", what="a hang")


@contextmanager
def apart(vm: Vm) -> Iterator[None]:
    """Both twins up, the second in a network namespace `far`, with an address each."""
    near, far = vm.twins[1], vm.twins[2]
    vm.run(f"""ip netns add far; ip link set {far} netns far
        ip addr add 10.0.9.1/24 dev {near}; ip -n far addr add 10.0.9.2/24 dev {far}
        ip link set {near} up; ip -n far link set {far} up""")
    try:
        yield
    finally:
        # The twin goes first, and takes its VF along: a VF that registers while its twin is in
        # another namespace hangs the kernel (7.2, 7.3).
        vm.run(f"ip -n far link set {far} netns 1; ip netns del far")


def ping(vm: Vm) -> None:
    vm.run("ping -q -c 3 -i 0.1 -W 5 10.0.9.2")


def test_each_port_is_below_a_netdev_of_hv_netvsc_with_its_address(pair: Vm) -> None:
    for port, vf in pair.netdevs.items():
        twin = pair.twins[port]
        assert master(pair, vf) == twin
        assert pair.address(twin) == pair.address(vf) == mac_of(pair, port)
        assert "driver: hv_netvsc\n" in pair.run(["ethtool", "-i", twin]).out
        nic = nic_of(pair, port)
        assert (nic.driver, nic.told, nic.path) == ("hv_netvsc", True, "synthetic")
        device = f"/sys/bus/vmbus/devices/{nic.uuid}"
        assert pair.get(f"{device}/class_id").decode().strip() == f"{{{CLASS}}}"
    assert pair.twins == {1: "eth0", 2: "eth1"}


def test_the_twin_opens_and_closes_its_vf(pair: Vm) -> None:
    twin, since = pair.twins[2], pair.vmbus.mark()
    pair.run(["ip", "link", "set", twin, "up"])
    path(pair, 2, "vf")
    assert pair.nic.owner(2) == "ethernet"
    pair.run(["ip", "link", "set", twin, "down"])
    assert pair.nic.owner(2) is None
    number = nic_of(pair, 2).number
    said = [e.text for e in pair.vmbus.history(since) if e.nic == number]
    assert [text for text in said if text.startswith("path")] == ["path vf", "path synthetic"]


def test_frames_take_the_path_that_the_guest_asked_for(pair: Vm) -> None:
    near, far = pair.netdevs[1], pair.netdevs[2]
    with apart(pair):
        path(pair, 1, "vf")
        path(pair, 2, "vf")
        before = nic_of(pair, 1)
        ping(pair)
        vf = nic_of(pair, 1)
        assert vf.sent == before.sent, "the synthetic path carried what was the VF's"
        pair.run(f"ip link set {near} down; ip -n far link set {far} down")
        assert pair.nic.owner(1) is None
        assert pair.nic.owner(2) is None
        ping(pair)
        assert nic_of(pair, 1).sent >= vf.sent + 3
        pair.run(f"ip -n far link set {far} up; ip link set {near} up")
        path(pair, 1, "vf")


def test_a_larger_mtu_opens_the_channel_anew(pair: Vm) -> None:
    twin, before = pair.twins[1], nic_of(pair, 1)
    pair.run(f"ip link set {twin} up; ip link set {twin} mtu 4000")
    after = nic_of(pair, 1)
    assert after.opens == before.opens + 1
    assert (after.open, after.ready) == (True, True)
    assert pair.get(f"/sys/class/net/{pair.netdevs[1]}/mtu").strip() == b"4000"


def test_the_device_goes_to_uio_and_back(pair: Vm) -> None:
    twin, vf, uuid = pair.twins[1], pair.netdevs[1], nic_of(pair, 1).uuid
    pair.run(f"ip link set {twin} up; echo {uuid} > {BUS}/hv_netvsc/unbind")
    assert pair.run(f"test -e /sys/class/net/{twin}", check=False).rc != 0
    assert master(pair, vf) == ""
    assert pair.nic.owner(1) == "ethernet", "the VF stays open without its twin"
    gone = nic_of(pair, 1)
    assert (gone.driver, gone.open, gone.path) == (None, False, "synthetic")
    pair.run(f"modprobe uio_hv_generic; echo {CLASS} > {BUS}/uio_hv_generic/new_id")
    assert nic_of(pair, 1).driver == "uio_hv_generic"
    assert pair.run("ls /sys/class/uio/uio0/maps").out.split() == [f"map{n}" for n in range(5)]
    pair.run("exec 3<>/dev/uio0")
    assert pair.vmbus.history()[-1].text.startswith("close")
    pair.run(f"""echo {uuid} > {BUS}/uio_hv_generic/unbind
        echo {CLASS} > {BUS}/uio_hv_generic/remove_id; echo {uuid} > {BUS}/hv_netvsc/bind
        modprobe -r uio_hv_generic""")
    assert master(pair, vf) == twin
    assert pair.nic.owner(1) is None, "the new twin is down, and closes the VF"


def test_a_mute_host_hangs_the_guest_until_it_speaks(pair: Vm) -> None:
    twin, mac = pair.twins[1], mac_of(pair, 1)
    pair.vmbus.set(mac, muted=True)
    up = pair.spawn(["ip", "link", "set", twin, "up"])
    blocked(pair, up)
    pair.vmbus.set(mac, muted=False)
    assert up.wait().rc == 0
    path(pair, 1, "vf")


def test_a_vf_that_was_not_announced_is_waited_for(pair: Vm) -> None:
    twin, mac, since = pair.twins[1], mac_of(pair, 1), pair.dmesg_mark()
    pair.vmbus.rescind(mac)
    pair.vmbus.offer(mac, associated=False)
    up = pair.spawn(["ip", "link", "set", twin, "up"])
    pair.wait_kmsg("Waiting for the VF association from host", since=since)
    blocked(pair, up)
    assert nic_of(pair, 1).path == "synthetic"
    pair.vmbus.set(mac, associated=True)
    assert up.wait().rc == 0
    path(pair, 1, "vf")


def test_an_offer_taken_back_takes_the_twin_and_leaves_the_vf(pair: Vm) -> None:
    twin, vf, mac = pair.twins[1], pair.netdevs[1], mac_of(pair, 1)
    pair.run(["ip", "link", "set", twin, "up"])
    pair.vmbus.rescind(mac)
    assert 1 not in pair.twins
    assert pair.nic.owner(1) == "ethernet"
    pair.vmbus.offer(mac, serial=7)  # of no PCI slot here: the address alone pairs
    assert master(pair, vf) == pair.twins[1] == twin
    pair.vmbus.rescind(mac)
    pair.vmbus.offer(mac)


def test_the_vf_goes_and_comes_back_below_a_twin_that_stays(pair: Vm) -> None:
    twin, pci = pair.twins[1], pair.pci
    pair.run(["ip", "link", "set", twin, "up"])
    path(pair, 1, "vf")
    pair.run(f"echo {pci} > /sys/bus/pci/drivers/mana/unbind")
    assert nic_of(pair, 1).path == "synthetic"
    pair.run(f"echo {pci} > /sys/bus/pci/drivers/mana/bind")
    eventually(lambda: pair.netdevs.keys() == {1, 2}, what="the VFs")
    path(pair, 1, "vf")  # hv_netvsc opens it again, since the twin is up
    assert pair.nic.owner(1) == "ethernet"
    assert pair.nic.owner(2) is None


def test_the_host_pulls_the_cable(pair: Vm) -> None:
    twin, mac = pair.twins[1], mac_of(pair, 1)
    pair.run(["ip", "link", "set", twin, "up"])
    carrier = f"/sys/class/net/{twin}/carrier"
    for link in (False, True):
        pair.vmbus.set(mac, link=link)
        eventually(lambda link=link: pair.get(carrier).strip() == b"%d" % link, what="the carrier")


def test_a_refused_buffer_fails_the_probe_and_leaves_nothing(pair: Vm) -> None:
    mac, uuid = mac_of(pair, 1), nic_of(pair, 1).uuid
    pair.run(f"echo {uuid} > {BUS}/hv_netvsc/unbind")
    pair.vmbus.set(mac, refuse=101)
    assert pair.run(f"echo {uuid} > {BUS}/hv_netvsc/bind", check=False).rc != 0
    assert (nic_of(pair, 1).driver, nic_of(pair, 1).open) == (None, False)
    pair.run(f"echo {uuid} > {BUS}/hv_netvsc/bind")
    assert master(pair, pair.netdevs[1]) == pair.twins[1]


def test_drivers_and_bus_go_and_leave_nothing(pair: Vm) -> None:
    bus = "hv_vmbus" if "hv_vmbus" in pair.run("cut -d' ' -f1 /proc/modules").out else "vmbus_lab"
    pair.run(f"ip link set {pair.twins[1]} up; rmmod hv_netvsc")
    assert pair.vmbus.violations() == []
    pair.run(f"rmmod {bus}")
    assert pair.run("test -e /sys/bus/vmbus", check=False).rc != 0
    assert pair.nic.owner(1) == "ethernet"
    pair.pair()
    assert pair.twins == {1: "eth0", 2: "eth1"}
