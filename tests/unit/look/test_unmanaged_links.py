"""What the two managers that can let go of a netdev answer, and what becomes of silence."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from manactl.look import unmanaged_links
from manactl.look.bus import Bus
from manactl.netstate.surroundings import Manager, Process
from manactl.netstate.unmanaged import NETWORK_MANAGER, NETWORKD, UnmanagedLink
from tests.unit.buses import NETWORKD as NETWORKD_SERVICE
from tests.unit.buses import NM, Link, World
from tests.unit.wording import wording

MAC = "00:0d:3a:aa:00:10"
OF_NETWORKD = Manager(NETWORKD, Process(1, "x"), True, "/a", "eth1", 3)
OF_NM = Manager(NETWORK_MANAGER, Process(2, "y"), None, "/b", "eth1", 3)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.links[0].file = "/etc/systemd/network/a.network"
    conf = tmp_path / "net/ipv6/conf/eth1"
    conf.mkdir(parents=True)
    (conf / "addr_gen_mode").write_text("1\n")
    return made


def asked(world: World, *managers: Manager, alone: bool = False) -> tuple[Manager, ...]:
    return unmanaged_links.asked(managers, Bus(world), alone=alone, proc=world.run)


def test_both_answer(world: World) -> None:
    one, two = asked(world, OF_NETWORKD, OF_NM)
    assert one.link == UnmanagedLink("eth1", 3, MAC, "hv_netvsc", True)
    assert two.link == UnmanagedLink("eth1", 3, MAC, None, True, "uuid-one", 0x18, "1", ())
    assert (one.managed, two.managed, one.silent, two.silent) == (True, True, None, None)


def test_the_synthetic_netdev_that_stays_is_not_meant(world: World) -> None:
    one, two = asked(world, OF_NETWORKD, OF_NM, alone=True)
    assert one.link == UnmanagedLink("eth1", 3, None, None, True)
    assert two.link == UnmanagedLink("eth1", 3, None, None, True, "uuid-one", 0x18, "1", ())


def test_a_netdev_without_ipv6_has_no_mode(world: World, tmp_path: Path) -> None:
    (tmp_path / "net/ipv6/conf/eth1/addr_gen_mode").unlink()
    (one,) = asked(world, OF_NM)
    assert one.link is not None
    assert one.link.addr_gen_mode is None


def test_what_answers_that_it_has_not_the_netdev(world: World) -> None:
    world.links[0].state, world.links[0].managed = "unmanaged", False
    assert [one.managed for one in asked(world, OF_NETWORKD, OF_NM)] == [False, False]


def test_silence_is_written_down(world: World) -> None:
    world.services.clear()
    one, two = asked(world, OF_NETWORKD, OF_NM)
    assert (one.managed, one.link) == (True, None)
    assert (one.silent or "").endswith(f"no {NETWORKD_SERVICE}")
    assert (two.silent or "").endswith(f"no {NM}")
    assert two.managed is None


def test_networkd_is_asked_once_for_all_netdevs(world: World) -> None:
    other = Manager(NETWORKD, Process(1, "x"), True, "/c", "vlan7", 9)
    one, two = asked(world, OF_NETWORKD, other)
    assert world.calls == ["call Describe"]
    with wording:
        assert (one.silent, two.silent) == (None, "it knows no vlan7")


@pytest.mark.wording
def test_a_link_of_another_namespace_with_the_same_number(world: World) -> None:
    (one,) = asked(world, dataclasses.replace(OF_NETWORKD, netdev="eth7"))
    assert (one.link, one.silent) == (None, "it knows no eth7")


def test_who_is_bound_to_its_carrier_is_told(world: World, tmp_path: Path) -> None:
    path = tmp_path / "b.network"
    path.write_text("[Network]\nBindCarrier=eth1\n")
    world.links.append(Link("eth2", 4, file=str(path)))
    (one,) = asked(world, OF_NETWORKD)
    assert one.bound == ("eth2",)


@pytest.mark.wording
def test_a_link_without_a_file_cannot_be_held(world: World) -> None:
    world.links[0].file, world.links[0].state = None, "pending"
    (one,) = asked(world, OF_NETWORKD)
    assert (one.link, one.silent) == (None, "it names no .network file of eth1 (pending)")


def test_a_link_that_is_not_done_is_not_settled(world: World) -> None:
    world.links[0].state, world.links[0].nm_state = "configuring", 70
    assert [one.link and one.link.settled for one in asked(world, OF_NETWORKD, OF_NM)] == [
        False
    ] * 2


def test_others_and_those_that_let_it_be_are_not_asked(world: World) -> None:
    others = (
        Manager("wicked", None, True, "/w", "eth1", 3),
        Manager(NETWORKD, None, False, "/a", "eth1", 3),
        Manager(NETWORK_MANAGER, None, False, "/b", "eth1", 3),
    )
    assert asked(world, *others) == others
    assert world.calls == []
