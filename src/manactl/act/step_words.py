"""Steps in words: what each does, what undoing it does, and what to do where it fails.

A title is shown while the step is done; what describes a step stands in plans.
"""

from __future__ import annotations

from collections.abc import Sequence

from manactl.look.vmbus import NETVSC, UIO

IN_RESET = (
    "the driver is resetting the device, or is being unbound from it: wait until `manactl status` "
    "shows the port as before, then `manactl recover`"
)
OTHER_PROGRAM = "find the network manager or script that does it, and stop it first"
TAKEN_BACK = "the host has taken it back, or offers it again soon: then `manactl recover`"
SEE_KERNEL_LOG = "the kernel log may say why (hv_netvsc, uio_hv_generic)"
NOT_WRITABLE = "the files are below /etc: is it writable?"
FILE_THERE = "move the file away, or claim without --persist"


def up_or_down(up: bool) -> str:
    return "up" if up else "down"


def set_admin(name: str, up: bool) -> str:
    return f"set {name} {up_or_down(up)}"


def set_admin_described(name: str, up: bool, was: bool) -> str:
    return f"{set_admin(name, up)} (release sets it {up_or_down(was)})"


def set_synthetic_described(name: str, vmbus: str) -> str:
    return (
        f"{set_admin(name, False)}, the synthetic netdev of VMBus device {vmbus} "
        "(release sets it up)"
    )


def keep_state(name: str) -> str:
    return f"save {name}'s addresses and routes"


def keep_state_described(name: str, tally: str) -> str:
    return f"{keep_state(name)} to the journal ({tally})"


def restore(*names: str) -> str:
    return f"restore and verify {', '.join(names)}"


def prove_free(device: str, port: int) -> str:
    return f"prove that the vport of {device} port {port} is free"


def prove_free_described(device: str, port: int) -> str:
    return (
        f"prove that the vport is free: create a raw QP on {device} port {port} and destroy it at "
        "once"
    )


def bind_uio(name: str) -> str:
    return f"give {name}'s VMBus device to {UIO}"


def bind_uio_undone(name: str) -> str:
    return f"give {name}'s VMBus device back to {NETVSC}"


def bind_uio_described(name: str, vmbus: str) -> str:
    return (
        f"{bind_uio(name)} ({vmbus}): {name} is destroyed with all that is stacked on it (release "
        f"gives the device back to {NETVSC} and makes all of it again)"
    )


def no_synthetic(vmbus: str) -> str:
    """What may have become of a synthetic netdev, and the command that tells."""
    return (
        "the host may have taken its device away, its driver may be unbound, or it is in another "
        f"network namespace; `ls /sys/bus/vmbus/devices/{vmbus}` finds nothing in the first case, and "
        "no driver in the second"
    )


def unmanage(manager: str, names: str) -> str:
    return f"have {manager} leave {names} alone"


def unmanage_undone(manager: str, names: str) -> str:
    return f"give {names} back to {manager}"


def unmanage_described(manager: str, names: str, within: float) -> str:
    return (
        f"{unmanage(manager, names)}, by files in /run (release gives {names} back, and waits "
        f"until it is configured, up to {within:.0f} s)"
    )


def leave_down(manager: str, names: str) -> str:
    return f"{unmanage(manager, names)} at every boot"


def leave_down_undone(manager: str, names: str) -> str:
    return f"let {manager} configure {names} at boot again"


def leave_down_described(manager: str, names: str, files: Sequence[str]) -> str:
    it = "it" if len(files) == 1 else "them"
    return f"{leave_down(manager, names)}, by {', '.join(files)} (release removes {it})"


def take_again(down: str, up: str) -> str:
    """How to have hv_netvsc take its VF again, by two commands."""
    return f"let it take the VF again: {down}; {up}"


def not_attempted(undo_title: str) -> str:
    return f"not attempted: {undo_title}"
