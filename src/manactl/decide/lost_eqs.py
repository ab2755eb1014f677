"""A kernel bug: a raw QP whose end crashes the kernel.

A change of MTU or rings makes a port's debugfs directory anew (mana_detach(), mana_attach()), and
the `EQs` in it of a raw QP is lost while the driver keeps its pointer: mana_destroy_eq() follows
that when the last raw QP of the vport is destroyed, by its program or by its program's death.

A bond does that to its members, too: __bond_release_one() gives them their first MTU back when the
bond is deleted or the member leaves the namespace, unasked whether that is another MTU at all.
port_notes.below_a_bond() says so beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable

from manactl.errors import Refused
from manactl.model.port import PortStatus


def is_its_own(port: PortStatus) -> bool:
    """Whether the raw QP of a port with `eqs_lost` can only be that port's."""
    return port.candidates in ((), (str(port.id),))


def danger(own: bool) -> str:
    """The danger in words."""
    whose = "this port's" if own else "a down port's"
    return (
        f"a raw QP lives, and {whose} MTU or rings were changed meanwhile, perhaps by its bond: "
        "the kernel crashes when that QP is destroyed (mana_destroy_eq() removes a debugfs "
        "directory that has gone). Do not end its program before you can afford a reboot"
    )


def refuse_release(ports: Iterable[PortStatus]) -> None:
    """Refused when waiting for a holder to end, or ending it, would be waiting for the crash."""
    for port in ports:
        if port.eqs_lost:
            raise Refused(
                f"{port.label} is not released, and nobody was signalled: {danger(is_its_own(port))}",
                hint="the journal stays open; after the reboot the boot configuration takes over",
                evidence=port.evidence,
                code="kernel-bug",
            )
