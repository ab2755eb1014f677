"""What `manactl hold` tells, as lines for people and as JSON documents."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import datetime

from manactl.escape import called
from manactl.journal.file import stamp
from manactl.model.hold import Apart, Attempt, Cause, Opener, Outcome, Storm, Target, Trouble
from manactl.model.port import PortId
from manactl.render import document as documents

SCHEMA = "manactl.hold/1"
Event = Attempt | Storm


NOTHING_APART = Apart()


def holding(targets: Sequence[Target], apart: Apart = NOTHING_APART) -> str:
    """One line: what is kept down, and what is claimed and is not."""
    if not targets and apart == NOTHING_APART:
        return "nothing is claimed; waiting for a claim"
    names = _names(one for one in targets if one not in apart.doubtful)
    parts = [f"keeping down {names}" if names else "keeping nothing down, waiting for a claim"]
    if apart.elsewhere:
        parts.append(f"claimed in another network namespace: {_ports(apart.elsewhere)}")
    if apart.not_given:
        parts.append(f"claimed, and not among the given: {_ports(apart.not_given)}")
    if apart.unlisted:
        parts.append(f"claims that are new cannot be seen: {apart.unlisted.text}")
    if apart.unread:
        count, first = len(apart.unread), apart.unread[0].text
        left = f", so {_names(apart.doubtful)} is left alone" if apart.doubtful else ""
        parts.append(f"{count} claim{'s' if count > 1 else ''} cannot be read{left}: {first}")
    return "; ".join(parts)


def _names(targets: Iterable[Target]) -> str:
    return ", ".join(target.name for target in targets)


def _ports(ports: Sequence[PortId]) -> str:
    return ", ".join(f"port {port}" for port in ports)


def problems(apart: Apart, unlocked: Mapping[str, Trouble]) -> dict[Hashable, str]:
    """What somebody should do something about, by what it is. `unlocked`: functions whose lock cannot
    be had."""
    found: dict[Hashable, str] = {
        trouble: f"not kept down until it can be read: {trouble.text}" for trouble in apart.unread
    }
    found |= {
        trouble: f"what is claimed of {pci} is not kept down until its lock can be had; it is tried "
        f"again: {trouble.text}"
        for pci, trouble in unlocked.items()
    }
    if apart.unlisted:
        found[apart.unlisted] = f"claims that are new are not kept down: {apart.unlisted.text}"
    return found | {
        port: f"not kept down: port {port} is claimed in another network namespace; "
        "run `manactl hold` there, too"
        for port in apart.elsewhere
    }


def line(event: Event) -> str:
    """One line for people, that begins with the time."""
    return f"{stamp(event.time)} {words(event)}"


def words(event: Event) -> str:
    """The line without its time, as for a log that has its own."""
    if isinstance(event, Storm):
        return _sum(event)
    name, port = event.netdev, event.target.port
    if event.still:
        return (
            f"{name} (port {port}) is still up: setting it down failed: {event.error}; trying again"
        )
    what = {
        Outcome.SET_DOWN: f"set down again after {event.ms} ms",
        Outcome.ALREADY: "it was down already when manactl looked",
        Outcome.FAILED: f"setting it down failed: {event.error}; trying again",
    }[event.outcome]
    was = f"{name} (port {port}) was "
    if event.cause is Cause.FOUND:
        return f"{was}found up, who set it up is not known: {what}"
    return f"{was}set up by {by(event)}: {what}"


def _sum(storm: Storm) -> str:
    seconds = max(round((storm.time - storm.since).total_seconds()), 1)
    times = "once more" if storm.count == 1 else f"{storm.count} more times"
    often, each = f"{times} in {seconds} s", " each time" if storm.count > 1 else ""
    last = storm.last
    if last.still:
        return (
            f"{last.netdev} is still up: setting it down failed {often}, the last time: "
            f"{last.error}; trying again"
        )
    what = {
        Outcome.SET_DOWN: f"set down{each}",
        Outcome.ALREADY: f"was down already{each} when manactl looked",
        Outcome.FAILED: f"setting it down failed{each} ({last.error}; trying again)",
    }[last.outcome]
    return f"{last.netdev} was set up {often}, and {what}; the last time by {by(last)}"


def by(attempt: Attempt) -> str:
    """Who it was, as far as the kernel tells."""
    if attempt.cause is Cause.NETVSC:
        return "hv_netvsc, after the host had given the VF back (its synthetic netdev is up)"
    if attempt.openers:
        return ", ".join(_opener(one) for one in attempt.openers)
    return "a program that the kernel does not name"


def _opener(opener: Opener) -> str:
    process = opener.process
    if opener.kernel:
        return f"the kernel ({called(process.comm, f'thread {process.pid}')})"
    text = f"{called(process.comm, 'a program that has ended')} (pid {process.pid}"
    if process.unit:
        text += f", {called(process.unit)}"
    if process.container:
        text += f", container {process.container[:12]}"
    return text + ")"


def holding_document(
    time: datetime, targets: Sequence[Target], apart: Apart = NOTHING_APART
) -> dict[str, object]:
    """What is kept down from now on."""
    return {
        "schema": SCHEMA,
        "time": stamp(time),
        "event": "holding",
        "netdevs": [
            {"netdev": one.name, **_identity(one)} for one in targets if one not in apart.doubtful
        ],
        "left_alone": [{"netdev": one.name, **_identity(one)} for one in apart.doubtful],
        "elsewhere": [_port(port) for port in apart.elsewhere],
        "not_given": [_port(port) for port in apart.not_given],
        "unlisted": None if apart.unlisted is None else apart.unlisted.text,
        "unread": [trouble.text for trouble in apart.unread],
    }


def document(event: Event) -> dict[str, object]:
    """One event."""
    last = event.last if isinstance(event, Storm) else event
    return {
        "schema": SCHEMA,
        "time": stamp(event.time),
        "event": "storm" if isinstance(event, Storm) else str(event.outcome),
        "netdev": last.netdev,
        **_identity(last.target),
        "cause": str(last.cause),
        "by": [_process(one) for one in last.openers],
        "ms": last.ms,
        "asked_ms": last.asked_ms,
        "error": last.error,
        "outcome": str(last.outcome),
        "still": last.still,
        "count": event.count if isinstance(event, Storm) else 1,
        "since": stamp(event.since) if isinstance(event, Storm) else None,
    }


def dumps(found: dict[str, object]) -> str:
    """On one line."""
    return documents.dumps(found, indent=None)


def _identity(target: Target) -> dict[str, object]:
    return {**_port(target.port), "vmbus": target.vmbus}


def _port(port: PortId) -> dict[str, object]:
    return {"pci": port.pci, "port": port.port, "permanent_mac": port.permanent_mac}


def _process(opener: Opener) -> dict[str, object]:
    process = opener.process
    return {
        "pid": process.pid,
        "comm": process.comm,
        "exe": process.exe,
        "uid": process.uid,
        "unit": process.unit,
        "container": process.container,
        "kernel": opener.kernel,
    }
