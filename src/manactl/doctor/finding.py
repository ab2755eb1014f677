"""What a check reports."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


class Level(enum.StrEnum):
    """How bad it is. The values are words of `manactl.doctor/1`."""

    FIX = "mend"
    ADVICE = "advice"
    UNSEEN = "unseen"
    FINE = "fine"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `fix` are exact commands, in order."""

    code: str
    level: Level
    what: str
    why: str = ""
    fix: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "level": str(self.level),
            "what": self.what,
            "why": self.why or None,
            "mend": list(self.fix),
        }


def fine(code: str, what: str) -> Finding:
    return Finding(code, Level.FINE, what)


def count(number: int, what: str) -> str:
    """ "1 port", "2 ports"."""
    return f"{number} {what}" + ("" if number == 1 else "s")
