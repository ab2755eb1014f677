"""Plans applied and put back: every act is in the journal before it happens.

What was done is undone newest first, the half-done step included. Undoing is the same whether a
step has failed, a signal came, the operator releases, or a claim died and another process
recovers: only the story told afterwards differs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from manactl.act import plan as planning
from manactl.act import proof as proving
from manactl.act.plan import KeepState, ProveFree, Step, StepFailed, System, Undone
from manactl.act.signals import Interruptible, StopRequested
from manactl.decide import kernel_bugs
from manactl.errors import Busy, ManactlError, NotRestored, Refused, RolledBack
from manactl.journal import file as journal
from manactl.journal import state_dir
from manactl.model.port import Evidence, Holder, PortId
from manactl.netstate import snapshot


class Log(Protocol):
    """The journal as a transition writes it (manactl.journal.Journal)."""

    @property
    def path(self) -> Path: ...
    def append(self, event: str, **more: object) -> None: ...
    def archive(self) -> None: ...
    def discard(self, error: OSError | None) -> ManactlError | None: ...


@dataclass(slots=True)
class PutBack:
    """What came of undoing steps: per port what was restored, and what could not be."""

    undone: dict[PortId, list[Undone]] = field(default_factory=dict)
    residue: list[str] = field(default_factory=list)
    taken: list[PortId] = field(default_factory=list)
    log_failed: str | None = None
    remedies: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.residue and not self.taken and self.log_failed is None


def apply(
    steps: Sequence[Step],
    system: System,
    open_log: Callable[[], Log],
    *,
    signals: Interruptible,
    wait: float,
    who: str,
) -> tuple[Log, dict[PortId, dict[str, object]]]:
    """Do every step; the log, and what each step said by port.

    RolledBack when a step failed or a signal came and all is as before; Busy when a raw QP turned
    up; NotRestored, with the journal open, when something could not be put back. `who` names the
    ports in messages. Signals are ignored afterwards.
    """
    said: dict[PortId, dict[str, object]] = {}
    started: list[Step] = []
    log: Log | None = None
    signals.acting()
    try:
        log = open_log()
        for number, step in enumerate(steps):
            log.append("doing", step=number, kind=step.kind)
            signals.boundary()
            started.append(step)
            with signals.step(_brief(step)):
                facts = step.do(system, wait)
            log.append("done", step=number, kind=step.kind, **facts)
            said.setdefault(step.port, {}).update({step.kind: facts})
        _still_holds(steps, system)
        signals.boundary()
        log.append("claimed", ports=[_claimed(port, facts) for port, facts in said.items()])
        signals.ignore()
    except BaseException as error:
        signals.ignore()
        if log is None:
            raise
        if not started:  # the journal announces nothing
            refused = log.discard(error if isinstance(error, OSError) else None)
            if refused is None:
                raise
            raise refused from error
        back = _unwind(error, started, system, log, signals)
        raise _unwound(error, started, system, back, who) from error
    return log, said


def _still_holds(steps: Sequence[Step], system: System) -> None:
    """What one step has done may have been undone by somebody while another was done."""
    for step in steps:
        if not step.holds(system):
            raise StepFailed(
                f"this did not last: {_brief(step)}",
                hint="find the network manager or script that undoes it, and stop it first",
            )


def _brief(step: Step) -> str:
    """A step's first words: what it does, without the way back and the reasons."""
    return step.describe().partition(";")[0].partition(" (")[0]


def _claimed(port: PortId, said: Mapping[str, object]) -> dict[str, object]:
    proof = said.get("prove-free")
    proven = isinstance(proof, Mapping) and proof.get("proven") is True
    return {"pci": port.pci, "port": port.port, "proven": proven}


def _unwind(
    error: BaseException,
    started: Sequence[Step],
    system: System,
    log: Log,
    signals: Interruptible,
) -> PutBack:
    """Undo what was started, and close the journal when that brought all back."""
    with contextlib.suppress(Exception):  # a full disk may be why we are here
        log.append("unwinding", why=_why(error))
    back = put_back(started[::-1], system, log, signals)
    if back.clean:
        back.log_failed = close(log, "unwound")
    elif back.residue:
        _record(log, back, "residue", lines=back.residue)
    return back


def _unwound(
    error: BaseException, started: Sequence[Step], system: System, back: PutBack, who: str
) -> BaseException:
    """The exception that tells both stories: what failed, and what came of undoing."""
    story = f"claiming {who} failed: {_why(error)}"
    evidence = tuple(getattr(error, "evidence", ()))
    holders: list[Holder] = []
    if back.taken or getattr(error, "taken", False):
        ports = back.taken or [step.port for step in started[-1:]]
        holders = [holder for port in ports for holder in system.holders(port)]
        evidence += holder_evidence(holders)
        story += named(holders)
    if back.taken:
        return Busy(
            "\n".join([story, "Not put back while that lives:", *_indented(back.residue)]),
            hint="the journal stays open: end the holder, then `manactl recover`",
            evidence=evidence,
            code="holder",
        )
    if not back.clean:
        return not_restored(story, back, evidence)
    code = "kernel-bug" if getattr(error, "code", None) == "kernel-bug" else None
    if code and all(isinstance(step, ProveFree) for step in started):
        return Refused(
            f"refused to claim {who}; nothing was touched\n  {code}: {_why(error)}.",
            hint=getattr(error, "hint", None),
            evidence=evidence,
            code=code,
        )
    kind = Busy if holders else RolledBack
    return kind(
        f"{story}\nEverything is back as it was.",
        hint=getattr(error, "hint", None),
        evidence=evidence,
        code=code,
    )


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _why(error: BaseException) -> str:
    if isinstance(error, StopRequested):
        return f"interrupted by {error.name}"
    if isinstance(error, ManactlError):
        return error.message
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"{type(error).__name__}: {error}"


def put_back(
    steps: Sequence[Step], system: System, log: Log, signals: Interruptible | None = None
) -> PutBack:
    """Undo steps in the given order (newest first), never stopping at a failure.

    Once a port's netdev could not be set up, what belongs on it is not tried: most of it would
    be refused, and the rest would hide that. What belongs on the ports comes last, and together.
    A record that cannot be written stops nothing.
    """
    signals = signals or Interruptible()
    back = PutBack()
    stuck: dict[PortId, str] = {}
    kept = [step for step in steps if isinstance(step, KeepState)]
    for step in (one for one in steps if one not in kept):
        if step.port in stuck:
            if not isinstance(step, ProveFree):
                back.residue.append(f'not tried: undo "{step.describe()}"')
            continue
        try:
            _record(log, back, "undoing", kind=step.kind, port=str(step.port))
            with signals.step(f'undo "{_brief(step)}"'):
                undone = step.undo(system)
            back.undone.setdefault(step.port, []).append(undone)
            back.residue += undone.residue
            _record(log, back, "undone", kind=step.kind, port=str(step.port), **undone.facts)
        except StepFailed as failure:
            stuck[step.port] = failure.message
            back.residue.append(failure.message)
            if failure.taken:
                back.taken.append(step.port)
            if failure.hint is not None:
                back.remedies.append(failure.hint)
        except Exception as failure:  # noqa: BLE001 - the other ports come back all the same
            stuck[step.port] = str(failure)
            back.residue.append(f'undo "{step.describe()}": {_why(failure)}')
    back.residue += [f'not tried: undo "{one.describe()}"' for one in kept if one.port in stuck]
    _restore([one for one in kept if one.port not in stuck], system, log, back)
    return back


def _restore(kept: Sequence[KeepState], system: System, log: Log, back: PutBack) -> None:
    here = []
    for step in kept:
        try:
            planning.require_netdev(system, step.port)
        except StepFailed as failure:
            back.residue.append(failure.message)
        except Exception as failure:  # noqa: BLE001
            back.residue.append(f'undo "{step.describe()}": {_why(failure)}')
        else:
            _record(log, back, "undoing", kind=step.kind, port=str(step.port))
            here.append(step)
    try:
        undone = planning.restore_all(here, system)
    except Exception as failure:  # noqa: BLE001
        back.residue += [f'undo "{one.describe()}": {_why(failure)}' for one in here]
        return
    for step, one in zip(here, undone, strict=True):
        back.undone.setdefault(step.port, []).append(one)
        back.residue += one.residue
        _record(log, back, "undone", kind=step.kind, port=str(step.port), **one.facts)


def _record(log: Log, back: PutBack, event: str, **more: object) -> None:
    try:
        log.append(event, **more)
    except Exception as error:  # noqa: BLE001 - a record that cannot be written stops nothing
        back.log_failed = _why(error)


def close(log: Log, how: str, *, already: bool = False) -> str | None:
    """Close the journal, unless its last record says so `already`, and move it to the history;
    the reason when it could not be closed."""
    try:
        if not already:
            log.append("closed", how=how)
        log.archive()
    except OSError as error:
        return error.strerror or str(error)
    return None


def put_away(path: Path) -> str | None:
    """Move a journal to the history as it is; the reason when it could not be moved."""
    try:
        journal.archive(path)
    except OSError as error:
        return error.strerror or str(error)
    return None


def not_restored(story: str, back: PutBack, evidence: Sequence[Evidence] = ()) -> NotRestored:
    """The message that matters most: what is not as it was, line by line."""
    lines = [story]
    if back.residue:
        lines.append("Not put back:")
        lines += [f"  {line}" for line in back.residue]
    if back.log_failed:
        lines.append(f"The journal could not be written: {back.log_failed}.")
    if not back.residue:
        lines.append("The port itself is back as it was.")
    return NotRestored(
        "\n".join(lines),
        hint="\n".join(
            [
                *dict.fromkeys(back.remedies),
                "the journal stays open: mend the cause, then `manactl recover` tries again",
            ]
        ),
        evidence=[*evidence, *(Evidence("rtnetlink", "residue", line) for line in back.residue)],
        code="residue",
    )


def holder_evidence(holders: Sequence[Holder]) -> tuple[Evidence, ...]:
    return tuple(
        Evidence("proc", "holder", {"pid": one.pid, "comm": one.comm, "unit": one.unit})
        for one in holders
    )


def named(holders: Sequence[Holder]) -> str:
    """ " (pid 4211 dpdk-testpmd, ...)", or nothing when none is known."""
    words = [f"pid {one.pid} {one.comm or '?'}" for one in holders]
    return f" ({', '.join(words)})" if words else ""


# --- release --------------------------------------------------------------------------------


def await_free(
    system: System, ports: Sequence[PortId], wait: float, *, known: Callable[[PortId], bool]
) -> dict[PortId, bool]:
    """Wait until no raw QP has any of the ports; per port whether a queue pair proved it.

    Busy, naming the holders, when one still has it after `wait` seconds. Where nothing can be
    proven (no CAP_NET_RAW, no RDMA device) `known` says whether other evidence does; failing
    that the kernel decides, which refuses to open a netdev whose vport is taken.
    """
    proven = {}
    deadline = system.monotonic() + wait
    for port in ports:
        now = _netdev(system, port)
        if now.up:
            proven[port] = False  # the netdev has the vport already
            continue
        left = max(0.0, deadline - system.monotonic())
        proof, _ = proving.attempt_proof(system, port, left, stop_when_up=True)
        now = _netdev(system, port)
        if proof.outcome == "taken" and not now.up:
            raise still_held(system, port, now.name, proof.evidence)
        proven[port] = proof.outcome == "free" or known(port)
    return proven


def _netdev(system: System, port: PortId) -> planning.NetdevNow:
    now = system.netdev(port)
    if now is None:
        raise NotRestored(
            f"port {port} has no netdev here; nothing was changed",
            hint="it is unplugged, or in another network namespace; the journal stays open: "
            "`manactl release` when the netdev is back here",
            code="no-netdev",
        )
    return now


def still_held(
    system: System, port: PortId, name: str, evidence: Sequence[Evidence] = ()
) -> Busy | NotRestored:
    """A live raw QP keeps the port: who, and what to do. Or nobody does, but for a kernel bug."""
    if kernel_bugs.vport_leaked(system, port):
        return NotRestored(
            f"{name} cannot be released: {kernel_bugs.LEAKED_VPORT}; nothing was changed",
            hint=f"{kernel_bugs.reload_driver(port)} && manactl release",
            evidence=evidence,
            code="kernel-bug",
        )
    holders = system.holders(port)
    hint = "end the holder and release again, or wait for it: manactl release --wait SECONDS"
    if not holders:
        hint = f"its holder is not visible from here, it may be in another pid namespace; {hint}"
    return Busy(
        f"{name} cannot be released: a raw QP still has its vport{named(holders)}; "
        "nothing was changed",
        hint=hint,
        evidence=[*evidence, *holder_evidence(holders)],
        code="holder",
    )


def release(
    steps: Sequence[Step],
    system: System,
    log: Log,
    ports: Sequence[PortId],
    *,
    last: bool,
    signals: Interruptible | None = None,
) -> PutBack:
    """Undo the steps of these ports. The journal is closed when they were the claim's `last`.

    The caller ignores signals from here on: stopping half-way helps nobody. Refused when not
    even the first record can be written: nothing has been touched then.
    """
    try:
        log.append("releasing", ports=[snapshot.port_to_json(port) for port in ports])
    except OSError as error:
        raise state_dir.unusable(log.path, error) from error
    mine = [step for step in reversed(steps) if step.port in ports]
    back = put_back(mine, system, log, signals)
    if back.clean:
        for port in ports:
            _record(log, back, "released", pci=port.pci, port=port.port)
    elif back.residue:
        _record(log, back, "residue", lines=back.residue)
    if back.clean and last:
        back.log_failed = close(log, "released")
    return back
