"""A claim from the words of the command line to the journal's `claimed` record.

The order is what makes it safe: lock, then look, then judge everything, then write down, then
act. Before the journal's header is on disk nothing has been touched.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from manactl.act import planner, transition
from manactl.act.host import CAP_NET_ADMIN, CAP_NET_RAW, Host, HostSystem
from manactl.act.plan import Plan
from manactl.act.proof import LOOK_AGAIN
from manactl.act.signals import Interruptible
from manactl.decide import guards, port_words, refusal_words, waivers
from manactl.decide.refusal import Refusal
from manactl.errors import Busy, Denied, ManactlError, NotRestored, RolledBack, Unsupported
from manactl.journal import file as journal
from manactl.journal import lock
from manactl.journal.file import Journal
from manactl.model.claim import ClaimSummary
from manactl.model.port import Evidence, Owner, PortId, PortStatus, Report
from manactl.netstate.snapshot import PortState, derived, port_to_json
from manactl.report import resolve

_GLIMPSE = 0.3  # s for what looks odd in passing
WAIT = 2.0  # s: a killed DPDK program needs up to 1.6 s to give its vport back


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked. `wait`: how long a taken vport is waited for; only when given, a lock too.

    `show` gets the plan before anything is done.
    """

    state_dir: Path
    words: Sequence[str]
    show: Callable[[Plan], None]
    signals: Interruptible
    allow: Collection[str] = ()
    dry_run: bool = False
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim has come to; `already` lists ports that were claimed before."""

    plan: Plan | None
    states: Mapping[PortId, PortState] = field(default_factory=dict)
    said: Mapping[PortId, Mapping[str, Any]] = field(default_factory=dict)
    ports: tuple[PortStatus, ...] = ()
    already: tuple[tuple[PortStatus, ClaimSummary], ...] = ()
    waived: tuple[Refusal, ...] = ()
    journal: Path | None = None


def need_net_admin(host: Host, verb: str) -> None:
    """Denied unless this process may change interfaces."""
    if not host.capabilities() >> CAP_NET_ADMIN & 1:
        raise Denied(
            f"{verb} needs CAP_NET_ADMIN; nothing was touched",
            hint="run it as root, for instance with sudo",
            evidence=[Evidence("proc", "CapEff", f"{host.capabilities():#x}")],
        )


def claim(wish: Wish, host: Host) -> Claimed:
    """Claim the ports, all or none."""
    with host.audit("claim", wish.words) as audit, wish.signals.told():
        audit.quiet = wish.dry_run
        wanted = _resolve(host.look(), wish.words)
        audit.fields["ports"] = [str(port.id) for port in wanted]
        audit.fields["allowed"] = sorted(wish.allow) or None
        guard: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if not wish.dry_run:
            need_net_admin(host, "claim")
            pcis = {port.id.pci for port in wanted}
            guard = lock.functions(wish.state_dir, pcis, wait=wish.wait or 0.0)
        with guard:
            done = _locked(wish, host, wanted)
        audit.fields["waived"] = sorted({r.code for r in done.waived}) or None
        audit.fields["proven"] = {str(port.id): proven(done, port.id) for port in done.ports}
        return done


def _resolve(report: Report, words: Sequence[str]) -> list[PortStatus]:
    if not report.ports:
        raise Unsupported(
            "no MANA function here",
            hint="see `lspci -d 1414:00ba`, and whether the mana module is loaded",
        )
    found: dict[PortId, PortStatus] = {port.id: port for port in resolve(report, words)}
    return list(found.values())


def _locked(wish: Wish, host: Host, wanted: Sequence[PortStatus]) -> Claimed:
    now = _settled(host, {_key(port.id) for port in wanted}, wish.wait or _GLIMPSE)
    gone = [port for port in wanted if _key(port.id) not in now]
    if gone:
        raise Busy(
            f"{gone[0].label} has just gone: the driver or the device is in transition; "
            "nothing was touched"
        )
    ports = [now[_key(port.id)] for port in wanted]
    already = _already(wish.state_dir, host, ports, dry_run=wish.dry_run)
    new = [port for port in ports if port.id not in {p.id for p, _ in already}]
    if not new:
        return Claimed(None, already=tuple(already))
    _able(new, raw=bool(host.capabilities() >> CAP_NET_RAW & 1))
    with host.system({k: p.rdma for k, p in now.items()}, wish.signals.pause) as system:
        return _claim(wish, host, new, already, system)


def _settled(
    host: Host, wanted: Collection[tuple[str, int]], wait: float
) -> dict[tuple[str, int], PortStatus]:
    """Every port as it is when those wanted are in no transition, or at the end of `wait`."""
    deadline = host.monotonic() + wait
    while True:
        now = {_key(port.id): port for port in host.look().ports}
        passing = any(_passing(port) for key, port in now.items() if key in wanted)
        if not passing or host.monotonic() >= deadline:
            return now
        host.pause(LOOK_AGAIN)


def _passing(port: PortStatus) -> bool:
    """Whether it looks like something that may be over in a moment. A raw QP that is being
    destroyed has lost its event queues before the kernel stops to count it."""
    opening = port.owner is Owner.UNKNOWN and port.netdev is not None and port.netdev.admin_up
    return bool(port.in_reset or port.eqs_lost or opening)


def _key(port: PortId) -> tuple[str, int]:
    return port.pci, port.port


def _already(
    state_dir: Path, host: Host, ports: Sequence[PortStatus], *, dry_run: bool
) -> list[tuple[PortStatus, ClaimSummary]]:
    """Ports that are claimed and really out. Journals from before a reboot are closed."""
    try:
        listed = journal.list_claims(state_dir, host.boot_id())
    except PermissionError:
        if dry_run:
            return []  # not ours to see, and nothing will be done
        raise Denied(f"{state_dir} is not readable: claim as root") from None
    for unreadable in listed.unreadable:
        if any(unreadable.concerns(port.id.pci) for port in ports):
            raise unreadable.error
    claims = {_key(claim.port): claim for claim in listed.claims}
    found = []
    for port in ports:
        one = claims.get(_key(port.id))
        if one is None:
            continue
        if not one.same_boot:
            if not dry_run:
                close_stale(one.path)
            continue
        if one.port.is_another(port.id):
            raise Busy(
                f"{port.label} ({port.id.permanent_mac}) is not the NIC that was claimed in this "
                f"place ({one.port.permanent_mac}), and that claim is open; nothing was touched",
                hint="plug the claimed NIC in again and release it; after a reboot the claim is "
                "only closed",
                evidence=[Evidence("journal", "permanent MAC", one.port.permanent_mac)],
                code="drift",
            )
        if one.phase != "claimed":
            raise NotRestored(
                f"an earlier claim or release of {port.label} was interrupted; nothing was touched",
                hint="put it back first: manactl recover",
                evidence=[Evidence("journal", str(one.path), one.phase)],
                code="interrupted-claim",
            )
        if port.netdev is None or port.netdev.admin_up is not False:
            raise Busy(
                f"{port.label} is claimed, but something has set it up again since",
                hint=f"release it, and claim it again: manactl release {port.label}",
                evidence=[Evidence("journal", "claimed since", journal.stamp(one.claim.since))],
                code="drift",
            )
        found.append((port, one))
    return found


def close_stale(path: Path) -> None:
    """Close a journal from before the last boot: the boot configuration has taken over."""
    if journal.salvaged(path, journal.read_boot_id()):
        failed = transition.put_away(path)
    else:
        with Journal.open(path) as log:
            failed = transition.close(log, "reboot")
    if failed:
        raise NotRestored(f"the journal {path} could not be closed: {failed}", code="journal")


def _able(ports: Sequence[PortStatus], *, raw: bool) -> None:
    """What no waiver changes: no RDMA device, a netvsc pair, a live holder, a busy driver.

    A port in a reset, or one with which a bug of the kernel would bite, is the guards' to refuse.
    """
    ports = [port for port in ports if not (port.in_reset or port.eqs_lost)]
    for port in ports:
        if port.rdma is None:
            raise Unsupported(
                f"{port.label} has no RDMA device: no raw QP can be made on it",
                hint="load the driver: modprobe mana_ib",
            )
        if port.upper is not None and port.upper.kind == "netvsc":
            raise Unsupported(
                f"{port.label} is the fast path of the netvsc interface {port.upper.netdev}; "
                "this version claims only ports without one",
                hint="nothing was touched",
                evidence=[Evidence("sysfs", "master", port.upper.netdev)],
            )
    held = [port for port in ports if port.owner is Owner.RAW_QP]
    if held:
        names = "; ".join(f"{p.label}{transition.named(p.holders)}" for p in held)
        raise Busy(
            f"a raw QP has the vport already: {names}; nothing was touched",
            hint="it is out for RDMA as it is; end the holder first to claim it",
            evidence=[e for p in held for e in transition.holder_evidence(p.holders)],
            code="holder",
        )
    unsure = [p for p in ports if p.owner is Owner.UNKNOWN and p.netdev is not None]
    if unsure and not raw:
        raise Denied(
            f"who has the vport of {unsure[0].label} can only be told by trying, and that needs "
            "CAP_NET_RAW; nothing was touched",
            hint="run it as root, for instance with sudo",
            evidence=unsure[0].evidence,
        )
    for port in unsure:
        if port.netdev is not None and port.netdev.admin_up:
            raise Busy(
                f"the driver of {port.label} is in transition: {'; '.join(port_words.notes(port))}; "
                "nothing was touched",
                hint="try again in a moment; manactl status -v shows the evidence",
                evidence=port.evidence,
            )


def _claim(
    wish: Wish,
    host: Host,
    ports: Sequence[PortStatus],
    already: Sequence[tuple[PortStatus, ClaimSummary]],
    system: HostSystem,
) -> Claimed:
    name = ", ".join(port.label for port in ports)
    with wish.signals.step(f"look at {name}"):
        states = {port.id: _state(system, port) for port in ports}
        claimed = [state.ifindex for state in states.values() if state is not None]
        seen = {port.id: system.surroundings(port, states[port.id], claimed) for port in ports}
    found = [one for port in ports for one in guards.refusals(port, seen[port.id])]
    known = {id_: state for id_, state in states.items() if state is not None}
    plan = planner.claim(
        [(port, known[port.id], seen[port.id]) for port in ports if port.id in known],
        [one for one in found if not waivers.stands(one, wish.allow)],
        [one for one in found if waivers.stands(one, wish.allow)],
    )
    try:
        waived = waivers.judge(found, wish.allow)
    except ManactlError as refusal:
        if wish.dry_run:
            wish.show(plan)
            refusal.more = {"plan": plan.to_json()}
        raise
    wish.show(plan)
    if wish.dry_run:
        return Claimed(plan, known, {}, tuple(ports), tuple(already), waived)
    for port in ports:
        system.warm_up(port.id)
    log, said = transition.apply(
        plan.steps,
        system,
        lambda: Journal.create(wish.state_dir, header(host, plan, ports, waived), plan.ports),
        signals=wish.signals,
        wait=WAIT if wish.wait is None else wish.wait,
        who=name,
    )
    assert isinstance(log, Journal)
    log.close()
    return Claimed(plan, known, said, tuple(ports), tuple(already), waived, log.path)


def _state(system: HostSystem, port: PortStatus) -> PortState | None:
    """The port's network state; None when its netdev is not here, or the driver may hold RTNL for
    long because it is at a reset (a guard says so)."""
    if port.in_reset or system.netdev(port.id) is None:
        return None
    try:
        return system.capture(port.id)
    except OSError as error:
        raise RolledBack(
            f"the addresses and routes of {port.label} could not be read: "
            f"{error.strerror or error}; nothing was touched",
            hint="try again in a moment",
            evidence=[Evidence("rtnetlink", "dump", errno.errorcode.get(error.errno or 0))],
        ) from error


def header(
    host: Host, plan: Plan, ports: Sequence[PortStatus], waived: Sequence[Refusal]
) -> dict[str, Any]:
    """The journal's first line, but for its schema."""
    return {
        "boot_id": host.boot_id(),
        "time": journal.stamp(datetime.now(UTC)),
        "mode": "claim",
        "by": host.who(),
        "ports": [{**port_to_json(port.id), "netdev": port.label} for port in ports],
        "waived": sorted({refusal.code for refusal in waived}),
        "plan": plan.to_json(),
        "snapshot": [state.to_json() for state in plan.states],
    }


def proven(done: Claimed, port: PortId) -> bool:
    return bool(done.said.get(port, {}).get("prove-free", {}).get("proven"))


def document(done: Claimed) -> dict[str, object]:
    """`manactl.claim/1`."""
    new = [_port_document(done, port, already=False) for port in done.ports]
    old = [
        {**_port_document(done, port, already=True), "proven": summary.claim.proven}
        for port, summary in done.already
    ]
    return {
        "schema": "manactl.claim/1",
        "time": journal.stamp(),
        "claimed": True,
        "already": not done.ports,
        "ports": new + old,
        "waived": [refusal_words.to_json(refusal) for refusal in done.waived],
        "plan": done.plan.to_json() if done.plan else None,
        "journal": str(done.journal) if done.journal else None,
        "release": "manactl release " + " ".join(str(p["netdev"]) for p in new + old),
    }


def _port_document(done: Claimed, port: PortStatus, *, already: bool) -> dict[str, object]:
    said = done.said.get(port.id, {})
    state = done.states.get(port.id)
    return {
        "netdev": port.label,
        "ifindex": port.netdev.ifindex if port.netdev else None,
        **port_to_json(port.id),
        "rdma": {"device": port.rdma.device, "port": port.rdma.port} if port.rdma else None,
        "already": already,
        "was": None if state is None else ("up" if state.up else "down"),
        "proven": proven(done, port.id),
        "proof": said.get("prove-free"),
        "down_ms": said.get("set-admin", {}).get("ms"),
        "kept": None if state is None else _kept(state),
    }


def _kept(state: PortState) -> dict[str, int]:
    if not state.up:
        return {}
    counts: dict[str, int] = {}
    for fact in state.facts:
        if derived(fact):
            continue
        counts[fact.kind.plural] = counts.get(fact.kind.plural, 0) + 1
    return counts
