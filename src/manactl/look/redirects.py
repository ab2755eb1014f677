"""Packets that others send by a port without a socket or a route: tc filters of other devices that
redirect or mirror here, nftables rules that do (`fwd`, `dup`), and the kernel's messages
(netconsole)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from manactl.look import source_words
from manactl.look.text_files import passing_over, rows, text
from manactl.wire import nft, tc
from manactl.wire.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, Message, NetlinkSocket

_PARENTS = (tc.TC_H_ROOT, tc.TC_H_INGRESS, tc.TC_H_MIN_INGRESS, tc.TC_H_MIN_EGRESS)
_TARGETS = "kernel/config/netconsole"  # below /sys, where configfs is mounted


class Dump(Protocol):
    """A netlink socket."""

    def dump(self, kind: int, body: bytes = b"") -> list[Message]: ...


def live(names: Mapping[int, str], ifindex: int) -> tuple[str, ...]:
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        return redirecting(netlink, names, ifindex)


def redirecting(netlink: Dump, names: Mapping[int, str], ifindex: int) -> tuple[str, ...]:
    """The names of other devices with filters whose packets go out by this one.

    One dump tells whether there is any such action; only then filters are looked at. Those of a
    block that several devices share are with none of them.
    """
    found: set[int] = set()
    for message in netlink.dump(tc.RTM_GETACTION, tc.actions()):
        found |= tc.targets_of_actions(message.body)
    if ifindex not in found:
        return ()
    places = {index: set(_PARENTS) for index in names}
    for message in netlink.dump(tc.RTM_GETQDISC, tc.qdiscs()):
        index, handle = tc.device(message.body)
        if index in places:
            places[index].add(handle)
    having = [index for index in names if ifindex in _targets(netlink, index, places[index])]
    if not having:
        return (source_words.SHARED_BLOCK,)
    return tuple(names[index] for index in having if index != ifindex)


def _targets(netlink: Dump, index: int, parents: Collection[int]) -> set[int]:
    found: set[int] = set()
    for parent in parents:
        with passing_over():  # no filters can be at that place of that device
            for message in netlink.dump(tc.RTM_GETTFILTER, tc.filters(index, parent)):
                found |= tc.targets_of_filter(message.body)
    return found


def nftables(ifindex: int, sys: Path = Path("/sys")) -> tuple[str, ...]:
    """The chains with rules that send packets by this device, or by one that a map tells. To ask
    where nf_tables is not loaded would load it."""
    if not (sys / "module/nf_tables").exists():
        return ()
    with NetlinkSocket(NETLINK_NETFILTER, strict=False) as netlink:
        return chains(netlink, ifindex)


def chains(netlink: Dump, ifindex: int) -> tuple[str, ...]:
    found = [
        sender.chain
        for message in netlink.dump(nft.NFT_MSG_GETRULE, nft.rules())
        for sender in nft.senders(message.body)
        if sender.ifindex in (ifindex, None)
    ]
    return tuple(dict.fromkeys(found))


def netconsole(name: str, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> bool | None:
    """Whether kernel messages are sent by that netdev; None when it cannot be told."""
    consoles = text(str(proc / "consoles"))
    if consoles is None:
        return None
    if not any(line.startswith("netcon") for line in rows(consoles)):
        return False
    place = sys / _TARGETS
    if not place.is_dir():
        return None
    return any(
        text(str(target / "dev_name")) == name and text(str(target / "enabled")) == "1"
        for target in place.iterdir()
    )
