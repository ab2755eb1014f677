"""The JSON documents of claim, release and recover."""

from __future__ import annotations

from collections import Counter

from manactl.act.claim import ClaimResult
from manactl.act.plan import ProveFree, SetAdmin
from manactl.act.released import ReleaseResult
from manactl.decide import refusal_words
from manactl.escape import command
from manactl.journal import file as journal
from manactl.model.port import PortStatus
from manactl.netstate.snapshot import Kind, PortState, derived, port_to_json
from manactl.render.document import timestamp
from manactl.render.outcome import activation


def claim_document(result: ClaimResult) -> dict[str, object]:
    """`manactl.claim/1`."""
    new = [_claimed_port(result, port, already=False) for port in result.ports]
    old = [
        {**_claimed_port(result, port, already=True), "proven": summary.claim.proven}
        for port, summary in result.already
    ]
    return {
        "schema": "manactl.claim/1",
        "time": journal.stamp(),
        "claimed": True,
        "already": not result.ports,
        "ports": new + old,
        "waived": [refusal_words.to_json(refusal) for refusal in result.waived],
        "plan": result.plan.to_json() if result.plan else None,
        "journal": str(result.journal) if result.journal else None,
        "confirm_by": result.confirm_by and timestamp(result.confirm_by),
        "release": command("manactl", "release", names=[str(port["netdev"]) for port in new + old]),
    }


def _claimed_port(result: ClaimResult, port: PortStatus, *, already: bool) -> dict[str, object]:
    facts = result.facts.get(port.id, {})
    state = result.states.get(port.id)
    return {
        "netdev": port.label,
        "ifindex": port.netdev.ifindex if port.netdev else None,
        **port_to_json(port.id),
        "rdma": {"device": port.rdma.device, "port": port.rdma.port} if port.rdma else None,
        "already": already,
        "was": None if state is None else ("up" if state.up else "down"),
        "proven": result.proven(port.id),
        "proof": facts.get(ProveFree.KIND),
        "down_ms": facts.get(SetAdmin.KIND, {}).get("ms"),
        "kept": None if state is None else _kept(state),
    }


def _kept(state: PortState) -> dict[str, int]:
    if not state.up:
        return {}
    of_kernel = Counter(fact.kind for fact in state.that(derived))
    counts = {kind.plural: len(state.of(kind)) - of_kernel[kind] for kind in Kind}
    return {kind: count for kind, count in counts.items() if count}


def release_document(result: ReleaseResult, verb: str) -> dict[str, object]:
    """`manactl.release/1`, or with the same keys `manactl.recover/1`."""
    return {
        "schema": f"manactl.{verb}/1",
        "time": journal.stamp(),
        "ports": [
            {
                "netdev": port.netdev,
                **port_to_json(port.port),
                "outcome": str(port.outcome),
                "recovered": port.recovered,
                "restored": {kind.plural: count for kind, count in port.counts.items()},
                "expired": list(port.expired),
                "extra": list(port.extra),
                "advertised": list(port.advertised),
                "lost": [{"cause": str(loss.cause), "text": loss.text} for loss in port.lost],
                "settling": port.settling
                and {
                    "master": port.settling.master,
                    "kind": port.settling.kind,
                    "state": port.settling.state,
                    "within_s": port.settling.within,
                    "then": activation(port.netdev, port.settling),
                },
                "carrier": port.carrier,
                "up_ms": port.up_ms,
                "down_for_s": port.down_for_s,
                "residue": list(port.residue),
                "given_back": port.given_back,
            }
            for port in result.ports
        ],
        "terminated": [{"pid": holder.pid, "comm": holder.comm} for holder in result.terminated],
    }
