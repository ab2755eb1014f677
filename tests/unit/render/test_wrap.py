"""Sentences broken to a terminal's width."""

from __future__ import annotations

import os
import pty

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manactl.cli.app import App
from manactl.render.wrap import columns, fold

WORDS = st.lists(st.text("abc.:-/", min_size=1, max_size=12), min_size=1, max_size=40)


@given(WORDS, st.sampled_from(["", "  ", "    ", "  12. "]), st.integers(30, 100))
def test_no_word_is_cut_or_lost_and_no_line_is_too_long(
    words: list[str], start: str, width: int
) -> None:
    pieces = fold([start + " ".join(words)], width)
    assert " ".join(pieces).split() == (start + " ".join(words)).split()
    assert all(len(piece) <= width for piece in pieces)
    assert pieces[0].startswith(start)


def test_what_follows_hangs_below_the_text_of_its_item() -> None:
    assert fold(["  3. set eth1 down (release sets it up)"], 30) == [
        "  3. set eth1 down (release",
        "     sets it up)",
    ]
    assert fold(["  upper: eth1: these devices are stacked"], 30) == [
        "  upper: eth1: these devices",
        "    are stacked",
    ]


def test_a_line_that_fits_is_left_alone() -> None:
    assert fold(["  a   b ", ""], 80) == ["  a   b ", ""]


def test_a_long_word_is_never_cut() -> None:
    assert fold(["see " + "x" * 50], 20) == ["see", "  " + "x" * 50]


@pytest.mark.parametrize(
    ("line", "pieces"),
    [
        (
            "eth1 is claimed already. When done: manactl release eth1",
            ["eth1 is claimed already. When done:", "  manactl release eth1"],
        ),
        (
            "the claim stands, left alone: `manactl release eth1`, which ends it",
            ["the claim stands, left alone:", "  `manactl release eth1`, which ends it"],
        ),
        (  # longer than a line
            "When done: manactl release eth1 eth2 eth3 eth4 eth5 eth6",
            ["When done: manactl release eth1 eth2 eth3", "  eth4 eth5 eth6"],
        ),
    ],
)
def test_a_command_stays_on_one_line_where_it_fits(line: str, pieces: list[str]) -> None:
    assert fold([line], 44) == pieces


def test_a_terminal_that_does_not_tell_has_80_columns() -> None:
    with open(os.devnull, "w") as null:
        assert columns(null) is None
    parent, child = pty.openpty()
    with open(parent, "rb"), open(child, "w") as terminal:
        assert columns(terminal) == 80  # 0 in its winsize


def test_a_pipe_gets_one_line_for_each_item(capsys: pytest.CaptureFixture[str]) -> None:
    long = "  tcp-established: " + "word " * 50
    App().wrapped(long)
    App().err(long)
    assert capsys.readouterr() == (long + "\n", long + "\n")
