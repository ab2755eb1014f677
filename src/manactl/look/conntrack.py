"""Connections of others that this machine forwards through a port, by connection tracking.

Containers behind a bridge, virtual machines, whoever routes by this host: they have no socket here.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from manactl.look import ipvs
from manactl.look.ipvs import Balanced
from manactl.look.rtnetlink import ntop
from manactl.look.sockets import Reach, Turned
from manactl.look.text_files import LACKS, number
from manactl.look.text_files import read as read_kernel
from manactl.model.named_tuple import NamedTuple
from manactl.netstate.surroundings import Forwarded, Tracking
from manactl.wire import conntrack as ct
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import attr_u32
from manactl.wire.conntrack import Ends, Flow
from manactl.wire.netlink import NETLINK_NETFILTER, NetlinkSocket

_COUNT = "sys/net/netfilter/nf_conntrack_count"  # below /proc
_BROADCAST = b"\xff" * 4
_IFA_BROADCAST = 4


class Ways(Protocol):
    """What is asked of rtnetlink."""

    def leaves_by(self, address: bytes, *, bound: int = 0, mark: int = 0) -> set[int]: ...
    def routed_by(
        self, address: bytes, *, source: bytes = b"", mark: int = 0, flow: bytes = b""
    ) -> set[int]: ...
    def addresses(self) -> list[bytes]: ...
    def rules(self) -> list[bytes]: ...
    def rules_ask(self) -> frozenset[int]: ...


def entries() -> Iterable[bytes]:
    """All entries of this network namespace. OSError when they cannot be read."""
    with NetlinkSocket(NETLINK_NETFILTER, strict=False) as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            for message in netlink.dump(ct.CT_GET, ct.dump(family)):
                yield message.body


def in_use(proc: Path = Path("/proc")) -> bool:
    """Whether this namespace tracks anything. To ask where nothing does would load a module."""
    try:
        return int(read_kernel(proc / _COUNT)) != 0
    except FileNotFoundError:
        return False


def untracked(name: str, proc: Path = Path("/proc")) -> bool:
    """Whether that netdev forwards packets of others and nothing here tracks their connections."""
    places = [proc / f"sys/net/{family}/conf/{name}/forwarding" for family in ("ipv4", "ipv6")]
    return not in_use(proc) and any(number(str(place)) for place in places)


class Tracked(NamedTuple):
    """What the entries of this namespace tell: those of others with their messages, and the
    connections of our own sockets whose packets go elsewhere than to their peer, or may have the
    connection's mark."""

    others: Sequence[tuple[Ends, bytes]] = ()
    turned: Mapping[Flow, Turned] = {}
    marks: bool = False  # whether routing rules ask for marks
    balanced: Sequence[Balanced] = ()  # IPVS's, which may be in no entry


def read(
    rtnl: Ways,
    ask: Callable[[], Iterable[bytes]] = entries,
    proc: Path = Path("/proc"),
) -> Tracked:
    """All of it at once: there may be many. OSError when it cannot be read."""
    balanced = ipvs.connections(proc)
    if not in_use(proc):
        return Tracked(balanced=balanced)
    here, nobody = _local(rtnl)
    marks = not rt.FRA_OF_MARKS.isdisjoint(rtnl.rules_ask())
    others: list[tuple[Ends, bytes]] = []
    turned: dict[Flow, Turned] = {}
    for body in ask():
        ends = ct.ends(body)
        if ends is None:
            continue
        source, target, answers_from, _ = ends
        ours, to_us = source in here, answers_from in here
        if ours or to_us:
            mark = ct.mark(body) if marks else 0
            if ours and (mark or answers_from != target):
                turned[ct.flows(body, ends)[0]] = Turned(answers_from, mark)
            if to_us and mark:
                answer = ct.flows(body, ends)[1]
                turned[answer._replace(destination=source)] = Turned(source, mark)
        elif target not in nobody and not _is_local(answers_from):
            others.append((ends, body))
    return Tracked(others, turned, marks, balanced)


def known(tracked: Tracked | None, rtnl: Ways) -> Tracking:
    """What is known of this namespace, by what read() has found; None: it could not. OSError when
    the rules cannot be read either."""
    if tracked is not None:
        return Tracking.READ
    marks = not rt.FRA_OF_MARKS.isdisjoint(rtnl.rules_ask())
    return Tracking.NO_MARKS if marks else Tracking.NO_PEERS


class _Paths:
    """Asks where packets between two others go, as the kernel does that forwards them: by source,
    the interface that they come in by, and mark, where rules tell these apart; in each VRF."""

    def __init__(self, reach: Reach, rtnl: Ways, vrfs: Collection[int]) -> None:
        self._reach, self._rtnl, self._vrfs = reach, rtnl, vrfs
        asked = rtnl.rules_ask()
        self._by_source = not _OF_SOURCE.isdisjoint(asked)
        self._sources = _prefixes(rtnl) if rt.FRA_SRC in asked else ()
        self._out: dict[tuple[object, ...], frozenset[int]] = {}
        self._classes: dict[bytes, tuple[bool, ...]] = {}
        self._plainly = not (self._by_source or vrfs)
        self._known: dict[bytes, bool] = {}  # whether packets to an address leave by the port

    def lead(self, one: bytes, other: bytes, mark: int = 0) -> bool:
        """Whether packets of one of them to the other, or the answers, leave by the port."""
        if self._plainly and not mark:  # there may be very many
            return self._through(other) or self._through(one)
        return self._leads(other, one, mark) or self._leads(one, other, mark)

    def _through(self, address: bytes) -> bool:
        found = self._known.get(address)
        if found is None:
            found = not self._plain(address).isdisjoint(self._reach.ifindexes)
            self._known[address] = found
        return found

    def _leads(self, address: bytes, source: bytes, mark: int) -> bool:
        ports = self._reach.ifindexes
        if not self._way(address, source, mark).isdisjoint(ports):
            return True
        return any(
            not self._plain(address, bound=vrf).isdisjoint(ports) and self._plain(source, bound=vrf)
            for vrf in self._vrfs
        )

    def _way(self, address: bytes, source: bytes, mark: int) -> frozenset[int]:
        if not (self._by_source or mark):
            return self._plain(address)
        comes_in_by = self._plain(source, mark=mark)
        found: set[int] = set()
        for index in comes_in_by:
            found |= self._ask((address, self._class(source), index, mark), source)
        return frozenset(found) or self._plain(address, mark=mark)

    def _ask(self, key: tuple[bytes, tuple[bool, ...], int, int], source: bytes) -> frozenset[int]:
        """For all sources that the rules do not tell apart once."""
        if key not in self._out:
            address, _, index, mark = key
            more = attr_u32(rt.RTA_IIF, index)
            try:
                out = self._rtnl.routed_by(address, source=source, mark=mark, flow=more)
            except OSError as error:  # the kernel would not forward it (EXDEV of rp_filter)
                if error.errno in LACKS:
                    raise
                out = set()
            self._out[key] = frozenset(out)
        return self._out[key]

    def _class(self, source: bytes) -> tuple[bool, ...]:
        if source not in self._classes:
            number, bits = int.from_bytes(source, "big"), len(source) * 8
            self._classes[source] = tuple(
                size == bits and number >> (bits - length) == net >> (bits - length)
                for size, net, length in self._sources
            )
        return self._classes[source]

    def _plain(self, address: bytes, *, bound: int = 0, mark: int = 0) -> frozenset[int]:
        key = (address, bound, mark)
        if key not in self._out:
            try:
                out = self._rtnl.leaves_by(address, bound=bound, mark=mark)
            except OSError as error:  # an address that cannot be one of a peer
                if error.errno in LACKS:
                    raise
                out = set()
            self._out[key] = frozenset(out)
        return self._out[key]


# What rules may ask of packets that come in by another netdev.
_OF_SOURCE = frozenset({rt.FRA_SRC, rt.FRA_IIFNAME})


def _prefixes(rtnl: Ways) -> tuple[tuple[int, int, int], ...]:
    """Bits, number and length of what the rules ask of sources."""
    found: dict[tuple[int, int, int], None] = {}
    for body in rtnl.rules():
        net = rt.value(rt.split(body, rt.RTMSG.size), rt.FRA_SRC)
        if net:
            one = len(net) * 8, int.from_bytes(net, "big"), rt.RtMsg.of(body).src_len
            found[one] = None
    return tuple(found)


def forwarded(
    reach: Reach,
    rtnl: Ways,
    tracked: Tracked,
    *,
    vrfs: Collection[int] = (),
    netns: str | None = None,
) -> list[Forwarded]:
    """Who has connections through the port that end elsewhere at both ends, and how many.

    The packets of one go to where the answers come from, and the answers to where it came from:
    both ways are looked up, each address once. One that is translated to an address of the port, or
    from one, is the port's. `vrfs` are the ifindexes of the VRFs there are.
    """
    balanced = tracked.balanced
    counts: dict[bytes, int] = {}
    examples: dict[bytes, str] = {}
    if not tracked.others and not balanced:
        return []
    paths = _Paths(reach, rtnl, vrfs)

    def count(source: bytes, protocol: str, to: bytes, port: int, by: str = "") -> None:
        counts[source] = counts.get(source, 0) + 1
        if source not in examples:
            examples[source] = f"{protocol} to {_end(to, port)}{by}"

    seen = set()
    for ends, body in tracked.others:
        source, target, *_ = ends
        if not _takes(ends, ct.mark(body) if tracked.marks else 0, reach, paths):
            continue
        what = ct.what(body)
        if what.over:
            continue
        if balanced:
            seen.add((what.protocol, source, what.port))
        count(source, what.protocol, target, what.peer_port)
    here = own_addresses(rtnl) if balanced else set()
    for one in balanced:
        if (one.protocol, one.client, one.port) in seen or one.server in here:
            continue
        if _is_balanced_by(one, reach, paths):
            count(one.client, one.protocol, one.address, one.service, ", by IPVS")
    return [
        Forwarded(ntop(source), number, examples[source], netns)
        for source, number in counts.items()
    ]


def _takes(ends: Ends, mark: int, reach: Reach, paths: _Paths) -> bool:
    """Whether a connection of others takes the port."""
    source, target, answers_from, answers_to = ends
    if answers_to in reach.addresses or target in reach.addresses:
        return True
    through = paths.lead(source, answers_from)
    return through or bool(mark and paths.lead(source, answers_from, mark))


def forwarded_to(
    addresses: Collection[bytes],
    reach: Reach,
    rtnl: Ways,
    tracked: Tracked,
    vrfs: Collection[int] = (),
) -> set[bytes]:
    """Those of the addresses that others are connected to through the port."""
    some = [(ends, body) for ends, body in tracked.others if ends[2] in addresses]
    balanced = [one for one in tracked.balanced if one.server in addresses]
    if not (some or balanced):
        return set()
    paths = _Paths(reach, rtnl, vrfs)
    found = {
        ends[2]
        for ends, body in some
        if not ct.what(body).over
        and _takes(ends, ct.mark(body) if tracked.marks else 0, reach, paths)
    }
    return found | {one.server for one in balanced if _is_balanced_by(one, reach, paths)}


def _is_balanced_by(one: Balanced, reach: Reach, paths: _Paths) -> bool:
    """Whether a connection of IPVS takes the port."""
    return one.address in reach.addresses or paths.lead(one.client, one.server)


def own_addresses(rtnl: Ways) -> set[bytes]:
    """The addresses of this namespace."""
    return _local(rtnl)[0]


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
