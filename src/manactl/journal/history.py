"""Claims that have ended, from their journals: who had which port, when, and how that ended.

A journal is in the history once it is closed. Of one that is still open, the ports that were
released are history already.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from manactl.journal import file as journal
from manactl.journal import shape
from manactl.journal.file import Content, JournalError, UnbelievableError
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import PortId
from manactl.model.record import SETTLES, Ending, Event


class PastClaim(NamedTuple):
    """One port of a claim that has ended.

    `until` is None when nobody saw the end: of a reboot only the next start is known. `ended_by` is
    who asked for the end, in the form of `by`; None where nobody did, or an older manactl did not
    note it. `reason`: why, of an end that nobody asked for. `confirmed_by` is who has confirmed
    it. `waived` are the codes of the guards that were; `residue` what was accepted. `boot_id` is of
    the boot that it was claimed in.
    """

    port: PortId
    netdev: str
    names: tuple[str, ...]
    since: datetime
    until: datetime | None
    ending: Ending
    by: Mapping[str, Any]
    ended_by: Mapping[str, Any] | None
    mode: str
    proven: bool
    waived: tuple[str, ...]
    residue: tuple[str, ...]
    path: Path
    reason: str | None = None
    confirmed_by: Mapping[str, Any] | None = None
    boot_id: str = ""

    def is_called(self, word: str) -> bool:
        """Whether this was a word for the port when it was claimed."""
        loose = (str(self.port), self.port.permanent_mac)
        return word in self.names or word.lower() in loose

    @property
    def seconds(self) -> float | None:
        """How long it lasted."""
        return None if self.until is None else (self.until - self.since).total_seconds()


class Unread(NamedTuple):
    """A journal of the history that cannot be read, and why."""

    path: Path
    why: str


class History(NamedTuple):
    """Claims that have ended, the last to end first, and journals that cannot be read."""

    claims: list[PastClaim]
    unreadable: list[Unread]


def read(state_dir: Path) -> History:
    """Everything that is on record; nothing without a state directory.

    PermissionError when the directory may not be read (it is root's).
    """
    closed, standing = History([], []), History([], [])
    for path in [*journal.paths(state_dir, "history"), *journal.paths(state_dir)]:
        found = closed if path.parent.name == "history" else standing
        with contextlib.suppress(FileNotFoundError):  # moved or dropped by another manactl
            try:
                found.claims.extend(list(_ended(journal.read(path))))
            except UnbelievableError as error:
                found.unreadable.append(Unread(path, error.message))
            except JournalError as error:
                if found is closed:  # the others are reported by what acts on them
                    _salvage(path, error, found)
            except shape.NONSENSE as error:
                found.unreadable.append(Unread(path, f"a record is not as it should be: {error}"))
    # The closed ones are in the order in which they were closed, whatever the clock showed then: a
    # merge keeps that. For those of journals that are still open there is the clock alone.
    standing.claims.sort(key=_shown)
    merged = heapq.merge(closed.claims[::-1], standing.claims[::-1], key=_shown, reverse=True)
    return History(list(merged), closed.unreadable + standing.unreadable)


def _shown(claim: PastClaim) -> datetime:
    """When it ended, as the clock showed it; when it began, when nobody knows that."""
    return claim.until or claim.since


def _salvage(path: Path, error: JournalError, found: History) -> None:
    """What the header alone tells of a journal that was closed unread after a reboot."""
    content = journal.salvaged(path, "")  # no boot has that id
    if content is None:
        found.unreadable.append(Unread(path, error.message))
        return
    found.claims.extend(_past(content, port, Ending.REBOOT) for port in content.all_ports)


def _ended(content: Content) -> Iterator[PastClaim]:
    left = {port.key: port for port in content.all_ports}
    asked: Mapping[str, Any] | None = None
    why: str | None = None
    for record in content.records:
        event = record["event"]
        if event == Event.RELEASING:
            asked, why = record.get("by"), record.get("why")
        elif event in SETTLES and (port := left.pop(PortId.key_of(record), None)):
            ending = Ending(event)
            if ending is Ending.RELEASED and not content.claimed:
                ending = Ending.RECOVERED
            residue = tuple(map(str, record.get("residue", ())))
            by = record.get("by", asked)
            reason = why if ending is not Ending.ACCEPTED else None
            past = _past(content, port, ending, _time(record), by=by, residue=residue)
            yield past._replace(reason=reason)
        elif event == Event.CLOSED:
            how = Ending(record["how"])
            until = None if how is Ending.REBOOT else _time(record)
            for port in left.values():
                yield _past(content, port, how, until)


def _time(record: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(record["t"])


def _past(
    content: Content,
    port: PortId,
    ending: Ending,
    until: datetime | None = None,
    *,
    by: Mapping[str, Any] | None = None,
    residue: tuple[str, ...] = (),
) -> PastClaim:
    header = content.header
    then = content.port_entry(port)
    netdev = str(then.get("netdev") or port)
    confirmed = next((r for r in content.records if r["event"] == Event.CONFIRMED), None)
    return PastClaim(
        port,
        netdev,
        names=journal.names_of(then) or (netdev,),
        since=datetime.fromisoformat(header["time"]),
        until=until,
        ending=ending,
        by=dict(header["by"]),
        ended_by=by,
        mode=str(header["mode"]),
        proven=content.proven.get(port.key, False),
        waived=tuple(map(str, header.get("waived", ()))),
        residue=residue,
        path=content.path,
        confirmed_by=None if confirmed is None else confirmed.get("by"),
        boot_id=content.boot_id,
    )
