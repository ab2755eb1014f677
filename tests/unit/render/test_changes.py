"""What is different between two looks: each difference once, and nothing where there is none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from manactl.model.port import (
    Certainty,
    ClaimInfo,
    Holder,
    Netdev,
    Note,
    Owner,
    PortId,
    PortStatus,
    RdmaPort,
    Upper,
)
from manactl.render.changes import Change, changes, key
from tests.unit.wording import wording

PCI = "7870:00:00.0"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NETDEV = Netdev("eth1", 3, 0x1003, "up", True, None, None)
DRIFT_X, DRIFT_UP = Note("drift-moved", ("x",)), Note("drift-up")
PORT = PortStatus(
    id=PortId(PCI, 1, "00:0d:3a:aa:00:10"),
    netdev=NETDEV,
    netns=None,
    upper=Upper("bond0", "bond"),
    rdma=RdmaPort("manae_0", 1),
    owner=Owner.ETHERNET,
    certainty=Certainty.PROVEN,
)
OTHER = PORT._replace(id=PortId(PCI, 2, None), netdev=NETDEV._replace(name="eth2"))
HOLDER = Holder(7, "testpmd", None, 0, None, None, NOON)
CLAIM = ClaimInfo(NOON, {"uid": 0}, "claim", None, True, None)


def texts(before: PortStatus, after: PortStatus) -> list[str]:
    found = list(changes([before], [after]))
    assert {one.key for one in found} <= {(PCI, 1)}
    return [one.text for one in found]


@pytest.mark.parametrize(
    ("change", "there", "back"),
    [
        (
            {"owner": Owner.FREE, "certainty": Certainty.INFERRED},
            "owner ethernet (proven) -> free (inferred)",
            "owner free (inferred) -> ethernet (proven)",
        ),
        (
            {"owner": Owner.UNKNOWN, "certainty": Certainty.UNKNOWN},
            "owner ethernet (proven) -> unknown",
            "owner unknown -> ethernet (proven)",
        ),
        ({"netdev": NETDEV._replace(flags=0x1002)}, "link up -> down", "link down -> up"),
        (
            {"netdev": NETDEV._replace(carrier=False)},
            "link up -> no carrier",
            "link no carrier -> up",
        ),
        ({"upper": None}, "upper bond0 -> -", "upper - -> bond0"),
        ({"netdev": NETDEV._replace(name="lan1")}, "was eth1", "was lan1"),
        ({"rdma": None}, "RDMA manae_0/1 -> -", "RDMA - -> manae_0/1"),
        ({"rdma": RdmaPort("manae_0", 2)}, "RDMA manae_0/1 -> manae_0/2", "RDMA manae_0/2 -> manae_0/1"),
        ({"claim": CLAIM}, "claim - -> claimed (claim)", "claim claimed (claim) -> -"),
        ({"claim": CLAIM._replace(mode="exec")}, "claim - -> claimed (exec)", "claim claimed (exec) -> -"),
        ({"holders": (HOLDER,)}, "held by testpmd 7", "no longer held by testpmd 7"),
        ({"holders": (HOLDER._replace(comm=None),)}, "held by ? 7", "no longer held by ? 7"),
        ({"drift": (DRIFT_X,)}, "drift: claimed, yet its netdev has been moved to the network namespace x",
         "no drift any more: claimed, yet its netdev has been moved to the network namespace x"),
    ],
)  # fmt: skip
def test_one_difference_is_one_change_both_ways(
    change: dict[str, Any], there: str, back: str
) -> None:
    after = PORT._replace(**change)
    with wording:
        assert texts(PORT, after) == [there]
        assert texts(after, PORT) == [back]
    assert texts(after, after) == []


@pytest.mark.parametrize(
    "change",
    [
        {"notes": (Note("unclaimed"),)},
        {"reasons": ("netdev-rx",)},
        {"id": PORT.id._replace(permanent_mac=None)},
        {"netdev": NETDEV._replace(ifindex=9, mac="00:00:00:00:00:01", operstate="dormant")},
        {"upper": Upper("bond0", "team", "x", "vf")},
    ],
)
def test_what_the_table_does_not_show_is_no_change(change: dict[str, Any]) -> None:
    assert texts(PORT, PORT._replace(**change)) == []


@pytest.mark.wording
def test_another_namespace_is_a_change_of_the_name_and_of_that() -> None:
    away = PORT._replace(netns="blue")
    assert texts(PORT, away) == ["was eth1", "network namespace - -> blue"]
    assert texts(away, PORT) == [f"was {PCI}:1", "network namespace blue -> -"]


@pytest.mark.wording
def test_a_pid_given_to_another_process_is_another_holder() -> None:
    before = PORT._replace(holders=(HOLDER,))
    later = HOLDER._replace(comm="other", since=NOON.replace(minute=1))
    after = PORT._replace(holders=(later,))
    assert texts(before, after) == ["held by other 7", "no longer held by testpmd 7"]


@pytest.mark.wording
def test_of_several_holders_and_drifts_only_those_that_differ_are_named() -> None:
    second = HOLDER._replace(pid=8)
    before = PORT._replace(holders=(HOLDER,), drift=(DRIFT_X, DRIFT_UP))
    after = PORT._replace(holders=(HOLDER, second), drift=(DRIFT_UP, Note("drift-no-netdev")))
    assert texts(before, after) == [
        "held by testpmd 8",
        "drift: claimed, yet its netdev is not here any more",
        "no drift any more: claimed, yet its netdev has been moved to the network namespace x",
    ]


def test_ports_that_come_and_go_are_told_by_identity() -> None:
    assert key(PORT) == (PCI, 1)
    with wording:
        assert list(changes([], [PORT])) == [Change((PCI, 1), "eth1", "new, owner ethernet")]
    assert list(changes([PORT], [])) == [Change((PCI, 1), "eth1", "gone")]
    assert list(changes([], [])) == []
    found = changes([PORT], [OTHER, PORT._replace(upper=None)])
    with wording:
        assert [str(one) for one in found] == [
            "eth2: new, owner ethernet",
            "eth1: upper bond0 -> -",
        ]
    gone_last = changes([OTHER, PORT], [PORT._replace(upper=None)])
    assert [str(one) for one in gone_last] == ["eth1: upper bond0 -> -", "eth2: gone"]


def test_every_name_is_escaped() -> None:
    bad = "x\x1b[2J"
    nasty = PORT._replace(
        netdev=NETDEV._replace(name=bad),
        upper=Upper(bad, None),
        rdma=RdmaPort(bad, 1),
        holders=(HOLDER._replace(comm=bad),),
        drift=(Note("drift-moved", (bad,)),),
    )
    found = [*changes([PORT], [nasty]), *changes([nasty], [PORT]), *changes([], [nasty])]
    found += changes([nasty], [])
    assert len(found) == 12
    assert all(str(one).isprintable() for one in found)
