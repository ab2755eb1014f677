"""A raw QP whose end crashes the kernel, and a vport that nobody has and nobody can get."""

from __future__ import annotations

from pathlib import Path

import pytest

from manactl.act import transition
from manactl.decide import lost_eqs, port_notes
from manactl.errors import NotRestored, Refused
from manactl.model.port import Evidence, Upper
from tests.unit.act.test_transition import claim, furnished
from tests.unit.decide.scene import STATUS
from tests.unit.fakes import PORT, FakeSystem


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


def test_a_leaked_vport_refuses_a_claim_of_a_port_that_is_down(tmp_path: Path) -> None:
    kernel = furnished()
    kernel.set_admin(False)
    kernel.leaked = True
    with pytest.raises(Refused, match="use count") as caught:
        claim(tmp_path, FakeSystem(kernel))
    assert caught.value.code == "kernel-bug"
    assert "modprobe -r mana_ib mana" in (caught.value.hint or "")
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_leaked_vport_is_no_live_holder_to_a_release() -> None:
    kernel = furnished()
    kernel.set_admin(False)
    kernel.leaked = True
    with pytest.raises(NotRestored, match="use count") as caught:
        transition.await_free(FakeSystem(kernel), [PORT], 0.0, known=lambda port: False)
    assert caught.value.code == "kernel-bug"
    assert "manactl release" in (caught.value.hint or "")
