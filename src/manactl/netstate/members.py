"""A port in a bridge or a bond that decides by a protocol or a delay whether it forwards. Pure.

Up again, it does not forward at once: a bridge with the spanning tree protocol listens and learns
for one forward delay each, and a program may block the port by another protocol (MRP); a bond
waits for its updelay, for an answer to its ARP probes, or for its LACP partner.

A bridge without STP lets it forward at once, whatever state somebody had set (br_stp_enable_port()).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from manactl.model.named_tuple import NamedTuple
from manactl.netstate.requests import Request
from manactl.wire import if_link
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import as_int, attr, nest
from manactl.wire.if_link import IfInfoMsg, IfLink

_STATES = {0: "disabled", 1: "listening", 2: "learning", 3: "forwarding", 4: "blocking"}
_DISABLED, _FORWARDING, _BLOCKING = 0, 3, 4  # BR_STATE_*
_KERNEL_STP = 1  # BR_KERNEL_STP; 0: none, 2: a program's
_USER_HZ = 100
_BOND_MODE_8023AD = 4
_COLLECTING_DISTRIBUTING = 0x30
_LACP_PERIOD = {0: 30.0, 1: 1.0}  # by AD_LACP_SLOW and AD_LACP_FAST
_LINK_DOWN, _LINK_BACK = 2, 3  # BOND_LINK_*; up, and failed for less than downdelay, it sends


class Member(NamedTuple):
    """What a port is in its master. `within` is how many seconds it takes at most until it forwards
    once it is up; None: nobody can tell. `by`: what a bond waits for (lacp, updelay, arp). `active`:
    it was the active slave, which a bond may not make it again by itself."""

    master: str
    kind: str
    state: str
    forwards: bool
    within: float | None
    by: str = ""
    active: bool = False

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
            str(data.get("by", "")),
            bool(data.get("active")),
        )


class BridgeState(NamedTuple):
    """What a port of a bridge without STP does (IFLA_BRPORT_STATE). `running`: it and the bridge are
    up, and it has carrier; else the kernel itself has it disabled."""

    ifindex: int
    master: str
    state: int
    running: bool

    @property
    def is_set(self) -> bool:
        """Whether somebody keeps it from forwarding."""
        return self.running and self.state != _FORWARDING

    @property
    def settable(self) -> bool:
        """Whether a request can: a port that is blocking is made to forward at once
        (br_set_port_state()). Its program has set that, by MRP say."""
        return self.state != _BLOCKING

    @property
    def word(self) -> str:
        return _STATES.get(self.state, str(self.state))

    def request(self, ifindex: int) -> Request:
        """What sets it, once the netdev is up and has carrier. By IFLA_INFO_SLAVE_DATA it would not
        last: the notification of that has a port that is disabled enabled (br_port_carrier_check())."""
        state = attr(if_link.IFLA_BRPORT_STATE, bytes([self.state]))
        head = IfInfoMsg(family=rt.AF_BRIDGE, ifindex=ifindex).pack()
        return Request(if_link.RTM_SETLINK, 0, head + nest(if_link.IFLA_PROTINFO, state))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """ValueError for a state that the kernel does not have: its request could not be made."""
        if (state := int(data["state"])) not in _STATES:
            raise ValueError(f"state {state} of a port of a bridge")
        return cls(int(data["ifindex"]), str(data["master"]), state, bool(data["running"]))


def bridge_states(links: Iterable[IfLink]) -> tuple[BridgeState, ...]:
    """Of those links that are ports of a bridge among them. With STP it is the protocol that decides,
    the kernel's or a program's."""
    by_index = {link.ifindex: link for link in links}
    found = []
    for link in by_index.values():
        bridge = by_index.get(link.master or 0)
        if link.member_kind != "bridge" or bridge is None or bridge.kind != "bridge":
            continue
        if as_int(bridge.data.get(if_link.IFLA_BR_STP_STATE, b"")):
            continue
        state = as_int(link.member_data.get(if_link.IFLA_BRPORT_STATE, b""))
        running = link.up and bool(link.carrier) and bridge.up
        found.append(BridgeState(link.ifindex, bridge.name, state, running))
    return tuple(found)


def of(port: IfLink, master: IfLink) -> Member | None:
    """None for a master that forwards as soon as the port is up."""
    if port.member_kind == "bridge" and master.kind == "bridge":
        return _of_bridge(port.member_data, master)
    if port.member_kind == "bond" and master.kind == "bond":
        return _of_bond(port, master)
    return None


def _of_bridge(port: Mapping[int, bytes], bridge: IfLink) -> Member | None:
    stp = as_int(bridge.data.get(if_link.IFLA_BR_STP_STATE, b""))
    state = as_int(port.get(if_link.IFLA_BRPORT_STATE, b""))
    word = _STATES.get(state, str(state))
    if not stp:
        free = state in (_DISABLED, _FORWARDING)
        return Member(bridge.name, "bridge", word, free, 0.0 if free else None)
    delay = as_int(bridge.data.get(if_link.IFLA_BR_FORWARD_DELAY, b"")) / _USER_HZ
    within = 2 * delay if stp == _KERNEL_STP else None
    return Member(bridge.name, "bridge", word, state == _FORWARDING, within)


def _of_bond(link: IfLink, bond: IfLink) -> Member | None:
    port, settings = link.member_data, bond.data
    lacp = as_int(settings.get(if_link.IFLA_BOND_MODE, b"")) == _BOND_MODE_8023AD
    probes = as_int(settings.get(if_link.IFLA_BOND_ARP_INTERVAL, b""))
    polls = as_int(settings.get(if_link.IFLA_BOND_MIIMON, b""))
    delay = as_int(settings.get(if_link.IFLA_BOND_UPDELAY, b"")) / 1000 if polls else 0.0
    if not (lacp or probes or delay):
        return None
    seen = as_int(port.get(if_link.IFLA_BOND_SLAVE_MII_STATUS, b""))
    by = "lacp" if lacp else "arp" if probes else "updelay"
    if seen == _LINK_BACK:
        return Member(bond.name, "bond", "updelay", False, _within(delay, bond, lacp=lacp), by)
    if lacp:
        state = as_int(port.get(if_link.IFLA_BOND_SLAVE_AD_ACTOR_OPER_PORT_STATE, b""))
        forwards = state & _COLLECTING_DISTRIBUTING == _COLLECTING_DISTRIBUTING
        word = "forwarding" if forwards else "negotiating"
        return Member(bond.name, "bond", word, forwards, _within(delay, bond, lacp=True), by)
    within = None if probes else delay
    if seen != _LINK_DOWN:
        return Member(bond.name, "bond", "forwarding", True, within, by)
    # With its carrier it will be polled, or answered, soon; without it, nobody knows.
    word = "unanswered" if probes and link.carrier else "down"
    return Member(bond.name, "bond", word, False, within if link.carrier else None, by)


def _within(delay: float, bond: IfLink, *, lacp: bool) -> float | None:
    if not lacp:
        return delay
    rate = as_int(bond.data.get(if_link.IFLA_BOND_AD_LACP_RATE, b""))
    period = _LACP_PERIOD.get(rate)
    return None if period is None else delay + period


def settling(was: Member | None, now: Member | None) -> Member | None:
    """The present state of a port that forwarded and does not yet."""
    if was is None or now is None or not was.forwards or now.forwards:
        return None
    return now if (was.master, was.kind) == (now.master, now.kind) else None
