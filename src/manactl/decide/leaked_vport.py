"""A kernel bug: a vport that nobody has, and nobody can get.

A netdev whose open the NIC refuses half-way keeps, on some kernels, its count of the vport's users
(mana_cfg_vport() without mana_uncfg_vport()). From then on the driver answers everybody, the netdev
included, that the vport is taken.
"""

from __future__ import annotations

from typing import Protocol

from manactl.model.port import Holder, PortId

WHAT = (
    "the kernel says taken, yet nobody has it: an earlier open of the netdev that the NIC refused "
    "half-way has left the driver's use count behind, which is a bug of this kernel"
)


class Seen(Protocol):
    """What can be seen of a port without a proof."""

    def holders(self, port: PortId) -> tuple[Holder, ...]: ...
    def seems_free(self, port: PortId) -> bool: ...


def suspected(system: Seen, port: PortId) -> bool:
    """Whether a vport that a proof found taken, and taken again, is nobody's by all evidence."""
    return not system.holders(port) and system.seems_free(port)


def remedy(port: PortId) -> str:
    return (
        f"reload the driver when all ports of {port.pci} may go down: "
        "modprobe -r mana_ib mana && modprobe mana_ib"
    )
