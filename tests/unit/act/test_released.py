"""What a release is asked for."""

from __future__ import annotations

from pathlib import Path

from manactl.act.released import ReleaseRequest


def test_a_recovery_is_called_so() -> None:
    assert ReleaseRequest(Path("x")).verb == "release"
    assert ReleaseRequest(Path("x"), recover=True).verb == "recover"
