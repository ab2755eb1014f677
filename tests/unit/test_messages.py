"""Messages are made to be read, and not taken apart: where one has to know what another has said,
there is a field for it. They are made last: by *_words.py and render/, and what an error says where
it is raised. By the source; test_words.py shows the same by what is decided."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from inspect import CO_VARARGS
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
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id == "strerror"
    if isinstance(node, ast.BoolOp):  # loss.text or error.message
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
        "strerror(error) == why",
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


# --- where words are made -------------------------------------------------------------------

SPEECHLESS = ("look", "act")  # what is seen and done there are values
LABELS = {"Evidence": 1, "Missing": 1, "_ask": 1}  # what a fact is called, by argument
SENTENCE = re.compile(r"[A-Za-z]{2,}[,;:]? \(?[a-z]{2,}")


def errors_of(trees: Iterable[ast.AST]) -> set[str]:
    """The classes of errors, by the names of their bases."""
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found, before = {"Exception", "OSError", "ValueError", "KeyboardInterrupt"}, 0
    while len(found) > before:
        before = len(found)
        found |= {one.name for one in classes for base in one.bases if ast.unparse(base) in found}
    return found


def sentences(tree: ast.AST, errors: Collection[str]) -> Iterator[ast.Constant]:
    """Sentences but for docstrings, the names of facts, and what an error says: that stands where
    it is raised."""
    spared: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            spared.add(id(node.value))
        elif isinstance(node, ast.Raise):
            spared |= {id(part) for part in ast.walk(node)}
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in errors:
                spared |= {id(part) for part in ast.walk(node)}
            elif name in LABELS and len(node.args) > LABELS[name]:
                spared |= {id(part) for part in ast.walk(node.args[LABELS[name]])}
    for node in ast.walk(tree):
        if id(node) in spared or not isinstance(node, ast.Constant):
            continue
        if isinstance(node.value, str) and SENTENCE.search(node.value):
            yield node


def test_where_things_are_looked_at_or_done_no_sentences_are_made() -> None:
    trees = {path: ast.parse(path.read_text()) for path in sorted(SRC.rglob("*.py"))}
    errors = errors_of(trees.values())
    found = [
        f"{path.relative_to(SRC)}:{node.lineno}: {node.value!r}"
        for path, tree in trees.items()
        if path.relative_to(SRC).parts[0] in SPEECHLESS and not path.stem.endswith("_words")
        for node in sentences(tree, errors)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ('lost = f"{name} was not restored"', True),
        ('WHY = "it is gone"', True),
        ('say("not allowed to signal " + name)', True),
        ('raise Busy(f"{name} cannot be released", hint="end the holder")', False),
        ('return StepFailed(f"{name} does not stay up")', False),
        ('Evidence("nldev", f"{device}: open contexts", count)', False),
        ('Evidence("nldev", "contexts", f"it was {count} before")', True),
        ('def f():\n    "Says what it does."\n', False),
        ('Path("/proc/self/ns/net")', False),
    ],
)
def test_making_a_sentence_is_seen(text: str, seen: bool) -> None:
    assert bool(list(sentences(ast.parse(text), {"Busy", "StepFailed"}))) is seen


# --- what they say --------------------------------------------------------------------------

SAMPLES: dict[str, object] = {
    "int": 41, "int | None": 41, "float": 43.0, "bool": True, "Mapping[int, str]": {3: "eth1"},
    "Iterable[int]": (41,),
}  # fmt: skip
TEXTS = {"str", "str | None", "object"}
LISTS = {"Sequence[str]", "Iterable[str]", "Collection[str]"}


def spoken() -> Iterator[tuple[str, Callable[..., str], dict[str, object]]]:
    """The functions of values that are simple, with one for each argument."""
    for path in sorted(SRC.rglob("*_words.py")):
        name = ".".join(path.relative_to(SRC.parent).with_suffix("").parts)
        for what, function in vars(importlib.import_module(name)).items():
            kinds = dict(getattr(function, "__annotations__", {}))
            if getattr(function, "__module__", "") != name or kinds.pop("return", "") != "str":
                continue
            if what == "service" or function.__code__.co_flags & CO_VARARGS:
                continue  # one says what it knows by the address; the others take lists
            sample = {
                argument: [f"<{argument}>"] if kind in LISTS
                else f"<{argument}>" if kind in TEXTS else SAMPLES.get(kind)
                for argument, kind in kinds.items()
            }  # fmt: skip
            if None not in sample.values():
                yield f"{name}.{what}", function, sample


@pytest.mark.wording
@pytest.mark.parametrize(
    ("function", "sample"), [pytest.param(f, sample, id=name) for name, f, sample in spoken()]
)
def test_what_a_sentence_is_given_is_in_it(
    function: Callable[..., str], sample: dict[str, object]
) -> None:
    said = function(**sample)
    texts = [one if isinstance(one, str) else one[0] for one in sample.values()
             if isinstance(one, str | list)]  # fmt: skip
    assert [text for text in texts if text not in said] == []
    for argument in (name for name, value in sample.items() if value is True):
        assert function(**{**sample, argument: False}) != said
    assert said
