"""Gathers what is around a port for the guards. What cannot be read becomes None, never empty."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from manactl.model import PortStatus, RdmaPort
from manactl.nl import rtmsg as rt
from manactl.nl.nldev import Nldev, RdmaNetlink, Resource
from manactl.snapshot import PortState, addresses
from manactl.sources import sockets
from manactl.sources.rtnl import Rtnl, out_interface
from manactl.surroundings import (
    NOTHING_READ,
    Connection,
    FabricRoute,
    Manager,
    Process,
    RdmaUser,
    SshSession,
    Surroundings,
)

_WIRE_SERVER = "168.63.129.16"
_AZURE_ASSET_TAG = "7783-7084-3265-9085-8269-3286-77"  # of every Azure VM, in its DMI tables
_IFF_LOOPBACK = 0x8
_ANCESTORS = 64  # more parents than any session has

T = TypeVar("T")


def gather(
    port: PortStatus, state: PortState | None, claimed: Collection[int], rtnl: Rtnl
) -> Surroundings:
    """Read everything once. `claimed` are the ifindexes of all ports of this claim."""
    if state is None or port.netdev is None:
        return NOTHING_READ
    ifindex = state.ifindex
    return Surroundings(
        state=state,
        uppers=_try(lambda: uppers(state.ifname)),
        xdp=_try(lambda: rtnl.link(ifindex).xdp_mode != 0),
        connections=_try(lambda: connections(state)),
        packet_sockets=_try(lambda: sockets.packet_sockets_with_processes(ifindex)),
        ssh=_try(lambda: ssh_sessions(ifindex, rtnl)),
        others=_try(lambda: others({*claimed, ifindex}, rtnl)),
        managers=_try(lambda: managers(ifindex)),
        rdma_users=_try(lambda: rdma_users(port.rdma)),
        fabric=_try(lambda: fabric(ifindex, rtnl)),
    )


def _try(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except (OSError, ValueError, IndexError, KeyError):
        return None


def uppers(ifname: str, sys: Path = Path("/sys")) -> tuple[str, ...]:
    """Devices stacked on it in this namespace (netdev_adjacent_sysfs_add() makes the links)."""
    names = sorted(os.listdir(sys / "class/net" / ifname))
    return tuple(name.removeprefix("upper_") for name in names if name.startswith("upper_"))


def connections(state: PortState) -> tuple[Connection, ...]:
    """The live TCP connections that have one of the port's addresses, with their processes."""
    own = set(addresses(state.facts))
    return sockets.with_processes(c for c in sockets.tcp_connections() if c.local in own)


def others(claimed: Collection[int], rtnl: Rtnl) -> tuple[str, ...]:
    """Netdevs beside the claimed ones that are up, with carrier and a global address."""
    having = set()
    for body in rtnl.addresses():
        _, _, _, scope, index = rt.IFADDR.unpack_from(body)
        if scope == 0 and index not in claimed:
            having.add(index)
    links = [rtnl.link(index) for index in sorted(having)]
    good = [one for one in links if one.up and one.carrier and not one.flags & _IFF_LOOPBACK]
    return tuple(link.name for link in good)


def ssh_sessions(ifindex: int, rtnl: Rtnl, proc: Path = Path("/proc")) -> tuple[SshSession, ...]:
    """SSH_CONNECTION of this process and of its ancestors, since sudo clears the environment.

    An ancestor whose environment may not be read says nothing: this can only add refusals.
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
        client, _, server, *_ = [*value.split(), "", "", ""]
        sessions.append(SshSession(client, server, _through(client, ifindex, rtnl), where))
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


def _through(address: str, ifindex: int, rtnl: Rtnl) -> bool | None:
    """Whether packets to that address leave by the port; None when it is no address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        raw = socket.inet_pton(family, address.partition("%")[0])
        route = rtnl.way_to(raw)
    except OSError:
        return None
    return route is not None and ifindex in out_interface(route)


def fabric(ifindex: int, rtnl: Rtnl, sys: Path = Path("/sys")) -> FabricRoute:
    """How packets to Azure's wire server leave."""
    route = rtnl.way_to(socket.inet_aton(_WIRE_SERVER))
    try:
        tag = (sys / "class/dmi/id/chassis_asset_tag").read_text().strip()
    except OSError:
        tag = ""
    return FabricRoute(
        through_port=route is not None and ifindex in out_interface(route),
        host_route=route is not None and rt.RTMSG.unpack_from(route)[1] == 32,
        on_azure=tag == _AZURE_ASSET_TAG,
    )


def managers(
    ifindex: int, run: Path = Path("/run"), proc: Path = Path("/proc")
) -> tuple[Manager, ...]:
    """NetworkManager and systemd-networkd, where they run, and whether they manage the port.

    Each writes what it thinks of a link to a file by ifindex; one that has written nothing yet
    leaves the question open, which is not a no.
    """
    running: dict[str, Process] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                comm = (entry / "comm").read_text(errors="replace").strip()
            except OSError:
                continue
            if comm in ("NetworkManager", "systemd-network"):
                running[comm] = Process(int(entry.name), comm)
    found = []
    if process := running.get("NetworkManager"):
        path = run / f"NetworkManager/devices/{ifindex}"
        said = _setting(path, "managed")
        managed = None if said is None else said not in ("false", "0")
        found.append(Manager("NetworkManager", process, managed, str(path)))
    if process := running.get("systemd-network"):
        path = run / f"systemd/netif/links/{ifindex}"
        said = _setting(path, "ADMIN_STATE")
        managed = None if said is None else said != "unmanaged"
        found.append(Manager("systemd-networkd", process, managed, str(path)))
    return tuple(found)


def _setting(path: Path, key: str) -> str | None:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        name, equals, value = line.partition("=")
        if equals and name.strip() == key:
            return value.strip()
    return None


def rdma_users(rdma: RdmaPort | None) -> tuple[RdmaUser, ...]:
    """Users of the port's RDMA devices that are not raw QPs."""
    if rdma is None:
        return ()
    with Nldev() as nldev:
        return _rdma_users(rdma, nldev)


def _rdma_users(rdma: RdmaPort, nldev: RdmaNetlink) -> tuple[RdmaUser, ...]:
    index = {device.name: device.index for device in nldev.devices()}
    found = []
    for other in sorted({one.rpartition("/")[0] for one in rdma.others}):
        used = [pd for pd in nldev.pds(index[other]) if not pd.kernel and pd.users != 0]
        if used:
            what = f"{len(used)} protection domain{'s' * (len(used) > 1)} in use"
            found.append(RdmaUser(other, what, _processes(used)))
    if not rdma.others:
        # One device for everything (6.12): of its queue pairs the kernel's own hang on the
        # kernel's protection domains, at most one raw one is tracked, and the rest are RC.
        at = index[rdma.device]
        pds = nldev.pds(at)
        kernel = sum(pd.users or 0 for pd in pds if pd.kernel)
        rest = nldev.summary(at).get("qp", 0) - kernel - nldev.raw_qp_tracked(at)
        if rest > 0:
            used = [pd for pd in pds if not pd.kernel and pd.users != 0]
            what = f"{rest} RC or UD queue pair{'s' * (rest > 1)}"
            found.append(RdmaUser(rdma.device, what, _processes(used)))
    return tuple(found)


def _processes(objects: Collection[Resource]) -> tuple[Process, ...]:
    found = []
    for pid in sorted({one.pid for one in objects if one.pid}):
        try:
            comm = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        except OSError:
            comm = "?"
        found.append(Process(pid, comm))
    return tuple(found)
