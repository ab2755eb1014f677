"""A claim from its request to the journal's `claimed` record.

The order is what makes it safe: lock, then look, then judge everything, then lock `manactl hold`
out and look again, then write down, then act. Before the journal's header is on disk nothing has
been touched.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manactl.act import foreign, outcome_words, planner, progress_words, transition
from manactl.act.audit import Audit
from manactl.act.await_free import PATIENCE
from manactl.act.host import CAP_NET_RAW, Host, HostSystem
from manactl.act.persist import LeaveDown
from manactl.act.plan import KeepState, Plan, ProveFree, StateChanged
from manactl.act.privilege import capable, need_net_admin
from manactl.act.progress import Progress
from manactl.act.proof import LOOK_AGAIN
from manactl.act.signals import SignalGate
from manactl.act.stale import close_stale
from manactl.act.transition import Workplace
from manactl.decide import claimable, guards, waivers
from manactl.decide.refusal import Refusal
from manactl.errors import (
    Busy,
    Denied,
    ManactlError,
    NotRestored,
    RolledBack,
    Unsupported,
    UsageError,
    errno_name,
    strerror,
)
from manactl.escape import command
from manactl.journal import file as journal
from manactl.journal import lock
from manactl.journal.file import Journal, JournalError
from manactl.look.netdevs_of import NetdevNow, Unread
from manactl.model.claim import ClaimSummary, Phase
from manactl.model.port import DOWN, KEEP, UIO, Evidence, Owner, PortId, PortStatus, Report, Upper
from manactl.model.record import Event, Mode
from manactl.model.uncollected import uncollected
from manactl.model.value import NONE, Value
from manactl.netstate import diff, rows
from manactl.netstate.snapshot import PortState, port_to_json
from manactl.report import resolve

if TYPE_CHECKING:
    from manactl.act.guardian import Guard

_GLIMPSE = 0.3  # s for what looks odd in passing
_ROUNDS = 4  # looks right before the act, until one finds what was judged
_SHOWN = 10  # changes in the evidence


def _not_acting() -> contextlib.AbstractContextManager[bool]:
    return contextlib.nullcontext(False)


Key = tuple[str, int]
Already = tuple[PortStatus, ClaimSummary]


class ClaimRequest(Value):
    """`wait`: how long a taken vport is waited for, in seconds; only when given, a lock too.
    `synthetic`: what to do to the synthetic netdev of a pair, when that was said. The claim ends
    with `command`, where there is one, or is released `confirm_within` seconds after it was written
    down unless it is confirmed. `persist`: the ports stay down at boot, too, until release."""

    state_dir: Path
    words: Sequence[str]
    _: KW_ONLY
    allow: Collection[str] = ()
    dry_run: bool = False
    wait: float | None = None
    synthetic: str | None = None
    command: Sequence[str] = ()
    confirm_within: float | None = None
    persist: bool = False

    @property
    def temporary(self) -> bool:
        """Whether the claim ends by itself, by its guardian at the latest."""
        return bool(self.command) or self.confirm_within is not None

    def mode(self, port: PortStatus) -> str | None:
        """What is done to the synthetic netdev above the port; None where there is none."""
        return (self.synthetic or DOWN) if port.pair else None


class ClaimResult(Value):
    """What a claim has come to; `already` lists ports that were claimed before. `persist`: they
    were to stay down at boot, too."""

    plan: Plan | None
    _: KW_ONLY
    states: Mapping[PortId, PortState] = NONE
    facts: Mapping[PortId, Mapping[str, Mapping[str, object]]] = NONE
    ports: tuple[PortStatus, ...] = ()
    already: tuple[Already, ...] = ()
    waived: tuple[Refusal, ...] = ()
    journal: Path | None = None
    confirm_by: datetime | None = None
    persist: bool = False

    def proven(self, port: PortId) -> bool:
        """Whether a queue pair proved that the vport is free."""
        return self.facts.get(port, {}).get(ProveFree.KIND, {}).get("proven") is True

    def left_down_at_boot(self, port: PortId) -> bool:
        """Whether a network manager was told to leave it down from boot on."""
        return LeaveDown.KIND in self.facts.get(port, {})


class PreparedClaim(Value):
    """A claim that was judged and planned, while its first locks are held. Nothing was touched.

    `acting` takes the second ones, under which the journal is written. `plan` is None when there is
    nothing to do; `refusals` are all that were found, those that are waived included.
    """

    request: ClaimRequest
    host: Host
    signals: SignalGate
    audit: Audit
    already: tuple[Already, ...]
    ports: tuple[PortStatus, ...] = ()
    states: Mapping[PortId, PortState] = NONE
    refusals: tuple[Refusal, ...] = ()
    plan: Plan | None = None
    system: HostSystem | None = None
    acting: lock.Acting = _not_acting

    @property
    def labels(self) -> str:
        return _labels(self.ports)

    @property
    def refusal(self) -> ManactlError | None:
        """The failure that lists every refusal which stands, and the plan with a dry run."""
        hard = waivers.standing(self.refusals, self.request.allow)
        if not hard:
            return None
        error = waivers.refused(hard, self.request.allow)
        if self.request.dry_run and self.plan is not None:
            error.more = {"plan": self.plan.to_json()}
        return error


@contextlib.contextmanager
def prepare(request: ClaimRequest, host: Host, signals: SignalGate) -> Iterator[PreparedClaim]:
    """Everything that comes before the first act; the locks are held in the `with` block."""
    with contextlib.ExitStack() as held:
        audit = held.enter_context(host.audit("claim", request.words))
        closed: list[str] = []
        held.enter_context(signals.as_interrupted(closed))
        audit.quiet = request.dry_run
        audit.fields["allowed"] = sorted(request.allow) or None

        wanted = _wanted(request, host)
        _check_persist(request, wanted)
        audit.fields["ports"] = [str(port.id) for port in wanted]
        acting = held.enter_context(_locked(request, host, wanted))
        there = _settled(host, wanted, request.wait)
        ports, stale, already = _unclaimed(request, host, _still_there(wanted, there))
        _close(stale, host, signals, closed)
        _check_own(request, already)
        if not ports:
            yield PreparedClaim(request, host, signals, audit, already)
            return

        if refusals := _unclaimable(host, ports):
            yield PreparedClaim(request, host, signals, audit, already, ports, refusals=refusals)
            return

        system = held.enter_context(host.system(signals.pause))
        claim = PreparedClaim(
            request, host, signals, audit, already, ports, system=system, acting=acting
        )
        yield _judged(claim, system)


@uncollected()
def execute(claim: PreparedClaim, progress: Progress, guard: Guard | None = None) -> ClaimResult:
    """Claim the ports, all or none; with a dry run nothing. The refusal is raised here. `guard` is
    the guardian of a claim that ends by itself.

    The guards may have looked for long. What is on the ports is read again right before the first
    act, and judged again when somebody has changed it: the plan that is carried out is the last
    that was shown.
    """
    if claim.refusal is not None:
        raise claim.refusal
    if claim.request.dry_run or claim.plan is None or claim.system is None:
        return ClaimResult(
            claim.plan,
            states=claim.states,
            ports=claim.ports,
            already=claim.already,
            waived=claim.refusals,
        )
    _show(claim, progress)
    for port in claim.ports:
        claim.system.warm_up(port.id)
    changed: Sequence[str] = ()
    for _ in range(_ROUNDS):
        try:
            with claim.acting():  # before the look, which may be old when that had to wait
                with claim.signals.step(progress_words.look_again(claim.labels)):
                    states = _captured(claim, claim.system, claim.ports)
                changed = _changes(claim, states)
                if not changed:
                    return _carried_out(_with_states(claim, states), progress, guard)
        except StateChanged as change:
            changed = change.changes
            claim.signals.listen()
            continue
        progress.noted(progress_words.changed_meanwhile(claim.labels, changed[0]))
        claim = _judged_again(claim, claim.system)
        _show(claim, progress)
    raise Busy(
        f"what is on {claim.labels} keeps changing ({changed[0]}); nothing was touched",
        hint="find the program that changes it (`ip monitor`), and claim again when it is done",
        evidence=[Evidence("rtnetlink", "changed meanwhile", line) for line in changed[:_SHOWN]],
    )


def _show(claim: PreparedClaim, progress: Progress) -> None:
    if claim.refusal is not None:
        raise claim.refusal
    if claim.plan is not None:
        progress.planned(f"claim {claim.labels}", claim.plan)


def _carried_out(claim: PreparedClaim, progress: Progress, guard: Guard | None) -> ClaimResult:
    """Write down and act. StateChanged when a snapshot is not true any more."""
    assert claim.plan is not None
    assert claim.system is not None
    claim.signals.acting()  # a journal is there whole or not at all
    log = Journal.create(claim.request.state_dir, header(claim, claim.plan), claim.plan.ports)
    with log:
        if guard is not None:
            _arm(claim, claim.system, log, guard)
        wait = PATIENCE if claim.request.wait is None else claim.request.wait
        work = Workplace(claim.system, log, claim.signals, progress)
        leave = None if guard is None or claim.request.confirm_within is None else guard.leave
        facts = transition.apply(claim.plan.steps, work, wait=wait, who=claim.labels, last=leave)
    waiting = log.content.waiting
    result = ClaimResult(
        claim.plan,
        states=claim.states,
        facts=facts,
        ports=claim.ports,
        already=claim.already,
        waived=claim.refusals,
        journal=log.path,
        confirm_by=waiting and waiting.noted,
        persist=claim.request.persist,
    )
    claim.audit.fields["waived"] = sorted({no.code for no in claim.refusals}) or None
    claim.audit.fields["proven"] = {str(p.id): result.proven(p.id) for p in claim.ports}
    return result


def _arm(claim: PreparedClaim, system: HostSystem, log: Journal, guard: Guard) -> None:
    """Have the guardian watch over this journal, and write down that it does. Nothing was touched
    yet: when that fails, nothing is."""
    within = claim.request.confirm_within
    deadline = None if within is None else system.boottime() + within
    until: dict[str, object] = {}
    if within is not None:
        until["confirm_by"] = journal.stamp(datetime.now(UTC) + timedelta(seconds=within))
    try:
        if within is None:  # it ends with its command, which we run
            from manactl.journal import unconfirmed  # noqa: PLC0415 - for few claims

            until["runner"] = own = os.getpid()
            until["runner_started"] = unconfirmed.started(own)
            until["pid_namespace"] = unconfirmed.pid_namespace()
        guard.arm(log.path, deadline)
        log.append(
            Event.ARMED, guardian=guard.pid, started=guard.started, deadline=deadline, **until
        )
    except Exception as error:
        refused = log.discard(error if isinstance(error, OSError) else None)
        raise refused or error from error


# --- the stages -----------------------------------------------------------------------------


def _wanted(request: ClaimRequest, host: Host) -> list[PortStatus]:
    """The ports that are named, also by the synthetic netdev that uio took in an earlier claim."""
    try:
        wanted = _named(host.look(), request.words)
        _check_synthetic(request, wanted)
    except UsageError:
        claims = _claims(request, host)
        if not any(claim.claim.synthetic == UIO for claim in claims):
            raise
        wanted = _named(host.look(claims), request.words)
        _check_synthetic(request, wanted)
    return wanted


def _claims(request: ClaimRequest, host: Host) -> Sequence[ClaimSummary]:
    """Those that can be read: the stages that rest on them tell of others."""
    with contextlib.suppress(ManactlError, OSError):
        return journal.list_claims(request.state_dir, host.boot_id()).claims
    return ()


def _named(report: Report, words: Sequence[str]) -> list[PortStatus]:
    if not report.ports:
        raise Unsupported(
            "no MANA function here; nothing was touched",
            hint="see `lspci -d 1414:00ba`, and whether the mana module is loaded",
        )
    return list({port.id: port for port in resolve(report, words)}.values())


def _check_synthetic(request: ClaimRequest, ports: Sequence[PortStatus]) -> None:
    """UsageError when --synthetic is about a port that has no synthetic netdev."""
    plain = [port for port in ports if not port.pair and port.unjoined is None]
    if request.synthetic is None or not plain:
        return
    verb = "are" if len(plain) > 1 else "is"
    raise UsageError(
        f"--synthetic={request.synthetic}: {_labels(plain)} {verb} below no synthetic netdev of "
        "hv_netvsc",
        hint="leave the option out: what is set down is the port itself",
    )


def _check_persist(request: ClaimRequest, ports: Sequence[PortStatus]) -> None:
    """UsageError when nothing that can be written keeps a port down at boot."""
    kept = [port for port in ports if request.mode(port) == KEEP]
    if request.persist and kept:
        raise UsageError(
            f"--persist and --synthetic=keep exclude each other: hv_netvsc sets {_labels(kept)} up "
            "at boot with the synthetic netdev above",
            hint="--synthetic=down keeps both down; or leave --persist out and have "
            "manactl-claim@.service claim the port at every boot",
        )


def _locked(
    request: ClaimRequest, host: Host, wanted: Sequence[PortStatus]
) -> contextlib.AbstractContextManager[lock.Acting]:
    """The first locks of the ports' functions; a dry run needs none, and no capability."""
    if request.dry_run:
        return contextlib.nullcontext(_not_acting)
    need_net_admin(host, "claim")
    return lock.looking(
        request.state_dir, {port.id.pci for port in wanted}, wait=request.wait or 0.0
    )


def _settled(host: Host, wanted: Sequence[PortStatus], wait: float | None) -> dict[Key, PortStatus]:
    """Every port as it is when those wanted are in no transition, or at the end of `wait`."""
    keys = {port.id.key for port in wanted}
    start = host.monotonic()
    while True:
        there = {port.id.key: port for port in host.look().ports}
        passing = [port for key, port in there.items() if key in keys and _passing(port)]
        patience = max((_patience(port, wait) for port in passing), default=0.0)
        if not passing or host.monotonic() >= start + patience:
            return there
        host.pause(LOOK_AGAIN)


def _passing(port: PortStatus) -> bool:
    """Whether it looks like something that may be over in a moment. A raw QP that is being
    destroyed has lost its event queues before the kernel stops to count it."""
    opening = port.owner is Owner.UNKNOWN and port.netdev is not None and port.netdev.admin_up
    return bool(port.in_reset or port.eqs_lost or opening or port.unjoined)


def _patience(port: PortStatus, wait: float | None) -> float:
    """How long that is waited for, in seconds. A VF is joined as soon as its synthetic netdev is
    there, which at boot may have to be probed yet."""
    return (PATIENCE if port.unjoined and wait is None else wait) or _GLIMPSE


def _still_there(wanted: Sequence[PortStatus], there: Mapping[Key, PortStatus]) -> list[PortStatus]:
    for port in wanted:
        if port.id.key not in there:
            raise Busy(
                f"{port.label} is not there any more: the driver or the device is in transition; "
                "nothing was touched",
                hint="try again in a moment",
            )
    return [there[port.id.key]._replace(called=port.called) for port in wanted]


def _unclaimed(
    request: ClaimRequest, host: Host, ports: Sequence[PortStatus]
) -> tuple[tuple[PortStatus, ...], tuple[Path, ...], tuple[Already, ...]]:
    """The ports that are to be claimed, the journals from before the last boot that have some of
    them, and those that a claim covers already."""
    try:
        listed = journal.list_claims(request.state_dir, host.boot_id())
    except PermissionError:
        if not request.dry_run:
            raise Denied(
                f"{request.state_dir} is not readable; nothing was touched",
                hint="run it as root, for instance with sudo",
            ) from None
        return tuple(ports), (), ()  # not ours to see, and nothing will be done
    for unreadable in listed.unreadable:
        if any(unreadable.concerns(port.id.pci) for port in ports):
            raise unreadable.error
    claims = {claim.port.key: claim for claim in listed.claims}
    new, stale, already = [], [], []
    for port in ports:
        claim = claims.get(port.id.key)
        if claim is None:
            new.append(port)
        elif not claim.same_boot:
            stale += [] if request.dry_run else [claim.path]
            new.append(port)
        else:
            foreign.refuse_covered(host, claim, port)
            now = port
            if claim.claim.synthetic == UIO:
                (now,) = _still_there([port], {p.id.key: p for p in host.look([claim]).ports})
            _check_covers(claim, now, request.synthetic)
            already.append((now, claim))
    return tuple(new), tuple(dict.fromkeys(stale)), tuple(already)


def _close(stale: Iterable[Path], host: Host, signals: SignalGate, closed: list[str]) -> None:
    """Close journals from before the last boot: the boot configuration has taken over. A signal
    comes before or after one, and what was `closed` is told then."""
    for path in stale:
        signals.ignore()
        close_stale(path, host.boot_id())
        closed.append(outcome_words.stale_closed(path.name))
        signals.listen()


def _check_own(request: ClaimRequest, already: Sequence[Already]) -> None:
    """Busy when a claim that is to end by itself would have to share a port with another one."""
    if not (already and request.temporary):
        return
    names = _labels([port for port, _ in already])
    raise Busy(
        f"{names}: claimed already, by a claim that does not end with this one; nothing was "
        "touched",
        hint="release it first: "
        + command("manactl", "release", names=[port.label for port, _ in already]),
        evidence=[Evidence("journal", str(claim.path), claim.phase) for _, claim in already],
        code="claimed",
    )


def _check_covers(claim: ClaimSummary, port: PortStatus, synthetic: str | None) -> None:
    """Whether the port is as a claim has left it; why not, as an error."""
    if claim.port.is_another(port.id):
        raise Busy(
            f"{port.label} ({port.id.permanent_mac}) is not the NIC that was claimed in this "
            f"place ({claim.port.permanent_mac}), and that claim is open; nothing was touched",
            hint="plug the claimed NIC in again and release it; after a reboot the claim is "
            f"only closed; {outcome_words.acceptance([str(claim.port)])}",
            evidence=[Evidence("journal", "permanent MAC", claim.port.permanent_mac)],
            code="drift",
        )
    if claim.phase is not Phase.CLAIMED:
        raise NotRestored(
            f"an earlier claim or release of {port.label} was interrupted; nothing was touched",
            hint=f"undo it first: manactl recover; {outcome_words.acceptance([port.label])}",
            evidence=[Evidence("journal", str(claim.path), claim.phase)],
            code="interrupted-claim",
        )
    if port.netdev is None or port.netdev.admin_up is not False:
        raise _drifted(port, claim)
    mode = claim.claim.synthetic
    if mode in (DOWN, UIO) and port.pair is not None and port.pair.up:
        raise _drifted(port, claim)
    if mode == KEEP and port.pair is not None and claim.upper_up and port.pair.up is False:
        raise _drifted(port, claim, outcome_words.synthetic_is_down(port.pair.netdev))
    if mode == UIO and not (port.pair is not None and port.pair.on_uio):
        raise _drifted(port, claim, outcome_words.not_on_uio(claim.upper))
    if synthetic is not None and mode != synthetic:
        raise Busy(
            f"{port.label} is claimed already, with --synthetic={mode}; nothing was touched",
            hint="release it, and claim it again: "
            + command("manactl", "release", names=[port.label]),
            evidence=[Evidence("journal", "synthetic", mode)],
            code="drift",
        )


def _drifted(port: PortStatus, claim: ClaimSummary, how: str = outcome_words.SET_UP_AGAIN) -> Busy:
    return Busy(
        f"{port.label} is claimed, but {how}; nothing was touched",
        hint="release it, and claim it again: " + command("manactl", "release", names=[port.label]),
        evidence=[Evidence("journal", "claimed since", journal.stamp(claim.claim.since))],
        code="drift",
    )


def _captured(
    claim: PreparedClaim, system: HostSystem, ports: Sequence[PortStatus]
) -> dict[PortId, PortState]:
    """What is on the ports; not of a port whose netdev is not here, nor of one whose driver may
    hold RTNL for long because it is at a reset: guards refuse these."""
    states = {}
    for port in ports:
        here = system.netdev(port.id)
        if isinstance(here, Unread):
            raise _not_looked_at(port, here)
        if port.in_reset or here is None:
            continue
        more: dict[str, Any] = {}
        with contextlib.suppress(OSError):  # when it has just gone, the next line says so
            more["link"] = system.link_settings(port.id)
            more["blueprints"] = system.blueprints(port.id)
        try:
            kept = claim.request.mode(port) == KEEP
            states[port.id] = replace(system.capture(port.id, alone=kept), **more)
        except OSError as error:
            raise RolledBack(
                f"the addresses and routes of {port.label} could not be read: "
                f"{strerror(error)}; nothing was touched",
                hint="try again in a moment",
                evidence=[Evidence("rtnetlink", "dump", errno_name(error))],
            ) from error
    others = _claimed_beside(claim)
    return {
        port: replace(state, rows=rows.with_claimed(state, others))
        for port, state in states.items()
    }


def _claimed_beside(claim: PreparedClaim) -> list[PortState]:
    """The snapshots of other ports that are claimed in this network namespace. A journal that
    cannot be read has been reported; without it only the order of equal routes is not known."""
    here, boot = claim.host.netns(), claim.host.boot_id()
    found: list[PortState] = []
    paths: list[Path] = []
    with contextlib.suppress(JournalError, OSError):
        paths = journal.paths(claim.request.state_dir)
    for path in paths:
        with contextlib.suppress(JournalError, OSError), journal.believed(path):
            content = journal.read(path)
            if content.boot_id == boot and content.netns and content.netns.is_same(here):
                found += map(PortState.from_json, content.header["snapshot"])
    return found


def _unclaimable(host: Host, ports: Sequence[PortStatus]) -> tuple[Refusal, ...]:
    can_prove = capable(host, CAP_NET_RAW)
    return tuple(no for port in ports for no in claimable.refusals(port, can_prove=can_prove))


@uncollected()
def _judged(claim: PreparedClaim, system: HostSystem) -> PreparedClaim:
    """The claim with all that the guards find, and a plan."""
    ports = claim.ports
    with claim.signals.step(progress_words.look(claim.labels)):
        states = _captured(claim, system, ports)
        claimed = [state.ifindex for state in states.values()]
        around = {p.id: system.surroundings(p, states.get(p.id), claimed) for p in ports}
    to_uio = [port for port in ports if claim.request.mode(port) == UIO]
    here = claim.host.netns()
    lost = {port.id: no for port in to_uio if (no := guards.made_elsewhere(port, here))}
    refusals = tuple(
        replace(no, temporary=claim.request.temporary)
        for port in ports
        for no in (*filter(None, [lost.get(port.id)]), *guards.refusals(port, around[port.id]))
    )
    hard = waivers.standing(refusals, claim.request.allow)
    plan = planner.claim(
        [(port, states[port.id], around[port.id]) for port in ports if port.id in states],
        uio=[port.id for port in to_uio],
        overrides={
            port.id: system.vmbus_override(port.pair.vmbus)
            for port in to_uio
            if port.pair and port.pair.vmbus
        },
        waived=[no for no in refusals if no not in hard],
        refusals=hard,
        confirm_within=claim.request.confirm_within,
        persist=claim.request.persist,
    )
    return replace(claim, states=states, refusals=refusals, plan=plan)


def _judged_again(claim: PreparedClaim, system: HostSystem) -> PreparedClaim:
    """The claim as it would be if it were asked for now; Busy when a port is gone."""
    there = _settled(claim.host, claim.ports, claim.request.wait)
    ports = tuple(_still_there(claim.ports, there))
    for was, port in zip(claim.ports, ports, strict=True):
        if was.id.is_another(port.id):
            raise Busy(
                f"{port.label} ({port.id.permanent_mac}) is another NIC than a moment ago "
                f"({was.id.permanent_mac}); nothing was touched",
                code="drift",
            )
    claim = replace(claim, ports=ports)
    if refusals := _unclaimable(claim.host, ports):
        raise waivers.refused(refusals, claim.request.allow)
    return _judged(claim, system)


def _not_looked_at(port: PortStatus, found: Unread) -> RolledBack:
    return RolledBack(
        f"the netdev of {port.label} could not be looked at: {found.why}; nothing was touched",
        hint="fix the cause (open files, memory), then try again",
        evidence=[Evidence("sysfs", "netdev", errno_name(found.error))],
    )


def _changes(claim: PreparedClaim, states: Mapping[PortId, PortState]) -> list[str]:
    """What others have changed on the ports since they were judged. Busy when one that was
    claimed before was set up meanwhile."""
    assert claim.system is not None
    for port, summary in claim.already:
        now = claim.system.netdev(port.id)
        if isinstance(now, Unread):
            raise _not_looked_at(port, now)
        if now is None or now.up:
            raise _drifted(port, summary)
    found: list[str] = []
    for port in claim.ports:
        was, now_there = claim.states.get(port.id), states.get(port.id)
        if was is not None and now_there is not None:
            found += diff.changes(was, now_there)
        elif was is not now_there:
            found.append(progress_words.no_netdev_any_more(port.label))
    return found


def _with_states(claim: PreparedClaim, states: Mapping[PortId, PortState]) -> PreparedClaim:
    """The claim with later snapshots of the same: lifetimes have gone on, or were renewed."""
    assert claim.plan is not None
    steps = tuple(
        KeepState(states[step.port]) if isinstance(step, KeepState) else step
        for step in claim.plan.steps
    )
    return replace(claim, states=states, plan=replace(claim.plan, steps=steps))


def _labels(ports: Sequence[PortStatus]) -> str:
    return ", ".join(port.label for port in ports)


def _of_header(port: PortStatus, claim: PreparedClaim) -> dict[str, Any]:
    """A port in the header: what it was called, to be named by these words later."""
    netdev = port.netdev
    return {
        **port_to_json(port.id),
        "netdev": port.label,
        "ifindex": netdev.ifindex if netdev else None,
        "altnames": list(netdev.altnames or ()) if netdev else [],
        **(_of_pair(port, port.pair, claim) if port.pair else {}),
    }


def _of_pair(port: PortStatus, above: Upper, claim: PreparedClaim) -> dict[str, Any]:
    """Both names of a pair, what identifies it, and what is done to its synthetic netdev."""
    now = None
    if claim.system is not None and above.vmbus is not None:
        now = claim.system.synthetic(above.vmbus)
    return {
        "vf": port.netdev.name if port.netdev else None,
        "upper": above.netdev,
        "upper_altnames": None if above.altnames is None else list(above.altnames),
        "upper_ifindex": now.ifindex if isinstance(now, NetdevNow) else None,
        "upper_up": now.up if isinstance(now, NetdevNow) else None,
        "vmbus": above.vmbus,
        "synthetic": claim.request.mode(port),
    }


def header(claim: PreparedClaim, plan: Plan) -> dict[str, Any]:
    """The journal's first line, but for its schema."""
    return {
        "boot_id": claim.host.boot_id(),
        "netns": claim.host.netns()._asdict(),
        "time": journal.stamp(datetime.now(UTC)),
        "mode": Mode.EXEC if claim.request.command else Mode.CLAIM,
        "by": claim.host.who(),
        "ports": [_of_header(port, claim) for port in claim.ports],
        "waived": sorted({no.code for no in claim.refusals}),
        "plan": plan.to_json(drops=False),
        "snapshot": [state.to_json() for state in plan.states],
    }
