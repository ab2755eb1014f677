"""A raw QP whose end crashes the kernel."""

from __future__ import annotations

import pytest

from manactl.decide import lost_eqs, port_notes
from manactl.errors import Refused
from manactl.model.port import Evidence, Upper
from tests.unit.decide.scene import STATUS


def test_a_release_does_not_wait_for_the_crash() -> None:
    lost_eqs.refuse_release([STATUS])
    with pytest.raises(Refused, match="Do not end its program") as caught:
        lost_eqs.refuse_release([STATUS, STATUS._replace(eqs_lost=True)])
    assert caught.value.code == "kernel-bug"


BOND, TEAM = Upper("bond0", "bond"), Upper("team0", "team")
PER_VPORT = (Evidence("debugfs", "EQs", True),)


def test_a_bond_is_told_of_where_it_can_do_harm() -> None:
    said = port_notes.below_a_bond(STATUS._replace(upper=BOND, evidence=PER_VPORT))
    assert said is not None
    assert "do not delete bond0 or change its MTU" in said


@pytest.mark.parametrize(("upper", "evidence"), [(None, PER_VPORT), (TEAM, PER_VPORT), (BOND, ())])
def test_no_bond_and_shared_event_queues_are_not_warned_of(
    upper: Upper | None, evidence: tuple[Evidence, ...]
) -> None:
    assert port_notes.below_a_bond(STATUS._replace(upper=upper, evidence=evidence)) is None
