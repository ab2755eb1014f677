"""Proving that a vport is free, by attempts while its state may change by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from manactl.look.netdevs_of import NetdevNow
from manactl.model.port import Evidence, PortId
from manactl.wire.uverbs import ProofOutcome

if TYPE_CHECKING:
    from manactl.act.plan import System

LOOK_AGAIN = 0.2  # s between two attempts at a vport that is taken, growing to
_LOOK_SELDOM = 1.0


class ProofLike(Protocol):
    """What look.raw_qp_probe.Proof reports."""

    @property
    def outcome(self) -> ProofOutcome: ...
    @property
    def errno(self) -> int | None: ...
    @property
    def message(self) -> str: ...
    @property
    def hint(self) -> str | None: ...
    @property
    def evidence(self) -> tuple[Evidence, ...]: ...


def attempt_proof(system: System, port: PortId, wait: float) -> tuple[ProofLike, int]:
    """The last proof of several and how many there were.

    A taken vport is looked at once more after 0.2 s, since another probe or `ethtool -L` has it
    for a moment, and then until `wait` seconds are over; not when the netdev itself has it.
    """
    deadline = system.monotonic() + wait
    pause = LOOK_AGAIN
    tries = 0
    while True:
        proof = system.prove_free(port)
        tries += 1
        if proof.outcome is not ProofOutcome.TAKEN:
            return proof, tries
        now = system.netdev(port)
        if isinstance(now, NetdevNow) and now.up:
            return proof, tries
        if tries > 1 and system.monotonic() >= deadline:
            return proof, tries
        system.pause(pause)
        pause = min(pause * 1.2, _LOOK_SELDOM)
