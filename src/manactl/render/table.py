"""`status` on a terminal, with rich: the same cells and lines, coloured and fitted to the width."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from io import StringIO

from rich.cells import cell_len, set_cell_size  # noqa: TID253 - this module is for terminals only
from rich.console import Console  # noqa: TID253
from rich.text import Text  # noqa: TID253

from manactl.escape import escape
from manactl.model.port import Owner, PortStatus, Report
from manactl.render.changes import Key, key
from manactl.render.status import GAP, HEADER, NOBODY, below, lacks_carrier, row

OWNER_STYLE = {
    Owner.ETHERNET: "green",
    Owner.RAW_QP: "cyan",
    Owner.FREE: "",
    Owner.UNKNOWN: "bold yellow",
}
# Columns of any length, and how far each gives way; a port's own name is the last to go.
NAMES = (("HELD BY", 14), ("RDMA", 10), ("HELD BY", 7), ("RDMA", 4), ("PORT", 4))


def show(report: Report, ports: Sequence[PortStatus], *, verbose: bool, force_color: bool) -> None:
    """Print to standard output. Cells are Text, never markup: brackets in a name stay brackets."""
    console = Console(
        file=sys.stdout, force_terminal=True if force_color else None, highlight=False
    )
    if console.width < 1:  # COLUMNS=0
        console.width = 80
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
        console.print(Text(line.text, style="yellow" if line.warns else ""), soft_wrap=True)


def _table(
    ports: Sequence[PortStatus], width: int, marked: Collection[Key] | None
) -> Iterator[Text]:
    # Not rich's Table: short of room it drops whole columns, the owner's first.
    rows = [row(port) for port in ports]
    room = width - (GAP if marked is not None else 0)
    widths = fit([HEADER, *rows], room)
    more = _more(ports, room - sum(widths) - GAP * (len(widths) - 1))
    header = [*HEADER, *(column[0] for column in more)]
    widths += [max(map(cell_len, column)) for column in more]
    yield _line(header, widths, ["bold"] * len(header), "" if marked is None else " " * GAP)
    for number, (port, cells) in enumerate(zip(ports, rows, strict=True), 1):
        styles = {
            "owner": OWNER_STYLE[port.owner],
            "link": "red" if lacks_carrier(port) else "",
            "claim": "magenta" if port.claim else "",
        }
        mark = "" if marked is None else ("*" if key(port) in marked else "").ljust(GAP)
        shown = [*cells, *(column[number] for column in more)]
        fields = [*cells._fields, *("more" for _ in more)]
        yield _line(shown, widths, [styles.get(field, "") for field in fields], mark)


def _more(ports: Sequence[PortStatus], room: int) -> list[list[str]]:
    """Columns for which there is room, and something to say; each with its heading first."""
    found = []
    for heading, cell_of in EXTRA:
        column = [heading, *(escape(cell_of(port) or NOBODY) for port in ports)]
        width = max(map(cell_len, column)) + GAP
        if width <= room and set(column[1:]) != {NOBODY}:
            found.append(column)
            room -= width
    return found


def _upper(port: PortStatus) -> str | None:
    if port.upper is None or port.pair:  # of a pair PORT has both names
        return None
    return f"{port.upper.netdev} ({port.upper.kind})" if port.upper.kind else port.upper.netdev


def _where(port: PortStatus) -> str | None:
    """The unit or container of the first holder, the one that HELD BY names."""
    first = port.holders[0] if port.holders else None
    if first is None:
        return None
    return first.unit or (first.container and first.container[:12])


# On wide terminals, the most telling first.
EXTRA: tuple[tuple[str, Callable[[PortStatus], str | None]], ...] = (
    ("UNIT", _where),
    ("UPPER", _upper),
    ("PCI:PORT", lambda port: str(port.id)),
)


def fit(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Widths of the columns. Names give way in the order of NAMES, no other column does."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    over = sum(widths) + GAP * (len(widths) - 1) - width
    for name, least in NAMES:
        column = HEADER.index(name)
        cut = min(max(widths[column] - least, 0), max(over, 0))
        widths[column] -= cut
        over -= cut
    return widths  # still too wide for a very narrow terminal: the right end is cut


def _line(
    cells: Sequence[str], widths: Sequence[int], styles: Sequence[str], mark: str = ""
) -> Text:
    line = Text(mark, style="")
    for cell, width, style in zip(cells, widths, styles, strict=True):
        text = Text(shortened(cell, width), style=style)
        text.truncate(width, overflow="ellipsis", pad=True)
        line.append_text(text).append(" " * GAP)
    line.rstrip()
    return line


def shortened(cell: str, width: int) -> str:
    """A name gives way to the number after it: a holder's pid, the port of an RDMA device."""
    number = re.search(r"( \d+( \+\d+)?|/\d+)$", cell)
    if number is None or cell_len(cell) <= width:
        return cell
    name = set_cell_size(cell[: number.start()], max(width - len(number[0]) - 1, 1))
    return f"{name.rstrip()}…{number[0]}"
