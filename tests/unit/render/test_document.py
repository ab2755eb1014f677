"""Documents: each key from the one value it stands for, and what no JSON reader can decode."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from manactl.model.port import (
    Certainty,
    ClaimInfo,
    Evidence,
    Holder,
    Missing,
    Netdev,
    Note,
    Owner,
    PortId,
    PortStatus,
    RdmaPort,
    Report,
    Source,
    Upper,
)
from manactl.render.document import (
    admin,
    dumps,
    error_document,
    evidence_document,
    port_document,
    status_document,
    timestamp,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)
NETDEV = Netdev("eth1", 3, 0x1003, "up", True, "mac", None, ("alt",))
FULL = PortStatus(
    id=PortId("7870:00:00.0", 2, "permanent"),
    netdev=NETDEV,
    netns="blue",
    upper=Upper("bond0", "bond", "uuid", "vf", True, ("wan",)),
    rdma=RdmaPort("manae_0", 4, ("mana_0/1",)),
    owner=Owner.RAW_QP,
    certainty=Certainty.INFERRED,
    candidates=("a:1",),
    holders=(Holder(7, "comm", "exe", 1000, "unit", "container", NOON),),
    evidence=(Evidence("sysfs", "flags", "0x1003"),),
    drift=(Note("drift-up"),),
    notes=(Note("unclaimed"),),
    claim=ClaimInfo(NOON, {"uid": 0}, "exec", LATER, True, "uio"),
    reasons=("netdev-up",),
)
BARE = PortStatus(
    id=PortId("7870:00:00.0", 1, None),
    netdev=None,
    netns=None,
    upper=None,
    rdma=None,
    owner=Owner.UNKNOWN,
    certainty=Certainty.UNKNOWN,
)


@pytest.mark.wording
def test_every_key_of_a_port() -> None:
    assert json.loads(dumps(port_document(FULL))) == {
        "netdev": "eth1",
        "ifindex": 3,
        "netns": "blue",
        "altnames": ["alt"],
        "pci": "7870:00:00.0",
        "port": 2,
        "mac": "mac",
        "permanent_mac": "permanent",
        "upper": {
            "netdev": "bond0",
            "altnames": ["wan"],
            "kind": "bond",
            "vmbus": "uuid",
            "data_path": "vf",
            "admin": "up",
        },
        "rdma": {"device": "manae_0", "port": 4, "others": ["mana_0/1"]},
        "admin": "up",
        "operstate": "up",
        "carrier": True,
        "owner": "raw-qp",
        "candidates": ["a:1"],
        "certainty": "inferred",
        "reason": "the netdev is up",
        "holders": [
            {
                "pid": 7,
                "comm": "comm",
                "exe": "exe",
                "uid": 1000,
                "unit": "unit",
                "container": "container",
                "since": "2026-11-22T12:00:00Z",
            }
        ],
        "evidence": [{"source": "sysfs", "fact": "flags", "value": "0x1003"}],
        "drift": ["claimed, yet its netdev is up"],
        "notes": [
            "no claim covers it: when the raw QP ends, the port stays down until it is set up by hand"
        ],
        "claim": {
            "since": "2026-11-22T12:00:00Z",
            "by": {"uid": 0},
            "mode": "exec",
            "confirm_by": "2026-11-22T12:05:00Z",
            "proven": True,
            "synthetic": "uio",
        },
    }


def test_what_is_not_known_is_null_and_a_list_of_none_is_empty() -> None:
    document = json.loads(dumps(port_document(BARE)))
    lists = {"candidates", "holders", "evidence", "drift", "notes"}
    given = {"pci", "port", "owner", "certainty", "reason"}
    assert {key for key, value in document.items() if value == []} == lists
    assert {key for key, value in document.items() if value is None} == (
        document.keys() - lists - given
    )
    assert (document["port"], document["owner"], document["reason"]) == (1, "unknown", "")


def test_times_that_are_not_known_are_null() -> None:
    holder = FULL.holders[0]._replace(since=None)
    assert FULL.claim is not None
    claim = FULL.claim._replace(confirm_by=None, proven=False, synthetic=None)
    document: Any = port_document(FULL._replace(holders=(holder,), claim=claim))
    assert document["holders"][0]["since"] is None
    assert document["claim"]["confirm_by"] is None
    assert document["claim"]["proven"] is False


@pytest.mark.parametrize(
    ("flags", "word"), [(0x1003, "up"), (0x1002, "down"), (0, "down"), (None, None)]
)
def test_admin_state(flags: int | None, word: str | None) -> None:
    assert admin(FULL._replace(netdev=NETDEV._replace(flags=flags))) == word
    assert admin(BARE) is None


def test_a_status_document_is_about_the_ports_given() -> None:
    report = Report(NOON, "7.3.4", False, (Missing(Source.PROC, "denied"),), (BARE, FULL))
    document = status_document(report, (FULL,))
    assert document == {
        "schema": "manactl.status/1",
        "time": "2026-11-22T12:00:00Z",
        "kernel": "7.3.4",
        "privileged": False,
        "missing": [{"source": "proc", "why": "denied"}],
        "ports": [port_document(FULL)],
    }


def test_an_error_document() -> None:
    evidence = Evidence("proc", "pid", 7)
    assert evidence_document(evidence) == {"source": "proc", "fact": "pid", "value": 7}
    assert error_document("busy", "held", "wait", [evidence]) == {
        "schema": "manactl.error/1",
        "code": "busy",
        "message": "held",
        "hint": "wait",
        "evidence": [{"source": "proc", "fact": "pid", "value": 7}],
    }
    bare = error_document("busy", "held")
    assert (bare["hint"], bare["evidence"]) == (None, [])


def test_times_are_utc_and_whole_seconds() -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    assert timestamp(datetime(2026, 1, 1, 2, 0, 0, 999_999, tzinfo=east)) == "2025-12-31T20:30:00Z"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\x1bb", r'{"k": "a\u001bb"}'),
        ("\u00e9", r'{"k": "\u00e9"}'),
        ("a\udcffb", r'{"k": "a\\xffb"}'),  # a byte that was no UTF-8
        (("\udcff", ["\udcfe"]), r'{"k": ["\\xff", ["\\xfe"]]}'),
        ({"\udcff": {"x": "\udcfe"}}, r'{"k": {"\\xff": {"x": "\\xfe"}}}'),
        (None, '{"k": null}'),
        (True, '{"k": true}'),
    ],
)
def test_any_name_is_ascii_json(value: object, text: str) -> None:
    assert dumps({"k": value}, indent=None) == text


def test_a_document_has_lines_and_none_without_indent() -> None:
    assert dumps({"a": 1, "b": []}) == '{\n "a": 1,\n "b": []\n}'
    assert dumps({"a": 1, "b": []}, indent=None) == '{"a": 1, "b": []}'
    with pytest.raises(ValueError, match="Out of range"):
        dumps({"a": float("nan")})
