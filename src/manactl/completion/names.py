"""Ports for completion, by look/sysfs.py: none of its files waits for a lock of the driver.

Completion had a reader of its own, of half the files; it saved a twentieth of a completion's time.
"""

from manactl.look import sysfs
from manactl.look.sysfs import Roots
from manactl.look.text_files import number
from manactl.model.named_tuple import NamedTuple


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
    roots = Roots(sys)
    return [port for pci in sysfs.functions(roots) for port in _ports(roots, pci)]


def _ports(roots: Roots, pci: str) -> list[Port]:
    function = sysfs.function(roots, pci)
    found = {}
    for netdev, dev_port in function.netdevs:
        master = f"{roots.sys}/class/net/{netdev.master}"
        found[dev_port + 1] = Port(
            pci,
            dev_port + 1,
            netdev=netdev.name,
            ifindex=netdev.ifindex,
            up=netdev.admin_up,
            mac=netdev.permanent_mac,
            master=netdev.master,
            master_ifindex=number(f"{master}/ifindex") if netdev.master else None,
        )
    for device in function.rdma:
        for which in device.ports:
            port = found.get(which) or Port(pci, which)
            found[which] = port._replace(rdma=(*port.rdma, f"{device.name}/{which}"))
    if not all(port.up for port in found.values()):
        held = _held(roots.sys, pci)
        for which, port in found.items():
            if not port.up:
                found[which] = port._replace(raw_qp=held.get(which))
    return [found[which] for which in sorted(found)]


def _held(sys: str, pci: str) -> dict[int, bool]:
    """Ports whose vport has event queues but none of the netdev's, where debugfs shows it (root)."""
    from manactl.look import debugfs  # noqa: PLC0415 - only for a port that is down

    try:
        vports = debugfs.vports(sys, [pci])
    except OSError:
        return {}
    return {
        n + 1: vport.eqs and not vport.rx for n, vport in vports.items() if vport.eqs is not None
    }
