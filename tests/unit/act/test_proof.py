"""How often and how long a taken vport is looked at again."""

from __future__ import annotations

import pytest

from manactl.act.proof import attempt_proof
from manactl.model.port import PortId
from manactl.wire.uverbs import ProofOutcome
from tests.unit.fakes import PORT
from tests.unit.host import FakeHost, FakeProof, FakeSystem
from tests.unit.kernel import Kernel


class Scripted(FakeSystem):
    """Proofs that come out as listed, the last one for ever."""

    outcomes: tuple[ProofOutcome, ...]
    proofs = 0

    def prove_free(self, port: PortId) -> FakeProof:
        self.proofs += 1
        return FakeProof(self.outcomes[min(self.proofs, len(self.outcomes)) - 1])


def attempt(*outcomes: ProofOutcome, wait: float) -> tuple[ProofOutcome, int, float]:
    """The outcome, how many attempts there were, and the seconds between first and last."""
    host = FakeHost(Kernel())
    system = Scripted(host)
    system.outcomes = outcomes
    start = host.kernel.clock
    proof, tries = attempt_proof(system, PORT, wait)
    assert tries == system.proofs
    return proof.outcome, tries, round(host.kernel.clock - start, 3)


FREE, TAKEN = ProofOutcome.FREE, ProofOutcome.TAKEN


@pytest.mark.parametrize("outcome", [FREE, ProofOutcome.DENIED, ProofOutcome.CANNOT])
def test_any_answer_but_taken_is_the_last(outcome: ProofOutcome) -> None:
    assert attempt(outcome, wait=10.0) == (outcome, 1, 0.0)


def test_a_taken_vport_is_looked_at_once_more_in_any_case() -> None:
    assert attempt(TAKEN, wait=0.0) == (TAKEN, 2, 0.2)
    assert attempt(TAKEN, FREE, wait=0.0) == (FREE, 2, 0.2)


def test_it_is_looked_at_until_the_wait_is_over_and_ever_less_often() -> None:
    outcome, tries, seconds = attempt(TAKEN, wait=60.0)
    assert outcome is TAKEN
    assert 60.0 <= seconds <= 61.0
    assert 60 < tries < 75  # from 0.2 s to one a second


def test_a_netdev_that_has_the_vport_itself_is_not_waited_for() -> None:
    host = FakeHost(Kernel())
    host.kernel.set_up(host.kernel.nics[0], True)
    system = Scripted(host)
    system.outcomes = (TAKEN,)
    assert attempt_proof(system, PORT, 60.0)[1] == 1
    assert host.pauses == []
