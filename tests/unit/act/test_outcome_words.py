"""How a claim or a release ended."""

from __future__ import annotations

import pytest

from manactl.act import outcome_words as words
from manactl.model.port import Holder
from tests.unit.wording import wording

KNOWN = Holder(7, "dpdk-testpmd", None, 0, None, None, None)
NAMELESS = KNOWN._replace(pid=8, comm=None)


def test_holders_are_named_in_brackets_or_not_at_all() -> None:
    assert words.named([KNOWN, NAMELESS]) == " (pid 7 dpdk-testpmd, pid 8 ?)"
    assert words.named([]) == ""


@pytest.mark.wording
def test_residue_comes_first_then_what_is_back() -> None:
    assert words.not_restored(["a", "b"], ["eth2"], None) == [
        "Not restored:", "  a", "  b", "All of eth2 is restored and verified.",
    ]  # fmt: skip
    assert words.not_restored([], [], "No space left") == [
        "The journal could not be written: No space left.",
        "What was on the port is restored and verified.",
    ]


@pytest.mark.wording
def test_all_is_back_but_for_what_is_lost_or_comes_by_itself() -> None:
    assert words.restored([], []) == ["Everything is restored and verified."]
    assert words.restored(["a"], ["b"]) == [
        "All else is restored and verified.",
        "  comes with the next router advertisement: a",
        "  cannot be restored: b",
    ]


@pytest.mark.wording
def test_a_journal_that_was_closed_is_named_with_the_reason() -> None:
    assert words.stale_closed("a.journal") == "a.journal, of an earlier boot, was closed"
    assert words.put_away("a.journal") == "a.journal, with nothing left to undo, was closed"


@pytest.mark.wording
def test_residue_may_be_accepted() -> None:
    alone = "when it cannot be fixed: manactl recover --accept eth1 --accept 'a b'"
    assert words.acceptance_alone(["eth1", "a b"]) == alone
    assert words.acceptance(["eth1", "a b"]) == f"or, {alone}"


@pytest.mark.wording
@pytest.mark.parametrize(
    ("terminated", "names", "accepted", "expected"),
    [
        (None, [], False, "nothing was changed"),
        ("pid 7 x", [], False, "SIGTERM was sent to pid 7 x; no port was changed"),
        (None, ["eth1"], False, "eth1 was released; no other port was changed"),
        (None, ["eth1", "eth2"], True, "eth1, eth2 were accepted; no other port was changed"),
    ],
)
def test_what_was_done_before_a_signal_is_said(
    terminated: str | None, names: list[str], accepted: bool, expected: str
) -> None:
    said = words.interrupted_after("SIGINT", terminated, names, accepted=accepted)
    assert said == f"interrupted by SIGINT; {expected}"


@pytest.mark.wording
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], "nothing was changed"),
        (["eth1", "eth2"], "confirmed: eth1, eth2; no other claim was changed"),
    ],
)
def test_so_it_is_with_confirm(names: list[str], expected: str) -> None:
    said = words.interrupted_confirming("SIGTERM", names)
    assert said == f"interrupted by SIGTERM; {expected}"


@pytest.mark.wording
@pytest.mark.parametrize(
    ("residue", "what"),
    [(True, "not fully restored"), (False, "restored, but its journal is still open")],
)
def test_what_is_left_to_do_is_said(residue: bool, what: str) -> None:
    assert words.not_clean("eth1", residue=residue) == f"eth1: {what}"


@pytest.mark.wording
@pytest.mark.parametrize(("untouched", "rest"), [(True, "; no port was changed"), (False, "")])
def test_who_does_not_end_is_told_with_what_was_done(untouched: bool, rest: str) -> None:
    said = words.not_enough("held", "pid 7 x", 10.0, untouched=untouched)
    assert said == f"held{rest}\nSIGTERM was sent to pid 7 x and 10 s were waited for"


def test_of_another_namespace_so_many_facts_are_shown() -> None:
    said = words.of_namespace("eth1", "network namespace blue", ["a", "b", "c"], 2).split("\n")
    with wording:
        assert said[1:] == [
            "Not restored, what belonged to that namespace:", "  a", "  b", "  and 1 more, all in the journal",
        ]  # fmt: skip
    assert "\n" not in words.of_namespace("eth1", "network namespace blue", [], 2)
