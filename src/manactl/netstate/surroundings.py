"""What surrounds a port, as far as guards ask. Plain values; None is "could not be read"."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from manactl.escape import called
from manactl.model.named_tuple import NamedTuple
from manactl.model.value import Value
from manactl.netstate.beside import Beside
from manactl.netstate.snapshot import PortState
from manactl.netstate.unmanaged import UnmanagedLink
from manactl.netstate.uppers import NETVSC, RESTORABLE


@dataclass(frozen=True, slots=True)
class Process:
    """Who has a socket or a device open."""

    pid: int
    comm: str

    def __str__(self) -> str:
        return f"pid {self.pid} {called(self.comm)}"


class TunnelWay(NamedTuple):
    """Why a tunnel's packets take the port: those to `endpoint` leave by the netdev `out`. No
    endpoint: all of them; no netdev either: each packet has its own endpoint. `bound`: `out` is
    the device that the tunnel was made with. `by`: the program that sends them by itself. `own`:
    the tunnel's own end, an address of `out`, to which the packets of its peer come."""

    endpoint: str | None
    out: str | None
    bound: bool
    by: str = ""
    own: str | None = None

    def __str__(self) -> str:
        if self.own is not None:
            whose = f"of {self.by}, whose" if self.by else "whose"
            return f"{whose} own end {self.own} is an address of {self.out}"
        if self.out is None and self.by:
            return f"of {self.by}, which may send to anybody"
        if self.out is None:
            return "whose endpoints are known to its packets alone"
        what = f"packets to {self.endpoint}" if self.endpoint else "packets"
        whose = f"of {self.by}, whose" if self.by else "whose"
        return f"{whose} {what} leave by {self.out}"


class Stacked(Value):
    """A netdev that is stacked on the port or sends by it, at whatever depth and in whatever
    network namespace.

    `carried`: its traffic takes the port and has no other way. That is not so for a bond with
    another member that works, and for a VRF, whose members go on each for itself. `closes`: the
    kernel sets it down with the port (vlan_device_event()), and its IPv6 addresses go. `ways` are
    a tunnel's, and those of the tunnels below it.
    """

    name: str
    ifindex: int
    kind: str | None
    netns: str | None  # None: this namespace
    carried: bool
    closes: bool
    addresses: tuple[str, ...] = ()
    reachable: tuple[str, ...] = ()  # the addresses of global scope among them
    default_routes: tuple[str, ...] = ()
    nexthops: bool = False  # it has nexthop objects, which go with its carrier
    ways: tuple[TunnelWay, ...] = ()

    @property
    def routed(self) -> bool:
        """Whether only routes lead to the port: a tunnel that was made with no device."""
        return bool(self.ways) and not self.ways[0].bound

    @property
    def restorable(self) -> bool:
        """Whether release can restore what is on it, or there is nothing to restore: what is only
        silent for a while keeps all but its nexthop objects."""
        if self.netns is None:
            return self.kind in RESTORABLE or bool(self.ways)
        return (
            not self.closes and not self.nexthops and (self.kind in RESTORABLE or bool(self.ways))
        )

    def __str__(self) -> str:
        words = ", ".join([*([self.kind] if self.kind else []), *map(str, self.ways)])
        kind = f" ({words})" if words else ""
        where = f" in the network namespace {self.netns}" if self.netns else ""
        return f"{self.name}{kind}{where}"


@dataclass(frozen=True, slots=True)
class Connection:
    """One live connection that uses the port: TCP, a connected socket of UDP or raw IP (whose port is
    its protocol), an SCTP association.

    No processes: the kernel itself has it, or a process that is not visible. `address_goes`: its local
    address is IPv6 and vanishes while the port is down.
    """

    local: str
    local_port: int
    peer: str
    peer_port: int
    state: str
    inode: int
    processes: tuple[Process, ...] = ()
    netns: str | None = None
    address_goes: bool = False
    protocol: str = "tcp"
    login: bool = False  # somebody's remote login

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.local

    @property
    def of_kernel(self) -> bool:
        """Whether nobody has it in a descriptor table, as with NFS, SMB or Ceph in the kernel."""
        return not self.processes

    @property
    def is_orphan(self) -> bool:
        """Whether its program has closed it, and the kernel still sends what is left or waits for the
        peer to close it too (tcp_close(); in FIN-WAIT-2 all is sent)."""
        return not self.inode and self.state in ("fin-wait-1", "fin-wait-2", "last-ack", "closing")

    def __str__(self) -> str:
        if self.is_ipv6:
            return f"[{self.local}]:{self.local_port} - [{self.peer}]:{self.peer_port}"
        return f"{self.local}:{self.local_port} - {self.peer}:{self.peer_port}"


class Listener(Value):
    """A socket for whoever asks that has an address of the port, or is bound to it."""

    protocol: str
    address: str
    port: int
    inode: int
    processes: tuple[Process, ...] = ()
    netns: str | None = None

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.protocol} {address}:{self.port}"


class Forwarded(NamedTuple):
    """Connections of somebody else that this machine forwards through the port, all those that
    begin at one address; `example` is one of them."""

    source: str
    connections: int
    example: str
    netns: str | None = None


class RemoteStorage(NamedTuple):
    """A mounted file system or a disk that is reached over the port, in use at this moment or not.
    No address: which server it is reached at is not known, or it has none. `where`: the mount
    point, or the disk."""

    kind: str
    address: str | None
    where: str
    netns: str | None = None


class NameServer(NamedTuple):
    """A name server of this machine, and the file that names it."""

    address: str
    source: str


class IpsecTunnel(NamedTuple):
    """Packets from one net to another that an IPsec policy puts into others, which leave by the
    port; no endpoint: the policy does not say to whom."""

    source: str
    destination: str
    endpoint: str | None
    netns: str | None = None

    def __str__(self) -> str:
        where = f" in the network namespace {self.netns}" if self.netns else ""
        return f"{self.source} to {self.destination} by {self.endpoint or 'any peer'}{where}"


class PacketSocket(Value):
    """An AF_PACKET socket bound to an interface: it gets ENETDOWN."""

    inode: int
    processes: tuple[Process, ...] = ()
    netdev: str | None = None  # None: the port itself


UNTOLD = "?"  # an end of a session that could not be read


class SshSession(Value):
    """A remote login, and whether its packets take the port. `own`: this process runs in it.
    `guest`: its client is a container or virtual machine of this host, reached over the port."""

    client: str
    server: str
    through_port: bool | None  # None: the way to the client could not be looked up
    found_in: str
    own: bool = True
    guest: bool = False


class RdmaUser(Value):
    """User objects on an RDMA device beside the raw-QP one, or RC/UD queue pairs on it."""

    device: str
    what: str  # "2 protection domains in use"
    processes: tuple[Process, ...] = ()


class Manager(Value):
    """A network manager, and whether it manages the port, or an upper of it (None: it does not
    say).

    `link` is what it has answered of that netdev: it can let go of it. `silent` is why it has not
    answered; both are None where a manager is not asked.
    """

    name: str
    process: Process | None  # None: one that has no process, as ifupdown
    managed: bool | None
    source: str
    netdev: str = ""
    ifindex: int = 0
    link: UnmanagedLink | None = None
    silent: str | None = None
    bound: tuple[str, ...] = ()  # other netdevs that it sets down while this one has no carrier


class Does(enum.Enum):
    """What a program changes by itself while a port is claimed."""

    LINKS = enum.auto()  # sets links up and configures them
    ADDRESSES = enum.auto()  # addresses, routes and rules, from time to time
    ROUTES = enum.auto()  # its own routes, nexthops and addresses, when a link changes
    RESTARTS = enum.auto()  # it restarts the network when the host name changes


class Daemon(Value):
    """A program that changes links, addresses or routes of this machine, of whatever port."""

    name: str
    does: Does
    processes: tuple[Process, ...]  # none: a timer starts it


class Tracking(enum.Enum):
    """What connection tracking does to the packets of connections here, as far as that is known."""

    READ = enum.auto()
    NO_PEERS = enum.auto()  # unread: it may send them elsewhere (DNAT)
    NO_MARKS = enum.auto()  # and give them marks, by which rules route


class FabricRoute(Value):
    """The way to an address of Azure's: the wire server, or the metadata service."""

    through_port: bool
    host_route: bool  # a route of its own, not the default route
    on_azure: bool
    address: str = "168.63.129.16"
    remaining: str | None = None  # the netdev by which packets leave when the port has gone

    @property
    def matters(self) -> bool:
        """Whether somebody wants it to take the port."""
        return self.through_port and (self.on_azure or self.host_route)


class Surroundings(Value):
    """Everything that the guards of one port ask for, read once."""

    state: PortState | None
    uppers: tuple[Stacked, ...] | None  # in this network namespace
    elsewhere: tuple[Stacked, ...] | None  # in all others
    xdp: bool | None
    connections: tuple[Connection, ...] | None
    packet_sockets: tuple[PacketSocket, ...] | None
    ssh: tuple[SshSession, ...] | None
    others: tuple[str, ...] | None  # netdevs that are up, with carrier and a global address
    managers: tuple[Manager, ...] | None
    rdma_users: tuple[RdmaUser, ...] | None
    fabric: tuple[FabricRoute, ...] | None
    sockets: tuple[Connection, ...] | None  # connected ones that are not TCP's
    listeners: tuple[Listener, ...] | None
    forwarded: tuple[Forwarded, ...] | None
    untracked: bool | None  # whether others may have connections through it that nothing tracks
    redirecting: tuple[str, ...] | None  # other devices with tc filters that send by the port
    netconsole: bool | None  # whether kernel messages are sent by it
    daemons: tuple[Daemon, ...] | None = ()  # beside the managers
    ipsec: tuple[IpsecTunnel, ...] | None = ()  # of policies, without a device of its own
    nftables: tuple[str, ...] | None = ()  # chains whose rules send packets by the port
    beside: tuple[Beside, ...] | None = ()  # what networkd deletes; read where it manages the port
    storage: tuple[RemoteStorage, ...] | None = ()  # mounts and disks, whoever has them open
    # Default routes of other netdevs whose first segment (SRv6) is reached over the port.
    steered: tuple[str, ...] | None = ()
    # Name servers that are reached over the port alone.
    name_servers: tuple[NameServer, ...] | None = ()
    bridged: tuple[str, ...] | None = ()  # other netdevs in one bridge with the port
    tracking: Tracking | None = (
        Tracking.READ
    )  # of all namespaces in which something depends on the port

    @property
    def stacked(self) -> tuple[Stacked, ...]:
        """Every netdev known to be stacked on the port."""
        return (*(self.uppers or ()), *(self.elsewhere or ()))

    @property
    def carried(self) -> tuple[Stacked, ...]:
        """Those that lose their traffic with the port, but for its synthetic netdev, which counts as
        the port itself (PortState.own)."""
        return tuple(upper for upper in self.stacked if upper.carried and upper.kind != NETVSC)


NOTHING_READ = Surroundings(
    state=None,
    uppers=None,
    elsewhere=None,
    xdp=None,
    connections=None,
    packet_sockets=None,
    ssh=None,
    others=None,
    managers=None,
    rdma_users=None,
    fabric=None,
    sockets=None,
    listeners=None,
    forwarded=None,
    untracked=None,
    redirecting=None,
    netconsole=None,
    daemons=None,
    ipsec=None,
    nftables=None,
    beside=None,
    storage=None,
    steered=None,
    name_servers=None,
    bridged=None,
    tracking=None,
)
