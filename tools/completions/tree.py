"""The command tree as completion needs it, read from click."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import click

from manactl.cli.main import cli
from manactl.cli.params import PortType


class Kind(StrEnum):
    """What a value is."""

    PORTS = "ports"  # asked for when TAB is pressed
    WORDS = "words"  # known now
    FILES = "files"
    DIRS = "dirs"
    ANY = "any"  # nothing can be offered


@dataclass(frozen=True, slots=True)
class Value:
    """The value of an option or an argument."""

    kind: Kind
    title: str  # PORT, CODE
    words: tuple[tuple[str, str], ...] = ()  # each with what it means, or ""


@dataclass(frozen=True, slots=True)
class Option:
    """One option: all its names, and its value unless it is a flag."""

    names: tuple[str, ...]
    help: str
    many: bool  # may be given again
    hidden: bool  # understood, never offered
    value: Value | None


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand, or the program itself under the name ""."""

    name: str
    help: str
    options: tuple[Option, ...]
    argument: Value | None
    many: bool = False  # several arguments


def read(group: click.Group = cli) -> tuple[Command, ...]:
    """The program and then its subcommands, hidden ones left out."""
    ctx = group.make_context("manactl", [], resilient_parsing=True)
    found = [_command(group, "", ctx)]
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None, name
        if isinstance(command, click.Group):
            raise NotImplementedError(f"{name}: a group below the program")
        if not command.hidden:
            below = command.make_context(name, [], parent=ctx, resilient_parsing=True)
            found.append(_command(command, name, below))
    return tuple(found)


def _command(command: click.Command, name: str, ctx: click.Context) -> Command:
    params = command.get_params(ctx)
    options = [_option(one, ctx) for one in params if isinstance(one, click.Option)]
    arguments = [one for one in params if isinstance(one, click.Argument)]
    if len(arguments) > 1:
        raise NotImplementedError(f"{name}: several arguments: {arguments}")
    value, many = (
        (_value(arguments[0], ctx), arguments[0].nargs != 1) if arguments else (None, False)
    )
    return Command(name, command.get_short_help_str(100), tuple(options), value, many)


def _option(option: click.Option, ctx: click.Context) -> Option:
    flag = option.is_flag or option.count
    return Option(
        names=(*option.opts, *option.secondary_opts),
        help=" ".join((option.help or "").split()),
        many=option.multiple or option.count,
        hidden=option.hidden,
        value=None if flag else _value(option, ctx),
    )


def _value(param: click.Parameter, ctx: click.Context) -> Value:
    title = (param.metavar or param.opts[0].lstrip("-").upper()).strip("[].")
    if isinstance(param.type, PortType):
        return Value(Kind.PORTS, title)
    items = param.shell_complete(ctx, "")
    types = {item.type for item in items}
    if types == {"file"}:
        return Value(Kind.FILES, title)
    if types == {"dir"}:
        return Value(Kind.DIRS, title)
    words = tuple((str(item.value), item.help or "") for item in items)
    return Value(Kind.WORDS, title, words) if words else Value(Kind.ANY, title)
