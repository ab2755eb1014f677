"""What is worth explaining about a port. Which words that takes stands in port_words.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from manactl.decide import kernel_bugs
from manactl.decide.ownership import Decision
from manactl.escape import called
from manactl.model.claim import Phase
from manactl.model.port import DOWN, KEEP, UIO, Note, Owner, PortStatus

if TYPE_CHECKING:
    from manactl.model.claim import ClaimSummary, NetnsId


def of(
    port: PortStatus,
    decisions: Mapping[int, Decision],
    labels: Sequence[str],
    *,
    steady: bool,
    hidden: bool,
) -> Iterator[Note]:
    """Notes about `port`; `decisions` are those of all ports of its function.

    `labels` name the candidates; `hidden`: there are descriptors that this user may not read.
    """
    decision = decisions[port.id.port]
    if not steady:
        yield Note("kept-changing")
    if decision.in_transition:
        yield Note("in-transition")
    if decision.eqs_lost:
        yield Note("eqs-lost", (kernel_bugs.is_own(port),))
    if port.netdev is not None and port.netns is not None:
        yield Note("netdev-in-netns", (port.netdev.name, port.netns))
    elif port.netdev is None:
        unknown = port.owner is Owner.UNKNOWN
        yield Note("netdev-not-here-maybe-up" if unknown else "netdev-not-here")
    if port.rdma_elsewhere:
        yield Note("rdma-elsewhere", port.rdma_elsewhere)
    if port.owner is Owner.RAW_QP:
        yield from _raw_qp(port, decisions, hidden)
    elif len(port.candidates) > 1:
        yield Note("candidates", tuple(labels))
    elif port.owner is Owner.UNKNOWN and port.netdev is not None:
        yield Note("owner-unknown", port.reasons)
    if port.netdev and port.netdev.master:
        kind = port.upper.kind if port.upper else None
        master = port.netdev.master
        if not port.pair:
            yield Note("upper-of-kind", (master, kind)) if kind else Note("upper", (master,))
        if port.owner is Owner.RAW_QP and (danger := below_a_bond(port)):
            yield danger


def unjoined(port: PortStatus) -> Note | None:
    """What it means to the VF of a pair that hv_netvsc has not joined it yet."""
    if port.unjoined is None:
        return None
    return Note("unjoined", (port.pair.netdev if port.pair else f"VMBus device {port.unjoined}",))


def slow(port: PortStatus) -> Note | None:
    """What it means to a pair that its VF is down."""
    pair = port.pair
    return Note("slow-path", (pair.netdev,)) if pair and pair.data_path == "synthetic" else None


def below_a_bond(port: PortStatus) -> Note | None:
    """What not to do with a bond while a raw QP has its member; None where it does no harm."""
    bond = kernel_bugs.endangered_by_bond(port)
    return None if bond is None else Note("bond-danger", (port.label, bond))


def rdma_users(device: str, count: int) -> Note:
    """What queue pairs of other kinds mean to a port."""
    return Note("other-qps", (device, count))


def unseen(port: PortStatus, descriptors: int, hidden: bool) -> Note | None:
    """Open contexts for which no descriptor was found. Without any holder another note says so."""
    contexts = port.rdma_use.contexts or 0
    if contexts <= descriptors or not port.holders:
        return None
    return Note("contexts-hidden" if hidden else "contexts-unseen", (contexts, descriptors))


def unclaimed(port: PortStatus) -> Note | None:
    """What it means that a raw QP has a port without a claim."""
    return Note("unclaimed") if port.owner is Owner.RAW_QP else None


def left_down(paths: Sequence[str]) -> Note:
    """What it means that a network manager leaves the port alone from boot on."""
    return Note("left-down", (", ".join(paths),))


def drift(
    port: PortStatus,
    claim: ClaimSummary,
    here: NetnsId | None = None,
    inode: int | None = None,
    above: int | None = None,
) -> Iterator[Note]:
    """Where the port is not as its claim left it. An interrupted claim has left it anywhere.

    `here`: the network namespace of this process; `inode`: of the one that has the netdev instead;
    `above`: the ifindex of the synthetic netdev of a pair.
    """
    if not claim.same_boot or claim.phase is not Phase.CLAIMED:
        return
    elsewhere = claimed_elsewhere(claim, here)
    if claim.port.is_another(port.id):
        yield Note("drift-another-nic", (claim.port.permanent_mac,))
    stayed = elsewhere and claim.netns is not None and claim.netns.inode == inode
    if port.netdev is None:
        yield Note("drift-no-netdev")
    elif port.netns is not None and not stayed:
        yield Note("drift-moved", (port.netns,))
    elif port.netns is None and elsewhere:
        yield elsewhere
    elif claim.ifindex not in (None, port.netdev.ifindex) and not claim.port.is_another(port.id):
        yield Note("drift-recreated", (claim.ifindex, port.netdev.ifindex))
    pair, mode = port.pair, claim.claim.synthetic
    reopened = pair is not None and pair.up
    if port.netdev is not None and port.netdev.admin_up:
        yield Note("drift-vf-up", (pair.netdev,)) if pair and reopened else Note("drift-up")
    if mode in (DOWN, UIO) and pair is not None and reopened:
        yield Note("drift-synthetic-up", (pair.netdev,))
    if mode == UIO and not (pair is not None and pair.on_uio):
        yield Note("drift-not-uio", (claim.upper, claim.vmbus))
        return
    known = above is not None and claim.upper_ifindex is not None
    if mode in (DOWN, KEEP) and pair is not None and known and above != claim.upper_ifindex:
        yield Note("drift-synthetic-recreated", (pair.netdev, claim.upper_ifindex, above))
    if mode == KEEP and pair is not None and claim.upper_up and pair.up is False:
        yield Note("drift-synthetic-down", (pair.netdev,))
    alone = pair is None or port.unjoined is not None
    if mode is not None and alone and port.netdev is not None and port.netns is None:
        yield Note("drift-unpaired")


def hold_keeps_down(drift: Sequence[Note], mode: str | None) -> Note | None:
    """What helps a claimed port that was set up; `mode`: what its claim did to the synthetic
    netdev. A port that has moved or is another one is not for hold."""
    codes = {note.code for note in drift}
    if codes & {"drift-another-nic", "drift-moved", "claimed-elsewhere"}:
        return None
    up = {"drift-up", "drift-vf-up", *(["drift-synthetic-up"] if mode == DOWN else [])}
    return Note("hold-keeps-down") if codes & up else None


def claimed_elsewhere(claim: ClaimSummary, here: NetnsId | None) -> Note | None:
    """What it means that a claim was made in another network namespace."""
    if here is None or claim.netns is None or not claim.same_boot or claim.is_of(here):
        return None
    return Note("claimed-elsewhere", (claim.netns.inode,))


def _raw_qp(port: PortStatus, decisions: Mapping[int, Decision], hidden: bool) -> Iterator[Note]:
    if port.rdma:
        yield Note("rdma-link-down", (port.rdma.device, port.rdma.port))
    if not port.holders:
        yield Note("holder-hidden" if hidden else "holder-unseen")
    elif len(port.holders) > 1:
        shared = sum(other.owner is Owner.RAW_QP for other in decisions.values()) > 1
        names = tuple(f"{called(holder.comm)} {holder.pid}" for holder in port.holders)
        yield Note("holders-of-ports" if shared else "holders-of-port", names)
