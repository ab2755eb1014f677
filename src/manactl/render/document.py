"""The JSON documents: one builder per schema, keys and meanings as scripts rely on them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from manactl.decide import port_words
from manactl.model.port import ClaimInfo, Evidence, Holder, PortStatus, RdmaPort, Report, Upper
from manactl.render.json_text import dumps as dumps  # noqa: PLC0414 - known from here

ERROR_SCHEMA = "manactl.error/1"
STATUS_SCHEMA = "manactl.status/1"


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


def status_document(report: Report, ports: Iterable[PortStatus]) -> dict[str, object]:
    """What `status --json` prints of `ports`. Keys may be added, none is renamed or dropped."""
    return {
        "schema": STATUS_SCHEMA,
        "time": timestamp(report.time),
        "kernel": report.kernel,
        "privileged": report.privileged,
        "missing": [{"source": item.source, "why": item.why} for item in report.missing],
        "ports": [port_document(port) for port in ports],
    }


def port_document(port: PortStatus) -> dict[str, object]:
    """One port; unknown is null."""
    netdev = port.netdev
    return {
        "netdev": netdev.name if netdev else None,
        "ifindex": netdev.ifindex if netdev else None,
        "netns": port.netns,
        "altnames": netdev.altnames if netdev else None,
        "pci": port.id.pci,
        "port": port.id.port,
        "mac": netdev.mac if netdev else None,
        "permanent_mac": port.id.permanent_mac,
        "upper": _upper(port.upper),
        "rdma": _rdma(port.rdma),
        "admin": admin(port),
        "operstate": netdev.operstate if netdev else None,
        "carrier": netdev.carrier if netdev else None,
        "owner": str(port.owner),
        "candidates": port.candidates,
        "certainty": str(port.certainty),
        "reason": port_words.reason(port),
        "holders": [_holder(holder) for holder in port.holders],
        "evidence": [evidence_document(item) for item in port.evidence],
        "drift": port_words.drift(port),
        "notes": port_words.notes(port),
        "claim": _claim(port.claim),
    }


def admin(port: PortStatus) -> str | None:
    """The admin state as iproute2 words it."""
    up = port.netdev.admin_up if port.netdev else None
    return None if up is None else ("up" if up else "down")


def evidence_document(evidence: Evidence) -> dict[str, object]:
    return {"source": evidence.source, "fact": evidence.fact, "value": evidence.value}


def timestamp(time: datetime) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _upper(upper: Upper | None) -> dict[str, object] | None:
    if upper is None:
        return None
    return {
        "netdev": upper.netdev,
        "altnames": upper.altnames,
        "kind": upper.kind,
        "vmbus": upper.vmbus,
        "data_path": upper.data_path,
        "admin": None if upper.up is None else ("up" if upper.up else "down"),
    }


def _rdma(rdma: RdmaPort | None) -> dict[str, object] | None:
    if rdma is None:
        return None
    return {"device": rdma.device, "port": rdma.port, "others": rdma.others}


def _holder(holder: Holder) -> dict[str, object]:
    return {
        "pid": holder.pid,
        "comm": holder.comm,
        "exe": holder.exe,
        "uid": holder.uid,
        "unit": holder.unit,
        "container": holder.container,
        "since": holder.since and timestamp(holder.since),
    }


def _claim(claim: ClaimInfo | None) -> dict[str, object] | None:
    if claim is None:
        return None
    return {
        "since": timestamp(claim.since),
        "by": claim.by,
        "mode": claim.mode,
        "confirm_by": claim.confirm_by and timestamp(claim.confirm_by),
        "proven": claim.proven,
        "synthetic": claim.synthetic,
    }
