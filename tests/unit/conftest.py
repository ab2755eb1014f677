"""Property tests judge results, never how busy the machine is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.unit.machine import Machine, Make

settings.register_profile("manactl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("manactl")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Machines by the names of recordings, in a directory of the test."""
    return lambda recording: Machine(tmp_path / "machine", recording)
