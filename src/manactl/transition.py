"""Plans applied and put back: every act is in the journal before it happens.

What was done is undone newest first, the half-done step included. Undoing is the same whether a
step has failed, a signal came, the operator releases, or a claim died and another process
recovers: only the story told afterwards differs.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

from manactl import plan as planning
from manactl import snapshot
from manactl.errors import Busy, Interrupted, ManactlError, NotRestored, RolledBack
from manactl.model import Evidence, Holder, PortId
from manactl.plan import ProveFree, Step, StepFailed, System, Undone

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Log(Protocol):
    """The journal as a transition writes it (manactl.journal.Journal)."""

    def append(self, event: str, **more: object) -> None: ...
    def archive(self) -> None: ...


class StopRequested(BaseException):
    """A signal asked to stop. Not an Exception: nothing may take it for a failed step."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.name = signal.Signals(number).name


class Interruptible:
    """Turns the first SIGINT, SIGTERM or SIGHUP into StopRequested; later ones change nothing.

    Meant to be held until the outcome has been told: a signal that comes after the last act must
    not turn a claim that stands into a story of nothing changed.
    """

    def __init__(self) -> None:
        self._armed = True
        self._before: dict[int, Any] = {}

    def ignore(self) -> None:
        """From now on signals are ignored: unwinding must not be interrupted."""
        self._armed = False

    def __enter__(self) -> Interruptible:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, a background job
                self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """A signal before the first act ends in Interrupted, whose code is 130."""
        try:
            yield
        except StopRequested as stop:
            raise Interrupted(f"interrupted by {stop.name}; nothing was changed") from stop

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self._armed:
            self._armed = False
            raise StopRequested(number)


@dataclass(slots=True)
class PutBack:
    """What came of undoing steps: per port what was restored, and what could not be."""

    undone: dict[PortId, list[Undone]] = field(default_factory=dict)
    residue: list[str] = field(default_factory=list)
    taken: list[PortId] = field(default_factory=list)
    log_failed: str | None = None

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
    try:
        log = open_log()
        for number, step in enumerate(steps):
            log.append("doing", step=number, kind=step.kind)
            started.append(step)
            facts = step.do(system, wait)
            log.append("done", step=number, kind=step.kind, **facts)
            said.setdefault(step.port, {}).update({step.kind: facts})
        log.append("claimed", ports=[_claimed(port, facts) for port, facts in said.items()])
        signals.ignore()
    except BaseException as error:
        signals.ignore()
        if log is None:
            raise
        raise _unwound(error, started, system, log, who) from error
    return log, said


def _claimed(port: PortId, said: Mapping[str, object]) -> dict[str, object]:
    proof = said.get("prove-free")
    proven = isinstance(proof, Mapping) and proof.get("proven") is True
    return {"pci": port.pci, "port": port.port, "proven": proven}


def _unwound(
    error: BaseException, started: Sequence[Step], system: System, log: Log, who: str
) -> BaseException:
    """Undo what was started, and the exception that tells both stories."""
    with contextlib.suppress(OSError):  # a full disk may be why we are here
        log.append("unwinding", why=_why(error))
    back = put_back(list(reversed(started)), system, log)
    if back.clean:
        back.log_failed = close(log, "unwound")
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
            hint="the journal stays open: end the holder, then `manactl release`",
            evidence=evidence,
            code="holder",
        )
    if not back.clean:
        return not_restored(story, back, evidence)
    kind = Busy if holders else RolledBack
    return kind(
        f"{story}\nEverything is back as it was.",
        hint=getattr(error, "hint", None),
        evidence=evidence,
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


def put_back(steps: Sequence[Step], system: System, log: Log) -> PutBack:
    """Undo steps in the given order (newest first), never stopping at a failure.

    Once a port's netdev could not be set up, what belongs on it is not tried: most of it would
    be refused, and the rest would hide that. A record that cannot be written stops nothing.
    """
    back = PutBack()
    stuck: dict[PortId, str] = {}
    for step in steps:
        if step.port in stuck:
            if not isinstance(step, ProveFree):
                back.residue.append(f'not tried: undo "{step.describe()}"')
            continue
        try:
            _record(log, back, "undoing", kind=step.kind, port=str(step.port))
            undone = step.undo(system)
            back.undone.setdefault(step.port, []).append(undone)
            back.residue += undone.residue
            _record(log, back, "undone", kind=step.kind, port=str(step.port), **undone.facts)
        except StepFailed as failure:
            stuck[step.port] = failure.message
            back.residue.append(failure.message)
            if failure.taken:
                back.taken.append(step.port)
        except OSError as failure:
            stuck[step.port] = str(failure)
            back.residue.append(f'undo "{step.describe()}": {failure.strerror or failure}')
    return back


def _record(log: Log, back: PutBack, event: str, **more: object) -> None:
    try:
        log.append(event, **more)
    except OSError as error:
        back.log_failed = error.strerror or str(error)


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
        hint="the journal stays open: mend the cause, then `manactl release` tries again",
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
        proof, _ = planning.attempt_proof(system, port, left, stop_when_up=True)
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


def still_held(system: System, port: PortId, name: str, evidence: Sequence[Evidence] = ()) -> Busy:
    """A live raw QP keeps the port: who, and what to do."""
    holders = system.holders(port)
    return Busy(
        f"{name} cannot be released: a raw QP still has its vport{named(holders)}; "
        "nothing was changed",
        hint="end the holder and release again, or wait for it: manactl release --wait SECONDS",
        evidence=[*evidence, *holder_evidence(holders)],
        code="holder",
    )


def release(
    steps: Sequence[Step], system: System, log: Log, ports: Sequence[PortId], *, last: bool
) -> PutBack:
    """Undo the steps of these ports. The journal is closed when they were the claim's `last`.

    The caller ignores signals from here on: stopping half-way helps nobody.
    """
    log.append("releasing", ports=[snapshot.port_to_json(port) for port in ports])
    mine = [step for step in reversed(steps) if step.port in ports]
    back = put_back(mine, system, log)
    if back.clean:
        try:
            for port in ports:
                log.append("released", pci=port.pci, port=port.port)
        except OSError as error:
            back.log_failed = error.strerror or str(error)
    if back.clean and last:
        back.log_failed = close(log, "released")
    return back
