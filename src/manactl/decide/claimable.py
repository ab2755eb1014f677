"""What no waiver changes: ports that cannot be claimed as they are. Pure.

A port in a reset, or one with which a bug of the kernel would bite, is the guards' to refuse.
"""

from __future__ import annotations

from manactl.decide import port_words
from manactl.decide.codes import Code
from manactl.decide.refusal import (
    HeldBy,
    InTransition,
    NoRdmaDevice,
    OwnerUnprovable,
    Refusal,
    Unjoined,
    refusal,
)
from manactl.model.port import Owner, PortStatus


def refusals(port: PortStatus, *, can_prove: bool) -> list[Refusal]:
    """Why the port cannot be claimed; `can_prove`: this process may create a test QP."""
    if port.in_reset or port.eqs_lost:
        return []
    found = []
    if port.unjoined is not None:
        netdev = port.pair.netdev if port.pair else None
        found.append(refusal(port, Code.IN_TRANSITION, Unjoined(port.unjoined, netdev)))
    if port.rdma is None:
        lacking = NoRdmaDevice(port.raw_elsewhere, port.rdma_elsewhere)
        found.append(refusal(port, Code.UNSUPPORTED, lacking))
    if port.owner is Owner.RAW_QP:
        found.append(refusal(port, Code.HOLDER, HeldBy(port.holders)))
    if port.owner is Owner.UNKNOWN and port.netdev is not None:
        if not can_prove:
            found.append(refusal(port, Code.DENIED, OwnerUnprovable(port.evidence)))
        elif port.netdev.admin_up:
            found.append(
                refusal(
                    port,
                    Code.IN_TRANSITION,
                    InTransition(tuple(port_words.notes(port)), port.evidence),
                )
            )
    return found
