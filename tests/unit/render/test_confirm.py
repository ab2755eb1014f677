"""What confirm says of each port."""

from __future__ import annotations

import pytest

from manactl.act.confirm import Confirmed, ConfirmedPort
from manactl.render import confirm
from tests.unit.fakes import PORT

pytestmark = pytest.mark.wording


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Confirmed.CONFIRMED, "eth1 is confirmed. When done: manactl release eth1"),
        (Confirmed.NOT_NEEDED, "eth1 is claimed and needs no confirmation: nothing to do"),
        (Confirmed.NOT_CLAIMED, "eth1 is not claimed: nothing to confirm"),
    ],
)
def test_each_port_gets_a_line(outcome: Confirmed, said: str) -> None:
    assert confirm.lines([ConfirmedPort(PORT, "eth1", outcome)]) == [said]


def test_nothing_may_wait() -> None:
    assert confirm.lines([]) == ["nothing waits to be confirmed"]
