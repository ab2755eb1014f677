"""Guards: why a port should not be taken now. Pure; what could not be read refuses.

Each guard gets a port and its surroundings and returns a refusal or None. The kernel decides in
the end who gets a vport; a guard only keeps the operator from losing what he did not mean to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from manactl.decide import kernel_bugs
from manactl.decide.waivers import Refusal
from manactl.model.port import Evidence, PortStatus
from manactl.netstate import snapshot
from manactl.netstate.snapshot import Fact, PortState
from manactl.netstate.surroundings import Connection, Stacked, Surroundings
from manactl.netstate.uppers import RESTORABLE

_STORAGE_PORTS = {2049: "NFS", 3260: "iSCSI", 445: "SMB", 3300: "Ceph", 6789: "Ceph",
                  4420: "NVMe/TCP", 8009: "NVMe/TCP", 10809: "NBD"}  # fmt: skip
_NAMED = 5  # of a long list, as many are spelled out


def _some(items: Iterable[object]) -> str:
    listed = [str(item) for item in items]
    more = len(listed) - _NAMED
    return ", ".join(listed[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _no(port: PortStatus, code: str, message: str, *evidence: Evidence) -> Refusal:
    return Refusal(code, port.label, message, evidence)


def _unread(port: PortStatus, code: str, source: str, what: str) -> Refusal:
    return _no(port, code, f"{what} could not be read", Evidence(source, what, None))


def guard_foreign_netns(port: PortStatus, around: Surroundings) -> Refusal | None:
    """The netdev must be here: only from its own namespace can it be set down and put back."""
    gone = around.state is None and not port.in_reset  # since it was looked at
    if port.netdev is not None and port.netns is None and not gone:
        return None
    where = port.netns or "another network namespace, or unplugged"
    return _no(
        port,
        "foreign-netns",
        f"the port's netdev is not in this network namespace ({where}): claim it from there",
        Evidence("sysfs", "netdev", port.netdev.name if port.netdev else None),
    )


def guard_in_reset(port: PortStatus, _around: Surroundings) -> Refusal | None:
    """The driver resets the function, sets it up, or has failed to: a close could hang."""
    if not port.in_reset:
        return None
    return _no(
        port,
        "in-reset",
        "the driver has taken the function apart, as in a reset or a host's servicing, or could "
        "not set it up; try again when `manactl status` shows an owner, with --wait for instance",
        Evidence("sysfs", "auxiliary devices of the function", []),
        *port.evidence,
    )


def guard_kernel_bug(port: PortStatus, _around: Surroundings) -> Refusal | None:
    """A known bug of the kernel would bite."""
    if not port.eqs_lost:
        return None
    return _no(port, "kernel-bug", kernel_bugs.lost_eqs(kernel_bugs.is_own(port)), *port.evidence)


def guard_ssh_session(port: PortStatus, around: Surroundings) -> Refusal | None:
    """The session this command was typed in runs over the port."""
    if around.ssh is None or around.state is None:
        return _unread(port, "ssh-session", "env", "the sessions of this process's ancestors")
    own = _own(around)
    hits = [s for s in around.ssh if s.server in own or s.through_port is not False]
    if not hits:
        return None
    names = _some(f"{s.client} to {s.server}" + _on(own.get(s.server)) for s in hits)
    return _no(
        port,
        "ssh-session",
        f"the SSH session of this command runs over it: {names}",
        *(Evidence("env", s.found_in, f"{s.client} {s.server}") for s in hits),
    )


def _own(around: Surroundings) -> dict[str, Stacked | None]:
    """The addresses that are lost with the port; on what sits on it, or None for its own."""
    mine: dict[str, Stacked | None] = {
        address: one for one in around.carried for address in one.addresses
    }
    if around.state is not None:
        mine |= dict.fromkeys(snapshot.addresses(around.state.own))
    return mine


def _on(one: Stacked | None) -> str:
    return f" on {one}" if one else ""


def guard_default_route(port: PortStatus, around: Surroundings) -> Refusal | None:
    """A default route of any table and family goes through the port, or what sits on it."""
    if around.state is None:
        return _unread(port, "default-route", "rtnetlink", "the routes")
    routes = [_text(f, around.state) for f in around.state.own if snapshot.is_default_route(f)]
    routes += [
        route + (f" in the network namespace {one.netns}" if one.netns else "")
        for one in around.carried
        for route in one.default_routes
    ]
    if not routes:
        return None
    return _no(
        port,
        "default-route",
        f"it carries a default route: {_some(routes)}",
        *(Evidence("rtnetlink", "route", route) for route in routes),
    )


def guard_last_port(port: PortStatus, around: Surroundings) -> Refusal | None:
    """Nothing else here is up, has carrier and a global address, but this port has."""
    if around.state is None or around.others is None:
        return _unread(port, "last-port", "rtnetlink", "the other netdevs' addresses")
    if around.others or not around.state.up:
        return None
    own = snapshot.global_addresses(around.state.own)
    own += [f"{a} on {one}" for one in around.carried if not one.netns for a in one.reachable]
    if not own:
        return None
    return _no(
        port,
        "last-port",
        f"no other netdev is up with carrier and a global address; this one has {_some(own)}",
        Evidence("rtnetlink", "other netdevs with a global address", []),
    )


def _at_risk(around: Surroundings) -> list[Connection]:
    """The connections that stall. What stays inside this host over IPv4 is not touched; over
    IPv6 it is, since the addresses themselves go."""
    if around.state is None or not around.state.up:
        return []
    own = _own(around)
    return [
        one
        for one in around.connections or ()
        if one.is_ipv6 or one.peer not in own or one.local not in own
    ]


def guard_tcp_established(port: PortStatus, around: Surroundings) -> Refusal | None:
    """Live TCP connections use the port, in whatever network namespace."""
    if around.connections is None or around.state is None:
        return _unread(port, "tcp-established", "sock_diag", "the TCP connections")
    hits = _at_risk(around)
    if not hits:
        return None
    return _no(
        port,
        "tcp-established",
        f"{_connections(len(hits))}: {_some(map(_connection, hits))}. {survival(hits)}",
        *(
            Evidence(
                "sock_diag",
                one.state,
                {
                    "local": f"{one.local} {one.local_port}",
                    "peer": f"{one.peer} {one.peer_port}",
                    "netns": one.netns,
                    "processes": [{"pid": p.pid, "comm": p.comm} for p in one.processes],
                    "survives": "if its address is back in time" if one.address_goes else "yes",
                },
            )
            for one in hits
        ),
    )


def _connections(count: int) -> str:
    return f"{count} live TCP connection" + "s" * (count != 1)


def survival(hits: Collection[Connection]) -> str:
    """Which of the connections live on after release."""
    going = [one for one in hits if one.address_goes]
    if not going:
        return "They stall until release, and survive unless a side gives up before"
    if len(going) == len(hits):
        return "They stall until release, and survive if their IPv6 address is back in time"
    return (
        f"They stall until release; {len(hits) - len(going)} survive unless a side gives up "
        f"before, {len(going)} if their IPv6 address is back in time: {_some(going)}"
    )


def _connection(one: Connection) -> str:
    where = f" in the network namespace {one.netns}" if one.netns else ""
    if one.of_kernel:
        return f"{one}{where} (no visible process: the kernel's own, or not accepted yet)"
    return f"{one}{where} ({_some(one.processes)})"


def guard_storage(port: PortStatus, around: Surroundings) -> Refusal | None:
    """Storage is reached over the port, by the kernel as a rule; a process may have lent it the
    connection (iSCSI, NBD) or be its user (a virtual machine on Ceph)."""
    if around.connections is None or around.state is None:
        return _unread(port, "storage", "sock_diag", "the TCP connections")
    hits = [c for c in _at_risk(around) if c.peer_port in _STORAGE_PORTS]
    if not hits:
        return None
    names = _some(
        f"{_STORAGE_PORTS[c.peer_port]} at {c.peer} ({_some(c.processes) or 'the kernel'})"
        for c in hits
    )
    return _no(
        port,
        "storage",
        f"storage is used over it: {names}",
        *(Evidence("sock_diag", _STORAGE_PORTS[c.peer_port], str(c)) for c in hits),
    )


def guard_azure_fabric(port: PortStatus, around: Surroundings) -> Refusal | None:
    """Azure's wire server (agent, DNS, health) is reached through the port."""
    if around.fabric is None:
        return _unread(port, "azure-fabric", "rtnetlink", "the way to 168.63.129.16")
    if not around.fabric.through_port or not (around.fabric.on_azure or around.fabric.host_route):
        return None
    return _no(
        port,
        "azure-fabric",
        "the way to Azure's wire server 168.63.129.16 goes through it",
        Evidence("rtnetlink", "route to 168.63.129.16", port.label),
    )


def guard_rdma_users(port: PortStatus, around: Surroundings) -> Refusal | None:
    """RC or UD users: their RDMA port goes down with the netdev and loses its IPv6 GIDs."""
    if around.rdma_users is None:
        return _unread(port, "rdma-users", "nldev", "the users of the RDMA devices")
    if not around.rdma_users:
        return None
    names = _some(
        f"{u.what} on {u.device}" + (f" ({_some(u.processes)})" if u.processes else "")
        for u in around.rdma_users
    )
    return _no(
        port,
        "rdma-users",
        f"RDMA users beside raw QPs: {names}; which port they use is not visible, and on this "
        "one they would lose the link and the IPv6 GIDs",
        *(
            Evidence("nldev", u.device, {"what": u.what, "pids": [p.pid for p in u.processes]})
            for u in around.rdma_users
        ),
    )


def guard_upper(port: PortStatus, around: Surroundings) -> Refusal | None:
    """Something is stacked on the port: bond, bridge, VLAN, macvlan, VRF."""
    if around.uppers is None:
        no = _unread(port, "upper", "rtnetlink", "the devices stacked on it")
        return replace(no, lasting="nobody knows what release would have to put back")
    if around.elsewhere is None:
        what = "what is stacked on it in other network namespaces (only root may look)"
        no = _unread(port, "upper", "netns", what)
        return replace(no, lasting="release could not put back what is there")
    if not around.stacked:
        return None
    lost = [one for one in around.stacked if one.netns or one.kind not in RESTORABLE]
    no = _no(
        port,
        "upper",
        f"it carries other devices: {_some(around.stacked)}",
        *(Evidence("rtnetlink", "upper", str(one)) for one in around.stacked),
    )
    return replace(no, lasting=f"release could not put back {_some(lost)}") if lost else no


def guard_xdp(port: PortStatus, around: Surroundings) -> Refusal | None:
    """An XDP program is attached."""
    if around.xdp is None:
        return _unread(port, "xdp", "rtnetlink", "whether an XDP program is attached")
    if not around.xdp:
        return None
    return _no(
        port,
        "xdp",
        "an XDP program is attached to it, which sees nothing until release",
        Evidence("rtnetlink", "IFLA_XDP", True),
    )


def guard_packet_sockets(port: PortStatus, around: Surroundings) -> Refusal | None:
    """AF_PACKET users (DHCP clients, lldpd, tcpdump) bound to the port get ENETDOWN."""
    if around.packet_sockets is None:
        return _unread(port, "packet-sockets", "proc", "/proc/net/packet")
    if not around.packet_sockets or around.state is None or not around.state.up:
        return None
    who = [
        f"{p} (on {one.netdev})" if one.netdev else str(p)
        for one in around.packet_sockets
        for p in one.processes
    ]
    return _no(
        port,
        "packet-sockets",
        f"packet sockets are bound to it: {_some(who) or 'by processes that are not visible'}; "
        "they get ENETDOWN or fall silent, and some programs end then",
        *(
            Evidence(
                "proc",
                "net/packet",
                {"inode": s.inode, "netdev": s.netdev, "pids": [p.pid for p in s.processes]},
            )
            for s in around.packet_sockets
        ),
    )


def guard_manager(port: PortStatus, around: Surroundings) -> Refusal | None:
    """A running network manager manages the port: it may open it again, or flush it."""
    if around.managers is None:
        return _unread(port, "manager", "proc", "which network managers run")
    hits = [one for one in around.managers if one.managed is not False]
    if not hits:
        return None
    names = _some(
        f"{m.name} ({m.process})" + ("" if m.managed else ", which does not say if it manages it")
        for m in hits
    )
    return _no(
        port,
        "manager",
        f"a network manager has it: {names}; it may set the port up again or drop its addresses",
        *(Evidence("run", m.source, m.managed) for m in hits),
    )


def _text(fact: Fact, state: PortState) -> str:
    return snapshot.describe(fact, state.names)


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
)


# These ask nothing of the surroundings.
_OF_THE_PORT = (guard_foreign_netns, guard_in_reset, guard_kernel_bug)


def refusals(port: PortStatus, around: Surroundings) -> list[Refusal]:
    """What every guard says; none is skipped because another has refused already.

    Of a netdev that is elsewhere, or in a reset, the surroundings are not to be had.
    """
    here = port.netdev is not None and around.state is not None
    return [no for guard in (GUARDS if here else _OF_THE_PORT) if (no := guard(port, around))]
