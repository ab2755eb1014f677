"""Ports for completion, from a tree as the mana driver makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from manactl.completion import names
from tests.unit.machine import PCI, Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, "7-idle")


def ports(machine: Machine) -> list[names.Port]:
    return names.ports(str(machine.path("/sys")))


def test_a_port_and_all_its_names(machine: Machine) -> None:
    first, second = ports(machine)
    assert first == names.Port(
        pci=PCI,
        number=1,
        netdev="eth0",
        ifindex=2,
        up=False,
        mac="02:15:5d:00:00:01",
        rdma=("mana_0/1", "manae_0/1"),
        raw_qp=False,
    )
    assert (second.id, second.netdev, second.rdma) == (f"{PCI}:2", "eth1", ("manae_0/2",))


def test_the_master_and_its_index(machine: Machine) -> None:
    machine.write("/sys/class/net/bond0/ifindex", "9\n")
    machine.pci("net/eth1/master").symlink_to("../../../../../../class/net/bond0")
    assert [(port.master, port.master_ifindex) for port in ports(machine)] == [
        (None, None),
        ("bond0", 9),
    ]


def test_a_netdev_that_is_elsewhere_leaves_the_port(machine: Machine) -> None:
    machine.remove(machine.pci("net/eth1"))
    assert [(port.id, port.netdev) for port in ports(machine)] == [
        (f"{PCI}:1", "eth0"),
        (f"{PCI}:2", None),
    ]


def test_a_raw_queue_pair_is_seen_in_debugfs(machine: Machine) -> None:
    vport = machine.path(f"/sys/kernel/debug/mana/{PCI}/vport1")
    (vport / "EQs").mkdir()
    assert [port.raw_qp for port in ports(machine)] == [False, True]
    (vport / "RX-0").mkdir()
    assert [port.raw_qp for port in ports(machine)] == [False, False]


@pytest.mark.parametrize("recording", ["6.12-idle", "6.18-idle"])
def test_where_debugfs_does_not_tell_nothing_is_said(tmp_path: Path, recording: str) -> None:
    assert {port.raw_qp for port in ports(Machine(tmp_path, recording))} == {None}


def test_an_address_that_is_not_permanent_names_no_port(machine: Machine) -> None:
    machine.pci("net/eth0/addr_assign_type").write_text("3\n")
    assert [port.mac for port in ports(machine)] == [None, "02:15:5d:00:00:02"]


def test_without_the_driver_there_is_nothing(tmp_path: Path) -> None:
    assert names.ports(str(tmp_path)) == []
