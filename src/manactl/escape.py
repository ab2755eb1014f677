"""Names are hostile input: what a process, a netdev or a unit is called is not ours to trust.

Everything printed passes through here exactly once, at the outlet (cli.app.App) or where a
string becomes part of a JSON document.
"""

from __future__ import annotations

from collections.abc import Iterable

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_")
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\x1b": "\\e"}


def escape(text: str) -> str:
    """`text` on one line, with everything that is not printable spelled out.

    Control characters, ANSI sequences, line and direction marks become visible; bytes that were
    no UTF-8 (surrogates since decoding) become \\xNN. What is printable stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _spell(char) for char in text)


def called(name: str | None, otherwise: str = "?") -> str:
    """A name as a part of a sentence, which may be one of several lines: a process may have a
    newline in its name (prctl(PR_SET_NAME)), and so write lines of its own."""
    return escape(name) if name else otherwise


def _spell(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    point = ord(char)
    if 0xDC80 <= point <= 0xDCFF:  # surrogateescape: the byte is in the low half
        return f"\\x{point - 0xDC00:02x}"
    if point <= 0xFF:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"


def command(*words: str, names: Iterable[str] = ()) -> str:
    """A command to copy into a shell, which then sees these words and nothing else in them.

    `names` are operands at its end that others have chosen. Where one begins with a dash they come
    after `--`: a netdev may be called `-h`.

    What is not printable is spelled as $'...' has it (bash, zsh, POSIX of 2024), so that escape()
    leaves it alone.
    """
    operands = [*names]
    end = ["--"] if any(name.startswith("-") for name in operands) else []
    return " ".join(map(_quoted, [*words, *end, *operands]))


def link(name: str) -> list[str]:
    """A netdev as `ip link set` takes it, which knows no `--`: after its keyword where the name may
    be an option's or a keyword's (`up`)."""
    return ["dev", name] if name.startswith("-") or name.isalpha() else [name]


def _quoted(word: str) -> str:
    if word and _PLAIN.issuperset(word):
        return word
    if word.isprintable():
        return "'" + word.replace("'", "'\\''") + "'"
    return "$'" + "".join(map(_ansi_c, word)) + "'"


def _ansi_c(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    if char.isprintable():
        return char
    # Octal has three digits at most; hexadecimal would swallow a digit that follows.
    return "".join(f"\\{byte:03o}" for byte in char.encode("utf-8", "surrogateescape"))
