"""tests/unit/ mirrors src/manactl/: each module that does something has a test file of its name."""

from __future__ import annotations

import ast
from pathlib import Path

import manactl

SRC = Path(manactl.__file__).parent
HERE = Path(__file__).parent


def place_of(module: Path) -> Path:
    """Where the tests of a module belong: those of cli/app.py in tests/unit/cli/test_app.py."""
    path = module.relative_to(SRC)
    return HERE / path.parent / f"test_{path.stem.strip('_')}.py"


def only_data(module: Path) -> bool:
    """Whether there is nothing but values and shapes of values: no function but of one statement
    that makes a value from its arguments."""
    tree = ast.parse(module.read_text())
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return all(_makes_a_value(function) for function in functions)


def _makes_a_value(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    body = [node for node in function.body if not _is_docstring(node)]
    if not body:  # a method of a Protocol
        return True
    *before, last = body
    deciding = (ast.If, ast.For, ast.While, ast.Try, ast.With, ast.Match, ast.IfExp, ast.BoolOp)
    return (
        not before
        and isinstance(last, ast.Return)
        and not any(isinstance(node, deciding) for node in ast.walk(last))
    )


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def modules() -> list[Path]:
    return [path for path in sorted(SRC.rglob("*.py")) if path.name != "__init__.py"]


def test_every_module_that_does_something_has_its_test_file() -> None:
    lacking = [p for p in modules() if not only_data(p) and not place_of(p).exists()]
    assert [str(path.relative_to(SRC)) for path in lacking] == []


def test_every_folder_of_tests_is_one_of_modules() -> None:
    layers = {path.parent.name for path in SRC.glob("*/__init__.py")}
    folders = {path.parent.name for path in HERE.glob("*/__init__.py")}
    assert folders - layers == {"lab", "nic", "tools"}  # tests of what is beside src/manactl
    assert layers <= folders
