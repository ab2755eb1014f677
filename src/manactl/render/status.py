"""`status` for people: what each cell and line says. Plain text; render/table.py adds colour."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from manactl.model import Holder, Owner, PortStatus, Report
from manactl.render.document import timestamp
from manactl.render.escape import escape

HEADER = ("PORT", "OWNER", "CERTAINTY", "RDMA", "LINK", "HELD BY", "CLAIM")
GAP = 2
NOBODY = "-"


class Row(NamedTuple):
    """The cells of one port, escaped, in HEADER's order; `held_by` is the one that may be cut."""

    port: str
    owner: str
    certainty: str
    rdma: str
    link: str
    held_by: str
    claim: str


def row(port: PortStatus) -> Row:
    """What the table says of one port."""
    return Row(
        port=escape(port.label),
        owner=str(port.owner),
        certainty=str(port.certainty) if port.owner is not Owner.UNKNOWN else NOBODY,
        rdma=escape(f"{port.rdma.device}/{port.rdma.port}") if port.rdma else NOBODY,
        link=link(port),
        held_by=held_by(port.holders),
        claim="claimed" if port.claim else NOBODY,
    )


def link(port: PortStatus) -> str:
    """Admin state and carrier in one word or two."""
    netdev = port.netdev
    if netdev is None or netdev.admin_up is None:
        return "not here"
    if not netdev.admin_up:
        return "down"
    return {True: "up", False: "no carrier", None: "up, ?"}[netdev.carrier]


def held_by(holders: Sequence[Holder]) -> str:
    """The first holder, and how many more there are."""
    if not holders:
        return NOBODY
    more = f" +{len(holders) - 1}" if len(holders) > 1 else ""
    return escape(f"{holders[0].comm or '?'} {holders[0].pid}") + more


def plain(report: Report, ports: Sequence[PortStatus], *, verbose: bool) -> Iterator[str]:
    """The whole output without colour and without a width: for pipes, and for `never`."""
    if ports:
        rows = [HEADER, *(row(port) for port in ports)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for cells in rows:
            padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            yield (" " * GAP).join(padded).rstrip()
    yield from below(report, ports, verbose=verbose, width=None)


def below(
    report: Report, ports: Sequence[PortStatus], *, verbose: bool, width: int | None
) -> Iterator[str]:
    """What stands under the table: explanations, evidence, and what could not be read."""
    if not ports:
        yield "no MANA port here"
    for port in ports:
        words = [f"drift: {escape(text)}" for text in port.drift]
        words += [escape(text) for text in port.notes]
        if words and not verbose:
            yield ""
            for text in words:
                yield from _wrapped(f"{escape(port.label)}: {text}", width)
        if verbose:
            yield from ("", *_details(port, words, width))
    if report.missing:
        yield ""
        for item in report.missing:
            yield from _wrapped(f"not read: {item.source}: {escape(item.why)}", width)


def _details(port: PortStatus, words: Iterable[str], width: int | None) -> Iterator[str]:
    netdev = port.netdev
    yield f"{escape(port.label)}  {port.owner}, {port.certainty}: {escape(port.reason)}"
    identity = [("PCI address, port", f"{port.id.pci}, {port.id.port}")]
    if netdev:
        identity += [("MAC", f"{netdev.mac or '?'}, permanent {netdev.permanent_mac or '?'}")]
        if netdev.altnames:
            identity.append(("altnames", " ".join(netdev.altnames)))
    if port.rdma and port.rdma.others:
        identity.append(("other RDMA devices", " ".join(port.rdma.others)))
    yield from _pairs(identity)
    for holder in port.holders:
        yield from _wrapped(f"  holder   {escape(_about(holder))}", width)
    if port.claim:
        who = port.claim.by.get("sudo_user") or f"uid {port.claim.by.get('uid')}"
        proven = "proven" if port.claim.proven else "not proven"
        since = timestamp(port.claim.since)
        yield f"  claim    {port.claim.mode} since {since} by {escape(str(who))}, {proven} free then"
    for item in port.evidence:
        value = json.dumps(item.value) if not isinstance(item.value, str) else item.value
        yield escape(f"  {item.source:8} {item.fact} = {value}")
    for text in words:
        yield from _wrapped(f"  note     {text}", width)


def _pairs(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, value in pairs:
        yield escape(f"  {name}: {value}")


def _about(holder: Holder) -> str:
    parts = [f"{holder.comm or '?'} {holder.pid}"]
    parts += [holder.exe] if holder.exe else []
    parts += [f"uid {holder.uid}"] if holder.uid is not None else []
    parts += [part for part in (holder.unit, holder.container and holder.container[:12]) if part]
    parts += [f"since {timestamp(holder.since)}"] if holder.since else []
    return ", ".join(parts)


def _wrapped(text: str, width: int | None) -> list[str]:
    if width is None:
        return [text]
    indent = " " * (len(text) - len(text.lstrip()) + GAP)
    return textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False) or [""]
