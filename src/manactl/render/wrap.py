"""Long lines for people: wrapped where there is a terminal, whole where a program may read them."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterable
from typing import TextIO

_ITEM = re.compile(r" *(?:\d+\. )?")
_HANG = 2


def columns(stream: TextIO | None = None) -> int | None:
    """The width of the terminal that `stream` (standard output) is; None when it is none."""
    try:
        return os.get_terminal_size((stream or sys.stdout).fileno()).columns or 80
    except (OSError, ValueError):
        return None


def hanging(prefix: str, text: str, width: int | None) -> list[str]:
    """`text` behind `prefix`, its further lines indented as far; one line without a width."""
    if width is None:
        return [prefix + text]
    return textwrap.wrap(
        text,
        max(width, len(prefix) + 20),
        initial_indent=prefix,
        subsequent_indent=" " * len(prefix),
        break_long_words=False,
        break_on_hyphens=False,
    )


def fold(lines: Iterable[str], width: int) -> list[str]:
    """The lines in pieces of at most `width`, what follows hanging below the text of an item.

    Words are never cut: a command or an address stays one that can be copied.
    """
    return [piece for line in lines for piece in _fold(line, width)]


def _fold(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    item = _ITEM.match(line)
    start = len(item[0]) if item else 0
    # Numbered items align with their text; others are set off from the next by the indent.
    indent = " " * (start if line[:start].strip() else start + _HANG)
    return textwrap.wrap(
        line,
        width,
        subsequent_indent=indent if len(indent) < width // 2 else "",
        break_long_words=False,
        break_on_hyphens=False,
    )
