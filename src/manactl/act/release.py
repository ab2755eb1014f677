"""A release or a recovery from its request to the closed journals.

The same for a claim that stands and for one that died on the way: what its journal says was
begun is undone, newest first, and compared with what was there before. They differ in what they
choose: `release` what was named, `recover` all that was interrupted and nothing that stands.
`recover --accept` undoes nothing: the journal is closed with what is missing (accept.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from manactl.act import accept as accepting
from manactl.act import (
    await_free,
    foreign,
    outcome_words,
    plan_words,
    progress_words,
    taken_away,
    transition,
)
from manactl.act import terminate as ending
from manactl.act.audit import to_syslog
from manactl.act.choose import Chosen, choose, open_claims
from manactl.act.give_back import give_back
from manactl.act.host import Host, HostSystem
from manactl.act.plan import KeepState, Plan, SetAdmin, SetSynthetic, Step, Undone, steps_from_json
from manactl.act.privilege import need_net_admin
from manactl.act.progress import Progress
from manactl.act.released import Outcome, ReleasedPort, ReleaseRequest, ReleaseResult, Run
from manactl.act.signals import SignalGate, StopRequested
from manactl.act.stale import close_stale
from manactl.act.transition import UndoResult, Workplace
from manactl.act.uio import BindUio
from manactl.act.unmanage import Unmanage
from manactl.decide import kernel_bugs
from manactl.decide.port_notes import drift as drifts
from manactl.decide.port_words import note
from manactl.errors import (
    Busy,
    Interrupted,
    ManactlError,
    NotRestored,
    lacking,
    worst,
)
from manactl.escape import command
from manactl.journal import file as journal
from manactl.journal import lock
from manactl.journal.file import Journal
from manactl.look.netdevs_of import NetdevNow
from manactl.model.claim import ClaimSummary, Phase
from manactl.model.port import PortId
from manactl.model.record import Event
from manactl.netstate import members, uppers
from manactl.netstate.members import Member
from manactl.netstate.snapshot import Kind, Request
from manactl.poll import until

_LOG_ERR, _LOG_USER = 3, 1  # RFC 5424
_LOWERING = (SetAdmin.KIND, SetSynthetic.KIND)


def release(
    request: ReleaseRequest, host: Host, signals: SignalGate, progress: Progress
) -> ReleaseResult:
    """Release the ports. The error of one claim does not keep another from being released; the
    worst is raised in the end. A signal ends it all."""
    run = Run(request, host, signals, progress, ReleaseResult())
    result = run.result
    closed: list[str] = []
    with host.audit(request.verb, request.words) as audit, signals.as_interrupted(closed):
        audit.quiet = request.dry_run
        audit.fields["reason"] = request.why
        claims, unreadable = open_claims(request.state_dir, host)
        signals.ignore()
        kept = [] if request.dry_run else _put_away(request.state_dir, closed)
        signals.listen()
        if closed:
            try:
                claims, unreadable = open_claims(request.state_dir, host)
            except ManactlError as error:
                raise error.after(f"{'; '.join(closed)}; no port was changed") from error
        chosen, failures = _readable(request, _chosen(request, host, claims), unreadable)
        failures += kept
        named = {one.port.key for one in chosen.claims} | {one.id.key for one in chosen.unclaimed}
        result.ports += [
            ReleasedPort(port.id, port.label, Outcome.NOT_CLAIMED) for port in chosen.unclaimed
        ]
        if request.recover and not request.accept:
            _note_drift(run, claims)
        if not chosen.claims and failures:
            raise _with_others(failures, result)
        if not chosen.claims:
            give_back(run, named)
            audit.quiet = audit.quiet or not (request.words or result.ports)
            return result
        audit.fields["ports"] = [str(claim.port) for claim in chosen.claims]
        if request.dry_run:
            failures += _show(run, chosen.claims)
            give_back(run, named)
            if failures:
                raise _with_others(failures, result)
            return result
        if any(claim.same_boot for claim in chosen.claims) and not request.accept:
            need_net_admin(host, request.verb)
        try:
            failures += _release_each(run, chosen.claims, claims, named)
        finally:
            audit.fields["terminated"] = [holder.pid for holder in result.terminated] or None
            audit.fields |= _accepted(result)
        if failures:
            # Who ends a claim that ends by itself tries again until it is free.
            audit.quiet = request.quiet and isinstance(failures[0], Busy)
            raise _with_others(failures, result)
        return result


def _with_others(failures: Sequence[ManactlError], result: ReleaseResult) -> ManactlError:
    """The worst of them, with what has become of the other ports."""
    error = worst(failures)
    error.beside = result
    return error


def _release_each(
    run: Run,
    chosen: Sequence[ClaimSummary],
    claims: Sequence[ClaimSummary],
    named: Collection[tuple[str, int]],
) -> list[ManactlError]:
    """Release the ports journal by journal, of all open `claims`, and give back the `named`; what
    failed. A signal ends it."""
    failures: list[ManactlError] = []
    for path in dict.fromkeys(claim.path for claim in chosen):
        ports = [claim.port for claim in chosen if claim.path == path]
        functions = {claim.port.pci for claim in claims if claim.path == path}
        before = len(run.result.terminated)
        try:
            run.signals.listen()
            wait = run.request.wait or 0.0
            with lock.looking(run.request.state_dir, functions, wait=wait) as acting:
                _release_claim(run, path, ports, acting)
        except StopRequested as stop:
            return [*failures, _interrupted(stop, run.result)]
        except ManactlError as error:
            failures.append(ending.after_signal(error, run.result.terminated[before:]))
        except Exception as error:
            if run.request.only is not None:  # there are no others
                raise
            failures.append(_unforeseen(*_how_far(run, ports), error))
    try:
        give_back(run, named)
    except StopRequested as stop:
        failures.append(_interrupted(stop, run.result))
    except ManactlError as error:
        failures.append(_after_release(error, run.result))
    except Exception as error:  # noqa: BLE001 - what was released is told all the same
        what = outcome_words.BOOT_NOT_LOOKED_AT
        failures.append(_unforeseen(what, outcome_words.RELEASE, error))
    return failures


def _after_release(error: ManactlError, result: ReleaseResult) -> ManactlError:
    """The error of giving ports back, which comes after all releases."""
    back = _changed(result)
    if not back:
        return ending.after_signal(error, result.terminated)
    return error.after(outcome_words.released_before(back))


def _how_far(run: Run, ports: Sequence[PortId]) -> tuple[str, str]:
    """What has become of the ports of one journal whose release ended unforeseen, and what is next."""
    names = ", ".join(map(str, ports))
    if {one.port for one in run.result.ports}.issuperset(ports):
        return outcome_words.not_waited_for(names), outcome_words.LOOK
    return outcome_words.not_released(names), outcome_words.RECOVER


def _unforeseen(what: str, then: str, error: Exception) -> ManactlError:
    """One claim's, which keeps no other from being released. `then`: once the cause is fixed."""
    if isinstance(error, MemoryError | OSError) and (lack := lacking(error, what)):
        return lack
    why = (
        error.strerror if isinstance(error, OSError) else None
    ) or f"{type(error).__name__}: {error}"
    from traceback import format_exc  # noqa: PLC0415 - only a bug pays for it

    to_syslog([what, *format_exc().split("\n")], _LOG_ERR, _LOG_USER)
    return NotRestored(
        f"{what}: {why}",
        hint=f"the system log has all of it; fix the cause, {then}",
        code="journal",
    )


def _release_claim(run: Run, path: Path, chosen: Sequence[PortId], acting: lock.Acting) -> None:
    """Release ports of one journal, under the locks of all its functions: it has one writer. While
    a holder is waited for, `manactl hold` goes on with the other ports."""
    ports = _still_claimed(run, path, chosen)
    if not ports:
        return
    boot_id = run.host.boot_id()
    if (damaged := journal.salvaged(path, boot_id)) is not None:
        run.signals.ignore()  # it is closed or it is not: no signal has "nothing was changed" said
        close_stale(path, boot_id)
        run.result.ports += _history(damaged)
        return
    with contextlib.closing(Journal.open(path)) as log:
        content = log.content
        if content.boot_id != boot_id:
            run.signals.ignore()
            close_stale(path, boot_id)
            run.result.ports += _history(content)
            return
        if run.request.accept:
            with acting():
                _accept(run, log, ports)
            return
        steps = _steps(content, ports)
        with journal.believed(path):  # all that is told of it in the end
            _names(content, ports), [_down_for(content, port, 0.0) for port in ports]
        if (elsewhere := foreign.of(run.host, content)) is not None:
            raise elsewhere.refused(run.request.verb, {p: _of(steps, p) for p in ports})
        there = {port.id.key: port for port in run.host.look().ports}
        kernel_bugs.refuse_release([there[port.key] for port in ports if port.key in there])
        with run.host.system(run.signals.pause) as system:
            with run.signals.step(progress_words.look_releasable(_names(content, ports))):
                _await_free(run, system, [port for port in ports if _of(steps, port)])
                mine = [step for step in steps if step.port in ports]
                await_free.require_closed(system, mine, run.request.wait or await_free.PATIENCE)
            title = f"{run.request.verb} {_names(content, ports)}"
            removed = taken_away.look(steps, ports, content, system)
            run.progress.planned(title, _plan(run.request, content, ports, removed))
            work = Workplace(system, log, run.signals, run.progress)
            closes = content.ending if set(content.ports) <= set(ports) else None
            with acting() as waited:
                if waited:  # somebody may have taken them meanwhile
                    await_free.require_free(system, [port for port in ports if _of(steps, port)], 0)
                    await_free.require_closed(system, mine, 0)
                    removed = taken_away.look(steps, ports, content, system)
                down_for = {port: _down_for(content, port, system.boottime()) for port in ports}
                undo = transition.release(
                    steps,
                    work,
                    ports,
                    closes=closes,
                    by=run.host.who(),
                    why=run.request.why,
                    removed=removed,
                )
            again, names = _called_now(run, system, content, ports)
    for port in ports if undo.clean else ():
        run.result.ports.append(
            _released(
                port,
                names[port],
                _outcome(content, steps, port),
                undo,
                recovered=content.phase_of(port) is Phase.INTERRUPTED,
                down_for=down_for[port],
                up=not any(_was_down(step) for step in _of(steps, port)),
            )
        )
    if not undo.clean:
        raise transition.not_restored(
            outcome_words.not_clean(", ".join(names.values()), residue=bool(undo.residue)),
            undo,
            list(again.values()),
            back=[name for port, name in names.items() if undo.residue and undo.is_back(port)],
        )
    if run.request.wait:
        _await_forwarding(run, ports, run.request.wait)


def _called_now(
    run: Run, system: HostSystem, content: journal.Content, ports: Sequence[PortId]
) -> tuple[dict[PortId, str], dict[PortId, str]]:
    """What to call the ports on a command line, and to whoever asked; by their journal where they
    cannot be looked up: what was done is told all the same."""
    try:
        return (
            {port: transition.name_of(system, port) for port in ports},
            {port: _now_called(system, port, content, run.request.words) for port in ports},
        )
    except OSError:
        return {port: str(port) for port in ports}, {port: _name(content, port) for port in ports}


def _await_forwarding(run: Run, ports: Sequence[PortId], wait: float) -> None:
    """Wait until the ports forward in their bridges and bonds, `wait` seconds at most. These ports
    are released already: a signal ends the waiting, and what would come after."""
    result = run.result
    slow = [one for one in result.ports if one.port in ports and one.settling is not None]
    if not slow:
        return
    names = ", ".join(one.netdev for one in slow)
    run.progress.noted(progress_words.awaits_forwarding(names, wait))
    run.signals.listen()
    with run.host.system(run.signals.pause) as system:

        def left() -> list[ReleasedPort]:
            return [replace(one, settling=_settling(system, one)) for one in slow]

        with run.signals.step(progress_words.await_forwarding(names)):
            until(system, lambda: not any(one.settling for one in left()), wait)
        now = {one.port: one for one in left()}
        for one in slow:
            if one.settling is not None and one.settling.active and not now[one.port].settling:
                now[one.port] = replace(one, settling=_made_active(system, one, one.settling))
    result.ports[:] = [now.get(one.port, one) for one in result.ports]


def _settling(system: HostSystem, port: ReleasedPort) -> Member | None:
    """What a port is now that did not forward yet; None when it does, or has another master."""
    assert port.settling is not None
    try:
        now = system.capture(port.port, (), ()).member
    except OSError:
        return None
    now = now and now._replace(active=port.settling.active)
    return members.settling(port.settling._replace(forwards=True), now)


def _made_active(system: HostSystem, port: ReleasedPort, was: Member) -> Member | None:
    """Make a port that forwards again the active slave that it was; None when it is."""
    with contextlib.suppress(OSError):
        now = system.capture(port.port, (), ())
        bond = next((one for one in now.uppers if one.name == was.master), None)
        if bond is None or bond.active == now.ifindex:
            return None
        system.send(Request(*uppers.activate(bond, now.ifindex)))
        return None
    return was._replace(state="backup", within=None)


def _accept(run: Run, log: Journal, ports: Sequence[PortId]) -> None:
    """Close the journal for these ports as they are."""
    last = set(log.content.ports) <= set(ports)
    found = _residue(run, log.content, ports, Outcome.ACCEPTED)
    run.signals.ignore()
    try:
        accepting.record(log, {port.port: port.residue for port in found}, run.host.who())
    finally:
        left = log.content.ports
        run.result.ports += [port for port in found if port.port not in left]
    failed = transition.close(log, log.content.ending) if last else None
    if failed:
        raise NotRestored(
            f"the residue of {', '.join(port.netdev for port in found)} is accepted, but the "
            f"journal {log.path} cannot be closed: {failed}",
            hint="fix the cause, then `manactl recover` tries again",
            code="journal",
        )


def _residue(
    run: Run, content: journal.Content, ports: Sequence[PortId], outcome: Outcome
) -> list[ReleasedPort]:
    """The ports with what is missing on each."""
    steps = _steps(content, ports)
    there = {port.id.key: port for port in run.host.look().ports}
    with (
        run.host.system(run.signals.pause) as system,
        run.signals.step(progress_words.look_missing(_names(content, ports))),
    ):
        found = accepting.residue(
            system,
            content,
            {port: _of(steps, port) for port in ports},
            there,
            foreign.of(run.host, content),
        )
        return [
            ReleasedPort(port, transition.name_of(system, port), outcome, residue=lines)
            for port, lines in found.items()
        ]


def _accepted(result: ReleaseResult) -> dict[str, object]:
    """What the system log says about residue that was accepted."""
    ports = [port for port in result.ports if port.outcome is Outcome.ACCEPTED]
    if not ports:
        return {}
    lines = [f"{port.netdev}: {line}" for port in ports for line in port.residue]
    return {"accepted": [str(port.port) for port in ports], "residue": lines}


# --- what is released -----------------------------------------------------------------------


def _put_away(state_dir: Path, closed: list[str]) -> list[ManactlError]:
    """Move journals to the history whose release died when its last port was back already; those
    that cannot be closed keep no port from being released. What was `closed` is told, should a
    signal be all that comes after."""
    failures: list[ManactlError] = []
    try:
        for content in journal.finished(state_dir):
            try:
                failures += _put_one_away(state_dir, content, closed)
            except Busy:
                continue  # a living release has the lock, and puts its journal away itself
            except ManactlError as error:
                failures.append(error)
    except OSError as error:
        failures.append(_unforeseen(outcome_words.NOT_CLOSED, outcome_words.RECOVER, error))
    return failures


def _put_one_away(
    state_dir: Path, content: journal.Content, closed: list[str]
) -> list[ManactlError]:
    with lock.functions(state_dir, {port.pci for port in content.all_ports}):
        if not content.path.exists():
            return []
        with Journal.open(content.path) as log:
            failed = transition.close(log, content.ending, already=content.phase is Phase.CLOSED)
    if not failed:
        closed.append(outcome_words.put_away(content.path.name))
        return []
    return [
        NotRestored(
            f"nothing is left to restore, but the journal {content.path} cannot be closed: {failed}",
            hint="fix the cause, then `manactl recover` tries again",
            code="journal",
        )
    ]


def _chosen(request: ReleaseRequest, host: Host, claims: Sequence[ClaimSummary]) -> Chosen:
    if request.only is not None:
        return Chosen(tuple(claim for claim in claims if claim.path == request.only))
    if request.recover and not request.accept:
        return Chosen(tuple(claim for claim in claims if claim.to_recover))
    return choose(claims, host, request.words, everything=request.everything)


def _readable(
    request: ReleaseRequest, chosen: Chosen, unreadable: Sequence[journal.UnreadableJournal]
) -> tuple[Chosen, list[ManactlError]]:
    """What is not on a function with a journal that cannot be read, and the errors of those: of
    the named ports alone where there are any."""
    ports = [claim.port for claim in chosen.claims] + [port.id for port in chosen.unclaimed]
    blocked = {port.pci for port in ports if any(bad.concerns(port.pci) for bad in unreadable)}
    everything = not request.words and request.only is None
    errors: list[ManactlError] = [
        bad.error
        for bad in unreadable
        if everything or bad.path == request.only or any(map(bad.concerns, blocked))
    ]
    claims = tuple(claim for claim in chosen.claims if claim.port.pci not in blocked)
    unclaimed = tuple(port for port in chosen.unclaimed if port.id.pci not in blocked)
    return Chosen(claims, unclaimed), errors


def _note_drift(run: Run, claims: Sequence[ClaimSummary]) -> None:
    """Claims that stand are left alone, and told of where their port is not as they left it: a
    netdev that was re-created is up, and whoever asks for a recovery thinks of it."""
    here = run.host.netns()
    standing = [one for one in claims if not one.to_recover and one.is_of(here)]
    if not standing:
        return
    there = {port.id.key: port for port in run.host.look(claims).ports}
    for claim in standing:
        port = there.get(claim.port.key)
        drift = [] if port is None else [note(one) for one in drifts(port, claim, here)]
        if port is None or not drift:
            continue
        release = command("manactl", "release", names=[port.label])
        run.progress.noted(progress_words.drifted(port.label, drift, release))


def _still_claimed(run: Run, path: Path, chosen: Sequence[PortId]) -> list[PortId]:
    """The chosen ports that are to be released now that we have the lock: another manactl may
    have finished meanwhile, and what was interrupted may be a claim now that stands. JournalError
    when the journal, which could be read before, cannot be."""
    claims, unreadable = open_claims(run.request.state_dir, run.host)
    for bad in unreadable:
        if bad.path == path:
            raise bad.error
    return [
        claim.port
        for claim in claims
        if claim.path == path
        and claim.port in chosen
        and (claim.to_recover or not run.request.recover or run.request.accept)
        and (claim.claim.confirm_by is not None or not run.request.unconfirmed)
    ]


def _steps(content: journal.Content, ports: Sequence[PortId]) -> list[Step]:
    """The steps of these ports that were begun and are to undo; JournalError when they make no
    sense. What was on a port that was never touched is others' by now."""
    begun = {r.get("step") for r in content.records if r["event"] == Event.DOING}
    with journal.believed(content.path):
        steps = steps_from_json(content.header["plan"], content.header["snapshot"])
    found = [step for n, step in enumerate(steps) if n in begun and step.port in ports]
    touched = {step.port for step in found if isinstance(step, SetAdmin | Unmanage)}
    return [step for step in found if step.port in touched or not isinstance(step, KeepState)]


def _of(steps: Sequence[Step], port: PortId) -> list[Step]:
    return [step for step in steps if step.port == port]


def _await_free(run: Run, system: HostSystem, ports: Sequence[PortId]) -> None:
    wait, progress = run.request.wait, run.progress
    if run.request.terminate:
        sent = run.result.terminated
        await_free.terminate(run.host, system, ports, sent, progress, wait=wait)
    else:
        await_free.await_free(system, ports, progress, wait=wait)


# --- plans ----------------------------------------------------------------------------------


def _show(run: Run, claims: Sequence[ClaimSummary]) -> list[ManactlError]:
    """For a dry run: what would be done, a plan for each journal; or the residue. What would fail
    is returned."""
    failures: list[ManactlError] = []
    for path in dict.fromkeys(claim.path for claim in claims):
        ports = [claim.port for claim in claims if claim.path == path]
        try:
            _show_claim(run, path, ports)
        except FileNotFoundError:
            continue  # just put away by another manactl
        except ManactlError as error:
            failures.append(error)
    return failures


def _show_claim(run: Run, path: Path, ports: Sequence[PortId]) -> None:
    request, host, plans = run.request, run.host, run.result.plans
    content = journal.salvaged(path, host.boot_id()) or journal.read(path)
    same_boot = content.boot_id == host.boot_id()
    if same_boot and request.accept:
        run.result.ports += _residue(run, content, ports, Outcome.RESIDUE)
    elif elsewhere := foreign.of(host, content) if same_boot else None:
        steps = _steps(content, ports)
        raise elsewhere.refused(request.verb, {p: _of(steps, p) for p in ports})
    elif same_boot:
        steps = _steps(content, ports)
        with host.system(run.signals.pause) as system:
            removed = taken_away.look(steps, ports, content, system)
            if request.terminate:
                holders = await_free.would_end(host, ports)
            else:
                names = {port: _name(content, port) for port in ports}
                holders = await_free.would_wait(host, system, names, steps)
        plans.append(_plan(request, content, ports, removed, holders))
    else:
        note = plan_words.before_last_boot(_given_back_too(run, ports))
        plans.append(Plan(request.verb, content.ports, (), notes=(note,)))


def _given_back_too(run: Run, ports: Sequence[PortId]) -> list[str]:
    """The netdevs that are given back when a journal of an earlier boot is closed."""
    if run.request.recover or run.request.only:
        return []
    keys = {port.key for port in ports}
    with run.host.system(run.signals.pause) as system:
        return [one.name for one in system.boot_files() if one.port.key in keys]


def _plan(
    request: ReleaseRequest,
    content: journal.Content,
    ports: Sequence[PortId],
    removed: taken_away.Places,
    notes: Sequence[str] = (),
) -> Plan:
    steps = _steps(content, ports)
    alone = {step.port for step in steps if isinstance(step, KeepState) and step.state.alone}
    restores = [plan_words.made_again(step.name) for step in steps if isinstance(step, BindUio)]
    restores += [
        plan_words.set_up_below(step.name, _name_above(content, step.port))
        if step.port in alone
        else plan_words.set_up(step.name)
        for step in reversed(steps)
        if isinstance(step, SetSynthetic) or (isinstance(step, SetAdmin) and step.was)
    ]
    restores += [
        plan_words.given_back(step.unmanaged.manager, step.unmanaged.names)
        for step in steps
        if isinstance(step, Unmanage)
    ]
    states = [step.state for step in steps if isinstance(step, KeepState)]
    destroyed = {step.port for step in steps if isinstance(step, BindUio)}
    saved = [
        state for state in states if (state.in_use and not state.alone) or state.port in destroyed
    ]
    out = {port: taken_away.at(saved, port, places) for port, places in removed.items()}
    told = [
        loss.text for state in saved for loss in taken_away.told(state, out.get(state.port, ()))
    ]
    saved = [taken_away.left(state, out.get(state.port, ())) for state in saved]
    restores += [line for state in saved for line in plan_words.restored(state)]
    lost = [line for state in saved for line in plan_words.not_restored(state)]
    lost += told
    lost += _lost_of_others(content, {step.port.key for step in steps})
    words = {
        Outcome.LEFT_DOWN: plan_words.left_down,
        Outcome.UNTOUCHED: plan_words.untouched,
    }
    down = [
        words[outcome](_name(content, port))
        for port in ports
        if (outcome := _outcome(content, steps, port)) in words
    ]
    return Plan(
        request.verb,
        tuple(ports),
        tuple(reversed(steps)),
        restores=tuple(restores),
        lost=tuple(lost),
        notes=(*down, *notes),
    )


def _lost_of_others(content: journal.Content, ports: Collection[tuple[str, int]]) -> list[str]:
    """What these ports have cost others, in the words of the claim. A claim of an older manactl has
    not noted it port by port."""
    noted = content.header["plan"].get("others", ())
    return [str(one["text"]) for one in noted if PortId.key_of(one["port"]) in ports]


# --- what came of it ------------------------------------------------------------------------


def _outcome(content: journal.Content, steps: Sequence[Step], port: PortId) -> Outcome:
    """What undoing these steps, which were begun, comes to for a port."""
    if any(isinstance(step, SetAdmin | Unmanage) for step in _of(steps, port)):
        return Outcome.RESTORED
    planned = any(
        step["kind"] == SetAdmin.KIND and PortId.key_of(step["port"]) == port.key
        for step in content.header["plan"]["steps"]
    )
    return Outcome.UNTOUCHED if planned else Outcome.LEFT_DOWN


def _history(content: journal.Content) -> list[ReleasedPort]:
    return [ReleasedPort(port, _name(content, port), Outcome.HISTORY) for port in content.ports]


def _name(content: journal.Content, port: PortId) -> str:
    """What the netdev was called when it was claimed."""
    return str(content.port_entry(port)["netdev"])


def _name_above(content: journal.Content, port: PortId) -> str:
    """What the synthetic netdev of a pair was called then."""
    listed = content.header["ports"]
    return next(str(p.get("upper")) for p in listed if PortId.key_of(p) == port.key)


def _names(content: journal.Content, ports: Sequence[PortId]) -> str:
    return ", ".join(_name(content, port) for port in ports)


def _now_called(
    system: HostSystem, port: PortId, content: journal.Content, words: Sequence[str]
) -> str:
    """The netdev's present name; of a pair the one of the two that was typed, now or then."""
    now = system.netdev(port)
    then = content.port_entry(port)
    vf = now.name if isinstance(now, NetdevNow) else str(then.get("vf") or then["netdev"])
    if then.get("vmbus") is None:
        return vf
    above = system.synthetic(then["vmbus"])
    was = then.get("upper") or then["netdev"]
    upper = above.name if isinstance(above, NetdevNow) else str(was)
    if {upper, was}.intersection(words):
        return upper
    if {vf, then.get("vf")}.intersection(words):
        return vf
    return upper if then["netdev"] == was else vf


def _down_for(content: journal.Content, port: PortId, now: float) -> float | None:
    """Seconds since the netdev was set down, by the record of it."""
    found = [record for record in content.records if _is_down(record, content, port)]
    # Of a pair the synthetic netdev comes last, and with it the traffic stops.
    return round(now - float(found[-1]["boottime"]), 1) if found else None


def _is_down(record: Mapping[str, Any], content: journal.Content, port: PortId) -> bool:
    if record["event"] != Event.DONE or record.get("kind") not in _LOWERING:
        return False
    step = content.header["plan"]["steps"][record["step"]]
    return PortId.key_of(step["port"]) == port.key


def _released(
    port: PortId,
    name: str,
    outcome: Outcome,
    undo: UndoResult,
    *,
    recovered: bool,
    down_for: float | None,
    up: bool,
) -> ReleasedPort:
    undone: list[Undone] = undo.undone.get(port, [])
    counts: dict[Kind, int] = {}
    facts: dict[str, Any] = {}
    for part in undone:
        for kind, number in part.restored.counts.items():  # an upper is made, and set up later
            counts[kind] = max(number, counts.get(kind, 0))
        facts = {**part.facts, **facts}  # of a pair the synthetic netdev comes first, and counts
    return ReleasedPort(
        port,
        name,
        outcome,
        recovered,
        counts,
        expired=tuple(text for part in undone for text in part.restored.expired),
        extra=tuple(text for part in undone for text in part.restored.extra),
        advertised=tuple(text for part in undone for text in part.restored.advertised),
        lost=tuple(lost for part in undone for lost in part.restored.lost),
        settling=next((p.restored.settling for p in undone if p.restored.settling), None),
        up_ms=facts.get("ms"),
        carrier=facts.get("carrier"),
        data_path=facts.get("data_path"),
        down_for_s=down_for,
        up=up,
        lowered=facts.get("lowered"),
    )


def _was_down(step: Step) -> bool:
    return isinstance(step, KeepState) and not step.state.in_use


def _changed(result: ReleaseResult) -> list[str]:
    """The ports of which something was done."""
    return [port.netdev for port in result.ports if port.outcome is not Outcome.NOT_CLAIMED]


def _interrupted(stop: StopRequested, result: ReleaseResult) -> Interrupted:
    """What had been done when the signal came; all the rest is as it was."""
    terminated = ending.named(result.terminated) if result.terminated else None
    accepted = bool(_accepted(result))
    return Interrupted(
        outcome_words.interrupted_after(stop.name, terminated, _changed(result), accepted=accepted)
    )
