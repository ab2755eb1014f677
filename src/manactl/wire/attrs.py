"""Netlink attributes (struct nlattr): type, length and padded payload, host byte order."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator

NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

_HEADER = struct.Struct("=HH")


def align(length: int) -> int:
    """Netlink's four-byte alignment (NLA_ALIGN, NLMSG_ALIGN)."""
    return (length + 3) & ~3


def attr(kind: int, payload: bytes) -> bytes:
    """One attribute with its padding, ready to be joined to others."""
    if len(payload) > 0xFFFF - _HEADER.size:
        raise ValueError(f"attribute {kind}: {len(payload)} bytes do not fit")
    head = _HEADER.pack(_HEADER.size + len(payload), kind)
    return head + payload + bytes(align(len(payload)) - len(payload))


def attr_u32(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack("=I", value))


def attr_str(kind: int, value: str) -> bytes:
    """A string with the closing NUL that the kernel's NLA_NUL_STRING policy asks for."""
    return attr(kind, value.encode("utf-8", "surrogateescape") + b"\0")


def nest(kind: int, *inner: bytes) -> bytes:
    return attr(kind | NLA_F_NESTED, b"".join(inner))


def iter_attrs(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """(type without flag bits, payload) in the order of the message, repeats included.

    Raises ValueError where a length points outside the message: half an answer is no answer.
    """
    end = len(data)
    while offset + _HEADER.size <= end:
        length, kind = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > end:
            raise ValueError(f"attribute at {offset}: length {length} of {end - offset}")
        yield kind & NLA_TYPE_MASK, data[offset + _HEADER.size : offset + length]
        offset += align(length)


def parse_attrs(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Attributes by type; of a repeated one the last. `offset` skips a fixed header."""
    return dict(iter_attrs(data, offset))


def as_int(payload: bytes) -> int:
    """An unsigned integer of whatever width the kernel chose to send."""
    return int.from_bytes(payload, sys.byteorder)


def as_str(payload: bytes) -> str:
    """A name as the kernel has it. Undecodable bytes survive as surrogates: escape on output."""
    return payload.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
