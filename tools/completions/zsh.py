"""completions/zsh/_manactl: a function for each command, and zsh.sh that they use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from tools.completions.tree import Command, Kind, Option, Value


def render(commands: Iterable[Command]) -> str:
    program, *below = commands
    parts = [*_program(program, below)]
    for command in below:
        parts += ["", *_function(command)]
    for command in (program, *below):
        for option in command.options:
            parts += _words(_action_name(command, option.names[0]), option.value, option)
        parts += _words(_action_name(command, ""), command.argument, None)
    template = Path(__file__).with_name("zsh.sh").read_text()
    return template.replace("@TREE@", "\n".join(parts))


def quote(text: str) -> str:
    """In single quotes, as the shell reads it."""
    return "'" + text.replace("'", r"'\''") + "'"


def _program(program: Command, below: list[Command]) -> Iterator[str]:
    yield "_manactl_commands() {"
    yield "    _manactl_offer command command \\"
    pairs = [f"        {quote(one.name)} {quote(one.help)}" for one in below]
    yield " \\\n".join(pairs)
    yield "}"
    yield ""
    yield "_manactl_program() {"
    yield "    program=("
    for option in program.options:
        yield f"        {_spec(program, option)}"
    yield "        '1:command: _manactl_commands'"
    yield "        '*:: :->words'"
    yield "    )"
    yield "}"


def _function(command: Command) -> Iterator[str]:
    yield f"_manactl_{command.name}() {{"
    lines = ["    _arguments -s -S :"]
    lines += [f"        {_spec(command, option)}" for option in command.options]
    if command.argument is not None:
        lines.append(f"        {_argument(command, command.argument)}")
    yield " \\\n".join(lines)
    yield "}"


def _argument(command: Command, value: Value) -> str:
    return quote(f"{'*' if command.many else '1'}{_value(command, '', value)}")


def _spec(command: Command, option: Option) -> str:
    """One or several words for _arguments."""
    help_ = option.help
    for special in "\\[]":
        help_ = help_.replace(special, "\\" + special)
    value = _value(command, option.names[0], option.value) if option.value else ""
    end = f"[{help_}]{value}" if help_ else value
    names = [
        name + ("=" if option.value and name.startswith("--") else "") for name in option.names
    ]
    if option.hidden:
        return " ".join(quote(f"!{name}{end}") for name in names)
    if option.many:
        return " ".join(quote(f"*{name}{end}") for name in names)
    if len(names) == 1:
        return quote(names[0] + end)
    others = quote(f"({' '.join(option.names)})")
    return f"{others}{{{','.join(names)}}}{quote(end)}"


def _value(command: Command, option: str, value: Value) -> str:
    title = value.title.replace(":", "\\:")
    if value.kind is Kind.PORTS:
        # The space keeps _arguments from adding words of its own to the call.
        return f":{title}: _manactl_ports {option}".rstrip()
    if value.kind is Kind.WORDS:
        return f":{title}: {_action_name(command, option)}"
    if value.kind is Kind.FILES:
        return f":{title}:_files"
    return f":{title}:_files -/" if value.kind is Kind.DIRS else f":{title}: "


def _action_name(command: Command, option: str) -> str:
    return "_".join(["_manactl", command.name or "program", option.lstrip("-") or "argument"])


def _words(name: str, value: Value | None, option: Option | None) -> Iterator[str]:
    if value is None or value.kind is not Kind.WORDS:
        return
    again = option.names[0] if option and option.many else ""
    yield ""
    yield f"{name}() {{"
    if again:
        yield f"    _manactl_given {quote(again)}"
    yield f"    _manactl_offer {quote(value.title)} {quote(value.title)} \\"
    yield " \\\n".join(f"        {quote(word)} {quote(text)}" for word, text in value.words)
    yield "}"
