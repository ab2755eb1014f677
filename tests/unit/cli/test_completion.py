"""Every place for a PORT completes ports, by click's own protocol."""

from __future__ import annotations

import pytest
from click.shell_completion import ShellComplete

from manactl.cli.main import cli
from manactl.sources import names


@pytest.mark.parametrize(
    "before", [["status"], ["status", "-v"], ["release"], ["claim", "--raw-qp"]]
)
def test_a_port_is_completed(monkeypatch: pytest.MonkeyPatch, before: list[str]) -> None:
    asked = []

    def words(start: str) -> list[str]:
        asked.append(start)
        return ["enP1"]

    monkeypatch.setattr(names, "words", words)
    shell = ShellComplete(cli, {}, "manactl", "_MANACTL_COMPLETE")
    assert [item.value for item in shell.get_completions(before, "en")] == ["enP1"]
    assert asked == ["en"]
