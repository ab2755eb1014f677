"""What every command gets: the state directory, the machine, and the outlets for its output.

Commands are registered in cli/main.py. A command module imports only click, errors and model at
its top; whatever costs time is imported inside the callback.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TextIO

from manactl.errors import strerror
from manactl.escape import escape

if TYPE_CHECKING:
    from pathlib import Path

    from manactl.act.host import Host
    from manactl.act.progress import Progress

STATE_DIR = "/var/lib/manactl"


class App:
    """The invocation as given before the command's name; click's `ctx.obj`.

    `unfailing`: what is printed is the report of something done, whose exit code stands whether
    or not anybody can read it. Otherwise printing is the work itself, and fails with OSError.
    `changed`: what a signal that nobody else hears leaves, in words.
    `exec_mode`: there is a command to run, whose exit code ours is; failures of ours have another.
    """

    def __init__(
        self, state: str = STATE_DIR, debug: bool = False, host: Host | None = None
    ) -> None:
        self.state = state
        self.debug = debug
        self._host = host
        self.unfailing = False
        self.exec_mode = False
        self.changed = "nothing was changed"

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

    def progress(self, *, as_json: bool, verbose: bool) -> Progress:
        """Where a claim or release is shown as it happens; with --json only its notes are."""
        from manactl.render import progress  # noqa: PLC0415 - for commands that change things

        if as_json:
            return progress.for_document(sys.stdout, sys.stderr)
        return progress.follow(sys.stdout, sys.stderr, verbose=verbose)

    def out(self, *text: str) -> None:
        """Lines for people on standard output; everything unprintable in them is spelled out."""
        self._print(lines(text))

    def wrapped(self, *text: str) -> None:
        """Sentences on standard output: folded to a terminal's width, else each on its line."""
        self._print(lines(text, sys.stdout))

    def err(self, *text: str, wrap: bool = True) -> None:
        """Lines for people on standard error, escaped too; folded to a terminal's width.

        Never raises: a failure to print changes nothing that was done.
        """
        try:
            sys.stderr.write(lines(text, sys.stderr if wrap else None))
            sys.stderr.flush()
        except (OSError, ValueError):
            _drop(sys.stderr)

    def warn(self, line: str) -> None:
        """A line on standard error that begins with the program's name."""
        self.err(f"manactl: {line}")

    def document(self, document: Mapping[str, object]) -> None:
        """The one JSON document of this run on standard output."""
        from manactl.render.document import dumps  # noqa: PLC0415 - json only when asked for

        self._print(dumps(document) + "\n")

    def flush(self) -> None:
        """Have readers of standard output see what was printed."""
        self._print("", flush=True)

    def lose_output(self, error: OSError) -> None:
        """Standard output cannot be written any more: report it, and drop what comes."""
        if not isinstance(error, BrokenPipeError):
            self.err(f"manactl: standard output: {strerror(error)}")
        _drop(sys.stdout)

    def _print(self, text: str, *, flush: bool = False) -> None:
        try:
            sys.stdout.write(text)
            if flush:
                sys.stdout.flush()
        except OSError as error:
            if not self.unfailing:
                raise
            self.lose_output(error)


def _drop(stream: TextIO) -> None:
    """Redirect a stream to /dev/null: what it still holds would fail again when the interpreter
    ends, and change the exit code."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, stream.fileno())
        os.close(null)


def lines(text: Iterable[str], fit: TextIO | None = None) -> str:
    """The text of harmless lines, folded where the stream that they `fit` is a terminal."""
    harmless = [escape(line) for line in text]
    if fit is not None:
        # Where there is no descriptor left to load it with, it is said all the same.
        with contextlib.suppress(OSError, ImportError):
            from manactl.render.wrap import columns, fold  # noqa: PLC0415 - not for a table

            width = columns(fit)
            harmless = fold(harmless, width) if width else harmless
    return "".join(line + "\n" for line in harmless)
