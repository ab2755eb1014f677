"""A claim that is released automatically, unless it is confirmed or when its command has ended, as
its journal has it. Cheap: `status` asks.

Only CLOCK_BOOTTIME counts: it goes on while the machine is suspended, and nobody can set it. The
time of day in the journal is for people, and right as long as nobody has set the clock.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from manactl.look.procfs import stat_of
from manactl.look.text_files import target
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import Note
from manactl.model.record import Event

_SAME = 1.0  # s of difference to the clock that are nobody's doing


class Waiting(NamedTuple):
    """What it waits for: a confirmation before `deadline`, in seconds of CLOCK_BOOTTIME.

    `noted` is that moment as the clock showed it when the claim began. `guardian` is the pid of who
    takes the claim back, `started` when that began, in clock ticks since boot; None: not noted.
    """

    deadline: float
    noted: datetime
    guardian: int
    started: int | None

    @property
    def left(self) -> float:
        """Seconds until it is released; below zero when that is due."""
        return self.deadline - time.clock_gettime(time.CLOCK_BOOTTIME)

    @property
    def confirm_by(self) -> datetime:
        """When it is released, by the clock as it is set now."""
        by_clock = datetime.now(UTC) + timedelta(seconds=self.left)
        off = abs((by_clock - self.noted).total_seconds())
        return self.noted if off < _SAME else by_clock

    def guarded(self, proc: str = "/proc") -> bool:
        """Whether its guardian lives."""
        return _lives(self.guardian, self.started, proc)

    def note(self, proc: str = "/proc") -> Note:
        """What the operator should know of it."""
        if not self.guarded(proc):
            return Note("unguarded", (self.guardian,))
        if self.left <= 0:
            return Note("overdue")
        # The moment and not what is left: a note that is new each second is no news.
        return Note("unconfirmed", (f"{self.confirm_by:%H:%M:%S} UTC",))


def orphaned(records: Iterable[Mapping[str, Any]], proc: str = "/proc") -> Note | None:
    """Of a claim that ends with its command: what to know when nobody is left who would release
    it, neither the manactl that runs the command nor its guardian. None for others, for one by a
    manactl that did not note itself, and where its pids are not known: in another pid namespace (a
    container) they are those of other processes here."""
    armed = [one for one in records if one["event"] == Event.ARMED]
    if not armed or armed[-1].get("deadline") is not None or armed[-1].get("runner") is None:
        return None
    theirs = armed[-1].get("pid_namespace")
    if theirs is None or theirs != pid_namespace(proc):
        return None
    guardian, runner = int(armed[-1]["guardian"]), int(armed[-1]["runner"])
    if _lives(guardian, armed[-1].get("started"), proc):
        return None
    if _lives(runner, armed[-1].get("runner_started"), proc):
        return None
    return Note("orphaned", (runner, guardian))


def _lives(pid: int, started: int | None, proc: str) -> bool:
    """What /proc hides from us (hidepid) is taken for it."""
    stat = stat_of(f"{proc}/{pid}")
    if stat.starttime is None:
        return _exists(pid)
    return stat.state not in ("Z", "X") and started in (None, stat.starttime)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


def started(pid: int, proc: str = "/proc") -> int | None:
    """When a process was started, in clock ticks since boot: with its pid it is that process. None
    when it cannot be read."""
    return stat_of(f"{proc}/{pid}").starttime


def pid_namespace(proc: str = "/proc") -> str | None:
    """Where pids are those of this process ("pid:[4026531836]"). None when it cannot be read."""
    return target(f"{proc}/self/ns/pid")


def of(records: Iterable[Mapping[str, Any]]) -> Waiting | None:
    """What a claim with these records waits for; None when it stays, or ends with a command."""
    found: Waiting | None = None
    for record in records:
        if record["event"] == Event.ARMED and record.get("deadline") is not None:
            found = Waiting(
                float(record["deadline"]),
                datetime.fromisoformat(record["confirm_by"]),
                int(record["guardian"]),
                record.get("started"),
            )
        elif record["event"] == Event.CONFIRMED:
            found = None
    return found
