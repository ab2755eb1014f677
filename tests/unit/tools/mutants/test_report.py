"""Which mutants count, which may stay, and what is printed of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.mutants import accepted, report, targets
from tools.mutants.__main__ import draw
from tools.mutants.accepted import Entry
from tools.mutants.mutate import mutants
from tools.mutants.report import Result

SOURCE = b"""\
def f(a):
    return [b for b in a
            if b > 0]

def g(a):
    return a == 1
"""
MADE = mutants(SOURCE, "decide/some.py")
GREATER = next(one for one in MADE if one.now == "b >= 0")
EQUAL = next(one for one in MADE if one.now == "a != 1")
ENTRY = Entry("decide/some.py", "f", "b > 0", "b >=\n 0", "there is never a zero")


def test_an_entry_is_about_what_reads_the_same() -> None:
    assert ENTRY.matches(GREATER)
    assert accepted.reason(GREATER, [ENTRY]) == "there is never a zero"
    assert accepted.reason(EQUAL, [ENTRY]) is None
    for change in ({"module": "some.py"}, {"function": "g"}, {"was": "b > 1"}, {"now": "b < 0"}):
        values = {name: getattr(ENTRY, name) for name in Entry.__slots__} | change
        assert not Entry(**values).matches(GREATER)


def test_an_entry_about_nothing_is_stale() -> None:
    other = Entry("decide/some.py", "f", "b > 2", "b >= 2", "gone")
    elsewhere = Entry("decide/gone.py", "f", "b > 0", "b >= 0", "gone")
    made = {"decide/some.py": MADE}
    assert accepted.stale([ENTRY, other, elsewhere], made) == [other, elsewhere]


def test_entries_are_read(tmp_path: Path) -> None:
    path = tmp_path / "survivors.toml"
    keys = "module = 'm'\nfunction = 'f'\nwas = 'a'\nnow = 'b'\n"
    path.write_text(f"[[survivor]]\n{keys}reason = 'why'\n")
    assert accepted.read(path) == [Entry("m", "f", "a", "b", "why")]
    path.write_text(f"[[survivor]]\n{keys}reason = ' '\n")
    with pytest.raises(SystemExit, match="no reason"):
        accepted.read(path)


def test_the_checked_in_entries_can_be_read() -> None:
    accepted.read()


def test_accepted_mutants_do_not_count() -> None:
    killed, left = Result(EQUAL, "test_g", None), Result(GREATER, None, None)
    stays = Result(GREATER, None, "why")
    assert report.share([killed, left]) == 50
    assert report.share([killed, stays]) == 100
    assert report.share([killed, Result(GREATER, "test_f", "why")]) == 100
    assert report.share([]) == 100
    late = Result(EQUAL, "test_g (time-out)", None)
    assert list(report.table([killed, late, late]))[-1] == "(2 killed by a time-out)"
    lines = [line.split() for line in report.table([killed, left, stays])]
    assert lines[1:] == [
        ["decide/some.py", "3", "1", "2", "1", "50"],
        ["total", "3", "1", "2", "1", "50"],
    ]


def test_a_survivor_is_shown_where_it_is() -> None:
    results = [Result(EQUAL, "test_g", None), Result(GREATER, None, None, 3)]
    assert list(report.survivors(results, {"decide/some.py": SOURCE})) == [
        "",
        f"src/manactl/decide/some.py:3 f: other comparison ({GREATER.id}; 3 tests run it)",
        "         return [b for b in a",
        "    -            if b > 0]",
        "    +            if (b >= 0)]",
        "     ",
        "  was = 'b > 0'",
        "  now = 'b >= 0'",
    ]


def test_a_draw_is_the_same_for_a_seed_and_takes_a_line_once() -> None:
    lines = {one.line for one in MADE}
    drawn = draw(MADE, 100, 7)
    assert drawn == draw(MADE, 100, 7)
    assert sorted(one.line for one in drawn) == sorted(lines)
    assert len(draw(MADE, 1, 7)) == 1
    assert len({draw(MADE, 1, seed)[0].id for seed in range(50)}) > 1


def test_a_directory_names_its_modules(tmp_path: Path) -> None:
    for name in ("decide/guards.py", "decide/deep/table.py", "act/plan.py", "cli.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = targets.modules(tmp_path, ("decide", "cli.py"))
    assert found == ["cli.py", "decide/deep/table.py", "decide/guards.py"]
    with pytest.raises(SystemExit, match="no module gone"):
        targets.modules(tmp_path, ("gone",))


def test_every_target_is_there() -> None:
    assert targets.modules(Path(__file__).parents[4] / "src" / "manactl")
