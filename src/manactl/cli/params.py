"""Parameters that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., object])


def json_option(command: _F) -> _F:
    """--json: exactly one document on standard output, on failure too."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def color_option(command: _F) -> _F:
    """--color: `auto` is a terminal without NO_COLOR."""
    return click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        help="Colour on a terminal, always, or never.",
    )(command)
