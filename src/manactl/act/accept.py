"""Accepting residue: a claim that was interrupted ends as the port is now.

For what can never be restored: a nexthop id that somebody uses, an upper that was deleted, a NIC
that was replaced. The kernel is only read; all that is written is the journal, which keeps the
snapshot and what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from manactl.act import outcome_words, recreate, residue_words, restore, taken_away
from manactl.act.foreign import Foreign, facts_of
from manactl.act.plan import KeepState, SetAdmin, Step, System, awaited
from manactl.act.transition import holder_evidence
from manactl.act.unmanage import Unmanage
from manactl.errors import Busy, NotRestored, Refused, strerror
from manactl.escape import command
from manactl.journal import state_dir
from manactl.journal.file import Content, Journal
from manactl.look.netdevs_of import NetdevNow, Unread
from manactl.model.claim import Phase
from manactl.model.port import Evidence, Owner, PortId, PortStatus
from manactl.model.record import Event

Residue = Mapping[PortId, tuple[str, ...]]


def residue(
    system: System,
    content: Content,
    steps: Mapping[PortId, Sequence[Step]],
    there: Mapping[tuple[str, int], PortStatus],
    elsewhere: Foreign | None = None,
) -> Residue:
    """What is not as it was before the claim, for each port of `steps`, by the kernel now.

    Refused for a claim that stands, Busy while a raw QP has the port or may have it. `there` are
    the ports of this machine, whatever NIC is in the place now. `elsewhere`: the network namespace
    of the claim where it is not this one; when it is gone, so is all that was in it.
    """
    found = {}
    for port, all_begun in steps.items():
        # What was on a port that was never touched is not ours to miss.
        touched = any(isinstance(step, SetAdmin | Unmanage) for step in all_begun)
        begun = all_begun if touched else ()
        status = there.get(port.key)
        if status is not None and port.is_another(status.id):
            instead = residue_words.other_nic(status.id.permanent_mac, port)
            found[port] = (instead, *_recorded(content, begun))
            continue
        now = _netdev(system, port)
        if elsewhere is not None and not elsewhere.gone:
            raise elsewhere.refused("recover --accept", {port: all_begun})
        if elsewhere is not None:
            if status is not None:
                _refuse_held(status)
            gone = residue_words.of_namespace(port, elsewhere.called)
            found[port] = (gone, *facts_of(begun))
            continue
        if content.phase_of(port) is Phase.CLAIMED:
            _refuse_standing(content, port, now, status)
        if status is not None:
            _refuse_held(status)
        if now is None:
            found[port] = (residue_words.no_netdev(port), *_recorded(content, begun))
        else:
            removed = taken_away.look(begun, [port], content, system)
            left = [taken_away.rest(step, removed) for step in begun]
            found[port] = tuple(_missing(system, now, left))
    return found


def record(log: Journal, found: Residue, by: Mapping[str, object]) -> None:
    """Write down that the residue of these ports is accepted, and by whom; they are no longer
    claimed.

    Refused when not even the first record can be written, NotRestored when a later one cannot.
    """
    done: list[str] = []
    for port, lines in found.items():
        try:
            log.append(Event.ACCEPTED, pci=port.pci, port=port.port, residue=lines, by=by)
        except OSError as error:
            if not done:
                raise state_dir.unusable(log.path, error) from error
            raise NotRestored(
                f"only {', '.join(done)} could be accepted: the journal {log.path} could not be "
                f"written: {strerror(error)}; no port was changed",
                hint="fix the cause, then accept the others",
                code="journal",
            ) from error
        done.append(str(port))


# --- what stands against it -----------------------------------------------------------------


def _netdev(system: System, port: PortId) -> NetdevNow | None:
    """The port's netdev, waited for while the device is plugged in again. NotRestored where nobody
    knows whether it is here: a claim of one that is may not be closed as if it were gone."""
    found = awaited(system, lambda: system.netdev(port))
    if isinstance(found, Unread):
        raise NotRestored(
            f"whether the netdev of port {port} is here could not be read: {found.why}; nothing "
            "was changed",
            hint="fix the cause (open files, memory), then try again; the journal stays open",
        )
    return found


def _refuse_standing(
    content: Content, port: PortId, now: NetdevNow | None, status: PortStatus | None
) -> None:
    """A claim that stands can be released, unless its netdev is nowhere any more."""
    netns = None if status is None else status.netns
    if now is None and netns is None:
        return
    name = str(port) if now is None else now.name
    release = outcome_words.release_instead(command("manactl", "release", names=[name]))
    if now is None:
        release = outcome_words.move_back_first(str(netns), release)
    raise Refused(
        f"{name} is claimed, and nothing was interrupted: there is no residue to accept; "
        "nothing was changed",
        hint=release,
        evidence=[Evidence("journal", str(content.path), Phase.CLAIMED)],
        code="claim-stands",
    )


def _refuse_held(status: PortStatus) -> None:
    """A port that a raw QP has would be left without a claim that says so."""
    netdev = status.netdev
    down = netdev is not None and netdev.admin_up is not True
    if status.owner is Owner.RAW_QP:
        what = outcome_words.holds(outcome_words.named(status.holders))
    elif status.candidates or (down and status.owner is Owner.UNKNOWN):
        what = outcome_words.may_hold(outcome_words.named(status.holders))
    else:
        return
    release = command("manactl", "release", "--terminate", names=[status.label])
    raise Busy(
        f"the residue of {status.label} is not accepted: {what}; nothing was changed",
        hint=f"end the holder, or let release do it: {release}",
        evidence=[*status.evidence, *holder_evidence(status.holders)],
        code="holder",
    )


# --- what is missing ------------------------------------------------------------------------


def _missing(system: System, now: NetdevNow, steps: Sequence[Step]) -> Iterator[str]:
    """By a look at the netdev, which is here; whether that is up comes first."""
    for step in reversed(steps):
        if isinstance(step, Unmanage) and system.is_unmanaged(step.unmanaged):
            yield residue_words.unmanaged(step.unmanaged.manager, step.unmanaged.names)
        elif isinstance(step, SetAdmin) and now.up is not step.was:
            yield residue_words.admin(now.name, now.up, step.was)
        elif isinstance(step, KeepState):
            try:
                yield from recreate.residue(step.state, system)
                yield from restore.compare(system, step.state).residue
            except OSError as error:
                raise NotRestored(
                    f"what is missing on {now.name} could not be read: "
                    f"{strerror(error)}; nothing was changed",
                    hint="try again in a moment; the journal stays open",
                ) from error


def _recorded(content: Content, steps: Sequence[Step]) -> Iterator[str]:
    """What the last attempt to restore could not; without one all that the snapshot has."""
    if content.residue:
        yield from content.residue
        return
    yield from facts_of(steps)
