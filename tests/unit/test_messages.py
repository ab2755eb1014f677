"""Messages are made to be read, and not taken apart: where one has to know what another has said,
there is a field for it. By the source; test_words.py shows the same by what is decided."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import manactl

SRC = Path(manactl.__file__).parent
LAYERS = ("look", "decide", "act", "netstate", "journal")
WORDS = {"message", "story", "untouched", "hint", "strerror", "why", "text"}  # fields for people
ERRORS = {"error", "failure", "busy", "refused", "left", "stop", "exc"}  # what str() makes words of
TAKING_APART = {
    "startswith", "endswith", "partition", "rpartition", "split", "rsplit", "splitlines", "find",
    "rfind", "index", "rindex", "count", "replace", "removeprefix", "removesuffix", "strip", "lower",
}  # fmt: skip
MATCHING = {"match", "search", "fullmatch", "findall", "finditer", "sub"}


def is_words(node: ast.AST) -> bool:
    """An error's words, or those of a loss, a change, a finding."""
    if isinstance(node, ast.Attribute):
        return node.attr in WORDS
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "str":
        return any(isinstance(one, ast.Name) and one.id in ERRORS for one in node.args)
    if isinstance(node, ast.BoolOp):  # error.strerror or str(error)
        return any(map(is_words, node.values))
    return False


def is_empty(node: ast.AST) -> bool:
    """Whether there are words at all may be asked."""
    return isinstance(node, ast.Constant) and node.value in (None, "")


def taken_apart(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(map(is_words, sides)) and not any(map(is_empty, sides)):
                yield node
        elif isinstance(node, ast.Subscript) and is_words(node.value):
            yield node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of, by = is_words(node.func.value), any(map(is_words, node.args))
            if (node.func.attr in TAKING_APART and of) or (node.func.attr in MATCHING and by):
                yield node


def test_no_layer_below_takes_messages_apart() -> None:
    found = [
        f"{path.relative_to(SRC)}:{node.lineno}: {ast.unparse(node)}"
        for layer in LAYERS
        for path in sorted((SRC / layer).rglob("*.py"))
        for node in taken_apart(ast.parse(path.read_text()))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        'busy.message.partition("; ")[0]',
        '"No such device" in str(error)',
        'error.strerror == "Device or resource busy"',
        'failure.message.startswith("another")',
        "loss.text != before.text",
        "text in [one.text for one in lost] or loss.text in told",
        're.search("nothing was", error.message)',
        "(error.strerror or str(error)) == why",
        "failure.message[:10]",
    ],
)
def test_taking_apart_is_seen(text: str) -> None:
    assert list(taken_apart(ast.parse(text)))


@pytest.mark.parametrize(
    "text", ["error.errno == errno.EIO", "told.hint is None", 'f"{error.strerror or error}"']
)
def test_what_is_none_is_not(text: str) -> None:
    assert not list(taken_apart(ast.parse(text)))
