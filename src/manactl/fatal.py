"""A kernel bug: a raw QP whose end crashes the kernel.

A change of MTU or rings makes a port's debugfs directory anew (mana_detach(), mana_attach()), and
the `EQs` in it of a raw QP is lost while the driver keeps its pointer: mana_destroy_eq() follows
that when the last raw QP of the vport is destroyed, by its program or by its program's death.

A bond does that to its members, too: __bond_release_one() gives them their first MTU back when the
bond is deleted or the member leaves the namespace, unasked whether that is another MTU at all.
"""

from __future__ import annotations

from collections.abc import Iterable

from manactl.errors import Refused
from manactl.model import PortStatus


def what(port: PortStatus) -> str:
    """The danger in words, for a port with `eqs_lost`."""
    whose = "this port's" if port.candidates in ((), (str(port.id),)) else "a down port's"
    return (
        f"a raw QP lives, and {whose} MTU or rings were changed meanwhile, or its bond deleted: the kernel crashes when "
        "that QP is destroyed (mana_destroy_eq() removes a debugfs directory that has gone). "
        "Do not end its program before you can afford a reboot"
    )


def below_a_bond(port: PortStatus) -> str | None:
    """What to leave alone while a raw QP has a bond's member; None where it does no harm.

    Only drivers with event queues for each vport have something to lose.
    """
    eqs = any((one.source, one.fact) == ("debugfs", "EQs") for one in port.evidence)
    if not eqs or port.upper is None or port.upper.kind != "bond":
        return None
    return (
        f"while a raw QP has {port.label}, do not delete {port.upper.netdev} or change its MTU, nor "
        f"move {port.label} to another network namespace: each sets the MTU of {port.label}, and "
        "the kernel crashes when that QP is destroyed"
    )


def refuse_release(ports: Iterable[PortStatus]) -> None:
    """Refused when waiting for a holder to end, or ending it, would be waiting for the crash."""
    for port in ports:
        if port.eqs_lost:
            raise Refused(
                f"{port.label} is not released, and nobody was signalled: {what(port)}",
                hint="the journal stays open; after the reboot the boot configuration takes over",
                evidence=port.evidence,
                code="kernel-bug",
            )
