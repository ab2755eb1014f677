"""The lab's README names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

LAB = Path(__file__).resolve().parents[2] / "lab"


def test_what_the_table_of_failures_names_is_there() -> None:
    text = (LAB / "README.md").read_text()
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", text)
    assert len(named) > 20
    for file, name in named:
        assert re.search(rf"^def {name}\(", (LAB / file).read_text(), re.MULTILINE), (file, name)
