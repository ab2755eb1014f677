"""What every command gets: where the state is, how to look, and the outlets for words.

Commands are registered in cli/main.py. A command module imports only click, errors and model at
its top; whatever costs time is imported inside the callback.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from manactl.render.escape import escape

STATE_DIR = Path("/var/lib/manactl")


@dataclass(frozen=True, slots=True)
class App:
    """The invocation as given before the command's name; click's `ctx.obj`."""

    state_dir: Path = STATE_DIR
    debug: bool = False

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
