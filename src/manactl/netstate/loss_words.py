"""What is lost, in words for people."""

from __future__ import annotations

from collections.abc import Mapping

from manactl.netstate import snapshot
from manactl.netstate.losses import Cause, Loss


def text(loss: Loss, names: Mapping[int, str]) -> str:
    """One line: what, and who can bring it back."""
    what = snapshot.describe(loss.fact, names)
    return f"{what} ({_why(loss, names)})"


def _why(loss: Loss, names: Mapping[int, str]) -> str:
    match loss.cause:
        case Cause.ANYCAST:
            return "anycast: only its program can join again, after it has left"
        case Cause.BPF:
            return "encap bpf: only the program that has the BPF program can make it again"
        case Cause.NEXTHOP:
            return f"it goes by nexthop id {loss.nexthop}, which cannot be put back"
        case Cause.JOINED:
            return "autojoin: the kernel is a member of the group still, and refuses the address"
        case Cause.ORDER:
            return f"order: it came first, and comes after release behind{_instead(loss, names)}"
        case Cause.TAKEN_OVER:
            return f"taken over by its routing daemon, left as it is{_instead(loss, names)}"


def _instead(loss: Loss, names: Mapping[int, str]) -> str:
    return f": {snapshot.describe(loss.instead, names)}" if loss.instead else ""
