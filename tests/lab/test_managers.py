"""What network managers do by themselves to a port, without manactl: what claims of managed ports
rest on.

Measured on systemd 257 and NetworkManager 1.52. A managed port that is set down is opened again
when its manager is started again; what keeps it down, and at what price, is said test by test.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.managed import (
    MANAGERS,
    PATIENCE,
    WAYS,
    Networkd,
    NetworkManager,
    addresses,
    segment,
    settled,
)
from tests.lab.users import eventually
from tests.lab.vm import Vm

FOREIGN = "192.0.2.77"


@pytest.fixture
def routed(booted: Vm) -> Iterator[Vm]:
    """The guest with a router behind its second port."""
    with segment(booted):
        yield booted


def up(vm: Vm, device: str) -> bool:
    """IFF_UP."""
    return bool(int(vm.get(f"/sys/class/net/{device}/flags"), 16) & 1)


def opened(vm: Vm, device: str) -> None:
    eventually(lambda: up(vm, device), PATIENCE, f"{device} to be up")


def managed(vm: Vm, name: str, way: str = "static") -> tuple[Networkd | NetworkManager, str]:
    """The manager at work on the first port, which has its addresses and a foreign one."""
    manager, device = MANAGERS[name](vm), vm.netdevs[1]
    manager.configure(device, way)
    settled(vm, manager, device, way)
    vm.run(["ip", "addr", "add", f"{FOREIGN}/32", "dev", device])
    return manager, device


@pytest.mark.parametrize(
    "way", ["static", *(pytest.param(w, marks=pytest.mark.soak) for w in WAYS[1:])]
)
@pytest.mark.parametrize("name", sorted(MANAGERS))
def test_a_restart_opens_a_port_that_was_set_down(routed: Vm, name: str, way: str) -> None:
    manager, device = managed(routed, name, way)
    routed.run(["ip", "link", "set", device, "down"])
    if name == "NetworkManager":  # until it has seen that, it gives a closed port its addresses
        eventually(lambda: manager.state(device) == "unavailable", PATIENCE, "it to be unavailable")
    manager.restart()
    opened(routed, device)
    settled(routed, manager, device, way)


def test_networkd_opens_it_when_it_configures_it_again(routed: Vm) -> None:
    manager, device = managed(routed, "networkd")
    routed.run(["ip", "link", "set", device, "down"])
    manager.reload()
    assert not up(routed, device)
    manager.again(device)
    opened(routed, device)
    eventually(lambda: FOREIGN not in addresses(routed, device), PATIENCE, "the foreign address")


def left_alone(vm: Vm, manager: Networkd, device: str) -> None:
    """networkd has looked at the netdev, which is manual, and has not opened it."""
    seen = {"configuring", "configured"}
    eventually(lambda: manager.state(device) in seen, PATIENCE, "networkd to look")
    assert manager.link(device)["ActivationPolicy"] == "manual"
    assert not up(vm, device)


@pytest.mark.parametrize("keep", [False, True])
def test_networkd_lets_a_port_be_that_is_manual(routed: Vm, *, keep: bool) -> None:
    manager, device = managed(routed, "networkd")
    assert isinstance(manager, Networkd)
    text = "[Link]\nActivationPolicy=manual\n"
    text += "[Network]\nKeepConfiguration=yes\n" if keep else ""
    dropin = f"/run/systemd/network/10-{device}.network.d/hold.conf"
    routed.put(dropin, text)
    manager.reload()
    settled(routed, manager, device, "static")
    assert (FOREIGN in addresses(routed, device)) == keep
    routed.run(["ip", "link", "set", device, "down"])
    manager.again(device)
    left_alone(routed, manager, device)
    manager.restart()
    left_alone(routed, manager, device)
    routed.run(["rm", dropin])
    manager.reload()
    opened(routed, device)


def test_networkmanager_sets_a_port_down_that_its_files_take_away(routed: Vm) -> None:
    manager, device = managed(routed, "NetworkManager")
    unmanage(routed, device)
    manager.reload()
    eventually(lambda: not up(routed, device), PATIENCE, f"{device} to be down")
    eventually(lambda: addresses(routed, device) == [], PATIENCE, "its addresses to go")


def test_networkmanager_lets_a_port_be_that_the_bus_took_away_first(routed: Vm) -> None:
    manager, device = managed(routed, "NetworkManager")
    had = addresses(routed, device)
    routed.run(["nmcli", "device", "set", device, "managed", "no"])
    unmanage(routed, device)
    manager.reload()
    eventually(lambda: manager.state(device) == "unmanaged", PATIENCE, "it to be unmanaged")
    assert (up(routed, device), addresses(routed, device)) == (True, had)
    routed.run(["ip", "link", "set", device, "down"])
    manager.restart()
    eventually(lambda: manager.state(device) == "unmanaged", PATIENCE, "it to be unmanaged")
    assert not up(routed, device)


def unmanage(vm: Vm, device: str) -> None:
    text = f"[keyfile]\nunmanaged-devices=interface-name:{device}\n"
    vm.put("/run/NetworkManager/conf.d/90-hold.conf", text)
