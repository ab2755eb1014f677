"""PORT as people write it: netdev, altname, master, PCI:port, permanent MAC, rdma-device/port."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from manactl.errors import UsageError
from manactl.escape import escape
from manactl.model.port import PortStatus, Report, Upper


def resolve(report: Report, words: Iterable[str]) -> list[PortStatus]:
    """The ports that `words` name, in that order, each once. Where no port has a
    name now, that means the port which had it when it was claimed.

    UsageError lists the ports there are when a word names none of them, or several.
    """
    found: dict[object, PortStatus] = {}
    for word in words:
        matches = [port for port in report.ports if _means(port, word)]
        matches = matches or [port for port in report.ports if word in port.claimed_names]
        if len(matches) != 1:
            what = f"PORT {word!r} names no port"
            if matches:
                labels = escape(", ".join(port.label for port in matches))
                what = f"PORT {word!r} is ambiguous: {labels}"
            raise UsageError(what, hint=_ports_there_are(report))
        port = matches[0]
        if port.pair is not None and word in _of_upper(port.pair):
            # What was typed is what the answer speaks of.
            port = port._replace(called=port.pair.netdev)
        found.setdefault(port.id, port)
    return list(found.values())


def names(port: PortStatus) -> Iterator[str]:
    """Every word that names `port`, the best first."""
    if port.netdev and port.netns is None:
        yield port.netdev.name
        yield from port.netdev.altnames or ()
        if port.upper is not None:
            yield from _of_upper(port.upper)
    yield str(port.id)
    if port.id.permanent_mac:
        yield port.id.permanent_mac
    if port.rdma:
        yield f"{port.rdma.device}/{port.rdma.port}"
        yield from port.rdma.others


def _of_upper(upper: Upper) -> Iterator[str]:
    yield upper.netdev
    yield from upper.altnames or ()


def _means(port: PortStatus, word: str) -> bool:
    """Case matters to the names of netdevs and RDMA devices, and to nothing else."""
    loose = (str(port.id), port.id.permanent_mac or "")
    return word in names(port) or word.lower() in (name.lower() for name in loose if name)


def _ports_there_are(report: Report) -> str:
    if not report.ports:
        return "there is no MANA port here"
    # Each on a line of its own, whatever it is called.
    lines = (escape(f"  {'  '.join(dict.fromkeys(names(port)))}") for port in report.ports)
    return "the ports are:\n" + "\n".join(lines)
