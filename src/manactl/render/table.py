"""`status` on a terminal, with rich: the same cells and lines, coloured and fitted to the width."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from io import StringIO

from rich.cells import cell_len  # noqa: TID253 - this module is loaded for terminals only
from rich.console import Console  # noqa: TID253
from rich.text import Text  # noqa: TID253

from manactl.model import PortStatus, Report
from manactl.render.changes import Key, key
from manactl.render.status import DRIFT, GAP, HEADER, below, row

OWNER_STYLE = {"ethernet": "green", "raw-qp": "cyan", "free": "", "unknown": "bold yellow"}
NAMES = ("PORT", "RDMA", "HELD BY")  # of any length; the other columns are never cut
LINK_STYLE = {"no carrier": "red"}


def show(report: Report, ports: Sequence[PortStatus], *, verbose: bool, force_color: bool) -> None:
    """Print to standard output. Cells are Text, never markup: brackets in a name stay brackets."""
    console = Console(
        file=sys.stdout, force_terminal=True if force_color else None, highlight=False
    )
    _print(console, report, ports, verbose, None)


def lines(
    report: Report,
    ports: Sequence[PortStatus],
    *,
    verbose: bool,
    width: int,
    color: bool,
    marked: Collection[Key],
) -> list[str]:
    """The same for a screen of `width` columns, with a mark before each of the `marked` ports."""
    text = StringIO()
    console = Console(file=text, force_terminal=color, width=width, highlight=False)
    _print(console, report, ports, verbose, marked)
    return text.getvalue().splitlines()


def _print(
    console: Console,
    report: Report,
    ports: Sequence[PortStatus],
    verbose: bool,
    marked: Collection[Key] | None,
) -> None:
    if ports:
        for text in _table(ports, console.width, marked):
            console.print(text, no_wrap=True, overflow="crop")
    for line in below(report, ports, verbose=verbose, width=console.width):
        console.print(Text(line, style=_line_style(line)), soft_wrap=True)


def _table(
    ports: Sequence[PortStatus], width: int, marked: Collection[Key] | None
) -> Iterator[Text]:
    # Not rich's Table: short of room it drops whole columns, the owner's first.
    rows = [row(port) for port in ports]
    widths = fit([HEADER, *rows], width - (GAP if marked is not None else 0))
    yield _line(HEADER, widths, ["bold"] * len(HEADER), "" if marked is None else " " * GAP)
    for port, cells in zip(ports, rows, strict=True):
        styles = {
            "owner": OWNER_STYLE.get(cells.owner, ""),
            "link": LINK_STYLE.get(cells.link, ""),
            "claim": "magenta" if port.claim else "",
        }
        mark = "" if marked is None else ("*" if key(port) in marked else "").ljust(GAP)
        yield _line(cells, widths, [styles.get(field, "") for field in cells._fields], mark)


def fit(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Widths of the columns: names give way, the widest first, but none below its heading."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    room = width - GAP * (len(widths) - 1)
    names = [HEADER.index(name) for name in NAMES]
    while sum(widths) > room:
        widest = max(names, key=lambda column: widths[column] - len(HEADER[column]))
        if widths[widest] <= len(HEADER[widest]):
            break  # narrower than any table: its right end is cut
        widths[widest] -= 1
    return widths


def _line(
    cells: Sequence[str], widths: Sequence[int], styles: Sequence[str], mark: str = ""
) -> Text:
    line = Text(mark, style="")
    for cell, width, style in zip(cells, widths, styles, strict=True):
        text = Text(cell, style=style)
        text.truncate(width, overflow="ellipsis", pad=True)
        line.append_text(text).append(" " * GAP)
    line.rstrip()
    return line


def _line_style(line: str) -> str:
    return "yellow" if f": {DRIFT}" in line or line.startswith("not read") else ""
