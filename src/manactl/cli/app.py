"""What every command gets: where the state is, how to look, and the outlets for words.

Commands are registered in cli/main.py. A command module imports only click, errors and model at
its top; whatever costs time is imported inside the callback.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TextIO

from manactl.escape import escape

if TYPE_CHECKING:
    from pathlib import Path

    from manactl.act.host import Host

STATE_DIR = "/var/lib/manactl"


class App:
    """The invocation as given before the command's name; click's `ctx.obj`."""

    def __init__(
        self, state: str = STATE_DIR, debug: bool = False, host: Host | None = None
    ) -> None:
        self.state = state
        self.debug = debug
        self._host = host

    @property
    def state_dir(self) -> Path:
        """Where journals and locks are."""
        from pathlib import Path  # noqa: PLC0415 - a tenth of the time of `--version`

        return Path(self.state)

    @property
    def host(self) -> Host:
        """The machine that commands act on: this one."""
        from manactl.act.host import LiveHost  # noqa: PLC0415 - for commands that change things

        return self._host or LiveHost()

    def out(self, *lines: str) -> None:
        """Lines for people on standard output; everything unprintable in them is spelled out."""
        _write_lines(sys.stdout, lines)

    def tell(self, *lines: str) -> None:
        """Sentences on standard output: on a terminal broken to fit, else one a line."""
        _write_lines(sys.stdout, lines, wrap=True)

    def err(self, *lines: str, wrap: bool = True) -> None:
        """Lines for people on standard error, equally harmless; on a terminal broken to fit."""
        _write_lines(sys.stderr, lines, wrap=wrap)

    def warn(self, line: str) -> None:
        """One line on standard error that says who speaks."""
        self.err(f"manactl: {line}")
        sys.stderr.flush()

    def document(self, document: Mapping[str, object]) -> None:
        """The one JSON document of this run on standard output."""
        from manactl.render.document import dumps  # noqa: PLC0415 - json only when asked for

        sys.stdout.write(dumps(document) + "\n")


def _write_lines(stream: TextIO, lines: Iterable[str], *, wrap: bool = False) -> None:
    harmless = [escape(line) for line in lines]
    if wrap:
        from manactl.render.wrap import columns, fold  # noqa: PLC0415 - not for a table

        width = columns(stream)
        harmless = fold(harmless, width) if width else harmless
    stream.write("".join(line + "\n" for line in harmless))
