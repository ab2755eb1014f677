"""What sysfs says of VMBus network devices, on trees as the kernel makes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from manactl.look.sysfs import Roots
from manactl.look.vmbus import NETVSC, NETWORK, VmbusNic, is_open, mac_of, nic, nics, uuid_of

ONE = "000d3aaa-0010-000d-3aaa-0010000d3aaa"
TWO = "000d3aaa-0011-000d-3aaa-0011000d3aaa"
CLOCK = "9527e630-d0ae-497b-adce-e80ab0175caf"


class Bus:
    """/sys with a VMBus, its devices below the host bridge's as on Azure."""

    def __init__(self, base: Path) -> None:
        self.sys = base / "sys"
        self.roots = Roots(str(self.sys))
        (self.sys / "bus/vmbus/devices").mkdir(parents=True)
        (self.sys / "class/net").mkdir(parents=True)

    def device(self, uuid: str, driver: str | None = NETVSC, kind: str = NETWORK) -> Path:
        device = self.sys / "devices/VMBUS:00" / uuid
        device.mkdir(parents=True)
        (device / "class_id").write_text(f"{kind}\n")
        (device / "subsystem").symlink_to("../../../bus/vmbus")
        if driver:
            (device / "driver").symlink_to(f"../../../bus/vmbus/drivers/{driver}")
        (self.sys / "bus/vmbus/devices" / uuid).symlink_to(f"../../../devices/VMBUS:00/{uuid}")
        return device

    def netdev(self, device: Path, name: str, ifindex: int, flags: int = 0x1003) -> Path:
        net = device / "net" / name
        net.mkdir(parents=True)
        (net / "ifindex").write_text(f"{ifindex}\n")
        (net / "address").write_text("00:0d:3a:aa:00:10\n")
        (net / "flags").write_text(f"{flags:#x}\n")
        (net / "device").symlink_to(f"../../../{device.name}")
        (self.sys / "class/net" / name).symlink_to(net)
        return net


@pytest.fixture
def bus(tmp_path: Path) -> Bus:
    return Bus(tmp_path)


def test_a_machine_without_a_vmbus_has_none(tmp_path: Path) -> None:
    assert nics(Roots(str(tmp_path / "sys"))) == []
    assert nic(ONE, Roots(str(tmp_path / "sys"))) is None


def test_network_devices_alone_are_listed_by_uuid(bus: Bus) -> None:
    bus.device(TWO, driver="uio_hv_generic")
    bus.device(CLOCK, driver="hv_utils", kind=f"{{{CLOCK}}}")
    bus.netdev(bus.device(ONE), "eth0", 2)
    assert nics(bus.roots) == [
        VmbusNic(ONE, NETVSC, "eth0", 2, "00:0d:3a:aa:00:10", 0x1003),
        VmbusNic(TWO, "uio_hv_generic"),
    ]


def test_a_device_is_found_by_its_uuid_whatever_its_netdev_is_called(bus: Bus) -> None:
    bus.netdev(bus.device(ONE), "azure0", 9, flags=0x1002)
    found = nic(ONE, bus.roots)
    assert found is not None
    assert (found.netdev, found.ifindex, found.admin_up) == ("azure0", 9, False)
    assert nic(TWO, bus.roots) is None


def test_a_device_without_a_driver_or_a_netdev_is_there_all_the_same(bus: Bus) -> None:
    bus.device(ONE, driver=None)
    assert nic(ONE, bus.roots) == VmbusNic(ONE, None)
    assert VmbusNic(ONE, None).admin_up is None


def test_a_netdev_that_is_just_going_is_none(bus: Bus) -> None:
    net = bus.netdev(bus.device(ONE), "eth0", 2)
    (net / "ifindex").unlink()
    assert nic(ONE, bus.roots) == VmbusNic(ONE, NETVSC)


def test_flags_that_cannot_be_read_are_not_down(bus: Bus) -> None:
    net = bus.netdev(bus.device(ONE), "eth0", 2)
    (net / "flags").unlink()
    found = nic(ONE, bus.roots)
    assert found is not None
    assert found.admin_up is None


def test_a_netdev_leads_to_its_device(bus: Bus) -> None:
    bus.netdev(bus.device(ONE), "eth0", 2)
    other = bus.sys / "devices/pci/net/eth7"
    other.mkdir(parents=True)
    (other / "subsystem").symlink_to("../../../bus/pci")
    (other / "device").symlink_to("../../pci")
    (bus.sys / "class/net/eth7").symlink_to(other)
    assert uuid_of("eth0", bus.roots) == ONE
    assert uuid_of("eth7", bus.roots) is None
    assert uuid_of("eth9", bus.roots) is None


@pytest.mark.parametrize(
    ("state", "opened"), [("3\n", True), ("2\n", False), ("", None), (None, None)]
)
def test_whether_the_channel_is_open(bus: Bus, state: str | None, opened: bool | None) -> None:
    device = bus.device(ONE, driver="uio_hv_generic")
    if state is not None:
        (device / "state").write_text(state)
    assert is_open(ONE, bus.roots) is opened


@pytest.mark.parametrize(
    ("uuid", "mac"),
    [
        (ONE, "00:0d:3a:aa:00:10"),
        (ONE.upper(), "00:0d:3a:aa:00:10"),
        ("000d3aaa-0010-000d-3aaa-0011000d3aaa", None),
        ("000d3aaa-0010-000d-3aaa-0010000d3aab", None),
        ("000d3aaa-0010", None),
        (CLOCK, None),
    ],
)
def test_the_uuids_of_azure_have_the_mac_address(uuid: str, mac: str | None) -> None:
    assert mac_of(uuid) == mac
