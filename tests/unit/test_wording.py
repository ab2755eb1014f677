"""What manactl says is asserted where words are the matter, and nowhere else: in blocks `with
wording`, by says(), and in tests that have the mark. `make words` shows the same by running them."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

import manactl
from manactl.errors import Busy
from tests.other_words import LAYERS, Scramble, write
from tests.unit import wording as apart
from tests.unit.wording import Coded, says, wording

SRC = Path(manactl.__file__).parent
HERE = Path(__file__).parent
TESTS = HERE.parent
NOT_OURS = {"lab", "nic", "tools"}  # they test what is beside src/manactl
ABOUT_SCREENS = {"demo.py"}
WAITS = {"expect", "read_until"}  # of a process in the guest, for what it says
RUN = 4  # words in a row: fewer are anybody's


def runs(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1)}


def said() -> set[tuple[str, ...]]:
    """All that manactl says, in pieces: what other_words.py replaces."""
    scramble = Scramble("", "alike")
    found = set()
    for layer in LAYERS:
        for path in sorted((SRC / layer).rglob("*.py")) or [SRC / f"{layer}.py"]:
            tree = ast.parse(path.read_text())
            docstrings = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
            for text in texts(tree):
                if id(text) not in docstrings:
                    other = scramble.visit_Constant(text)
                    assert isinstance(other, ast.Constant)
                    found |= runs(text.value) - runs(other.value)  # commands stay
    return found


def texts(node: ast.AST) -> Iterator[ast.Constant]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part


def called(node: ast.AST) -> str:
    return ast.unparse(node.func if isinstance(node, ast.Call) else node)


def about_words(node: ast.AST) -> bool:
    """Whether words are the matter here."""
    if isinstance(node, ast.With):
        return any(called(item.context_expr) == "wording" for item in node.items)
    if isinstance(node, ast.FunctionDef):
        return any(called(one) == "pytest.mark.wording" for one in node.decorator_list)
    if isinstance(node, ast.Module):
        return any(ast.unparse(one) == "pytestmark = pytest.mark.wording" for one in node.body)
    return isinstance(node, ast.keyword) and called(node.value) == "says"


def waited_for(node: ast.Compare | ast.Call) -> bool:
    return isinstance(node, ast.Compare) or called(node).rpartition(".")[2] in WAITS


def asserted(node: ast.AST) -> Iterator[ast.Constant]:
    """The texts that are asserted apart from where words are the matter."""
    if about_words(node):
        return
    if isinstance(node, ast.Assert):
        yield from texts(node.test)
    elif isinstance(node, ast.Compare | ast.Call) and waited_for(node):
        yield from texts(node)
    elif isinstance(node, ast.keyword) and node.arg == "match":
        yield from texts(node.value)
    else:
        for child in ast.iter_child_nodes(node):
            yield from asserted(child)


def ours(tree: ast.Module, known: Collection[tuple[str, ...]]) -> list[ast.Constant]:
    return [text for text in asserted(tree) if not runs(text.value).isdisjoint(known)]


def files() -> Iterator[Path]:
    """Those that test manactl; beside the lab's tests, what they share."""
    for path in HERE.rglob("test_*.py"):
        if path.relative_to(HERE).parts[0] not in NOT_OURS:
            yield path
    yield from (TESTS / "netns").glob("*.py")
    yield from (path for path in (TESTS / "lab").glob("*.py") if path.name not in ABOUT_SCREENS)


def test_words_are_asserted_where_they_are_the_matter() -> None:
    known = said()
    found = [
        f"{path.relative_to(TESTS)}:{text.lineno}: {text.value!r}"
        for path in sorted(files())
        for text in ours(ast.parse(path.read_text()), known)
    ]
    assert found == []


KNOWN = {("it", "was", "not", "restored")}
ASSERTED = 'assert "it was not restored" in message'


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (ASSERTED, True),
        ('with pytest.raises(Busy, match="since it was not restored"): run()', True),
        (f"def test():\n    for one in two:\n        {ASSERTED}", True),
        ('eventually(lambda: "it was not restored" in process.err)', True),
        ('process.read_until("it was not restored", 60)', True),
        ('with pytest.raises(Busy, match=says("it was not restored")): run()', False),
        (f"with wording:\n    {ASSERTED}", False),
        (f"@pytest.mark.wording\ndef test():\n    {ASSERTED}", False),
        (f"pytestmark = pytest.mark.wording\n{ASSERTED}", False),
        ('assert message == "it was restored"', False),
        ('message = "it was not restored"', False),
    ],
)
def test_asserting_words_is_seen(text: str, seen: bool) -> None:
    assert bool(ours(ast.parse(text), KNOWN)) is seen


# --- the means ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "which"),
    [
        (Coded("drift"), True),
        (Coded("drift", untouched=True), True),
        (Coded("drift", untouched=False), False),
        (Coded("busy"), False),
    ],
)
def test_an_error_goes_by_its_code(check: Coded, which: bool) -> None:
    assert check(Busy("it moved", untouched="nothing was touched", code="drift")) is which


def test_the_source_for_a_guest_has_the_words_of_this_process(tmp_path: Path) -> None:
    """And bytecode of the checkout does not go with it."""
    layers = (
        "decide/guards.py",
        "decide/__init__.py",
        "explain/find.py",
        "schemas/exec.schema.json",
    )
    for name in layers:
        (tmp_path / "src/manactl" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "src/manactl" / name).write_bytes((SRC / name).read_bytes())
    (tmp_path / "src/manactl/__pycache__").mkdir()
    write(tmp_path / "src", tmp_path / "other", "unlike")
    other = tmp_path / "other/manactl"
    tree = ast.parse((SRC / "decide/guards.py").read_text())
    here = Scramble("manactl.decide.guards", "unlike").visit(tree)
    assert ast.dump(ast.parse((other / "decide/guards.py").read_text())) == ast.dump(here)
    for name in layers[2:]:
        assert (other / name).read_bytes() == (SRC / name).read_bytes()
    assert not (other / "__pycache__").exists()


def test_words_are_asked_for_where_they_are_manactl_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for own in (True, False):
        monkeypatch.setattr(apart, "OWN_WORDS", own)
        assert says("set it up") == ("set it up" if own else None)
        with pytest.raises(AssertionError) if own else nullcontext(), wording:
            raise AssertionError
        with pytest.raises(OSError, match="out"), wording:
            raise OSError("out")
