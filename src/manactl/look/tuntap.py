"""TUN and TAP devices whose programs send what goes into them through sockets of their own: VPNs
outside of the kernel (OpenVPN, OpenConnect, Tailscale, WireGuard in user space).

Which program has a device is in /proc/*/fdinfo, where its packets go in its connected sockets. One
with a UDP socket that is not connected may send to anybody; so may one that is in another network
namespace, whose sockets are not seen from here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from manactl.look import sockets, source_words
from manactl.look.text_files import passing_over, read, rows
from manactl.model.named_tuple import NamedTuple
from manactl.netstate.surroundings import Process
from manactl.wire.attrs import as_int
from manactl.wire.if_link import IfLink
from manactl.wire.inet_diag import TcpSocket
from manactl.wire.tunnels import TUN, Outer, Tunnel

_NODE = "/dev/net/tun"
_IFLA_TUN_TYPE, _IFLA_TUN_VNET_HDR = 3, 5  # include/uapi/linux/if_link.h
_IFF_TAP = 2  # include/uapi/linux/if_tun.h

Ask = Callable[[bytes], Iterable[TcpSocket]]


class Sources(NamedTuple):
    """Who lists the sockets of this network namespace."""

    tcp: Ask = sockets.tcp
    udp: Ask = sockets.udp
    unconnected: Ask = sockets.unconnected


class _Program:
    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.inodes: set[int] = set()  # of its sockets
        self.elsewhere = False  # in another network namespace, or in one that is not known

    def __str__(self) -> str:
        return ", ".join(map(str, self.processes)) or source_words.UNSEEN_PROGRAM


LIVE = Sources()


def tunnels(
    links: Iterable[IfLink], proc: Path = Path("/proc"), sources: Sources = LIVE
) -> list[Tunnel]:
    """The devices that are tunnels of programs. One that nobody has open has no carrier, and sends
    nothing."""
    devices = {link.name: link.ifindex for link in links if _may_be_vpn(link)}
    if not devices:
        return []
    programs = _programs(devices, proc)
    inodes = {inode for one in programs.values() for inode in one.inodes}
    connected = [
        sock
        for ask in (sources.tcp, sources.udp)
        for sock in (ask(b"") if inodes else ())
        if sock.inode in inodes and not sockets.is_loopback(sock.peer)
    ]
    open_to_all = {
        sock.inode
        for sock in (sources.unconnected(b"") if inodes else ())
        if not sockets.is_loopback(sock.local)
    }
    found = []
    for name, index in devices.items():
        program = programs.get(name, _Program())
        outers = tuple(
            Outer(sock.peer, sock.local, sock.mark, sock.bound)
            for sock in connected
            if sock.inode in program.inodes
        )
        anywhere = (
            not program.processes or program.elsewhere or not program.inodes.isdisjoint(open_to_all)
        )
        if outers or anywhere:
            found.append(
                Tunnel(
                    index,
                    name,
                    TUN,
                    outers=outers,
                    metadata=anywhere,
                    by=str(program),
                    unseen=not program.processes,
                )
            )
    return found


def _may_be_vpn(link: IfLink) -> bool:
    """Not one of a virtual machine: those have a master, or are TAPs with offloads."""
    if link.kind != TUN or not link.carrier or link.master is not None:
        return False
    data = link.data
    tap = as_int(data.get(_IFLA_TUN_TYPE, b"")) == _IFF_TAP
    return not (tap and as_int(data.get(_IFLA_TUN_VNET_HDR, b"")))


def _programs(devices: Collection[str], proc: Path) -> Mapping[str, _Program]:
    """By device, who has it open, with all sockets of these processes."""
    found: dict[str, _Program] = {}
    mine = _target(proc / "self/ns/net")
    for entry in proc.iterdir():
        if not entry.name.isdecimal():
            continue
        with passing_over():
            targets = {fd.name: _target(fd) for fd in (entry / "fd").iterdir()}
            open_ = [fd for fd, target in targets.items() if target == _NODE]
            names = {_device_of(entry / "fdinfo" / fd) for fd in open_} & set(devices)
            if not names:
                continue
            comm = read(entry / "comm")
            inodes = {
                int(target[8:-1]) for target in targets.values() if target.startswith("socket:[")
            }
            for name in names:
                program = found.setdefault(name or "", _Program())
                program.processes.append(Process(int(entry.name), comm))
                program.inodes |= inodes
                program.elsewhere |= _target(entry / "ns/net") != mine
    return found


def _target(fd: Path) -> str:
    with passing_over():
        return os.readlink(fd)
    return ""


def _device_of(fdinfo: Path) -> str | None:
    """The device that a descriptor is attached to (tun_chr_show_fdinfo())."""
    for line in rows(read(fdinfo)):
        if line.startswith("iff:"):
            return line.partition(":")[2].strip(" \t")
    return None
