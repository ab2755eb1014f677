"""Ports as sysfs shows them, by a sysfs made of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from manactl.look import sysfs
from manactl.look.sysfs import PortNetdev, RdmaNode, Roots
from manactl.model.port import Netdev, Owner
from tests.unit.machine import PCI, Make


def test_a_mac_set_by_somebody_is_not_taken_for_the_permanent_one(make: Make) -> None:
    machine = make("7-idle")
    machine.pci("net/eth0/addr_assign_type").write_text("3\n")
    first = machine.look().ports[0]
    assert first.netdev is not None
    assert first.netdev.mac == "02:15:5d:00:00:01"
    assert first.id.permanent_mac is None


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


def test_without_flags_the_admin_state_is_unknown(make: Make) -> None:
    machine = make("6.12-raw-qp-on-port-2")
    machine.pci("net/eth0/flags").write_text("\n")
    report = machine.look()
    assert [port.label for port in report.ports] == ["eth0", "eth1"]
    assert {port.owner for port in report.ports} == {Owner.UNKNOWN}


class Sysfs:
    """A /sys of one function, made file by file."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.roots = Roots(str(base), "")

    def write(self, path: str, text: str) -> None:
        (self.base / path).parent.mkdir(parents=True, exist_ok=True)
        (self.base / path).write_text(text)

    def link(self, path: str, target: str) -> None:
        (self.base / path).parent.mkdir(parents=True, exist_ok=True)
        (self.base / path).symlink_to(target)

    def netdev(self, name: str, **files: str) -> None:
        given = {"dev_port": "0", "ifindex": "3", "flags": "0x1003", "operstate": "up",
                 "address": "02:15:5d:00:00:01", "addr_assign_type": "0"} | files  # fmt: skip
        for file, text in given.items():
            self.write(f"{OF_FUNCTION}/net/{name}/{file}", f"{text}\n")


OF_FUNCTION = f"bus/pci/devices/{PCI}"


@pytest.fixture
def tree(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path)


def test_the_functions_are_those_that_the_driver_has(tree: Sysfs) -> None:
    assert sysfs.functions(tree.roots) == []
    for name in ("0000:02:00.0", "0000:01:00.0", "bind", "module", "new_id"):
        tree.write(f"bus/pci/drivers/mana/{name}", "")
    assert sysfs.functions(tree.roots) == ["0000:01:00.0", "0000:02:00.0"]


@pytest.mark.parametrize(
    ("vendor", "device", "driver", "found"),
    [
        ("0x1414", "0x00ba", None, True),
        ("0x1414", "0x00b9", "vfio-pci", True),
        ("0x1414", "0x00c1", "uio_pci_generic", True),
        ("0x1414", "0x00ba", "mana", False),
        ("0x1414", "0x5353", None, False),  # Hyper-V's video
        ("0x15b3", "0x00ba", None, False),
    ],
)
def test_functions_that_the_driver_does_not_have(
    tree: Sysfs, vendor: str, device: str, driver: str | None, found: bool
) -> None:
    tree.write(f"{OF_FUNCTION}/vendor", vendor + "\n")
    tree.write(f"{OF_FUNCTION}/device", device + "\n")
    if driver:
        tree.link(f"{OF_FUNCTION}/driver", f"../../../bus/pci/drivers/{driver}")
    assert sysfs.unbound(tree.roots) == ([(PCI, driver)] if found else [])


def test_every_field_of_a_netdev_comes_from_its_file(tree: Sysfs) -> None:
    tree.netdev("eth7", dev_port="1", ifindex="9", flags="0x1002", operstate="down")
    tree.link(f"{OF_FUNCTION}/net/eth7/master", "../../../../virtual/net/bond0")
    (found,) = sysfs.netdevs(tree.roots, PCI)
    mac = "02:15:5d:00:00:01"
    assert found == PortNetdev(
        Netdev("eth7", 9, 0x1002, "down", None, mac, mac, altnames=None, master="bond0"), 1
    )


def test_netdevs_come_by_name_and_each_with_its_vport(tree: Sysfs) -> None:
    tree.netdev("b", dev_port="0")
    tree.netdev("a", dev_port="1")
    assert [(one.netdev.name, one.dev_port) for one in sysfs.netdevs(tree.roots, PCI)] == [
        ("a", 1),
        ("b", 0),
    ]


@pytest.mark.parametrize("file", ["dev_port", "ifindex"])
@pytest.mark.parametrize("text", ["", "none"])
def test_a_netdev_without_its_place_or_number_is_none(tree: Sysfs, file: str, text: str) -> None:
    tree.netdev("eth0", **{file: text})
    assert list(sysfs.netdevs(tree.roots, PCI)) == []


def test_what_a_netdev_does_not_tell_is_unknown(tree: Sysfs) -> None:
    tree.netdev("eth0", flags="", address="", addr_assign_type="")
    (tree.base / OF_FUNCTION / "net/eth0/operstate").unlink()
    (found,) = sysfs.netdevs(tree.roots, PCI)
    netdev = found.netdev
    assert (netdev.flags, netdev.operstate, netdev.carrier) == (None, None, None)
    assert (netdev.mac, netdev.permanent_mac, netdev.master) == (None, None, None)


@pytest.mark.parametrize(
    ("kind", "permanent"), [("0", True), ("1", False), ("2", False), ("3", False), ("", False)]
)
def test_a_mac_is_permanent_when_the_kernel_says_so(
    tree: Sysfs, kind: str, permanent: bool
) -> None:
    tree.netdev("eth0", addr_assign_type=kind)
    (found,) = sysfs.netdevs(tree.roots, PCI)
    assert (found.netdev.permanent_mac is not None) is permanent


@pytest.mark.parametrize(
    ("flags", "operstate", "carrier"),
    [
        ("0x1003", "up", True),
        ("0x1003", "dormant", True),
        ("0x1003", "down", False),
        ("0x1003", "lowerlayerdown", False),
        ("0x1003", "unknown", None),
        ("0x1003", "", None),
        ("0x1002", "up", None),
        ("", "up", None),
    ],
)
def test_the_carrier_of_an_open_netdev_by_its_operstate(
    tree: Sysfs, flags: str, operstate: str, carrier: bool | None
) -> None:
    tree.netdev("eth0", flags=flags, operstate=operstate)
    (found,) = sysfs.netdevs(tree.roots, PCI)
    assert found.netdev.carrier is carrier


def test_the_rdma_devices_and_what_opens_them(tree: Sysfs) -> None:
    for name, guid, ports in (
        ("b", "0000:0000:0000:0000", "21"),
        ("a", "1234:0000:0000:000f", "1"),
    ):
        tree.write(f"{OF_FUNCTION}/infiniband/{name}/node_guid", f"{guid}\n")
        for port in ports:
            tree.write(f"{OF_FUNCTION}/infiniband/{name}/ports/{port}/state", "")
    tree.write(f"{OF_FUNCTION}/infiniband/b/ports/extra/state", "")
    for node, name, dev in (("uverbs1", "b", "231:193"), ("uverbs0", "b", "231:192"),
                            ("uverbs2", "gone", "231:194"), ("uverbs3", "b", "")):  # fmt: skip
        tree.write(f"{OF_FUNCTION}/infiniband_verbs/{node}/ibdev", f"{name}\n")
        tree.write(f"{OF_FUNCTION}/infiniband_verbs/{node}/dev", f"{dev}\n")
    function = sysfs.function(tree.roots, PCI)
    assert function.rdma == (
        RdmaNode("a", 0x123400000000000F, (1,), ()),
        RdmaNode("b", 0, (1, 2), (os.makedev(231, 192), os.makedev(231, 193))),
    )
    assert (function.pci, function.netdevs) == (PCI, ())
    assert (function.rdma_driver, function.auxiliary) == (True, False)


def test_an_rdma_device_without_a_guid_has_none(tree: Sysfs) -> None:
    tree.write(f"{OF_FUNCTION}/infiniband/a/ports/1/state", "")
    assert sysfs.function(tree.roots, PCI).rdma == (RdmaNode("a", None, (1,), ()),)


@pytest.mark.parametrize("bound", [False, True])
def test_an_auxiliary_device_tells_of_a_driver_whose_devices_are_elsewhere(
    tree: Sysfs, bound: bool
) -> None:
    tree.write(f"{OF_FUNCTION}/mana.eth.0/uevent", "")
    tree.write(f"{OF_FUNCTION}/mana.rdma.0/uevent", "")
    if bound:  # the target is not there: what counts is the link
        tree.link(f"{OF_FUNCTION}/mana.rdma.0/driver", "../../nowhere")
    function = sysfs.function(tree.roots, PCI)
    assert (function.rdma_driver, function.auxiliary) == (bound, True)


def test_a_function_that_is_gone_is_empty(tree: Sysfs) -> None:
    assert sysfs.function(tree.roots, PCI) == sysfs.Function(PCI, (), (), False, False)


def test_the_slot_of_a_function_has_its_address_without_the_last_number(tree: Sysfs) -> None:
    for slot, address in (("2", "0000:01:00"), ("3", "0000:02:00"), ("4", "")):
        tree.write(f"bus/pci/slots/{slot}/address", f"{address}\n")
    assert sysfs.slot_names(tree.roots, PCI) == ["2"]
    assert sysfs.slot_names(tree.roots, "0000:03:00.0") == []


@pytest.mark.parametrize(
    ("driver", "uevent", "kind"),
    [
        ("hv_netvsc", "DEVTYPE=bond\n", ("netvsc", "f861")),
        ("virtio_net", "INTERFACE=x\nDEVTYPE=bond\n", ("bond", None)),
        (None, "INTERFACE=DEVTYPE=x\nDEVTYPE=vlan\nDEVTYPE=y\n", ("vlan", None)),
        (None, "INTERFACE=x\n", (None, None)),
        (None, None, (None, None)),
    ],
)
def test_the_kind_of_an_upper(
    tree: Sysfs, driver: str | None, uevent: str | None, kind: tuple[str | None, str | None]
) -> None:
    if driver:
        (tree.base / "devices/f861").mkdir(parents=True)
        tree.link("devices/f861/driver", f"../../bus/vmbus/drivers/{driver}")
        tree.link("class/net/up0/device", "../../../devices/f861")
    if uevent is not None:
        tree.write("class/net/up0/uevent", uevent)
    assert sysfs.upper_kind(tree.roots, "up0") == kind


def test_names_that_are_not_utf8_are_kept(tree: Sysfs) -> None:
    tree.netdev("eth0")
    (tree.base / OF_FUNCTION / "net/eth0/operstate").write_bytes(b"u\xe2p\n")
    (found,) = sysfs.netdevs(tree.roots, PCI)
    assert found.netdev.operstate == "u\udce2p"


@pytest.mark.parametrize("backwards", [False, True])
def test_whatever_the_order_of_directories_things_come_by_name(
    tree: Sysfs, backwards: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (0, 1, 2):
        tree.netdev(f"eth{number}", dev_port=str(number))
        tree.write(f"{OF_FUNCTION}/infiniband/mana_{number}/ports/1/state", "")
        verbs = f"{OF_FUNCTION}/infiniband_verbs/uverbs{number}"
        tree.write(f"{verbs}/ibdev", "mana_0\n")
        tree.write(f"{verbs}/dev", f"231:{number}\n")
        tree.write(f"bus/pci/drivers/mana/0000:0{number}:00.0", "")
        for file, text in (("vendor", "0x1414"), ("device", "0x00ba")):
            tree.write(f"bus/pci/devices/0000:1{number}:00.0/{file}", text)
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listdir(path), reverse=backwards))
    function = sysfs.function(tree.roots, PCI)
    assert [one.netdev.name for one in function.netdevs] == ["eth0", "eth1", "eth2"]
    assert [node.name for node in function.rdma] == ["mana_0", "mana_1", "mana_2"]
    assert function.rdma[0].uverbs == tuple(os.makedev(231, number) for number in (0, 1, 2))
    functions = sysfs.functions(tree.roots)
    assert functions == ["0000:00:00.0", "0000:01:00.0", "0000:02:00.0"]
    unbound = [pci for pci, _ in sysfs.unbound(tree.roots)]
    assert unbound == ["0000:10:00.0", "0000:11:00.0", "0000:12:00.0"]
