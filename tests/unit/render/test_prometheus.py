"""The exposition, read back by Prometheus' own parser."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from manactl.escape import escape
from manactl.model.port import (
    Certainty,
    ClaimInfo,
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
from manactl.render.prometheus import exposition
from tests.unit.reports import reports

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
CLAIM = ClaimInfo(NOON, {"uid": 0}, "exec", NOON, True, None)
PORT = PortStatus(
    id=PortId("7870:00:00.0", 1, "00:0d:3a:aa:00:10"),
    netdev=Netdev("enP30832s1", 3, 0x1003, "up", True, None, None),
    netns=None,
    upper=Upper("eth1", "netvsc"),
    rdma=RdmaPort("manae_0", 1),
    owner=Owner.ETHERNET,
    certainty=Certainty.PROVEN,
)
HELD = PORT._replace(
    id=PortId("7870:00:00.0", 2, None),
    netdev=Netdev("enP30832s1d1", 4, 0x1002, "down", None, None, None),
    owner=Owner.RAW_QP,
    certainty=Certainty.INFERRED,
    holders=(Holder(7, "dpdk", None, 0, None, None, None),),
    drift=(Note("drift-up"),),
    claim=CLAIM,
)
UNSEEN = PORT._replace(id=PortId("7870:00:00.0", 3, None), netdev=None, rdma=None, upper=None)


def parse(report: Report) -> dict[str, Metric]:
    text = exposition(report, report.ports)
    assert text.endswith("\n")
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(metric: Metric, *labels: str) -> dict[tuple[str, ...], float]:
    return {tuple(s.labels[name] for name in labels): s.value for s in metric.samples}


def report(*ports: PortStatus, missing: tuple[Missing, ...] = ()) -> Report:
    return Report(time=NOON, kernel="7", privileged=True, missing=missing, ports=ports)


def test_owner_and_certainty_are_state_sets() -> None:
    found = parse(report(PORT, HELD))
    owner = values(found["manactl_port_owner"], "pci", "port", "owner")
    assert len(owner) == 8
    assert {key for key, value in owner.items() if value} == {
        ("7870:00:00.0", "1", "ethernet"),
        ("7870:00:00.0", "2", "raw-qp"),
    }
    certainty = values(found["manactl_port_certainty"], "port", "certainty")
    assert certainty["2", "inferred"] == 1
    assert certainty["2", "proven"] == 0


def test_what_is_not_known_has_no_sample() -> None:
    found = parse(report(PORT, HELD, UNSEEN))
    assert values(found["manactl_port_admin_up"], "port") == {("1",): 1, ("2",): 0}
    assert values(found["manactl_port_carrier"], "port") == {("1",): 1}
    assert found["manactl_port_info"].samples[2].labels == {"pci": "7870:00:00.0", "port": "3"}


def test_names_are_labels_of_the_info_metric_alone() -> None:
    found = parse(report(PORT))
    assert found["manactl_port_info"].samples[0].labels == {
        "pci": "7870:00:00.0",
        "port": "1",
        "netdev": "enP30832s1",
        "permanent_mac": "00:0d:3a:aa:00:10",
        "upper": "eth1",
        "upper_kind": "netvsc",
        "rdma_device": "manae_0",
        "rdma_port": "1",
    }
    for name, metric in found.items():
        if name.startswith("manactl_port_") and name != "manactl_port_info":
            extra = {key for sample in metric.samples for key in sample.labels} - {"pci", "port"}
            sets = {"manactl_port_owner": {"owner"}, "manactl_port_certainty": {"certainty"}}
            assert extra == sets.get(name, set())


def test_claims_holders_and_drift_are_counted() -> None:
    found = parse(report(PORT, HELD))
    assert values(found["manactl_port_claimed"], "port") == {("1",): 0, ("2",): 1}
    assert values(found["manactl_port_holders"], "port") == {("1",): 0, ("2",): 1}
    assert values(found["manactl_port_drift"], "port") == {("1",): 0, ("2",): 1}
    start = found["manactl_port_claim_start_timestamp_seconds"]
    assert values(start, "port") == {("2",): NOON.timestamp()}
    confirm = found["manactl_port_claim_confirm_by_timestamp_seconds"]
    assert values(confirm, "port") == {("2",): NOON.timestamp()}
    assert values(found["manactl_status_timestamp_seconds"]) == {(): NOON.timestamp()}


def test_an_unreadable_journal_is_not_an_unclaimed_port() -> None:
    found = parse(report(PORT, missing=(Missing(Source.JOURNAL, "Permission denied"),)))
    assert "manactl_port_claimed" not in found
    assert values(found["manactl_status_missing_sources"]) == {(): 1}


def test_without_ports_the_report_itself_is_still_told() -> None:
    found = parse(report())
    assert not any(name.startswith("manactl_port_") for name in found)
    assert found["manactl_build_info"].samples[0].value == 1


@pytest.mark.parametrize("line", exposition(report(), (PORT, HELD)).splitlines())
def test_every_family_has_help_and_type(line: str) -> None:
    assert line.startswith(("# HELP manactl_", "# TYPE manactl_", "manactl_"))


@given(reports)
def test_whatever_the_names_the_parser_reads_them_back(hostile: Report) -> None:
    text = exposition(hostile, hostile.ports)
    assert all(char.isprintable() or char == "\n" for char in text)
    found = parse(hostile)
    if not hostile.ports:
        return
    for port, sample in zip(hostile.ports, found["manactl_port_info"].samples, strict=True):
        assert sample.labels.get("netdev", "") == (escape(port.netdev.name) if port.netdev else "")
        assert sample.labels.get("upper", "") == (escape(port.upper.netdev) if port.upper else "")
    owners = values(found["manactl_port_owner"], "pci", "port", "owner")
    assert {key for key, value in owners.items() if value} == {
        (port.id.pci, str(port.id.port), port.owner.value) for port in hostile.ports
    }
