"""How much is told of a program that sets a port up again and again; pure but for its memory.

What is limited is the telling alone: each attempt is undone at once. Attempts that came to
something else are counted apart, so that a sum says what is true of each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import datetime

from manactl.model.hold import Attempt, Storm

ONE_BY_ONE = 5  # attempts that are told each, ...
CALM = 10.0  # ... until for so long, s, there was none; while there are, a sum so often


class Telling:
    """Attempts go in; what is to be told now comes out."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock  # s, steady
        self._seen: dict[Hashable, _Seen] = {}

    def add(self, attempt: Attempt) -> Attempt | None:
        """The attempt, when it is to be told by itself."""
        now = self._clock()
        kind = (attempt.target, attempt.outcome, attempt.still)
        seen = self._seen.get(kind)
        if seen is None or (not seen.untold and now - seen.last >= CALM):
            seen = self._seen[kind] = _Seen(now)
        seen.last = now
        seen.told += 1
        if seen.told <= ONE_BY_ONE:
            return attempt
        if not seen.untold:
            seen.due = now + CALM
            seen.since = attempt.time
        seen.untold += 1
        seen.attempt = attempt
        return None

    def due(self, *, everything: bool = False) -> list[Storm]:
        """The sums that are due."""
        now = self._clock()
        found = []
        for seen in self._seen.values():
            if seen.attempt is not None and seen.untold and (everything or now >= seen.due):
                end = seen.attempt.time
                found.append(Storm(end, seen.since or end, seen.untold, seen.attempt))
                seen.untold = 0
        return found

    @property
    def next_due(self) -> float | None:
        """When there is something to tell, by the clock."""
        return min((seen.due for seen in self._seen.values() if seen.untold), default=None)


class _Seen:
    def __init__(self, now: float) -> None:
        self.last = now
        self.told = self.untold = 0
        self.due = now
        self.since: datetime | None = None
        self.attempt: Attempt | None = None
