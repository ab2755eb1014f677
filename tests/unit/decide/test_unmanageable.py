"""Which managers can let go of a port, and which not."""

from __future__ import annotations

import dataclasses

import pytest

from manactl.decide import guards, unmanageable
from manactl.decide.codes import Code
from manactl.decide.unmanageable import Obstacle
from manactl.model.port import Upper
from manactl.netstate.beside import Beside, Kind
from manactl.netstate.members import Member
from manactl.netstate.surroundings import Manager, PacketSocket, Process
from manactl.netstate.unmanaged import NETWORKD, Unmanaged, UnmanagedLink
from tests.unit.decide.scene import PROBER, STATE, STATUS, UDP4, VLAN, around, state
from tests.unit.netstate.test_beside import rule

LINK = UnmanagedLink("eth1", 3, None, None, True)
ABOVE = UnmanagedLink("vlan7", 9, None, None, True)
HAS = Manager("networkd", PROBER, True, "/a", "eth1", 3, LINK)
HAS_VLAN = Manager("networkd", PROBER, True, "/b", "vlan7", 9, ABOVE)
SILENT = Manager("nm", PROBER, None, "/c", "eth1", 3, silent="timed out")
OTHER = Manager("wicked", PROBER, True, "/d", "eth1", 3)


def test_one_hold_for_all_netdevs_of_a_manager() -> None:
    here = around(managers=(HAS, HAS_VLAN), uppers=(VLAN,))
    assert unmanageable.wanted(STATUS, here) == [
        Unmanaged("networkd", "7870-00-00.0-1", (LINK, ABOVE))
    ]
    assert guards.guard_manager(STATUS, here) is None


def test_none_where_none_manages() -> None:
    lets_be = dataclasses.replace(HAS, managed=False)
    assert unmanageable.wanted(STATUS, around(managers=(lets_be,))) == []
    assert unmanageable.wanted(STATUS, around(managers=None)) == []


def test_two_managers_one_of_which_is_silent() -> None:
    here = around(managers=(HAS, SILENT))
    assert [one.manager for one in unmanageable.wanted(STATUS, here)] == ["networkd"]
    found = guards.guard_manager(STATUS, here)
    assert found is not None
    assert found.code is Code.MANAGER
    assert found.facts.managers == (SILENT,)  # type: ignore[union-attr]
    assert found.facts.obstacles == (Obstacle.SILENT,)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("manager", "changes", "expected"),
    [
        (OTHER, {}, Obstacle.NO_WAY),
        (SILENT, {}, Obstacle.SILENT),
        (HAS, {}, None),
        (HAS, {"state": state(up=False)}, Obstacle.DOWN),
        (HAS, {"state": None}, Obstacle.DOWN),
        (
            HAS,
            {"state": state(member=Member("br0", "bridge", "forwarding", True, 0))},
            Obstacle.MEMBER,
        ),
        (HAS_VLAN, {"uppers": (VLAN,)}, None),
        (HAS_VLAN, {"uppers": (dataclasses.replace(VLAN, kind="bond"),)}, Obstacle.MEMBER),
        (HAS_VLAN, {"uppers": (dataclasses.replace(VLAN, kind="vrf"),)}, Obstacle.MEMBER),
    ],
)
def test_what_stands_against_a_hold(
    manager: Manager, changes: dict[str, object], expected: Obstacle | None
) -> None:
    assert unmanageable.obstacle(manager, STATUS, around(**changes)) is expected


def test_networkd_whose_deletions_could_not_be_read() -> None:
    networkd = dataclasses.replace(HAS, name=NETWORKD)
    assert unmanageable.obstacle(networkd, STATUS, around(beside=None)) is Obstacle.UNREAD
    assert guards.guard_manager(STATUS, around(managers=(networkd,), beside=None)) is not None
    assert guards.guard_manager(STATUS, around(managers=(networkd,))) is None
    assert unmanageable.obstacle(HAS, STATUS, around(beside=None)) is None


def test_networkd_alone_deletes_what_hangs_on_no_port() -> None:
    rules = (Beside(Kind.RULE, rule(1)), Beside(Kind.NEXTHOP, STATE.facts[0].body))
    for name, kept in ((NETWORKD, rules), ("NetworkManager", ())):
        manager = dataclasses.replace(HAS, name=name)
        (unmanaged,) = unmanageable.wanted(STATUS, around(managers=(manager,), beside=rules))
        assert unmanaged.beside == kept


def test_below_a_master_and_below_a_synthetic_netdev() -> None:
    below_bond = STATUS._replace(upper=Upper("bond0", "bond", None, None))
    pair = STATUS._replace(upper=Upper("eth0", "netvsc", "uuid", "vf"))
    assert unmanageable.obstacle(HAS, below_bond, around()) is Obstacle.MEMBER
    assert unmanageable.obstacle(HAS, pair, around()) is None


def test_the_sockets_of_a_manager_that_lets_go_are_no_obstacle() -> None:
    """Its DHCP client has one of each kind."""
    other = Process(78, "dhclient")
    lease = dataclasses.replace(UDP4, processes=(PROBER,))
    here = around(managers=(HAS,), packet_sockets=(PacketSocket(1, (PROBER,)),), sockets=(lease,))
    assert guards.guard_packet_sockets(STATUS, here) is None
    assert guards.guard_sockets(STATUS, here) is None
    for processes in ((), (other,), (PROBER, other)):
        lease = dataclasses.replace(UDP4, processes=processes)
        more = dataclasses.replace(
            here, packet_sockets=(PacketSocket(1, processes),), sockets=(lease,)
        )
        assert guards.guard_packet_sockets(STATUS, more) is not None
        assert guards.guard_sockets(STATUS, more) is not None
    stays = dataclasses.replace(here, managers=(dataclasses.replace(HAS, link=None),))
    assert guards.guard_packet_sockets(STATUS, stays) is not None


def test_where_one_netdev_stays_all_stay() -> None:
    bond = dataclasses.replace(VLAN, kind="bond")
    here = around(managers=(HAS, HAS_VLAN), uppers=(bond,))
    assert unmanageable.wanted(STATUS, here) == []
    found = guards.guard_manager(STATUS, here)
    assert found is not None
    assert found.facts.obstacles == (None, Obstacle.MEMBER)  # type: ignore[union-attr]
