"""The lab's own ground: the real drivers accept the NIC, use all of it, and leave nothing behind.

Every test ends with the kernel's log free of warnings and the NIC free of complaints; the fixture
sees to that.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.scene import OF_A_RESET, down, names_every_port, owners, up
from tests.lab.users import eventually, user
from tests.lab.vm import Vm

COMPLAINT = re.compile(
    r"mana .*(fail|error|invalid|unexpected|unknown|timed out|wrong|out of range|exceeds|WARN)"
    r"|mana_ib .*fail",
    re.IGNORECASE,
)
PEER = "peer"


def requests(vm: Vm, since: int) -> list[dict[str, Any]]:
    return [event for event in vm.nic.history(since) if event["event"] == "request"]


def names(vm: Vm, since: int) -> list[str]:
    return [event["name"] for event in requests(vm, since)]


def failures(vm: Vm, since: int) -> list[dict[str, Any]]:
    """Requests that were not answered with success, or with the request for more pages."""
    return [event for event in requests(vm, since) if event["status"] not in {0, 0x105}]


def load(vm: Vm) -> None:
    vm.run("modprobe mana && modprobe mana_ib && modprobe ib_uverbs")
    eventually(lambda: rdma_devices(vm), what="RDMA devices")


def unload(vm: Vm) -> None:
    vm.run(["rmmod", "mana_ib", "mana"])


def rdma_devices(vm: Vm) -> list[str]:
    return vm.run("ls /sys/class/infiniband").out.split()


def apart(vm: Vm) -> tuple[str, str]:
    """Both ports up with addresses 10.1.0.x and fd01::x, the second in a namespace of its own."""
    first, second = vm.netdevs[1], vm.netdevs[2]
    vm.run(["ip", "netns", "add", PEER])
    vm.run(["ip", "link", "set", second, "netns", PEER])
    for where, name, last in (([], first, 1), (["-n", PEER], second, 2)):
        vm.run(["ip", *where, "addr", "add", f"10.1.0.{last}/24", "dev", name])
        vm.run(["ip", *where, "-6", "addr", "add", f"fd01::{last}/64", "dev", name, "nodad"])
        vm.run(["ip", *where, "link", "set", name, "up"])
    return first, second


def transfer(vm: Vm, address: str, mib: int) -> int:
    """Data from the first namespace to `address` in the peer's; Mbit/s for those who care."""
    with user(vm, "bulk", "serve", address, "0", netns=PEER) as server:
        port = str(server.wait_for("listening")["port"])
        with user(vm, "bulk", "send", address, port, str(mib)) as sender:
            sent = sender.wait_for("sent", 120)
        received = server.wait_for("received")
    assert received["bytes"] == mib << 20
    assert received["digest"] == sent["digest"]
    return int(sent["mbit_per_second"])


def statistics(vm: Vm, name: str) -> dict[str, int]:
    lines = vm.run(["ethtool", "-S", name]).out.splitlines()[1:]
    return {key.strip(): int(value) for key, _, value in (line.partition(":") for line in lines)}


def test_the_drivers_probe_it(vm: Vm) -> None:
    tainted = vm.get("/proc/sys/kernel/tainted")
    unload(vm)
    since, mark = vm.nic.sequence(), vm.dmesg_mark()
    load(vm)

    # The function is there, with its BARs, and the registers were accepted.
    place = f"/sys/bus/pci/devices/{vm.pci}"
    assert vm.run(f"cat {place}/vendor {place}/device").out.split() == ["0x1414", "0x00ba"]
    bars = [
        int(end, 16) - int(start, 16) + 1
        for start, end, _ in map(str.split, vm.get(f"{place}/resource").decode().splitlines())
        if int(end, 16)
    ]
    assert bars == [16 << 20, 8192]
    messages = [line.text for line in vm.kmsg(mark)]
    assert any("Azure Network Adapter protocol version: 0.1.1" in text for text in messages)
    assert [text for text in messages if COMPLAINT.search(text)] == []

    # The command channel came up, and everything asked over it was answered well.
    (established,) = [e for e in vm.nic.history(since) if e["event"] == "hwc-established"]
    assert all(int(established[name], 16) % 4096 == 0 for name in ("eq", "cq", "rq", "sq"))
    asked = names(vm, since)
    assert asked[:2] == ["GENERATE_TEST_EQE", "VERIFY_VF_DRIVER_VERSION"]
    assert {"LIST_DEVICES", "QUERY_MAX_RESOURCES", "MANA_QUERY_DEV_CONFIG"} <= set(asked)
    queried = [e["vport"] for e in requests(vm, since) if e["name"] == "MANA_QUERY_VPORT_CONFIG"]
    assert queried == [0, 1]
    assert failures(vm, since) == []

    # Interrupts, netdevs (down, with the given addresses), RDMA devices.
    interrupts = vm.get("/proc/interrupts").decode()
    assert f"mana_hwc@pci:{vm.pci}" in interrupts
    assert re.search(rf"mana_(msi|q)\d+@pci:{vm.pci}", interrupts)
    macs = [vport["mac"] for vport in vm.nic.state()["vports"]]
    for port, name in vm.netdevs.items():
        address = vm.get(f"/sys/class/net/{name}/address").decode().strip()
        assert address == macs[port - 1]
    assert len(vm.netdevs) == 2
    ports = {
        each: vm.run(f"ls /sys/class/infiniband/{each}/ports").out for each in rdma_devices(vm)
    }
    assert "1\n2\n" in ports.values()
    assert owners(vm) == {1: "free", 2: "free"}
    if names_every_port(vm):  # the generation that asks for statistics every two seconds
        eventually(lambda: "MANA_QUERY_GF_STAT" in names(vm, since), what="statistics")
    assert vm.get("/proc/sys/kernel/tainted") == tainted


@pytest.mark.parametrize("port", [1, 2])
def test_a_port_goes_up_and_down(vm: Vm, port: int) -> None:
    before, since, mark = vm.nic.state()["objects"], vm.nic.sequence(), vm.dmesg_mark()
    up(vm, port)
    vport = vm.nic.state()["vports"][port - 1]
    assert (vport["owner"], vport["rx"]) == ("ethernet", True)
    assert vport["sqs"] == vport["rqs"] >= 1
    assert owners(vm)[3 - port] == "free"
    said = [line.text for line in vm.kmsg(mark)]
    assert any(f"Configured steering vPort {port} entries 64" in text for text in said)
    down(vm, port)
    assert owners(vm)[port] == "free"
    assert vm.nic.state()["objects"] == before
    history = [e["event"] for e in vm.nic.history(since) if e.get("port") == port]
    assert history == ["vport-configured", "vport-released"]
    assert failures(vm, since) == []
    assert [line.text for line in vm.kmsg(mark) if COMPLAINT.search(line.text)] == []


@pytest.mark.parametrize(
    "part", ["MANA_CONFIG_VPORT_TX", "CREATE_DMA_REGION", "MANA_CREATE_WQ_OBJ"]
)
def test_an_open_that_fails_gives_the_port_back(vm: Vm, part: str) -> None:
    before = vm.nic.state()["objects"]
    vm.nic.fault(part, status=1)
    result = vm.run(["ip", "link", "set", vm.netdevs[1], "up"], check=False)
    assert result.rc != 0
    assert vm.nic.clear_faults() == 0
    assert owners(vm) == {1: "free", 2: "free"}
    assert vm.nic.state()["objects"] == before
    if part != "MANA_CONFIG_VPORT_TX" and not names_every_port(vm):
        # Before 7.x the driver also destroys queues that it never got, and keeps counting itself
        # as the vport's user: EBUSY until it is reloaded.
        assert {violation["rule"] for violation in vm.nic.violations()} == {"bad-handle"}
        vm.nic.clear_violations()
        unload(vm)
        load(vm)
    up(vm, 1)
    assert owners(vm)[1] == "ethernet"


@pytest.mark.parametrize("address", ["10.1.0.2", "fd01::2"], ids=["ipv4", "ipv6"])
def test_tcp_between_the_ports_in_large_sends(vm: Vm, address: str) -> None:
    name, peer = apart(vm)
    rate = transfer(vm, address, 16)
    print(f"{vm.release}: TCP at {rate} Mbit/s")
    large = {k: v for k, v in statistics(vm, name).items() if re.fullmatch(r"tx_\d+_tso_bytes", k)}
    assert sum(large.values()) > 8 << 20
    wrong = vm.run(["ip", "netns", "exec", PEER, "nstat", "-asz", "*InCsumErrors"]).out
    assert {int(line.split()[1]) for line in wrong.splitlines()[1:]} == {0}
    vports = vm.nic.state()["vports"]
    # A guest that is slow to give buffers back loses frames; TCP and the digest made up for it.
    assert vports[1]["rx_truncated"] == vports[0]["tx_errors"] == 0
    assert owners(vm) == {1: "ethernet", 2: "ethernet"}
    assert peer not in vm.netdevs.values()


def test_tagged_frames_keep_to_their_vlan(vm: Vm) -> None:
    name, peer = apart(vm)
    for tag in (5, 6):
        for where, on, last in (([], name, 1), (["-n", PEER], peer, 2)):
            vlan = f"v{tag}"
            words = ["link", "add", "link", on, "name", vlan, "type", "vlan", "id", str(tag)]
            vm.run(["ip", *where, *words])
            vm.run(["ip", *where, "addr", "add", f"10.{tag}.0.{last}/24", "dev", vlan])
            vm.run(["ip", *where, "link", "set", vlan, "up"])
    transfer(vm, "10.5.0.2", 2)
    received = "cat /sys/class/net/v{}/statistics/rx_bytes"
    counts = [
        int(vm.run(["ip", "netns", "exec", PEER, "sh", "-c", received.format(tag)]).out)
        for tag in (5, 6)
    ]
    assert counts[0] > 2 << 20
    assert counts[1] < 10_000


def test_flows_spread_over_the_receive_queues(vm: Vm) -> None:
    """Of which the driver makes one for each CPU."""
    name, _ = apart(vm)
    assert vm.nic.state()["vports"][0]["rss"] is True
    flood = (
        "import socket\n"
        "for port in range(2000, 2064):\n"
        "    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:\n"
        "        s.bind(('10.1.0.2', port)); s.sendto(b'x' * 64, ('10.1.0.1', 9))\n"
    )
    vm.run(["ip", "netns", "exec", PEER, "python3", "-c", flood])

    def spread() -> bool:
        counts = statistics(vm, name)
        return counts["rx_0_packets"] > 4 and counts["rx_1_packets"] > 4

    eventually(spread, what="packets in both queues")


@pytest.mark.parametrize("cycles", [10, pytest.param(200, marks=pytest.mark.soak)])
def test_probe_and_remove_leave_nothing(vm: Vm, cycles: int) -> None:
    """Whatever state the ports are in when the driver goes."""
    chance = random.Random(cycles)
    boot = vm.nic.state()["objects"]
    for cycle in range(cycles):
        ups = [port for port in (1, 2) if chance.random() < 0.6]
        up(vm, *ups)
        since = vm.nic.sequence()
        unload(vm)
        (gone,) = [e for e in vm.nic.history(since) if e["event"] == "hwc-destroyed"]
        assert gone["left"] == {}, f"cycle {cycle}, ports {ups} up"
        assert vm.nic.violations() == []
        load(vm)
        assert eventually(lambda: vm.nic.state()["objects"] == boot, what="objects as after boot")
    assert len(vm.netdevs) == 2


def test_the_link_goes_and_comes(vm: Vm) -> None:
    if not names_every_port(vm):
        vm.nic.link(up=False)  # older drivers ignore the event, and must not mind it
        up(vm, 1)
        return
    up(vm, 1)
    carrier = f"/sys/class/net/{vm.netdevs[1]}/carrier"
    vm.nic.link(up=False)
    eventually(lambda: vm.get(carrier).strip() == b"0", what="no carrier")
    vm.nic.link(up=True)
    eventually(lambda: vm.get(carrier).strip() == b"1", what="carrier")


def test_a_reset_cycle_brings_everything_back(make_vm: Callable[..., Vm]) -> None:
    vm = make_vm("7")
    up(vm, 1)
    boot, since = vm.nic.state()["objects"], vm.nic.sequence()
    mark = vm.dmesg_mark()
    vm.tolerate_kmsg(*OF_A_RESET)
    vm.nic.reset_request()
    vm.wait_kmsg("MANA reset cycle completed", since=mark, timeout=120)
    assert eventually(lambda: vm.nic.state()["objects"] == boot, what="objects as before")
    assert owners(vm) == {1: "ethernet", 2: "free"}
    events = [e["event"] for e in vm.nic.history(since)]
    assert events.count("hwc-destroyed") == events.count("hwc-established") == 1


@pytest.mark.parametrize("prefix", ["6.18", "7"])
def test_without_rnic_and_with_four_ports(make_vm: Callable[..., Vm], prefix: str) -> None:
    vm = make_vm(prefix, ports=4, rnic=False)
    assert len(vm.netdevs) == 4
    (device,) = rdma_devices(vm)
    assert vm.run(f"ls /sys/class/infiniband/{device}/ports").out.split() == ["1", "2", "3", "4"]
    up(vm, 1, 2, 3, 4)
    assert set(owners(vm).values()) == {"ethernet"}
    assert 3 not in vm.nic.state()["registered"]
