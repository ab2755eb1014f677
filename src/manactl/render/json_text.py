"""JSON documents as text, as json.dumps() writes them.

A module of our own because `status --json` runs every few seconds, and importing json, whose
decoder compiles three regular expressions, takes a twentieth of its time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from manactl.escape import escape


def dumps(document: object, *, indent: int | None = 1) -> str:
    """A document, or a value of one, as text: ASCII only, whatever a name contained; one line without `indent`.

    JSON keeps control characters by escapes of its own; only what no JSON reader can decode
    (bytes that were no UTF-8) is spelled out. TypeError for what is no JSON value.
    """
    return _written(document, None if indent is None else "\n", " " * (indent or 0))


def _written(value: object, newline: str | None, step: str) -> str:
    """`newline`: a line's end and the indent of what contains the value."""
    if isinstance(value, str):
        return _quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return int.__repr__(value)
    inside = None if newline is None else newline + step
    if isinstance(value, Mapping):
        pairs = (f"{_quoted(str(k))}: {_written(v, inside, step)}" for k, v in value.items())
        return _enclosed("{", pairs, "}", newline, inside)
    if isinstance(value, list | tuple):
        items = (_written(item, inside, step) for item in value)
        return _enclosed("[", items, "]", newline, inside)
    import json  # noqa: PLC0415 - for a number with a fraction

    return json.dumps(value, allow_nan=False)


def _enclosed(
    start: str, parts: Iterable[str], end: str, newline: str | None, inside: str | None
) -> str:
    found = list(parts)
    if not found:
        return start + end
    if newline is None or inside is None:
        return f"{start}{', '.join(found)}{end}"
    return f"{start}{inside}{f',{inside}'.join(found)}{newline}{end}"


def _quoted(text: str) -> str:
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    import json  # noqa: PLC0415 - for what has to be escaped

    try:
        text.encode()
    except UnicodeEncodeError:
        text = escape(text)
    return json.dumps(text)
