"""A port and the synthetic netdev above it, on trees as the kernel makes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from manactl.look import pairs
from manactl.look.pairs import Frames
from manactl.look.sysfs import Roots
from manactl.look.vmbus import NETVSC, VmbusNic
from manactl.model.port import Netdev
from tests.unit.look.test_vmbus import ONE, Bus

VF = Netdev("vf0", 3, 0x1803, "up", True, "00:0d:3a:aa:00:10", None, (), "eth0")
DOWN = VF._replace(flags=0x1802)
NIC = VmbusNic(ONE, NETVSC, "eth0", 2, "00:0d:3a:aa:00:10", 0x1003)


@pytest.fixture
def bus(tmp_path: Path) -> Bus:
    return Bus(tmp_path)


def counted(bus: Bus, name: str, rx: int, tx: int) -> None:
    place = bus.sys / "class/net" / name / "statistics"
    place.mkdir(parents=True, exist_ok=True)
    (place / "rx_packets").write_text(f"{rx}\n")
    (place / "tx_packets").write_text(f"{tx}\n")


def test_the_master_leads_to_the_device_whatever_it_is_called(bus: Bus) -> None:
    bus.netdev(bus.device(ONE), "azure0", 2)
    found = pairs.synthetic(VF._replace(master="azure0"), bus.roots)
    assert found == NIC._replace(netdev="azure0")
    assert pairs.synthetic(VF._replace(master=None), bus.roots) is None
    assert pairs.synthetic(VF._replace(master="bond0"), bus.roots) is None


def test_a_device_of_another_driver_is_no_pair(bus: Bus) -> None:
    bus.netdev(bus.device(ONE, driver="uio_hv_generic"), "eth0", 2)
    assert pairs.synthetic(VF, bus.roots) is None


def test_frames_of_both(bus: Bus) -> None:
    counted(bus, "vf0", 3, 4)
    assert pairs.frames("vf0", "eth0", bus.roots) is None
    counted(bus, "eth0", 10, 20)
    assert pairs.frames("vf0", "eth0", bus.roots) == Frames(7, 20)


def test_the_path_is_what_the_vfs_frames_show(bus: Bus) -> None:
    counted(bus, "eth0", 10, 20)
    counted(bus, "vf0", 0, 0)
    assert pairs.data_path(VF, NIC, bus.roots) is None
    counted(bus, "vf0", 0, 1)
    assert pairs.data_path(VF, NIC, bus.roots) == "vf"
    assert pairs.data_path(DOWN, NIC, bus.roots) == "synthetic"


@pytest.mark.parametrize(
    ("vf", "nic"),
    [
        (VF, NIC._replace(flags=0x1002)),
        (VF, NIC._replace(flags=None)),
        (VF._replace(flags=None), NIC),
        (VF, NIC._replace(netdev=None)),
        (VF, NIC),  # no counters here
    ],
)
def test_what_is_not_known_is_no_path(vf: Netdev, nic: VmbusNic, tmp_path: Path) -> None:
    assert pairs.data_path(vf, nic, Roots(str(tmp_path / "sys"))) is None


ALONE = VF._replace(master=None, permanent_mac="00:0d:3a:aa:00:10")


def test_a_vf_that_is_not_joined_is_known_by_its_address(bus: Bus) -> None:
    bus.netdev(bus.device(ONE), "eth0", 2)
    assert pairs.unjoined(ALONE, bus.roots) == NIC
    assert pairs.unjoined(ALONE._replace(permanent_mac=None), bus.roots) == NIC
    assert pairs.unjoined(VF, bus.roots) is None
    other = ALONE._replace(mac="00:0d:3a:aa:00:11", permanent_mac="00:0d:3a:aa:00:11")
    assert pairs.unjoined(other, bus.roots) is None
    unknown = ALONE._replace(mac=None, permanent_mac=None)
    assert pairs.unjoined(unknown, bus.roots) is None


@pytest.mark.parametrize("driver", [None, NETVSC])
def test_before_there_is_a_netdev_it_is_known_by_the_uuid(bus: Bus, driver: str | None) -> None:
    bus.device(ONE, driver=driver)
    assert pairs.unjoined(ALONE, bus.roots) == VmbusNic(ONE, driver)


def test_where_its_address_cannot_be_read_the_uuid_tells(bus: Bus) -> None:
    net = bus.netdev(bus.device(ONE), "eth0", 2)
    (net / "address").unlink()
    found = pairs.unjoined(ALONE, bus.roots)
    assert found is not None
    assert (found.uuid, found.netdev) == (ONE, "eth0")


def test_what_another_driver_has_is_to_be_joined_to_nothing(bus: Bus) -> None:
    bus.device(ONE, driver="uio_hv_generic")
    assert pairs.unjoined(ALONE, bus.roots) is None
