"""The shipped JSON Schema and the documents say the same, in both directions."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings

from manactl.model.port import Report
from manactl.render.document import dumps, status_document
from tests.unit.reports import reports
from tests.unit.schema import SCHEMA, SCHEMAS, check, strict

EXAMPLE = """
{"schema": "manactl.status/1", "time": "2026-11-22T12:00:00Z", "kernel": "7.3.4", "privileged": true, "missing": [],
 "ports": [{
   "netdev": "enP30832s1", "ifindex": 3, "netns": null, "altnames": [], "pci": "7870:00:00.0", "port": 1,
   "mac": "00:0d:3a:aa:00:10", "permanent_mac": "00:0d:3a:aa:00:10",
   "upper": {"netdev": "eth1", "kind": "netvsc", "vmbus": "f8615163-...", "data_path": "vf"},
   "rdma": {"device": "manae_0", "port": 1, "others": ["mana_0/1"]},
   "admin": "up", "operstate": "up", "carrier": true,
   "owner": "ethernet", "candidates": [], "certainty": "proven",
   "holders": [{"pid": 4211, "comm": "dpdk-testpmd", "exe": "/usr/bin/dpdk-testpmd", "uid": 0, "unit": "fwd.service", "container": null, "since": "2026-11-22T11:58:02Z"}],
   "evidence": [{"source": "sysfs", "fact": "flags", "value": "0x1003"}, {"source": "debugfs", "fact": "EQs", "value": true}],
   "drift": [], "notes": ["..."],
   "claim": {"since": "2026-11-22T11:58:00Z", "by": {"uid": 0, "sudo_user": "operator", "loginuid": 1000}, "mode": "exec", "confirm_by": null, "proven": true, "synthetic": null}}]}
"""


# Added within /1: a document of an older manactl, which has no such key, stays valid.
LATER = {"reason"}


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every subschema that describes an object's keys."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for inner in schema.values():
            yield from objects(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from objects(inner)


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_is_a_schema_of_the_version_it_names(name: str) -> None:
    schema = SCHEMAS[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]
    assert schema["title"] == schema["properties"]["schema"]["const"] == f"manactl.{name}/1"
    assert schema["$id"] == f"urn:manactl:{name}:1"


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_is_shipped_in_the_package(name: str) -> None:
    text = (resources.files("manactl") / f"schemas/{name}.schema.json").read_text()
    assert json.loads(text) == SCHEMAS[name]


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_key_is_described_in_each(name: str) -> None:
    for part in objects(SCHEMAS[name]):
        for key, inner in part["properties"].items():
            assert {"description", "$ref"} & inner.keys(), f"{name}: {key}"


def test_every_key_is_described_and_required() -> None:
    described = list(objects(SCHEMA))
    assert len(described) == 9
    for item in described:
        for key, value in item["properties"].items():
            assert value.get("description", "").endswith("."), key
        if item is not SCHEMA["$defs"]["claim"]["properties"]["by"]:
            later = LATER | ({"admin", "altnames"} if item is SCHEMA["$defs"]["upper"] else set())
            assert item["required"] == [key for key in item["properties"] if key not in later]


@given(reports)
@settings(max_examples=300)
def test_every_document_is_valid_and_has_documented_keys_only(report: Report) -> None:
    document = json.loads(dumps(status_document(report, report.ports)))
    check(document)
    strict(document)


def test_every_key_of_the_schema_is_produced() -> None:
    seen: set[str] = set()

    @given(reports)
    @settings(max_examples=300, database=None)
    def collect(report: Report) -> None:
        for port in status_document(report, report.ports)["ports"]:  # type: ignore[attr-defined]
            for name in ("upper", "rdma", "claim"):
                seen.update(f"{name}.{key}" for key in port[name] or ())
            seen.update(f"holder.{key}" for holder in port["holders"] for key in holder)
            seen.update(f"evidence.{key}" for item in port["evidence"] for key in item)
            seen.update(f"port.{key}" for key in port)

    collect()
    for name in ("port", "upper", "rdma", "claim", "holder", "evidence"):
        for key in SCHEMA["$defs"][name]["properties"]:
            assert f"{name}.{key}" in seen


def example() -> Any:
    """The format's example as first published."""
    return json.loads(EXAMPLE)


def test_the_published_example_is_valid() -> None:
    check(example())
    strict(example())


def test_new_keys_may_come_but_ours_are_documented() -> None:
    document = example()
    document["ports"][0]["tomorrow"] = 1
    check(document)
    with pytest.raises(jsonschema.ValidationError, match="tomorrow"):
        strict(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("time",), "2026-11-22 12:00"),
        (("schema",), "manactl.status/2"),
        (("ports", 0, "owner"), "nobody"),
        (("ports", 0, "certainty"), None),
        (("ports", 0, "admin"), True),
        (("ports", 0, "port"), 0),
        (("ports", 0, "pci"), "eth0"),
        (("ports", 0, "mac"), "00:0D:3A:AA:00:10"),
        (("ports", 0, "holders", 0, "pid"), "7"),
        (("ports", 0, "claim", "since"), None),
    ],
)
def test_wrong_values_are_found(path: tuple[str | int, ...], value: object) -> None:
    document = copy.deepcopy(example())
    *parents, last = path
    place = document
    for step in parents:
        place = place[step]
    place[last] = value
    with pytest.raises(jsonschema.ValidationError):
        check(document)


@pytest.mark.parametrize("key", SCHEMA["$defs"]["port"]["required"])
def test_no_key_may_be_left_out(key: str) -> None:
    document = example()
    del document["ports"][0][key]
    with pytest.raises(jsonschema.ValidationError, match=key):
        check(document)
