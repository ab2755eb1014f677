"""Parameters that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., object])


def complete_port(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Words for a PORT, for click's shell_complete."""
    from manactl.sources.names import words  # noqa: PLC0415 - only a shell that completes asks

    return words(incomplete)


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
