"""Names are hostile input: what a process, a netdev or a unit is called is not ours to trust.

Everything printed passes through here exactly once, at the outlet (cli.app.App) or where a
string becomes part of a JSON document.
"""

from __future__ import annotations

_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\x1b": "\\e"}


def escape(text: str) -> str:
    """`text` on one line, with everything that is not printable spelled out.

    Control characters, ANSI sequences, line and direction marks become visible; bytes that were
    no UTF-8 (surrogates since decoding) become \\xNN. What is printable stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _spell(char) for char in text)


def _spell(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    point = ord(char)
    if 0xDC80 <= point <= 0xDCFF:  # surrogateescape: the byte is in the low half
        return f"\\x{point - 0xDC00:02x}"
    if point <= 0xFF:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"
