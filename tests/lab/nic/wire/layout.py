"""A declaration language for little-endian structs with fields at fixed offsets."""

from __future__ import annotations

import re
import struct
from types import SimpleNamespace
from typing import Any

_CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}
_TYPE = re.compile(r"(?:(?P<int>u8|u16|u32|u64)(?:x(?P<count>\d+))?|b(?P<bytes>\d+))$")


class Layout:
    """A struct declared by lines of "offset name type"; undeclared bytes are padding.

    Types: u8 u16 u32 u64, `u32xN` (a tuple of N), `bN` (N raw bytes). Offsets count from the start
    of the message; `base` is where this part of it (the body behind the header) begins.
    """

    def __init__(self, text: str = "", *, base: int = 0, size: int | None = None) -> None:
        self.base = base
        self._fields: list[tuple[str, int]] = []  # name, number of values (0: one scalar)
        format_, at = "<", base
        for line in filter(None, (part.strip() for part in text.splitlines())):
            offset, name, kind = line.split()
            code, values = _parse(kind)
            if int(offset) < at:
                raise ValueError(f"{name} at {offset} overlaps the field before it")
            format_ += f"{int(offset) - at}x{code}"
            at = int(offset) + struct.calcsize("<" + code)
            self._fields.append((name, values))
        self.end = at if size is None else size
        self._struct = struct.Struct(f"{format_}{self.end - at}x")

    @property
    def size(self) -> int:
        """Bytes of this part, without what lies before `base`."""
        return self._struct.size

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self._fields)

    def unpack(self, data: bytes | memoryview) -> Any:
        """Fields as attributes; a shorter message (an older driver's) reads as zeros behind it."""
        raw = bytes(data[: self.size]).ljust(self.size, b"\0")
        flat = iter(self._struct.unpack(raw))
        return SimpleNamespace(
            **{
                name: tuple(next(flat) for _ in range(count)) if count else next(flat)
                for name, count in self._fields
            }
        )

    def pack(self, **values: Any) -> bytes:
        """The bytes; fields not named are zero, names not declared are an error."""
        flat: list[Any] = []
        for (name, count), code in zip(self._fields, self._codes(), strict=True):
            if count:
                given = tuple(values.pop(name, ()))
                flat.extend(given + (0,) * (count - len(given)))
            else:
                flat.append(values.pop(name, b"" if code.endswith("s") else 0))
        if values:
            raise TypeError(f"no such field: {', '.join(values)}")
        return self._struct.pack(*flat)

    def _codes(self) -> list[str]:
        return [code for code in re.findall(r"\d*[BHIQsx]", self._struct.format) if code[-1] != "x"]


def _parse(kind: str) -> tuple[str, int]:
    match = _TYPE.match(kind)
    if match is None:
        raise ValueError(f"unknown type {kind}")
    if match["bytes"]:
        return f"{match['bytes']}s", 0
    if match["count"]:
        return f"{match['count']}{_CODES[match['int']]}", int(match["count"])
    return _CODES[match["int"]], 0
