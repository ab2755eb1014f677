"""What surrounds a port, as far as guards ask. Plain values; None is "could not be read"."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from manactl.netstate.snapshot import PortState
from manactl.netstate.uppers import RESTORABLE


@dataclass(frozen=True, slots=True)
class Process:
    """Who has a socket or a device open."""

    pid: int
    comm: str

    def __str__(self) -> str:
        return f"pid {self.pid} {self.comm}"


@dataclass(frozen=True, slots=True)
class Stacked:
    """A netdev that is stacked on the port, at whatever depth and in whatever network namespace.

    `carried`: its traffic takes the port and has no other way. That is not so for a bond with
    another member that works, and for a VRF, whose members go on each for itself. `closes`: the
    kernel sets it down with the port (vlan_device_event()), and its IPv6 addresses go.
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

    @property
    def restorable(self) -> bool:
        """Whether release can restore what is on it."""
        return self.netns is None and self.kind in RESTORABLE

    def __str__(self) -> str:
        kind = f" ({self.kind})" if self.kind else ""
        where = f" in the network namespace {self.netns}" if self.netns else ""
        return f"{self.name}{kind}{where}"


@dataclass(frozen=True, slots=True)
class Connection:
    """One live TCP connection that uses the port.

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

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.local

    @property
    def of_kernel(self) -> bool:
        """Whether nobody has it in a descriptor table, as with NFS, SMB or Ceph in the kernel."""
        return not self.processes

    def __str__(self) -> str:
        if self.is_ipv6:
            return f"[{self.local}]:{self.local_port} - [{self.peer}]:{self.peer_port}"
        return f"{self.local}:{self.local_port} - {self.peer}:{self.peer_port}"


@dataclass(frozen=True, slots=True)
class PacketSocket:
    """An AF_PACKET socket bound to an interface: it gets ENETDOWN."""

    inode: int
    processes: tuple[Process, ...] = ()
    netdev: str | None = None  # None: the port itself


@dataclass(frozen=True, slots=True)
class SshSession:
    """A session that this process runs in, and whether its packets take the port."""

    client: str
    server: str
    through_port: bool | None  # None: the way to the client could not be looked up
    found_in: str  # where SSH_CONNECTION was found


@dataclass(frozen=True, slots=True)
class RdmaUser:
    """User objects on an RDMA device beside the raw-QP one, or RC/UD queue pairs on it."""

    device: str
    what: str  # "2 protection domains in use"
    processes: tuple[Process, ...] = ()


@dataclass(frozen=True, slots=True)
class Manager:
    """A network manager, and whether it manages the port (None: it does not say)."""

    name: str
    process: Process | None  # None: one that has no process, as ifupdown
    managed: bool | None
    source: str


class Does(enum.Enum):
    """What a program changes by itself while a port is claimed."""

    LINKS = enum.auto()  # sets links up and configures them
    ADDRESSES = enum.auto()  # addresses, routes and rules, from time to time
    ROUTES = enum.auto()  # its own routes, nexthops and addresses, when a link changes


@dataclass(frozen=True, slots=True)
class Daemon:
    """A program that changes links, addresses or routes of this machine, of whatever port."""

    name: str
    does: Does
    processes: tuple[Process, ...]  # none: a timer starts it


@dataclass(frozen=True, slots=True)
class FabricRoute:
    """The way to Azure's wire server (168.63.129.16)."""

    through_port: bool
    host_route: bool  # a route of its own, not the default route
    on_azure: bool


@dataclass(frozen=True, slots=True)
class Surroundings:
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
    fabric: FabricRoute | None
    daemons: tuple[Daemon, ...] | None = ()  # beside the managers

    @property
    def stacked(self) -> tuple[Stacked, ...]:
        """Every netdev known to be stacked on the port."""
        return (*(self.uppers or ()), *(self.elsewhere or ()))

    @property
    def carried(self) -> tuple[Stacked, ...]:
        """Those that lose their traffic with the port."""
        return tuple(upper for upper in self.stacked if upper.carried)


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
    daemons=None,
)
