"""hv_netvsc above the ports, on the lab's own VMBus: what the drivers do is in both records.

Nothing here is about manactl. It holds the lab to what Azure shows and vmbus/README.md promises.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab.agent import Process
from tests.lab.users import eventually, user
from tests.lab.vm import Vm
from tests.lab.vmbus.host import (
    CLASS,
    RECEIVE_BUFFER,
    RNDIS_INIT,
    SEND_BUFFER,
    SUBCHANNELS,
    SWITCH_PATH,
    VERSION,
    Nic,
    toeplitz,
)

BUS = "/sys/bus/vmbus/drivers"
DEVICES = "/sys/bus/vmbus/devices"
ALONE = "02:15:5d:00:00:09"  # of a synthetic NIC without a VF


def mac_of(vm: Vm, port: int) -> str:
    return str(vm.nic.state()["vports"][port - 1]["mac"])


def nic_of(vm: Vm, port: int) -> Nic:
    return vm.vmbus.nic(mac_of(vm, port))


def station(vm: Vm, port: int) -> dict[str, Any]:
    """What the switch knows of a port's address: its path, and how many frames went where."""
    return vm.nic.station(mac_of(vm, port))


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


def ping(vm: Vm, *, netns: str = "", to: str = "10.0.9.2") -> None:
    where = f"ip netns exec {netns} " if netns else ""
    vm.run(f"{where}ping -q -c 3 -i 0.1 -W 5 {to}")


def far_down(vm: Vm, vf: str) -> None:
    """Set a VF down that has just come into `far`: hv_netvsc opens it once more, 100 ms after that
    (netvsc_vf_setup()), whatever was set meanwhile."""

    def stays() -> bool:
        vm.run(f"ip -n far link set {vf} down; sleep 0.3")
        return vm.run(f"ip -n far link show dev {vf} up").out == ""

    eventually(stays, what=f"{vf} to stay down")


def said(vm: Vm, port: int, since: int) -> list[str]:
    """What the host recorded of a port's NIC."""
    number = nic_of(vm, port).number
    return [event.text for event in vm.vmbus.history(since) if event.nic == number]


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
    paths = [text for text in said(pair, 2, since) if text.startswith("path")]
    assert paths == ["path vf", "path synthetic"]


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


def test_frames_cross_between_a_vf_and_a_synthetic_path(pair: Vm) -> None:
    far = pair.netdevs[2]
    with apart(pair):
        path(pair, 1, "vf")
        path(pair, 2, "vf")
        far_down(pair, far)
        assert (station(pair, 1)["path"], station(pair, 2)["path"]) == ("vf", "synthetic")
        one, two, sent = station(pair, 1), station(pair, 2), nic_of(pair, 2).sent
        mine = nic_of(pair, 1).sent
        ping(pair)
        assert station(pair, 1)["to_vf"] >= one["to_vf"] + 3
        assert station(pair, 2)["to_synthetic"] >= two["to_synthetic"] + 3
        assert station(pair, 2)["to_vf"] == two["to_vf"]
        assert nic_of(pair, 2).sent >= sent + 3
        assert nic_of(pair, 1).sent == mine
        pair.run(f"ip -n far link set {far} up")


def test_first_packets_come_synthetically_although_the_path_is_on_the_vf(pair: Vm) -> None:
    """As Microsoft describes it; and they do not where that is switched off."""
    with apart(pair):
        path(pair, 1, "vf")
        path(pair, 2, "vf")
        for wanted in (True, False):
            pair.nic.exceptions(wanted)
            pair.run("ip neigh flush all; ip netns exec far ip neigh flush all")
            before, received = station(pair, 2), nic_of(pair, 2).received
            ping(pair)  # a broadcast of ARP goes first
            after = station(pair, 2)
            assert after["to_vf"] >= before["to_vf"] + 3
            assert (after["to_synthetic"] > before["to_synthetic"]) is wanted
            assert (nic_of(pair, 2).received > received) is wanted


def test_a_peer_without_vf_reaches_both_kinds_of_path(pair: Vm) -> None:
    near, vf = pair.twins[1], pair.netdevs[1]
    pair.vmbus.offer(ALONE, associated=False)
    try:
        where = f"{DEVICES}/{pair.vmbus.nic(ALONE).uuid}/net"
        alone = pair.run(["ls", where]).out.strip()
        pair.run(f"""set -e
            ip netns add far; ip link set {alone} netns far; ip -n far addr add 10.0.9.2/24 dev {alone}
            ip -n far link set {alone} up; ip addr add 10.0.9.1/24 dev {near}; ip link set {near} up""")
        path(pair, 1, "vf")
        ping(pair)
        pair.run(f"ip link set {vf} down")
        path(pair, 1, "synthetic")
        ping(pair)
        found = pair.nic.station(ALONE)
        assert (found["vf"], found["synthetic"], found["to_vf"]) == (False, True, 0)
    finally:
        pair.run("ip netns del far", check=False)
        pair.vmbus.rescind(ALONE)


def test_a_vlan_survives_the_way_from_one_kind_of_path_to_the_other(pair: Vm) -> None:
    near, far, far_vf = pair.twins[1], pair.twins[2], pair.netdevs[2]
    with apart(pair):
        path(pair, 1, "vf")
        far_down(pair, far_vf)
        pair.run(f"""set -e
            ip link add link {near} name tag1 type vlan id 7; ip addr add 10.0.7.1/24 dev tag1
            ip -n far link add link {far} name tag2 type vlan id 7 egress-qos-map 0:5
            ip -n far addr add 10.0.7.2/24 dev tag2; ip -n far link set tag2 up
            ip link set tag1 up""")
        path(pair, 2, "synthetic")
        ping(pair, to="10.0.7.2")
        pair.run(f"ip link del tag1; ip -n far link del tag2; ip -n far link set {far_vf} up")


def test_a_larger_mtu_reopens_the_channel(pair: Vm) -> None:
    twin, before = pair.twins[1], nic_of(pair, 1)
    pair.run(f"ip link set {twin} up; ip link set {twin} mtu 4000")
    after = nic_of(pair, 1)
    assert after.opens == before.opens + 1
    assert (after.open, after.ready) == (True, True)
    assert pair.get(f"/sys/class/net/{pair.netdevs[1]}/mtu").strip() == b"4000"


@pytest.mark.parametrize("keep_path", [False, True])
def test_after_an_mtu_change_the_path_is_where_the_host_left_it(pair: Vm, keep_path: bool) -> None:
    """The guest does not ask for the VF again. What Azure's host does at a close is not known."""
    twin, mac = pair.twins[1], mac_of(pair, 1)
    pair.vmbus.set(mac, keep_path=keep_path)
    pair.run(f"ip link set {twin} up")
    path(pair, 1, "vf")
    since = pair.vmbus.mark()
    pair.run(f"ip link set {twin} mtu 3000")
    assert "rndis init" in said(pair, 1, since)
    assert "path vf" not in said(pair, 1, since)
    assert nic_of(pair, 1).path == station(pair, 1)["path"] == ("vf" if keep_path else "synthetic")


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
    again = f"echo {CLASS} > {BUS}/uio_hv_generic/new_id"
    assert pair.run(again, check=False).rc != 0, "EEXIST, as of the kernel's own bus"
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


def test_a_path_switch_is_waited_for_as_long_as_it_takes(pair: Vm) -> None:
    twin, mac, since = pair.twins[1], mac_of(pair, 1), pair.vmbus.mark()
    pair.vmbus.set(mac, hold=SWITCH_PATH)
    up = pair.spawn(["ip", "link", "set", twin, "up"])
    eventually(lambda: f"hold {SWITCH_PATH}" in said(pair, 1, since), what="the switch")
    asked = pair.spawn(["ip", "link", "show", twin])  # RTNL is held meanwhile
    blocked(pair, asked)
    assert station(pair, 1)["path"] == "synthetic"
    pair.vmbus.set(mac, hold=0)
    assert up.wait().rc == asked.wait().rc == 0
    path(pair, 1, "vf")
    assert station(pair, 1)["path"] == "vf"


def test_an_answer_may_be_late(pair: Vm) -> None:
    twin, mac, since = pair.twins[1], mac_of(pair, 1), pair.vmbus.mark()
    pair.vmbus.delay(mac, SWITCH_PATH, 300)
    pair.run(["ip", "link", "set", twin, "up"])
    path(pair, 1, "vf")
    at = {event.text: event.at for event in pair.vmbus.history(since)}
    assert at[f"let go {SWITCH_PATH}"] - at[f"delay {SWITCH_PATH}"] >= 0.29
    assert at["path vf"] >= at[f"let go {SWITCH_PATH}"]


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


def test_a_vf_that_was_withdrawn_is_waited_for_once_it_is_down(pair: Vm) -> None:
    """The withdrawal itself changes nothing that the guest does.

    It takes a guest that had to wait before: an announcement that nobody waited for counts for the
    next wait as well (a completion that is never used up).
    """
    twin, vf, mac = pair.twins[1], pair.netdevs[1], mac_of(pair, 1)
    pair.vmbus.rescind(mac)
    pair.vmbus.offer(mac, associated=False)
    for turn in ("late", "withdrawn"):
        since = pair.dmesg_mark()
        up = pair.spawn(["ip", "link", "set", twin if turn == "late" else vf, "up"])
        pair.wait_kmsg("Waiting for the VF association from host", since=since)
        blocked(pair, up)
        pair.vmbus.set(mac, associated=True)
        assert up.wait().rc == 0
        path(pair, 1, "vf")
        pair.vmbus.set(mac, associated=False)
        pair.run(["ip", "link", "show", twin])
        assert (nic_of(pair, 1).path, nic_of(pair, 1).told) == ("vf", False)
        pair.run(["ip", "link", "set", vf, "down"])
        path(pair, 1, "synthetic")
    pair.vmbus.set(mac, associated=True)


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


# --- sub-channels -----------------------------------------------------------------------------

KEY = bytes(range(1, 41))


@contextmanager
def more_cpus(vm: Vm) -> Iterator[None]:
    """The guest's spare CPUs online: hv_netvsc takes a channel for each when it attaches. What has
    several is bound again at the end, and has one."""
    which = " ".join(str(vm.cpus + number) for number in range(vm.spare))
    cpus = f"for c in {which}; do echo {{}} > /sys/devices/system/cpu/cpu$c/online; done"
    vm.run("set -e; " + cpus.format(1))
    try:
        yield
    finally:
        vm.run("set -e; " + cpus.format(0))
        for nic in vm.vmbus.nics():
            if nic.channels > 1:
                driver = f"{BUS}/{nic.driver}"
                vm.run(f"echo {nic.uuid} > {driver}/unbind; echo {nic.uuid} > {driver}/bind")


def attached(vm: Vm, mac: str, channels: int) -> Nic:
    """Wait until the driver has opened so many channels, which it asks for later than it probes, and
    has made queues of them."""
    queues = f"{DEVICES}/{vm.vmbus.nic(mac).uuid}/net/*/queues/"

    def there() -> bool:
        made = vm.run(f"ls {queues}", check=False).out.count("rx-")
        return made == vm.vmbus.nic(mac).channels == channels

    eventually(there, what=f"{channels} channels of {mac}")
    return vm.vmbus.nic(mac)


def by_channel(nic: Nic, source: str, to: str) -> int:
    """By which channel the host has to give the guest a frame that is not of TCP."""
    addresses = bytes(int(part) for one in (source, to) for part in one.split("."))
    return nic.table[toeplitz(bytes.fromhex(nic.key), addresses) % len(nic.table)]


@pytest.mark.soak  # test_uio.py has several channels in each run
def test_a_nic_has_a_channel_for_each_cpu(pair: Vm) -> None:
    """One without a VF, whose queues would be chosen in place of the channels to send by."""
    near, host = pair.twins[1], pair.vmbus
    with more_cpus(pair):
        since = host.mark()
        host.offer(ALONE, associated=False)
        try:
            nic = attached(pair, ALONE, 3)
            assert nic.table == tuple(entry % 3 for entry in range(128))
            asked = [event.text for event in host.history(since) if "channel" in event.text]
            assert asked[0] == "sub-channels 2 of 2"
            assert sorted(asked[1:]) == [
                f"{do} channel {n}" for do in ("offer", "open") for n in (1, 2)
            ]
            alone = pair.run(["ls", f"{DEVICES}/{nic.uuid}/net"]).out.strip()
            pair.run(f"""set -e; ethtool -X {alone} weight 1 2 1; ethtool -X {alone} hkey {KEY.hex(":")}
                ip netns add far; ip link set {alone} netns far
                ip -n far addr add 10.0.9.2/24 dev {alone}; ip -n far link set {alone} up
                ip -n far route add local 10.0.9.128/26 dev lo
                ip addr add 10.0.9.1/24 dev {near}; ip link set {near} up""")
            path(pair, 1, "vf")
            before = host.nic(ALONE)
            assert (before.key, before.table) == (KEY.hex(), (0,) * 32 + (1,) * 64 + (2,) * 32)
            to = [f"10.0.9.{number}" for number in range(128, 160)]
            came = [by_channel(before, "10.0.9.1", address) for address in to]
            wanted = [came.count(channel) for channel in range(3)]
            assert min(wanted) > 0
            ping(pair)
            pair.run(
                """ip netns exec far bash -c 'for n in {1..40}; do echo > /dev/udp/10.0.9.1/$n; done'
                bash -c 'for n in {128..159}; do echo > /dev/udp/10.0.9.$n/9; done'""",
                check=False,
            )

            def went() -> bool:
                now = host.nic(ALONE)
                found = [now.received_by[n] - before.received_by[n] for n in range(3)]
                sent = [now.sent_by[n] - before.sent_by[n] for n in range(3)]
                return min(sent) > 0 and all(map(int.__ge__, found, wanted))

            eventually(went, what=f"frames by their channels, {wanted} beyond {before}")
            pair.run("ip netns del far")
            eventually(lambda: pair.run(f"test -e /sys/class/net/{alone}", check=False).rc == 0)
            since = host.mark()
            pair.run(f"ethtool -X {alone} default; ethtool -L {alone} combined 2")
            assert attached(pair, ALONE, 2).table == (0, 1) * 64
            closed = [event.text for event in host.history(since) if "close" in event.text]
            assert closed == ["close channel 2", "close channel 1", "close"]
            pair.run(f"echo {nic.uuid} > {BUS}/hv_netvsc/unbind")
            host.set(ALONE, refuse=SUBCHANNELS)
            pair.run(f"echo {nic.uuid} > {BUS}/hv_netvsc/bind")
            refused = "sub-channels 0 of 2"
            eventually(
                lambda: refused in {event.text for event in host.history(since)}, what=refused
            )
            assert attached(pair, ALONE, 1).rss == 0
        finally:
            pair.run("ip netns del far", check=False)
            host.rescind(ALONE)
        host.offer(ALONE, associated=False)
        attached(pair, ALONE, 3)
        pair.run("rmmod hv_netvsc")
        assert host.nic(ALONE).channels == 0
        pair.run("modprobe hv_netvsc")
        attached(pair, ALONE, 3)
        host.rescind(ALONE)


@pytest.mark.parametrize("message", [VERSION, RECEIVE_BUFFER, SEND_BUFFER, RNDIS_INIT])
def test_a_refusal_fails_the_probe_and_leaves_nothing(pair: Vm, message: int) -> None:
    mac, uuid = mac_of(pair, 1), nic_of(pair, 1).uuid
    pair.run(f"echo {uuid} > {BUS}/hv_netvsc/unbind")
    pair.vmbus.set(mac, refuse=message)
    bound = pair.run(f"echo {uuid} > {BUS}/hv_netvsc/bind", check=False)
    if message == VERSION:  # the guest tries an older one
        assert bound.rc == 0
        pair.run(f"echo {uuid} > {BUS}/hv_netvsc/unbind")
    else:
        assert bound.rc != 0
    assert (nic_of(pair, 1).driver, nic_of(pair, 1).open) == (None, False)
    pair.run(f"echo {uuid} > {BUS}/hv_netvsc/bind")
    assert master(pair, pair.netdevs[1]) == pair.twins[1]


def test_a_device_goes_to_the_driver_that_is_asked_for(pair: Vm) -> None:
    """driver_override, as the kernels' own bus has it: no new_id, and no other device is meant."""
    uuid, other = nic_of(pair, 1).uuid, nic_of(pair, 2)
    override = f"{DEVICES}/{uuid}/driver_override"
    pair.run(f"""set -e; modprobe uio_hv_generic; echo uio_hv_generic > {override}
        echo {uuid} > {BUS}/hv_netvsc/unbind; echo {uuid} > /sys/bus/vmbus/drivers_probe""")
    assert nic_of(pair, 1).driver == "uio_hv_generic"
    assert nic_of(pair, 2) == other
    assert pair.run(f"echo {uuid} > {BUS}/hv_netvsc/bind", check=False).rc != 0
    pair.run(f"""set -e; echo {uuid} > {BUS}/uio_hv_generic/unbind; echo > {override}
        echo {uuid} > /sys/bus/vmbus/drivers_probe; modprobe -r uio_hv_generic""")
    assert nic_of(pair, 1).driver == "hv_netvsc"
    assert pair.get(override).strip() == b"(null)"


def test_a_raw_queue_pair_hears_nothing_while_the_path_is_not_on_its_vf(pair: Vm) -> None:
    """DPDK's mana PMD without netvsc's; without the synthetic NIC the VF is a plain port."""
    mac, far = mac_of(pair, 1), pair.twins[2]
    pair.run(f"""set -e; ip netns add far; ip link set {far} netns far
        ip -n far addr add 10.0.9.2/24 dev {far}; ip -n far link set {far} up
        ip -n far link set {pair.netdevs[2]} down""")
    try:
        with user(pair, "testpmd", pair.pci, mac, "icmpecho") as testpmd:
            testpmd.wait_for("ready", 150)
            testpmd.ask("start", "started")
            assert pair.nic.owner(1) == "raw-qp"
            lost = pair.run("ip netns exec far ping -q -c 1 -W 1 10.0.9.1", check=False)
            assert lost.rc == 1
            assert station(pair, 1)["to_synthetic"] > 0
            pair.vmbus.rescind(mac)
            ping(pair, netns="far", to="10.0.9.1")
            testpmd.ask("quit", "ended")
        pair.vmbus.offer(mac)
    finally:
        pair.run(f"ip -n far link set {far} netns 1; ip netns del far")


@contextmanager
def on_uio(vm: Vm) -> Iterator[None]:
    """The first port's VMBus device below uio_hv_generic, its twin gone and its VF down."""
    uuid, vf = nic_of(vm, 1).uuid, vm.netdevs[1]
    override = f"{DEVICES}/{uuid}/driver_override"
    vm.run(f"""set -e; modprobe uio_hv_generic; echo uio_hv_generic > {override}
        echo {uuid} > {BUS}/hv_netvsc/unbind; echo {uuid} > {BUS}/uio_hv_generic/bind
        ip link set {vf} down""")
    try:
        yield
    finally:
        vm.run(f"""set -e; echo {uuid} > {BUS}/uio_hv_generic/unbind; echo > {override}
            echo {uuid} > {BUS}/hv_netvsc/bind; modprobe -r uio_hv_generic""")


HUGE = "/proc/sys/vm/nr_hugepages"
RULES = {"ring", "packet-type", "nvsp-size", "nvsp-order", "nvsp-type", "receive-buffer"}
RULES |= {"send-buffer", "rndis-envelope", "rndis-size", "rndis-type", "rndis-query"}
RULES |= {
    "sub-channel",
    "rss",
    "rndis-packet",
    "path-without-vf",
    "bad-completion",
    "sections-kept",
    "no-section",
}


def test_no_packet_of_a_guest_breaks_the_host(pair: Vm, seed: int) -> None:
    """From user space, as DPDK writes them: the host objects, lives on, and serves the next."""
    with on_uio(pair):
        with user(pair, "uioring", "uio0") as ring:
            ring.wait_for("open")
            ring.ask(f"random {seed} 2000", "sent", 120)
            found = {event.text.split(":")[0] for event in pair.vmbus.violations()}
            assert found
            assert found <= RULES
        for nonsense in ("lie 60000", "lie 0", "index 12345", "index 4294967288"):
            pair.vmbus.clear_violations()
            with user(pair, "uioring", "uio0") as ring:
                ring.wait_for("open")
                ring.say(nonsense)
                eventually(pair.vmbus.violations, what=f"a violation by {nonsense}")
                assert [event.text.split(":")[0] for event in pair.vmbus.violations()] == ["ring"]
    pair.vmbus.clear_violations()
    pair.run(["ip", "link", "set", pair.twins[1], "up"])
    path(pair, 1, "vf")


@contextmanager
def peer(vm: Vm) -> Iterator[None]:
    """The second port's twin in a network namespace, with an address; and huge pages for DPDK."""
    far = vm.twins[2]
    vm.run(f"""set -e; echo 160 > {HUGE}; mkdir -p /dev/hugepages
        mount -t hugetlbfs none /dev/hugepages; ip netns add far; ip link set {far} netns far
        ip -n far addr add 10.0.9.2/24 dev {far}; ip -n far link set {far} up""")
    try:
        yield
    finally:
        vm.run(f"""ip -n far link set {far} netns 1; ip netns del far
            umount /dev/hugepages; echo 0 > {HUGE}""")


def test_dpdk_s_netvsc_takes_its_vf_and_reaches_both_kinds_of_path(pair: Vm) -> None:
    mac, far_vf = mac_of(pair, 1), pair.netdevs[2]
    with peer(pair), on_uio(pair):
        path(pair, 2, "vf")
        since = pair.vmbus.mark()
        with user(pair, "testpmd", pair.pci, mac, "icmpecho", nic_of(pair, 1).uuid) as testpmd:
            ready = testpmd.wait_for("ready", 150)
            assert "path vf" in said(pair, 1, since), ready["output"]
            assert (pair.nic.owner(1), station(pair, 1)["path"]) == ("raw-qp", "vf")
            testpmd.ask("start", "started")
            before = station(pair, 1)
            ping(pair, netns="far", to="10.0.9.1")
            pair.run(f"ip -n far link set {far_vf} down")
            path(pair, 2, "synthetic")
            ping(pair, netns="far", to="10.0.9.1")
            after = station(pair, 1)
            assert after["to_vf"] >= before["to_vf"] + 6
            assert after["to_synthetic"] > before["to_synthetic"], "where broadcast comes"
            testpmd.ask("quit", "ended")
        assert nic_of(pair, 1).path == "synthetic"
        assert pair.nic.owner(1) is None


def test_dpdk_s_netvsc_without_a_vf_reaches_both_kinds_of_path(pair: Vm) -> None:
    """The second time, after one that was killed and took no leave of the host."""
    mac, far_vf = mac_of(pair, 1), pair.netdevs[2]
    with peer(pair), on_uio(pair):
        path(pair, 2, "vf")
        with user(pair, "testpmd", "-", mac, "icmpecho", nic_of(pair, 1).uuid) as killed:
            killed.wait_for("ready", 150)
            killed.ask("kill", "ended")
        eventually(lambda: not nic_of(pair, 1).open, what="the channel's close")
        with user(pair, "testpmd", "-", mac, "icmpecho", nic_of(pair, 1).uuid) as testpmd:
            testpmd.wait_for("ready", 150)
            testpmd.ask("start", "started")
            before = station(pair, 1)
            ping(pair, netns="far", to="10.0.9.1")
            pair.run(f"ip -n far link set {far_vf} down")
            path(pair, 2, "synthetic")
            ping(pair, netns="far", to="10.0.9.1")
            after = station(pair, 1)
            assert (after["to_vf"], pair.nic.owner(1)) == (before["to_vf"], None)
            assert after["to_synthetic"] >= before["to_synthetic"] + 6
            testpmd.ask("quit", "ended")


def test_drivers_and_bus_go_and_leave_nothing(pair: Vm) -> None:
    bus = "hv_vmbus" if "hv_vmbus" in pair.run("cut -d' ' -f1 /proc/modules").out else "vmbus_lab"
    pair.run(f"ip link set {pair.twins[1]} up; rmmod hv_netvsc")
    assert pair.vmbus.violations() == []
    pair.run(f"rmmod {bus}")
    assert pair.run("test -e /sys/bus/vmbus", check=False).rc != 0
    assert pair.nic.owner(1) == "ethernet"
    pair.pair()
    assert pair.twins == {1: "eth0", 2: "eth1"}
