"""The schemas that are shipped are those that tools/schemas makes, and each is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tools.schemas
from tools.schemas import expanded, schema

MADE = tools.schemas.files()
SHIPPED = Path(__file__).parents[3] / "src/manactl/schemas"


def test_every_shipped_schema_is_made_and_no_other() -> None:
    assert sorted(MADE) == sorted(SHIPPED.iterdir())


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.name)
def test_a_schema_is_what_its_source_makes(path: Path) -> None:
    stale = path.read_text() != MADE[path]
    assert not stale, f"{path} is not what tools/schemas says now: run `make schemas`"


def test_release_and_recover_differ_in_their_names_alone() -> None:
    release, recover = (MADE[SHIPPED / f"{n}.schema.json"] for n in ("release", "recover"))
    pairs = zip(release.splitlines(), recover.splitlines(), strict=True)
    keys = [line.split(":")[0].strip(' "') for line, other in pairs if line != other]
    assert keys == ["$id", "title", "description", "const"]


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.name)
def test_every_reference_ends_in_the_same_file(path: Path) -> None:
    whole = json.loads(MADE[path])
    references = list(_references(whole))
    assert set(references) == {f"#/$defs/{name}" for name in whole.get("$defs", ())}
    assert "$part" not in MADE[path]
    assert '"?' not in MADE[path]


def _references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [one for inner in node for one in _references(inner)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if "$ref" in node else []
    return own + [one for inner in node.values() for one in _references(inner)]


PARTS: dict[str, Any] = {
    "number": {"type": "integer", "description": "A number."},
    "far": {"properties": {"n": {"$part": "number"}}},
    "near": {"items": {"$ref": "#/$defs/far"}},
    "unused": {"type": "null"},
}


def test_a_part_is_copied_and_what_stands_beside_it_wins() -> None:
    source = {"$part": "number", "description": "Of it.", "minimum": 1}
    assert expanded(source, PARTS) == {"type": "integer", "description": "Of it.", "minimum": 1}
    assert expanded([{"$part": "number"}, 7], PARTS) == [PARTS["number"], 7]
    assert PARTS["number"] == {"type": "integer", "description": "A number."}


def test_a_property_is_required_unless_it_is_marked() -> None:
    made = expanded({"properties": {"a": {}, "?b": {}}}, PARTS)
    assert made == {"properties": {"a": {}, "b": {}}, "required": ["a"]}
    assert expanded({"properties": {"?b": {}}}, PARTS) == {"properties": {"b": {}}}


def test_a_document_gets_the_parts_that_it_refers_to_and_those_that_they_do() -> None:
    own = {"mine": {"$ref": "#/$defs/near"}}
    source = {
        "description": "Words.",
        "properties": {"x": {"$ref": "#/$defs/mine"}, "?y": {"type": "null"}},
        "$defs": own,
    }
    assert schema("thing", source, PARTS) == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:manactl:thing:1",
        "title": "manactl.thing/1",
        "description": f"Words. {tools.schemas.PROMISE}",
        "type": "object",
        "properties": {
            "schema": {
                "description": "Name and version of this format.",
                "const": "manactl.thing/1",
            },
            "x": {"$ref": "#/$defs/mine"},
            "y": {"type": "null"},
        },
        "required": ["schema", "x"],
        "$defs": own
        | {
            "far": {
                "properties": {"n": {"type": "integer", "description": "A number."}},
                "required": ["n"],
            },
            "near": {"items": {"$ref": "#/$defs/far"}},
        },
    }
