"""What is lost, in words for people."""

from __future__ import annotations

from collections.abc import Mapping

from manactl.netstate import snapshot
from manactl.netstate.losses import Cause, Loss

WHY = {
    Cause.ANYCAST: "anycast: only its program can join again, after it has left",
    Cause.BPF: "encap bpf: only the program that has the BPF program can make it again",
    Cause.NEXTHOP: "it goes by nexthop id {nexthop}, which cannot be restored",
    Cause.JOINED: "autojoin: the kernel is a member of the group still, and refuses the address",
    Cause.ORDER: "order: it came first, and comes after release behind{instead}",
    Cause.NOT_KEPT: "it was not kept",
    Cause.CHANGED: "it was changed while the port was claimed, left as it is",
    Cause.MANAGER: "its network manager has not done it again",
    Cause.REMOVED: "somebody removed it while the port was claimed: left out",
    Cause.TAKEN_OVER: "taken over by its routing daemon, left as it is{instead}",
}


def text(loss: Loss, names: Mapping[int, str]) -> str:
    """One line: what, and who can bring it back."""
    instead = f": {snapshot.describe(loss.instead, names)}" if loss.instead else ""
    why = WHY[loss.cause].format(nexthop=loss.nexthop, instead=instead)
    return f"{snapshot.describe(loss.fact, names)} ({why})"
