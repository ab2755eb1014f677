"""Guards: why a port should not be taken now. Pure; what could not be read refuses.

Each guard gets a port and its surroundings and returns a refusal or None. The kernel decides in
the end who gets a vport; a guard only keeps the operator from losing what he did not mean to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from manactl import snapshot
from manactl.errors import Refused
from manactl.model import Evidence, Owner, PortStatus
from manactl.snapshot import Fact, PortState
from manactl.surroundings import Connection, Surroundings

# Losing one of these can cut the operator off; a waiver has to come with a way back by itself.
_NEEDS_CONFIRM = frozenset({"ssh-session", "default-route", "last-port"})
WAIVABLE = (
    "ssh-session",
    "default-route",
    "last-port",
    "tcp-established",
    "storage",
    "azure-fabric",
    "rdma-users",
    "upper",
    "xdp",
    "packet-sockets",
    "manager",
)
# Of these a release could not put everything back, so a waiver would promise too much.
_NOT_YET = frozenset({"upper", "xdp"})
_STORAGE_PORTS = {2049: "NFS", 3260: "iSCSI", 445: "SMB", 3300: "Ceph", 6789: "Ceph",
                  4420: "NVMe/TCP", 8009: "NVMe/TCP"}  # fmt: skip
_NAMED = 5  # of a long list, as many are spelled out


@dataclass(frozen=True, slots=True)
class Refusal:
    """A guard's no: which, about what, and how we know."""

    code: str
    port: str
    message: str
    evidence: tuple[Evidence, ...]

    @property
    def waiver(self) -> str | None:
        """Why this cannot be waived by --allow now; None when it can."""
        if self.code not in WAIVABLE:
            return "it cannot be waived"
        if self.code in _NEEDS_CONFIRM:
            return "it cannot be waived in this version: that needs a claim that ends by itself"
        if self.code in _NOT_YET:
            return "it cannot be waived in this version: release could not put it back"
        return None

    def to_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "port": self.port,
            "message": self.message,
            "waivable": self.waiver is None,
            "evidence": [
                {"source": e.source, "fact": e.fact, "value": e.value} for e in self.evidence
            ],
        }


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
    if port.netdev is not None and port.netns is None and around.state is not None:
        return None
    where = port.netns or "another network namespace, or unplugged"
    return _no(
        port,
        "foreign-netns",
        f"the port's netdev is not in this network namespace ({where}): claim it from there",
        Evidence("sysfs", "netdev", port.netdev.name if port.netdev else None),
    )


def guard_ssh_session(port: PortStatus, around: Surroundings) -> Refusal | None:
    """The session this command was typed in runs over the port."""
    if around.ssh is None or around.state is None:
        return _unread(port, "ssh-session", "env", "the sessions of this process's ancestors")
    own = set(snapshot.addresses(around.state.facts))
    hits = [s for s in around.ssh if s.server in own or s.through_port is not False]
    if not hits:
        return None
    names = _some(f"{s.client} to {s.server}" for s in hits)
    return _no(
        port,
        "ssh-session",
        f"the SSH session of this command runs over it: {names}",
        *(Evidence("env", s.found_in, f"{s.client} {s.server}") for s in hits),
    )


def guard_default_route(port: PortStatus, around: Surroundings) -> Refusal | None:
    """A default route of any table and family goes through the port."""
    if around.state is None:
        return _unread(port, "default-route", "rtnetlink", "the routes")
    routes = [_text(f, around.state) for f in around.state.facts if snapshot.is_default_route(f)]
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
    own = snapshot.global_addresses(around.state.facts)
    if not own:
        return None
    return _no(
        port,
        "last-port",
        f"no other netdev is up with carrier and a global address; this one has {_some(own)}",
        Evidence("rtnetlink", "other netdevs with a global address", []),
    )


def _at_risk(around: Surroundings) -> list[Connection]:
    """Connections from or to the port's own addresses. What stays inside this host over IPv4
    is not touched; over IPv6 it is, since the addresses themselves go."""
    if around.state is None or not around.state.up:
        return []
    own = set(snapshot.addresses(around.state.facts))
    return [
        one
        for one in around.connections or ()
        if one.local in own and (one.is_ipv6 or one.peer not in own)
    ]


def guard_tcp_established(port: PortStatus, around: Surroundings) -> Refusal | None:
    """Live TCP connections use the port's addresses."""
    if around.connections is None or around.state is None:
        return _unread(port, "tcp-established", "sock_diag", "the TCP connections")
    hits = _at_risk(around)
    if not hits:
        return None
    return _no(
        port,
        "tcp-established",
        f"{len(hits)} live TCP connection{'s' * (len(hits) > 1)}: {_some(map(_connection, hits))}. "
        + _survival(hits),
        *(
            Evidence(
                "sock_diag",
                one.state,
                {
                    "local": f"{one.local} {one.local_port}",
                    "peer": f"{one.peer} {one.peer_port}",
                    "processes": [{"pid": p.pid, "comm": p.comm} for p in one.processes],
                },
            )
            for one in hits
        ),
    )


def _survival(hits: Collection[Connection]) -> str:
    six = sum(one.is_ipv6 for one in hits)
    if not six:
        return "They stall until release, and survive unless a side gives up before"
    return (
        "They stall until release; IPv4 survives unless a side gives up before, IPv6 too once "
        "its address is back"
    )


def _connection(one: Connection) -> str:
    if one.of_kernel:
        return f"{one} (no process: the kernel's own, or not accepted yet)"
    who = _some(one.processes) or "process not visible"
    return f"{one} ({who})"


def guard_storage(port: PortStatus, around: Surroundings) -> Refusal | None:
    """The kernel itself talks to a storage server over the port."""
    if around.connections is None or around.state is None:
        return _unread(port, "storage", "sock_diag", "the TCP connections")
    hits = [c for c in _at_risk(around) if c.of_kernel and c.peer_port in _STORAGE_PORTS]
    if not hits:
        return None
    names = _some(f"{_STORAGE_PORTS[c.peer_port]} at {c.peer}" for c in hits)
    return _no(
        port,
        "storage",
        f"the kernel uses storage over it: {names}",
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
        f"{u.what} on {u.device} ({_some(u.processes) or '?'})" for u in around.rdma_users
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
        return _unread(port, "upper", "sysfs", "the devices stacked on it")
    if not around.uppers:
        return None
    return _no(
        port,
        "upper",
        f"it carries other devices: {_some(around.uppers)}",
        *(Evidence("sysfs", "upper", name) for name in around.uppers),
    )


def guard_xdp(port: PortStatus, around: Surroundings) -> Refusal | None:
    """An XDP program is attached."""
    if around.xdp is None:
        return _unread(port, "xdp", "rtnetlink", "whether an XDP program is attached")
    if not around.xdp:
        return None
    return _no(
        port, "xdp", "an XDP program is attached to it", Evidence("rtnetlink", "IFLA_XDP", True)
    )


def guard_packet_sockets(port: PortStatus, around: Surroundings) -> Refusal | None:
    """AF_PACKET users (DHCP clients, lldpd, tcpdump) bound to the port get ENETDOWN."""
    if around.packet_sockets is None:
        return _unread(port, "packet-sockets", "proc", "/proc/net/packet")
    if not around.packet_sockets or around.state is None or not around.state.up:
        return None
    who = [p for one in around.packet_sockets for p in one.processes]
    return _no(
        port,
        "packet-sockets",
        f"packet sockets are bound to it: {_some(who) or 'by processes that are not visible'}; "
        "they get ENETDOWN, and some programs end then",
        *(
            Evidence("proc", "net/packet", {"inode": s.inode, "pids": [p.pid for p in s.processes]})
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
    return snapshot.describe(fact, {state.ifindex: state.ifname})


Guard = Callable[[PortStatus, Surroundings], Refusal | None]
GUARDS: tuple[Guard, ...] = (
    guard_foreign_netns,
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


def refusals(port: PortStatus, around: Surroundings) -> list[Refusal]:
    """What every guard says; none is skipped because another has refused already."""
    if port.netdev is None or around.state is None:
        alone = guard_foreign_netns(port, around)
        return [alone] if alone else []
    return [no for guard in GUARDS if (no := guard(port, around)) is not None]


def judge(found: Iterable[Refusal], allow: Collection[str]) -> tuple[Refusal, ...]:
    """The waived refusals; Refused with all the others when there is one."""
    every = list(found)
    hard = [r for r in every if r.code not in allow or r.waiver is not None]
    if hard:
        raise refused(hard, allow)
    return tuple(every)


def refused(hard: list[Refusal], allow: Collection[str]) -> Refused:
    """One error that tells every refusal with what can be done about it."""
    ports = sorted({refusal.port for refusal in hard})
    lines = [f"refused to claim {', '.join(ports)}; nothing was touched"]
    for refusal in hard:
        lines.append(f"  {refusal.code}: {refusal.port}: {refusal.message}.")
        if refusal.waiver and refusal.code in allow:
            lines.append(f"    --allow {refusal.code}: {refusal.waiver}.")
    open_to = sorted({r.code for r in hard if r.waiver is None})
    closed = sorted({r.code for r in hard if r.waiver is not None})
    hints = []
    if open_to:
        words = " ".join(f"--allow {code}" for code in open_to)
        hints.append(f"to accept the loss: {words}")
    if closed:
        hints.append(f"not waivable here: {', '.join(closed)}; remove the cause first")
    return Refused(
        "\n".join(lines),
        hint="\n".join(hints),
        evidence=[Evidence("guard", r.code, r.to_json()) for r in hard],
        code=hard[0].code if len(hard) == 1 else None,
    )


def may_be_taken(port: PortStatus) -> bool:
    """Whether somebody may have the vport by a raw QP; only the proof can tell for unknown."""
    return port.owner in (Owner.RAW_QP, Owner.UNKNOWN)
