"""What NetworkManager answers of a device, and what it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from manactl.look import network_manager
from manactl.look.bus import Bus
from manactl.look.network_manager import NmDevice
from tests.unit.buses import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_device_with_its_profile(world: World) -> None:
    found = network_manager.device(Bus(world), "eth1")
    assert found == NmDevice(
        "/dev/3", True, 100, "00:0d:3a:aa:00:10", "hv_netvsc", "uuid-one", 0x18
    )
    assert found.settled


def test_what_it_only_watches_is_no_profile_of_its_own(world: World) -> None:
    world.links[0].flags = 0x80 | 0x8
    found = network_manager.device(Bus(world), "eth1")
    assert (found.profile, found.ready) == (None, 0x8)


def test_a_device_with_nothing_active(world: World) -> None:
    world.links[0].active, world.links[0].nm_state = None, 30
    found = network_manager.device(Bus(world), "eth1")
    assert (found.profile, found.ready, found.settled) == (None, 0, False)


def test_a_device_that_it_does_not_have(world: World) -> None:
    with pytest.raises(OSError, match="no device eth7"):
        network_manager.device(Bus(world), "eth7")


def test_it_lets_go_and_takes_back(world: World) -> None:
    network_manager.set_managed(Bus(world), "/dev/3", False)
    assert not world.links[0].managed
    network_manager.set_managed(Bus(world), "/dev/3", True)
    assert world.links[0].managed
    assert world.calls == ["set-property Managed b false", "set-property Managed b true"]


def test_it_activates_and_reloads(world: World) -> None:
    world.profiles.add("uuid-two")
    network_manager.activate(Bus(world), "/dev/3", "uuid-two")
    assert world.links[0].active == "uuid-two"
    network_manager.reload(Bus(world))
    assert world.calls[-2:] == ["call ActivateConnection ooo /settings/uuid-two /dev/3 /",
                                "call Reload u 1"]  # fmt: skip
    with pytest.raises(OSError, match="no connection"):
        network_manager.activate(Bus(world), "/dev/3", "uuid-three")
