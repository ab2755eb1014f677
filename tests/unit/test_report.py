"""The whole look at recorded machines, and at what becomes of it when parts cannot be read."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from manactl.errors import UsageError
from manactl.look.links import LinkFacts
from manactl.look.netns import Elsewhere
from manactl.model.port import Certainty, Netdev, Owner, PortStatus, RdmaPort
from manactl.report import resolve
from manactl.wire.nldev import ATTRS
from tests.unit.machine import PCI, FakeRdma, Machine, noted

KERNELS = ["6.12", "6.18", "7"]
Make = Callable[[str], Machine]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return lambda recording: Machine(tmp_path / "machine", recording)


def owners(machine: Machine) -> list[tuple[Owner, Certainty]]:
    return [(port.owner, port.certainty) for port in machine.look().ports]


def nldev(machine: Machine) -> FakeRdma:
    assert machine.rdma is not None
    return machine.rdma


@pytest.mark.parametrize("kernel", KERNELS)
def test_idle_ports_are_free(make: Make, kernel: str) -> None:
    machine = make(f"{kernel}-idle")
    report = machine.look()
    assert [(port.owner, port.certainty) for port in report.ports] == [
        (Owner.FREE, Certainty.PROVEN)
    ] * 2
    first, second = report.ports
    assert (first.id.pci, first.id.port, second.id.port) == (PCI, 1, 2)
    assert first.netdev is not None
    assert first.netdev.name == "eth0"
    assert first.id.permanent_mac == first.netdev.mac == "02:15:5d:00:00:01"
    device = "mana_0" if kernel == "6.12" else "manae_0"
    others = () if kernel == "6.12" else ("mana_0/1",)
    assert first.rdma == RdmaPort(device, 1, others)
    assert second.rdma == RdmaPort(device, 2, ())
    assert {item.source for item in report.missing} == ({"debugfs"} if kernel == "6.12" else set())


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_raw_qp_and_its_holder_are_found(make: Make, kernel: str) -> None:
    machine = make(f"{kernel}-raw-qp-on-port-2")
    machine.holder(4211, cgroup="0::/system.slice/fwd.service\n")
    first, second = machine.look().ports
    assert (first.owner, first.certainty) == (Owner.ETHERNET, Certainty.PROVEN)
    assert (second.owner, second.certainty) == (Owner.RAW_QP, Certainty.PROVEN)
    assert first.holders == ()
    (holder,) = second.holders
    assert (holder.pid, holder.comm, holder.uid) == (4211, "testpmd", 1000)
    assert (holder.exe, holder.unit) == ("/usr/bin/testpmd", "fwd.service")
    assert holder.since is not None
    assert holder.since.timestamp() == 1700000005
    assert noted(second)["rdma-link-down"] == ("mana_0" if kernel == "6.12" else "manae_0", 2)
    assert ("proc", [4211]) in [(item.source, item.value) for item in second.evidence]


@pytest.mark.parametrize("kernel", KERNELS)
def test_more_contexts_than_descriptors_are_a_holder_that_is_not_visible(
    make: Make, kernel: str
) -> None:
    machine = make(f"{kernel}-raw-qp-on-port-2")
    machine.holder(4211)
    assert machine.rdma
    (raw,) = (one for one in machine.rdma.recorded if one["raw_qp_tracked"])
    raw["contexts"] += [one for one in raw["contexts"] if not one["kernel"]]
    first, second = machine.look().ports
    assert noted(second)["contexts-unseen"] == (2, 1)
    assert "contexts-unseen" not in noted(first)
    machine.holder(4212)  # shared or its own: enough descriptors for all contexts
    _, second = machine.look().ports
    assert "contexts-unseen" not in noted(second)


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_a_visible_holder_that_is_said(make: Make, kernel: str) -> None:
    _, second = make(f"{kernel}-raw-qp-on-port-2").look().ports
    assert second.holders == ()
    assert "holder-unseen" in noted(second)


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_debugfs_and_with_both_down_the_ports_are_candidates(
    make: Make, kernel: str
) -> None:
    machine = make(f"{kernel}-raw-qp-on-port-2")
    machine.remove(machine.path("/sys/kernel/debug"))
    machine.path("/sys/kernel/debug").mkdir()
    machine.pci("net/eth0/flags").write_text("0x1002\n")
    machine.holder(7)
    report = machine.look()
    for port in report.ports:
        assert port.owner is Owner.UNKNOWN
        assert port.candidates == (f"{PCI}:1", f"{PCI}:2")
        assert [holder.pid for holder in port.holders] == [7]
        assert noted(port)["candidates"] == ("eth0", "eth1")
    assert ("debugfs", "not mounted") in [(item.source, item.why) for item in report.missing]


REFUSALS = [
    OSError(errno.EPERM, "Operation not permitted"),
    OSError(errno.EOPNOTSUPP, "Operation not supported"),
    ValueError("attribute at 0: length 3 of 8"),
    KeyError(ATTRS["DEV_INDEX"]),
]


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("state", ["idle", "raw-qp-on-port-2"])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    "broken",
    [
        ["devices"],
        ["raw_qp_tracked"],
        ["contexts"],
        ["contexts", "pds"],
        ["contexts", "pds", "cqs"],
        ["raw_qp_tracked", "contexts", "pds", "cqs", "summary"],
    ],
    ids="+".join,
)
def test_what_nldev_refuses_is_missing_and_never_makes_a_lie(
    make: Make, kernel: str, state: str, broken: list[str], error: Exception
) -> None:
    machine = make(f"{kernel}-{state}")
    nldev(machine).fail = dict.fromkeys(broken, error)
    report = machine.look()
    assert "nldev" in {item.source for item in report.missing}
    truth = [Owner.FREE] * 2 if state == "idle" else [Owner.ETHERNET, Owner.RAW_QP]
    for port, owner in zip(report.ports, truth, strict=True):
        assert port.owner in (owner, Owner.UNKNOWN)
        if port.owner is Owner.UNKNOWN and owner is Owner.RAW_QP:
            assert str(port.id) in port.candidates
    assert report.ports[0].rdma is not None


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_netdev_elsewhere_is_a_port_all_the_same(make: Make, kernel: str) -> None:
    machine = make(f"{kernel}-idle")
    machine.remove(machine.pci("net/eth1"))
    _, second = machine.look().ports
    assert (second.id.port, second.netdev) == (2, None)
    assert second.id.permanent_mac is None
    assert second.label == f"{PCI}:2"
    # 7.x shows that the vport has no queues; before, it may be up in another namespace.
    assert second.owner is (Owner.FREE if kernel == "7" else Owner.UNKNOWN)
    assert ("netdev-elsewhere" in noted(second)) is (kernel == "7")
    assert ("netdev-elsewhere-maybe-up" in noted(second)) is (kernel != "7")


@pytest.mark.parametrize("flags", [0x1002, 0x1003], ids=["down", "up"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_netdev_found_in_another_namespace_is_evidence(
    make: Make, kernel: str, flags: int
) -> None:
    machine = make(f"{kernel}-idle")
    machine.remove(machine.pci("net/eth1"))
    # The name and the index are those of another netdev here.
    netdev = Netdev("eth0", 2, flags, "down", None, "02:15:5d:00:00:02", "02:15:5d:00:00:02")
    machine.netns.found[1] = Elsewhere("blue", netdev)
    machine.links.answers = {2: LinkFacts("eth0", ("mine",), None, "02:15:5d:00:00:01", None)}
    if flags & 1 and kernel != "6.12":
        for made in ("EQs", "RX-0") if kernel == "7" else ("RX-0",):
            (vport,) = machine.path("/sys/kernel/debug/mana").glob("*/vport1")
            (vport / made).mkdir()
    report = machine.look()
    first, second = report.ports
    assert (second.netns, second.label) == ("blue", f"{PCI}:2")
    assert second.owner is (Owner.ETHERNET if flags & 1 else Owner.FREE)
    assert second.certainty is Certainty.PROVEN
    assert second.id.permanent_mac == "02:15:5d:00:00:02"
    assert second.netdev is not None
    assert second.netdev.altnames is None
    assert noted(second)["netdev-in-netns"] == ("eth0", "blue")
    assert [port.id for port in resolve(report, ["eth0"])] == [first.id]


def test_namespaces_that_cannot_be_searched_are_missing(make: Make) -> None:
    machine = make("6.18-idle")
    machine.remove(machine.pci("net/eth1"))
    machine.netns.fail = PermissionError(errno.EPERM, "Operation not permitted")
    report = machine.look()
    assert ("netns", "other network namespaces: Operation not permitted") in [
        (item.source, item.why) for item in report.missing
    ]
    assert report.ports[1].owner is Owner.UNKNOWN
    assert report.ports[1].netns is None


NETDEVS = {
    number: Netdev(f"eth{number}", 2 + number, flags, "down", None, None, f"02:15:5d:00:00:0{n}")
    for number, n, flags in [(0, 1, 0x1003), (1, 2, 0x1002)]
}


@pytest.mark.parametrize("busy", [False, True], ids=["", "busy"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_sysfs_of_another_namespace_is_not_believed_to_be_here(
    make: Make, kernel: str, busy: bool
) -> None:
    """`nsenter --net` keeps the caller's /sys; eth1 is where we are now, and looks so too."""
    machine = make(f"{kernel}-raw-qp-on-port-2")
    machine.links.here = {"eth1"}
    machine.netns.found = {0: Elsewhere("blue", NETDEVS[0]), 1: Elsewhere("", NETDEVS[1])}
    if busy:
        machine.links.answers = None
    report = machine.look()
    first, second = report.ports
    assert (first.netns, second.netns) == ("blue", None)
    assert (first.label, second.label) == (f"{PCI}:1", "eth1")
    assert [port.owner for port in report.ports] == [Owner.ETHERNET, Owner.RAW_QP]
    assert "sysfs" in {item.source for item in report.missing}


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_link_with_the_name_and_the_index_of_the_port_is_not_the_port(
    make: Make, kernel: str
) -> None:
    machine = make(f"{kernel}-raw-qp-on-port-2")
    machine.netns.fail = PermissionError(errno.EPERM, "Operation not permitted")
    machine.links.answers = {2: LinkFacts("eth0", (), True, "02:00:00:00:00:77", "veth", "")}
    first, second = machine.look().ports
    assert (first.netdev, second.netdev) == (None, None)
    assert [first.owner, second.owner] == [Owner.ETHERNET, Owner.RAW_QP]  # by the flags in sysfs


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_netdev_that_our_sysfs_does_not_show_may_be_here(make: Make, kernel: str) -> None:
    machine = make(f"{kernel}-raw-qp-on-port-2")
    machine.remove(machine.pci("net/eth1"))
    machine.netns.found = {1: Elsewhere("", NETDEVS[1])}
    machine.links.answers = {3: LinkFacts("eth1", ("mine",), None, None, None, PCI)}
    second = machine.look().ports[1]
    assert (second.netns, second.label, second.owner) == (None, "eth1", Owner.RAW_QP)
    assert second.netdev is not None
    assert second.netdev.altnames == ("mine",)


def test_a_netdev_that_moves_while_it_is_looked_at_does_not_discredit_sysfs(make: Make) -> None:
    machine = make("7-idle")
    collect, netns = machine.links.collect, machine.netns

    def moved() -> Mapping[int, LinkFacts] | None:
        if machine.pci("net/eth1").exists():
            machine.remove(machine.pci("net/eth1"))
            netns.found = {1: Elsewhere("blue", NETDEVS[1])}
        return collect()

    machine.links.collect = moved  # type: ignore[method-assign]
    report = machine.look()
    assert [port.netns for port in report.ports] == [None, "blue"]
    assert report.missing == ()


def test_rdma_devices_are_told_apart_by_shape_not_by_name(make: Make) -> None:
    machine = make("7-raw-qp-on-port-2")
    for old, new in (("manae_0", "rdmap1s0"), ("mana_0", "manae_0")):
        machine.pci(f"infiniband/{old}").rename(machine.pci(f"infiniband/{new}"))
        for ibdev in machine.pci("infiniband_verbs").glob("*/ibdev"):
            if ibdev.read_text().strip() == old:
                ibdev.write_text(new + "\n")
        for one in nldev(machine).recorded:
            if one["device"]["name"] == old:
                one["device"]["name"] = new
    machine.holder(7)
    first, second = machine.look().ports
    assert first.rdma == RdmaPort("rdmap1s0", 1, ("manae_0/1",))
    assert second.owner is Owner.RAW_QP
    assert [holder.pid for holder in second.holders] == [7]


def test_without_an_rdma_driver_a_down_port_is_free(make: Make) -> None:
    machine = make("6.18-idle")
    machine.remove(machine.pci("infiniband"))
    for auxiliary in machine.path(f"/sys/bus/pci/devices/{PCI}").glob("mana.*"):
        (auxiliary / "driver").unlink()
    assert owners(machine) == [(Owner.FREE, Certainty.PROVEN)] * 2
    assert machine.look().ports[0].rdma is None


def test_rdma_devices_of_another_namespace_leave_it_open(make: Make) -> None:
    machine = make("6.18-idle")
    machine.remove(machine.pci("infiniband"))
    nldev(machine).recorded = []
    assert owners(machine) == [(Owner.UNKNOWN, Certainty.UNKNOWN)] * 2


def test_two_devices_that_look_alike_leave_it_open(make: Make) -> None:
    machine = make("6.18-idle")
    machine.pci("infiniband/mana_0/node_guid").write_text("0000:0000:0000:0000\n")
    for one in nldev(machine).recorded:
        one["device"]["protocol"] = None
    report = machine.look()
    assert {port.owner for port in report.ports} == {Owner.UNKNOWN}
    assert any("cannot be told" in item.why for item in report.missing)


def test_a_busy_kernel_costs_altnames_and_nothing_else(make: Make) -> None:
    machine = make("7-raw-qp-on-port-2")
    machine.links.answers = None
    report = machine.look()
    assert [port.owner for port in report.ports] == [Owner.ETHERNET, Owner.RAW_QP]
    netdev = report.ports[0].netdev
    assert netdev is not None
    assert (netdev.altnames, netdev.carrier) == (None, True)
    assert netdev.permanent_mac == "02:15:5d:00:00:01"
    assert any("RTNL" in item.why for item in report.missing if item.source == "rtnetlink")


def test_rtnetlink_adds_what_sysfs_does_not_tell(make: Make) -> None:
    machine = make("7-raw-qp-on-port-2")
    machine.pci("net/eth0/addr_assign_type").write_text("3\n")
    machine.links.answers = {
        2: LinkFacts("eth0", ("enP1", "data"), False, "02:15:5d:00:00:99", None),
        3: LinkFacts("renamed", ("new",), True, "02:15:5d:00:00:02", None),  # since sysfs was read
    }
    first, second = machine.look().ports
    assert machine.links.asked == {2, 3}
    assert first.netdev is not None
    assert second.netdev is not None
    assert first.netdev.altnames == ("enP1", "data")
    assert first.netdev.carrier is False
    assert first.id.permanent_mac == "02:15:5d:00:00:99"
    assert second.netdev.altnames is None
    assert second.netdev.carrier is None  # down: there is no telling
    assert second.id.permanent_mac == "02:15:5d:00:00:02"


def test_a_mac_set_by_somebody_is_not_taken_for_the_permanent_one(make: Make) -> None:
    machine = make("7-idle")
    machine.pci("net/eth0/addr_assign_type").write_text("3\n")
    first = machine.look().ports[0]
    assert first.netdev is not None
    assert first.netdev.mac == "02:15:5d:00:00:01"
    assert first.id.permanent_mac is None


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_device_in_reset_is_not_owned_by_its_flags(make: Make, kernel: str) -> None:
    """The driver takes the RDMA devices and debugfs away, closes the netdev and keeps IFF_UP."""
    machine = make(f"{kernel}-raw-qp-on-port-2")
    machine.remove(machine.pci("infiniband"))
    for child in machine.path(f"/sys/bus/pci/devices/{PCI}").glob("mana.*"):
        machine.remove(child)
    machine.remove(machine.path("/sys/kernel/debug"))
    machine.path("/sys/kernel/debug").mkdir()
    first, second = machine.look().ports
    assert (first.owner, first.certainty) == (Owner.UNKNOWN, Certainty.UNKNOWN)
    assert {"in-transition", "owner-unknown"} <= set(noted(first))
    assert second.owner is Owner.FREE  # with the RDMA device its queue pairs have gone


def test_a_function_that_has_no_port_is_mentioned(make: Make) -> None:
    machine = make("7-idle")
    for part in (machine.pci("infiniband"), machine.pci("net")):
        machine.remove(part)
    machine.remove(machine.path("/sys/kernel/debug/mana"))
    report = machine.look()
    assert report.ports == ()
    assert any("has no port" in item.why for item in report.missing)


@pytest.mark.parametrize("kernel", KERNELS)
def test_who_waits_in_the_driver_is_named(make: Make, kernel: str) -> None:
    machine = make(f"{kernel}-idle")
    machine.write("/proc/41/stat", "41 (ip (x)) D 1 1\n")
    machine.write(
        "/proc/41/stack",
        "[<0>] mana_hwc_send_request+0x291/0x360 [mana]\n[<0>] do_setlink+0x9/0x12\n",
    )
    machine.write("/proc/42/stat", "42 (kworker/0:1+events) D 1 1\n")
    machine.write("/proc/42/stack", "[<0>] netdev_work_proc+0x14/0x1f0\n")
    machine.write("/proc/43/stat", "43 (running) R 1 1\n")
    machine.write("/proc/43/stack", "[<0>] mana_hwc_send_request+0x291/0x360 [mana]\n")
    machine.write("/proc/44/stat", "44 (not ours to see) D 1 1\n")
    (why,) = [item.why for item in machine.look().missing if item.source == "mana"]
    assert why.startswith("ip (x) 41 waits in the driver (mana_hwc_send_request)")


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_queue_pair_in_the_making_leaves_no_port_free(make: Make, kernel: str) -> None:
    """The kernel counts and shows it when it is made; the vport is taken before."""
    machine = make(f"{kernel}-idle")
    machine.write("/proc/41/stat", "41 (testpmd) D 1 1\n")
    stack = (
        "[<0>] mana_hwc_send_request+0x2/0x3 [mana]\n[<0>] mana_ib_create_qp+0x1/0x2 [mana_ib]\n"
    )
    machine.write("/proc/41/stack", stack)
    for port in machine.look().ports:
        assert port.owner is Owner.UNKNOWN
        assert port.candidates == (f"{PCI}:1", f"{PCI}:2")
    machine.write("/proc/41/stack", stack.replace("create", "destroy"))
    assert owners(machine) == [(Owner.FREE, Certainty.PROVEN)] * 2


def test_a_port_that_changes_is_looked_at_again(make: Make) -> None:
    """The netdev comes up while nldev is read: what is reported fits together."""
    machine = make("7-idle")
    asked: list[str] = []

    def open_once(what: str) -> None:
        asked.append(what)
        if len(asked) == 1:
            machine.pci("net/eth0/flags").write_text("0x1003\n")
            for made in ("EQs", "RX-0"):
                machine.path(f"/sys/kernel/debug/mana/{PCI}/vport0/{made}").mkdir()

    nldev(machine).on_ask.append(open_once)
    first, _ = machine.look().ports
    assert (first.owner, first.certainty) == (Owner.ETHERNET, Certainty.PROVEN)
    assert asked.count("pds") == 2


def test_a_port_that_never_rests_is_reported_as_such(make: Make) -> None:
    machine = make("7-idle")
    flags = machine.pci("net/eth0/flags")

    def change(what: str) -> None:
        if what == "pds":  # once a look
            flags.write_text("0x1003\n" if "2" in flags.read_text() else "0x1002\n")

    nldev(machine).on_ask.append(change)
    first, _ = machine.look().ports
    assert "kept-changing" in noted(first)


def test_a_netdev_that_vanishes_during_the_read_is_left_out(make: Make) -> None:
    machine = make("7-idle")
    machine.remove(machine.pci("net/eth1/ifindex"))
    _, second = machine.look().ports
    assert second.netdev is None


def test_the_master_is_named(make: Make) -> None:
    machine = make("7-raw-qp-on-port-2")
    machine.write("/sys/class/net/bond0/ifindex", "9\n")
    machine.write("/sys/class/net/bond0/uevent", "DEVTYPE=bond\nINTERFACE=bond0\n")
    machine.pci("net/eth0/master").symlink_to("../../../../../virtual/net/bond0")
    first, _ = machine.look().ports
    assert first.upper is not None
    assert (first.upper.netdev, first.upper.kind) == ("bond0", "bond")
    assert machine.links.asked == {2, 3, 9}


def test_a_netvsc_master_is_told_by_its_driver(make: Make) -> None:
    machine = make("7-idle")
    device = "/sys/devices/f8615163-0000-1000-2000-000d3aaa0010"
    machine.path(device).mkdir(parents=True)
    (machine.path(device) / "driver").symlink_to("../../bus/vmbus/drivers/hv_netvsc")
    machine.write("/sys/class/net/eth9/ifindex", "9\n")
    machine.path("/sys/class/net/eth9/device").symlink_to(machine.path(device))
    machine.pci("net/eth0/master").symlink_to("../../../../../virtual/net/eth9")
    first, _ = machine.look().ports
    assert first.upper is not None
    assert (first.upper.kind, first.upper.vmbus) == (
        "netvsc",
        "f8615163-0000-1000-2000-000d3aaa0010",
    )


def test_a_function_without_its_driver_is_mentioned(make: Make) -> None:
    machine = make("7-idle")
    other = "/sys/bus/pci/devices/0000:02:00.0"
    machine.write(f"{other}/vendor", "0x1414\n")
    machine.write(f"{other}/device", "0x00ba\n")
    machine.path(f"{other}/driver").symlink_to("../../drivers/vfio-pci")
    whys = [item.why for item in machine.look().missing]
    assert any("0000:02:00.0" in why and "vfio-pci" in why for why in whys)


def test_no_mana_at_all(tmp_path: Path, make: Make) -> None:
    machine = make("7-idle")
    machine.remove(machine.path("/sys"))
    report = machine.look()
    assert report.ports == ()
    assert report.missing == ()
    assert report.kernel == os.uname().release
    assert machine.links.asked == set()


def named(machine: Machine, *words: str) -> list[str]:
    return [port.label for port in resolve(machine.look(), words)]


def test_every_way_to_name_a_port(make: Make) -> None:
    machine = make("7-idle")
    machine.links.answers = {3: LinkFacts("eth1", ("data",), None, None, None)}
    words = ["eth1", "data", f"{PCI}:2", "02:15:5D:00:00:02", "manae_0/2"]
    assert named(machine, *words) == ["eth1"]
    assert named(machine, "mana_0/1", "eth1", "eth0") == ["eth0", "eth1"]


@pytest.mark.parametrize("word", ["eth7", "ETH1", "", f"{PCI}:3", "manae_0/3", "manae_0", "1"])
def test_an_unknown_name_lists_the_ports(make: Make, word: str) -> None:
    with pytest.raises(UsageError, match="names no port") as caught:
        named(make("7-idle"), "eth0", word)
    assert caught.value.hint is not None
    assert "eth0" in caught.value.hint
    assert "manae_0/2" in caught.value.hint


def test_a_master_of_two_ports_is_ambiguous(make: Make) -> None:
    machine = make("7-idle")
    for port in ("eth0", "eth1"):
        machine.pci(f"net/{port}/master").symlink_to("../../../../../virtual/net/bond0")
    with pytest.raises(UsageError, match="ambiguous: eth0, eth1"):
        named(machine, "bond0")


def labels(ports: tuple[PortStatus, ...]) -> list[str]:
    return [port.label for port in ports]


def test_without_flags_the_admin_state_is_unknown(make: Make) -> None:
    machine = make("6.12-raw-qp-on-port-2")
    machine.pci("net/eth0/flags").write_text("\n")
    report = machine.look()
    assert labels(report.ports) == ["eth0", "eth1"]
    assert {port.owner for port in report.ports} == {Owner.UNKNOWN}
