"""The writer of JSON, compared with Python's own."""

from __future__ import annotations

import enum
import json
import random
import subprocess
import sys

import pytest

from manactl.render.json_text import dumps

ODD = ["", "plain", 'a "quoted" word', "back\\slash", "tab\tand\nnewline", "\x1b[31m", "\x7f", "\x00",
       "grün", "日本", "\U0001f600", "\u2028", "</script>"]  # fmt: skip


def made(draw: random.Random, depth: int) -> object:
    """Any JSON value, containers less likely the deeper."""
    kind = draw.randrange(8 if depth < 4 else 6)
    if kind == 6:
        return [made(draw, depth + 1) for _ in range(draw.randrange(4))]
    if kind == 7:
        return {draw.choice(ODD): made(draw, depth + 1) for _ in range(draw.randrange(4))}
    number = draw.randrange(-(1 << 70), 1 << 70)
    return [None, draw.random() < 0.5, number, draw.random(), draw.choice(ODD), "word"][kind]


@pytest.mark.parametrize("seed", range(200))
@pytest.mark.parametrize("indent", [1, None])
def test_a_document_reads_as_pythons_own(seed: int, indent: int | None) -> None:
    document = {"value": made(random.Random(seed), 0)}
    expected = json.dumps(document, indent=indent, ensure_ascii=True, allow_nan=False)
    assert dumps(document, indent=indent) == expected


def test_tuples_are_lists_and_enums_their_values() -> None:
    class Word(enum.StrEnum):
        UP = "up"

    class Number(enum.IntEnum):
        TWO = 2

    document = {"words": (Word.UP, "x"), "number": Number.TWO, "none": ()}
    assert dumps(document, indent=None) == '{"words": ["up", "x"], "number": 2, "none": []}'


def test_bytes_that_are_no_utf8_are_spelled_out() -> None:
    text = dumps({"comm": b"caf\xe9 \xff".decode("utf-8", "surrogateescape")})
    assert json.loads(text) == {"comm": "caf\\xe9 \\xff"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        dumps({"value": value})


def test_plain_documents_do_without_the_json_module() -> None:
    script = (
        "import sys; from manactl.render.json_text import dumps\n"
        "print(dumps({'netdev': 'eth1', 'port': 1, 'up': True, 'holders': [], 'mac': None}))\n"
        "sys.exit('json' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, check=False, env={"PYTHONPATH": "src"}, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["netdev"] == "eth1"
