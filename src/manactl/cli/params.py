"""Parameters that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from manactl.completion.offer import Which

    TextType = click.ParamType[str]
else:
    TextType = click.ParamType  # no generic class in click 8.1

_F = TypeVar("_F", bound=Callable[..., object])


class PortType(TextType):
    """A word for a port; `which` says what completion offers. The command finds the port."""

    name = "port"

    def __init__(self, which: Which) -> None:
        self._which = which

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from manactl.cli import complete  # noqa: PLC0415 - only a shell that completes asks

        return complete.ports(ctx, param, incomplete, self._which)


class GuardType(TextType):
    """The code of a guard that may be waived. The command knows which codes there are."""

    name = "code"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from manactl.cli import complete  # noqa: PLC0415 - only a shell that completes asks

        return complete.guard_codes(ctx, param, incomplete)


def complete_topic(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names for `manactl explain`, for click's shell_complete."""
    from manactl.cli import complete  # noqa: PLC0415 - only a shell that completes asks

    return complete.topics(ctx, param, incomplete)


PORT = PortType("all")
CLAIMABLE = PortType("claimable")
CLAIMED = PortType("claimed")
UNCONFIRMED = PortType("unconfirmed")
GUARD_CODE = GuardType()


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
