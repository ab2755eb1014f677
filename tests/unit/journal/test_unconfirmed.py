"""What status says of a claim that waits to be confirmed; the clock and /proc are the machine's."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from manactl.journal import file as journal
from manactl.journal import unconfirmed
from manactl.model.port import Note
from tests.unit.journal.test_interrupted import CLAIMED, RELEASING, written

GONE = 1 << 23  # above the kernel's largest pid (PID_MAX_LIMIT is 4 million)


def armed(left: float, *, guardian: int | None = None, **more: Any) -> tuple[str, dict[str, Any]]:
    return (
        "armed",
        {
            "guardian": os.getpid() if guardian is None else guardian,
            "deadline": time.clock_gettime(time.CLOCK_BOOTTIME) + left,
            "confirm_by": journal.stamp(datetime.now(UTC) + timedelta(seconds=left)),
            **more,
        },
    )


def only(state_dir: Path) -> Any:
    return journal.list_claims(state_dir, "b").claims[0]


@pytest.mark.parametrize(
    "started", [None, unconfirmed.started(os.getpid())], ids=["unknown", "known"]
)
def test_while_there_is_time_it_is_left(tmp_path: Path, started: int | None) -> None:
    when = armed(3600.2, started=started)
    written(tmp_path, [when, *CLAIMED])
    claim = only(tmp_path)
    until = datetime.fromisoformat(when[1]["confirm_by"])
    assert claim.waits == Note("unconfirmed", (f"{until:%H:%M:%S} UTC",))
    assert claim.claim.confirm_by == until
    assert not claim.to_recover


@pytest.mark.parametrize(
    ("left", "more"),
    [
        (3600, {"guardian": GONE}),
        (-5, {"guardian": GONE}),
        (3600, {"started": 1}),  # another process has its number now
    ],
)
def test_a_guardian_that_is_gone_is_missed(
    tmp_path: Path, left: float, more: dict[str, Any]
) -> None:
    written(tmp_path, [armed(left, **more), *CLAIMED])
    claim = only(tmp_path)
    assert claim.waits == Note("unguarded", (more.get("guardian", os.getpid()),))
    assert claim.to_recover is (left < 0)  # before that it is neither late nor interrupted


def test_what_is_late_is_told_to_go_back_as_soon_as_it_can(tmp_path: Path) -> None:
    written(tmp_path, [armed(-5), *CLAIMED])
    claim = only(tmp_path)
    assert claim.waits == Note("overdue")
    assert not claim.to_recover


@pytest.mark.parametrize(
    "events",
    [
        CLAIMED,
        [armed(60), *CLAIMED, ("confirmed", {"by": {"uid": 0}})],
        [("armed", {"guardian": GONE, "deadline": None}), *CLAIMED],  # it ends with its command
    ],
)
def test_what_needs_no_confirmation_waits_for_none(tmp_path: Path, events: Any) -> None:
    written(tmp_path, events)
    claim = only(tmp_path)
    assert (claim.waits, claim.claim.confirm_by, claim.to_recover) == (None, None, False)


MINE = {"runner": os.getpid(), "runner_started": unconfirmed.started(os.getpid())}


HERE = os.readlink("/proc/self/ns/pid")


def with_command(**more: Any) -> list[Any]:
    noted = {"guardian": GONE, "deadline": None, "pid_namespace": HERE, **more}
    return [("armed", noted), *CLAIMED]


@pytest.mark.parametrize(
    "more",
    [
        {"runner": GONE + 1},
        {**MINE, "runner_started": 1},  # another process has its number now
        {"guardian": os.getpid(), "started": 1, "runner": GONE + 1, "runner_started": None},
    ],
)
def test_who_would_release_it_after_its_command_is_gone(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    written(tmp_path, with_command(**more), mode="exec")
    claim = only(tmp_path)
    assert claim.waits == Note("orphaned", (more["runner"], more.get("guardian", GONE)))
    assert (claim.claim.confirm_by, claim.to_recover) == (None, True)


@pytest.mark.parametrize(
    "more",
    [
        MINE,
        {"runner": os.getpid()},
        {"runner": GONE, "guardian": os.getpid()},
        {},  # by a manactl that did not note itself
        # In a container: who has its pids here is another.
        {"runner": GONE + 1, "pid_namespace": "pid:[4026532999]"},
        {**MINE, "runner_started": 1, "pid_namespace": "pid:[4026532999]"},
        {"runner": GONE + 1, "pid_namespace": None},  # /proc was not there
    ],
)
def test_somebody_is_left_who_releases_it_after_its_command(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    written(tmp_path, with_command(**more), mode="exec")
    assert (only(tmp_path).waits, only(tmp_path).to_recover) == (None, False)


def test_who_is_hidden_by_proc_is_not_gone(tmp_path: Path) -> None:
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to(HERE)

    def told(runner: int) -> Note | None:
        (event, record), *_ = with_command(runner=runner)
        return unconfirmed.orphaned([{"event": event, **record}], str(tmp_path))

    assert told(os.getpid()) is None
    assert told(1) is None
    assert told(GONE + 1) == Note("orphaned", (GONE + 1, GONE))


def test_the_last_who_was_armed_counts(tmp_path: Path) -> None:
    """A guardian that was started anew: who ran before it has ended, and its pid may be reused."""
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to(HERE)
    for pid, start in ((41, 777), (42, 778)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (x) S 1" + " 0" * 17 + f" {start} 0 0\n")
    records = [
        {"event": event, **record}
        for started in (700, 777)
        for event, record in with_command(runner=41, runner_started=started, guardian=GONE)[:1]
    ]
    assert unconfirmed.orphaned(records, str(tmp_path)) is None
    assert unconfirmed.orphaned(records[::-1], str(tmp_path)) == Note("orphaned", (41, GONE))


def test_of_another_boot_nobody_is_missed(tmp_path: Path) -> None:
    written(tmp_path, with_command(runner=GONE), mode="exec")
    (claim, *_) = journal.list_claims(tmp_path, "another").claims
    assert claim.waits is None


def test_while_its_release_is_under_way_nobody_is_missed(tmp_path: Path) -> None:
    written(tmp_path, [*with_command(runner=GONE), RELEASING], mode="exec")
    assert only(tmp_path).waits is None


def test_what_is_not_claimed_yet_or_goes_back_has_its_own_note(tmp_path: Path) -> None:
    written(tmp_path / "a", [armed(60), *CLAIMED[:2]])
    written(tmp_path / "b", [armed(-5, guardian=GONE), *CLAIMED, RELEASING])
    for name in "ab":
        claim = only(tmp_path / name)
        assert claim.phase == "interrupted"
        assert claim.waits is None
        assert claim.next_step is not None


def test_of_another_boot_nothing_waits(tmp_path: Path) -> None:
    written(tmp_path, [armed(60), *CLAIMED])
    (claim, *_) = journal.list_claims(tmp_path, "another").claims
    assert (claim.waits, claim.claim.confirm_by) == (None, None)


def test_when_it_goes_back_is_told_by_the_clock_as_it_is_set_now(tmp_path: Path) -> None:
    """The clock was two hours fast when the claim was made."""
    event, record = armed(600)
    wrong = datetime.now(UTC) + timedelta(hours=2, seconds=600)
    written(tmp_path, [(event, {**record, "confirm_by": journal.stamp(wrong)}), *CLAIMED])
    found = only(tmp_path).claim.confirm_by
    assert abs((found - datetime.now(UTC)).total_seconds() - 600) < 60


def test_a_zombie_guards_nothing(tmp_path: Path) -> None:
    stat = "7 (a ) b) Z 1 " + " ".join(["0"] * 17) + " 4711 0"
    (tmp_path / "7").mkdir()
    (tmp_path / "7/stat").write_text(stat)
    waiting = unconfirmed.Waiting(0.0, datetime.now(UTC), 7, 4711)
    assert not waiting.guarded(str(tmp_path))
    (tmp_path / "7/stat").write_text(stat.replace(" Z ", " S "))
    assert waiting.guarded(str(tmp_path))
    assert not waiting._replace(started=4712).guarded(str(tmp_path))
    assert unconfirmed.started(7, str(tmp_path)) == 4711
    assert unconfirmed.started(8, str(tmp_path)) is None
