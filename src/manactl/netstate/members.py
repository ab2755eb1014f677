"""A port in a bridge or a bond that decides by a protocol whether it forwards. Pure.

Up again, it does not forward at once: a bridge with the spanning tree protocol listens and learns
for one forward delay each, an 802.3ad bond waits for its LACP partner.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from manactl.wire import if_link
from manactl.wire.attrs import as_int
from manactl.wire.if_link import IfLink

_STATES = {0: "disabled", 1: "listening", 2: "learning", 3: "forwarding", 4: "blocking"}
_FORWARDING = 3  # BR_STATE_FORWARDING
_KERNEL_STP = 1  # BR_KERNEL_STP; 0: none, 2: a program's
_USER_HZ = 100
_BOND_MODE_8023AD = 4
_COLLECTING_DISTRIBUTING = 0x30
_LACP_PERIOD = {0: 30.0, 1: 1.0}  # by AD_LACP_SLOW and AD_LACP_FAST


class Member(NamedTuple):
    """What a port is in its master. `within` is how many seconds it takes at most until it forwards
    once it is up; None: nobody can tell."""

    master: str
    kind: str
    state: str
    forwards: bool
    within: float | None

    def to_json(self) -> dict[str, Any]:
        return self._asdict()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        within = data["within"]
        return cls(
            str(data["master"]),
            str(data["kind"]),
            str(data["state"]),
            bool(data["forwards"]),
            None if within is None else float(within),
        )


def of(port: IfLink, master: IfLink) -> Member | None:
    """None for a master that forwards as soon as the port is up."""
    if port.member_kind == "bridge" and master.kind == "bridge":
        return _of_bridge(port.member_data, master)
    if port.member_kind == "bond" and master.kind == "bond":
        return _of_bond(port.member_data, master)
    return None


def _of_bridge(port: Mapping[int, bytes], bridge: IfLink) -> Member | None:
    stp = as_int(bridge.data.get(if_link.IFLA_BR_STP_STATE, b""))
    if not stp:
        return None
    state = as_int(port.get(if_link.IFLA_BRPORT_STATE, b""))
    delay = as_int(bridge.data.get(if_link.IFLA_BR_FORWARD_DELAY, b"")) / _USER_HZ
    within = 2 * delay if stp == _KERNEL_STP else None
    word = _STATES.get(state, str(state))
    return Member(bridge.name, "bridge", word, state == _FORWARDING, within)


def _of_bond(port: Mapping[int, bytes], bond: IfLink) -> Member | None:
    if as_int(bond.data.get(if_link.IFLA_BOND_MODE, b"")) != _BOND_MODE_8023AD:
        return None
    state = as_int(port.get(if_link.IFLA_BOND_SLAVE_AD_ACTOR_OPER_PORT_STATE, b""))
    forwards = state & _COLLECTING_DISTRIBUTING == _COLLECTING_DISTRIBUTING
    rate = as_int(bond.data.get(if_link.IFLA_BOND_AD_LACP_RATE, b""))
    word = "forwarding" if forwards else "negotiating"
    return Member(bond.name, "bond", word, forwards, _LACP_PERIOD.get(rate))


def settling(was: Member | None, now: Member | None) -> Member | None:
    """The present state of a port that forwarded and does not yet."""
    if was is None or now is None or not was.forwards or now.forwards:
        return None
    return now if (was.master, was.kind) == (now.master, now.kind) else None
