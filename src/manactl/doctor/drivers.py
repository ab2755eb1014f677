"""Is the kernel side ready: the drivers, their devices, and what is known of their bugs?"""

from __future__ import annotations

from collections.abc import Iterator

from manactl.decide.kernel_bugs import MTU_ADVICE, NETNS_ADVICE, OPEN_ADVICE
from manactl.doctor.finding import Finding, Level, count, fine
from manactl.doctor.machine import Machine, Module, Shape
from manactl.escape import command
from manactl.look.debugfs import Mount


def _written(word: str, path: str) -> str:
    """The command that writes a word into a file."""
    return f"{command('echo', word)} > {command(path)}"


def driver(machine: Machine) -> Iterator[Finding]:
    """Every MANA function needs the mana driver: raw QPs work beside it, not instead of it."""
    for function in machine.functions:
        if function.driver == "mana":
            continue
        fix = (
            []
            if function.driver is None
            else [_written(function.pci, f"/sys/bus/pci/drivers/{function.driver}/unbind")]
        )
        if machine.modules["mana"] is not Module.LOADED:
            fix.append("modprobe mana")  # binds to every function without a driver
        else:
            fix.append(_written(function.pci, "/sys/bus/pci/drivers/mana/bind"))
        yield Finding(
            "driver",
            Level.FIX,
            f"{function.pci} is bound to {function.driver or 'no driver'}, not to mana",
            "a MANA port is handed over by its driver: DPDK and raw verbs need mana and mana_ib "
            "loaded and bound, never vfio-pci or uio",
            tuple(fix),
        )
    bound = [function for function in machine.functions if function.driver == "mana"]
    dead = [function for function in bound if not function.ports]
    for function in dead:
        if function.set_up:
            yield Finding(
                "no-port",
                Level.FIX,
                f"{function.pci} is bound to mana, and no netdev of it can be seen from here",
                "its ports are in network namespaces that this process cannot look into (in a "
                "pod, those of the host), or the driver could not make them; the kernel log "
                "shows which",
                ("manactl status  # on the host, as root", "journalctl -k -g mana"),
            )
            continue
        yield Finding(
            "no-port",
            Level.FIX,
            f"{function.pci} is bound to mana but has no port",
            "the driver is setting it up, is resetting it, or has failed to; the kernel log shows "
            "which",
            ("journalctl -k -g mana", _written("1", f"/sys/bus/pci/devices/{function.pci}/reset")),
        )
    if bound and not dead:
        ports = sum(function.ports for function in bound)
        yield fine(
            "driver", f"mana has {count(len(bound), 'function')} with {count(ports, 'port')}"
        )


def mana_ib(machine: Machine) -> Iterator[Finding]:
    """The RDMA side of the driver, a module of its own that not every image has."""
    lacking = [
        function
        for function in machine.functions
        if function.driver == "mana" and not function.rdma_served
    ]
    if not lacking:
        if any(function.driver == "mana" for function in machine.functions):
            yield fine("mana-ib", "mana_ib serves every function")
        return
    where = ", ".join(function.pci for function in lacking)
    if machine.modules["mana_ib"] is Module.ABSENT:
        yield Finding(
            "mana-ib",
            Level.FIX,
            f"this kernel ({machine.kernel}) has no mana_ib module",
            "without it there is no RDMA device, and no program can have a raw QP",
            (f"apt install linux-modules-extra-{machine.kernel}  # Ubuntu; else the package with "
             "mana_ib.ko", "modprobe mana_ib"),
        )  # fmt: skip
        return
    loaded = machine.modules["mana_ib"] is Module.LOADED
    yield Finding(
        "mana-ib",
        Level.FIX,
        f"{where}: no RDMA device" + (", although mana_ib is loaded" if loaded else ""),
        "mana_ib has not bound to it; the kernel log shows why" if loaded
        else "mana_ib is not loaded, so no program can have a raw QP",
        ("journalctl -k -g mana_ib",) if loaded
        else ("modprobe mana_ib", "echo mana_ib > /etc/modules-load.d/mana_ib.conf"),
    )  # fmt: skip


def ib_uverbs(machine: Machine) -> Iterator[Finding]:
    """The character devices that libibverbs opens."""
    if not any(function.rdma for function in machine.functions):
        return
    if machine.modules["ib_uverbs"] is not Module.LOADED or not machine.uverbs:
        yield Finding(
            "ib-uverbs",
            Level.FIX,
            "there is no uverbs device: ib_uverbs is not loaded",
            "libibverbs opens /dev/infiniband/uverbsN; without it no program can have a raw QP",
            ("modprobe ib_uverbs", "echo ib_uverbs > /etc/modules-load.d/ib_uverbs.conf"),
        )
        return
    missing = [device for device in machine.uverbs if device.mode is None]
    for device in missing:
        yield Finding(
            "uverbs-node",
            Level.FIX,
            f"{device.path} of {device.rdma_device} is missing",
            "the kernel has the device, but /dev has no node for it: udev is not running, or a "
            "container has its own /dev",
            ("udevadm trigger --subsystem-match=infiniband_verbs",),
        )
    closed = [
        device
        for device in machine.uverbs
        if device.mode is not None and device.mode & 0o006 != 0o006
    ]
    for device in closed:
        yield Finding(
            "uverbs-access",
            Level.ADVICE,
            f"{device.path} of {device.rdma_device} has mode {device.mode:04o}: "
            + ("you may open it, other users may not" if device.usable else "you may not open it"),
            "rdma-core sets 0666, since the kernel checks what may be done there (a raw QP needs "
            "CAP_NET_RAW); with this mode a DPDK program that does not run as root cannot open it",
            (command("chmod", "0666", device.path),),
        )
    if not missing and not closed:
        yield fine("ib-uverbs", f"{count(len(machine.uverbs), 'uverbs device')}, open to all users")


def rdma_netns(machine: Machine) -> Iterator[Finding]:
    """RDMA devices belong to all network namespaces, or each to one."""
    hidden = [
        f"{', '.join(function.rdma_elsewhere) or 'the RDMA devices'} of {function.pci}"
        for function in machine.functions
        if function.rdma_elsewhere or (function.rdma_served and not function.rdma)
    ]
    if hidden:
        away = [name for function in machine.functions for name in function.rdma_elsewhere]
        yield Finding(
            "rdma-netns",
            Level.FIX,
            f"in another network namespace: {'; '.join(hidden)}",
            "RDMA namespaces are exclusive here: what uses a device that is elsewhere, for "
            "instance in a pod or left by one, is not visible from here, and no raw QP can be "
            "made on it. Any namespace but the first keeps the mode from being set to shared",
            (
                "ip netns attach first 1  # `rdma` knows namespaces by name only",
                *(
                    f"ip netns exec NETNS {command('rdma', 'dev', 'set', names=[name])} netns first"
                    for name in away or ["DEVICE"]
                ),
                "ip netns del first",
                "rdma system set netns shared",
            ),
        )
    elif machine.rdma_netns == "exclusive":
        yield Finding(
            "rdma-netns",
            Level.ADVICE,
            "RDMA devices are exclusive to one network namespace each",
            "a program in another namespace sees no RDMA device",
            ("rdma system set netns shared",),
        )
    elif machine.rdma_netns == "shared":
        yield fine("rdma-netns", "RDMA devices are visible in every network namespace")


def kernel_bugs(machine: Machine) -> Iterator[Finding]:
    """The driver's generation by what it shows in debugfs, and the known bugs of that one."""
    if machine.shape is Shape.VPORT_EQS:
        yield _advice(MTU_ADVICE)
        if machine.netvsc and machine.in_other_netns:
            yield _advice(NETNS_ADVICE)
        yield fine(
            "generation", "the driver shows which vport has an owner (event queues for each)"
        )
    elif machine.shape in (Shape.SHARED_EQS, Shape.NOTHING):
        yield Finding(
            "generation",
            Level.ADVICE,
            "this driver does not show which vport a raw QP has",
            "with several ports down, `status` shows that a raw QP exists, but not which of them "
            "has it; a claim proves its own port free by a test QP",
        )
        yield _advice(OPEN_ADVICE)


def _advice(bug: tuple[str, str, str]) -> Finding:
    code, what, why = bug
    return Finding(code, Level.ADVICE, what, why)


def debugfs(machine: Machine) -> Iterator[Finding]:
    """debugfs: the only place that shows the owner of each vport."""
    if machine.debugfs is None:
        yield Finding("debugfs", Level.UNSEEN, "debugfs: only root may list it", "", ())
    elif machine.debugfs is Mount.NOT_OFFERED:
        yield Finding(
            "debugfs",
            Level.ADVICE,
            "this kernel does not offer debugfs (debugfs=off or no-mount on its command line)",
            "the mana driver shows there which vport has an owner; without it `status` reports "
            "unknown more often, and a claim still proves its port free by a test QP",
        )
    elif machine.debugfs is Mount.NOT_MOUNTED:
        yield Finding(
            "debugfs",
            Level.ADVICE,
            "debugfs is not mounted",
            "the mana driver shows there which vport has an owner; without it `status` reports "
            "unknown more often",
            ("mount -t debugfs none /sys/kernel/debug",),
        )
    if machine.lockdown not in (None, "none"):
        yield fine("lockdown", f"kernel lockdown is {machine.lockdown}: it allows what manactl "
                    "does in debugfs, listing directories")  # fmt: skip


def waiting(machine: Machine) -> Iterator[Finding]:
    """A driver that waits for its NIC now."""
    for why in machine.waiting:
        yield Finding("driver-busy", Level.FIX, "the driver is busy", why, ("manactl status -v",))
