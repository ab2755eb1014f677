"""Asks managers that can let go of a netdev for what is needed to do that, and to undo it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from manactl.errors import strerror
from manactl.look import network_manager, networkd, source_words, stacked_links
from manactl.look.bus import Bus
from manactl.netstate.surroundings import Manager
from manactl.netstate.unmanaged import NETWORK_MANAGER, NETWORKD, UnmanagedLink


def asked(
    managers: Iterable[Manager],
    bus: Bus,
    *,
    alone: bool = False,
    proc: Path = Path("/proc/sys"),
) -> tuple[Manager, ...]:
    """The managers, each with its answer where it has one of those two kinds. Its answer counts
    for more than its file, which it writes a little later.

    `alone`: the port's synthetic netdev, which has the same MAC address, is not let go of.
    """
    links: dict[int, networkd.NetworkdLink] | OSError | None = None
    found = []
    for manager in managers:
        one = manager
        if manager.managed is not False and manager.name == NETWORKD:
            if links is None:
                try:
                    links = networkd.links(bus)
                except OSError as error:
                    links = error
            one = _of_networkd(manager, links, alone=alone)
        elif manager.managed is not False and manager.name == NETWORK_MANAGER:
            one = _of_network_manager(manager, bus, proc, alone=alone)
        found.append(one)
    return tuple(found)


def _of_networkd(
    manager: Manager, links: dict[int, networkd.NetworkdLink] | OSError, *, alone: bool
) -> Manager:
    if isinstance(links, OSError):
        return replace(manager, silent=_why(links))
    link = links.get(manager.ifindex)
    if link is None or link.name != manager.netdev:  # that of another network namespace
        return replace(manager, silent=source_words.unknown_netdev(manager.netdev))
    if link.state == "unmanaged":
        return replace(manager, managed=False)
    if link.file is None:
        return replace(manager, silent=source_words.no_network_file(link.name, link.state))
    identified = link.mac is not None and link.driver is not None and not alone
    unmanaged = UnmanagedLink(
        link.name,
        link.ifindex,
        link.mac if identified else None,
        link.driver if identified else None,
        link.state == networkd.CONFIGURED,
        drops=link.own,
        leases=link.leases,
    )
    bound = networkd.bound_to(link, links.values())
    return replace(manager, managed=True, link=unmanaged, bound=bound)


def _of_network_manager(manager: Manager, bus: Bus, proc: Path, *, alone: bool) -> Manager:
    try:
        device = network_manager.device(bus, manager.netdev)
    except OSError as error:
        return replace(manager, silent=_why(error))
    if not device.managed:
        return replace(manager, managed=False)
    unmanaged = UnmanagedLink(
        manager.netdev,
        manager.ifindex,
        None if alone else device.mac,
        None,
        device.settled,
        device.profile,
        device.ready,
        stacked_links.addr_gen_mode(manager.netdev, proc),
        drops=(),
    )
    return replace(manager, managed=True, link=unmanaged)


def _why(error: OSError) -> str:
    return strerror(error)
