"""What the NIC saw, in order; and what it must not have seen."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

Entry = dict[str, Any]
_HISTORY = 200_000
_VIOLATIONS = 1_000
_LINES = 5_000


class Record:
    """History and violations, each entry with a sequence number and a monotonic time (ns).

    Nothing is recorded per frame or doorbell: this holds what a test asks about.
    """

    def __init__(self, sink: Callable[[str], object] | None = None) -> None:
        self.history: deque[Entry] = deque(maxlen=_HISTORY)
        self.violations: list[Entry] = []
        self.lines: deque[str] = deque(maxlen=_LINES)
        self.sequence = 0
        # Set while the device itself made the driver lose step (it asked for a reset, say): what
        # is then left over or done twice is the driver's normal behaviour, and only history.
        self.excuse: str | None = None
        self._sink = sink

    def event(self, event: str, **facts: Any) -> Entry:
        self.sequence += 1
        entry: Entry = {"seq": self.sequence, "t": time.monotonic_ns(), "event": event, **facts}
        self.history.append(entry)
        self.log(f"{event} " + " ".join(f"{name}={value}" for name, value in facts.items()))
        return entry

    def violation(self, rule: str, detail: str, **facts: Any) -> None:
        """The driver, or this program, did what it must not. Excused ones become history."""
        if self.excuse is not None:
            self.event("excused", rule=rule, detail=detail, excuse=self.excuse, **facts)
            return
        entry = self.event("violation", rule=rule, detail=detail, **facts)
        if len(self.violations) < _VIOLATIONS:  # one flood must not eat the memory
            self.violations.append(entry)

    def log(self, text: str) -> None:
        line = f"{time.monotonic_ns() / 1e9:.6f} {text}"
        self.lines.append(line)
        if self._sink is not None:
            self._sink(line)

    def since(self, sequence: int) -> list[Entry]:
        """Entries after that sequence number, oldest first."""
        newer: list[Entry] = []
        for entry in reversed(self.history):
            if entry["seq"] <= sequence:
                break
            newer.append(entry)
        newer.reverse()
        return newer
