"""What confirm has come to, for people."""

from __future__ import annotations

from collections.abc import Sequence

from manactl.act.confirm import Confirmed, ConfirmedPort
from manactl.escape import command


def lines(ports: Sequence[ConfirmedPort]) -> list[str]:
    if not ports:
        return ["nothing waits to be confirmed"]
    return [f"{port.netdev}{_confirmed(port)}" for port in ports]


def _confirmed(port: ConfirmedPort) -> str:
    match port.outcome:
        case Confirmed.CONFIRMED:
            return f" is confirmed. When done: {command('manactl', 'release', names=[port.netdev])}"
        case Confirmed.NOT_NEEDED:
            return " is claimed and needs no confirmation: nothing to do"
        case _:
            return " is not claimed: nothing to confirm"
