"""manactl with other words: every sentence and label in its source replaced when it is imported.

What is decided on a sentence that was written elsewhere, or on a part of one, comes out differently
in one of the modes:

- `unlike`: no two places have the same words (where a value is read back from another's words);
- `alike`: all have the same (where two sentences are compared, or one is looked for in another).

`plain` changes nothing. With MANACTL_WORDS=unlike or alike all tests run so (conftest.py), the lab's
guests included (tests/lab/image.py), and those of behaviour pass: `make words`, `make words-lab`.
tests/unit/test_words.py compares what is decided.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, ModuleType

LAYERS = ("model", "errors", "wire", "netstate", "decide", "look", "report", "journal", "act",
          "doctor", "render", "cli")  # fmt: skip
LABELLED = {"Evidence": 1, "Missing": 1}  # constructors, and which argument is words
_SENTENCE = re.compile(r"[A-Za-z]{2,}[,;:]? \(?[a-z]{2,}")
# Where a sentence is no words but an interface: SQL would be, and so are these, comments in the
# files that are written, and the commands that people are told to type, alone or in a sentence.
_NOT_WORDS = re.compile(r"^\^|%[a-z]|^\s*\(|^# |^\n*\[[A-Z]")
_COMMAND = re.compile(
    r"(?:manactl (?:status|claim|confirm|release|recover|hold|doctor|history|explain)\b"
    r"|apt install|systemctl [a-z]|modprobe (?:-r |-a )?(?:mana|ib_|hv_)|rdma (?:system|dev) [a-z]"
    r"|mount -t|journalctl -|networkctl [a-z]|udevadm [a-z]|echo (?:\w+|'[\w ]+') >|kill -9|nsenter -t"
    r"|ip netns (?:exec|attach|del)|ip link set)[^`;,#\n]*"
)


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
        command = _COMMAND.search(node.value)
        typed = command[0] if command else ""
        if node.value.strip() == typed.strip():
            return node
        self._count += 1
        other = "word" if self._mode == "alike" else f"<{self._module}.{self._count}>"
        if typed:
            other = f"{other} {typed}"
        if node.value.endswith("\n"):
            other = f"{other}\n"
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
        if not _of_a_layer(package, rest):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.origin is not None:
            spec.loader = Loader(fullname, spec.origin)
        return spec


def _of_a_layer(package: str, rest: str) -> bool:
    return package == "manactl" and rest.partition(".")[0] in LAYERS


def write(top: Path, into: Path, mode: str) -> None:
    """Copy the source below `top` (which has manactl) to `into`, with other words, for a Python
    elsewhere. Each module has the words that it has when it is imported here."""
    shutil.copytree(top, into, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    for path in sorted(into.rglob("*.py")):
        parts = path.relative_to(into).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        package, _, rest = name.partition(".")
        if _of_a_layer(package, rest):
            tree = Scramble(name, mode).visit(ast.parse(path.read_bytes()))
            path.write_text(f"{ast.unparse(tree)}\n")


def install(mode: str) -> None:
    """Have all of manactl that is imported from now on say other words."""
    if mode not in ("plain", "unlike", "alike"):
        raise ValueError(f"no mode of words: {mode}")
    if mode != "plain":
        Loader.mode = mode
        sys.meta_path.insert(0, Finder())
