"""What is changed in a module, and what is left alone."""

from __future__ import annotations

import textwrap

import pytest
from tools.mutants.mutate import Mutant, mutants


def made(source: str) -> list[Mutant]:
    return mutants(textwrap.dedent(source).encode(), "some.py")


def changes(source: str) -> set[tuple[str, str, str]]:
    return {(one.operator, one.was, one.now) for one in made(source)}


def in_function(*lines: str, returns: str = "object") -> str:
    return f"def f(a, b, c) -> {returns}:\n" + "".join(f"    {line}\n" for line in lines)


CASES = {
    "order": (
        "x = a < b",
        {("other comparison", "a < b", "a <= b"), ("other comparison", "a < b", "a >= b")},
    ),
    "equality": ("x = a == b", {("other comparison", "a == b", "a != b")}),
    "membership": ("x = a in b", {("other comparison", "a in b", "a not in b")}),
    "identity": ("x = a is not b", {("other comparison", "a is not b", "a is b")}),
    "conditions": (
        "x = a and b",
        {
            ("and/or", "a and b", "a or b"),
            ("drop condition", "a and b", "b"),
            ("drop condition", "a and b", "a"),
        },
    ),
    "not": ("x = not a", {("drop not", "not a", "a")}),
    "true": ("x = True", {("other constant", "True", "False")}),
    "number": ("x = 5", {("other number", "5", "6"), ("other number", "5", "4")}),
    "a shown word": ("x = 'word'", set()),
    "a compared word": (
        "x = a == 'w'",
        {("other comparison", "a == 'w'", "a != 'w'"), ("other word", "'w'", "'w-'")},
    ),
    "a key": ("x = {'k': a}", {("other word", "'k'", "'k-'"), ("drop entry", "'k'", "")}),
    "a subscript": ("x = a['k']", {("other word", "'k'", "'k-'")}),
    "words in f-strings": ("x = f'{a or b}'", set()),
    "plus": ("x = a + b", {("other operator", "a + b", "a - b")}),
    "plus of words": ("x = a + 'b'", set()),
    "keyword": ("f(b, c=a)", {("drop keyword", "f(... c=a)", "f(...)"), ("delete call", "f(b, c=a)", "pass")}),
    "a message": ("raise E(hint='do this')", {("delete raise", "raise E(hint='do this')", "pass")}),
    "function": ("x = any(a)", {("other function", "any", "all")}),
    "last": ("x = a[-1]", {("other index", "-1", "0"), ("other number", "1", "2"), ("other number", "1", "0")}),
    "slice": ("x = a[b:]", {("wider slice", "a[b:]", "a[:]")}),
    "filter": ("x = [d for d in a if d]", {("drop filter", "[d for d in a if d]", "[d for d in a]")}),
    "state": ("a.x = b", {("delete assignment", "a.x = b", "pass")}),
    "a name": ("x = b", set()),
    "if": ("if a: x = b", {("negate", "a", "not a")}),
    "choice": ("x = b if a else c", {("negate", "a", "not a")}),
    "assertion": ("assert a == b", set()),
    "zip": ("x = zip(b, strict=True)", set()),
    "no assertion": (
        "f(b, strict=True)",
        {
            ("other constant", "True", "False"),
            ("drop keyword", "f(... strict=True)", "f(...)"),
            ("delete call", "f(b, strict=True)", "pass"),
        },
    ),
    "a type": ("x = tuple[int, str]", set()),
    "annotation": ("x: Literal[1] = b", set()),
    "a list": (
        "x = [a, b]",
        {("drop element", "[a, b]", "[b]"), ("drop element", "[a, b]", "[a]")},
    ),
    "suppress": (
        "with suppress(a): b",
        {("suppress nothing", "suppress(a)", "suppress()")},
    ),
    "augmented": (
        "a += b",
        {("delete statement", "a += b", "pass"), ("other operator", "a += b", "a -= b")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_changes_of_a_statement(name: str) -> None:
    statement, expected = CASES[name]
    assert changes(in_function(statement)) == expected


@pytest.mark.parametrize(
    ("returns", "others"),
    [
        ("list[int]", {"[]"}),
        ("A | None", {"None"}),
        ("'A'", set()),
        ("bool", {"True", "False"}),
        ("bool | None", {"None", "True", "False"}),
        ("Mapping[str, int]", {"{}"}),
        ("str", {'""'}),
    ],
)
def test_results_are_others_of_the_same_type(returns: str, others: set[str]) -> None:
    found = changes(in_function("return a", returns=returns))
    assert found == {("other result", "return a", f"return {other}") for other in others}


def test_jumps_and_handlers() -> None:
    found = changes(
        in_function(
            "for x in a:", "    try:", "        break", "    except (A, B):", "        continue"
        )
    )
    assert found == {
        ("other jump", "break", "continue"),
        ("other jump", "continue", "break"),
        ("raise in except", "continue", "raise"),
        ("narrower except", "(A, B)", "(B,)"),
        ("narrower except", "(A, B)", "(A,)"),
    }


def test_cases_of_a_match() -> None:
    found = changes(in_function("match a:", "    case 'w' if b:", "        pass"))
    assert found == {("other word", "'w'", "'w-'"), ("negate", "b", "not b")}


def test_what_is_left_alone() -> None:
    assert not made(
        '''
        """Text."""
        from typing import TYPE_CHECKING
        __all__ = ["a", "b"]
        if TYPE_CHECKING:
            x = 1
        class Shape(Protocol):
            """Text."""
            size: int = 1
        @decorate(1, only=True)
        def f(): ...
        '''
    )


def test_the_text_around_stays_as_it_is() -> None:
    source = "def f(a, b):\n    é = 'é'  # é\n    return a * (b == 2)  # why\n"
    texts = {one.apply(source.encode()).decode() for one in made(source)}
    head = "def f(a, b):\n    é = 'é'  # é\n    return "
    assert texts == {
        head + "a * ((b != 2))  # why\n",
        head + "a * (b == 3)  # why\n",
        head + "a * (b == 1)  # why\n",
        head + "(a // (b == 2))  # why\n",
    }


@pytest.mark.parametrize(
    ("source", "was", "text"),
    [
        ("x = {\n    'a': b,  # why\n    'c': d,\n}\n", "'a'", "x = {\n    'c': d,\n}\n"),
        ("x = {\n    'a': b,  # why\n    'c': d,\n}\n", "'c'", "x = {\n    'a': b,\n}\n"),
        ("x = {'a': (b), 'c': d}\n", "'c'", "x = {'a': b}\n"),
        ("x = {**a, 'c': d}\n", "**a", "x = {'c': d}\n"),
        ("f(a, b=c,\n  d=e)\n", "f(... b=c)", "f(a, d=e)\n"),
        ("f(b=c)\n", "f(... b=c)", "f()\n"),
        ("f(*a, b=c)\n", "f(... b=c)", "f(*a)\n"),
    ],
)
def test_a_part_goes_and_the_rest_stays(source: str, was: str, text: str) -> None:
    (mutant,) = (one for one in made(source) if one.was == was and one.operator != "other word")
    assert mutant.apply(source.encode()).decode() == text


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ("x = a and b and c\n", ["x = b and c\n", "x = a and c\n", "x = a and b\n"]),
        ("x = (a or b) and c\n", ["x = c\n", "x = (a or b)\n"]),
        ("x = f(a and\n      b)\n", ["x = f(b)\n", "x = f(a)\n"]),
        ("x = not (a == b or c)\n", ["x = not (c)\n", "x = not (a == b)\n"]),
    ],
)
def test_a_condition_goes(source: str, texts: list[str]) -> None:
    found = [one for one in made(source) if one.operator == "drop condition"]
    outer = [one for one in found if one.was.count(" ") == max(o.was.count(" ") for o in found)]
    assert sorted(one.apply(source.encode()).decode() for one in outer) == sorted(texts)


def test_where_it_is_and_what_has_to_run() -> None:
    source = """\
        LIMIT = 0

        class A:
            def f(self, a):
                if (
                    a
                    > LIMIT
                ):
                    return 1
        """
    places = {one.now: (one.function, one.line, one.lines, one.at_import) for one in made(source)}
    assert places["1"] == ("<module>", 1, range(1, 2), True)
    assert places["a >= LIMIT"] == ("A.f", 6, range(5, 9), False)
    assert places["2"] == ("A.f", 9, range(9, 10), False)


def test_an_id_stays_when_lines_move() -> None:
    source = in_function("x = a < 1", "y = a < 1")
    before = [one.id for one in made(source)]
    assert [one.id for one in made("import os\n\n" + source)] == before
    assert len(set(before)) == len(before)
