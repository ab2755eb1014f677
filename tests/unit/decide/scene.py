"""A port and its surroundings as values, for tests to change."""

from __future__ import annotations

import dataclasses
from typing import Any

from manactl.model.port import Certainty, Netdev, Owner, PortStatus, RdmaPort
from manactl.netstate.snapshot import PortState
from manactl.netstate.surroundings import (
    Connection,
    FabricRoute,
    Process,
    Stacked,
    Surroundings,
)
from tests.unit.fakes import PORT, address

STATUS = PortStatus(
    id=PORT,
    netdev=Netdev("eth1", 3, 0x1003, "up", True, None, None),
    netns=None,
    upper=None,
    rdma=RdmaPort("manae_0", 1),
    owner=Owner.ETHERNET,
    certainty=Certainty.PROVEN,
)
FACTS = (address("10.0.0.2", 24), address("2001:db8::2", 64))
STATE = PortState(PORT, 3, "eth1", True, True, 1000.0, FACTS)
QUIET = Surroundings(
    state=STATE,
    uppers=(),
    elsewhere=(),
    xdp=False,
    connections=(),
    packet_sockets=(),
    ssh=(),
    others=("eth0",),
    managers=(),
    rdma_users=(),
    fabric=(FabricRoute(False, False, True),),
    sockets=(),
    listeners=(),
    forwarded=(),
    untracked=False,
    redirecting=(),
    netconsole=False,
)
PROBER = Process(77, "prober")
TCP4 = Connection("10.0.0.2", 5000, "10.0.0.9", 22, "established", 1, (PROBER,))
TCP6 = Connection(
    "2001:db8::2", 5000, "2001:db8::9", 22, "established", 2, (PROBER,), address_goes=True
)
UDP4 = dataclasses.replace(TCP4, protocol="udp", peer_port=443)
VLAN = Stacked(
    "vlan7",
    9,
    "vlan",
    None,
    True,
    True,
    ("10.7.0.2", "fe80::7"),
    ("10.7.0.2",),
    ("default dev vlan7",),
)
IDLE = dataclasses.replace(VLAN, addresses=(), reachable=(), default_routes=())
AWAY = dataclasses.replace(IDLE, name="mv0", kind="macvlan", netns="blue")
BOND = dataclasses.replace(VLAN, name="bond0", kind="bond", carried=False)
BARE = PortState(PORT, 3, "eth1", True, True, 1000.0, ())


def state(*more: Any, **changes: Any) -> PortState:
    return dataclasses.replace(STATE, facts=(*FACTS, *more), **changes)


def around(**changes: Any) -> Surroundings:
    """A quiet port's, but for these."""
    return dataclasses.replace(QUIET, **changes)
