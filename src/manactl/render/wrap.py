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
# What somebody copies whole: a command in backquotes, or what ends the line after a colon. Half of
# `manactl release eth1` is a command too, and releases everything.
_COMMAND = re.compile(r"`[^`]+`|(?<=: )manactl [^`:]+$")
_KEPT = "\0"  # instead of a space in it; lines have been through escape()


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

    Words are never cut, and commands only where one is longer than a line: they can be copied.
    """
    return [piece for line in lines for piece in _fold(line, width)]


def _fold(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    item = _ITEM.match(line)
    start = len(item[0]) if item else 0
    # Numbered items align with their text; others are set off from the next by the indent.
    indent = " " * (start if line[:start].strip() else start + _HANG)
    return wrap(line, width, indent if len(indent) < width // 2 else "")


def wrap(line: str, width: int, indent: str, *, cut: bool = False) -> list[str]:
    """The pieces of a line that has been through escape(), what follows behind `indent`.

    `cut`: a word that is longer than a line is, too.
    """

    def kept(command: re.Match[str]) -> str:
        fits = len(indent) + len(command[0]) < width  # with a comma after it
        return command[0].replace(" ", _KEPT) if fits else command[0]

    pieces = textwrap.wrap(
        _COMMAND.sub(kept, line),
        width,
        subsequent_indent=indent,
        break_long_words=cut,
        break_on_hyphens=False,
    )
    return [piece.replace(_KEPT, " ") for piece in pieces]
