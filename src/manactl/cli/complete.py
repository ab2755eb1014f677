"""Completion: the words for a PORT, and the form of click's protocol that completions/ speak.

Imported only when a shell asks.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, ShellComplete, add_completion_class

from manactl.cli.app import STATE_DIR
from manactl.escape import escape

if TYPE_CHECKING:
    from manactl.completion.names import Port
    from manactl.completion.offer import Which, Word


class Lines(ShellComplete):
    """`_MANACTL_COMPLETE=lines_complete manactl WORD... START`: candidates for START.

    The words come as arguments, so that no shell has to quote and nobody to unquote them. Each
    answer is a line: the word, a tab, and its description.
    """

    name = "lines"
    source_template = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        *args, start = sys.argv[1:] or [""]
        return args, start

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        # Options are for the scripts to offer; click would, in place of a value that starts so.
        return [] if incomplete.startswith("-") else super().get_completions(args, incomplete)

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.value}\t{item.help or ''}"


def speak_lines() -> None:
    """Have click know the form above."""
    add_completion_class(Lines)


def is_asked(environ: Mapping[str, str], variable: str, arguments: Sequence[str]) -> bool:
    """Whether a shell asks for a completion. The variable may be a stray one, in a unit or a login
    script, and must not make of a `release` something else, which does nothing.

    What click's own scripts call has no arguments, but for the form above.
    """
    shell, _, what = environ[variable].partition("_")
    if (shell, what) == (Lines.name, "complete"):
        return True
    if arguments or shell not in ("bash", "zsh", "fish"):
        return False
    if what == "complete":
        number = environ.get("COMP_CWORD", "")
        return "COMP_WORDS" in environ and (shell == "fish" or number.isdecimal())
    return what == "source"


def ports(
    ctx: click.Context, param: click.Parameter, start: str, which: Which
) -> list[CompletionItem]:
    """Candidates for one PORT of a line whose other words are in `ctx`."""
    from manactl.completion.addresses import Addresses  # noqa: PLC0415

    asked = Addresses()  # a child asks the kernel, while all that follows is imported and read
    from manactl.completion import names  # noqa: PLC0415
    from manactl.completion.claims import claims  # noqa: PLC0415
    from manactl.completion.offer import describe, fitting, with_destroyed, words  # noqa: PLC0415

    claimed = claims(str(ctx.find_root().params.get("state_dir") or STATE_DIR))
    every = with_destroyed(names.ports(), claimed)
    fit = fitting(every, which, claimed, _given(ctx, param))
    if not fit:
        return []
    found = words(fit, start, every, _altnames(fit, every))
    addresses = asked.collect()
    return [CompletionItem(w.text, help=escape(describe(w, addresses, claimed))) for w in found]


def guard_codes(ctx: click.Context, param: click.Parameter, start: str) -> list[CompletionItem]:
    """Codes for --allow, described as `manactl explain` does."""
    from manactl.decide.codes import WAIVABLE  # noqa: PLC0415

    titles = _topics()
    given = _given(ctx, param)
    codes = [code for code in WAIVABLE if code.startswith(start) and code not in given]
    return [CompletionItem(code, help=titles.get(code)) for code in codes]


def topics(_ctx: click.Context, _param: click.Parameter, start: str) -> list[CompletionItem]:
    """What `manactl explain` has a page for."""
    found = _topics().items()
    return [CompletionItem(name, help=title) for name, title in found if name.startswith(start)]


def _topics() -> dict[str, str]:
    from manactl.explain.find import listed  # noqa: PLC0415

    return {topic.name: topic.title for _, group in listed() for topic in group}


def _given(ctx: click.Context, param: click.Parameter) -> Collection[str]:
    """What the line has for this parameter already."""
    value: Any = ctx.params.get(param.name or "")
    return value if isinstance(value, tuple) else ()


def _altnames(ports: Collection[Port], every: Collection[Port]) -> Iterator[Word]:
    """The altnames of the netdevs, and of a master of one port alone, which only rtnetlink knows."""
    from manactl.completion.offer import Word, usable  # noqa: PLC0415
    from manactl.look.links import WAIT, RtnetlinkLinks  # noqa: PLC0415 - for few words

    source = RtnetlinkLinks(longest=WAIT)
    asked = {index for port in ports for index in (port.ifindex, port.master_ifindex) if index}
    source.ask(asked)
    links = source.collect() or {}
    masters = [port.master_ifindex for port in every]
    for port in ports:
        indexes = [port.ifindex]
        if masters.count(port.master_ifindex) == 1:
            indexes.append(port.master_ifindex)
        for index in indexes:
            link = links.get(index or 0)
            for name in link.altnames if link else ():
                if usable(name):
                    yield Word(name, port, index)
