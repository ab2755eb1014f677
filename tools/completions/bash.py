"""completions/bash/manactl: the tree as a table, and bash.sh that looks into it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from tools.completions.tree import Command, Kind, Option, Value


def render(commands: Iterable[Command]) -> str:
    commands = tuple(commands)
    table = ["_manactl_tree() {", '    case "$1" in']
    for command in commands:
        table.append(f"        {shlex.quote(command.name)})")
        table += [f"            {line}" for line in _entries(command)]
        if not command.name:
            table += [f"            {_line('command', c.name, c.help)}" for c in commands[1:]]
        table.append("            ;;")
    table += ["    esac", "}"]
    template = Path(__file__).with_name("bash.sh").read_text()
    return template.replace("@TREE@", "\n".join(table))


def _entries(command: Command) -> Iterator[str]:
    for option in command.options:
        yield _option(option)
        yield from _words(option.names[0], option.value)
    if command.argument is not None:
        kind = command.argument.kind
        yield _line("argument", "many" if command.many else "once", kind)
        yield from _words("", command.argument)


def _option(option: Option) -> str:
    offered = "hidden" if option.hidden else "many" if option.many else "once"
    kind = option.value.kind if option.value else "flag"
    return _line("option", offered, kind, option.help, *option.names)


def _words(owner: str, value: Value | None) -> Iterator[str]:
    if value is not None and value.kind is Kind.WORDS:
        for word, meaning in value.words:
            yield _line("word", owner, word, meaning)


def _line(what: str, *fields: str) -> str:
    return " ".join([f"_manactl_{what}", *map(shlex.quote, fields)])
