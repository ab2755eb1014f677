"""What every command gets: where the state is, how to look, and the outlets for words.

Commands are registered in cli/main.py. A command module imports only click, errors and model at
its top; whatever costs time is imported inside the callback.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TextIO

from manactl.render.escape import escape

if TYPE_CHECKING:
    from pathlib import Path

STATE_DIR = "/var/lib/manactl"


class App:
    """The invocation as given before the command's name; click's `ctx.obj`."""

    def __init__(self, state: str = STATE_DIR, debug: bool = False) -> None:
        self.state = state
        self.debug = debug

    @property
    def state_dir(self) -> Path:
        """Where journals and locks are."""
        from pathlib import Path  # noqa: PLC0415 - a tenth of the time of `--version`

        return Path(self.state)

    def out(self, *lines: str) -> None:
        """Lines for people on standard output; everything unprintable in them is spelled out."""
        _write_lines(sys.stdout, lines)

    def err(self, *lines: str) -> None:
        """Lines for people on standard error, equally harmless."""
        _write_lines(sys.stderr, lines)

    def document(self, document: Mapping[str, object]) -> None:
        """The one JSON document of this run on standard output."""
        from manactl.render.document import dumps  # noqa: PLC0415 - json only when asked for

        sys.stdout.write(dumps(document) + "\n")


def _write_lines(stream: TextIO, lines: Iterable[str]) -> None:
    stream.write("".join(escape(line) + "\n" for line in lines))
