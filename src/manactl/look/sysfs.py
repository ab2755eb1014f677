"""MANA functions and their ports as sysfs shows them, through files that take no lock.

`carrier`, `speed` and `duplex` are not read: they wait for RTNL, which a driver that hangs may
hold for half a minute.
"""

import os
from collections.abc import Iterator

from manactl.look.text_files import (
    GONE,
    integer,
    lines,
    names,
    number,
    passing_over,
    target_name,
    text,
)
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import Netdev

VENDOR_MICROSOFT = "0x1414"
DEVICES_MANA = ("0x00ba", "0x00b9", "0x00c1")  # VF, PF, and a later VF

NET_ADDR_PERM = 0  # include/uapi/linux/netdevice.h


class Roots(NamedTuple):
    """Where the kernel's file systems are mounted."""

    sys: str = "/sys"
    proc: str = "/proc"


class PortNetdev(NamedTuple):
    """A netdev and which vport of its function it is."""

    netdev: Netdev
    dev_port: int


class RdmaNode(NamedTuple):
    """An RDMA device of a function: its ports and the character devices that open it."""

    name: str
    node_guid: int | None
    ports: tuple[int, ...]
    uverbs: tuple[int, ...]  # st_rdev of each


class UverbsNode(NamedTuple):
    """A character device, the RDMA device that it opens, and its st_rdev."""

    name: str
    ibdev: str
    rdev: int


class Function(NamedTuple):
    """One PCI function bound to the mana driver."""

    pci: str
    netdevs: tuple[PortNetdev, ...]
    rdma: tuple[RdmaNode, ...]
    rdma_driver: bool  # a driver serves the function's RDMA side, visible from here or not
    auxiliary: bool  # the driver has made the devices that mana_ib binds to
    apart: bool = False  # raw queue pairs have an RDMA device of their own, that of mana.eth.N
    elsewhere: tuple[RdmaNode, ...] = ()  # RDMA devices that are not in this network namespace


def functions(roots: Roots) -> list[str]:
    """PCI addresses of the functions that the mana driver has; none where that is not shown."""
    with passing_over():
        return listed_functions(roots)
    return []


def listed_functions(roots: Roots) -> list[str]:
    """PCI addresses of the functions that the mana driver has. OSError where that is not shown."""
    try:
        entries = os.listdir(f"{roots.sys}/bus/pci/drivers/mana")
    except GONE:
        return []
    return sorted(name for name in entries if ":" in name)


def unbound(roots: Roots) -> list[tuple[str, str | None]]:
    """MANA functions that the mana driver does not have: (PCI address, the driver that has)."""
    found = []
    base = f"{roots.sys}/bus/pci/devices"
    for pci in sorted(names(base)):
        if text(f"{base}/{pci}/vendor") != VENDOR_MICROSOFT:
            continue
        driver = target_name(f"{base}/{pci}/driver")
        if driver != "mana" and text(f"{base}/{pci}/device") in DEVICES_MANA:
            found.append((pci, driver))
    return found


def function(roots: Roots, pci: str) -> Function:
    """One function as it is now; what vanishes while it is read is left out."""
    base = f"{roots.sys}/bus/pci/devices/{pci}"
    devices = rdma_nodes(roots, pci)
    # Auxiliary devices mana.eth.N and mana.rdma.N, whether a driver has them or not.
    auxiliary = [child for child in names(base) if child.startswith("mana.")]
    # Unlike RDMA devices, what opens them is shown in every network namespace.
    here = {node.name for node in devices}
    away = {node.ibdev: node for node in uverbs_nodes(roots, pci) if node.ibdev not in here}
    return Function(
        pci=pci,
        netdevs=tuple(netdevs(roots, pci)),
        rdma=devices,
        rdma_driver=bool(devices or away)
        or any(os.path.lexists(f"{base}/{child}/driver") for child in auxiliary),
        auxiliary=bool(auxiliary),
        apart=any(child.startswith("mana.eth.") for child in auxiliary),
        elsewhere=tuple(RdmaNode(name, None, (), (away[name].rdev,)) for name in sorted(away)),
    )


def rdma_nodes(roots: Roots, pci: str) -> tuple[RdmaNode, ...]:
    """The function's RDMA devices in this network namespace, by name."""
    base = f"{roots.sys}/bus/pci/devices/{pci}"
    uverbs: dict[str, list[int]] = {}
    for node in uverbs_nodes(roots, pci):
        uverbs.setdefault(node.ibdev, []).append(node.rdev)
    devices = sorted(names(f"{base}/infiniband"))
    return tuple(_rdma_node(base, name, uverbs) for name in devices)


def uverbs_nodes(roots: Roots, pci: str) -> Iterator[UverbsNode]:
    """The character devices of the function's RDMA devices."""
    verbs = f"{roots.sys}/bus/pci/devices/{pci}/infiniband_verbs"
    for name in sorted(names(verbs)):
        ibdev, dev = text(f"{verbs}/{name}/ibdev"), text(f"{verbs}/{name}/dev")
        if ibdev and dev:
            major, _, minor = dev.partition(":")
            if (rdev := device(major, minor)) is not None:
                yield UverbsNode(name, ibdev, rdev)


def device(major: str, minor: str) -> int | None:
    """st_rdev of two numbers; None where they are none, or too large for one."""
    numbers = integer(major), integer(minor)
    if None in numbers:
        return None
    try:
        return os.makedev(*numbers)  # type: ignore[arg-type]
    except (OverflowError, ValueError):
        return None


def master_of(netdev: str, roots: Roots) -> str | None:
    """The name of a netdev's master."""
    return target_name(f"{roots.sys}/class/net/{netdev}/master")


def upper_kind(roots: Roots, netdev: str) -> tuple[str | None, str | None]:
    """(kind, VMBus UUID) of a port's master, as far as sysfs shows it."""
    base = f"{roots.sys}/class/net/{netdev}"
    if target_name(f"{base}/device/driver") == "hv_netvsc":
        return "netvsc", target_name(f"{base}/device")
    for line in lines(f"{base}/uevent"):
        if line.startswith("DEVTYPE="):
            return line.partition("=")[2], None
    return None, None


def slot_names(roots: Roots, pci: str) -> list[str]:
    """Names of the physical slot that the function sits in."""
    base = f"{roots.sys}/bus/pci/slots"
    address = pci.rpartition(".")[0]
    return [slot for slot in names(base) if text(f"{base}/{slot}/address") == address]


def netdevs(roots: Roots, pci: str) -> Iterator[PortNetdev]:
    """The function's netdevs in the network namespace that this sysfs was mounted in."""
    net = f"{roots.sys}/bus/pci/devices/{pci}/net"
    for name in sorted(names(net)):
        base = f"{net}/{name}"
        dev_port, ifindex = number(f"{base}/dev_port"), number(f"{base}/ifindex")
        if dev_port is None or ifindex is None:
            continue
        mac = text(f"{base}/address") or None
        permanent = number(f"{base}/addr_assign_type") == NET_ADDR_PERM
        flags, operstate = number(f"{base}/flags"), text(f"{base}/operstate")
        netdev = Netdev(
            name=name,
            ifindex=ifindex,
            flags=flags,
            operstate=operstate,
            carrier=_carrier(flags, operstate),
            mac=mac,
            permanent_mac=mac if permanent else None,
            master=target_name(f"{base}/master"),
        )
        yield PortNetdev(netdev, dev_port)


def _carrier(flags: int | None, operstate: str | None) -> bool | None:
    """What operstate (RFC 2863, as the kernel keeps it) says of the carrier of an open netdev."""
    if flags is None or not flags & 1:
        return None
    return {"up": True, "dormant": True, "down": False, "lowerlayerdown": False}.get(
        operstate or ""
    )


def _rdma_node(base: str, name: str, uverbs: dict[str, list[int]]) -> RdmaNode:
    guid = (text(f"{base}/infiniband/{name}/node_guid") or "").replace(":", "")
    ports = names(f"{base}/infiniband/{name}/ports")
    return RdmaNode(
        name=name,
        node_guid=integer(guid, 16),
        ports=tuple(sorted(int(port) for port in ports if port.isdecimal())),
        uverbs=tuple(uverbs.get(name, ())),
    )
