"""Why a netdev came up, by what is known."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from manactl.decide.opened import cause
from manactl.model.hold import Cause, Opener
from manactl.model.port import Holder

IP = Opener(Holder(77, "ip", None, 0, None, None, datetime(2026, 11, 22, tzinfo=UTC)), False, 1.0)
WORKER = Opener(Holder(12, "kworker/1:2", None, 0, None, None, None), True, 1.0)


@pytest.mark.parametrize(
    ("openers", "announced", "made_anew", "above_up", "expected"),
    [
        ((IP,), True, False, None, Cause.PROCESS),
        ((IP,), True, True, True, Cause.PROCESS),
        ((WORKER, IP), True, True, True, Cause.PROCESS),
        ((WORKER,), True, False, True, Cause.NETVSC),
        ((WORKER,), True, True, False, Cause.PROCESS),  # the kernel, but not hv_netvsc
        ((WORKER,), True, False, None, Cause.PROCESS),
        ((), True, True, True, Cause.NETVSC),
        ((), True, True, False, Cause.UNKNOWN),
        ((), True, False, True, Cause.UNKNOWN),
        ((), True, False, None, Cause.UNKNOWN),
        ((), False, False, None, Cause.FOUND),
        ((), False, True, True, Cause.NETVSC),
    ],
)
def test_cause(
    openers: tuple[Opener, ...],
    announced: bool,
    made_anew: bool,
    above_up: bool | None,
    expected: Cause,
) -> None:
    assert cause(openers, announced=announced, made_anew=made_anew, above_up=above_up) is expected
