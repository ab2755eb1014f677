"""What is noted while something goes on."""

from __future__ import annotations

import pytest

from manactl.act import progress_words as words

pytestmark = pytest.mark.wording


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.await_holders("pid 7 testpmd"), "pid 7 testpmd to end"),
        (words.await_holders(""), "a holder to end"),
        (
            words.signalled("pid 7 x", None, 2.5),
            "SIGTERM sent to pid 7 x; waiting up to 2.5 s",
        ),
        (
            words.signalled("pid 7 x", "x.service", 10.0),
            "SIGTERM sent to pid 7 x, of x.service; waiting up to 10 s",
        ),
        (words.changed_meanwhile("eth1", "a"), "eth1: changed meanwhile (a); judged again"),
        (words.not_done("set eth1 up", 2.4, "why"), "set eth1 up: not done after 2 s: why"),
        (words.look_missing("eth1, eth2"), "look at what is missing on eth1, eth2"),
        (words.in_kernel("rtnl_lock"), "the kernel is in rtnl_lock"),
    ],
)
def test_what_is_said(said: str, expected: str) -> None:
    assert said == expected


def test_a_claim_that_stands_is_told_with_its_end() -> None:
    said = words.drifted("eth1", ["a", "b"], "manactl release eth1")
    assert said.startswith("eth1: a; b. The claim stands")
    assert "`manactl release eth1` ends it" in said
