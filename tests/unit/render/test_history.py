from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from manactl.journal.history import PastClaim, Unread
from manactl.model.record import Ending
from manactl.render import history
from tests.unit import schema
from tests.unit.fakes import PORT
from tests.unit.wording import wording

SINCE = datetime(2026, 11, 22, 23, 30, 5, 750000, tzinfo=UTC)
CLAIM = PastClaim(
    PORT, "eth1", ("eth1",), SINCE, SINCE + timedelta(seconds=3725), Ending.RELEASED,
    {"uid": 0, "sudo_user": "operator", "loginuid": 1000}, {"uid": 0, "sudo_user": "operator"},
    "claim", True, ("last-port", "upper"), (), Path("/var/lib/manactl/history/x.journal"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("more", "cells"),
    [
        ({}, ["eth1", "2026-11-22T23:30:05Z", "1h 2min", "released", "operator", "last-port upper"]),
        ({"until": None, "ending": Ending.REBOOT, "ended_by": None, "waived": ()},
         ["eth1", "2026-11-22T23:30:05Z", "?", "reboot", "operator", "-"]),
        ({"ended_by": {"uid": 0, "sudo_user": None}},
         ["eth1", "2026-11-22T23:30:05Z", "1h 2min", "released", "operator, uid 0", "last-port upper"]),
        ({"reason": "expired"},
         ["eth1", "2026-11-22T23:30:05Z", "1h 2min", "expired, released", "operator", "last-port upper"]),
        ({"reason": "abandoned"},
         ["eth1", "2026-11-22T23:30:05Z", "1h 2min", "released", "operator", "last-port upper"]),
        ({"confirmed_by": {"uid": 0, "sudo_user": "night"}},
         ["eth1", "2026-11-22T23:30:05Z", "1h 2min", "released", "operator, confirmed by night", "last-port upper"]),
        ({"confirmed_by": dict(CLAIM.by)},
         ["eth1", "2026-11-22T23:30:05Z", "1h 2min", "released", "operator, confirmed", "last-port upper"]),
        ({"netdev": "a\nb"},
         ["a\\nb", "2026-11-22T23:30:05Z", "1h 2min", "released", "operator", "last-port upper"]),
    ],
)  # fmt: skip
def test_a_line_for_each_claim(more: dict[str, Any], cells: list[str]) -> None:
    heading, line = history.table([CLAIM._replace(**more)])
    assert heading.split() == ["PORT", "CLAIMED", "FOR", "ENDED", "BY", "WAIVED"]
    with wording:
        assert [cell for cell in line.split("  ") if cell] == cells
    assert all(heading.index(word) >= 0 for word in history.HEADER)


def test_columns_are_aligned() -> None:
    lines = list(history.table([CLAIM, CLAIM._replace(netdev="enP30832s1d1", waived=())]))
    assert len({line.index("2026") for line in lines[1:]} | {lines[0].index("CLAIMED")}) == 1


@pytest.mark.wording
def test_nothing_has_ended() -> None:
    assert list(history.table([])) == ["no claim has ended yet"]


@pytest.mark.wording
def test_what_was_accepted_is_told() -> None:
    accepted = CLAIM._replace(ending=Ending.ACCEPTED, residue=("eth1 is down", "route x"))
    assert list(history.left([CLAIM, accepted])) == [
        "eth1, claimed 2026-11-22T23:30:05Z, was left without: eth1 is down",
        "eth1, claimed 2026-11-22T23:30:05Z, was left without: route x",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0s"), (59.9, "59s"), (60, "1min"), (61, "1min 1s"), (3599, "59min 59s"),
        (3600, "1h"), (3661, "1h 1min"), (86400, "1d"), (90061, "1d 1h"), (86460, "1d 1min"),
        (-5, "0s"),
    ],
)  # fmt: skip
def test_how_long(seconds: float, words: str) -> None:
    assert history.lasting(seconds) == words


@pytest.mark.parametrize("claim", [CLAIM, CLAIM._replace(until=None, ended_by=None, proven=False)])
def test_the_document(claim: PastClaim) -> None:
    found = history.document([claim], [Unread(Path("/x"), "is corrupt")])
    schema.strict(found)
    (row,) = found["claims"]  # type: ignore[misc]
    assert row["since"] == "2026-11-22T23:30:05Z"
    assert row["until"] == (claim.until and "2026-11-23T00:32:10Z")
    assert row["seconds"] == (claim.until and 3725)
    assert (row["ending"], row["proven"]) == ("released", claim.proven)
    assert (row["pci"], row["port"], row["permanent_mac"]) == PORT
    assert row["by"]["loginuid"] == 1000
    assert row["ended_by"] == claim.ended_by
    assert (row["waived"], row["residue"]) == (["last-port", "upper"], [])
    assert row["journal"] == "/var/lib/manactl/history/x.journal"
    assert found["unreadable"] == [{"journal": "/x", "why": "is corrupt"}]
