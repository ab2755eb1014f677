"""No decision rests on words: with all of them replaced, manactl decides as before."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MODES = ("plain", "unlike", "alike")
DECIDED = (
    "looks", "missing", "terminate", "guards", "ports", "claims", "releases", "pairs", "persistent",
    "confirmed", "exec", "holds", "commands",
)  # fmt: skip


@pytest.fixture(scope="module")
def played() -> dict[str, Any]:
    """What each mode of tests.unit.scrambled comes to, in processes of their own."""
    environment = {
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "COLUMNS": "80",
        "PATH": "/usr/bin:/bin",
        "TMPDIR": tempfile.gettempdir(),
    }
    running = {
        mode: subprocess.Popen(
            [sys.executable, "-m", "tests.unit.scrambled", mode],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE,
        )
        for mode in MODES
    }  # fmt: skip
    outcomes = {mode: json.loads(child.communicate()[0]) for mode, child in running.items()}
    assert [child.returncode for child in running.values()] == [0] * len(MODES)
    return outcomes


def test_the_scenes_come_to_every_kind_of_decision(played: dict[str, Any]) -> None:
    """Else that nothing differs would mean little."""
    decided = played["plain"]["decided"]
    ports = [port for ports in decided["looks"].values() for port in ports]
    assert {port["owner"] for port in ports} == {"ethernet", "raw-qp", "free", "unknown"}
    assert {port["certainty"] for port in ports} == {"proven", "inferred", "unknown"}
    for key in ("eqs_lost", "in_reset", "candidates", "claimed", "drift", "holders"):
        assert {bool(port[key]) for port in ports} == {False, True}, key
    chosen = [tuple(map(str, one)) for ends in decided["terminate"].values() for one in ends]
    assert {("4211",), ("4211", "4212"), ("Busy", "6", "holder")} <= set(chosen)
    assert {code for _, code, _ in decided["commands"]} >= {0, 2, 8}
    codes = {end[2] for _, _, end, *_ in decided["claims"] if isinstance(end, list)}
    assert {"holder", "kernel-bug", "rolled-back"} <= codes


@pytest.mark.parametrize("mode", MODES[1:])
def test_the_words_are_others(played: dict[str, Any], mode: str) -> None:
    plain, other = set(played["plain"]["words"]), set(played[mode]["words"])
    assert len(plain) > 40
    assert plain & other == set()


@pytest.mark.parametrize("mode", MODES[1:])
@pytest.mark.parametrize("what", DECIDED)
def test_what_is_decided_is_the_same(played: dict[str, Any], what: str, mode: str) -> None:
    assert played[mode]["decided"][what] == played["plain"]["decided"][what]


def test_all_that_is_decided_is_compared(played: dict[str, Any]) -> None:
    assert sorted(played["plain"]["decided"]) == sorted(DECIDED)
