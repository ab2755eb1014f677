"""`history` for people and as a document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from manactl.escape import escape
from manactl.journal.file import stamp
from manactl.journal.history import PastClaim, Unread
from manactl.model.record import Reason
from manactl.netstate.snapshot import port_to_json
from manactl.render.document import timestamp

HEADER = ("PORT", "CLAIMED", "FOR", "ENDED", "BY", "WAIVED")
_GAP = "  "
_ENDED: dict[str, str] = {
    Reason.EXPIRED: "expired, released"
}  # the others do not tell more than the ending does
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def document(claims: Sequence[PastClaim], unreadable: Sequence[Unread]) -> dict[str, object]:
    """`manactl.history/1`."""
    return {
        "schema": "manactl.history/1",
        "time": stamp(),
        "claims": [_claim(claim) for claim in claims],
        "unreadable": [{"journal": str(one.path), "why": one.why} for one in unreadable],
    }


def _claim(claim: PastClaim) -> dict[str, object]:
    return {
        "netdev": claim.netdev,
        **port_to_json(claim.port),
        "since": timestamp(claim.since),
        "until": None if claim.until is None else timestamp(claim.until),
        "seconds": claim.seconds,
        "ending": str(claim.ending),
        "by": dict(claim.by),
        "ended_by": None if claim.ended_by is None else dict(claim.ended_by),
        "why": claim.reason,
        "confirmed_by": None if claim.confirmed_by is None else dict(claim.confirmed_by),
        "mode": claim.mode,
        "proven": claim.proven,
        "waived": list(claim.waived),
        "residue": list(claim.residue),
        "journal": str(claim.path),
    }


def table(claims: Sequence[PastClaim]) -> Iterator[str]:
    """A line for each claim, below a heading."""
    if not claims:
        yield "no claim has ended yet"
        return
    rows = [HEADER, *map(_row, claims)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        yield _GAP.join(padded).rstrip()


def _row(claim: PastClaim) -> tuple[str, ...]:
    by = _person(claim.by)
    if claim.confirmed_by is not None:
        who = _person(claim.confirmed_by)
        by = f"{by}, confirmed" if who == by else f"{by}, confirmed by {who}"
    if claim.ended_by is not None and _person(claim.ended_by) != _person(claim.by):
        by = f"{by}, {_person(claim.ended_by)}"
    return (
        escape(claim.netdev),
        timestamp(claim.since),
        "?" if claim.seconds is None else lasting(claim.seconds),
        _ENDED.get(claim.reason or "", str(claim.ending)),
        escape(by),
        " ".join(claim.waived) or "-",
    )


def left(claims: Sequence[PastClaim]) -> Iterator[str]:
    """What was missing on ports whose residue was accepted."""
    for claim in claims:
        for line in claim.residue:
            yield f"{claim.netdev}, claimed {timestamp(claim.since)}, was left without: {line}"


def _person(by: Mapping[str, Any]) -> str:
    return str(by.get("sudo_user") or f"uid {by.get('uid')}")


def lasting(seconds: float) -> str:
    """ "3d 4h", "12min", "40s": two units at the most."""
    left = max(int(seconds), 0)
    parts = []
    for size, unit in _UNITS:
        if left >= size:
            parts.append(f"{left // size}{unit}")
            left %= size
    if not parts or (len(parts) == 1 and parts[0].endswith("min") and left):
        parts.append(f"{left}s")
    return " ".join(parts[:2])
