"""Netdevs of an earlier boot, found again: by what identifies them, never by their number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from manactl.look.sysfs import Roots
from manactl.look.text_files import target_name
from manactl.netstate.unmanaged import UnmanagedLink
from manactl.wire.if_link import IfLink


def found_again(
    wanted: Iterable[UnmanagedLink],
    links: Iterable[IfLink],
    roots: Roots = Roots(),  # noqa: B008
) -> tuple[UnmanagedLink, ...]:
    """Those that are here, with the name and number that they have now.

    A permanent MAC address and a driver are not changed by a reboot; the two netdevs of a pair have
    the address in common. One that never had these goes by its name.
    """
    links = list(links)
    found = (_found(link, links, roots) for link in wanted)
    return tuple(link for link in found if link is not None)


def _found(link: UnmanagedLink, links: list[IfLink], roots: Roots) -> UnmanagedLink | None:
    same = [one for one in links if _is_same(link, one, roots)]
    if len(same) > 1:
        same = [one for one in same if one.name == link.name]
    return replace(link, name=same[0].name, ifindex=same[0].ifindex) if same else None


def _is_same(link: UnmanagedLink, now: IfLink, roots: Roots) -> bool:
    if link.mac is None:
        return now.name == link.name
    driver = target_name(f"{roots.sys}/class/net/{now.name}/device/driver")
    mac = now.permanent_mac or now.mac or ""  # hv_netvsc has no permanent one
    return mac.lower() == link.mac.lower() and link.driver in (None, driver)
