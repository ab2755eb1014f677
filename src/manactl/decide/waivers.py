"""What becomes of refusals: which can be waived, and what is told of those that stand. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from manactl.errors import Refused
from manactl.model.port import Evidence

NEVER = ("foreign-netns", "in-reset", "kernel-bug")
# Losing one of these can cut the operator off; a waiver has to come with a way back by itself.
_NEEDS_CONFIRM = frozenset({"ssh-session", "default-route", "last-port"})
WAIVABLE = (
    "ssh-session",
    "default-route",
    "last-port",
    "tcp-established",
    "storage",
    "azure-fabric",
    "rdma-users",
    "upper",
    "xdp",
    "packet-sockets",
    "manager",
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A guard's no: which, about what, and how we know.

    `lasting` says why a waiver would promise too much, where the code alone does not tell: what
    release could not put back.
    """

    code: str
    port: str
    message: str
    evidence: tuple[Evidence, ...]
    lasting: str | None = None

    @property
    def waiver(self) -> str | None:
        """Why this cannot be waived by --allow now; None when it can."""
        if self.code not in WAIVABLE:
            return "it can never be waived"
        if self.code in _NEEDS_CONFIRM:
            return (
                "it can be waived only for a claim that ends by itself (--confirm-within, or "
                "`-- COMMAND`), and this version has neither"
            )
        return self.lasting and f"it cannot be waived: {self.lasting}"

    def to_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "port": self.port,
            "message": self.message,
            "waivable": self.waiver is None,
            "evidence": [
                {"source": e.source, "fact": e.fact, "value": e.value} for e in self.evidence
            ],
        }


def stands(refusal: Refusal, allow: Collection[str]) -> bool:
    """Whether it is not waived."""
    return refusal.code not in allow or refusal.waiver is not None


def judge(found: Iterable[Refusal], allow: Collection[str]) -> tuple[Refusal, ...]:
    """The waived refusals; Refused with all the others when there is one."""
    every = list(found)
    hard = [one for one in every if stands(one, allow)]
    if hard:
        raise refused(hard, allow)
    return tuple(every)


def refused(hard: list[Refusal], allow: Collection[str]) -> Refused:
    """One error that tells every refusal with what can be done about it."""
    ports = sorted({refusal.port for refusal in hard})
    lines = [f"refused to claim {', '.join(ports)}; nothing was touched"]
    for refusal in hard:
        lines.append(f"  {refusal.code}: {refusal.port}: {refusal.message}.")
        if refusal.waiver and refusal.code in allow:
            lines.append(f"    --allow {refusal.code} has no effect: {refusal.waiver}.")
    open_to = sorted({r.code for r in hard if r.waiver is None})
    closed: dict[str, set[str]] = {}
    for refusal in hard:
        if refusal.waiver is not None:
            closed.setdefault(refusal.waiver, set()).add(refusal.code)
    hints = []
    if open_to:
        words = " ".join(f"--allow {code}" for code in open_to)
        hints.append(f"to accept the loss: {words}")
    hints += [f"{', '.join(sorted(codes))}: {why}" for why, codes in closed.items()]
    return Refused(
        "\n".join(lines),
        hint="\n".join(hints),
        evidence=[Evidence("guard", r.code, r.to_json()) for r in hard],
        code=hard[0].code if len(hard) == 1 else None,
    )
