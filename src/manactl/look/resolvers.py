"""Name servers that are reached over a port alone: without them names are not found meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from manactl.look import fabric
from manactl.look.ssh import end
from manactl.look.text_files import fields, read, rows
from manactl.netstate.surroundings import NameServer

# systemd-resolved's: what it asks itself, while resolv.conf names its stub; and of each link.
_RESOLVED = "systemd/resolve/resolv.conf"
_OF_LINKS = "systemd/resolve/netif"  # by ifindex


def through(
    ifindexes: Collection[int],
    left: Mapping[int, str],
    rtnl: fabric.Ways,
    *,
    etc: Path = Path("/etc"),
    run: Path = Path("/run"),
) -> tuple[NameServer, ...]:
    """Those whose packets leave by one of these interfaces, where no netdev of `left` (which work
    without the port) leads there. OSError where a file that is there cannot be read."""
    found = {}
    for address, source in _servers(etc, run):
        there = end(address)
        if there is None or there.address.is_loopback or address in found:
            continue
        if there.zone is None:  # by an interface that is not here nobody reaches it anyway
            continue
        packed = there.address.packed
        if there.zone:
            lost = there.zone in ifindexes
        else:
            lost = not rtnl.leaves_by(packed).isdisjoint(ifindexes)
            lost = lost and fabric.remaining(packed, left, rtnl) is None
        if lost:
            found[address] = NameServer(address, source)
    return tuple(found.values())


def _servers(etc: Path, run: Path) -> list[tuple[str, str]]:
    found = []
    for path in (etc / "resolv.conf", run / _RESOLVED):
        for line in _lines(path):
            words = fields(line)
            if len(words) > 1 and words[0] == "nameserver":
                found.append((words[1], str(path)))
    for path in _entries(run / _OF_LINKS):
        for line in _lines(path):
            key, _, value = line.partition("=")
            if key == "SERVERS":
                found += [(_bare(one), str(path)) for one in fields(value)]
    return found


def _lines(path: Path) -> list[str]:
    try:
        return rows(read(path))
    except FileNotFoundError:
        return []


def _entries(place: Path) -> list[Path]:
    try:
        return sorted(place.iterdir())
    except FileNotFoundError:
        return []


def _bare(server: str) -> str:
    """Without the port and the name of a server as resolved writes it (in_addr_port_ifindex_name)."""
    server = server.partition("#")[0]
    if server.startswith("["):
        return server[1:].partition("]")[0]
    return server.partition(":")[0] if server.count(":") == 1 else server
