"""Values about ports: what identifies one, what it is called, and what its flags mean."""

from __future__ import annotations

import pytest

from manactl.model.port import Certainty, Netdev, Owner, PortId, PortStatus

ID = PortId("7870:00:00.0", 2, "00:0d:3a:aa:00:10")


def netdev(flags: int | None) -> Netdev:
    return Netdev("eth1", 3, flags, "down", None, None, None)


def status(netdev: Netdev | None, netns: str | None = None) -> PortStatus:
    return PortStatus(ID, netdev, netns, None, None, Owner.FREE, Certainty.PROVEN)


def test_a_port_is_the_same_with_and_without_its_mac() -> None:
    assert ID.key == ID._replace(permanent_mac=None).key == ("7870:00:00.0", 2)
    assert ID.key != ID._replace(port=1).key
    assert ID.key != ID._replace(pci="7870:00:00.1").key
    assert str(ID) == "7870:00:00.0:2"


@pytest.mark.parametrize(
    ("flags", "up"), [(0x1003, True), (0x1, True), (0x1002, False), (0, False), (None, None)]
)
def test_the_admin_state_is_one_flag_of_many(flags: int | None, up: bool | None) -> None:
    assert netdev(flags).admin_up is up


def test_a_name_counts_in_its_own_network_namespace_alone() -> None:
    assert status(netdev(0)).label == "eth1"
    assert status(netdev(0), netns="blue").label == "7870:00:00.0:2"
    assert status(None).label == "7870:00:00.0:2"


def test_the_words_are_those_of_the_contract() -> None:
    assert [*Owner] == ["ethernet", "raw-qp", "free", "unknown"]
    assert [*Certainty] == ["proven", "inferred", "unknown"]
