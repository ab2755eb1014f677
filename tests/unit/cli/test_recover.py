"""What `manactl recover` prints, over a machine in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from manactl.cli.recover import recover
from tests.unit.cli.shell import Shell
from tests.unit.host import (
    FakeHost,
    Fate,
    Killed,
    furnished,
)
from tests.unit.host import claim as claimed


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


def test_what_was_interrupted_is_recovered(shell: Shell) -> None:
    kernel = furnished()
    with pytest.raises(Killed):
        claimed(shell.state_dir, FakeHost(kernel, Fate(dies_at=9, half=True)))
    shell.run(recover, FakeHost(kernel), "--dry-run")
    assert shell.lines[0] == "Plan:"
    shell.run(recover, FakeHost(kernel))
    assert shell.lines[-1].startswith("eth1 recovered: up")
    shell.run(recover, FakeHost(kernel))
    assert shell.lines == ["nothing to recover"]
