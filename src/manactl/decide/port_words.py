"""What the reasons and notes about a port read as. Nothing is decided on these sentences."""

from __future__ import annotations

from collections.abc import Callable

from manactl.decide import kernel_bugs
from manactl.model.port import Note, NoteCode, OddFile, Oddity, PortStatus, Reason


def because(*reasons: Reason) -> str:
    """The sentence of a row; the second reason is the device's."""
    if not reasons:
        return ""
    device = REASONS[reasons[1]] if len(reasons) > 1 else ""
    return REASONS[reasons[0]].format(device=device)


def _undecided(*labels: str) -> str:
    return (
        f"{', '.join(labels)}: a raw QP may be on any of these; what can be read here does not "
        "show which"
    )


def _holders(*holders: str) -> str:
    return f"{', '.join(holders)}: all have the RDMA device open; the kernel does not report which "


def _elsewhere(*devices: str) -> str:
    are = "is" if len(devices) == 1 else "are"
    return (
        f"its RDMA device {', '.join(devices)} {are} in another network namespace (`rdma system "
        "show`): what uses it is not visible from here"
    )


def _other_qps(device: str, count: int) -> str:
    pairs = "1 RC, UC or UD queue pair" if count == 1 else f"{count} RC, UC or UD queue pairs"
    return (
        f"{device} has {pairs} of users: they do not take the vport, but while the netdev is down "
        "their RDMA port is down too"
    )


# {device}: the reason of the function's device.
REASONS: dict[Reason, str] = {
    "no-rdma-driver": "no RDMA driver is bound to the function",
    "raw-qp-exists": "a raw queue pair exists on the RDMA device",
    "no-context": "no process has the RDMA device open",
    "pds-empty": "all protection domains of the RDMA device are empty",
    "cqs-unused": "no completion queue of the RDMA device is in use",
    "cqs-of-raw-users": "completion queues are in use on the device that only raw users have",
    "cqs-unlisted-qp":
        "completion queues are used by a queue pair that the kernel does not list",
    "cqs-explained": "all uses of completion queues are explained by other queue pairs",
    "raw-qp-unread": "whether a raw queue pair exists could not be read",
    "raw-device-elsewhere":
        "the RDMA device that raw queue pairs are made on is not in this network namespace",
    "up-without-rx": "the netdev is up without receive queues: the driver is in transition",
    "up-without-rx-no-raw-qp":
        "the netdev is up without receive queues, and no raw queue pair exists: the driver is in "
        "transition",
    "up-without-queues":
        "the netdev is up without queues: the driver is in transition, or the device is in reset",
    "netdev-up": "the netdev is up",
    "netdev-rx": "the vport has the netdev's receive queues",
    "netdev-opening":
        "the vport is in use and no raw queue pair exists: the netdev is being opened",
    "eqs-not-netdev": "the vport is in use, and not by the netdev",
    "no-eqs": "the vport has no event queues, and no raw queue pair exists",
    "netdev-down": "the netdev is down, and no raw queue pair exists",
    "netdev-down-inferred": "the netdev is down, and no raw queue pair is left unexplained",
    "netdev-unseen":
        "the netdev is not visible from here and may be up in another network namespace",
    "may-have-raw-qp": "a raw queue pair may be on this port: {device}",
    "in-reset":
        "the driver is in transition: it is resetting the device, setting it up, or failed to",
    "being-taken": "the port is being taken, by the netdev or by a new queue pair",
    "qp-being-created": "a queue pair is being created, and may have taken this port already",
    "eqs-of-others":
        "the vport has no event queues, and those of other ports explain every raw QP",
    "only-port-left": "{device}, and no other port can have it",
}  # fmt: skip

# {0}, {1}: what the note names.
NOTES: dict[NoteCode, str | Callable[..., str]] = {
    "kept-changing": "the port kept changing while it was looked at",
    "in-transition":
        "the driver is opening, closing or resetting this port; until it is done, creating a raw "
        "QP fails with EBUSY",
    "eqs-lost": kernel_bugs.lost_eqs,
    "netdev-in-netns": "its netdev {0} is in the network namespace {1}",
    "netdev-not-here": "its netdev is not in this network namespace",
    "netdev-not-here-maybe-up":
        "its netdev is not in this network namespace and may be up in another one",
    "candidates": _undecided,
    "owner-unknown": because,
    "upper": "its master is {0}",
    "upper-of-kind": "its master is {0} ({1})",
    "slow-path": "the VF is down, so the traffic of {0} takes the slow synthetic path",
    "unjoined":
        "hv_netvsc has not joined it to {0} yet, whose VF it is: no claim begins before that",
    "bond-danger": kernel_bugs.bond_danger,
    "rdma-elsewhere": _elsewhere,
    "rdma-link-down":
        "`rdma link` shows {0}/{1} DOWN although it works: that state is the netdev's, not the raw "
        "QP's",
    "holder-unseen":
        "its holder is not visible from here: it may be in another pid namespace",
    "holder-hidden": "its holder is not visible from here (ask as root)",
    "holders-of-port":
        lambda *holders: f"{_holders(*holders)}of them uses this port, or whether they share it",
    "holders-of-ports":
        lambda *holders: f"{_holders(*holders)}of them uses which port",
    "other-qps": _other_qps,
    "contexts-unseen":
        "the RDMA device has {0} open contexts, for which only {1} descriptors were found: a "
        "holder is not visible from here: it may be in another pid namespace",
    "contexts-hidden":
        "the RDMA device has {0} open contexts, for which only {1} descriptors were found: a "
        "holder is not visible from here (ask as root)",
    "unclaimed":
        "no claim covers it: when the raw QP ends, the port stays down until it is set up by hand",
    "drift-another-nic": "claimed, yet another NIC is in its place: {0} is claimed",
    "drift-no-netdev": "claimed, yet its netdev is not here any more",
    "drift-moved": "claimed, yet its netdev has been moved to the network namespace {0}",
    "drift-recreated": "claimed, yet the netdev was re-created (ifindex {0} -> {1})",
    "drift-up": "claimed, yet its netdev is up",
    "drift-synthetic-up":
        "claimed with its synthetic netdev, yet {0} is up: somebody, or a network manager, has set "
        "it up",
    "drift-vf-up":
        "claimed, yet its netdev is up: somebody has set it up, or hv_netvsc, which opens it below "
        "{0} when the host has serviced it or {0} is set up",
    "drift-synthetic-recreated":
        "claimed, yet its synthetic netdev {0} was re-created (ifindex {1} -> {2}): the host took its "
        "device back, or it was unbound",
    "drift-synthetic-down":
        "claimed with --synthetic=keep, yet {0} is down and carries nothing: somebody has set it "
        "down, it was in another network namespace, or it was re-created",
    "drift-unpaired":
        "claimed below a synthetic netdev, yet it has none now: hv_netvsc is unbound, or has not "
        "found it again",
    "drift-not-uio":
        "claimed with --synthetic=uio, yet uio_hv_generic no longer has the VMBus device of {0} ({1}): "
        "somebody, or the host, has taken it; DPDK's netvsc PMD does not work until it is released and "
        "claimed again",
    "claimed-elsewhere":
        "claimed in another network namespace (inode {0}): nothing of that claim is written into "
        "this one; `manactl release` shows the way out",
    "before-boot":
        "its journal is from before the last boot: whether the port is up since then is the boot "
        "configuration's doing, and `manactl recover` only closes the journal",
    "at-work": "its claim or release is not finished: manactl (pid {0}) is at work on {1}",
    "claim-interrupted": "a claim of it was interrupted: {0}",
    "release-interrupted": "a release of it was interrupted: {0}",
    "not-restored": "it was not fully restored ({0}); fix the cause, then {1}",
    "recover-closes":
        "its netdev was not touched yet: `manactl recover` only closes the journal",
    "recover-gives-back":
        "its netdev was not set down yet: `manactl recover` gives it back to {0}",
    "unmanaged": "unmanaged: {0} leaves it alone until release",
    "left-down":
        "it stays down at boot, too (claim --persist), by {0}; `manactl release PORT` ends that",
    "unconfirmed":
        "not confirmed yet: it is released automatically at {0} unless `manactl confirm` comes before",
    "overdue":
        "not confirmed in time: it is released automatically as soon as no raw QP has the port and no "
        "other manactl is at work; `manactl confirm` keeps it until that has begun",
    "unguarded":
        "not confirmed, and its guardian (pid {0}) is gone: nobody takes it back. Keep it with "
        "`manactl confirm`, or end it with `manactl release`",
    "orphaned":
        "the manactl that ran its command (pid {0}) and its guardian (pid {1}) are gone: it is not "
        "released automatically. End the command if it still runs; `manactl recover` releases it then",
    "hold-keeps-down":
        "`manactl hold` sets it down again, and keeps it down, whoever sets it up",
    "recover-sets-up": "`manactl recover` sets {0} up and restores what is missing of {1}",
}  # fmt: skip


def reason(port: PortStatus) -> str:
    """Why the port has its owner."""
    return because(*port.reasons)


def note(about: Note) -> str:
    """The sentence of a note, or of drift."""
    names = (note(part) if isinstance(part, Note) else part for part in about.names)
    words = NOTES[about.code]
    return words.format(*names) if isinstance(words, str) else words(*names)


_ODD = {
    Oddity.ABSENT: "that port is not here",
    Oddity.NO_PORT: "it does not say for which port it is",
    Oddity.NOT_UNDERSTOOD: "this manactl does not understand what it says",
}


def odd_file(file: OddFile) -> str:
    """A file by which something is left down at boot, and why it is of no use."""
    why = _ODD[file.why] if isinstance(file.why, Oddity) else file.why
    if file.port is None:
        return f"{file.path} may leave a port down at boot, and is of no use to manactl: {why}"
    return f"{file.path} leaves port {file.port} down at boot, and {why}"


def deaf(vf: str, synthetic: str) -> str:
    """What a raw QP on the VF of a pair does not get, as long as hv_netvsc has the synthetic netdev
    (netvsc_vf_changed())."""
    return (
        f"a raw QP on {vf} can send, and receives nothing: with its VF down, {synthetic} has the host "
        "deliver by the synthetic path. DPDK's netvsc PMD gets all of it, with --synthetic=uio"
    )


def notes(port: PortStatus) -> list[str]:
    return [note(about) for about in port.notes]


def drift(port: PortStatus) -> list[str]:
    return [note(about) for about in port.drift]
