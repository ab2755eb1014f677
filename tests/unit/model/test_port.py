"""What values of ports say by themselves."""

from __future__ import annotations

import pytest

from manactl.model.port import Certainty, Netdev, Owner, PortId, PortStatus

ID = PortId("7870:00:00.0", 2, None)
NETDEV = Netdev("eth1", 3, 0x1002, "down", None, None, None)
PORT = PortStatus(
    id=ID,
    netdev=NETDEV,
    netns=None,
    upper=None,
    rdma=None,
    owner=Owner.FREE,
    certainty=Certainty.PROVEN,
)


def test_the_words_are_those_of_the_contract() -> None:
    assert [*Owner] == ["ethernet", "raw-qp", "free", "unknown"]
    assert [*Certainty] == ["proven", "inferred", "unknown"]


def test_an_identity_is_written_as_it_is_typed() -> None:
    assert str(ID) == "7870:00:00.0:2"
    assert str(ID._replace(permanent_mac="00:0d:3a:aa:00:10")) == "7870:00:00.0:2"


@pytest.mark.parametrize(
    ("flags", "up"), [(0x1, True), (0x1003, True), (0x1002, False), (0, False), (None, None)]
)
def test_unread_flags_are_neither_up_nor_down(flags: int | None, up: bool | None) -> None:
    assert NETDEV._replace(flags=flags).admin_up is up


def test_a_name_in_another_namespace_is_not_printed_as_if_it_were_here() -> None:
    assert PORT.label == "eth1"
    assert PORT._replace(netns="blue").label == "7870:00:00.0:2"
    assert PORT._replace(netdev=None).label == "7870:00:00.0:2"
