"""Which claims `manactl recover` has to do with."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from manactl.model.claim import ClaimSummary, NetnsId, Phase
from manactl.model.port import ClaimInfo, PortId

CLAIM = ClaimInfo(datetime(2026, 11, 22, tzinfo=UTC), {"uid": 0}, "claim", None, True, None)


@pytest.mark.parametrize(
    ("inode", "cookie", "initial"),
    [
        (0xF0000000, 1, True),
        (0xEFFFFFF9, 7, True),  # Linux 6.19 and later
        (0xEFFFFFF9, None, True),
        (0xF0000001, 7, False),
        (0xF0000001, None, None),
        (None, 7, False),
        (None, None, None),
    ],
)
def test_the_kernels_own_namespace_is_known_by_number(
    inode: int | None, cookie: int | None, initial: bool | None
) -> None:
    assert NetnsId(inode, cookie).is_initial is initial


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
    claim = ClaimSummary(port, CLAIM, Phase(phase), same_boot, Path("1.journal"))
    assert claim.to_recover is to_recover


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (NetnsId(7, 1), NetnsId(7, 1), True),
        (NetnsId(7, 1), NetnsId(7, 2), False),  # the number was given to another one
        (NetnsId(7, 1), NetnsId(8, 1), True),
        (NetnsId(7), NetnsId(7, 2), True),
        (NetnsId(7), NetnsId(8), False),
        (NetnsId(None), NetnsId(None), False),
        (NetnsId(None, 1), NetnsId(None, 1), True),
    ],
)
def test_one_network_namespace_or_two(first: NetnsId, second: NetnsId, same: bool) -> None:
    assert first.is_same(second) is second.is_same(first) is same
    claim = ClaimSummary(PortId("x", 1, None), CLAIM, Phase.CLAIMED, True, Path("x"), None, first)
    assert claim.is_of(second) is same
    assert claim._replace(netns=None).is_of(second)
