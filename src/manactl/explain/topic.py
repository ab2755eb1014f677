"""The shape of a topic, and how a message's form becomes a pattern.

A form is a message as its program prints it, with holes: `<n>` a number (also negative or
hexadecimal), `<name>` one word, `<any>` anything. Letter case and the amount of space do not
matter, nor what stands before and after it, so that a line may come with its timestamp and device.
With `^` in front nothing stands before it.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_HOLES = {"<n>": r"-?(?:0x[0-9a-f]+|\d+)", "<name>": r"\S+", "<any>": r".*?"}
_HOLE = re.compile(r"(<n>|<name>|<any>)")


class Kind(enum.StrEnum):
    """Where a topic stands in the list, in that order."""

    MESSAGE = "messages"
    ERRNO = "errnos"
    ERROR = "exit codes and error codes of manactl"
    GUARD = "guards"
    STATUS = "words and sentences of status"


@dataclass(frozen=True, slots=True)
class Step:
    """Something to look at or to do; in `command`, words in capitals are to be replaced."""

    text: str
    command: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Topic:
    """One cause, or one word of ours: what it means, how to check, what to do, and its origin."""

    name: str
    kind: Kind
    title: str
    means: str
    origin: str  # the kernel function, program or document that this rests on
    check: tuple[Step, ...] = ()
    remedy: tuple[Step, ...] = ()
    forms: tuple[str, ...] = ()
    by_errno: Mapping[int, str] = field(default_factory=dict)
    errno: int | None = None
    exit_code: int | None = None
    see: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()  # how lines begin that no form knows, but whose program does


def forms(text: str) -> tuple[str, ...]:
    """A form a line, for topics that many messages share."""
    return tuple(line for raw in text.splitlines() if (line := raw.strip()))


def anchor(form: str) -> str:
    """The longest part of a form that every text has which the form occurs in: in lower case, and
    with one space for any amount of it."""
    return max(_HOLE.sub("\n", form.lower().removeprefix("^")).split("\n"), key=len)


@functools.cache
def pattern(form: str) -> re.Pattern[str]:
    """The regular expression that a form stands for."""
    first = form.startswith("^")
    form = form.removeprefix("^")
    parts = [
        _HOLES.get(part) or r"\s+".join(map(re.escape, part.split(" ")))
        for part in _HOLE.split(form)
        if part
    ]
    text = "".join(parts)
    before = "^" if first else r"(?<!\w)" if re.match(r"\w", form) else ""
    after = r"(?!\w)" if re.search(r"\w$|<n>$", form) else ""
    return re.compile(before + text + after, re.IGNORECASE)
