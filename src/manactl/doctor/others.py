"""What else affects the ports: network managers, interrupted claims, other namespaces?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from manactl.act import persist
from manactl.decide import daemon_words
from manactl.decide.port_words import odd_file
from manactl.doctor.finding import Finding, Level, fine
from manactl.doctor.machine import Machine
from manactl.escape import command
from manactl.netstate.surroundings import Does, Manager

_FIXED_NETWORKD = (257, 7)  # before: "unmanaged" is forgotten in some boots (systemd issue 36997)
# What it does is no good while a port is claimed, and it can be told not to.
_SWITCHED_OFF = (Does.ADDRESSES, Does.RESTARTS)


def managers(machine: Machine) -> Iterator[Finding]:
    """A network manager of a port lets go of it for a claim, or a claim is refused (guard
    `manager`)."""
    if machine.managers is None:
        yield Finding("manager", Level.UNSEEN, "which network managers run could not be read")
        return
    for found in machine.managers:
        name = found.manager.name
        if found.manager.managed is False:
            yield fine("manager", f"{name} leaves {found.port} alone")
            continue
        if found.manager.link is not None:
            yield fine("manager", f"{name} manages {found.port}, and lets go of it for a claim")
            continue
        how = daemon_words.holds(name, found.port)
        if name == "systemd-networkd":
            applied = (found.network_file or "FILE.network").rpartition("/")[2]
            drop_in = f"/etc/systemd/network/{applied}.d"
            how = (
                command("mkdir", "-p", drop_in),
                "printf '[Link]\\nActivationPolicy=manual\\nRequiredForOnline=no\\n"
                "[Network]\\nBindCarrier=\\nKeepConfiguration=yes\\n' "
                f"> {command(drop_in + '/manactl.conf')}",
                "networkctl reload",
            )
        doubt = "" if found.manager.managed else ", or does not report whether it does"
        yield Finding(
            "manager",
            Level.FIX,
            f"{name} manages {found.port}{doubt}",
            "it may set a port up again that was set down for RDMA, or drop its addresses; a claim "
            f"is refused (guard manager){_silent(found.manager)}",
            how,
        )
    named = {found.manager.name for found in machine.managers if found.manager.managed is not False}
    for daemon in machine.daemons:
        if daemon.name in named:
            continue
        yield Finding(
            "manager",
            Level.ADVICE,
            f"{daemon_words.who(daemon)}: here, and nothing says that it manages a port",
            daemon_words.effect(daemon, "a port"),
            daemon_words.holds(daemon.name, "PORT") if daemon.does in _SWITCHED_OFF else (),
        )
    if machine.systemd is not None and _version(machine.systemd) < _FIXED_NETWORKD:
        yield Finding(
            "systemd",
            Level.ADVICE,
            f"systemd {machine.systemd} forgets in some boots that a device is unmanaged",
            "fixed in 257.7; networkd may configure a VF although Azure's udev rules exclude it",
            ("apt install --only-upgrade systemd",),
        )


def _silent(manager: Manager) -> str:
    return f": it does not answer ({manager.silent})" if manager.silent is not None else ""


def leftovers(machine: Machine) -> Iterator[Finding]:
    """What was left unfinished, by manactl and by other programs."""
    journals = machine.journals
    if journals.broken:
        yield Finding("journal", Level.FIX, "a journal cannot be used", journals.broken,
                      ("manactl explain journal",))  # fmt: skip
    if journals.unread:
        yield Finding("journal", Level.UNSEEN, f"journals: {journals.unread}")
    for file in machine.odd_files:
        again = persist.READ_AGAIN[file.manager]
        yield Finding(
            "persist",
            Level.ADVICE,
            odd_file(file),
            "release does not remove it; what it names stays down at every boot",
            (command("rm", file.path), command(*again)),
        )
    if journals.interrupted:
        yield Finding(
            "interrupted",
            Level.FIX,
            f"a claim or release of {', '.join(journals.interrupted)} was interrupted",
            "its journal has what is needed to undo it",
            ("manactl recover",),
        )
    if journals.stale:
        yield Finding(
            "stale",
            Level.ADVICE,
            f"{', '.join(journals.stale)}: claimed before the last boot",
            "whether they are up is the boot configuration's doing; only the journal is to be closed",
            ("manactl recover",),
        )
    if machine.state_dir:
        yield Finding(
            "state-dir",
            Level.FIX,
            machine.state_dir,
            "a claim writes its journal there before it touches anything; without it, it refuses",
        )
    if machine.unmanned:
        yield Finding(
            "unclaimed",
            Level.ADVICE,
            f"{', '.join(machine.unmanned)}: a raw QP has it without a claim",
            "when it ends the port stays down until it is set up by hand, and manactl cannot "
            "restore what the kernel dropped",
            ("manactl status -v",),
        )
    if machine.uio_vmbus is not None:
        bound = ", ".join(machine.uio_vmbus)
        yield Finding(
            "uio",
            Level.ADVICE,
            f"uio_hv_generic has {bound}" if bound else "uio_hv_generic is loaded",
            "an id written to its new_id stays and cannot be read back: the next VMBus network "
            "device may be bound to it instead of to hv_netvsc",
            ("echo f8615163-df3e-46c5-913f-f2d2f965ed0e > "
             "/sys/bus/vmbus/drivers/uio_hv_generic/remove_id",),
        )  # fmt: skip


def in_other_netns(machine: Machine) -> Iterator[Finding]:
    for away in machine.in_other_netns:
        named = "/" not in away.netns  # else there is a path to it alone
        where = (
            command("ip", "netns", "exec", names=[away.netns]) if named else "ip netns exec NAME"
        )
        claim = command("manactl", "claim", "--raw-qp", names=[away.netdev or away.port])
        yield Finding(
            "foreign-netns",
            Level.ADVICE,
            f"{away.port} ({away.netns}): its netdev is in another network namespace",
            "claim and release it from that namespace",
            (f"{where} {claim}",),
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
