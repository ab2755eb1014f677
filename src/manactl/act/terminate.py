"""Ending the programs that hold a port, for `release --terminate`: by SIGTERM, told, never harder.

Only who is sure to hold one of the ports is signalled: a process that has the RDMA device open
for something else is not ours to end, and one that cannot be seen from here is not guessed at.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Protocol

from manactl.act import outcome_words, progress_words
from manactl.errors import Busy, ManactlError
from manactl.escape import called, command
from manactl.model.port import Evidence, Holder, Owner, PortId, PortStatus, Report

_SLICE = 0.2  # s
WAIT = 10.0  # s for a program to end after SIGTERM, unless --wait says otherwise


class Processes(Protocol):
    """What is asked of the kernel: a process by a descriptor that no other can take over."""

    def open(self, pid: int) -> int: ...
    def terminate(self, fd: int) -> None: ...
    def ended(self, fd: int, within: float) -> bool: ...
    def first(self, fds: Collection[int], within: float | None) -> set[int]: ...
    def close(self, fd: int) -> None: ...


class LiveProcesses:
    """Processes by pidfd (Linux 5.3)."""

    def open(self, pid: int) -> int:
        return os.pidfd_open(pid)

    def terminate(self, fd: int) -> None:
        signal.pidfd_send_signal(fd, signal.SIGTERM)

    def ended(self, fd: int, within: float) -> bool:
        # In slices: inside a step a signal comes to another thread, and cuts no wait short here.
        deadline = time.monotonic() + within
        poll = select.poll()  # select() knows no descriptor beyond 1023
        poll.register(fd, select.POLLIN)
        while not (found := poll.poll(1000 * min(_SLICE, max(0.0, within)))):
            within = deadline - time.monotonic()
            if within <= 0:
                break
        return bool(found)

    def first(self, fds: Collection[int], within: float | None) -> set[int]:
        """Those of the processes that have ended first, of other descriptors those that can be
        read; none after `within` seconds."""
        poll = select.poll()
        for fd in fds:
            poll.register(fd, select.POLLIN)
        return {fd for fd, _ in poll.poll(None if within is None else 1000 * within)}

    def close(self, fd: int) -> None:
        os.close(fd)


def named(holders: Collection[Holder]) -> str:
    return ", ".join(f"pid {one.pid} {called(one.comm)}" for one in holders)


def holders_to_end(report: Report, ports: Collection[PortId]) -> tuple[Holder, ...]:
    """Who is to be signalled so that `ports`, which raw QPs are known to have, become free.

    Busy, with nobody signalled, when that cannot be told.
    """
    keys = {port.key for port in ports}
    rows = [
        port
        for port in report.ports
        if port.id.key in keys and (port.owner is Owner.RAW_QP or port.candidates)
    ]
    found = {holder.pid: holder for row in rows for holder in row.holders}
    holders = tuple(found.values())
    label = ", ".join(row.label for row in rows) or ", ".join(map(str, ports))
    if not holders:
        raise _unsure(f"whoever holds {label} cannot be seen from here", rows)
    for row in rows:
        if _may_be_unseen(row):
            raise _unsure(f"a holder of {row.label} cannot be seen from here", rows)
    pcis = {row.id.pci for row in rows}
    mates = [
        port
        for port in report.ports
        if port.id.pci in pcis
        and port.id.key not in keys
        and (port.owner is Owner.RAW_QP or port.candidates)
    ]
    if len(holders) > 1 and mates:
        others = ", ".join(port.label for port in mates)
        raise _unsure(
            f"{named(holders)}: some may use {others} and not {label}, the kernel does not tell",
            rows,
        )
    if len(holders) > 1 and any(_may_serve_others(row) for row in rows):
        raise _unsure(
            f"{named(holders)}: some may only have RC or UD queue pairs, the kernel does not tell",
            rows,
        )
    return holders


def _unsure(why: str, rows: Sequence[PortStatus]) -> Busy:
    return Busy(
        f"{why}; nobody was signalled and nothing was changed",
        hint="end the right program yourself, then release again; `manactl status -v` shows "
        "what can be seen",
        evidence=[entry for row in rows for entry in row.evidence],
        code="holder",
    )


def _may_be_unseen(row: PortStatus) -> bool:
    """Whether these holders do not explain every open context, as far as is known."""
    use = row.rdma_use
    pids = {holder.pid for holder in row.holders}
    if use.creators is not None and pids.issuperset(use.creators):
        return False
    return use.contexts is None or use.contexts > len(pids)


def _may_serve_others(row: PortStatus) -> bool:
    """Whether the device of the port's raw QPs may have queue pairs of other kinds (to 6.12)."""
    return row.rdma_use.other_qps != 0


def terminate(
    holders: Collection[Holder],
    again: Callable[[], Collection[Holder]],
    sent: list[Holder],
    within: float,
    say: Callable[[str], None],
    *,
    processes: Processes | None = None,
) -> None:
    """Send SIGTERM to these holders and wait for them to end, at most `within` seconds.

    `again` looks who holds the ports once more: a process that holds them while its descriptor
    says it lives is the one that was meant, however often its number was given again before.
    `sent` gets those that were signalled.
    """
    processes = processes or LiveProcesses()
    with contextlib.ExitStack() as stack:
        fds = dict(_opened(holders, processes, stack, say))
        still = {holder.pid for holder in again()}
        waited: list[int] = []
        for holder, fd in fds.items():
            if holder.pid not in still or processes.ended(fd, 0):
                continue  # it let go by itself
            sent.append(holder)  # before it is: a signal to us must not make that forgotten
            try:
                processes.terminate(fd)
            except OSError as error:
                sent.remove(holder)
                if isinstance(error, PermissionError):
                    say(progress_words.not_allowed_to_signal(named([holder])))
                    continue
                if isinstance(error, ProcessLookupError):
                    continue
                raise
            waited.append(fd)
            unit = called(holder.unit) if holder.unit else None
            say(progress_words.signalled(named([holder]), unit, within))
        deadline = time.monotonic() + within
        for fd in waited:
            processes.ended(fd, max(0.0, deadline - time.monotonic()))


def _opened(
    holders: Collection[Holder],
    processes: Processes,
    stack: contextlib.ExitStack,
    say: Callable[[str], None],
) -> Iterator[tuple[Holder, int]]:
    for holder in holders:
        if holder.pid in (1, os.getpid()):
            say(progress_words.not_signalled(named([holder])))
            continue
        with contextlib.suppress(ProcessLookupError):
            fd = processes.open(holder.pid)
            stack.callback(processes.close, fd)
            yield holder, fd


def not_ended(busy: Busy, sent: Collection[Holder], within: float) -> Busy:
    """What to say when the port is taken still after everybody was asked to end."""
    if not sent:
        return busy
    services = {(one.manager, one.unit) for one in sent if (one.unit or "").endswith(".service")}
    hints = [outcome_words.end_yourself(one.pid for one in sent)]
    for manager in sorted({manager for manager, _ in services}, key=str):
        units = sorted(str(unit) for of, unit in services if of == manager)
        words = ["systemctl"] if manager is None else ["systemctl", "--user", f"-M{manager}@"]
        stop = command(*words, "stop", names=units)
        hints.append(outcome_words.if_service_restarts(stop))
    untouched = busy.untouched is not None
    return Busy(
        outcome_words.not_enough(busy.story, named(sent), within, untouched=untouched),
        hint="\n".join(hints),
        evidence=[*busy.evidence, *_signalled(sent)],
        code=busy.code,
    )


def after_signal(error: ManactlError, sent: Collection[Holder]) -> ManactlError:
    """The error of a release that has signalled these, and then changed nothing."""
    if sent and error.untouched is not None:
        error.evidence = (*error.evidence, *_signalled(sent))
        return error.after(outcome_words.only_signalled(named(sent)))
    return error


def _signalled(sent: Iterable[Holder]) -> Iterator[Evidence]:
    return (Evidence("proc", "SIGTERM sent to", one.pid) for one in sent)
