"""Which tests a mutant is run against, and in which order."""

from __future__ import annotations

from pathlib import Path

from tools.mutants import check, reach
from tools.mutants.reach import Case, Reach

MODULE = "decide/some.py"


def case(name: str, file: str, seconds: float = 0.0, **lines: set[int]) -> Case:
    modules = {f"decide/{module}.py": frozenset(of) for module, of in lines.items()}
    return Case(f"{file}::{name}", file, seconds, modules)


def names(tests: list[Case]) -> list[str]:
    return [test.id.partition("::")[2] for test in tests]


NEAR, CLOSE, FAR = "tests/unit/decide/test_some.py", "tests/unit/test_x.py", "tests/unit/test_y.py"
KNOWN = Reach(
    importers={MODULE: frozenset({"decide/user.py"})},
    tests=[
        case("near", NEAR, 0.1, some={3}),
        case("other line", NEAR, some={9}),
        case("close", CLOSE, some={3, 4}),
        case("through a user", FAR, user={1}),
        case("of something else", FAR, another={3}),
    ],
    named={FAR: frozenset({"decide/constants.py", "decide/other.py"})},
    imports={FAR: {MODULE: frozenset({20})}},
    seconds={NEAR: 1.0, CLOSE: 0.1, FAR: 0.1},
)


def reaching(lines: range, *, at_import: bool = False) -> list[str]:
    return names(KNOWN.reaching(MODULE, lines, at_import=at_import))


def test_the_tests_that_run_the_line() -> None:
    assert reaching(range(2, 4)) == ["near", "close"]
    assert reaching(range(4, 5)) == ["close"]
    assert reaching(range(30, 31)) == []


def test_what_a_file_runs_when_it_is_imported_is_run_for_all_its_tests() -> None:
    assert reaching(range(20, 21)) == ["through a user", "of something else"]


def test_a_line_run_at_import_is_reached_by_users_of_the_module() -> None:
    assert reaching(range(1, 2), at_import=True) == [
        "near",
        "other line",
        "close",
        "through a user",
    ]


def test_a_line_run_at_import_is_reached_by_files_that_name_the_module() -> None:
    """A test that compares two constants runs nothing."""
    found = KNOWN.reaching("decide/constants.py", range(1, 2), at_import=True)
    assert names(found) == ["through a user", "of something else"]


def test_modules_that_import_one(tmp_path: Path) -> None:
    texts = {
        "decide/some.py": "",
        "errors.py": "",
        "act/a.py": "from manactl.decide.some import x",
        "act/b.py": "def f():\n    from manactl.decide import other, some",
        "act/c.py": "from manactl import errors\nfrom decide import some",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = reach.importers(tmp_path)
    assert found["decide/some.py"] == {"act/a.py", "act/b.py"}
    assert found["errors.py"] == {"act/c.py"}
    assert found["act/a.py"] == frozenset()


def test_what_was_measured_holds_while_the_program_and_what_is_shared_do(tmp_path: Path) -> None:
    top = tmp_path / "mutants"  # a name that is also that of this tool
    shared = ["src/manactl/a.py", "tests/conftest.py", "tests/data/x", "tools/completions/a.py"]
    other = ["tests/lab/a.py", "tests/unit/test_a.py", "tools/mutants/a.py", "src/manactl/a.pyc"]
    settings = "[tool.pytest.ini_options]\n"
    for name in (*shared, *other):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("")
    (top / "pyproject.toml").write_text(settings)

    def key() -> bytes:
        return reach.shared(top, ["tests/unit/test_a.py"])

    before = key()
    for name in other:
        (top / name).write_text("changed")
    assert key() == before
    for name in shared:
        (top / name).write_text("changed")
        assert key() != before, name
        (top / name).write_text("")
    (top / "pyproject.toml").write_text(settings + "addopts = '-x'\n")
    assert key() != before


def test_the_tests_of_the_module_come_first_then_what_is_fast() -> None:
    files = [f"tests/unit/test_{number}.py" for number in range(5)]
    network = "tests/netns/test_n.py"
    known = Reach(seconds=dict.fromkeys([*files, network, NEAR], 1.0))
    tests = [
        case("network", network),
        *(case(f"{number}", file, 0.1 * (5 - number)) for number, file in enumerate(files)),
        case("slow", NEAR, 3.0),
        case("fast", NEAR, 0.2),
    ]
    first, then = check.batches(tests, MODULE, known)
    assert names(first) == ["fast", "4", "3", "slow"]
    assert names(then) == ["network", "2", "1", "0"]
