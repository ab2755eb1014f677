"""What people need explained about a port: one sentence each, no decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from manactl.model import Owner, PortStatus
from manactl.ownership import Decision

BUSY = (
    "the kernel's network lock (RTNL) is held and not given back in time: a driver may be waiting "
    "for its device; carrier comes from operstate, altnames are not known"
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
        yield "the driver is in the middle of opening or closing this port"
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


def _raw_qp(port: PortStatus, decisions: Mapping[int, Decision], hidden: bool) -> Iterator[str]:
    if port.rdma:
        yield (
            f"`rdma link` shows {port.rdma.device}/{port.rdma.port} DOWN although it works: "
            "that state is the netdev's, not the raw QP's"
        )
    if not port.holders:
        yield "its holder is not visible from here" + (" (ask as root)" if hidden else "")
    elif len(port.holders) > 1:
        shared = sum(other.owner is Owner.RAW_QP for other in decisions.values()) > 1
        names = ", ".join(f"{holder.comm or '?'} {holder.pid}" for holder in port.holders)
        yield (
            f"{names}: all have the RDMA device open; the kernel does not tell which of them "
            + ("uses which port" if shared else "uses this port, or whether they share it")
        )
