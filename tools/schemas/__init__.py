"""Makes src/manactl/schemas/ from what is said here once: `make schemas`.

`documents.json` has the documents by name, `parts.json` what several of them share. People read
one file, so each schema is whole: no reference leaves it. Of the sources' own notation:

* `{"$part": "NAME"}` becomes that part; keys beside it are added, or take the place of its own.
* a property `"?key"` may be absent; every other one is required.
* what a document refers to by `#/$defs/NAME`, and does not define itself, is the part NAME.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WHERE = HERE.parents[1] / "src/manactl/schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
PROMISE = (
    "Within /1 keys may be added; none is renamed or dropped, so a reader ignores keys it does "
    "not know."
)
_DEFS = "#/$defs/"

Node = dict[str, Any]


def files() -> dict[Path, str]:
    """Every file of src/manactl/schemas/ and what it has to contain."""
    documents, parts = (
        json.loads((HERE / f"{n}.json").read_text()) for n in ("documents", "parts")
    )
    return {
        WHERE / f"{name}.schema.json": json.dumps(schema(name, source, parts), indent=2) + "\n"
        for name, source in documents.items()
    }


def schema(name: str, source: Node, parts: Mapping[str, Node]) -> Node:
    """The whole schema of the document `manactl.NAME/1`."""
    body: Node = expanded(source, parts)
    named = {"description": "Name and version of this format.", "const": f"manactl.{name}/1"}
    made: Node = {
        "$schema": DIALECT,
        "$id": f"urn:manactl:{name}:1",
        "title": f"manactl.{name}/1",
        "description": f"{body['description']} {PROMISE}",
        "type": "object",
        "properties": {"schema": named} | body["properties"] | {"schema": named},
        "required": ["schema", *(key for key in body["required"] if key != "schema")],
    }
    own = body.get("$defs", {})
    wanted = _referred(made | {"$defs": own}, own, parts)
    shared = {part: expanded(parts[part], parts) for part in parts if part in wanted}
    return made | ({"$defs": own | shared} if own or shared else {})


def expanded(node: Any, parts: Mapping[str, Node]) -> Any:
    """The same in JSON Schema's own words."""
    if isinstance(node, list):
        return [expanded(inner, parts) for inner in node]
    if not isinstance(node, dict):
        return node
    if "$part" in node:
        beside = {key: value for key, value in node.items() if key != "$part"}
        return expanded(parts[node["$part"]] | beside, parts)
    made: Node = {}
    for key, value in node.items():
        if key != "properties":
            made[key] = expanded(value, parts)
            continue
        made[key] = {name.lstrip("?"): expanded(inner, parts) for name, inner in value.items()}
        if required := [name for name in value if not name.startswith("?")]:
            made["required"] = required
    about = {"description": made["description"]} if "description" in made else {}
    return about | made


def _referred(node: Any, own: Mapping[str, Node], parts: Mapping[str, Node]) -> set[str]:
    """Parts that `node` refers to, those that they refer to included."""
    found: set[str] = set()
    waiting = list(_names(node))
    while waiting:
        name = waiting.pop()
        if name not in own and name not in found:
            found.add(name)
            waiting += _names(expanded(parts[name], parts))
    return found


def _names(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if str(node.get("$ref", "")).startswith(_DEFS):
            yield node["$ref"].removeprefix(_DEFS)
        for inner in node.values():
            yield from _names(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _names(inner)
