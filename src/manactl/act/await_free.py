"""Getting a port back from its holders: waiting for them, or asking them to end."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence

from manactl.act import outcome_words, plan_words, progress_words
from manactl.act import proof as proving
from manactl.act import terminate as ending
from manactl.act.host import Host
from manactl.act.outcome_words import acceptance, named
from manactl.act.plan import Step, System
from manactl.act.progress import Progress
from manactl.act.transition import holder_evidence
from manactl.act.uio import BindUio
from manactl.decide import kernel_bugs
from manactl.errors import Busy, NotRestored
from manactl.look.netdevs_of import NetdevNow, Unread
from manactl.model.port import Evidence, Holder, Owner, PortId, Report
from manactl.poll import until
from manactl.wire.uverbs import ProofOutcome

PATIENCE = 2.0  # s: a killed DPDK program needs up to 1.6 s to give its vport back
_AGAIN_FROM, _AGAIN_TO = 0.1, 5.0  # s between looks who holds a port


def await_free(
    system: System,
    ports: Sequence[PortId],
    progress: Progress,
    *,
    wait: float | None,
) -> None:
    """Wait until no raw QP has any of the ports; Busy, naming the holders, when one still has."""
    if wait is None:
        require_free(system, ports, PATIENCE)
        return
    start = system.monotonic()
    try:
        require_free(system, ports, 0.0)
    except Busy:
        holders = [holder for port in ports for holder in system.holders(port)]
        with progress.waiting(progress_words.await_holders(ending.named(holders)), wait):
            require_free(system, ports, wait - (system.monotonic() - start))


def terminate(
    host: Host,
    system: System,
    ports: Sequence[PortId],
    sent: list[Holder],
    progress: Progress,
    *,
    wait: float | None,
) -> None:
    """Send SIGTERM to the holders of the ports, and wait until no raw QP has any of them.

    Busy, naming who is left, when one still has. `sent` gets those that were signalled.
    """
    patience = ending.WAIT if wait is None else wait
    start = system.monotonic()
    try:
        require_free(system, ports, 0.0)
        return
    except Busy:
        pass
    try:
        ending.terminate(
            ending.holders_to_end(host.look(), ports),
            lambda: _judged_again(host, ports),
            sent,
            patience,
            progress.noted,
            processes=host.processes,
        )
        require_free(system, ports, max(PATIENCE, patience - (system.monotonic() - start)))
    except Busy as busy:
        raise ending.not_ended(busy, sent, system.monotonic() - start) from busy


def await_holders(host: Host, ports: Collection[PortId], wake: Collection[int] = ()) -> None:
    """Return when raw QPs are known to have none of the ports any more, or when one of the
    descriptors `wake` can be read.

    The end of a process is an event (pidfd). That a queue pair is destroyed is none, nor that a
    descriptor is closed, so it is looked again all the while, less and less often.
    """
    keys = {port.key for port in ports}
    pause = _AGAIN_FROM
    while True:
        held = [
            row for row in host.look().ports if row.id.key in keys and row.owner is Owner.RAW_QP
        ]
        if not held:
            return
        with contextlib.ExitStack() as stack:
            fds = set(wake)
            for pid in {holder.pid for row in held for holder in row.holders}:
                with contextlib.suppress(OSError):  # it has just ended, or there is no pidfd
                    fd = host.processes.open(pid)
                    stack.callback(host.processes.close, fd)
                    fds.add(fd)
            if host.processes.first(fds, pause) & set(wake):
                return
        pause = min(2 * pause, _AGAIN_TO)


def require_free(system: System, ports: Sequence[PortId], wait: float) -> None:
    """Busy, naming the holders, when a raw QP still has one of the ports after `wait` seconds.

    Where nothing can be proven (no CAP_NET_RAW, no RDMA device) the kernel decides, which refuses
    to open a netdev whose vport is taken.
    """
    deadline = system.monotonic() + wait
    for port in ports:
        if _netdev(system, port).up:
            continue  # the netdev has the vport already
        left = max(0.0, deadline - system.monotonic())
        proof, _ = proving.attempt_proof(system, port, left)
        now = _netdev(system, port)
        if proof.outcome is ProofOutcome.TAKEN and not now.up:
            raise _still_held(system, port, now.name, proof.evidence)


def require_closed(system: System, steps: Sequence[Step], wait: float) -> None:
    """Busy, naming the holders, when a program has the uio device of a pair open after `wait`
    seconds."""
    on_uio = [step for step in steps if isinstance(step, BindUio)]

    def holders() -> list[Holder]:
        return [holder for step in on_uio for holder in system.uio_holders(step.vmbus)]

    if until(system, lambda: not any(_is_open(step, system) for step in on_uio), wait):
        return
    left = holders()
    names = [step.name for step in on_uio]
    raise Busy(
        f"{', '.join(names)} cannot be released: its uio device is still open{named(left)}",
        untouched="nothing was changed",
        hint=outcome_words.end_or_wait(names, left),
        evidence=holder_evidence(left),
        code="holder",
    )


def _is_open(step: BindUio, system: System) -> bool:
    return bool(system.uio_holders(step.vmbus)) or system.uio_open(step.vmbus)


def _netdev(system: System, port: PortId) -> NetdevNow:
    now = system.netdev(port)
    if isinstance(now, Unread):
        raise NotRestored(
            f"whether the netdev of port {port} is up could not be read: {now.why}",
            untouched="nothing was changed",
            hint="fix the cause (open files, memory), then release again; the journal stays open",
        )
    if now is None:
        raise NotRestored(
            f"port {port} has no netdev here",
            untouched="nothing was changed",
            hint="it is unplugged, or in another network namespace; the journal stays open: "
            f"`manactl release` when the netdev is back here; {acceptance([str(port)])}",
            code="no-netdev",
        )
    return now


def _still_held(
    system: System, port: PortId, name: str, evidence: Sequence[Evidence]
) -> Busy | NotRestored:
    """A raw QP has the port: its holders, and what to do. Or a kernel bug: it has no owner."""
    if kernel_bugs.vport_leaked(system, port):
        return NotRestored(
            f"{name} cannot be released: {kernel_bugs.LEAKED_VPORT}",
            untouched="nothing was changed",
            hint=f"{kernel_bugs.reload_driver(port)} && manactl release",
            evidence=evidence,
            code="kernel-bug",
        )
    holders = system.holders(port)
    return Busy(
        f"{name} cannot be released: a raw QP still has its vport{named(holders)}",
        untouched="nothing was changed",
        hint=outcome_words.end_or_wait([name], holders),
        evidence=[*evidence, *holder_evidence(holders)],
        code="holder",
    )


def _judged_again(host: Host, ports: Sequence[PortId]) -> tuple[Holder, ...]:
    """Who is to be signalled by another look: who has a raw QP may have changed since the first."""
    report = host.look()
    return ending.holders_to_end(report, ports) if _held(report, ports) else ()


def _held(report: Report, ports: Sequence[PortId]) -> bool:
    keys = {port.key for port in ports}
    return any(
        row.id.key in keys and (row.owner is Owner.RAW_QP or row.candidates) for row in report.ports
    )


def would_end(host: Host, ports: Sequence[PortId]) -> list[str]:
    """For a dry run: the processes that would get SIGTERM, or why none would."""
    report = host.look()
    if not _held(report, ports):
        return []
    try:
        return [plan_words.would_end(ending.named(ending.holders_to_end(report, ports)))]
    except Busy as busy:
        return [busy.message]


def would_wait(
    host: Host, system: System, names: Mapping[PortId, str], steps: Sequence[Step]
) -> list[str]:
    """For a dry run: who has the ports still, or their uio devices; nothing is done before."""
    rows = {row.id.key: row for row in host.look().ports}
    told = []
    for port, name in names.items():
        row = rows.get(port.key)
        if row is not None and row.owner is Owner.RAW_QP:
            told.append(plan_words.still_held(name, row.holders))
            continue
        for step in steps:
            if isinstance(step, BindUio) and step.port == port and _is_open(step, system):
                told.append(plan_words.still_open(name, system.uio_holders(step.vmbus)))
    return told
