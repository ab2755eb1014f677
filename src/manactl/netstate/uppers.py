"""Devices stacked on a port: how they are told apart, and which of them are up that were not.

Pure. What happens to them when the port goes down and up, in the kernel's words:
vlan_device_event() closes VLANs with their device and opens all of them with it again, those too
that were down before, from 7.2 on by deferred work; macvlan and ipvlan stay as they are and only
lose their carrier, which costs them nexthops (nexthop_flush_dev()), and so does macsec; a master
(bond, bridge, team, VRF, Open vSwitch) keeps the port and gets it back; a tunnel notices nothing.
The synthetic netdev of hv_netvsc is a master, too, and more: it opens and closes the port with
itself, and has the addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from manactl.model.named_tuple import NamedTuple
from manactl.wire.if_link import RTM_NEWLINK, activate_slave, set_admin, sync_rx_mode

VLAN = "vlan"
OVS = "openvswitch"
NETVSC = "netvsc"  # a name of ours: the kernel gives the netdevs of hv_netvsc no kind
LINKED = frozenset({VLAN, "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec"})
MASTERS = frozenset({"bond", "bridge", "vrf", "team", OVS, NETVSC})
RESTORABLE = LINKED | MASTERS


class UpperState(NamedTuple):
    """One device on a port, or on another upper of it, at one instant.

    `lower` is the ifindex of its lower; `id` tells VLANs of one device apart ("802.1Q 100"), and
    is the VMBus UUID of a synthetic netdev;
    `follows`: the kernel sets it up and down with its lower. `active` is the ifindex of a bond's
    active slave, `table` the routing table of a VRF.
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
    table: int | None = None
    mac: str | None = None

    def describe(self) -> str:
        return f"{self.kind} {self.name}" + (f" ({self.id})" if self.id else "")

    def to_json(self) -> dict[str, Any]:
        return self._asdict()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> UpperState:
        active, table, mac = (data.get(name) for name in ("active", "table", "mac"))
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
            None if table is None else int(table),
            None if mac is None else str(mac),
        )


class Pair(NamedTuple):
    """An upper as it was, and what it is now; None when it is gone."""

    was: UpperState
    now: UpperState | None


def pairs(
    wanted: Iterable[UpperState], now: Iterable[UpperState], port_was: int, port_now: int
) -> list[Pair]:
    """Each wanted upper with its present self, in order.

    It is the same by kind, lower, VRF table and VLAN id or VMBus UUID, and by its name, or by
    ifindex and MAC address: an upper may have been renamed, or made again under its name. An ifindex alone may
    have been given to another device.
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
    if (one.kind, one.id) != (other.kind, other.id) or one.table not in (None, other.table):
        return False
    if one.kind in (VLAN, NETVSC) or one.name == other.name:
        return True
    return one.ifindex == other.ifindex and one.mac in (None, other.mac)


class Change(NamedTuple):
    """An upper whose admin state is not as it was, and the request that sets it right."""

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
    return Change(upper, up, RTM_NEWLINK, set_admin(upper.ifindex, up))


def settle_filters(lower: int) -> tuple[int, int, bytes]:
    """Type, flags and body of the request that is due when an upper of this netdev was set down.

    A netdev that cannot filter by unicast address is promiscuous while it has any of an upper, and
    hv_netvsc drops those of an upper that goes only after the kernel has looked whether any are
    left (__dev_set_rx_mode(), netvsc_set_rx_mode()): without this one look more it stays so.
    """
    return RTM_NEWLINK, 0, sync_rx_mode(lower)


def unopened(matched: Sequence[Pair], port_now: int, port_up: bool) -> list[UpperState]:
    """Those that the kernel sets up with their lower, and has not yet."""
    ups = {port_now: port_up, **{p.now.ifindex: p.now.up for p in matched if p.now is not None}}
    return [
        p.now
        for p in matched
        if p.now is not None and p.now.follows and not p.now.up and ups.get(p.now.lower, False)
    ]


class Inactive(NamedTuple):
    """A bond whose active slave is not what it was, and the ifindex that slave has now, which is
    negative when it is gone."""

    was: UpperState
    now: UpperState
    slave: int


def inactive(matched: Sequence[Pair], moved: Mapping[int, int]) -> list[Inactive]:
    """Bonds that send by another slave than they did. `moved`: ifindexes then to ifindexes now."""
    found = []
    for was, now in matched:
        if now is not None and was.active is not None:
            slave = moved.get(was.active, was.active)
            if now.active != slave:
                found.append(Inactive(was, now, slave))
    return found


def activate(bond: UpperState, slave: int) -> tuple[int, int, bytes]:
    """Type, flags and body of the request that makes a slave the active one."""
    return RTM_NEWLINK, 0, activate_slave(bond.ifindex, slave)
