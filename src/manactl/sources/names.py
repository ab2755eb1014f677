"""Words that name ports, for completion: as few files as possible, and nothing imported for it."""

from __future__ import annotations

import os
from collections.abc import Iterator

DRIVER = "bus/pci/drivers/mana"


def words(start: str, sys: str = "/sys") -> list[str]:
    """What can follow `start`: netdevs and their masters first, other names when it fits those."""
    for names in (_netdevs(sys), _others(sys)):
        # A name may hold control characters, which are nothing to hand to a shell.
        found = {name for name in names if name.startswith(start) and name.isprintable()}
        if found:
            return sorted(found)
    return []


def _netdevs(sys: str) -> Iterator[str]:
    for pci in _functions(sys):
        base = f"{sys}/{DRIVER}/{pci}/net"
        for name in _listdir(base):
            yield name
            try:
                yield os.readlink(f"{base}/{name}/master").rpartition("/")[2]
            except OSError:
                continue


def _others(sys: str) -> Iterator[str]:
    """PCI:port and rdma-device/port."""
    for pci in _functions(sys):
        base = f"{sys}/{DRIVER}/{pci}/infiniband"
        for device in _listdir(base):
            for port in _listdir(f"{base}/{device}/ports"):
                yield f"{pci}:{port}"
                yield f"{device}/{port}"


def _functions(sys: str) -> list[str]:
    return [name for name in _listdir(f"{sys}/{DRIVER}") if ":" in name]


def _listdir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
