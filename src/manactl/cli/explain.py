"""`manactl explain`."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from manactl.cli.app import App
from manactl.cli.params import complete_topic, json_option
from manactl.errors import UsageError

if TYPE_CHECKING:
    from manactl.explain.find import Found
    from manactl.explain.topic import Step, Topic

SCHEMA = "manactl.explain/1"


# A message may hold words with dashes, and `-19` is one.
@click.command(
    short_help="Explain a message, error number or code, and what to do.",
    context_settings={"ignore_unknown_options": True},
)
@click.argument(
    "words",
    nargs=-1,
    metavar="[CODE|ERRNO|TEXT]...",
    type=click.UNPROCESSED,
    shell_complete=complete_topic,
)
@json_option
@click.pass_obj
def explain(app: App, words: tuple[str, ...], as_json: bool) -> None:
    """Explain a message of the kernel, DPDK, libibverbs, ip, rdma or manactl: its cause, how to
    check, and the next step.

    TEXT is a line as it was printed, quoted or not; timestamps, device names and numbers in it do
    not matter. Without an argument: the list of topics.
    """
    from manactl.explain.find import Found, find, listed  # noqa: PLC0415 - not for --help

    asked = " ".join(words)
    found = find(asked) if asked.strip() else Found(())
    if asked.strip() and not found.topics:
        raise _unknown(asked, found)
    if as_json:
        topics = found.topics or tuple(topic for _, group in listed() for topic in group)
        app.document(
            {
                "schema": SCHEMA,
                "asked": asked or None,
                "errno": found.errno,
                "topics": [_document(topic, found) for topic in topics],
            }
        )
        return
    if not found.topics:
        app.out(*_list())
        return
    for number, topic in enumerate(found.topics):
        app.out(*[""] * (number > 0), *_page(topic, found.errno, _width()))


def _unknown(asked: str, found: Found) -> UsageError:
    hint = "all topics: manactl explain"
    if found.nearest:
        near = "\n".join(f"  {topic.name}: {topic.title}" for topic in found.nearest)
        hint = f"nearest topics:\n{near}\n{hint}"
    if (number := found.errno) is not None:
        name = errno.errorcode.get(number, str(number))
        hint = (
            f"its number is {name} ({os.strerror(number)}); from a MANA driver it would mean: "
            f"manactl explain {number}\n{hint}"
        )
    return UsageError(f"nothing is known about {asked!r}", hint=hint)


def _width() -> int | None:
    """Columns to wrap at; None where the output is not a terminal."""
    if not sys.stdout.isatty():
        return None
    from manactl.cli.screen import Screen  # noqa: PLC0415

    columns, _ = Screen().size
    return max(40, min(columns, 100))


def _list() -> Iterator[str]:
    from manactl.explain.find import listed  # noqa: PLC0415

    for number, (kind, topics) in enumerate(listed()):
        if number:
            yield ""
        yield f"{kind[0].upper()}{kind[1:]}:"
        pad = max(len(topic.name) for topic in topics)
        yield from (f"  {topic.name:{pad}}  {topic.title}" for topic in topics)
    yield ""
    yield "More about a topic: manactl explain TOPIC"


def _page(topic: Topic, errno: int | None, width: int | None) -> Iterator[str]:
    yield from _paragraph(f"{topic.name}: {topic.title}", width, 0)
    yield ""
    yield from _paragraph(topic.means, width, 2)
    if topic.by_errno:
        yield ""
        yield from _errnos(topic, errno, width)
    for heading, steps in (("How to check", topic.check), ("What to do", topic.remedy)):
        if steps:
            yield ""
            yield heading
            yield from _steps(steps, width)
    yield ""
    yield from _paragraph(f"Comes from: {topic.origin}.", width, 0)
    if topic.see:
        yield from _paragraph(f"See also: manactl explain {' | '.join(topic.see)}", width, 0)


def _errnos(topic: Topic, errno: int | None, width: int | None) -> Iterator[str]:
    """The number in the text alone, when it is known; else all of them."""
    shown = [errno] if errno in topic.by_errno else topic.by_errno
    for number in shown:
        assert number is not None
        yield from _paragraph(f"{number}: {topic.by_errno[number]}.", width, 2)


def _steps(steps: tuple[Step, ...], width: int | None) -> Iterator[str]:
    for step in steps:
        yield from _paragraph(step.text, width, 2)
        if step.command:
            yield f"    {step.command}"


def _paragraph(text: str, width: int | None, indent: int) -> list[str]:
    margin = " " * indent
    if width is None:
        return [margin + text]
    import textwrap  # noqa: PLC0415 - only a terminal pays for it

    return textwrap.wrap(
        text, width, initial_indent=margin, subsequent_indent=margin, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _document(topic: Topic, found: Found) -> dict[str, object]:
    def listed(steps: tuple[Step, ...]) -> list[dict[str, object]]:
        return [{"text": step.text, "command": step.command} for step in steps]

    return {
        "name": topic.name,
        "kind": topic.kind.name.lower(),
        "title": topic.title,
        "means": topic.means,
        "with_errno": topic.by_errno.get(found.errno) if found.errno is not None else None,
        "by_errno": {str(number): text for number, text in topic.by_errno.items()},
        "errno": topic.errno,
        "exit_code": topic.exit_code,
        "check": listed(topic.check),
        "remedy": listed(topic.remedy),
        "origin": topic.origin,
        "see": list(topic.see),
    }
