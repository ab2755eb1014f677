"""`status` on a terminal, with rich: the same cells and lines, coloured and fitted to the width."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from io import StringIO

from rich.console import Console  # noqa: TID253 - this module is loaded for terminals only
from rich.table import Table  # noqa: TID253
from rich.text import Text  # noqa: TID253

from manactl.model import PortStatus, Report
from manactl.render.changes import Key, key
from manactl.render.status import DRIFT, GAP, HEADER, below, row

OWNER_STYLE = {"ethernet": "green", "raw-qp": "cyan", "free": "", "unknown": "bold yellow"}
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
        console.print(_table(ports, marked))
    for line in below(report, ports, verbose=verbose, width=console.width):
        console.print(Text(line, style=_line_style(line)), soft_wrap=True)


def _table(ports: Sequence[PortStatus], marked: Collection[Key] | None) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    if marked is not None:
        table.add_column("", no_wrap=True, width=1)
    for name in HEADER:
        # rich shortens the widest cells first; none below its heading.
        table.add_column(name, no_wrap=True, overflow="ellipsis", min_width=len(name))
    for port in ports:
        cells = row(port)
        styles = {
            "owner": OWNER_STYLE.get(cells.owner, ""),
            "link": LINK_STYLE.get(cells.link, ""),
            "claim": "magenta" if port.claim else "",
        }
        mark = [] if marked is None else [Text("*" if key(port) in marked else "", style="bold")]
        table.add_row(
            *mark,
            *(
                Text(cell, style=styles.get(field, ""))
                for field, cell in zip(cells._fields, cells, strict=True)
            ),
        )
    return table


def _line_style(line: str) -> str:
    return "yellow" if f": {DRIFT}" in line or line.startswith("not read") else ""
