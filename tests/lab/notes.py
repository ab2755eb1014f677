"""Notes and drift by their codes. `status --json` has their sentences, and port_words.py of this
checkout makes them again, in whichever words both have (MANACTL_WORDS)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from manactl.decide.port_words import note
from manactl.model.port import Note, NoteCode

ANY = "\0"  # for a name that does not matter, or that cannot be known


def is_note(line: str, code: NoteCode, *names: object) -> bool:
    """Whether a line is the note of that code which names these."""
    pattern = re.escape(note(Note(code, names))).replace(ANY, ".*")
    return re.fullmatch(pattern, line) is not None


def noted(lines: Iterable[str], code: NoteCode, *names: object) -> bool:
    """Whether one of the lines is."""
    return any(is_note(line, code, *names) for line in lines)
