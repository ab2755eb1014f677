"""manactl with other words: every sentence and label in its source replaced when it is imported.

`python -m tests.unit.scrambled MODE` imports manactl so and prints, as JSON, what it decides in
the scenes of tests.unit.scenes, and the words that came with it. What is decided on a sentence
that was written elsewhere, or on a part of one, comes out differently in one of the modes:

- `unlike`: no two places have the same words (where a value is read back from another's words);
- `alike`: all have the same (where two sentences are compared, or one is looked for in another).

`plain` changes nothing, for comparison.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import json
import re
import sys
from collections.abc import Iterator, Sequence
from types import CodeType, ModuleType

LAYERS = ("model", "errors", "wire", "netstate", "decide", "look", "report", "journal", "act",
          "doctor", "render", "cli")  # fmt: skip
LABELLED = {"Evidence": 1, "Missing": 1}  # constructors, and which argument is words
_SENTENCE = re.compile(r"[A-Za-z]{2,}[,;:]? \(?[a-z]{2,}")
# Where a sentence is no words but an interface: SQL would be, and so are these.
_NOT_WORDS = re.compile(r"^\^|%[a-z]|^\s*\(")


class Scramble(ast.NodeTransformer):
    """Replaces what reads like a sentence, and the labels of facts, by `unlike` or `alike`."""

    def __init__(self, module: str, mode: str) -> None:
        self._module = module
        self._mode = mode
        self._count = 0
        self._labels: set[int] = set()

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in LABELLED and len(node.args) > LABELLED[name]:
            self._labels |= {id(part) for part in _parts(node.args[LABELLED[name]])}
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if not isinstance(node.value, str):
            return node
        sentence = _SENTENCE.search(node.value) and not _NOT_WORDS.search(node.value)
        if not (sentence or id(node) in self._labels):
            return node
        self._count += 1
        other = "word" if self._mode == "alike" else f"<{self._module}.{self._count}>"
        return ast.copy_location(ast.Constant(other), node)


def _parts(node: ast.expr) -> Iterator[ast.expr]:
    """The constants that an argument is made of."""
    for child in ast.walk(node):
        if isinstance(child, ast.Constant):
            yield child


class Loader(importlib.machinery.SourceFileLoader):
    """Compiles the scrambled source; never from, and never into, a cache."""

    mode = "plain"

    def get_code(self, fullname: str) -> CodeType:
        tree = ast.parse(self.get_data(self.path))
        return compile(Scramble(fullname, self.mode).visit(tree), self.path, "exec")


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of the layers, and loads them by Loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, rest = fullname.partition(".")
        if package != "manactl" or rest.partition(".")[0] not in LAYERS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.origin is not None:
            spec.loader = Loader(fullname, spec.origin)
        return spec


def main(mode: str) -> None:
    if mode != "plain":
        Loader.mode = mode
        sys.meta_path.insert(0, Finder())
    from tests.unit import scenes  # noqa: PLC0415 - with the finder in place

    json.dump(scenes.play(), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
