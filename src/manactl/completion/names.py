"""Ports for completion: as few files as possible, none of which waits for a lock of the driver."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

DRIVER = "bus/pci/drivers/mana"


class Port(NamedTuple):
    """One port by all the names that sysfs has for it. Facts that are None could not be read."""

    pci: str
    number: int  # from 1, as in PCI:port
    netdev: str | None = None  # None: in another network namespace
    ifindex: int | None = None
    up: bool | None = None
    mac: str | None = None  # the permanent one
    master: str | None = None
    master_ifindex: int | None = None
    rdma: tuple[str, ...] = ()  # rdma-device/port
    raw_qp: bool | None = None  # True: the vport is in use, and not by the netdev

    @property
    def id(self) -> str:
        return f"{self.pci}:{self.number}"


def ports(sys: str = "/sys") -> list[Port]:
    """Every port of every function that the mana driver has, in order."""
    return [port for pci in _functions(sys) for port in _ports(sys, pci)]


def _ports(sys: str, pci: str) -> list[Port]:
    base = f"{sys}/{DRIVER}/{pci}"
    found = {port.number: port for port in _netdevs(f"{base}/net", pci)}
    for device in sorted(_listdir(f"{base}/infiniband")):
        for entry in _listdir(f"{base}/infiniband/{device}/ports"):
            if entry.isdecimal():
                port = found.get(int(entry)) or Port(pci, int(entry))
                found[port.number] = port._replace(rdma=(*port.rdma, f"{device}/{entry}"))
    if not all(port.up for port in found.values()):
        held = _held(sys, pci)
        for number, port in found.items():
            if not port.up:
                found[number] = port._replace(raw_qp=held.get(number))
    return [found[number] for number in sorted(found)]


def _netdevs(base: str, pci: str) -> Iterator[Port]:
    for name in _listdir(base):
        dev_port = _number(f"{base}/{name}/dev_port")
        if dev_port is None:
            continue
        flags = _number(f"{base}/{name}/flags")
        master = _link_name(f"{base}/{name}/master")
        permanent = _number(f"{base}/{name}/addr_assign_type") == 0  # NET_ADDR_PERM
        yield Port(
            pci,
            dev_port + 1,
            netdev=name,
            ifindex=_number(f"{base}/{name}/ifindex"),
            up=None if flags is None else bool(flags & 1),
            mac=_read(f"{base}/{name}/address") or None if permanent else None,
            master=master,
            master_ifindex=_number(f"{base}/{name}/master/ifindex") if master else None,
        )


def _held(sys: str, pci: str) -> dict[int, bool]:
    """Ports whose vport has event queues but none of the netdev's, where debugfs tells (root)."""
    from manactl.look import debugfs  # noqa: PLC0415 - only for a port that is down

    try:
        vports = debugfs.vports(sys, [pci])
    except OSError:
        return {}
    return {n + 1: one.eqs and not one.rx for n, one in vports.items() if one.eqs is not None}


def _functions(sys: str) -> list[str]:
    return sorted(name for name in _listdir(f"{sys}/{DRIVER}") if ":" in name)


def _listdir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "surrogateescape").strip()
    except OSError:
        return ""


def _number(path: str) -> int | None:
    try:
        return int(_read(path), 0)
    except ValueError:
        return None


def _link_name(path: str) -> str | None:
    try:
        return os.readlink(path).rpartition("/")[2]
    except OSError:
        return None
