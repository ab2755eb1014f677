"""Why a port is not claimed: a code, the port, and the facts that were found. Pure values.

Decisions are made on these alone; refusal_words.py makes what people read of them, at the end.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from manactl.decide.codes import Bar, Code, bar_of
from manactl.model.value import Value

if TYPE_CHECKING:
    from manactl.decide.unmanageable import Obstacle
    from manactl.model.port import Evidence, Holder, PortId, PortStatus
    from manactl.netstate.surroundings import (
        Connection,
        FabricRoute,
        Forwarded,
        IpsecTunnel,
        Manager,
        PacketSocket,
        RdmaUser,
        RemoteStorage,
        SshSession,
        Stacked,
    )


class Source(enum.Enum):
    """What could not be read."""

    SSH_SESSIONS = enum.auto()
    ROUTES = enum.auto()
    OTHER_NETDEVS = enum.auto()
    CONNECTIONS = enum.auto()
    FABRIC = enum.auto()
    RDMA_USERS = enum.auto()
    UPPERS = enum.auto()
    OTHER_NAMESPACES = enum.auto()
    XDP = enum.auto()
    PACKET_SOCKETS = enum.auto()
    MANAGERS = enum.auto()
    SOCKETS = enum.auto()
    FORWARDING = enum.auto()
    IPSEC = enum.auto()
    STORAGE = enum.auto()
    TRACKING = enum.auto()


class Unread(Value):
    """The guard's source could not be read, and not knowing refuses."""

    source: Source


# --- what guards find -------------------------------------------------------------------------


class NotHere(Value):
    """The netdev is in another network namespace, or gone; None where that is not known."""

    netdev: str | None
    netns: str | None


class MadeElsewhere(Value):
    """FOREIGN_NETNS: hv_netvsc makes its netdevs in the initial network namespace, and this is another
    one: the synthetic netdev would not come back here, and the VF would not be joined to it."""

    synthetic: str


class InReset(Value):
    evidence: tuple[Evidence, ...]


class EqsLost(Value):
    """A raw QP whose end crashes the kernel. `own`: it can only be this port's."""

    own: bool
    evidence: tuple[Evidence, ...]


class Session(Value):
    """An SSH session, and the upper that has its address; None: the port itself, or none here."""

    ssh: SshSession
    on: Stacked | None


class SshSessions(Value):
    """Sessions by what is known of them, and connections of those who serve remote logins."""

    sessions: tuple[Session, ...]
    logins: tuple[Connection, ...] = ()


class DefaultRoute(Value):
    """A default route as iproute2 shows it, and the other namespace that it is in."""

    text: str
    netns: str | None


class DefaultRoutes(Value):
    routes: tuple[DefaultRoute, ...]


class Reachable(Value):
    """An address of global scope, and the upper that has it; None: the port itself."""

    address: str
    on: Stacked | None


class LastPort(Value):
    addresses: tuple[Reachable, ...]


class Connections(Value):
    connections: tuple[Connection, ...]


# The TCP ports of storage servers.
STORAGE_PORTS = {2049: "NFS", 3260: "iSCSI", 445: "SMB", 3300: "Ceph", 6789: "Ceph",
                 4420: "NVMe/TCP", 8009: "NVMe/TCP", 10809: "NBD"}  # fmt: skip


class Storage(Value):
    """Connections to the ports of storage servers, and what is mounted or attached."""

    connections: tuple[Connection, ...]
    attached: tuple[RemoteStorage, ...] = ()


class Fabric(Value):
    """The ways to Azure's own addresses that are lost."""

    routes: tuple[FabricRoute, ...]


class RdmaUsers(Value):
    users: tuple[RdmaUser, ...]


class Uppers(Value):
    devices: tuple[Stacked, ...]


class Xdp(Value):
    pass


class PacketSockets(Value):
    sockets: tuple[PacketSocket, ...]


class Managers(Value):
    """Those that cannot be kept off; `obstacles` says of each why."""

    managers: tuple[Manager, ...]
    obstacles: tuple[Obstacle | None, ...]


class Sockets(Value):
    """Connected sockets that are not TCP's."""

    sockets: tuple[Connection, ...]


class Forwarding(Value):
    """Connections of others, and IPsec tunnels, whose packets may be anybody's."""

    flows: tuple[Forwarded, ...]
    ipsec: tuple[IpsecTunnel, ...] = ()


# --- what no waiver changes -------------------------------------------------------------------


class NoRdmaDevice(Value):
    """UNSUPPORTED: no raw QP can be made on the port, from here at least where its device is
    elsewhere: in another network namespace, under one of these names."""

    elsewhere: bool = False
    names: tuple[str, ...] = ()


class HeldBy(Value):
    """HOLDER: a raw QP has the vport; its processes, as far as they are visible."""

    holders: tuple[Holder, ...]


class OwnerUnprovable(Value):
    """DENIED: only a test QP shows who owns the vport, and CAP_NET_RAW is missing."""

    evidence: tuple[Evidence, ...]


class InTransition(Value):
    """IN_TRANSITION: the netdev is up, and yet the driver shows no owner."""

    notes: tuple[str, ...]
    evidence: tuple[Evidence, ...]


class Unjoined(Value):
    """IN_TRANSITION: the port is the VF of a VMBus device, and hv_netvsc has not joined it yet.
    `netdev`: that of the device, where there is one."""

    vmbus: str
    netdev: str | None


Facts = (
    Unread | NotHere | MadeElsewhere | InReset | EqsLost | SshSessions | DefaultRoutes | LastPort | Connections
    | Storage | Fabric | RdmaUsers | Uppers | Xdp | PacketSockets | Managers | Sockets
    | Forwarding
    | NoRdmaDevice | HeldBy | OwnerUnprovable | InTransition | Unjoined
)  # fmt: skip


class Refusal(Value):
    """One reason not to claim a port. `label` is the port's name for people.

    `temporary`: the claim would end by itself, so an operator who is cut off gets the port back.
    """

    code: Code
    port: PortId
    label: str
    facts: Facts
    temporary: bool = False

    @property
    def bar(self) -> Bar | None:
        """Why it cannot be waived by --allow; None when it can."""
        if (always := bar_of(self.code)) and not (self.temporary and always is Bar.NEEDS_CONFIRM):
            return always
        match self.facts:
            case Unread(source):
                return _UNKNOWN.get(source)
            case Uppers(devices) if not all(device.restorable for device in devices):
                return Bar.NOT_RESTORABLE
        return None


_UNKNOWN = {
    Source.UPPERS: Bar.UPPERS_UNKNOWN,
    Source.OTHER_NAMESPACES: Bar.NAMESPACES_UNKNOWN,
}


def refusal(port: PortStatus, code: Code, facts: Facts) -> Refusal:
    return Refusal(code, port.id, port.label, facts)
