"""The numbers in the kernel's headers, as a C compiler would see them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

INCLUDE = Path("/usr/include")


def numbers(*names: str) -> dict[str, int]:
    """The members of all enums and the plain #defines of these headers; skips without them."""
    found: dict[str, int] = {}
    for name in names:
        path = INCLUDE / name
        if not path.exists():
            pytest.skip(f"{name} is not installed (linux-libc-dev)")
        text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
        for line in re.finditer(r"^#\s*define\s+(\w+)\s+(.+)$", text, re.MULTILINE):
            _note(found, line[1], line[2])
        text = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
        for body in re.findall(r"enum\s*\w*\s*\{(.*?)\}", text, re.DOTALL):
            following = 0
            for entry in filter(None, (part.strip() for part in body.split(","))):
                word, equals, value = (part.strip() for part in entry.partition("="))
                if not equals:
                    found[word] = following
                elif not _note(found, word, value):
                    continue
                following = found[word] + 1
    return found


def _note(found: dict[str, int], name: str, text: str) -> bool:
    """Whether the text is a number, a shift, or something known."""
    text = text.strip().strip("()").rstrip("U")
    if shift := re.fullmatch(r"(\w+)\s*<<\s*(\d+)", text):
        found[name] = int(shift[1].rstrip("U"), 0) << int(shift[2])
    elif re.fullmatch(r"0x[0-9a-fA-F]+|\d+", text):
        found[name] = int(text, 16 if text.startswith("0x") else 10)
    elif text in found:
        found[name] = found[text]
    else:
        return False
    return True


def public(module: object, *prefixes: str) -> dict[str, int]:
    """The integers of a module whose names begin so."""
    return {
        name: value
        for name, value in vars(module).items()
        if name.startswith(prefixes) and isinstance(value, int)
    }
