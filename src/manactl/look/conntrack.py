"""Connections of others that this machine forwards through a port, by connection tracking.

Containers behind a bridge, virtual machines, whoever routes by this host: they have no socket here.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from manactl.look.rtnetlink import ntop
from manactl.look.sockets import Reach
from manactl.look.text_files import LACKS, number, read
from manactl.netstate.surroundings import Forwarded
from manactl.wire import conntrack as ct
from manactl.wire import rtmsg as rt
from manactl.wire.netlink import NETLINK_NETFILTER, NetlinkSocket

_COUNT = "sys/net/netfilter/nf_conntrack_count"  # below /proc
_BROADCAST = b"\xff" * 4
_IFA_BROADCAST = 4


class Ways(Protocol):
    """What is asked of rtnetlink."""

    def leaves_by(self, address: bytes) -> set[int]: ...
    def addresses(self) -> list[bytes]: ...


def entries() -> Iterable[bytes]:
    """All entries of this network namespace. OSError when they cannot be read."""
    with NetlinkSocket(NETLINK_NETFILTER, strict=False) as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            for message in netlink.dump(ct.CT_GET, ct.dump(family)):
                yield message.body


def in_use(proc: Path = Path("/proc")) -> bool:
    """Whether this namespace tracks anything. To ask where nothing does would load a module."""
    try:
        return int(read(proc / _COUNT)) != 0
    except FileNotFoundError:
        return False


def untracked(name: str, proc: Path = Path("/proc")) -> bool:
    """Whether that netdev forwards packets of others and nothing here tracks their connections."""
    places = [proc / f"sys/net/{family}/conf/{name}/forwarding" for family in ("ipv4", "ipv6")]
    return not in_use(proc) and any(number(str(place)) for place in places)


def forwarded(
    reach: Reach,
    rtnl: Ways,
    ask: Callable[[], Iterable[bytes]] = entries,
    proc: Path = Path("/proc"),
    netns: str | None = None,
) -> list[Forwarded]:
    """Who has connections through the port that end elsewhere at both ends, and how many.

    The packets of one go to where the answers come from, and the answers to where it came from:
    both ways are looked up, each address once. One that is translated to an address of the port, or
    from one, is the port's.
    """
    if not in_use(proc):
        return []
    here, nobody = _local(rtnl)
    through: dict[bytes, bool] = {}

    def leads(address: bytes) -> bool:
        if address not in through:
            try:
                through[address] = not rtnl.leaves_by(address).isdisjoint(reach.ifindexes)
            except OSError as error:  # an address that cannot be one of a peer
                if error.errno in LACKS:
                    raise
                through[address] = False
        return through[address]

    counts: dict[bytes, int] = {}
    examples: dict[bytes, str] = {}
    for body in ask():
        ends = ct.ends(body)
        if ends is None:
            continue
        source, target, answers_from, answers_to = ends
        if source in here or answers_from in here or target in nobody or _is_local(answers_from):
            continue
        mine = answers_to in reach.addresses or target in reach.addresses
        if not (mine or leads(answers_from) or leads(source)):
            continue
        what = ct.what(body)
        if what.over:
            continue
        counts[source] = counts.get(source, 0) + 1
        if source not in examples:
            examples[source] = f"{what.protocol} to {_end(target, what.peer_port)}"
    return [
        Forwarded(ntop(source), count, examples[source], netns) for source, count in counts.items()
    ]


def _local(rtnl: Ways) -> tuple[set[bytes], set[bytes]]:
    """The addresses of this namespace, and those that nobody in particular has."""
    here, nobody = set(), {_BROADCAST}
    for body in rtnl.addresses():
        attrs = rt.split(body, rt.IFADDR.size)
        own = rt.value(attrs, rt.IFA_LOCAL) or rt.value(attrs, rt.IFA_ADDRESS)
        if own:
            here.add(own)
        if broadcast := rt.value(attrs, _IFA_BROADCAST):
            nobody.add(broadcast)
    return here, nobody


def _is_local(address: bytes) -> bool:
    """Loopback and multicast: never somebody else."""
    if len(address) == 4:
        return address[0] == 127 or address[0] >= 224
    return address[0] == 0xFF or address == bytes(15) + b"\1"


def _end(address: bytes, port: int) -> str:
    text = ntop(address)
    if not port:
        return text
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"
