"""Losses in words: what, and who can bring it back."""

from __future__ import annotations

import pytest

from manactl.netstate import loss_words
from manactl.netstate.losses import Cause, Loss
from tests.unit.fakes import nexthop, route
from tests.unit.wording import wording

NAMES = {3: "eth1", 5: "eth0"}
WHAT = "192.0.2.0/24 dev eth1 proto static"


def test_every_cause_has_its_words() -> None:
    texts = {cause: loss_words.text(Loss(cause, route("192.0.2.0", 24)), NAMES) for cause in Cause}
    assert all(text.startswith(f"{WHAT} (") and text.endswith(")") for text in texts.values())
    with wording:
        assert len(set(texts.values())) == len(Cause)


@pytest.mark.wording
@pytest.mark.parametrize("cause", [Cause.ORDER, Cause.TAKEN_OVER])
def test_what_is_there_instead_is_named_with_its_device(cause: Cause) -> None:
    loss = Loss(cause, route("192.0.2.0", 24), nexthop(10, 5))
    assert loss_words.text(loss, NAMES).endswith(": nexthop id 10 dev eth0)")


@pytest.mark.wording
def test_the_nexthop_that_is_lost_is_named() -> None:
    loss = Loss(Cause.NEXTHOP, route("192.0.2.0", 24), nexthop=10)
    assert "nexthop id 10, which cannot be restored" in loss_words.text(loss, NAMES)
