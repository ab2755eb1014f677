"""Why a refusal cannot be waived, by its code and by the facts."""

from __future__ import annotations

import dataclasses

import pytest

from manactl.decide import refusal as why
from manactl.decide.codes import Bar, Code
from manactl.decide.refusal import Refusal, Source, Unread
from manactl.netstate.surroundings import Stacked
from tests.unit.decide.scene import AWAY, BOND, IDLE, STATUS, VLAN
from tests.unit.fakes import PORT


def refusal(code: str, facts: why.Facts) -> Refusal:
    return Refusal(Code(code), PORT, "eth1", facts)


def test_a_refusal_is_made_for_a_port() -> None:
    assert why.refusal(STATUS, Code.XDP, why.Xdp()) == refusal("xdp", why.Xdp())


SILENT = dataclasses.replace(AWAY, closes=False)  # it loses its carrier alone
UNRESTORABLE = [
    dataclasses.replace(BOND, kind="batadv"),
    dataclasses.replace(BOND, kind=None),
    dataclasses.replace(SILENT, nexthops=True),
    AWAY,
    dataclasses.replace(VLAN, netns="blue"),
]


@pytest.mark.parametrize(
    "kind",
    [
        *("vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec", "bond", "bridge", "vrf"),
        *("team", "openvswitch"),
    ],
)
def test_uppers_that_release_restores_can_be_waived(kind: str) -> None:
    devices = (IDLE, dataclasses.replace(IDLE, kind=kind))
    found = refusal("upper", why.Uppers(devices))
    assert found.bar is None


def test_an_upper_in_a_pod_that_loses_nothing_can_be_waived() -> None:
    assert refusal("upper", why.Uppers((IDLE, SILENT))).bar is None
    loose = dataclasses.replace(SILENT, kind="vlan")
    assert refusal("upper", why.Uppers((loose,))).bar is None


@pytest.mark.parametrize("lost", UNRESTORABLE)
@pytest.mark.parametrize("beside", [(), (IDLE,)])
def test_an_upper_that_release_does_not_restore_cannot(
    lost: Stacked, beside: tuple[Stacked, ...]
) -> None:
    found = refusal("upper", why.Uppers((*beside, lost)))
    assert found.bar is Bar.NOT_RESTORABLE


@pytest.mark.parametrize("source", Source)
def test_unknown_uppers_cannot_be_waived(source: Source) -> None:
    bars = {
        Source.UPPERS: Bar.UPPERS_UNKNOWN,
        Source.OTHER_NAMESPACES: Bar.NAMESPACES_UNKNOWN,
    }
    found = refusal("upper", Unread(source))
    assert found.bar is bars.get(source)


def test_the_code_counts_before_the_facts() -> None:
    assert refusal("in-reset", Unread(Source.UPPERS)).bar is Bar.NEVER
    assert refusal("last-port", why.Uppers((AWAY,))).bar is Bar.NEEDS_CONFIRM
