"""Many messages as one text for a journal: with a full table they are most of it.

Each has a byte in front that tells what it is, and four with its length; all together are
compressed and in base64. Routes differ in little but their destination: a tenth is left of them.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable

_HEAD = struct.Struct("<BI")  # a journal may be read on another machine
_LEVEL = 1  # the quickest; the next ones save little here


def pack(messages: Iterable[tuple[int, bytes]]) -> str:
    """Messages, each with a number up to 255 that tells what it is."""
    parts = []
    for what, body in messages:
        parts += [_HEAD.pack(what, len(body)), body]
    return base64.b64encode(zlib.compress(b"".join(parts), _LEVEL)).decode()


def unpack(text: str) -> list[tuple[int, bytes]]:
    """The messages in their order. ValueError for anything that pack() has not made."""
    try:
        data = zlib.decompress(base64.b64decode(text, validate=True))
    except zlib.error as error:
        raise ValueError(f"messages: {error}") from error
    found = []
    offset, end = 0, len(data)
    while offset < end:
        if offset + _HEAD.size > end:
            raise ValueError(f"messages: {end - offset} bytes behind the last")
        what, length = _HEAD.unpack_from(data, offset)
        offset += _HEAD.size
        if offset + length > end:
            raise ValueError(f"messages: {length} bytes at {offset} of {end}")
        found.append((what, data[offset : offset + length]))
        offset += length
    return found
