"""The shipped schema of `status --json`: as readers use it, and as strictly as we hold to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "src/manactl/status.schema.json").read_text()
)


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


_OPEN = _validator(SCHEMA)
_STRICT = _validator(_closed(SCHEMA))


def check(document: Any) -> None:
    """As a reader would: ValidationError unless valid; keys it does not know are welcome."""
    _OPEN.validate(document)


def strict(document: Any) -> None:
    """As we hold to it: every key of ours is in the schema."""
    _STRICT.validate(document)
