"""Reads the surroundings of a port for the guards. What cannot be read is None, never empty."""

from __future__ import annotations

import errno
import functools
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from manactl.look import (
    conntrack,
    fabric,
    guests,
    ipsec,
    managers,
    mounts,
    netdevs,
    raw_sockets,
    redirects,
    relays,
    resolvers,
    sockets,
    source_words,
    ssh,
    steered,
    tunnels,
    unmanaged_links,
    upper_devices,
    xsk,
)
from manactl.look.bus import Bus
from manactl.look.conntrack import Tracked
from manactl.look.pyroute2_links import DecodedLink
from manactl.look.relays import Relays
from manactl.look.rtnetlink import Rtnl
from manactl.look.sockets import Turned
from manactl.look.text_files import LACKS, read
from manactl.look.upper_devices import CARRIED, WHOLE, Chains, Found, View
from manactl.model.port import PortStatus, RdmaPort
from manactl.model.value import Value
from manactl.netstate.snapshot import PortState, addresses
from manactl.netstate.surroundings import (
    NOTHING_READ,
    Connection,
    Forwarded,
    IpsecTunnel,
    Listener,
    PacketSocket,
    Process,
    RdmaUser,
    RemoteStorage,
    SshSession,
    Stacked,
    Surroundings,
    Tracking,
)
from manactl.netstate.unmanaged import NETWORKD
from manactl.netstate.uppers import NETVSC, OVS
from manactl.wire import rtmsg as rt
from manactl.wire.conntrack import Flow
from manactl.wire.inet_diag import TcpSocket
from manactl.wire.nldev import Nldev, RdmaNetlink, Resource
from manactl.wire.tunnels import Tunnel
from manactl.wire.xfrm import Policy

_LOOPBACK = 1  # LOOPBACK_IFINDEX of every namespace
_CORE = "ib_core"  # its management datagrams

T = TypeVar("T")


class Sources(Value):
    """Where the surroundings are read, but for rtnetlink."""

    proc: Path = Path("/proc")
    run: Path = Path("/run")
    sys: Path = Path("/sys")
    links: Callable[[], Sequence[DecodedLink]] = netdevs.links
    tcp: Callable[[bytes], Iterable[TcpSocket]] = sockets.tcp
    in_other_netns: Callable[[upper_devices.Found], list[View]] = upper_devices.in_other_netns
    nldev: Callable[[], AbstractContextManager[RdmaNetlink]] = Nldev
    tunnels: Callable[[], Sequence[Tunnel]] = tunnels.live
    udp: Callable[[bytes], Iterable[TcpSocket]] = sockets.udp
    unconnected: Callable[[bytes], Iterable[TcpSocket]] = sockets.unconnected
    listening: Callable[[bytes], Iterable[TcpSocket]] = sockets.listening
    conntrack: Callable[[], Iterable[bytes]] = conntrack.entries
    redirecting: Callable[[Mapping[int, str], int], tuple[str, ...]] = redirects.live
    lib: Path = Path("/var/lib")
    etc: Path = Path("/etc")
    policies: Callable[[], Sequence[Policy]] = ipsec.live
    nftables: Callable[[int, Path], tuple[str, ...]] = redirects.nftables
    bus: Bus = Bus()

    @property
    def manager_files(self) -> managers.Roots:
        return managers.Roots(self.run, self.proc, self.sys, self.lib, self.etc)


LIVE = Sources()


def gather(
    port: PortStatus,
    state: PortState | None,
    claimed: Collection[int],
    rtnl: Rtnl,
    sources: Sources = LIVE,
) -> Surroundings:
    """Read everything once. `claimed` are the ifindexes of all ports of this claim."""
    if state is None or port.netdev is None:
        return NOTHING_READ
    ifindex = state.ifindex
    links, tuns = _try(sources.links), _try(sources.tunnels)
    if policies := _try(sources.policies):
        rtnl.ipsec = functools.partial(ipsec.around, policies)
    if links is not None and state.alone:
        links = _without_synthetic(links, {*claimed, ifindex})
    found = uppers = views = others_ = ways_left = None
    if links is not None and tuns is not None:
        gone = _try(lambda: _gone({*claimed, ifindex}, links, tuns, rtnl))
        ways_left = (
            None if gone is None else {one.ifindex: one.name for one in links if _works(one, gone)}
        )
        others_ = None if gone is None else _try(lambda: others(gone, links, rtnl))
        here = _try(lambda: _dependents(state, links, tuns, rtnl, sources.sys))
        if here is not None:
            found, chains = here
            stacked = {index: how for index, how in found.items() if index != ifindex}
            uppers = _try(lambda: tuple(upper_devices.stacked(links, stacked, rtnl, None, chains)))
            views = _try(lambda: sources.in_other_netns(found))
    pair = {ifindex: state.ifname}
    if state.synthetic is not None:
        pair[state.synthetic.ifindex] = state.synthetic.name
    reach = upper_devices.reach(uppers or (), ifindex, addresses(state.own))
    carried = {*pair.values(), *(upper.name for upper in uppers or () if upper.carried)}
    tracked = _try(lambda: conntrack.read(rtnl, sources.conntrack, sources.proc))
    turned = tracked.turned if tracked else {}
    tracking = _tracking(tracked, views or (), rtnl)
    tcp = _try(lambda: _connections(reach, views or (), rtnl, sources, turned))
    packets = _try(lambda: _packet_sockets(state, uppers or (), views or (), sources))
    others_than_tcp = _try(lambda: _other_sockets(reach, views or (), rtnl, sources, turned))
    listeners = _try(lambda: _listeners(reach, views or (), sources))
    names = {link.ifindex: link.name for link in links or () if link.ifindex in (found or ())}
    who_manages = _try(
        lambda: managers.find({**names, ifindex: state.ifname}, sources.manager_files)
    )
    if who_manages is not None:
        asked = unmanaged_links.asked(who_manages.managers, sources.bus, alone=state.alone)
        who_manages = replace(who_manages, managers=asked)
    networkd = [
        one for one in (who_manages.managers if who_manages else ()) if one.name == NETWORKD
    ]
    who = _try(
        lambda: sockets.owners_of(_inodes(tcp, packets, others_than_tcp, listeners), sources.proc)
    )
    sessions = _try(lambda: _sessions(reach, rtnl, sources))
    own = _try(lambda: conntrack.own_addresses(rtnl)) if sessions else set()
    if own is None:  # which of them come from this host is not known
        sessions, own = None, set()
    relayed = _relays(sessions or (), own, sources)
    connections = _connected(tcp, who, sources, relayed)
    more = _connected(others_than_tcp, who, sources, relayed)
    if sessions:
        if connections is None or more is None or tracking is not Tracking.READ:
            relayed = relayed._replace(unseen=True)
        over = (*(connections or ()), *(more or ()))
        sessions = _from_guests(
            [relays.judged(one, relayed, own, over) for one in sessions],
            own,
            None if connections is None or more is None else over,
            links or (),
            functools.partial(_forwarded_to, reach, rtnl, tracked, links or ()),
            rtnl,
            sources,
        )
    return Surroundings(
        state=state,
        uppers=uppers,
        elsewhere=None if views is None else tuple(up for view in views for up in view.stacked),
        xdp=_try(
            lambda: (
                any(rtnl.link(index).xdp_mode != 0 for index in pair)
                or xsk.are_on(pair, process=sources.proc / "self")
            )
        ),
        connections=connections,
        packet_sockets=_try(
            lambda: _used(
                packets, who, lambda: _packet_sockets(state, uppers or (), views or (), sources)
            )
        ),
        ssh=sessions,
        others=others_,
        managers=None if who_manages is None else who_manages.managers,
        # Of a device that is in another network namespace no user can be seen.
        rdma_users=None
        if port.rdma_elsewhere
        else _try(
            lambda: rdma_users(
                port.rdma,
                sources.nldev,
                sources.proc,
                [rtnl.link(index).mac for index in sorted(reach.ifindexes)],
            )
        ),
        fabric=_try(lambda: fabric.routes(reach.ifindexes, ways_left or {}, rtnl, sources.sys)),
        sockets=more,
        listeners=(
            None if listeners is None or who is None else sockets.with_processes(listeners, who)
        ),
        forwarded=_try(lambda: _forwarded(reach, views or (), rtnl, tracked, links or ())),
        untracked=_try(lambda: any(conntrack.untracked(n, sources.proc) for n in pair.values())),
        redirecting=None if links is None else _try(lambda: _redirecting(links, pair, sources)),
        netconsole=_try(
            lambda: _any(
                redirects.netconsole(name, sources.sys, sources.proc) for name in pair.values()
            )
        ),
        daemons=None if who_manages is None else who_manages.daemons,
        ipsec=_ipsec(policies, reach, views or (), rtnl),
        nftables=_try(lambda: sources.nftables(ifindex, sources.sys)),
        beside=_try(rtnl.beside) if networkd else (),
        steered=_try(
            lambda: steered.defaults(
                reach.ifindexes, {link.ifindex: link.name for link in links or ()}, rtnl
            )
        ),
        name_servers=_try(
            lambda: resolvers.through(
                reach.ifindexes, ways_left or {}, rtnl, etc=sources.etc, run=sources.run
            )
        ),
        bridged=None if links is None else _bridged(links, reach),
        storage=_try(lambda: _storage(reach, carried, views or (), rtnl, sources)),
        tracking=tracking,
    )


def _dependents(
    state: PortState, links: Sequence[DecodedLink], tuns: Sequence[Tunnel], rtnl: Rtnl, sys: Path
) -> tuple[Found, Chains]:
    """What is stacked on the port or sends by it, in this netns. Of kinds that have no attribute
    for their lower (HSR, for instance) sysfs alone tells."""
    seeds = {state.ifindex: WHOLE}
    found, chains = upper_devices.dependents(links, tuns, seeds, rtnl)
    names = _sysfs_uppers(state.ifname, state.ifindex, sys)
    if state.synthetic is not None:
        names |= _sysfs_uppers(state.synthetic.name, state.synthetic.ifindex, sys)
    above = {link.ifindex for link in links if link.name in names and link.kind != NETVSC}
    more = above - found.keys()
    kinds = {link.ifindex: link.kind for link in links}
    if any(kinds.get(index) == OVS for index in found):
        # The switch has one master; its other interfaces are no links' uppers.
        more |= {index for index, kind in kinds.items() if kind == OVS} - found.keys()
    if not more:
        return found, chains
    seeds = found | dict.fromkeys(more, CARRIED)
    return upper_devices.dependents(links, tuns, seeds, rtnl, chains)


def _sysfs_uppers(name: str, ifindex: int, sys: Path) -> set[str]:
    """The names of a netdev's uppers; none where /sys is that of another namespace."""
    place = sys / "class/net" / name
    try:
        if int(read(place / "ifindex")) != ifindex:
            return set()
    except (FileNotFoundError, ValueError):
        return set()
    return {entry.name[len("upper_") :] for entry in place.glob("upper_*")}


def _without_synthetic(
    links: Sequence[DecodedLink], ports: Collection[int]
) -> Sequence[DecodedLink]:
    """The links, where these ports are below no netdev of hv_netvsc: that goes on without them."""
    above = {link.ifindex for link in links if link.kind == NETVSC}
    return [
        link._replace(master=None) if link.ifindex in ports and link.master in above else link
        for link in links
    ]


def _redirecting(
    links: Iterable[DecodedLink], pair: Collection[int], sources: Sources
) -> tuple[str, ...]:
    names = {link.ifindex: link.name for link in links}
    found = (name for index in pair for name in sources.redirecting(names, index))
    return tuple(dict.fromkeys(found))


def _bridged(links: Iterable[DecodedLink], reach: sockets.Reach) -> tuple[str, ...]:
    """Whoever is in one bridge with the port, or with what depends on it: their frames are in no
    table of this host."""
    links = list(links)
    bridges = {one.ifindex for one in links if one.kind in ("bridge", OVS)} & reach.ifindexes
    return tuple(
        one.name
        for one in links
        if one.master in bridges and one.ifindex not in reach.ifindexes and one.up
    )


def _any(answers: Iterable[bool | None]) -> bool | None:
    """Whether one of them is true; None: none is, and not all are known."""
    known = set(answers)
    return True if True in known else None if None in known else False


def _connections(
    reach: sockets.Reach,
    views: Iterable[View],
    rtnl: Rtnl,
    sources: Sources,
    turned: Mapping[Flow, Turned],
) -> list[Connection]:
    """TCP connections of every namespace, without their processes."""
    many = sockets.are_many(socket.IPPROTO_TCP, sources.proc / "self")
    mine = sockets.using(reach, rtnl, sources.tcp, turned=turned, many=many)
    here = sockets.connections(mine, reach)
    return [*here, *(tcp for view in views for tcp in view.tcp)]


def _other_sockets(
    reach: sockets.Reach,
    views: Iterable[View],
    rtnl: Rtnl,
    sources: Sources,
    turned: Mapping[Flow, Turned],
) -> list[Connection]:
    """Connected sockets of other protocols, and SCTP associations, of every namespace, without
    their processes."""
    many = sockets.are_many(socket.IPPROTO_UDP, sources.proc / "self")
    udp = sockets.using(reach, rtnl, sources.udp, socket.IPPROTO_UDP, turned, many=many)
    return [
        *sockets.connections(udp, reach, protocol="udp"),
        *sockets.sctp(reach, rtnl, sources.proc / "self"),
        *raw_sockets.connected(reach, rtnl, sources.proc / "self"),
        *(one for view in views for one in view.sockets),
    ]


def _listeners(reach: sockets.Reach, views: Iterable[View], sources: Sources) -> list[Listener]:
    """Those who wait for others at an address of the port, of every namespace."""
    return [
        *sockets.listeners(sockets.serving(reach, sources.listening), "tcp"),
        *sockets.listeners(sockets.serving(reach, sources.unconnected), "udp"),
        *sockets.sctp_listeners(reach, sources.proc / "self"),
        *raw_sockets.waiting(reach, sources.proc / "self"),
        *(one for view in views for one in view.listeners),
    ]


def _tracking(tracked: Tracked | None, views: Iterable[View], rtnl: Rtnl) -> Tracking:
    """The least that is known in any namespace."""
    here = _try(lambda: conntrack.known(tracked, rtnl)) or Tracking.NO_MARKS
    return max((here, *(view.tracking for view in views)), key=lambda one: one.value)


def _forwarded(
    reach: sockets.Reach,
    views: Iterable[View],
    rtnl: Rtnl,
    tracked: Tracked | None,
    links: Iterable[DecodedLink],
) -> tuple[Forwarded, ...] | None:
    """Connections of others through the port, of every namespace."""
    if tracked is None:
        return None
    vrfs = [link.ifindex for link in links if link.kind == "vrf"]
    found = conntrack.forwarded(reach, rtnl, tracked, vrfs=vrfs)
    for view in views:
        if view.forwarded is None:
            raise OSError(errno.EPERM, "connection tracking of another namespace was not read")
        found += view.forwarded
    return tuple(found)


def _storage(
    reach: sockets.Reach,
    names: Collection[str],
    views: Iterable[View],
    rtnl: Rtnl,
    sources: Sources,
) -> tuple[RemoteStorage, ...]:
    """What is mounted or attached over the port, of every namespace."""
    found = mounts.storage(reach, rtnl, sources.proc, sources.sys, names=names)
    for view in views:
        if view.storage is None:
            raise OSError(errno.EPERM, "the mounts of another namespace were not read")
        found += view.storage
    return tuple(found)


def _ipsec(
    policies: Sequence[Policy] | None, reach: sockets.Reach, views: Iterable[View], rtnl: Rtnl
) -> tuple[IpsecTunnel, ...] | None:
    """IPsec tunnels that leave by the port, of every namespace."""
    here = None
    if policies is not None:
        here = _try(lambda: ipsec.through(policies, reach, rtnl))
    found = [here, *(view.ipsec for view in views)]
    if None in found:
        return None
    return tuple(one for some in found for one in some or ())


def _connected(
    found: list[Connection] | None,
    who: Mapping[int, tuple[Process, ...]] | None,
    sources: Sources,
    relayed: Relays,
) -> tuple[Connection, ...] | None:
    """The connections with their processes, and whether they are remote logins, or of a program that
    passes one on."""
    if found is None or who is None:
        return None
    whole = sockets.with_processes(found, who)
    logins = _try(
        lambda: ssh.of_servers(((one.local_port, one.processes) for one in whole), sources.proc)
    )
    if logins is None:
        return None
    return tuple(
        replace(one, login=True) if login or relayed.have(one.processes) else one
        for one, login in zip(whole, logins, strict=True)
    )


def _from_guests(  # noqa: PLR0917 - all that tells of one
    sessions: Sequence[SshSession],
    own: Collection[bytes],
    over: Iterable[Connection] | None,
    links: Iterable[DecodedLink],
    forwarded_to: Callable[[Collection[bytes]], Collection[bytes] | None],
    rtnl: Rtnl,
    sources: Sources,
) -> tuple[SshSession, ...] | None:
    """The sessions; of those from a container whether somebody has reached that over the port. None
    when it cannot be looked up."""
    kinds = {link.ifindex: link.kind for link in links}
    found = _try(lambda: guests.addresses(sessions, own, kinds, rtnl))
    if not found:
        return None if found is None else tuple(sessions)
    there = _try(
        lambda: guests.reached(
            set(found.values()), forwarded_to, over, _asks(sources), sources.proc
        )
    )
    return None if there is None else tuple(guests.judged(one, found, there) for one in sessions)


def _asks(sources: Sources) -> relays.Asks:
    return relays.Asks(sources.tcp, sources.listening, sources.unconnected)


def _forwarded_to(
    reach: sockets.Reach,
    rtnl: Rtnl,
    tracked: Tracked | None,
    links: Iterable[DecodedLink],
    addresses: Collection[bytes],
) -> Collection[bytes] | None:
    if tracked is None:
        return None
    vrfs = [link.ifindex for link in links if link.kind == "vrf"]
    return conntrack.forwarded_to(addresses, reach, rtnl, tracked, vrfs)


def _relays(sessions: Sequence[SshSession], own: Collection[bytes], sources: Sources) -> Relays:
    found = _try(lambda: relays.of_logins(sessions, own, _asks(sources), sources.proc))
    return found if found is not None else Relays(unseen=True)


def _sessions(reach: sockets.Reach, rtnl: Rtnl, sources: Sources) -> tuple[SshSession, ...]:
    return (
        *ssh.sessions(reach, rtnl, sources.proc, sources.run),
        *ssh.mosh(reach, rtnl, lambda: sources.unconnected(b""), sources.proc),
    )


def _packet_sockets(
    state: PortState, uppers: Iterable[Stacked], views: Iterable[View], sources: Sources
) -> list[PacketSocket]:
    """Packet sockets of every namespace, without their processes."""
    names: dict[int, str | None] = {upper.ifindex: upper.name for upper in uppers if upper.carried}
    here = sockets.packet_sockets({**names, state.ifindex: None}, sources.proc / "self")
    return [*here, *(packet for view in views for packet in view.packets)]


def _used(
    found: Iterable[PacketSocket] | None,
    who: Mapping[int, tuple[Process, ...]] | None,
    again: Callable[[], Iterable[PacketSocket]],
) -> tuple[PacketSocket, ...] | None:
    """Each with its processes. Where one has none, all are looked for `again`: a DHCP client opens one
    for some seconds, and what is closed by now was not of a process that is not visible."""
    if found is None or who is None:
        return None
    mine = sockets.with_processes(found, who)
    if all(one.processes for one in mine):
        return mine
    there = {one.inode for one in again()}
    return tuple(one for one in mine if one.processes or one.inode in there)


def _inodes(*found: Iterable[Connection | PacketSocket | Listener] | None) -> set[int]:
    return {sock.inode for some in found for sock in some or () if sock.inode}


def _try(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except (OSError, ValueError, IndexError, KeyError):
        return None


def _gone(
    claimed: Collection[int], links: Sequence[DecodedLink], tuns: Sequence[Tunnel], rtnl: Rtnl
) -> frozenset[int]:
    """The netdevs that lose their traffic with the claimed ports, those themselves included."""
    found, _ = upper_devices.dependents(links, tuns, dict.fromkeys(claimed, WHOLE), rtnl)
    return frozenset(index for index, standing in found.items() if standing.carried)


def _works(link: DecodedLink, gone: Collection[int]) -> bool:
    return link.up and link.carrier and link.ifindex != _LOOPBACK and link.ifindex not in gone


def others(gone: Collection[int], links: Sequence[DecodedLink], rtnl: Rtnl) -> tuple[str, ...]:
    """Netdevs that are up, with carrier and a global address, and lose nothing with a claimed port."""
    having = set()
    for body in rtnl.addresses():
        head = rt.IfAddrMsg.of(body)
        if head.scope == rt.RT_SCOPE_UNIVERSE:
            having.add(head.ifindex)
    return tuple(link.name for link in links if link.ifindex in having and _works(link, gone))


def rdma_users(
    rdma: RdmaPort | None,
    nldev: Callable[[], AbstractContextManager[RdmaNetlink]] = Nldev,
    proc: Path = Path("/proc"),
    macs: Iterable[str | None] = (),
) -> tuple[RdmaUser, ...]:
    """Users of the port's RDMA devices that are not raw QPs, and of RDMA in software (rxe, siw) over
    netdevs with those MAC addresses."""
    if rdma is None:
        return ()
    with nldev() as netlink:
        guids = {_guid(mac) for mac in macs if mac}
        return (*_rdma_users(rdma, netlink, proc), *_soft_users(rdma, netlink, proc, guids))


def _guid(mac: str) -> int:
    """The node GUID that rxe and siw make of a netdev's MAC address (addrconf_addr_eui48())."""
    raw = bytes.fromhex(mac.replace(":", ""))
    return int.from_bytes(bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:], "big")


def _soft_users(
    rdma: RdmaPort, nldev: RdmaNetlink, proc: Path, guids: Collection[int]
) -> Iterator[RdmaUser]:
    own = {rdma.device, *(other.rpartition("/")[0] for other in rdma.others)}
    for device in nldev.devices():
        if device.node_guid not in guids or device.name in own:
            continue
        used = [pd for pd in nldev.pds(device.dev_index) if pd.users != 0]
        modules = {pd.module for pd in used if pd.kernel and pd.module}
        if theirs := sorted(modules - {_CORE}):
            yield RdmaUser(device.name, source_words.in_software(source_words.in_kernel(theirs)))
        if users := [pd for pd in used if not pd.kernel]:
            what = source_words.in_software(source_words.domains_in_use(len(users)))
            yield RdmaUser(device.name, what, _processes(users, proc))


def _rdma_users(rdma: RdmaPort, nldev: RdmaNetlink, proc: Path) -> tuple[RdmaUser, ...]:
    index = {device.name: device.dev_index for device in nldev.devices()}
    others = {other.rpartition("/")[0] for other in rdma.others}
    found = []
    for name in sorted({rdma.device, *others}):
        modules = {pd.module for pd in nldev.pds(index[name]) if pd.kernel and pd.users != 0}
        users = sorted(module for module in modules if module and module != _CORE)
        if users:  # NVMe or NFS over RDMA
            found.append(RdmaUser(name, source_words.in_kernel(users)))
    for name in sorted(others):
        used = [pd for pd in nldev.pds(index[name]) if not pd.kernel and pd.users != 0]
        if used:
            what = source_words.domains_in_use(len(used))
            found.append(RdmaUser(name, what, _processes(used, proc)))
    if not rdma.others:
        # One device for everything (6.12): of its queue pairs the kernel's own hang on the
        # kernel's protection domains, at most one raw one is tracked, and the rest are RC.
        at = index[rdma.device]
        pds = nldev.pds(at)
        kernel = sum(pd.users or 0 for pd in pds if pd.kernel)
        rest = nldev.summary(at)["qp"] - kernel - nldev.raw_qp_tracked(at)
        if rest > 0:
            used = [pd for pd in pds if not pd.kernel and pd.users != 0]
            what = source_words.queue_pairs(rest)
            found.append(RdmaUser(rdma.device, what, _processes(used, proc)))
    return tuple(found)


def _processes(objects: Collection[Resource], proc: Path) -> tuple[Process, ...]:
    found = []
    for pid in sorted({item.pid for item in objects if item.pid}):
        try:
            comm = read(proc / str(pid) / "comm")
        except OSError as error:
            if error.errno in LACKS:
                raise
            comm = "?"
        found.append(Process(pid, comm))
    return tuple(found)
