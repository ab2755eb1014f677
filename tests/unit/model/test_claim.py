"""Which claims `manactl recover` has to do with."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from manactl.model.claim import ClaimSummary
from manactl.model.port import ClaimInfo, PortId

CLAIM = ClaimInfo(datetime(2026, 11, 22, tzinfo=UTC), {"uid": 0}, "claim", None, True, None)


@pytest.mark.parametrize(
    ("phase", "same_boot", "to_recover"),
    [
        ("claimed", True, False),
        ("claimed", False, True),
        ("interrupted", True, True),
        ("interrupted", False, True),
    ],
)
def test_what_there_is_to_recover(phase: str, same_boot: bool, to_recover: bool) -> None:
    port = PortId("7870:00:00.0", 1, None)
    claim = ClaimSummary(port, CLAIM, phase, same_boot, Path("1.journal"))
    assert claim.to_recover is to_recover
