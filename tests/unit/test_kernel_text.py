"""What the kernel writes is taken apart in one place, and at the kernel's own separators."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import manactl

SRC = Path(manactl.__file__).parent
LAYERS = ("look", "doctor", "netstate", "journal", "decide")
# Text of ours, in which no name is.
OURS = {("wire/ethtool.py", "split"), ("act/guardian.py", "splitlines")}
FOREIGN = ("splitlines", "readlines")  # U+2028, U+0085, \x0b, \x1c end a line for these
LOCALE = ("read_text",)  # decodes by the locale, and strictly


def methods(path: Path) -> Iterator[tuple[str, int]]:
    """What strings are taken apart by in a module: without arguments, split() takes everything
    for a space that Unicode does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in FOREIGN + LOCALE:
            yield node.attr, node.lineno
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            named = {word.arg for word in node.keywords}
            if node.func.attr in ("split", "rsplit") and not node.args and "sep" not in named:
                yield node.func.attr, node.lineno
        if isinstance(node, ast.Attribute) and node.attr == "split":
            owner = node.value
            if isinstance(owner, ast.Name) and owner.id == "str":
                yield "str.split", node.lineno


def modules() -> list[Path]:
    found = [path for layer in LAYERS for path in (SRC / layer).rglob("*.py")]
    return sorted([*found, *(SRC / "act").rglob("*.py"), SRC / "report.py"])


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SRC)))
def test_no_text_of_the_kernel_is_split_as_unicode_has_it(path: Path) -> None:
    name = str(path.relative_to(SRC))
    if path.parent.name == "act":  # reads configuration files, too, and says in which encoding
        found = [(what, line) for what, line in methods(path) if what in FOREIGN]
    else:
        found = list(methods(path))
    assert [(what, line) for what, line in found if (name, what) not in OURS] == []


def test_a_name_of_a_process_in_a_sentence_is_one_word() -> None:
    """A newline in it would write a line of the message. Documents have it as it is."""
    found = []
    for path in SRC.rglob("*.py"):
        for parent in ast.walk(ast.parse(path.read_text())):
            if not isinstance(parent, ast.FormattedValue):
                continue
            shown = [
                node
                for node in ast.walk(parent.value)
                if isinstance(node, ast.Attribute) and node.attr == "comm"
            ]
            calls = [
                node.func.id
                for node in ast.walk(parent.value)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            ]
            if shown and not {"called", "escape"} & set(calls):
                found.append(f"{path.relative_to(SRC)}:{parent.lineno}")
    assert found == []
