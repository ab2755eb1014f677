"""A shell to run claim, release and recover in, over a machine in memory."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from manactl.act import signals
from manactl.cli.app import App
from tests.unit import schema
from tests.unit.host import FakeHost


class Shell:
    """Runs commands; `lines` is what the last one printed, `notes` what it warned of, `code` the
    exit code that it asked for."""

    def __init__(self, state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.state_dir = state_dir
        self.capsys = capsys
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.code = 0

    def run(self, command: click.Command, host: FakeHost, *words: str) -> None:
        app = App(str(self.state_dir), host=host)
        try:
            with host.alive():
                self.code = command.main(list(words), obj=app, standalone_mode=False) or 0
        finally:
            signals.restore()  # as main() does at its end
            out, err = self.capsys.readouterr()
            self.lines, self.notes = out.splitlines(), err.splitlines()

    @property
    def document(self) -> dict[str, object]:
        found = json.loads("\n".join(self.lines))
        assert isinstance(found, dict)
        schema.strict(found)
        return found
