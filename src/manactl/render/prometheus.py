"""The state of the ports in the text exposition format of Prometheus.

Every series of a port carries `pci` and `port`, its identity. Names, which change, are labels of
manactl_port_info alone, to be joined: `manactl_port_owner * on (pci, port) group_left (netdev)
manactl_port_info`. A value that could not be read has no sample at all; owner and certainty are
state sets, one series per possible value with 1 for the value that applies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from manactl import __version__
from manactl.escape import escape
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import Certainty, Owner, PortStatus, Report, Source

Labels = dict[str, str]
Sample = tuple[Labels, float | int | bool]


class Family(NamedTuple):
    """One metric: all are gauges."""

    name: str
    help: str
    samples: list[Sample]


def exposition(report: Report, ports: Iterable[PortStatus]) -> str:
    """`ports` of a report, as lines, the last one ended too. Metrics without samples are left out."""
    found = families(report, tuple(ports))
    return "".join(line + "\n" for family in found if family.samples for line in _lines(family))


def families(report: Report, ports: tuple[PortStatus, ...]) -> Iterator[Family]:
    """Every metric there can be, with the samples of these ports."""
    yield Family("manactl_build_info", "Version of manactl.", [({"version": __version__}, 1)])
    yield Family(
        "manactl_status_timestamp_seconds",
        "When the ports were looked at, in seconds since 1970.",
        [({}, _seconds(report.time))],
    )
    yield Family(
        "manactl_status_privileged",
        "Whether what only root can read could be read.",
        [({}, report.privileged)],
    )
    yield Family(
        "manactl_status_missing_sources",
        "Sources of evidence that could not be read.",
        [({}, len({item.source for item in report.missing}))],
    )
    claims_known = not any(item.source is Source.JOURNAL for item in report.missing)
    yield from _port_families(ports, claims_known)


def _port_families(ports: tuple[PortStatus, ...], claims_known: bool) -> Iterator[Family]:
    def per_port(name: str, text: str, samples: Iterable[tuple[PortStatus, Sample]]) -> Family:
        labelled = [({**_identity(port), **labels}, value) for port, (labels, value) in samples]
        return Family(f"manactl_port_{name}", text, labelled)

    def known(
        name: str, text: str, values: Iterable[tuple[PortStatus, float | bool | None]]
    ) -> Family:
        return per_port(name, text, ((p, ({}, v)) for p, v in values if v is not None))

    yield per_port("info", "Names of the port; always 1.", ((p, (_info(p), 1)) for p in ports))
    yield per_port(
        "owner",
        "Who has the vport: 1 for its owner.",
        ((p, ({"owner": owner.value}, p.owner is owner)) for p in ports for owner in Owner),
    )
    yield per_port(
        "certainty",
        "How certain the owner is: 1 for the value that applies.",
        ((p, ({"certainty": c.value}, p.certainty is c)) for p in ports for c in Certainty),
    )
    yield known(
        "admin_up",
        "Whether the netdev is set up (IFF_UP).",
        ((p, p.netdev.admin_up if p.netdev else None) for p in ports),
    )
    yield known(
        "carrier",
        "Whether the netdev has carrier. Not there while it is down.",
        ((p, p.netdev.carrier if p.netdev else None) for p in ports),
    )
    yield known(
        "holders",
        "Processes seen with the RDMA device of the port open.",
        ((p, len(p.holders)) for p in ports),
    )
    yield known(
        "drift",
        "Differences between the port and its claim.",
        ((p, len(p.drift)) for p in ports),
    )
    # A journal that could not be read does not make a port unclaimed.
    yield known(
        "claimed",
        "Whether the port is claimed for RDMA. Not there when the journal could not be read.",
        ((p, p.claim is not None) for p in ports if claims_known or p.claim),
    )
    yield known(
        "claim_start_timestamp_seconds",
        "When the port was claimed, in seconds since 1970.",
        ((p, _seconds(p.claim.since)) for p in ports if p.claim),
    )
    yield known(
        "claim_confirm_by_timestamp_seconds",
        "When an unconfirmed claim is undone by itself, in seconds since 1970.",
        ((p, _seconds(p.claim.confirm_by)) for p in ports if p.claim and p.claim.confirm_by),
    )


def _identity(port: PortStatus) -> Labels:
    return {"pci": port.id.pci, "port": str(port.id.port)}


def _info(port: PortStatus) -> Labels:
    """An empty label value is, to Prometheus, the same as no such label."""
    names = {
        "netdev": port.netdev.name if port.netdev else None,
        "netns": port.netns,
        "permanent_mac": port.id.permanent_mac,
        "upper": port.upper.netdev if port.upper else None,
        "upper_kind": port.upper.kind if port.upper else None,
        "rdma_device": port.rdma.device if port.rdma else None,
        "rdma_port": str(port.rdma.port) if port.rdma else None,
    }
    return {name: value for name, value in names.items() if value}


def _seconds(time: datetime) -> float:
    return round(time.timestamp(), 3)


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {family.help}"
    yield f"# TYPE {family.name} gauge"
    for labels, value in family.samples:
        inner = ",".join(f'{name}="{_label(text)}"' for name, text in labels.items())
        yield (
            f"{family.name}{{{inner}}} {_number(value)}"
            if inner
            else (f"{family.name} {_number(value)}")
        )


def _number(value: float | bool) -> str:
    return str(int(value)) if isinstance(value, bool) else repr(value)


def _label(text: str) -> str:
    # What is unprintable was spelled out with backslashes; the format wants those doubled.
    return escape(text).replace("\\", "\\\\").replace('"', '\\"')
