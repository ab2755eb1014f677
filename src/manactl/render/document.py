"""The JSON documents: one builder per schema, keys and meanings as scripts rely on them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from manactl.model import Evidence
from manactl.render.escape import escape

ERROR_SCHEMA = "manactl.error/1"


def dumps(document: Mapping[str, object]) -> str:
    """One document as text: ASCII only, whatever a name contained.

    JSON keeps control characters by escapes of its own; only what no JSON reader can decode
    (bytes that were no UTF-8) is spelled out.
    """
    return json.dumps(_decodable(document), indent=1, ensure_ascii=True, allow_nan=False)


def error_document(
    code: str, message: str, hint: str | None = None, evidence: Iterable[Evidence] = ()
) -> dict[str, object]:
    """What a program finds on standard output when the command failed."""
    return {
        "schema": ERROR_SCHEMA,
        "code": code,
        "message": message,
        "hint": hint,
        "evidence": [evidence_document(item) for item in evidence],
    }


def evidence_document(evidence: Evidence) -> dict[str, object]:
    return {"source": evidence.source, "fact": evidence.fact, "value": evidence.value}


def timestamp(time: datetime) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _decodable(value: object) -> object:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return escape(value)
        return value
    if isinstance(value, Mapping):
        return {str(_decodable(key)): _decodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_decodable(item) for item in value]
    return value
