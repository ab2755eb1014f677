"""What journals tell of claims that have ended."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from manactl.journal import file as journal
from manactl.journal import history
from manactl.journal.file import Journal
from manactl.journal.history import PastClaim
from manactl.model.port import PortId
from manactl.model.record import Ending
from tests.unit.fakes import PORT, archived
from tests.unit.wording import wording

OTHER = PortId(PORT.pci, 2, "00:0d:3a:aa:00:11")
HEADER: dict[str, Any] = {
    "boot_id": "b",
    "time": "2026-11-22T12:00:00.000Z",
    "mode": "claim",
    "by": {"uid": 0, "sudo_user": "operator", "loginuid": 1000},
    "ports": [
        {
            "pci": port.pci,
            "port": port.port,
            "permanent_mac": port.permanent_mac,
            "netdev": name,
            "altnames": altnames,
        }
        for port, name, altnames in ((PORT, "eth1", ["mana1"]), (OTHER, "eth2", []))
    ],
    "waived": ["default-route", "upper"],
    "plan": {},
    "snapshot": [],
}
CLAIMED = ("claimed", {"ports": [{"pci": PORT.pci, "port": 1, "proven": True}]})
ANNA = {"uid": 0, "sudo_user": "anna", "loginuid": 1001}
FIRST, SECOND = ({"pci": port.pci, "port": port.port} for port in (PORT, OTHER))


def write(state_dir: Path, *events: tuple[str, dict[str, Any]], one: bool = True) -> Path:
    """A journal of one port or of both; it goes to the history with its `closed`."""
    ports = HEADER["ports"][:1] if one else HEADER["ports"]
    with Journal.create(state_dir, {**HEADER, "ports": ports}, [PORT]) as log:
        for event, more in events:
            log.append(event, **more)
        if events[-1][0] == "closed":
            log.archive()
            return archived(log.path)
        return log.path


def read_one(state_dir: Path) -> PastClaim:
    found = history.read(state_dir)
    assert found.unreadable == []
    (claim,) = found.claims
    return claim


@pytest.mark.parametrize(
    ("events", "ending", "by", "known"),
    [
        (
            [CLAIMED, ("releasing", {"by": ANNA}), ("released", FIRST)],
            Ending.RELEASED,
            ANNA,
            True,
        ),
        ([("doing", {}), ("releasing", {}), ("released", FIRST)], Ending.RECOVERED, None, True),
        ([("doing", {}), ("unwinding", {}), ("closed", {"how": "unwound"})], Ending.UNWOUND, None, True),
        (
            [CLAIMED, ("accepted", {**FIRST, "by": ANNA, "residue": ["a", "b"]})],
            Ending.ACCEPTED,
            ANNA,
            True,
        ),
        ([CLAIMED, ("closed", {"how": "reboot"})], Ending.REBOOT, None, False),
    ],
)  # fmt: skip
def test_how_a_claim_ended(
    tmp_path: Path,
    events: list[tuple[str, dict[str, Any]]],
    ending: Ending,
    by: dict[str, Any] | None,
    known: bool,
) -> None:
    if events[-1][0] != "closed":
        events.append(("closed", {"how": "released"}))
    path = write(tmp_path, *events)
    claim = read_one(tmp_path)
    assert (claim.port, claim.netdev, claim.ending, claim.ended_by) == (PORT, "eth1", ending, by)
    assert claim.since == datetime(2026, 11, 22, 12, tzinfo=UTC)
    times = {record["event"]: record["t"] for record in journal.read(path).records}
    settled = times.get("released") or times.get("accepted") or times["closed"]
    if known:
        assert claim.until == datetime.fromisoformat(settled)
        assert claim.seconds == (claim.until - claim.since).total_seconds()
    else:
        assert (claim.until, claim.seconds) == (None, None)
    assert claim.by["sudo_user"] == "operator"
    assert claim.waived == ("default-route", "upper")
    assert claim.residue == (("a", "b") if ending is Ending.ACCEPTED else ())
    assert claim.proven is (CLAIMED in events)
    assert claim.path == path


def test_a_claim_that_stands_or_was_interrupted_is_none(tmp_path: Path) -> None:
    write(tmp_path, CLAIMED)
    write(tmp_path, ("doing", {}))
    write(tmp_path, CLAIMED, ("releasing", {}), ("residue", {"lines": ["x"]}))
    assert history.read(tmp_path) == history.History([], [])


def test_of_a_claim_that_stands_the_released_ports_are(tmp_path: Path) -> None:
    write(tmp_path, CLAIMED, ("releasing", {"by": ANNA}), ("released", SECOND), one=False)
    claim = read_one(tmp_path)
    assert (claim.port, claim.netdev, claim.ending) == (OTHER, "eth2", Ending.RELEASED)
    assert not claim.proven


def test_each_port_has_its_own_end(tmp_path: Path) -> None:
    bert = {"uid": 0, "sudo_user": "bert"}
    first, second = (("released", port) for port in (FIRST, SECOND))
    asked, again = (("releasing", {"by": by}) for by in (ANNA, bert))
    write(
        tmp_path, CLAIMED, asked, first, again, second, ("closed", {"how": "released"}), one=False
    )
    ends = {claim.port: claim.ended_by for claim in history.read(tmp_path).claims}
    assert ends == {PORT: ANNA, OTHER: bert}


def test_a_journal_whose_release_died_at_its_very_end_is_history(tmp_path: Path) -> None:
    write(tmp_path, CLAIMED, ("releasing", {}), ("released", FIRST))
    assert read_one(tmp_path).ending is Ending.RELEASED


def test_one_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    write(tmp_path, CLAIMED, ("released", FIRST), ("closed", {"how": "released"}))
    bad = tmp_path / "history" / "20260101T000000.000000Z-0000:00:00.0-1.journal"
    bad.write_text("{}\t0\n")
    bad.chmod(0o600)
    found = history.read(tmp_path)
    assert len(found.claims) == 1
    ((path, why),) = found.unreadable
    assert path == bad
    with wording:
        assert "is corrupt" in why


@pytest.mark.parametrize("last", [{"how": "eaten"}, {}])
def test_an_end_that_nobody_knows_is_told(tmp_path: Path, last: dict[str, str]) -> None:
    path = write(tmp_path, CLAIMED, ("released", FIRST), ("closed", last), one=False)
    found = history.read(tmp_path)
    assert found.claims == []
    assert [one.path for one in found.unreadable] == [path]


def test_one_with_a_damaged_end_tells_what_its_header_knows(tmp_path: Path) -> None:
    path = write(tmp_path, CLAIMED, ("closed", {"how": "reboot"}))
    path.write_bytes(path.read_bytes().replace(b"closed", b"clowns"))
    claim = read_one(tmp_path)
    assert (claim.ending, claim.until, claim.by["uid"]) == (Ending.REBOOT, None, 0)


def test_the_last_to_end_comes_first_whatever_the_clock_showed(tmp_path: Path) -> None:
    for hour in (3, 1, 2):
        since = f"2026-11-22T{hour:02}:00:00.000Z"
        with Journal.create(tmp_path, {**HEADER, "time": since}, [PORT]) as log:
            log.append("closed", how="unwound")
            log.archive()
    found = history.read(tmp_path).claims
    assert [claim.since.hour for claim in found] == [2, 2, 1, 1, 3, 3]


def test_what_ended_of_a_claim_that_stands_is_among_them(tmp_path: Path) -> None:
    """Between the claims that ended before it and after it."""
    done = ("closed", {"how": "unwound"})
    first = write(tmp_path, done)
    open_still = write(tmp_path, CLAIMED, ("releasing", {}), ("released", SECOND), one=False)
    last = write(tmp_path, done)
    found = history.read(tmp_path).claims
    assert [claim.path for claim in found] == [last, open_still, first]


def test_without_a_state_directory_there_is_none(tmp_path: Path) -> None:
    assert history.read(tmp_path / "none") == history.History([], [])


@pytest.mark.parametrize("word", ["eth1", "mana1", str(PORT), str(PORT.permanent_mac).upper()])
def test_what_a_port_was_called(tmp_path: Path, word: str) -> None:
    write(tmp_path, CLAIMED, ("released", FIRST), ("closed", {"how": "released"}))
    claim = read_one(tmp_path)
    assert claim.is_called(word)
    assert not claim.is_called(f"{word}x")
    assert not claim.is_called("ETH1")


def test_big_snapshots_take_no_more_than_so_much_room(tmp_path: Path) -> None:
    """And the newest is kept, however big."""
    closed = ("closed", {"how": "unwound"})
    paths = [write(tmp_path, closed) for _ in range(4)]
    os.truncate(paths[2], 200 << 20)
    os.truncate(paths[1], 56 << 20)
    last = write(tmp_path, closed)
    assert [path for path in [*paths, last] if path.exists()] == [paths[2], paths[3], last]
    os.truncate(last, 300 << 20)
    newest = write(tmp_path, closed)
    assert [path for path in [*paths, last, newest] if path.exists()] == [newest]
