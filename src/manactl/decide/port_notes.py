"""What people need explained about a port: one sentence each, no decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from manactl.decide.ownership import Decision
from manactl.model.port import Owner, PortStatus

if TYPE_CHECKING:
    from manactl.model.claim import ClaimSummary

BUSY = (
    "the kernel's network lock (RTNL) is held and not given back in time: a driver may be waiting "
    "for its device; carrier comes from operstate, altnames are not known"
)


FOREIGN_SYSFS = (
    "/sys shows the netdevs of another network namespace than this process is in (`nsenter --net`; "
    "`ip netns exec` mounts its own)"
)
NO_PORT = "the driver is setting it up, resets it, or has failed to (see the kernel's messages)"
IN_DRIVER = (
    "{comm} {pid} waits in the driver ({function}), as a rule for the device to answer: until it "
    "does, what is shown may be what was before"
)


def of(
    port: PortStatus,
    decisions: Mapping[int, Decision],
    labels: Sequence[str],
    *,
    steady: bool,
    hidden: bool,
) -> Iterator[str]:
    """Sentences about `port`; `decisions` are those of all ports of its function.

    `labels` name the candidates; `hidden` tells that there are descriptors we may not look at.
    """
    decision = decisions[port.id.port]
    if not steady:
        yield "the port kept changing while it was looked at"
    if decision.in_transition:
        yield (
            "the driver is in the middle of opening, closing or resetting this port; a raw QP gets "
            "EBUSY meanwhile"
        )
    if decision.eqs_lost:
        yield (
            "a raw QP lives whose event queues debugfs no longer shows: MTU or rings of the down "
            "netdev were changed, perhaps by its bond, and the kernel crashes when that QP is "
            "destroyed"
        )
    if port.netdev is not None and port.netns is not None:
        yield f"its netdev {port.netdev.name} is in the network namespace {port.netns}"
    elif port.netdev is None:
        open_end = " and may be up in another one" if port.owner is Owner.UNKNOWN else ""
        yield "its netdev is not in this network namespace" + open_end
    if port.owner is Owner.RAW_QP:
        yield from _raw_qp(port, decisions, hidden)
    elif len(port.candidates) > 1:
        yield (
            f"{', '.join(labels)}: a raw QP may be on any of these, "
            "and what can be seen from here does not tell which"
        )
    elif port.owner is Owner.UNKNOWN and port.netdev is not None:
        yield port.reason
    if port.netdev and port.netdev.master:
        kind = f" ({port.upper.kind})" if port.upper and port.upper.kind else ""
        yield f"it is below {port.netdev.master}{kind}"
        if port.owner is Owner.RAW_QP and (danger := below_a_bond(port)):
            yield danger


def below_a_bond(port: PortStatus) -> str | None:
    """What to leave alone while a raw QP has a bond's member; None where it does no harm.

    Only drivers with event queues for each vport have something to lose; where debugfs cannot be
    read, nobody knows which driver this is, and nothing is said.
    """
    eqs = any((one.source, one.fact) == ("debugfs", "EQs") for one in port.evidence)
    if not eqs or port.upper is None or port.upper.kind != "bond":
        return None
    return (
        f"while a raw QP has {port.label}, do not delete {port.upper.netdev} or change its MTU, "
        f"nor move {port.label} to another network namespace: each sets the MTU of {port.label}, "
        "and the kernel crashes when that QP is destroyed"
    )


def rdma_users(device: str, count: int) -> str:
    """What queue pairs of other kinds mean to a port."""
    pairs = "1 RC, UC or UD queue pair" if count == 1 else f"{count} RC, UC or UD queue pairs"
    return (
        f"{device} has {pairs} of users: that takes no vport, but while the netdev is down the "
        "RDMA port is, too"
    )


def unseen(port: PortStatus, contexts: int | None, descriptors: int, hidden: bool) -> str | None:
    """Open contexts for which no descriptor was found. Without any holder that is said anyway."""
    more = (contexts or 0) - descriptors
    if more <= 0 or not port.holders:
        return None
    where = " (ask as root)" if hidden else ": it may be in another pid namespace"
    return (
        f"the RDMA device has {contexts} open contexts, for which only {descriptors} descriptors "
        f"were found: a holder is not visible from here{where}"
    )


def unclaimed(port: PortStatus) -> str | None:
    """What it means that a raw QP has a port without a claim."""
    if port.owner is not Owner.RAW_QP:
        return None
    return "no claim covers it: when the raw QP ends, the port stays down until somebody sets it up"


def drift(port: PortStatus, claim: ClaimSummary) -> Iterator[str]:
    """Where the port is not as its claim left it. An interrupted claim has left it anywhere."""
    if not claim.same_boot or claim.phase != "claimed":
        return
    if claim.port.is_another(port.id):
        yield f"claimed, yet another NIC is in its place: {claim.port.permanent_mac} is claimed"
    if port.netdev is None:
        yield "claimed, yet its netdev is not here any more"
    elif port.netns is not None:
        yield f"claimed, yet its netdev has been moved to the network namespace {port.netns}"
    if port.netdev is not None and port.netdev.admin_up:
        yield "claimed, yet its netdev is up"


def _raw_qp(port: PortStatus, decisions: Mapping[int, Decision], hidden: bool) -> Iterator[str]:
    if port.rdma:
        yield (
            f"`rdma link` shows {port.rdma.device}/{port.rdma.port} DOWN although it works: "
            "that state is the netdev's, not the raw QP's"
        )
    if not port.holders:
        where = " (ask as root)" if hidden else ": it may be in another pid namespace"
        yield "its holder is not visible from here" + where
    elif len(port.holders) > 1:
        shared = sum(other.owner is Owner.RAW_QP for other in decisions.values()) > 1
        names = ", ".join(f"{holder.comm or '?'} {holder.pid}" for holder in port.holders)
        yield (
            f"{names}: all have the RDMA device open; the kernel does not tell which of them "
            + ("uses which port" if shared else "uses this port, or whether they share it")
        )
