"""Refusals in words, and as JSON: the only place that makes sentences of them. Decides nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from manactl.decide import kernel_bugs
from manactl.decide import refusal as why
from manactl.decide.codes import BARRED, Bar, Code
from manactl.decide.refusal import Refusal, Source
from manactl.decide.unmanageable import Obstacle
from manactl.escape import called
from manactl.model.port import Evidence
from manactl.netstate.surroundings import (
    UNTOLD,
    Connection,
    Listener,
    Manager,
    RemoteStorage,
    Stacked,
)

_NAMED = 5  # of a long list, as many are spelled out
_BY_PROC = ("sctp", "raw", "udplite")  # what sock_diag is not asked for

_UNREAD = {
    Source.SSH_SESSIONS: ("env", "the SSH sessions"),
    Source.ROUTES: ("rtnetlink", "the routes"),
    Source.OTHER_NETDEVS: ("rtnetlink", "the other netdevs' addresses"),
    Source.CONNECTIONS: ("sock_diag", "the TCP connections"),
    Source.FABRIC: ("rtnetlink", "the routes to 168.63.129.16 and 169.254.169.254"),
    Source.RDMA_USERS: ("nldev", "the users of the RDMA devices"),
    Source.UPPERS: ("rtnetlink", "its upper devices"),
    Source.OTHER_NAMESPACES: (
        "netns",
        "its upper devices in other network namespaces (only root can read them)",
    ),
    Source.XDP: ("rtnetlink", "whether an XDP program is attached"),
    Source.PACKET_SOCKETS: ("proc", "/proc/net/packet"),
    Source.MANAGERS: ("proc", "which network managers run"),
    Source.FORWARDING: ("conntrack", "the connections that are forwarded for others"),
    Source.TRACKING: (
        "conntrack",
        "whether NAT or marks (conntrack) send other connections over it",
    ),
    Source.IPSEC: ("xfrm", "the IPsec policies"),
    Source.STORAGE: ("proc", "the mounts and disks of storage servers"),
    Source.SOCKETS: ("sock_diag", "the sockets of UDP, SCTP and raw IP"),
}


def report(hard: Sequence[Refusal], allow: Collection[str]) -> str:
    """Every refusal, a line each, and why a waiver that was given has no effect."""
    ports = sorted({refusal.label for refusal in hard})
    lines = [f"refused to claim {', '.join(ports)}; nothing was touched"]
    for refusal in hard:
        lines.append(f"  {refusal.code}: {refusal.label}: {message(refusal)}.")
        if refusal.bar and refusal.code in allow:
            lines.append(f"    --allow {refusal.code} has no effect: {barred(refusal)}.")
    return "\n".join(lines)


def hints(hard: Sequence[Refusal]) -> str:
    """What can be done, a line for each kind of remedy."""
    lines = []
    if open_to := sorted({refusal.code for refusal in hard if refusal.bar is None}):
        words = " ".join(f"--allow {code}" for code in open_to)
        lines.append(f"to accept the loss: {words}")
    if temporary := {refusal.code for refusal in hard if refusal.bar is Bar.NEEDS_CONFIRM}:
        words = " ".join(f"--allow {code}" for code in sorted({*temporary, *open_to}))
        lines = [_WAY_BACK.format(words=words)]
    closed: dict[str, set[Code]] = {}
    for refusal in hard:
        if refusal.bar and refusal.bar is not Bar.NEEDS_CONFIRM and refusal.code.is_guard:
            closed.setdefault(barred(refusal), set()).add(refusal.code)
    lines += [f"{', '.join(sorted(codes))}: {reason}" for reason, codes in closed.items()]
    lines += dict.fromkeys(_remedy(refusal) for refusal in hard if not refusal.code.is_guard)
    return "\n".join(lines)


_WAY_BACK = (
    "to accept the loss: {words} --confirm-within 120 (the claim is released automatically unless "
    "`manactl confirm` comes in time), or with a command to run: {words} -- COMMAND"
)


def barred(refusal: Refusal) -> str:
    """Why the refusal cannot be waived."""
    if refusal.bar is Bar.NOT_RESTORABLE and isinstance(refusal.facts, why.Uppers):
        lost = [device for device in refusal.facts.devices if not device.restorable]
        return f"it cannot be waived: release could not restore {_some(lost)}"
    return BARRED[refusal.bar] if refusal.bar else ""


def to_json(refusal: Refusal) -> dict[str, object]:
    return {
        "code": str(refusal.code),
        "port": refusal.label,
        "message": message(refusal),
        "waivable": refusal.bar is None,
        "evidence": [piece._asdict() for piece in evidence(refusal)],
    }


def message(refusal: Refusal) -> str:  # noqa: PLR0911, PLR0912 - a case for each kind of facts
    """Why the port is not claimed, in one sentence or two, without a full stop."""
    match refusal.facts:
        case why.Unread(source):
            return f"{_UNREAD[source][1]} could not be read"
        case why.NotHere(_, netns):
            where = netns or "another network namespace, or unplugged"
            return (
                f"the port's netdev is not in this network namespace ({where}): claim it from there"
            )
        case why.MadeElsewhere(synthetic):
            return (
                f"--synthetic=uio destroys {synthetic}, and hv_netvsc makes it again in the initial "
                "network namespace alone, which this is not: use --synthetic=down, or move "
                f"{synthetic} there and claim it from there"
            )
        case why.InReset():
            return (
                "the driver is resetting the device, also for servicing by the host, or could not "
                "set it up; try again when `manactl status` shows an owner, for example with "
                "--wait SECONDS"
            )
        case why.EqsLost(own):
            return kernel_bugs.lost_eqs(own)
        case why.SshSessions(sessions, logins):
            typed_in = [s for s in sessions if s.ssh.own]
            mine = [f"{_session(s)}{_on(s.on)}" for s in typed_in if s.ssh.client != UNTOLD]
            untold = [s.ssh.found_in for s in typed_in if s.ssh.client == UNTOLD]
            beside = [
                *(
                    f"{_session(s)}{_on(s.on)} ({s.ssh.found_in})"
                    for s in sessions
                    if not s.ssh.own
                ),
                *map(_connection, logins),
            ]
            parts = [
                *([f"the SSH session of this command runs over it: {_some(mine)}"] if mine else []),
                *(
                    [
                        "whether the SSH session of this command runs over it is not known: "
                        f"{_some(untold)} could not be read"
                    ]
                    if untold
                    else []
                ),
                *([f"remote logins run over it: {_some(beside)}"] if beside else []),
            ]
            return "; ".join(parts)
        case why.DefaultRoutes(routes):
            return f"a default route goes through it: {_some(map(_route, routes))}"
        case why.LastPort(addresses):
            names = _some(f"{own.address}{_on(own.on)}" for own in addresses)
            return f"no other netdev is up with carrier and a global address; this one has {names}"
        case why.Connections(connections):
            count = f"{len(connections)} live TCP connection" + "s" * (len(connections) != 1)
            return f"{count}: {_some(map(_connection, connections))}. {survival(connections)}"
        case why.Storage(connections, attached):
            names = _some(
                [
                    *map(_attached, attached),
                    *(
                        f"{why.STORAGE_PORTS[c.peer_port]} at {c.peer} "
                        f"({_some(c.processes) or 'the kernel'})"
                        for c in connections
                        if c.processes or c.peer not in {one.address for one in attached}
                    ),
                ]
            )
            return f"storage is used over it: {names}"
        case why.Fabric(ways):
            names = _some(f"{service(way.address)} {way.address}" for way in ways)
            return f"the way to {names} goes through it, and no other works"
        case why.RdmaUsers(users):
            names = _some(
                f"{u.what} on {u.device}" + (f" ({_some(u.processes)})" if u.processes else "")
                for u in users
            )
            return (
                f"RDMA users beside raw QPs: {names}; which port they use is not visible, and on "
                "this one they would lose the link and the IPv6 GIDs"
            )
        case why.Uppers(devices):
            return f"other devices are stacked on it: {_some(devices)}"
        case why.Xdp():
            return "an XDP program is attached to it, or an AF_XDP socket bound, and gets no packets until release"
        case why.PacketSockets(sockets):
            who = [
                f"{process} (on {packet.netdev})" if packet.netdev else str(process)
                for packet in sockets
                for process in packet.processes
            ]
            return (
                f"packet sockets are bound to it: {_some(who) or 'of processes not visible'}; "
                "they get ENETDOWN or no more packets, and some programs exit then"
            )
        case why.Managers(managers, obstacles):
            names = _some(
                (f"{m.name} ({m.process})" if m.process else m.name)
                + ("" if m.managed else ", which does not report whether it does")
                + _not_unmanaged(m, obstacle)
                for m, obstacle in zip(managers, obstacles, strict=True)
            )
            return (
                f"a network manager controls it: {names}; it may set the port up again or drop its "
                "addresses"
            )
        case why.Sockets(sockets):
            names = _some(f"{one.protocol} {_connection(one)}" for one in sockets)
            return f"connected sockets that are not TCP's use it: {names}; what they send is lost"
        case why.Forwarding(flows, ipsec):
            tunnels = (
                f"IPsec puts packets into tunnels that leave by it ({_some(ipsec)}); they are lost "
                "until release"
            )
            if not flows:
                return tunnels
            total = sum(flow.connections for flow in flows)
            names = _some(
                f"{flow.connections} of {flow.source} ({flow.example}){_in(flow.netns)}"
                for flow in flows
            )
            few = flows[0].source if len(flows) == 1 else f"{len(flows)} addresses"
            return (
                f"{total} forwarded connection{'s' * (total != 1)} of {few} use it: {names}; they "
                "stall until release, and the kernel may forget those that are masqueraded"
            ) + (f". {tunnels}" if ipsec else "")
        case why.NoRdmaDevice(elsewhere, names):
            return (
                _no_rdma_device(names)
                if elsewhere
                else ("it has no RDMA device: no raw QP can be made on it")
            )
        case why.HeldBy(holders):
            words = [f"pid {holder.pid} {called(holder.comm)}" for holder in holders]
            return "a raw QP has the vport already" + (f" ({', '.join(words)})" if words else "")
        case why.OwnerUnprovable():
            return "cannot tell who owns its vport without a test QP, which needs CAP_NET_RAW"
        case why.InTransition(notes):
            return "; ".join(["the driver is in transition", *notes])
        case why.Unjoined(vmbus, netdev):
            above = netdev or f"VMBus device {vmbus}"
            return (
                f"it is the VF of {above}, which hv_netvsc has not joined it to: alone it would be "
                "opened again as soon as that happens"
            )


def _no_rdma_device(names: Sequence[str]) -> str:
    which = f" ({', '.join(names)})" if names else ""
    return (
        f"the RDMA device that raw QPs are made on is not in this network namespace{which}: "
        "whether a raw QP has the port cannot be seen from here, nor can one be made"
    )


# To be filled in by the operator, who knows which namespace it is.
RDMA_BACK = (
    "run manactl where the device is, or bring it back: ip netns attach first 1 && "
    "ip netns exec NETNS rdma dev set DEVICE netns first; a namespace without a name is entered by "
    "a process in it: nsenter -t PID -n rdma dev set DEVICE netns first"
)


def _remedy(refusal: Refusal) -> str:
    """What to do about a refusal that no waiver changes."""
    match refusal.facts:
        case why.NoRdmaDevice(elsewhere):
            return RDMA_BACK if elsewhere else "load the driver: modprobe mana_ib"
        case why.HeldBy():
            return "the port is in use for RDMA already; to claim it, end the holder first"
        case why.OwnerUnprovable():
            return "run it as root, for instance with sudo"
        case why.Unjoined(_, None):
            return "have hv_netvsc take that device (modprobe hv_netvsc), then claim the port"
        case why.Unjoined():
            return (
                "try again in a moment, or see why they do not come together: dmesg | grep netvsc"
            )
    return "try again in a moment; manactl status -v shows the evidence"


def evidence(refusal: Refusal) -> tuple[Evidence, ...]:  # noqa: PLR0911, PLR0912
    """The facts, each with the kernel interface that it came from."""
    match refusal.facts:
        case why.Unread(source):
            return (Evidence(*_UNREAD[source], None),)
        case why.NotHere(netdev):
            return (Evidence("sysfs", "netdev", netdev),)
        case why.MadeElsewhere(synthetic):
            return (Evidence("sysfs", "netdev", synthetic),)
        case why.InReset(pieces):
            return (Evidence("sysfs", "auxiliary devices of the function", []), *pieces)
        case why.EqsLost(_, pieces) | why.OwnerUnprovable(pieces) | why.InTransition(_, pieces):
            return pieces
        case why.Unjoined(vmbus, netdev):
            return (Evidence("sysfs", f"netdev of VMBus device {vmbus}", netdev),)
        case why.SshSessions(sessions, logins):
            return (
                *(
                    Evidence("env", s.ssh.found_in, f"{s.ssh.client} {s.ssh.server}")
                    for s in sessions
                ),
                *(Evidence("sock_diag", tcp.state, _connection_json(tcp)) for tcp in logins),
            )
        case why.DefaultRoutes(routes):
            return tuple(Evidence("rtnetlink", "route", _route(route)) for route in routes)
        case why.LastPort():
            return (Evidence("rtnetlink", "other netdevs with a global address", []),)
        case why.Connections(connections):
            return tuple(
                Evidence("sock_diag", tcp.state, _connection_json(tcp)) for tcp in connections
            )
        case why.Storage(connections, attached):
            return (
                *(
                    Evidence("sock_diag", why.STORAGE_PORTS[c.peer_port], str(c))
                    for c in connections
                ),
                *(Evidence("proc", one.kind, one._asdict()) for one in attached),
            )
        case why.Fabric(ways):
            return tuple(
                Evidence("rtnetlink", f"route to {way.address}", refusal.label) for way in ways
            )
        case why.RdmaUsers(users):
            return tuple(
                Evidence("nldev", u.device, {"what": u.what, "pids": [p.pid for p in u.processes]})
                for u in users
            )
        case why.Uppers(devices):
            return tuple(Evidence("rtnetlink", "upper", str(device)) for device in devices)
        case why.Xdp():
            return (Evidence("rtnetlink", "IFLA_XDP", True),)
        case why.PacketSockets(sockets):
            return tuple(
                Evidence(
                    "proc",
                    "net/packet",
                    {"inode": s.inode, "netdev": s.netdev, "pids": [p.pid for p in s.processes]},
                )
                for s in sockets
            )
        case why.Sockets(sockets):
            return tuple(
                Evidence(
                    "proc" if one.protocol in _BY_PROC else "sock_diag",
                    one.state,
                    {"protocol": one.protocol, **_connection_json(one)},
                )
                for one in sockets
            )
        case why.Forwarding(flows, ipsec):
            return (
                *(Evidence("conntrack", "forwarded", flow._asdict()) for flow in flows),
                *(Evidence("xfrm", "policy", one._asdict()) for one in ipsec),
            )
        case why.Managers(managers):
            asked = [Evidence("dbus", m.name, m.silent) for m in managers if m.silent is not None]
            return (*(Evidence("run", m.source, m.managed) for m in managers), *asked)
        case why.NoRdmaDevice(_, names):
            return tuple(Evidence("sysfs", "RDMA device elsewhere", name) for name in names)
        case why.HeldBy(holders):
            return tuple(
                Evidence("proc", "holder", {"pid": h.pid, "comm": h.comm, "unit": h.unit})
                for h in holders
            )


_OBSTACLES = {
    Obstacle.MEMBER: "which has it in a bond, bridge, team or VRF",
    Obstacle.UNREAD: "which would delete policy rules and the like, and these could not be read",
    Obstacle.DOWN: "which would open it when it gets it back, though it is down now",
}


def _not_unmanaged(manager: Manager, obstacle: Obstacle | None) -> str:
    """Why a manager that can let go of netdevs does not do it here."""
    if obstacle is Obstacle.SILENT:
        return f", which does not answer ({manager.silent})"
    words = _OBSTACLES.get(obstacle) if obstacle else None
    return f", {words}" if words else ""


def _some(items: Iterable[object]) -> str:
    listed = [str(item) for item in items]
    more = len(listed) - _NAMED
    return ", ".join(listed[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _session(session: why.Session) -> str:
    client, server = session.ssh.client, session.ssh.server
    client = "an unknown client" if client == UNTOLD else client
    server = "" if server == UNTOLD else server
    ends = f"{client} to {server}" if server else client  # logind knows the client alone
    guest = ", from a container or VM of this host that is reached over it"
    return ends + guest if session.ssh.guest else ends


def _on(device: Stacked | None) -> str:
    return f" on {device}" if device else ""


def _in(netns: str | None) -> str:
    return f" in the network namespace {netns}" if netns else ""


def _route(route: why.DefaultRoute) -> str:
    return route.text + _in(route.netns)


def _attached(one: RemoteStorage) -> str:
    server = one.address or "a server that is not known"
    at = "" if one.kind == "AoE" else f" at {server}"
    return f"{one.kind}{at} ({one.where}{_in(one.netns)})"


def _connection(tcp: Connection) -> str:
    if tcp.is_orphan:
        who = "closed by its program; the kernel still waits for the other end"
    elif tcp.of_kernel:
        who = "no visible process: the kernel's own, or not accepted yet"
    else:
        who = _some(tcp.processes)
    return f"{tcp}{_in(tcp.netns)} ({who})"


def _connection_json(tcp: Connection) -> dict[str, object]:
    return {
        "local": f"{tcp.local} {tcp.local_port}",
        "peer": f"{tcp.peer} {tcp.peer_port}",
        "netns": tcp.netns,
        "processes": [{"pid": p.pid, "comm": p.comm} for p in tcp.processes],
        "survives": "if its address is back in time" if tcp.address_goes else "yes",
    }


def service(address: str) -> str:
    """What answers at an address of Azure's."""
    if address == "169.254.169.254":
        return "Azure's metadata service (IMDS)"
    return "Azure's wire server"


def listener(one: Listener) -> str:
    """A socket for whoever asks, with its processes."""
    return f"{one}{_in(one.netns)} ({_some(one.processes) or 'no visible process'})"


def listener_json(one: Listener) -> dict[str, object]:
    return {
        "protocol": one.protocol,
        "address": one.address,
        "port": one.port,
        "netns": one.netns,
        "processes": [{"pid": p.pid, "comm": p.comm} for p in one.processes],
    }


def survival(hits: Collection[Connection]) -> str:
    """Which of the connections survive until after release."""
    going = [tcp for tcp in hits if tcp.address_goes]
    if not going:
        return "They stall until release, and survive unless an end times out before"
    if len(going) == len(hits):
        return "They stall until release, and survive if their IPv6 address is restored in time"
    return (
        f"They stall until release; {len(hits) - len(going)} survive unless an end times out "
        f"before, {len(going)} if their IPv6 address is restored in time: {_some(going)}"
    )
