"""A claim from its request to the journal's `claimed` record.

The order is what makes it safe: lock, then look, then judge everything, then write down, then
act. Before the journal's header is on disk nothing has been touched.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from manactl.act import planner, transition
from manactl.act.audit import Audit
from manactl.act.await_free import PATIENCE
from manactl.act.host import CAP_NET_ADMIN, CAP_NET_RAW, Host, HostSystem
from manactl.act.plan import Plan, ProveFree
from manactl.act.progress import Progress
from manactl.act.proof import LOOK_AGAIN
from manactl.act.signals import Interruptible
from manactl.act.transition import Facts, Workplace
from manactl.decide import claimable, guards, waivers
from manactl.decide.refusal import Refusal
from manactl.errors import Busy, Denied, ManactlError, NotRestored, RolledBack, Unsupported
from manactl.escape import command
from manactl.journal import file as journal
from manactl.journal import lock
from manactl.journal.file import Journal
from manactl.model.claim import ClaimSummary
from manactl.model.port import Evidence, Owner, PortId, PortStatus, Report
from manactl.netstate.snapshot import PortState, port_to_json
from manactl.report import resolve

_GLIMPSE = 0.3  # s for what looks odd in passing

Key = tuple[str, int]
Already = tuple[PortStatus, ClaimSummary]


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """`wait`: how long a taken vport is waited for, in seconds; only when given, a lock too."""

    state_dir: Path
    words: Sequence[str]
    allow: Collection[str] = ()
    dry_run: bool = False
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What a claim has come to; `already` lists ports that were claimed before."""

    plan: Plan | None
    states: Mapping[PortId, PortState] = field(default_factory=dict)
    facts: Facts = field(default_factory=dict)
    ports: tuple[PortStatus, ...] = ()
    already: tuple[Already, ...] = ()
    waived: tuple[Refusal, ...] = ()
    journal: Path | None = None

    def proven(self, port: PortId) -> bool:
        """Whether a queue pair proved that the vport is free."""
        return self.facts.get(port, {}).get(ProveFree.KIND, {}).get("proven") is True


@dataclass(frozen=True, slots=True)
class PreparedClaim:
    """A claim that was judged and planned, while its locks are held. Nothing was touched.

    `plan` is None when there is nothing to do; `refusals` are all that were found, those that
    are waived included.
    """

    request: ClaimRequest
    host: Host
    signals: Interruptible
    audit: Audit
    already: tuple[Already, ...]
    ports: tuple[PortStatus, ...] = ()
    states: Mapping[PortId, PortState] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    plan: Plan | None = None
    system: HostSystem | None = None

    @property
    def labels(self) -> str:
        return _labels(self.ports)

    @property
    def refusal(self) -> ManactlError | None:
        """The failure that lists every refusal which stands, and the plan with a dry run."""
        hard = _standing(self.refusals, self.request)
        if not hard:
            return None
        error = waivers.refused(hard, self.request.allow)
        if self.request.dry_run and self.plan is not None:
            error.more = {"plan": self.plan.to_json()}
        return error


@contextlib.contextmanager
def prepare(request: ClaimRequest, host: Host, signals: Interruptible) -> Iterator[PreparedClaim]:
    """Everything that comes before the first act; the locks are held in the `with` block."""
    with contextlib.ExitStack() as held:
        audit = held.enter_context(host.audit("claim", request.words))
        held.enter_context(signals.told())
        audit.quiet = request.dry_run
        audit.fields["allowed"] = sorted(request.allow) or None

        wanted = _named(host.look(), request.words)
        audit.fields["ports"] = [str(port.id) for port in wanted]
        held.enter_context(_locked(request, host, wanted))
        there = _settled(host, wanted, request.wait)
        ports, already = _unclaimed(request, host, _still_there(wanted, there))
        if not ports:
            yield PreparedClaim(request, host, signals, audit, already)
            return

        can_prove = _capable(host, CAP_NET_RAW)
        found = [no for port in ports for no in claimable.refusals(port, can_prove=can_prove)]
        if found:
            refusals = tuple(found)
            yield PreparedClaim(request, host, signals, audit, already, ports, refusals=refusals)
            return

        system = held.enter_context(host.system(signals.pause))
        with signals.step(f"look at {_labels(ports)}"):
            states = _captured(system, ports)
            claimed = [state.ifindex for state in states.values()]
            around = {p.id: system.surroundings(p, states.get(p.id), claimed) for p in ports}
        refusals = tuple(no for port in ports for no in guards.refusals(port, around[port.id]))
        hard = _standing(refusals, request)
        plan = planner.claim(
            [(port, states[port.id], around[port.id]) for port in ports if port.id in states],
            waived=[no for no in refusals if no not in hard],
            refusals=hard,
        )
        yield PreparedClaim(
            request, host, signals, audit, already, ports, states, refusals, plan, system
        )


def execute(claim: PreparedClaim, progress: Progress) -> ClaimResult:
    """Claim the ports, all or none; with a dry run nothing. The refusal is raised here."""
    if claim.refusal is not None:
        raise claim.refusal
    result = ClaimResult(claim.plan, claim.states, {}, claim.ports, claim.already, claim.refusals)
    if claim.request.dry_run or claim.plan is None or claim.system is None:
        return result
    for port in claim.ports:
        claim.system.warm_up(port.id)
    claim.signals.acting()  # a journal is there whole or not at all
    log = Journal.create(claim.request.state_dir, header(claim, claim.plan), claim.plan.ports)
    with log:
        wait = PATIENCE if claim.request.wait is None else claim.request.wait
        work = Workplace(claim.system, log, claim.signals, progress)
        facts = transition.apply(claim.plan.steps, work, wait=wait, who=claim.labels)
    result = replace(result, facts=facts, journal=log.path)
    claim.audit.fields["waived"] = sorted({no.code for no in claim.refusals}) or None
    claim.audit.fields["proven"] = {str(p.id): result.proven(p.id) for p in claim.ports}
    return result


# --- the stages -----------------------------------------------------------------------------


def _named(report: Report, words: Sequence[str]) -> list[PortStatus]:
    if not report.ports:
        raise Unsupported(
            "no MANA function here; nothing was touched",
            hint="see `lspci -d 1414:00ba`, and whether the mana module is loaded",
        )
    return list({port.id: port for port in resolve(report, words)}.values())


def _locked(
    request: ClaimRequest, host: Host, wanted: Sequence[PortStatus]
) -> contextlib.AbstractContextManager[None]:
    """The locks of the ports' functions; a dry run needs none, and no capability."""
    if request.dry_run:
        return contextlib.nullcontext()
    need_net_admin(host, "claim")
    return lock.functions(
        request.state_dir, {port.id.pci for port in wanted}, wait=request.wait or 0.0
    )


def need_net_admin(host: Host, verb: str) -> None:
    """Denied unless this process may change interfaces."""
    if not _capable(host, CAP_NET_ADMIN):
        raise Denied(
            f"{verb} needs CAP_NET_ADMIN; nothing was touched",
            hint="run it as root, for instance with sudo",
            evidence=[Evidence("proc", "CapEff", f"{host.capabilities():#x}")],
        )


def _capable(host: Host, capability: int) -> bool:
    return bool(host.capabilities() >> capability & 1)


def _settled(host: Host, wanted: Sequence[PortStatus], wait: float | None) -> dict[Key, PortStatus]:
    """Every port as it is when those wanted are in no transition, or at the end of `wait`."""
    keys = {port.id.key for port in wanted}
    deadline = host.monotonic() + (wait or _GLIMPSE)
    while True:
        there = {port.id.key: port for port in host.look().ports}
        passing = any(_passing(port) for key, port in there.items() if key in keys)
        if not passing or host.monotonic() >= deadline:
            return there
        host.pause(LOOK_AGAIN)


def _passing(port: PortStatus) -> bool:
    """Whether it looks like something that may be over in a moment. A raw QP that is being
    destroyed has lost its event queues before the kernel stops to count it."""
    opening = port.owner is Owner.UNKNOWN and port.netdev is not None and port.netdev.admin_up
    return bool(port.in_reset or port.eqs_lost or opening)


def _still_there(wanted: Sequence[PortStatus], there: Mapping[Key, PortStatus]) -> list[PortStatus]:
    for port in wanted:
        if port.id.key not in there:
            raise Busy(
                f"{port.label} is not there any more: the driver or the device is in transition; "
                "nothing was touched",
                hint="try again in a moment",
            )
    return [there[port.id.key] for port in wanted]


def _unclaimed(
    request: ClaimRequest, host: Host, ports: Sequence[PortStatus]
) -> tuple[tuple[PortStatus, ...], tuple[Already, ...]]:
    """The ports that are to be claimed, and those that a claim covers already.

    A journal from before the last boot is closed: the boot configuration has taken over.
    """
    try:
        listed = journal.list_claims(request.state_dir, host.boot_id())
    except PermissionError:
        if not request.dry_run:
            raise Denied(
                f"{request.state_dir} is not readable; nothing was touched",
                hint="run it as root, for instance with sudo",
            ) from None
        return tuple(ports), ()  # not ours to see, and nothing will be done
    for unreadable in listed.unreadable:
        if any(unreadable.concerns(port.id.pci) for port in ports):
            raise unreadable.error
    claims = {claim.port.key: claim for claim in listed.claims}
    new, already = [], []
    for port in ports:
        claim = claims.get(port.id.key)
        if claim is None:
            new.append(port)
        elif not claim.same_boot:
            if not request.dry_run:
                close_stale(claim.path, host.boot_id())
            new.append(port)
        else:
            _check_covers(claim, port)
            already.append((port, claim))
    return tuple(new), tuple(already)


def _check_covers(claim: ClaimSummary, port: PortStatus) -> None:
    """Whether the port is as a claim has left it; why not, as an error."""
    if claim.port.is_another(port.id):
        raise Busy(
            f"{port.label} ({port.id.permanent_mac}) is not the NIC that was claimed in this "
            f"place ({claim.port.permanent_mac}), and that claim is open; nothing was touched",
            hint="plug the claimed NIC in again and release it; after a reboot the claim is "
            "only closed",
            evidence=[Evidence("journal", "permanent MAC", claim.port.permanent_mac)],
            code="drift",
        )
    if claim.phase != "claimed":
        raise NotRestored(
            f"an earlier claim or release of {port.label} was interrupted; nothing was touched",
            hint="undo it first: manactl recover",
            evidence=[Evidence("journal", str(claim.path), claim.phase)],
            code="interrupted-claim",
        )
    if port.netdev is None or port.netdev.admin_up is not False:
        raise Busy(
            f"{port.label} is claimed, but something has set it up again since; "
            "nothing was touched",
            hint="release it, and claim it again: " + command("manactl", "release", port.label),
            evidence=[Evidence("journal", "claimed since", journal.stamp(claim.claim.since))],
            code="drift",
        )


def close_stale(path: Path, boot_id: str) -> None:
    """Close a journal from before the last boot: the boot configuration has taken over."""
    if journal.salvaged(path, boot_id):
        failed = transition.put_away(path)
    else:
        with Journal.open(path) as log:
            failed = transition.close(log, "reboot")
    if failed:
        raise NotRestored(
            f"the journal {path} could not be closed: {failed}; no port was touched",
            hint="fix the cause, then `manactl recover` tries again",
            code="journal",
        )


def _captured(system: HostSystem, ports: Sequence[PortStatus]) -> dict[PortId, PortState]:
    """What is on the ports; not of a port whose netdev is not here, nor of one whose driver may
    hold RTNL for long because it is at a reset: guards refuse these."""
    states = {}
    for port in ports:
        if port.in_reset or system.netdev(port.id) is None:
            continue
        try:
            states[port.id] = system.capture(port.id)
        except OSError as error:
            raise RolledBack(
                f"the addresses and routes of {port.label} could not be read: "
                f"{error.strerror or error}; nothing was touched",
                hint="try again in a moment",
                evidence=[Evidence("rtnetlink", "dump", errno.errorcode.get(error.errno or 0))],
            ) from error
    return states


def _standing(refusals: Sequence[Refusal], request: ClaimRequest) -> list[Refusal]:
    return [no for no in refusals if waivers.stands(no, request.allow)]


def _labels(ports: Sequence[PortStatus]) -> str:
    return ", ".join(port.label for port in ports)


def header(claim: PreparedClaim, plan: Plan) -> dict[str, Any]:
    """The journal's first line, but for its schema."""
    return {
        "boot_id": claim.host.boot_id(),
        "time": journal.stamp(datetime.now(UTC)),
        "mode": "claim",
        "by": claim.host.who(),
        "ports": [{**port_to_json(port.id), "netdev": port.label} for port in claim.ports],
        "waived": sorted({no.code for no in claim.refusals}),
        "plan": plan.to_json(),
        "snapshot": [state.to_json() for state in plan.states],
    }
