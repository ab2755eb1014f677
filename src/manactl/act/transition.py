"""Steps done and undone: every act is in the journal before it happens.

What was done is undone newest first, the half-done step included. Undoing is the same whether a
step has failed, a signal came, the operator releases, or a claim died and another process
recovers: only the message afterwards differs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from manactl.act import (
    addresses_first,
    outcome_words,
    progress_words,
    recreate,
    residue_words,
    step_words,
    taken_away,
)
from manactl.act import plan as planning
from manactl.act.outcome_words import acceptance, items, named
from manactl.act.plan import (
    KeepState,
    ProveFree,
    SetAdmin,
    SetSynthetic,
    StateChanged,
    Step,
    StepFailed,
    System,
    Undone,
)
from manactl.act.progress import Progress
from manactl.act.restore import Lost, Prepared, Restored
from manactl.act.signals import SignalGate, StopRequested
from manactl.act.uio import BindUio
from manactl.act.unmanage import Unmanage
from manactl.errors import Busy, ManactlError, NotRestored, Refused, RolledBack, strerror
from manactl.escape import command
from manactl.journal import file as journal
from manactl.journal import state_dir
from manactl.look.netdevs_of import NetdevNow, Unread
from manactl.model.port import Evidence, Holder, PortId
from manactl.model.record import Ending, Event, Reason
from manactl.model.value import Value
from manactl.netstate import leases, snapshot
from manactl.netstate.losses import Cause
from manactl.netstate.snapshot import Kind

Facts = dict[PortId, dict[str, Mapping[str, object]]]  # what each step found, by port and kind


class Log(Protocol):
    """The journal as a transition writes it (manactl.journal.file.Journal)."""

    @property
    def path(self) -> Path: ...
    def append(self, event: Event, **more: object) -> None: ...
    def archive(self) -> None: ...
    def discard(self, error: OSError | None) -> ManactlError | None: ...


class Workplace(Value):
    """What steps are done and undone with."""

    system: System
    log: Log
    signals: SignalGate
    progress: Progress

    @contextlib.contextmanager
    def at(self, title: str) -> Iterator[None]:
        """The block of a step, which is reported when it ends, or is stuck in the kernel."""
        start = self.system.monotonic()
        failed = True
        try:
            with self.progress.doing(title), self.signals.step(title):
                yield
            failed = False
        finally:
            self.progress.ended(title, self.system.monotonic() - start, failed=failed)

    def record(self, undo: UndoResult, event: Event, **more: object) -> None:
        """Write a record; one that cannot be written stops nothing."""
        try:
            self.log.append(event, **more)
        except Exception as error:  # noqa: BLE001
            undo.log_failed = _why(error)


class UndoResult:
    """What came of undoing steps: per port what was restored, and what could not be.

    `taken` are ports that a raw QP has, `remedies` what the operator can do, `announced` ports whose
    snapshots the journal says are being restored. `residue` is added by
    left(), so that the ports which it is of are known.
    """

    def __init__(
        self,
        *,
        residue: Iterable[str] = (),
        taken: Iterable[PortId] = (),
        log_failed: str | None = None,
        remedies: Iterable[str] = (),
    ) -> None:
        self.undone: dict[PortId, list[Undone]] = {}
        self.residue = [*residue]
        self.troubled: set[PortId] = set()
        self.taken = [*taken]
        self.log_failed = log_failed
        self.remedies = [*remedies]
        self.announced: set[PortId] = set()

    @property
    def clean(self) -> bool:
        return not self.residue and not self.taken and self.log_failed is None

    def left(self, port: PortId, *lines: str) -> None:
        """This could not be restored of a port."""
        self.residue += lines
        if lines:
            self.troubled.add(port)

    def is_back(self, port: PortId) -> bool:
        """Whether all of a port is restored, whatever has become of others."""
        return port not in self.troubled and port not in self.taken


def apply(
    steps: Sequence[Step],
    work: Workplace,
    *,
    wait: float,
    who: str,
    last: Callable[[], None] | None = None,
) -> Facts:
    """Do every step; what each found.

    RolledBack when a step failed or a signal came and all is as before; Busy when a raw QP turned
    up; NotRestored, with the journal open, when something could not be restored; StateChanged, with
    no journal, when a snapshot is not true any more and nothing was touched. `who` names the ports
    in messages; `last` comes before the ports count as claimed, and its failure is a step's.
    Signals are ignored afterwards.
    """
    facts: Facts = {}
    started: list[Step] = []
    try:
        for number, step in enumerate(steps):
            work.log.append(Event.DOING, step=number, kind=step.kind)
            work.signals.boundary()
            started.append(step)
            with work.at(step.title):
                found = step.do(work.system, wait)
            work.log.append(Event.DONE, step=number, kind=step.kind, **found)
            facts.setdefault(step.port, {})[step.kind] = found
        _still_holds(steps, work.system)
        work.signals.boundary()
        if last is not None:
            last()
        work.log.append(
            Event.CLAIMED, ports=[_claimed(port, found) for port, found in facts.items()]
        )
        work.signals.ignore()
    except BaseException as error:
        work.signals.ignore()
        looked = all(isinstance(step, KeepState) for step in started)
        if looked or isinstance(error, StateChanged):  # the journal announces nothing
            refused = work.log.discard(error if isinstance(error, OSError) else None)
            if refused is not None:
                raise refused from error
            if isinstance(error, StateChanged) or not isinstance(error, StepFailed):
                raise
            raise RolledBack(
                f"claiming {who} failed: {_why(error)}; nothing was touched", hint=error.hint
            ) from error
        result = _unwind(error, started, work)
        ports = list(dict.fromkeys(step.port for step in steps))
        raise _unwound(error, started, work.system, result, who, ports=ports) from error
    return facts


def _still_holds(steps: Sequence[Step], system: System) -> None:
    """StepFailed when another program has undone one step while a later one was done."""
    for step in steps:
        if not step.holds(system):
            raise StepFailed(
                f"another program has undone it: {step.title}",
                hint="find the network manager or script that undoes it, and stop it first",
            )


def _claimed(port: PortId, facts: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    proven = facts.get(ProveFree.KIND, {}).get("proven") is True
    return {"pci": port.pci, "port": port.port, "proven": proven}


def _unwind(error: BaseException, started: Sequence[Step], work: Workplace) -> UndoResult:
    """Undo what was started, and close the journal when that restored everything."""
    with contextlib.suppress(Exception):  # a full disk may be why we are here
        work.log.append(Event.UNWINDING, why=_why(error))
    result = undo(started[::-1], work)
    if result.clean:
        result.log_failed = close(work.log, Ending.UNWOUND)
    elif result.residue:
        work.record(result, Event.RESIDUE, lines=result.residue)
    return result


def _unwound(
    error: BaseException,
    started: Sequence[Step],
    system: System,
    result: UndoResult,
    who: str,
    *,
    ports: Sequence[PortId],
) -> BaseException:
    """The exception that tells both: what failed, and what came of undoing. `ports` are all of
    the journal."""
    story = f"claiming {who} failed: {_why(error)}"
    evidence = tuple(getattr(error, "evidence", ()))
    holders: list[Holder] = []
    if result.taken or getattr(error, "taken", False):
        taken = result.taken or [step.port for step in started[-1:]]
        holders = [holder for port in taken for holder in _holders(system, port)]
        evidence += holder_evidence(holders)
        story += named(holders)
    if result.taken:
        return Busy(
            "\n".join([story, "Not restored while the holder is running:", *items(result.residue)]),
            hint="the journal stays open: end the holder, then `manactl recover`",
            evidence=evidence,
            code="holder",
        )
    if not result.clean:
        return not_restored(story, result, [name_of(system, port) for port in ports], evidence)
    code = "kernel-bug" if getattr(error, "code", None) == "kernel-bug" else None
    if code and all(isinstance(step, ProveFree) for step in started):
        return Refused(
            f"refused to claim {who}; nothing was touched\n  {code}: {_why(error)}.",
            hint=getattr(error, "hint", None),
            evidence=evidence,
            code=code,
        )
    kind = Busy if holders else RolledBack
    restored = [part.restored for parts in result.undone.values() for part in parts]
    lines = outcome_words.restored(
        [text for part in restored for text in part.advertised],
        [loss.text for part in restored for loss in part.lost],
    )
    return kind(
        "\n".join([story, *lines]),
        hint=getattr(error, "hint", None),
        evidence=evidence,
        code=code,
    )


def _holders(system: System, port: PortId) -> tuple[Holder, ...]:
    """Who has a port; nobody where that cannot be looked up: what was undone is told all the same."""
    try:
        return system.holders(port)
    except Exception:  # noqa: BLE001
        return ()


def _why(error: BaseException) -> str:
    if isinstance(error, StopRequested):
        return outcome_words.interrupted(error.name)
    if isinstance(error, ManactlError):
        return error.message
    if isinstance(error, OSError):
        return strerror(error)
    return f"{type(error).__name__}: {error}"


def undo(
    steps: Sequence[Step], work: Workplace, removed: taken_away.Places | None = None
) -> UndoResult:
    """Undo steps in the given order (newest first), never stopping at a failure. `removed`: what of
    the ports' addresses is left out.

    Once a port's netdev could not be set up, what belongs on it is not attempted: most of it
    would be refused, and the rest would hide that. A file that cannot be removed costs nothing
    but itself. Of a pair that counts for the synthetic netdev,
    which has the addresses. What belongs on the ports comes last, and together.
    """
    result = UndoResult()
    stuck: set[PortId] = set()
    slow: set[PortId] = set()  # whose VF could not be set up
    above = {step.port for step in steps if isinstance(step, SetSynthetic)}
    # What was on a port that was never touched is not ours to restore: others have changed it.
    touched = {step.port for step in steps if isinstance(step, SetAdmin | Unmanage)}
    kept = [step for step in steps if isinstance(step, KeepState) and step.port in touched]
    prepared = _prepared(kept)
    on_uio = _from_uio(steps, work, result)
    _set_up_recreated(steps, work, result)
    managed = {step.port for step in steps if isinstance(step, Unmanage)}
    for step in addresses_first.with_addresses(steps, prepared, managed, work.system):
        if isinstance(step, KeepState | BindUio | Unmanage):
            continue
        if step.port in on_uio:  # its netdev is not there
            stuck.add(step.port)
            if step.undoes:
                result.left(step.port, _not_attempted(step))
            continue
        of_pair = step.port in above
        if step.port in stuck and not of_pair:
            if step.undoes:
                result.left(step.port, _not_attempted(step))
        elif not _undo_step(step, work, result):
            if step.makes_usable and (not of_pair or isinstance(step, SetSynthetic)):
                stuck.add(step.port)
            if isinstance(step, SetAdmin):
                slow.add(step.port)
    back = _give_back(steps, stuck, work, result)
    for step in (one for one in kept if one.port in stuck):
        result.left(step.port, _not_attempted(step))
    kept = [step for step in kept if step.port not in stuck]
    kept = [_without_removed(step, removed or {}, work, result) for step in kept]
    kept = [_with_lease(step, work, result) if step.port in back else step for step in kept]
    _restore(kept, prepared, work, result)
    _look_above(kept, steps, work, result)
    for step in steps:
        if isinstance(step, SetAdmin) and step.vmbus and step.was and step.port not in stuck | slow:
            _prove_path(step, work, result)
    return result


def _prepared(kept: Iterable[KeepState]) -> list[Prepared]:
    """What can be done for the restoring while the ports are down: no address waits for it then. A
    snapshot that makes no sense is told of when it is restored."""
    found = []
    for step in kept:
        with contextlib.suppress(Exception):
            found.append(Prepared(step.state))
    return found


def _from_uio(steps: Sequence[Step], work: Workplace, result: UndoResult) -> set[PortId]:
    """Give VMBus devices back first: their netdevs are re-created. The ports where that failed."""
    return {
        step.port
        for step in steps
        if isinstance(step, BindUio) and not _undo_step(step, work, result)
    }


def _give_back(
    steps: Sequence[Step], stuck: Collection[PortId], work: Workplace, result: UndoResult
) -> set[PortId]:
    """Have managers take back what is up again: what they own is theirs to configure, and what
    they delete then comes back from the snapshot. A port that is not up stays unmanaged. The ports
    that managers have got back."""
    back: set[PortId] = set()
    for step in steps:
        if isinstance(step, Unmanage) and step.port in stuck:
            result.left(step.port, _not_attempted(step))
        elif isinstance(step, Unmanage) and _undo_step(step, work, result):
            back.add(step.port)
    return back


def _with_lease(step: KeepState, work: Workplace, result: UndoResult) -> KeepState:
    """Without the addresses that a manager has got others for: these count."""
    state = step.state
    try:
        gone = leases.replaced(state, work.system.capture(step.port, alone=state.alone))
    except Exception:  # noqa: BLE001 - the restore says so
        return step
    if not gone:
        return step
    lost = tuple(
        Lost(Cause.MANAGER, residue_words.other_lease(snapshot.describe(fact, state.names)))
        for fact in gone
        if fact.kind is Kind.ADDRESS
    )
    _undone(step, Undone(Restored(lost=lost)), work, result)
    left = tuple(fact for fact in state.facts if fact not in gone)
    return KeepState(replace(state, facts=left))


def _without_removed(
    step: KeepState, removed: taken_away.Places, work: Workplace, result: UndoResult
) -> KeepState:
    """Without the addresses that somebody has removed meanwhile. Where a manager has not come to an
    end, what it has to make itself is missing too: then all of it comes from the snapshot."""
    parts = result.undone.get(step.port, ())
    late = any("manager" in part.facts and part.facts["manager_ms"] is None for part in parts)
    if step.port not in removed or late:
        return step
    try:
        step, lost = taken_away.without(step, removed[step.port], work.system)
    except Exception:  # noqa: BLE001 - what cannot be compared comes back
        return step
    if lost:
        _undone(step, Undone(Restored(lost=lost)), work, result)
    return step


def _prove_path(step: SetAdmin, work: Workplace, result: UndoResult) -> None:
    """See that a pair is not left on its slow path without a word."""
    try:
        with work.at(progress_words.see_path(step.name)):
            found = planning.prove_path(step, work.system)
    except StepFailed as failure:
        result.left(step.port, failure.message)
        if failure.hint is not None:
            result.remedies.append(failure.hint)
    except Exception as failure:  # noqa: BLE001 - what was restored stays so
        result.left(
            step.port, residue_words.failed(residue_words.data_path_of(step.name), _why(failure))
        )
    else:
        _undone(step, Undone(facts=found), work, result)


def _look_above(
    kept: Iterable[KeepState], steps: Iterable[Step], work: Workplace, result: UndoResult
) -> None:
    """See whether synthetic netdevs that were to stay up are the same: no snapshot has what is on
    them, and they may have been destroyed meanwhile."""
    uuids = {step.port: step.vmbus for step in steps if isinstance(step, SetAdmin) and step.vmbus}
    for step in kept:
        there = {plan.ifindex for plan in step.state.blueprints}
        if not (step.state.alone and there and step.port in uuids):
            continue
        found = work.system.synthetic(uuids[step.port])
        if isinstance(found, Unread):
            continue
        lost, facts = [], {}
        if not (found and found.ifindex in there):
            text = residue_words.destroyed_above(uuids[step.port], found and found.name)
            lost.append(Lost(Cause.NOT_KEPT, text))
        if found and not found.up and any(plan.is_synthetic_up for plan in step.state.blueprints):
            lost.append(Lost(Cause.NOT_KEPT, residue_words.lowered_above(found.name)))
            facts["lowered"] = found.name
        if lost:
            _undone(step, Undone(Restored(lost=tuple(lost)), facts=facts), work, result)


def _set_up_recreated(steps: Sequence[Step], work: Workplace, result: UndoResult) -> None:
    """Netdevs that were re-created get the settings of the old ones first, while they are down."""
    lowered = {step.port for step in steps if isinstance(step, SetAdmin)}
    kept = [step for step in steps if isinstance(step, KeepState) and step.port in lowered]
    with contextlib.suppress(Exception):  # set_up() says what is left of it
        recreate.untangle([step.state for step in kept], work.system)
    for step in kept:
        try:
            planning.require_netdev(work.system, step.port)  # it may just be plugged in again
            if not recreate.is_needed(step.state, work.system):
                continue
            with work.at(progress_words.set_up_recreated(step.state.main)):
                restored = recreate.set_up(step.state, work.system)
        except StepFailed:
            continue  # the next step says so
        except Exception as failure:  # noqa: BLE001 - what hangs on it comes back all the same
            result.left(
                step.port,
                residue_words.failed(residue_words.settings_of(step.state.main), _why(failure)),
            )
        else:
            _undone(step, Undone(restored), work, result)


def _undo_step(step: Step, work: Workplace, result: UndoResult) -> bool:
    """Undo one step, adding what came of it to `result`; whether it could be done."""
    try:
        work.record(result, Event.UNDOING, kind=step.kind, port=str(step.port))
        if isinstance(step, SetAdmin | SetSynthetic) and step.addresses:
            _announce(step.port, work, result)
        with work.at(step.undo_title) if step.undoes else contextlib.nullcontext():
            undone = step.undo(work.system)
    except StepFailed as failure:
        result.left(step.port, failure.message)
        if failure.taken:
            result.taken.append(step.port)
        if failure.hint is not None:
            result.remedies.append(failure.hint)
        return False
    except Exception as failure:  # noqa: BLE001 - the other ports come back all the same
        result.left(step.port, _undo_failed(step, failure))
        return False
    _undone(step, undone, work, result)
    return True


def _not_attempted(step: Step) -> str:
    return step_words.not_attempted(step.undo_title)


def _undo_failed(step: Step, error: Exception) -> str:
    return residue_words.failed(step.undo_title if step.undoes else step.title, _why(error))


def _undone(step: Step, undone: Undone, work: Workplace, result: UndoResult) -> None:
    result.undone.setdefault(step.port, []).append(undone)
    result.left(step.port, *undone.residue)
    lost = [loss.text for loss in undone.restored.lost]
    more = {**undone.facts, **({"lost": lost} if lost else {})}
    work.record(result, Event.UNDONE, kind=step.kind, port=str(step.port), **more)


def _restore(
    kept: Sequence[KeepState],
    prepared: Iterable[Prepared],
    work: Workplace,
    result: UndoResult,
) -> None:
    """Restore what was on the ports whose netdevs are here."""
    here = []
    for step in kept:
        try:
            planning.require_netdev(work.system, step.port)
        except StepFailed as failure:
            result.left(step.port, failure.message)
        except Exception as failure:  # noqa: BLE001
            result.left(step.port, _undo_failed(step, failure))
        else:
            _announce(step.port, work, result)
            here.append(step)
    if not here:
        return
    title = step_words.restore(*(step.state.main for step in here))
    try:
        with work.at(title):
            back = planning.restore_all(here, work.system, prepared)
            undone = [
                _finished(step, one, work.system) for step, one in zip(here, back, strict=True)
            ]
    except Exception as failure:  # noqa: BLE001
        for step in here:
            result.left(step.port, _undo_failed(step, failure))
        return
    for step, found in zip(here, undone, strict=True):
        _undone(step, found, work, result)


def _announce(port: PortId, work: Workplace, result: UndoResult) -> None:
    """Note that what was on the port is about to be restored; once, before the first of it."""
    if port not in result.announced:
        result.announced.add(port)
        work.record(result, Event.UNDOING, kind=KeepState.KIND, port=str(port))


def _finished(step: KeepState, undone: Undone, system: System) -> Undone:
    """With what comes last on a netdev that was re-created; where that fails, all else stays told."""
    restored = undone.restored
    try:
        lost = (*restored.lost, *recreate.finish(step.state, system))
    except Exception as failure:  # noqa: BLE001 - the other ports are restored all the same
        left = residue_words.failed(residue_words.last_settings_of(step.state.main), _why(failure))
        return replace(undone, restored=replace(restored, residue=(*restored.residue, left)))
    return replace(undone, restored=replace(restored, lost=lost))


def release(
    steps: Sequence[Step],
    work: Workplace,
    ports: Sequence[PortId],
    *,
    closes: Ending | None,
    by: Mapping[str, object],
    why: Reason | None = None,
    removed: taken_away.Places | None = None,
) -> UndoResult:
    """Undo the steps of these ports. `closes`: how the journal is closed, when they are its last;
    `by`: who asked for it, `why` where nobody did; `removed`: what of their addresses is left out.

    Signals are ignored from here on: stopping half-way helps nobody. Refused when not even the
    first record can be written: nothing has been touched then.
    """
    work.signals.ignore()
    try:
        released = [snapshot.port_to_json(port) for port in ports]
        more: dict[str, object] = {"why": why} if why else {}
        if removed:
            more["taken_away"] = taken_away.to_json(removed)
        work.log.append(Event.RELEASING, ports=released, by=by, **more)
    except OSError as error:
        raise state_dir.unusable(work.log.path, error) from error
    result = undo([step for step in reversed(steps) if step.port in ports], work, removed)
    if result.clean:
        for port in ports:
            work.record(result, Event.RELEASED, pci=port.pci, port=port.port)
    elif result.residue:
        work.record(result, Event.RESIDUE, lines=result.residue)
    if result.clean and closes is not None:
        result.log_failed = close(work.log, closes)
    return result


def close(log: Log, how: Ending, *, already: bool = False) -> str | None:
    """Close the journal, unless its last record says so `already`, and move it to the history;
    the reason when it could not be closed."""
    try:
        if not already:
            log.append(Event.CLOSED, how=how)
        log.archive()
    except OSError as error:
        return strerror(error)
    return None


def put_away(path: Path) -> str | None:
    """Move a journal to the history as it is; the reason when it could not be moved."""
    try:
        journal.archive(path)
    except OSError as error:
        return strerror(error)
    return None


def not_restored(
    story: str,
    result: UndoResult,
    ports: Sequence[str],
    evidence: Sequence[Evidence] = (),
    back: Sequence[str] = (),
) -> NotRestored:
    """The message that matters most: what is not as it was, line by line. `ports` by name; `back`
    are those of them that have everything again."""
    lines = [story, *outcome_words.not_restored(result.residue, back, result.log_failed)]
    # Of a record that could not be taken back it may look like a claim that stands.
    closing = command("manactl", "release", names=ports) if result.log_failed else None
    again = outcome_words.again(closing or outcome_words.RECOVER_COMMAND)
    if result.residue:
        again += f"; {acceptance(ports)}"
    return NotRestored(
        "\n".join(lines),
        hint="\n".join([*dict.fromkeys(result.remedies), again]),
        evidence=[*evidence, *(Evidence("rtnetlink", "residue", line) for line in result.residue)],
        code="residue",
    )


def name_of(system: System, port: PortId) -> str:
    """What to call a port on the command line: by its netdev where that is here, and can be looked
    up."""
    try:
        now = system.netdev(port)
    except OSError:
        return str(port)
    return now.name if isinstance(now, NetdevNow) else str(port)


def holder_evidence(holders: Sequence[Holder]) -> tuple[Evidence, ...]:
    return tuple(
        Evidence("proc", "holder", {"pid": holder.pid, "comm": holder.comm, "unit": holder.unit})
        for holder in holders
    )
