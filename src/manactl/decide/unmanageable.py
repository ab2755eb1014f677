"""Which managers can let go of a port's netdevs while it is claimed, and why others cannot. Pure."""

from __future__ import annotations

import enum
from collections.abc import Collection

from manactl.model.port import PortStatus
from manactl.netstate import beside
from manactl.netstate.beside import Beside
from manactl.netstate.surroundings import Manager, Process, Surroundings
from manactl.netstate.unmanaged import NETWORKD, Unmanaged

# Devices that bring several together: their manager moves ports in and out of them.
_MASTERS = frozenset({"bond", "bridge", "team", "vrf"})


class Obstacle(enum.Enum):
    """Why a manager is not kept off a netdev."""

    NO_WAY = enum.auto()  # it has none, or none that is known here
    SILENT = enum.auto()  # it does not answer
    MEMBER = enum.auto()  # the netdev is in a bond, bridge, team or VRF, or is one
    UNREAD = enum.auto()  # what it would delete beside could not be read
    DOWN = enum.auto()  # the port is down already: given back, it would be opened


def obstacle(manager: Manager, port: PortStatus, around: Surroundings) -> Obstacle | None:
    """Why this manager, which manages the port or an upper of it, is not kept off; None when it
    can be."""
    if manager.silent is not None:
        return Obstacle.SILENT
    if manager.link is None:
        return Obstacle.NO_WAY
    if manager.name == NETWORKD and around.beside is None:
        return Obstacle.UNREAD
    state = around.state
    if state is None or not state.in_use:
        return Obstacle.DOWN
    below = port.upper is not None and port.pair is None
    if below or state.member is not None or _kind(manager.netdev, around) in _MASTERS:
        return Obstacle.MEMBER
    return None


def _deleted(manager: str, around: Surroundings) -> tuple[Beside, ...]:
    """What it deletes that is in no snapshot of the port."""
    if manager != NETWORKD or around.state is None:
        return ()
    return beside.without(around.beside or (), around.state.facts)


def _kind(netdev: str, around: Surroundings) -> str | None:
    return next((one.kind for one in around.uppers or () if one.name == netdev), None)


def of_unmanaged(processes: Collection[Process], port: PortStatus, around: Surroundings) -> bool:
    """Whether a socket of these processes is a manager's alone that lets go of the port, as those of
    its DHCP client are: it makes others when it gets the port back."""
    unmanaged = {one.manager for one in wanted(port, around)}
    pids = {
        one.process.pid for one in around.managers or () if one.process and one.name in unmanaged
    }
    return bool(processes) and all(process.pid in pids for process in processes)


def wanted(port: PortStatus, around: Surroundings) -> list[Unmanaged]:
    """What a claim of this port has managers let go of, one for each manager that can
    let go of all that it has there; where one netdev stays with a manager, all of them do."""
    mine = [one for one in around.managers or () if one.managed is not False]
    found: list[Unmanaged] = []
    for name in dict.fromkeys(one.name for one in mine):
        theirs = [one for one in mine if one.name == name]
        links = [one.link for one in theirs if one.link is not None]
        if not any(obstacle(one, port, around) for one in theirs):
            key = f"{port.id.pci}-{port.id.port}".replace(":", "-")
            found.append(Unmanaged(name, key, tuple(links), _deleted(name, around)))
    return found
