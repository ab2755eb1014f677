"""Notes are known by their codes, whatever they read as."""

from __future__ import annotations

import pytest

from manactl.decide.port_words import note
from manactl.model.port import Note, NoteCode
from tests.lab.notes import ANY, is_note, noted
from tests.unit.wording import wording

LINES = [
    note(one)
    for one in (
        Note("drift-recreated", (3, 14)),
        Note("eqs-lost", (True,)),
        Note("bond-danger", ("eth1", "bond1")),
        Note("claim-interrupted", (Note("recover-sets-up", ("eth1", "2 addresses")),)),
    )
]


@pytest.mark.parametrize(
    ("at", "code", "names"),
    [
        (0, "drift-recreated", (3, 14)),
        (0, "drift-recreated", (ANY, ANY)),
        (1, "eqs-lost", (True,)),
        (2, "bond-danger", (ANY, "bond1")),
        (3, "claim-interrupted", (ANY,)),
        (3, "claim-interrupted", (note(Note("recover-sets-up", (ANY, ANY))),)),
    ],
)
def test_a_note_is_known_by_its_code_and_what_it_names(
    at: int, code: NoteCode, names: tuple[object, ...]
) -> None:
    assert is_note(LINES[at], code, *names)
    assert noted(LINES, code, *names)
    with wording:  # with other words some are the same
        assert [is_note(line, code, *names) for line in LINES].count(True) == 1


@pytest.mark.wording
def test_others_are_told_apart_by_what_they_name() -> None:
    assert not noted(LINES, "drift-recreated", 3, 15)
    assert not noted(LINES, "bond-danger", ANY, "bond2")
    assert not noted(LINES, "drift-up")
