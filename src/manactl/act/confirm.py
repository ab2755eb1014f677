"""Confirming a claim that would be released automatically: a record in its journal, and no more.

It is written under the locks that a release needs as well (release.py), so that a claim is either
confirmed or released, whichever began first. The guardian sees the record, and ends. Once the time
is over a claim may still be confirmed until its release begins: that waits for a holder then, or
for another manactl.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from manactl.act import outcome_words
from manactl.act.choose import Chosen, choose, open_claims
from manactl.act.host import Host
from manactl.act.signals import SignalGate, StopRequested
from manactl.errors import (
    Interrupted,
    ManactlError,
    NotRestored,
    RolledBack,
    UsageError,
    strerror,
    worst,
)
from manactl.journal import file as journal
from manactl.journal import history, lock, state_dir
from manactl.journal.file import Content, Journal, JournalError, UnreadableJournal
from manactl.model.claim import ClaimSummary, Phase
from manactl.model.port import Evidence, PortId, PortStatus
from manactl.model.record import Event, Reason

_PATIENCE = 10.0  # s for a lock: another claim of the function, or what takes this one back


@dataclass(frozen=True, slots=True)
class ConfirmRequest:
    """`words` name ports; the whole claim of each is meant."""

    state_dir: Path
    words: Sequence[str] = ()


class Confirmed(enum.StrEnum):
    """What came of one port."""

    CONFIRMED = "confirmed"
    NOT_NEEDED = "not-needed"  # it is claimed, and stays so without
    NOT_CLAIMED = "not-claimed"


@dataclass(frozen=True, slots=True)
class ConfirmedPort:
    port: PortId
    netdev: str
    outcome: Confirmed


def confirm(
    request: ConfirmRequest,
    host: Host,
    signals: SignalGate,
    found: list[ConfirmedPort] | None = None,
) -> list[ConfirmedPort]:
    """Confirm the claims that are meant: those of the words, without words the only one that
    waits. None when nothing waits. `found` is what is returned; after a failure, too, it has what
    was confirmed.

    The error of one claim does not keep another from being confirmed; the worst is raised in the
    end: RolledBack when it was released before it could be confirmed, NotRestored when that has
    begun and was interrupted; Busy when another manactl is at work on it for long; JournalError of
    journals that cannot be read and may be of a claim that is meant. A signal ends it all.
    """
    found = [] if found is None else found
    failures: list[ManactlError] = []
    with host.audit("confirm", request.words) as audit, _interruptible(signals, found):
        claims, unreadable = open_claims(request.state_dir, host)
        if request.words:
            chosen = choose(claims, host, request.words, everything=False)
            mine = list(chosen.claims)
            unreadable = _meant(chosen, unreadable)
            for port in _surely(chosen.unclaimed, unreadable):
                try:
                    _refuse_expired(request, host, [port.id])
                    found.append(ConfirmedPort(port.id, port.label, Confirmed.NOT_CLAIMED))
                except RolledBack as error:
                    failures.append(error)
        else:
            mine = _waiting(claims, host)
        if not mine and not unreadable and not failures:
            audit.quiet = True
            if not request.words:
                _refuse_expired(request, host, None)
            return found
        audit.fields["ports"] = [str(claim.port) for claim in mine] or None
        for path in dict.fromkeys(claim.path for claim in mine):
            ports = [claim for claim in claims if claim.path == path]
            pcis = {claim.port.pci for claim in ports}
            signals.listen()
            try:
                with lock.functions(request.state_dir, pcis, wait=_PATIENCE):
                    found += _confirm(request, host, signals, ports)
            except ManactlError as error:
                failures.append(error)  # the others are confirmed all the same
        failures += [_errors(unreadable)] if unreadable else []
        if failures:
            raise worst(failures)
        return found


@contextlib.contextmanager
def _interruptible(signals: SignalGate, found: Sequence[ConfirmedPort]) -> Iterator[None]:
    """A signal between two claims leaves the first confirmed, and the other as it is."""
    try:
        yield
    except StopRequested as stop:
        names = [one.netdev for one in found if one.outcome is Confirmed.CONFIRMED]
        raise Interrupted(outcome_words.interrupted_confirming(stop.name, names)) from stop


def _meant(chosen: Chosen, unreadable: Sequence[UnreadableJournal]) -> list[UnreadableJournal]:
    """The journals that may be of a claim of the named ports."""
    functions = {claim.port.pci for claim in chosen.claims}
    functions |= {port.id.pci for port in chosen.unclaimed}
    return [
        bad
        for bad in unreadable
        if any(map(bad.concerns, functions)) or (bad.pci is None and chosen.unclaimed)
    ]


def _surely(
    unclaimed: Iterable[PortStatus], unreadable: Sequence[UnreadableJournal]
) -> list[PortStatus]:
    """Those of the ports that no unreadable journal may be about: they are not claimed."""
    return [
        port
        for port in unclaimed
        if not any(bad.pci is None or bad.concerns(port.id.pci) for bad in unreadable)
    ]


def _errors(unreadable: Sequence[UnreadableJournal]) -> JournalError:
    """The error of the first, with the messages of the others."""
    error = unreadable[0].error
    error.message = "\n".join(bad.error.message for bad in unreadable)
    return error


def _waiting(claims: Sequence[ClaimSummary], host: Host) -> list[ClaimSummary]:
    """The ports of the only claim that waits; UsageError when there are several."""
    found = [claim for claim in claims if claim.claim.confirm_by is not None]
    if len({claim.path for claim in found}) > 1:
        names = {row.id.key: row.label for row in host.look().ports}
        listed = ", ".join(names.get(claim.port.key, str(claim.port)) for claim in found)
        raise UsageError(
            f"several claims wait to be confirmed: {listed}", hint="name the ports to confirm"
        )
    return found


def _confirm(
    request: ConfirmRequest, host: Host, signals: SignalGate, claims: Sequence[ClaimSummary]
) -> list[ConfirmedPort]:
    """Confirm the claim of one journal, under its locks."""
    path = claims[0].path
    with contextlib.ExitStack() as stack:
        try:
            log = stack.enter_context(Journal.open(path))
        except FileNotFoundError:
            return _ended(request, host, claims)
        content = log.content
        if content.boot_id != host.boot_id() or content.phase is Phase.CLOSED or not content.ports:
            return _ended(request, host, claims)
        if content.phase is Phase.INTERRUPTED:
            raise _interrupted(content, claims)
        claims = [claim for claim in claims if claim.port in content.ports]
        if content.waiting is None:
            return [_outcome(claim, Confirmed.NOT_NEEDED) for claim in claims]
        signals.ignore()
        try:
            log.append(Event.CONFIRMED, by=host.who())
        except OSError as error:
            if _still_waits(path):
                raise state_dir.unusable(path, error) from error
            raise _unsure(path, claims, error) from error
        return [_outcome(claim, Confirmed.CONFIRMED) for claim in claims]


def _still_waits(path: Path) -> bool:
    """Whether a record that could not be written is not there: the disk may have refused to take
    it back, too."""
    try:
        return journal.read(path).waiting is not None
    except (OSError, JournalError):
        return False


def _unsure(path: Path, claims: Sequence[ClaimSummary], error: OSError) -> NotRestored:
    """The record may be in the journal, where the guardian believes it, and is not on the disk."""
    names = ", ".join(claim.names[0] for claim in claims)
    return NotRestored(
        f"whether {names} is confirmed is not certain: {strerror(error)}, and the record of "
        "it could not be removed from the journal; nothing else was changed",
        hint="see `manactl status`: with no time to confirm by, the claim stays until `manactl "
        "release`; else fix the cause, and confirm it again",
        evidence=[Evidence("journal", str(path), "confirmed")],
        code="journal",
    )


def _ended(
    request: ConfirmRequest, host: Host, claims: Sequence[ClaimSummary]
) -> list[ConfirmedPort]:
    """It has ended since it was looked up, or with the boot that it was made in."""
    _refuse_expired(request, host, [claim.port for claim in claims])
    return [_outcome(claim, Confirmed.NOT_CLAIMED) for claim in claims]


def _interrupted(content: Content, claims: Sequence[ClaimSummary]) -> NotRestored:
    """Its release has begun, or it is half made, and nobody is at work on it any more."""
    names = ", ".join(claim.names[0] for claim in claims)
    return NotRestored(
        f"{names} cannot be confirmed: the claim was interrupted, or its release has begun; nothing "
        "was changed",
        hint="see `manactl status`; `manactl recover` puts it back",
        evidence=[Evidence("journal", str(content.path), content.phase)],
        code="interrupted-claim",
    )


def _refuse_expired(request: ConfirmRequest, host: Host, ports: Sequence[PortId] | None) -> None:
    """RolledBack when the last claim of one of the ports, or the last of all, was not confirmed in
    time."""
    past = [one for one in history.read(request.state_dir).claims if one.boot_id == host.boot_id()]
    keys = [one.port.key for one in past[:1]] if ports is None else [port.key for port in ports]
    for key in keys:
        last = next((one for one in past if one.port.key == key), None)
        if last is not None and last.reason == Reason.EXPIRED and last.until is not None:
            raise RolledBack(
                f"{last.netdev} was not confirmed in time: it was released at "
                f"{last.until:%H:%M:%S} UTC, and all on it is restored",
                hint="claim it again, with more time: --confirm-within SECONDS",
                evidence=[Evidence("journal", "released", journal.stamp(last.until))],
                code="expired",
            )


def _outcome(claim: ClaimSummary, outcome: Confirmed) -> ConfirmedPort:
    return ConfirmedPort(claim.port, claim.names[0], outcome)
