"""The words on disk: they are these, for journals outlive the manactl that wrote them, and they
stand in one place."""

from __future__ import annotations

import ast
import enum
from collections.abc import Iterator
from pathlib import Path

import manactl
from manactl.model import record
from manactl.model.claim import Phase
from manactl.model.port import DOWN, KEEP, UIO

SRC = Path(manactl.__file__).parent
# A word is added here with the first journal that has it. None goes, and none comes to mean
# something else.
ON_DISK = {
    "Event": [
        "doing", "done", "claimed", "armed", "confirmed", "unwinding", "releasing", "undoing",
        "undone", "residue", "released", "accepted", "closed",
    ],
    "Phase": ["claimed", "interrupted", "closed"],
    "Ending": ["released", "unwound", "recovered", "accepted", "reboot"],
    "Reason": ["expired", "abandoned"],
    "StepKind": [
        "keep-state", "hold-manager", "leave-down", "set-admin", "set-synthetic", "bind-uio",
        "prove-free",
    ],
    "Mode": ["claim", "exec"],
}  # fmt: skip
# Another table's word, in a file that has nothing to do with records.
OTHERS = {
    ("completion/offer.py", "claimed"),  # the ports that a parameter is for
    ("render/plan.py", "claim"),  # what a plan is of
}


def enums() -> dict[str, type[enum.StrEnum]]:
    of_all = {**vars(record), "Phase": Phase}
    found = {name: one for name, one in of_all.items() if isinstance(one, type)}
    return {name: one for name, one in found.items() if issubclass(one, enum.StrEnum)}


def test_the_words_on_disk_are_those_of_all_journals_before() -> None:
    assert {name: [word.value for word in one] for name, one in enums().items()} == ON_DISK
    assert (DOWN, KEEP, UIO) == ("down", "keep", "uio")


def words_compared(tree: ast.AST) -> Iterator[ast.Constant]:
    """The constants that something is compared with or recorded as: operands of comparisons, what
    is looked up in a table, cases, and what is passed to append(), record() and close()."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            yield from constants(node)
        elif isinstance(node, ast.MatchValue):
            yield from constants(node.value)
        elif isinstance(node, ast.Call) and name_of(node.func) in {"append", "record", "close"}:
            on = name_of(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            if on in {"log", "work", "journal", "transition"} or name_of(node.func) == "close":
                for argument in node.args:
                    yield from constants(argument)


def constants(node: ast.AST) -> Iterator[ast.Constant]:
    """Those of an expression, but for keys: record["claimed"] is no comparison with it."""
    if isinstance(node, ast.Constant):
        yield node
    elif isinstance(node, ast.Subscript):
        yield from constants(node.value)
    elif not (isinstance(node, ast.Call)):
        for child in ast.iter_child_nodes(node):
            yield from constants(child)


def name_of(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def found_in(text: str) -> list[str]:
    words = {word for one in ON_DISK.values() for word in one}
    tree = ast.parse(text)
    compared = [one.value for one in words_compared(tree) if one.value in words]
    kinds = [  # nobody else has these words
        one.value
        for one in ast.walk(tree)
        if isinstance(one, ast.Constant) and one.value in ON_DISK["StepKind"]
    ]
    return [*compared, *(kind for kind in kinds if kind not in compared)]


def test_no_other_module_spells_them() -> None:
    found = {
        (str(path.relative_to(SRC)), word)
        for path in sorted(SRC.rglob("*.py"))
        if path != Path(record.__file__) and path.parts[-2] != "explain"
        for word in found_in(path.read_text())
    }
    assert found - OTHERS == set()
    assert found == OTHERS, "one of these is not needed any more"


def test_a_word_that_is_spelled_is_found() -> None:
    """Else that none is found would mean nothing."""
    for text in (
        'if record["event"] == "closed": pass',
        'any(r["event"] in ("released", "accepted") for r in records)',
        'log.append("doing", step=1)',
        'work.record(result, "undone")',
        'transition.close(log, "reboot")',
        'kind = "keep-state"',
        'match event:\n    case "armed": pass',
    ):
        assert found_in(text), text
    assert not found_in('parts.append("claimed")')
    assert not found_in('if record["claimed"] == 1: pass')
