"""A finding as a document, and counts in words."""

from __future__ import annotations

import pytest

from manactl.doctor.finding import Finding, Level, count, fine


def test_a_finding_as_json() -> None:
    full = Finding("code", Level.FIX, "what", "why", ("one", "two"))
    assert full.to_json() == {
        "code": "code",
        "level": "mend",
        "what": "what",
        "why": "why",
        "mend": ["one", "two"],
    }
    assert fine("code", "what").to_json() == {
        "code": "code",
        "level": "fine",
        "what": "what",
        "why": None,
        "mend": [],
    }


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 ports"), (1, "1 port"), (2, "2 ports"), (21, "21 ports")]
)
def test_counts(number: int, words: str) -> None:
    assert count(number, "port") == words
