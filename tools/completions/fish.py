"""completions/fish/manactl.fish: `complete` for each entry, and fish.fish that they use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from tools.completions.tree import Command, Kind, Option, Value


def render(commands: Iterable[Command]) -> str:
    program, *below = commands
    lines = [line for command in (program, *below) for line in _words(command)]
    for command in below:
        lines.append(
            f"complete -c manactl -n '__manactl_at \"\"' {_candidate(command.name, command.help)}"
        )
    for command in (program, *below):
        lines += ["", *_command(command)]
    with_value = [n for o in program.options if o.value for n in o.names]
    template = Path(__file__).with_name("fish.fish").read_text()
    return template.replace("@TREE@", "\n".join(lines)).replace(
        "@WITH_VALUE@", " ".join(with_value)
    )


def quote(text: str) -> str:
    """In single quotes, as fish reads it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _candidate(word: str, meaning: str) -> str:
    # The list of -a is expanded once more: only plain words belong there.
    assert word.replace("-", "").replace("_", "").isalnum(), word
    return f"-a {word}" + (f" -d {quote(meaning)}" if meaning else "")


def _command(command: Command) -> Iterator[str]:
    at = f'__manactl_at "{command.name}"'
    for option in command.options:
        if option.hidden:
            continue
        once = "" if option.many else f"; and not __manactl_given {_pending(option)}"
        names = " ".join(_name(name) for name in option.names)
        start = f"complete -c manactl -n {quote(at + once)} {names}"
        end = f" -d {quote(option.help)}"
        if option.value is None:
            yield start + end
        else:
            yield from _with_value(start, end, command, option)
    if command.argument is not None:
        yield from _argument(at, command, command.argument)


def _words(command: Command) -> Iterator[str]:
    """A function for each set of words, that prints them with their meanings."""
    values = [(option.names[0], option.value) for option in command.options]
    for name, value in [*values, ("", command.argument)]:
        if value is not None and value.kind is Kind.WORDS:
            pairs = " \\\n".join(
                f"        {quote(word)} {quote(text)}" for word, text in value.words
            )
            yield f"function {_function(command, name)}"
            yield f"    printf '%s\\t%s\\n' \\\n{pairs}"
            yield "end\n"


def _function(command: Command, option: str) -> str:
    return "_".join(["__manactl", command.name, option.lstrip("-") or "argument"])


def _pending(option: Option) -> str:
    return ("--value " if option.value else "") + " ".join(option.names)


def _name(name: str) -> str:
    return f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"


def _with_value(start: str, end: str, command: Command, option: Option) -> Iterator[str]:
    value = option.value
    assert value is not None
    name = option.names[0]
    if value.kind is Kind.PORTS:
        yield f"{start} -x -k -a {quote(f'(__manactl_ports {name})')}{end}"
    elif value.kind is Kind.WORDS:
        unused = f" | __manactl_unused {name}" if option.many else ""
        yield f"{start} -x -k -a '({_function(command, name)}{unused})'{end}"
    elif value.kind is Kind.FILES:
        yield f"{start} -r -F{end}"
    elif value.kind is Kind.DIRS:
        yield f"{start} -x -a '(__fish_complete_directories (commandline -ct))'{end}"
    else:
        yield f"{start} -x{end}"


def _argument(at: str, command: Command, value: Value) -> Iterator[str]:
    where = f"{at}; and __manactl_argument" + ("" if command.many else "; and __manactl_first")
    start = f"complete -c manactl -n {quote(where)}"
    if value.kind is Kind.PORTS:
        yield f"{start} -k -a '(__manactl_ports)'"
    elif value.kind is Kind.WORDS:
        yield f"{start} -k -a '({_function(command, '')})'"
    elif value.kind is Kind.FILES:
        yield f"{start} -F"
