"""The kernel bugs that manactl knows: how each is recognised, its message, and its remedy.

Lost event queues (event queues for each vport, seen on Linux 7.3.4): a change of MTU or rings makes
a port's debugfs directory again (mana_detach(), mana_attach()). The `EQs` in it of a raw QP is
lost, while the driver keeps its pointer: mana_destroy_eq() follows that when the last raw QP of the
vport is destroyed, by its program or by its program's death. A bond does that to its members, too:
__bond_release_one() gives them their first MTU back when the bond is deleted or the member leaves
the namespace, unasked whether that is another MTU at all.

A leaked vport (seen on Linux 6.12 and 6.18): a netdev whose open the NIC refuses half-way keeps its
count of the vport's users (mana_cfg_vport() without mana_uncfg_vport()). From then on the driver
reports the vport as taken, to the netdev too.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import TYPE_CHECKING

from manactl.errors import Refused

if TYPE_CHECKING:
    from typing import Protocol

    from manactl.model.port import Holder, PortId, PortStatus

    class Seen(Protocol):
        """What can be seen of a port without creating a test QP."""

        def holders(self, port: PortId) -> tuple[Holder, ...]: ...
        def seems_free(self, port: PortId) -> bool: ...


CODE = "kernel-bug"
LEAKED_VPORT = (
    "KERNEL BUG: the driver counts the vport as taken, although it has no owner: an earlier open "
    "of the netdev, which the NIC refused half-way, did not release the driver's use count"
)
_LOST_EQS = (
    "KERNEL BUG: {whose} MTU or rings changed while a raw QP exists. The kernel will crash when "
    "that QP is destroyed. Do not stop the program until you can reboot"
)


# What `doctor` reports of a bug that has not been triggered yet: code, what, why.
MTU_ADVICE = (
    "kernel-bug-mtu",
    "never change the MTU or the rings of a port that a raw QP has, nor delete its bond",
    "drivers with event queues for each vport (seen on Linux 7.3.4) accept the change, and the "
    "kernel crashes when that raw QP is destroyed",
)
OPEN_ADVICE = (
    "kernel-bug-open",
    "an `ip link set up` that the NIC refuses half-way leaves the vport taken",
    "seen on Linux 6.12 and 6.18: the driver does not release its use count, and the port "
    "answers EBUSY or ENODEV although it has no owner, until mana is loaded again",
)


NETNS_ADVICE = (
    "kernel-bug-netns",
    "do not bind mana again while the netvsc interface of a pair is in another network namespace",
    "seen on Linux 7.2 and 7.3: a VF that appears then, after host servicing too, is to follow "
    "its interface, and the kernel hangs with its network lock held until it is rebooted",
)


def eqs_lost(*, raw_qp: bool, eqs: bool | None) -> bool:
    """Whether a vport that may be the raw QP's has lost its event queues in debugfs.

    `raw_qp`: one exists for certain, and nothing shows that it is another port's.
    """
    return raw_qp and eqs is False


def is_own(port: PortStatus) -> bool:
    """Whether it is this very port, of those with `eqs_lost`, whose event queues are lost."""
    return port.candidates in ((), (str(port.id),))


def lost_eqs(own: bool) -> str:
    """The danger in words, for a port with `eqs_lost`."""
    return _LOST_EQS.format(whose="this port's" if own else "a down port's")


def refuse_release(ports: Iterable[PortStatus]) -> None:
    """Refused when the end of a holder, waited for or caused, would crash the kernel."""
    for port in ports:
        if port.eqs_lost:
            raise Refused(
                f"{port.label} is not released, and nobody was signalled: {lost_eqs(is_own(port))}",
                hint="the journal stays open; after the reboot the boot configuration takes over",
                evidence=port.evidence,
                code=CODE,
            )


def endangered_by_bond(port: PortStatus) -> str | None:
    """The bond to leave alone while a raw QP has its member; None where it does no harm.

    Only drivers with event queues for each vport have the bug; where debugfs cannot be read, the
    driver's generation is not known, and nothing is reported.
    """
    if port.vport_eqs is None or port.upper is None or port.upper.kind != "bond":
        return None
    return port.upper.netdev


def bond_danger(label: str, bond: str) -> str:
    """What would make a raw QP on the bond's member lose its event queues."""
    return (
        f"while a raw QP has {label}, do not delete {bond} or change its MTU, nor move {label} to "
        f"another network namespace: each sets the MTU of {label}, and the kernel crashes when "
        "that QP is destroyed"
    )


def vport_leaked(system: Seen, port: PortId) -> bool:
    """Whether a vport that two proofs found taken has no owner by all evidence."""
    return not system.holders(port) and system.seems_free(port)


def reload_driver(port: PortId) -> str:
    """What frees a leaked vport; where NETNS_ADVICE holds it would hang the host."""
    return (
        f"reload the driver when all ports of {port.pci} may go down, and no netvsc interface is in "
        "another network namespace: modprobe -r mana_ib mana && modprobe mana_ib"
    )


def opening_remedy(number: int | None, port: PortId) -> str | None:
    """What to do when the kernel does not set the netdev up, by the errno of RTM_NEWLINK."""
    if number in (errno.EBUSY, errno.ENODEV):
        return (
            "a raw QP has the vport: `manactl status -v` shows its holder. If there is none, the "
            f"driver's use count is wrong (seen up to 6.18): {reload_driver(port)}"
        )
    if number in (errno.ETIMEDOUT, errno.EPROTO, errno.EIO):
        return (
            "the device does not answer its driver. From Linux 7 on the driver then resets it, "
            'usually within a minute (kernel log: "MANA reset cycle completed"); else '
            f"{reload_driver(port)}"
        )
    return None
