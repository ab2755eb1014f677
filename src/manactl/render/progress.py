"""A claim or release as it happens: a line a step, marked and with what it took.

Plain lines where the output is no terminal; on a terminal the same lines coloured, and a bar while
a step takes long or a holder is waited for. What is shown never changes what is done: output that fails is dropped.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Iterator, Mapping
from typing import TextIO, cast

from manactl.act.plan import Plan
from manactl.escape import escape
from manactl.render import plan as plan_lines
from manactl.render.wrap import columns, fold

DONE, FAILED = "ok", "failed"
THREAD = "manactl: step"
_LONG = 2.0  # s; a step that takes longer is shown while it runs


class Unfailing(io.TextIOBase):
    """A stream that hides its failures: rich ends the program when a reader has gone."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "ascii"

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class Plain:
    """Lines on `out`, notes on `err`. `quiet`: only the notes; `verbose`: the plan, too."""

    def __init__(
        self, out: TextIO, err: TextIO, *, quiet: bool = False, verbose: bool = False
    ) -> None:
        self._out = Unfailing(out)
        self._err = Unfailing(err)
        self._quiet = quiet
        self._verbose = verbose

    def planned(self, title: str, plan: Plan) -> None:
        for line in plan_lines.lines(plan) if self._verbose else ():
            self._line(line)

    @contextlib.contextmanager
    def doing(self, title: str) -> Iterator[None]:
        yield

    def ended(self, title: str, seconds: float, *, failed: bool) -> None:
        self._line(f"{FAILED if failed else DONE:<6}  {title} ({took(seconds)})")

    def noted(self, line: str) -> None:
        _write(self._err, f"manactl: {line}")

    @contextlib.contextmanager
    def waiting(self, what: str, seconds: float) -> Iterator[None]:
        self.noted(f"waiting up to {seconds:g} s for {what}")
        yield

    def _line(self, line: str) -> None:
        if not self._quiet:
            _write(self._out, line)


class Terminal(Plain):
    """The same on a terminal, by rich. To be made before the first act: importing takes time."""

    def __init__(
        self, out: TextIO, err: TextIO, *, verbose: bool = False, long: float = _LONG
    ) -> None:
        from rich import progress
        from rich.console import Console
        from rich.text import Text

        super().__init__(out, err, verbose=verbose)
        self._long = long
        self._console = Console(file=cast(TextIO, self._out), highlight=False)
        self._text = Text
        self._bar = progress

    def planned(self, title: str, plan: Plan) -> None:
        lines = plan_lines.lines(plan) if self._verbose else [title[:1].upper() + title[1:]]
        for line in lines:
            style = "" if line.startswith(" ") else "bold"
            for piece in fold([escape(line)], self._console.width):
                self._console.print(self._text(piece, style), soft_wrap=True)

    @contextlib.contextmanager
    def doing(self, title: str) -> Iterator[None]:
        """A bar from a thread, since a step may be one system call from its begin to its end."""
        over = threading.Event()

        def show() -> None:
            if not over.wait(self._long):
                with self._shown(title[:1].upper() + title[1:]):
                    over.wait()

        thread = threading.Thread(target=show, name=THREAD, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads: what is shown is not needed
            yield
            return
        try:
            yield
        finally:
            over.set()
            thread.join()

    def ended(self, title: str, seconds: float, *, failed: bool) -> None:
        mark = self._text("✗" if failed else "✓", "bold red" if failed else "bold green")
        text = self._text.assemble(mark, f" {escape(title)}  ", (took(seconds), "dim"))
        self._console.print(text, soft_wrap=True)

    @contextlib.contextmanager
    def waiting(self, what: str, seconds: float) -> Iterator[None]:
        self.noted(f"waiting up to {seconds:g} s for {what}")
        with self._shown("waiting"):
            yield

    @contextlib.contextmanager
    def _shown(self, what: str) -> Iterator[None]:
        """A bar with the time that has passed, gone at the end."""
        columns = (
            self._bar.TextColumn("{task.description}", markup=False),
            self._bar.BarColumn(bar_width=20),
            self._bar.TimeElapsedColumn(),
        )
        with self._bar.Progress(*columns, console=self._console, transient=True) as bar:
            bar.add_task(escape(what), total=None)
            yield


def follow(
    out: TextIO, err: TextIO, *, verbose: bool, environ: Mapping[str, str] = os.environ
) -> Plain:
    """What suits the output: colours and bars on a terminal that can show them."""
    if rich_terminal(out, environ):
        return Terminal(out, err, verbose=verbose)
    return Plain(out, err, verbose=verbose)


def rich_terminal(out: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether colours may be used: a terminal, not a dumb one, and NO_COLOR is not set."""
    encoding = (getattr(out, "encoding", None) or "").lower().replace("-", "")
    return (
        out.isatty()
        and not environ.get("NO_COLOR")
        and environ.get("TERM", "dumb") not in ("dumb", "unknown")
        and encoding.startswith("utf")
    )


def for_document(out: TextIO, err: TextIO) -> Plain:
    """With --json standard output is the document's alone."""
    return Plain(out, err, quiet=True)


def took(seconds: float) -> str:
    """ "3.2 ms", "1.4 s"."""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _write(stream: Unfailing, line: str) -> None:
    width = columns(cast(TextIO, stream))
    lines = fold([escape(line)], width) if width else [escape(line)]
    stream.write("".join(f"{piece}\n" for piece in lines))
    stream.flush()
