"""Reads the surroundings of a port for the guards. What cannot be read is None, never empty."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from manactl.look import managers, netdevs, sockets, upper_devices
from manactl.look.pyroute2_links import DecodedLink
from manactl.look.rtnetlink import Rtnl
from manactl.look.upper_devices import WHOLE, View
from manactl.model.port import PortStatus, RdmaPort
from manactl.netstate.snapshot import PortState, addresses
from manactl.netstate.surroundings import (
    NOTHING_READ,
    Connection,
    FabricRoute,
    PacketSocket,
    Process,
    RdmaUser,
    SshSession,
    Stacked,
    Surroundings,
)
from manactl.wire import rtmsg as rt
from manactl.wire.inet_diag import TcpSocket
from manactl.wire.nldev import Nldev, RdmaNetlink, Resource

_WIRE_SERVER = "168.63.129.16"
_AZURE_ASSET_TAG = "7783-7084-3265-9085-8269-3286-77"  # of every Azure VM, in its DMI tables
_LOOPBACK = 1  # LOOPBACK_IFINDEX of every namespace
_CORE = "ib_core"  # its management datagrams
_ANCESTORS = 64  # more parents than any session has

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the surroundings are read, but for rtnetlink."""

    proc: Path = Path("/proc")
    run: Path = Path("/run")
    sys: Path = Path("/sys")
    links: Callable[[], Sequence[DecodedLink]] = netdevs.links
    tcp: Callable[[bytes], Iterable[TcpSocket]] = sockets.tcp
    in_other_netns: Callable[[upper_devices.Found], list[View]] = upper_devices.in_other_netns
    nldev: Callable[[], AbstractContextManager[RdmaNetlink]] = Nldev
    lib: Path = Path("/var/lib")
    etc: Path = Path("/etc")

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
    links = _try(sources.links)
    found = uppers = views = None
    if links is not None:
        found = upper_devices.grow(links, {ifindex: WHOLE}, {})
        stacked = {index: how for index, how in found.items() if index != ifindex}
        uppers = _try(lambda: _uppers(port, links, stacked, rtnl))
        views = _try(lambda: sources.in_other_netns(found))
    reach = upper_devices.reach(uppers or (), ifindex, addresses(state.own))
    tcp = _try(lambda: _connections(reach, views or (), rtnl, sources))
    packets = _try(lambda: _packet_sockets(state, uppers or (), views or (), sources))
    names = {link.ifindex: link.name for link in links or () if link.ifindex in (found or ())}
    who_manages = _try(
        lambda: managers.find({**names, ifindex: state.ifname}, sources.manager_files)
    )
    who = _try(lambda: sockets.owners_of(_inodes(tcp, packets), sources.proc))
    return Surroundings(
        state=state,
        uppers=uppers,
        elsewhere=None if views is None else tuple(up for view in views for up in view.stacked),
        xdp=_try(lambda: rtnl.link(ifindex).xdp_mode != 0),
        connections=None if tcp is None or who is None else sockets.with_processes(tcp, who),
        packet_sockets=(
            None if packets is None or who is None else sockets.with_processes(packets, who)
        ),
        ssh=_try(lambda: ssh_sessions(reach.ifindexes, rtnl, sources.proc)),
        others=None if links is None else _try(lambda: others({*claimed, ifindex}, links, rtnl)),
        managers=None if who_manages is None else who_manages.managers,
        # Of a device that is in another network namespace no user can be seen.
        rdma_users=None
        if port.rdma_elsewhere
        else _try(lambda: rdma_users(port.rdma, sources.nldev, sources.proc)),
        fabric=_try(lambda: fabric(reach.ifindexes, rtnl, sources.sys)),
        daemons=None if who_manages is None else who_manages.daemons,
    )


def _uppers(
    port: PortStatus, links: Iterable[DecodedLink], stacked: upper_devices.Found, rtnl: Rtnl
) -> tuple[Stacked, ...]:
    """The uppers of the port in this netns, but for a netvsc master, which a claim declines."""
    netvsc = port.upper.netdev if port.upper and port.upper.kind == "netvsc" else None
    uppers = upper_devices.stacked(links, stacked, rtnl, None)
    return tuple(upper for upper in uppers if upper.name != netvsc)


def _connections(
    reach: sockets.Reach, views: Iterable[View], rtnl: Rtnl, sources: Sources
) -> list[Connection]:
    """TCP connections of every namespace, without their processes."""
    here = sockets.connections(sockets.using(reach, rtnl, sources.tcp), reach)
    return [*here, *(tcp for view in views for tcp in view.tcp)]


def _packet_sockets(
    state: PortState, uppers: Iterable[Stacked], views: Iterable[View], sources: Sources
) -> list[PacketSocket]:
    """Packet sockets of every namespace, without their processes."""
    names: dict[int, str | None] = {upper.ifindex: upper.name for upper in uppers if upper.carried}
    here = sockets.packet_sockets({**names, state.ifindex: None}, sources.proc / "self")
    return [*here, *(packet for view in views for packet in view.packets)]


def _inodes(*found: Iterable[Connection | PacketSocket] | None) -> set[int]:
    return {sock.inode for some in found for sock in some or () if sock.inode}


def _try(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except (OSError, ValueError, IndexError, KeyError):
        return None


def others(claimed: Collection[int], links: Sequence[DecodedLink], rtnl: Rtnl) -> tuple[str, ...]:
    """Netdevs that are up, with carrier and a global address, and lose nothing with a claimed port."""
    gone = upper_devices.grow(links, dict.fromkeys(claimed, WHOLE), {})
    having = set()
    for body in rtnl.addresses():
        head = rt.IfAddrMsg.of(body)
        carried = head.ifindex in gone and gone[head.ifindex].carried
        if head.scope == rt.RT_SCOPE_UNIVERSE and not carried:
            having.add(head.ifindex)
    return tuple(
        link.name
        for link in links
        if link.ifindex in having and link.up and link.carrier and link.ifindex != _LOOPBACK
    )


def ssh_sessions(
    ifindexes: Collection[int], rtnl: Rtnl, proc: Path = Path("/proc")
) -> tuple[SshSession, ...]:
    """SSH_CONNECTION of this process and of its ancestors, since sudo clears the environment.

    An ancestor whose environment may not be read is passed over: this can only add refusals.
    """
    found = {}
    pid = os.getpid()
    for _ in range(_ANCESTORS):
        value = _environment(proc / str(pid) / "environ")
        if value and value not in found:
            found[value] = f"SSH_CONNECTION of pid {pid}"
        pid = _parent(proc / str(pid) / "stat")
        if pid <= 0:
            break
    sessions = []
    for value, where in found.items():
        client, _, server, *_ = map(_unmapped, [*value.split(), "", "", ""])
        sessions.append(SshSession(client, server, _through(client, ifindexes, rtnl), where))
    return tuple(sessions)


def _environment(path: Path) -> str | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    for item in data.split(b"\0"):
        if item.startswith(b"SSH_CONNECTION="):
            return item.split(b"=", 1)[1].decode(errors="replace")
    return None


def _parent(path: Path) -> int:
    try:
        return int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _through(address: str, ifindexes: Collection[int], rtnl: Rtnl) -> bool | None:
    """Whether packets to that address leave by one of these; None when it cannot be looked up."""
    text, _, zone = address.partition("%")
    try:
        peer = ipaddress.ip_address(text)
        bound = socket.if_nametoindex(zone) if zone else 0
        if peer.version == 6 and peer.is_link_local and not bound:
            return None  # it may be behind any interface
        return not rtnl.leaves_by(peer.packed, bound=bound).isdisjoint(ifindexes)
    except (OSError, ValueError):
        return None


def _unmapped(address: str) -> str:
    """An IPv4-mapped IPv6 address as the IPv4 address that it is on the wire."""
    try:
        mapped = getattr(ipaddress.ip_address(address), "ipv4_mapped", None)
    except ValueError:
        return address
    return address if mapped is None else str(mapped)


def fabric(ifindexes: Collection[int], rtnl: Rtnl, sys: Path = Path("/sys")) -> FabricRoute:
    """How packets to Azure's wire server leave."""
    server = socket.inet_aton(_WIRE_SERVER)
    route = rtnl.way_to(server)
    try:
        tag = (sys / "class/dmi/id/chassis_asset_tag").read_text().strip()
    except FileNotFoundError:  # no DMI tables, so not Azure
        tag = ""
    return FabricRoute(
        through_port=not rtnl.leaves_by(server).isdisjoint(ifindexes),
        host_route=route is not None and rt.RtMsg.of(route).dst_len == 32,
        on_azure=tag == _AZURE_ASSET_TAG,
    )


def rdma_users(
    rdma: RdmaPort | None,
    nldev: Callable[[], AbstractContextManager[RdmaNetlink]] = Nldev,
    proc: Path = Path("/proc"),
) -> tuple[RdmaUser, ...]:
    """Users of the port's RDMA devices that are not raw QPs."""
    if rdma is None:
        return ()
    with nldev() as netlink:
        return _rdma_users(rdma, netlink, proc)


def _rdma_users(rdma: RdmaPort, nldev: RdmaNetlink, proc: Path) -> tuple[RdmaUser, ...]:
    index = {device.name: device.index for device in nldev.devices()}
    others = {other.rpartition("/")[0] for other in rdma.others}
    found = []
    for name in sorted({rdma.device, *others}):
        modules = {pd.module for pd in nldev.pds(index[name]) if pd.kernel and pd.users != 0}
        users = sorted(module for module in modules if module and module != _CORE)
        if users:  # NVMe or NFS over RDMA
            found.append(RdmaUser(name, f"{', '.join(users)} in the kernel"))
    for name in sorted(others):
        used = [pd for pd in nldev.pds(index[name]) if not pd.kernel and pd.users != 0]
        if used:
            what = f"{len(used)} protection domain{'s' * (len(used) > 1)} in use"
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
            what = f"{rest} RC or UD queue pair{'s' * (rest > 1)}"
            found.append(RdmaUser(rdma.device, what, _processes(used, proc)))
    return tuple(found)


def _processes(objects: Collection[Resource], proc: Path) -> tuple[Process, ...]:
    found = []
    for pid in sorted({item.pid for item in objects if item.pid}):
        try:
            comm = (proc / str(pid) / "comm").read_text(errors="replace").strip()
        except OSError:
            comm = "?"
        found.append(Process(pid, comm))
    return tuple(found)
