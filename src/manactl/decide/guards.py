"""Guards: why a port should not be claimed now. Pure; what could not be read refuses.

Each guard gets a port and its surroundings and returns a refusal or None. The kernel decides in
the end who owns a vport (mana_cfg_vport()); a guard only keeps the operator from an unintended
loss.
"""

from __future__ import annotations

from collections.abc import Callable

from manactl.decide import kernel_bugs, unmanageable
from manactl.decide import refusal as why
from manactl.decide.codes import Code
from manactl.decide.refusal import Refusal, Source, Unread, refusal
from manactl.model.claim import NetnsId
from manactl.model.port import PortStatus
from manactl.netstate import coverage, snapshot
from manactl.netstate.snapshot import Fact, Kind
from manactl.netstate.surroundings import Connection, Stacked, Surroundings, Tracking
from manactl.netstate.uppers import NETVSC


def guard_foreign_netns(port: PortStatus, around: Surroundings) -> Refusal | None:
    """The netdev must be here: only from its own namespace can it be set down and up again."""
    gone = around.state is None and not port.in_reset  # since it was looked at
    if port.netdev is not None and port.netns is None and not gone:
        return None
    name = port.netdev.name if port.netdev else None
    return refusal(port, Code.FOREIGN_NETNS, why.NotHere(name, port.netns))


def made_elsewhere(port: PortStatus, here: NetnsId) -> Refusal | None:
    """To give the synthetic netdev's device to uio destroys it, and hv_netvsc makes the next one in
    the initial network namespace (netvsc_probe()), while the VF stays in this one: nothing could be
    restored, and nobody would join the two again."""
    if port.pair is None or here.is_initial:
        return None
    return refusal(port, Code.FOREIGN_NETNS, why.MadeElsewhere(port.pair.netdev))


def guard_in_reset(port: PortStatus, _around: Surroundings) -> Refusal | None:
    """The driver resets the function, sets it up, or has failed to: a close could hang."""
    if not port.in_reset:
        return None
    return refusal(port, Code.IN_RESET, why.InReset(port.evidence))


def guard_kernel_bug(port: PortStatus, _around: Surroundings) -> Refusal | None:
    """A known bug of the kernel would bite."""
    if not port.eqs_lost:
        return None
    facts = why.EqsLost(kernel_bugs.is_own(port), port.evidence)
    return refusal(port, Code.KERNEL_BUG, facts)


def guard_ssh_session(port: PortStatus, around: Surroundings) -> Refusal | None:
    """The session this command was typed in runs over the port, or somebody else's does."""
    tcps = _at_risk(around, around.connections)
    if around.ssh is None or around.state is None or tcps is None:
        return refusal(port, Code.SSH_SESSION, Unread(Source.SSH_SESSIONS))
    own = _own(around)
    hits = tuple(
        why.Session(session, own.get(session.server.partition("%")[0]))
        for session in around.ssh
        if session.server in own or session.through_port is not False
    )
    known = {(session.ssh.client, session.ssh.server) for session in hits}
    logins = tuple(
        one
        for one in (*tcps, *(_at_risk(around, around.sockets) or ()))
        if one.login and (one.peer, one.local) not in known
    )
    if hits or logins:
        return refusal(port, Code.SSH_SESSION, why.SshSessions(hits, logins))
    # What a server answers goes to its client, by NAT too; a mark may take it another way.
    return _untold(port, Code.SSH_SESSION, around, Tracking.NO_MARKS)


def _own(around: Surroundings) -> dict[str, Stacked | None]:
    """The addresses that are lost with the port, each with the upper that has it; None: the
    port itself."""
    mine: dict[str, Stacked | None] = {
        address: upper for upper in around.carried for address in upper.addresses
    }
    if around.state is not None:
        mine |= dict.fromkeys(snapshot.addresses(around.state.own))
    return mine


def guard_default_route(port: PortStatus, around: Surroundings) -> Refusal | None:
    """A default route of any table and family goes through the port, or an upper of it; several
    that together lead to nearly everywhere are one."""
    if around.state is None or around.steered is None:
        return refusal(port, Code.DEFAULT_ROUTE, Unread(Source.ROUTES))
    own = [fact.body for fact in around.state.own if fact.kind is Kind.ROUTE]
    names = around.state.names
    routes = (
        *(
            why.DefaultRoute(snapshot.describe(Fact(Kind.ROUTE, body), names), None)
            for body in coverage.defaults(own)
        ),
        *(
            why.DefaultRoute(t, upper.netns)
            for upper in around.carried
            for t in upper.default_routes
        ),
        *(why.DefaultRoute(text, None) for text in around.steered),
    )
    return refusal(port, Code.DEFAULT_ROUTE, why.DefaultRoutes(routes)) if routes else None


def guard_last_port(port: PortStatus, around: Surroundings) -> Refusal | None:
    """Nothing else here is up, has carrier and a global address, but this port has."""
    if around.state is None or around.others is None:
        return refusal(port, Code.LAST_PORT, Unread(Source.OTHER_NETDEVS))
    if around.others or not around.state.in_use:
        return None
    here = [upper for upper in around.carried if not upper.netns]
    own = (
        *(why.Reachable(a, None) for a in snapshot.global_addresses(around.state.own)),
        *(why.Reachable(a, upper) for upper in here for a in upper.reachable),
    )
    return refusal(port, Code.LAST_PORT, why.LastPort(own)) if own else None


def _at_risk(
    around: Surroundings, connections: tuple[Connection, ...] | None
) -> tuple[Connection, ...] | None:
    """The connections that stall; None when that could not be read. IPv4 connections inside this
    host are not affected; IPv6 ones are, since the kernel drops the addresses themselves."""
    if connections is None or around.state is None:
        return None
    if not around.state.in_use:
        return ()
    own = _own(around)
    return tuple(
        tcp for tcp in connections if tcp.is_ipv6 or tcp.peer not in own or tcp.local not in own
    )


def guard_tcp_established(port: PortStatus, around: Surroundings) -> Refusal | None:
    """Live TCP connections use the port, in whatever network namespace."""
    hits = _at_risk(around, around.connections)
    if hits is None:
        return refusal(port, Code.TCP_ESTABLISHED, Unread(Source.CONNECTIONS))
    if hits:
        return refusal(port, Code.TCP_ESTABLISHED, why.Connections(hits))
    return _untold(port, Code.TCP_ESTABLISHED, around)


def _untold(
    port: PortStatus, code: Code, around: Surroundings, *needed: Tracking
) -> Refusal | None:
    """That connections may use the port which were not found, since connection tracking could not be
    read and is one of `needed`, or whatever is not known without it."""
    used = around.state is not None and around.state.in_use
    unknown = (None, *(needed or (Tracking.NO_PEERS, Tracking.NO_MARKS)))
    if not used or around.tracking not in unknown:
        return None
    return refusal(port, code, Unread(Source.TRACKING))


def guard_storage(port: PortStatus, around: Surroundings) -> Refusal | None:
    """Storage is reached over the port, usually by the kernel; a process may have opened the
    connection for it (iSCSI, NBD) or use it directly (a virtual machine on Ceph). What is mounted
    or attached and idle may have no connection at all."""
    tcps = _at_risk(around, around.connections)
    if tcps is None or around.state is None:
        return refusal(port, Code.STORAGE, Unread(Source.CONNECTIONS))
    if around.storage is None:
        return refusal(port, Code.STORAGE, Unread(Source.STORAGE))
    hits = tuple(tcp for tcp in tcps if tcp.peer_port in why.STORAGE_PORTS)
    attached = around.storage if around.state.in_use else ()
    if hits or attached:
        return refusal(port, Code.STORAGE, why.Storage(hits, attached))
    return _untold(port, Code.STORAGE, around)


def guard_azure_fabric(port: PortStatus, around: Surroundings) -> Refusal | None:
    """Azure's wire server (agent, DNS, health) or metadata service (identities) is reached through
    the port, and nothing else leads there."""
    if around.fabric is None:
        return refusal(port, Code.AZURE_FABRIC, Unread(Source.FABRIC))
    hits = tuple(one for one in around.fabric if one.matters and one.remaining is None)
    return refusal(port, Code.AZURE_FABRIC, why.Fabric(hits)) if hits else None


def guard_rdma_users(port: PortStatus, around: Surroundings) -> Refusal | None:
    """RC or UD users: their RDMA port goes down with the netdev and loses its IPv6 GIDs."""
    if around.rdma_users is None:
        return refusal(port, Code.RDMA_USERS, Unread(Source.RDMA_USERS))
    if not around.rdma_users:
        return None
    return refusal(port, Code.RDMA_USERS, why.RdmaUsers(around.rdma_users))


def guard_upper(port: PortStatus, around: Surroundings) -> Refusal | None:
    """Something is stacked on the port: bond, bridge, VLAN, macvlan, VRF."""
    if around.uppers is None:
        return refusal(port, Code.UPPER, Unread(Source.UPPERS))
    if around.elsewhere is None:
        return refusal(port, Code.UPPER, Unread(Source.OTHER_NAMESPACES))
    # Of a synthetic netdev --synthetic decides.
    devices = tuple(
        device for device in around.stacked if not device.routed and device.kind != NETVSC
    )
    return refusal(port, Code.UPPER, why.Uppers(devices)) if devices else None


def guard_xdp(port: PortStatus, around: Surroundings) -> Refusal | None:
    """An XDP program is attached."""
    if around.xdp is None:
        return refusal(port, Code.XDP, Unread(Source.XDP))
    return refusal(port, Code.XDP, why.Xdp()) if around.xdp else None


def guard_packet_sockets(port: PortStatus, around: Surroundings) -> Refusal | None:
    """AF_PACKET users (DHCP clients, lldpd, tcpdump) bound to the port get ENETDOWN."""
    if around.packet_sockets is None or around.state is None:
        return refusal(port, Code.PACKET_SOCKETS, Unread(Source.PACKET_SOCKETS))
    hits = tuple(
        one
        for one in around.packet_sockets
        if not unmanageable.of_unmanaged(one.processes, port, around)
    )
    if not hits or not around.state.in_use:
        return None
    return refusal(port, Code.PACKET_SOCKETS, why.PacketSockets(hits))


def guard_manager(port: PortStatus, around: Surroundings) -> Refusal | None:
    """A running network manager manages the port, and cannot be kept off it: it may open it again,
    or flush it."""
    if around.managers is None:
        return refusal(port, Code.MANAGER, Unread(Source.MANAGERS))
    unmanaged = {one.manager for one in unmanageable.wanted(port, around)}
    hits = tuple(
        manager
        for manager in around.managers
        if manager.managed is not False and manager.name not in unmanaged
    )
    obstacles = tuple(unmanageable.obstacle(manager, port, around) for manager in hits)
    return refusal(port, Code.MANAGER, why.Managers(hits, obstacles)) if hits else None


def guard_sockets(port: PortStatus, around: Surroundings) -> Refusal | None:
    """SCTP associations and connected sockets of UDP or raw IP use the port: QUIC, VoIP, a tunnel's
    process."""
    hits = _at_risk(around, around.sockets)
    if hits is None:
        return refusal(port, Code.SOCKETS, Unread(Source.SOCKETS))
    hits = tuple(one for one in hits if not unmanageable.of_unmanaged(one.processes, port, around))
    if hits:
        return refusal(port, Code.SOCKETS, why.Sockets(hits))
    return _untold(port, Code.SOCKETS, around)


def guard_forwarding(port: PortStatus, around: Surroundings) -> Refusal | None:
    """Connections of containers, virtual machines or others are forwarded through the port, or
    put into an IPsec tunnel that leaves by it."""
    if around.forwarded is None or around.state is None:
        return refusal(port, Code.FORWARDING, Unread(Source.FORWARDING))
    if around.ipsec is None:
        return refusal(port, Code.FORWARDING, Unread(Source.IPSEC))
    if not (around.forwarded or around.ipsec) or not around.state.in_use:
        return None
    return refusal(port, Code.FORWARDING, why.Forwarding(around.forwarded, around.ipsec))


Guard = Callable[[PortStatus, Surroundings], Refusal | None]
GUARDS: tuple[Guard, ...] = (
    guard_foreign_netns,
    guard_in_reset,
    guard_kernel_bug,
    guard_ssh_session,
    guard_default_route,
    guard_last_port,
    guard_tcp_established,
    guard_storage,
    guard_azure_fabric,
    guard_rdma_users,
    guard_upper,
    guard_xdp,
    guard_packet_sockets,
    guard_manager,
    guard_sockets,
    guard_forwarding,
)


# These ask nothing of the surroundings.
_OF_THE_PORT = (guard_foreign_netns, guard_in_reset, guard_kernel_bug)


def refusals(port: PortStatus, around: Surroundings) -> list[Refusal]:
    """What every guard refuses; none is skipped because another has refused already.

    Of a netdev that is in another namespace, or in a reset, the surroundings cannot be read.
    """
    here = port.netdev is not None and around.state is not None
    guards = GUARDS if here else _OF_THE_PORT
    return [found for guard in guards if (found := guard(port, around))]
