"""How a form becomes a pattern: what it matches, and what it must not."""

from __future__ import annotations

import pytest

from manactl.explain.topic import pattern


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("port <n> failed", "port 7 failed"),
        ("port <n> failed", "port -16 failed"),
        ("port <n> failed", "PORT  7 \t Failed"),
        ("port <n> failed", "[ 1.0] eth1: port 7 failed: why"),
        ("<name>: down", "eth1.5: down"),
        ("from <any> to", "from  to"),
        ("from <any> to", "from a b to"),
        ("(a.b)*", "x(a.b)*x"),
        ("ends <n>", "ends -1"),
        ("-<n>", "ret=-19"),
    ],
)
def test_a_message_matches_with_anything_around_it(form: str, text: str) -> None:
    assert pattern(form).search(text)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("port <n> failed", "port x failed"),
        ("port <n> failed", "report 7 failed"),  # the start of another word
        ("port <n> failed", "port 7 failedly"),
        ("port <n> failed", "port7failed"),
        ("<name>: down", ": down"),
        ("<name> down", "a  b downs"),
        ("a.b", "axb"),
        ("ends <n>", "ends 1x"),
        ("from <any> to", "to a from"),
    ],
)
def test_another_message_does_not(form: str, text: str) -> None:
    assert not pattern(form).search(text)


def test_anything_is_as_little_as_it_can_be() -> None:
    found = pattern("from <any> to").search("from a to b to")
    assert found is not None
    assert found[0] == "from a to"


def test_a_form_is_compiled_once() -> None:
    assert pattern("port <n>") is pattern("port <n>")
