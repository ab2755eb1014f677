"""Reboots while a port is claimed: with --persist it stays down, without it the manager has it.

A reboot is another guest that is booted with what the first one had on its disk: the managers'
configuration, what manactl wrote beside it, and manactl's journals.
"""

from __future__ import annotations

from pathlib import PurePath

import pytest

from tests.lab import networks
from tests.lab.managed import MANAGERS, Manager, addresses, settled, spare
from tests.lab.notes import ANY, noted
from tests.lab.scene import becomes, manactl, owners, report
from tests.lab.site import STATE, Site
from tests.lab.users import eventually, resident
from tests.lab.vm import Vm
from tests.unit.wording import wording

ON_DISK = ("/etc/systemd/network", "/etc/NetworkManager/conf.d",
           "/etc/NetworkManager/system-connections", STATE)  # fmt: skip
OURS = "find /etc/systemd /etc/NetworkManager /run/systemd/network /run/NetworkManager/conf.d \
-name '*manactl*' 2>/dev/null; :"
STATIC = "static"


def disk(vm: Vm) -> dict[str, bytes]:
    """What a reboot keeps, by path."""
    paths = str(vm.run(f"find {' '.join(ON_DISK)} -type f", check=False).out).split()
    return {path: vm.get(path) for path in paths}


class Scene:
    """A port with static addresses of its manager's."""

    def __init__(self, vm: Vm, name: str) -> None:
        self.vm = vm
        self.device = vm.twins[1] if vm.paired else vm.netdevs[1]
        spare(vm)
        if vm.paired:
            text = "[keyfile]\nunmanaged-devices=driver:mana\n"
            vm.put("/etc/NetworkManager/conf.d/vf.conf", text)
        self.manager = MANAGERS[name](vm)
        self.manager.configure(self.device, STATIC)
        settled(vm, self.manager, self.device, STATIC)
        self.site = Site(vm, resident(vm, "runs"), self.device, self.device)
        self.before = self.view()

    def view(self) -> dict[str, list[str]]:
        read = networks.reading()
        return networks.numberless(
            networks.settle(lambda: self.vm.run(["sh", "-s"], input=read).out)
        )

    def claimed(self, *more: str) -> dict[str, bytes]:
        """What is on the disk while it is claimed. Then it is released, and all is as before."""
        self.site.well("claim", "--raw-qp", self.device, *more)
        becomes(self.vm, 1, "free")
        found = disk(self.vm)
        self.site.well("release", self.device)
        settled(self.vm, self.manager, self.device, STATIC)
        eventually(lambda: networks.differences(self.before, self.view()) == [], 20)
        assert self.vm.run(OURS).out == ""
        return found


def left_alone(manager: Manager, device: str) -> bool:
    return manager.state(device) == "unmanaged"


def stays_down(vm: Vm, name: str) -> None:
    """After the reboot: the manager leaves the port alone until release, and then has it again."""
    manager = MANAGERS[name](vm)
    device = vm.twins[1] if vm.paired else vm.netdevs[1]
    eventually(lambda: left_alone(manager, device), 120, f"{name} to look at {device}")
    assert owners(vm)[1] == "free"
    assert addresses(vm, device) == []
    recovered = manactl(vm, "recover")  # as manactl-recover.service does
    assert recovered.rc == 0, recovered.err
    told = [line for row in report(vm, device)["ports"] for line in row["notes"]]
    assert noted(told, "left-down", ANY), told
    with wording:
        assert "stays down at boot, too" in manactl(vm, "status", device).out
    manager.reload()
    assert left_alone(manager, device)
    assert owners(vm)[1] == "free"
    spare(vm)
    released = manactl(vm, "release", device, "--json")
    assert released.rc == 0, released.err
    (port,) = released.json()["ports"]
    assert (port["outcome"], name in port["given_back"]) == ("given-back", True)
    settled(vm, manager, device, STATIC)
    assert owners(vm)[1] == "ethernet"
    assert vm.run(OURS).out == ""


@pytest.fixture
def scene(booted: Vm, request: pytest.FixtureRequest) -> Scene:
    return Scene(booted, request.param)


@pytest.mark.parametrize("scene", sorted(MANAGERS), indirect=True)
def test_a_persistent_claim_outlives_the_reboot(scene: Scene) -> None:
    name = scene.manager.name
    kept = scene.claimed("--persist")
    assert any("manactl" in PurePath(path).name for path in kept)
    with Vm(scene.vm.prefix, systemd=name, files=kept) as vm:
        stays_down(vm, name)


@pytest.mark.parametrize(
    "scene",
    [pytest.param(name, marks=pytest.mark.soak) for name in sorted(MANAGERS)],
    indirect=True,
)
def test_another_does_not(scene: Scene) -> None:
    name = scene.manager.name
    kept = scene.claimed()
    with Vm(scene.vm.prefix, systemd=name, files=kept) as vm:
        device = vm.netdevs[1]
        settled(vm, MANAGERS[name](vm), device, STATIC)
        assert owners(vm)[1] == "ethernet"
        recovered = manactl(vm, "recover")
        assert recovered.rc == 0, recovered.err
        assert addresses(vm, device) != []


@pytest.mark.parametrize(
    "name", ["NetworkManager", pytest.param("networkd", marks=pytest.mark.soak)]
)
def test_so_does_one_of_a_pair(booted_pair: Vm, name: str) -> None:
    kept = Scene(booted_pair, name).claimed("--persist")
    with Vm(booted_pair.prefix, systemd=name, files=kept, pair=True) as vm:
        stays_down(vm, name)
