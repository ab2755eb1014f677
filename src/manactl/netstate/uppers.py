"""Devices stacked on a port: how they are told apart, and which of them are up that were not.

Pure. What happens to them when the port goes down and up, in the kernel's words:
vlan_device_event() closes VLANs with their device and opens all of them with it again, those too
that were down before, from 7.2 on by deferred work; macvlan and ipvlan stay as they are and only
lose their carrier, which costs them nexthops (nexthop_flush_dev()); a master (bond, bridge, VRF)
keeps the port and gets it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from manactl.model.port import IFF_UP
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import attr_str, attr_u32, nest

IFLA_LINKINFO, IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_BOND_ACTIVE_SLAVE = 18, 1, 2, 2
VLAN = "vlan"
LINKED = frozenset({VLAN, "macvlan", "macvtap", "ipvlan", "ipvtap"})
MASTERS = frozenset({"bond", "bridge", "vrf"})
RESTORABLE = LINKED | MASTERS


class UpperState(NamedTuple):
    """One device on a port, or on another upper of it, at one instant.

    `lower` is the ifindex of what it stands on; `id` tells VLANs of one device apart ("802.1Q
    100"); `follows`: the kernel sets it up and down with its lower. `active` is the ifindex of a
    bond's active slave.
    """

    name: str
    ifindex: int
    kind: str
    lower: int
    id: str | None
    up: bool
    carrier: bool
    follows: bool
    active: int | None = None

    def describe(self) -> str:
        return f"{self.kind} {self.name}" + (f" ({self.id})" if self.id else "")

    def to_json(self) -> dict[str, Any]:
        return self._asdict()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> UpperState:
        active = data.get("active")
        return cls(
            str(data["name"]),
            int(data["ifindex"]),
            str(data["kind"]),
            int(data["lower"]),
            None if data["id"] is None else str(data["id"]),
            bool(data["up"]),
            bool(data["carrier"]),
            bool(data["follows"]),
            None if active is None else int(active),
        )


class Pair(NamedTuple):
    """An upper as it was, and what it is now; None when it is gone."""

    was: UpperState
    now: UpperState | None


def pairs(
    wanted: Iterable[UpperState], now: Iterable[UpperState], port_was: int, port_now: int
) -> list[Pair]:
    """Each wanted upper with its present self, in order.

    It is the same by kind, by what it stands on, and by its VLAN id, ifindex or name: an upper
    may have been renamed, or made again.
    """
    left = list(now)
    moved = {port_was: port_now}
    found = []
    for was in wanted:
        same = [u for u in left if _same(was, u) and u.lower == moved.get(was.lower)]
        same.sort(key=lambda u: (u.ifindex != was.ifindex, u.name != was.name))
        is_now = same[0] if same else None
        if is_now is not None:
            left.remove(is_now)
            moved[was.ifindex] = is_now.ifindex
        found.append(Pair(was, is_now))
    return found


def _same(one: UpperState, other: UpperState) -> bool:
    if (one.kind, one.id) != (other.kind, other.id):
        return False
    return one.kind == VLAN or one.name == other.name or one.ifindex == other.ifindex


class Change(NamedTuple):
    """An upper whose admin state is not as it was, and the request that mends it."""

    now: UpperState
    up: bool
    type: int
    body: bytes


def changes(matched: Sequence[Pair]) -> list[Change]:
    """What is to be set: up from the bottom, then down from the top."""
    wrong = [(p.was, p.now) for p in matched if p.now is not None and p.now.up is not p.was.up]
    ups = [_set(now, True) for was, now in wrong if was.up]
    return ups + [_set(now, False) for was, now in reversed(wrong) if not was.up]


def _set(upper: UpperState, up: bool) -> Change:
    body = rt.IFINFO.pack(0, 0, 0, upper.ifindex, IFF_UP if up else 0, IFF_UP)
    return Change(upper, up, rt.RTM_NEWLINK, body)


def unopened(matched: Sequence[Pair], port_now: int, port_up: bool) -> list[UpperState]:
    """Those that the kernel sets up with what they stand on, and has not yet."""
    ups = {port_now: port_up, **{p.now.ifindex: p.now.up for p in matched if p.now is not None}}
    return [
        p.now
        for p in matched
        if p.now is not None and p.now.follows and not p.now.up and ups.get(p.now.lower, False)
    ]


def inactive(
    matched: Sequence[Pair], moved: Mapping[int, int]
) -> list[tuple[UpperState, UpperState, int]]:
    """Bonds that send by another slave than they did, with the ifindex that slave has now."""
    found = []
    for was, now in matched:
        if now is not None and was.active is not None:
            active = moved.get(was.active, was.active)
            if now.active != active:
                found.append((was, now, active))
    return found


def activate(bond: UpperState, slave: int) -> tuple[int, int, bytes]:
    """Type, flags and body of the request that makes a slave the active one."""
    data = nest(IFLA_INFO_DATA, attr_u32(IFLA_BOND_ACTIVE_SLAVE, slave))
    info = nest(IFLA_LINKINFO, attr_str(IFLA_INFO_KIND, bond.kind), data)
    return rt.RTM_NEWLINK, 0, rt.IFINFO.pack(0, 0, 0, bond.ifindex, 0, 0) + info
