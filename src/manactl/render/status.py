"""`status` for people: what each cell and line says. Plain text; render/table.py adds colour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from manactl.decide import port_words
from manactl.escape import called, escape
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import UIO, Certainty, Holder, Owner, PortStatus, Report, Source
from manactl.render.document import dumps, timestamp
from manactl.render.wrap import wrap

HEADER = ("PORT", "OWNER", "CERTAINTY", "RDMA", "LINK", "HELD BY", "CLAIM")
GAP = 2
NOBODY = "-"
# Not worth a line while every owner is proven all the same.
_LOWERS_CERTAINTY = (Source.DEBUGFS, Source.NLDEV, Source.PROC)


class Line(NamedTuple):
    """A line under the table, escaped, and whether it is to be noticed."""

    text: str
    warns: bool = False


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
    """The cells of one port."""
    return Row(
        port=escape(names(port)),
        owner=str(port.owner),
        certainty=str(port.certainty) if port.owner is not Owner.UNKNOWN else NOBODY,
        rdma=escape(f"{port.rdma.device}/{port.rdma.port}") if port.rdma else NOBODY,
        link=link(port),
        held_by=held_by(port.holders),
        claim="claimed" if port.claim else NOBODY,
    )


def names(port: PortStatus) -> str:
    """The name of a port, and of a pair the synthetic netdev's before its VF's."""
    if port.pair is None or port.netdev is None or port.netns is not None:
        return port.label
    return f"{port.pair.netdev}({port.netdev.name})"


def link(port: PortStatus) -> str:
    """Admin state and carrier in one word or two."""
    netdev = port.netdev
    if netdev is None or netdev.admin_up is None:
        return "not here"
    if not netdev.admin_up:
        return "down"
    if lacks_carrier(port):
        return "no carrier"
    return "up" if netdev.carrier else "up, ?"


def lacks_carrier(port: PortStatus) -> bool:
    """Whether the port is up, and known to have no carrier."""
    return port.netdev is not None and bool(port.netdev.admin_up) and port.netdev.carrier is False


def held_by(holders: Sequence[Holder]) -> str:
    """The first holder, and how many more there are."""
    if not holders:
        return NOBODY
    more = f" +{len(holders) - 1}" if len(holders) > 1 else ""
    return escape(f"{called(holders[0].comm)} {holders[0].pid}") + more


def plain(report: Report, ports: Sequence[PortStatus], *, verbose: bool) -> Iterator[str]:
    """The whole output without colour and without a width: for pipes, and for `never`."""
    if ports:
        rows = [HEADER, *(row(port) for port in ports)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for cells in rows:
            padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            yield (" " * GAP).join(padded).rstrip()
    yield from (line.text for line in below(report, ports, verbose=verbose, width=None))


def below(
    report: Report, ports: Sequence[PortStatus], *, verbose: bool, width: int | None
) -> Iterator[Line]:
    """The lines under the table: explanations, evidence, and what could not be read."""
    if not ports:
        yield Line("no MANA port here")
    if verbose:
        for port in ports:
            yield from map(Line, ("", *_details(port, width, report.time)))
    elif grouped := _grouped(ports, report.time):
        yield Line("")
        for note, labels in grouped.items():
            text = escape(f"{', '.join(labels)}: {note.text}")
            yield from (Line(part, note.warns) for part in _wrapped(text, width))
    decisive = verbose or any(port.certainty is not Certainty.PROVEN for port in ports)
    unread = [item for item in report.missing if decisive or item.source not in _LOWERS_CERTAINTY]
    if unread:
        yield Line("")
        for item in unread:
            text = escape(f"not read: {item.source}: {item.why}")
            yield from (Line(part, warns=True) for part in _wrapped(text, width))


def _grouped(ports: Iterable[PortStatus], now: datetime) -> dict[Line, list[str]]:
    """Every sentence once, with the ports it is about."""
    found: dict[Line, list[str]] = {}
    for port in ports:
        for line in _words(port, now):
            found.setdefault(line, []).append(port.label)
    return found


def _words(port: PortStatus, now: datetime) -> list[Line]:
    drift = [Line(f"drift: {text}", warns=True) for text in port_words.drift(port)]
    return [*drift, *map(Line, port_words.notes(port)), *_time_left(port, now)]


def _time_left(port: PortStatus, now: datetime) -> Iterator[Line]:
    """How long there still is to confirm the claim."""
    until = port.claim and port.claim.confirm_by
    if until and until > now:
        left = round((until - now).total_seconds())
        yield Line(f"{left} s are left to confirm its claim", warns=True)


def _details(port: PortStatus, width: int | None, now: datetime) -> Iterator[str]:
    netdev = port.netdev
    sure = f", {port.certainty}" if port.owner is not Owner.UNKNOWN else ""
    yield escape(f"{port.label}  {port.owner}{sure}: {port_words.reason(port)}")
    identity = [("PCI address, port", f"{port.id.pci}, {port.id.port}")]
    if netdev:
        identity += [("MAC", f"{netdev.mac or '?'}, permanent {netdev.permanent_mac or '?'}")]
        if netdev.altnames:
            identity.append(("altnames", " ".join(netdev.altnames)))
    if pair := port.pair:
        lost = port.claim is not None and port.claim.synthetic == UIO and pair.up is None
        gone = ", gone until release" if lost else ""
        driver = ", of uio_hv_generic" if pair.on_uio else ""
        identity.append(("synthetic netdev", f"{pair.netdev}{gone}"))
        identity.append(("VMBus device", f"{pair.vmbus}{driver}"))  # DPDK's `-a`
    if port.upper and port.upper.altnames:
        identity.append((f"altnames of {port.upper.netdev}", " ".join(port.upper.altnames)))
    if port.rdma and port.rdma.others:
        identity.append(("other RDMA devices", " ".join(port.rdma.others)))
    yield from _pairs(identity)
    for holder in port.holders:
        yield from _wrapped(f"  holder   {escape(_about(holder))}", width)
    if port.claim:
        who = port.claim.by.get("sudo_user") or f"uid {port.claim.by.get('uid')}"
        proven = "proven" if port.claim.proven else "not proven"
        since = timestamp(port.claim.since)
        with_it = f", --synthetic={port.claim.synthetic}" if port.claim.synthetic else ""
        about = f"{port.claim.mode} since {since} by {who}, {proven} free then{with_it}"
        yield from _wrapped(f"  claim    {escape(about)}", width)
    for item in port.evidence:
        value = dumps(item.value, indent=None) if not isinstance(item.value, str) else item.value
        yield escape(f"  {item.source:8} {item.fact} = {value}")
    for line in _words(port, now):
        yield from _wrapped(escape(f"  note     {line.text}"), width)


def _pairs(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, value in pairs:
        yield escape(f"  {name}: {value}")


def _about(holder: Holder) -> str:
    parts = [f"{called(holder.comm)} {holder.pid}"]
    parts += [holder.exe] if holder.exe else []
    parts += [f"uid {holder.uid}"] if holder.uid is not None else []
    parts += [part for part in (holder.unit, holder.container and holder.container[:12]) if part]
    parts += [f"since {timestamp(holder.since)}"] if holder.since else []
    return ", ".join(parts)


def _wrapped(text: str, width: int | None) -> list[str]:
    if width is None:
        return [text]
    indent = " " * (len(text) - len(text.lstrip()) + GAP)
    return wrap(text, width, indent, cut=True) or [""]
