"""Many messages as one text for a journal: with a full table they are most of it.

Each has a byte in front that tells what it is, and four with its length; all together are
compressed and in base64. Routes differ in little but their destination: a tenth is left of them.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Sequence
from itertools import chain

_HEAD = struct.Struct("<BI")  # a journal may be read on another machine
_FEW, _MOST = 8, 4096  # messages of one length that are taken apart together
_LEVEL = 1  # the quickest; the next ones save little here


def pack(messages: Iterable[tuple[int, Sequence[bytes]]]) -> str:
    """Messages in their order, some at a time, with a number up to 255 that tells what these are."""
    parts: list[bytes] = []
    for what, bodies in messages:
        heads = {length: _HEAD.pack(what, length) for length in {*map(len, bodies)}}
        of_each = map(heads.__getitem__, map(len, bodies))
        parts += chain.from_iterable(zip(of_each, bodies, strict=True))
    return base64.b64encode(zlib.compress(b"".join(parts), _LEVEL)).decode()


def unpack(text: str) -> list[tuple[int, list[bytes]]]:
    """The same messages; whatever pack() was given, all of one number in a row are together.
    ValueError for anything that it has not made."""
    try:
        data = zlib.decompress(base64.b64decode(text, validate=True))
    except zlib.error as error:
        raise ValueError(f"messages: {error}") from error
    found: list[tuple[int, list[bytes]]] = []
    offset, end, most = 0, len(data), _FEW
    while offset < end:
        if offset + _HEAD.size > end:
            raise ValueError(f"messages: {end - offset} bytes behind the last")
        what, length = _HEAD.unpack_from(data, offset)
        step = _HEAD.size + length
        if offset + step > end:
            raise ValueError(f"messages: {length} bytes at {offset + _HEAD.size} of {end}")
        alike = _alike(data[offset : offset + step * most], step)
        most = _MOST if alike == most else _FEW  # short runs need not be looked far ahead of
        after = offset + step * alike
        run = struct.iter_unpack(f"{_HEAD.size}x{length}s", data[offset:after])
        if not found or found[-1][0] != what:
            found.append((what, []))
        found[-1][1].extend([body for (body,) in run])
        offset = after
    return found


def _alike(data: bytes, step: int) -> int:
    """How many messages have the head of the first: each begins where the one before it ends."""
    found = len(data) // step
    for at in range(_HEAD.size):
        column = data[at : step * found : step]
        found -= len(column.lstrip(column[:1]))
    return found
