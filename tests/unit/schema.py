"""The shipped schemas of the JSON documents: as readers use them, and as strictly as we hold to
them. A document says by its `schema` which one describes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

_PACKAGE = Path(__file__).parents[2] / "src/manactl/schemas"
SCHEMAS: dict[str, dict[str, Any]] = {
    path.name.partition(".")[0]: json.loads(path.read_text())
    for path in sorted(_PACKAGE.glob("*.schema.json"))
}
SCHEMA = SCHEMAS["status"]


def _closed(schema: Any) -> Any:
    """The same with every object closed: a key that is not described is an error."""
    if isinstance(schema, dict):
        more = {"additionalProperties": False} if "properties" in schema else {}
        return {key: _closed(value) for key, value in schema.items()} | more
    if isinstance(schema, list):
        return [_closed(value) for value in schema]
    return schema


def _validator(schema: Any) -> jsonschema.Draft202012Validator:
    kind = jsonschema.Draft202012Validator
    return kind(schema, format_checker=kind.FORMAT_CHECKER)


_OPEN = {name: _validator(schema) for name, schema in SCHEMAS.items()}
_STRICT = {name: _validator(_closed(schema)) for name, schema in SCHEMAS.items()}


def _name(document: Any) -> str:
    found = str(document["schema"]) if isinstance(document, dict) and "schema" in document else ""
    name = found.removeprefix("manactl.").partition("/")[0]
    return name if name in SCHEMAS else "status"


def check(document: Any) -> None:
    """As a reader would: ValidationError unless valid; keys it does not know are welcome."""
    _OPEN[_name(document)].validate(document)


def strict(document: Any) -> None:
    """As we hold to it: every key of ours is in the schema."""
    _STRICT[_name(document)].validate(document)
