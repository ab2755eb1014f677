"""Words and sentences of `manactl status`: owners, certainty, drift, and why."""

from __future__ import annotations

from manactl.explain.topic import Kind, Step, Topic

_EVIDENCE = Step("The facts behind it:", "manactl status -v PORT")


def _topic(
    name: str, title: str, means: str, origin: str, *,
    check: tuple[Step, ...] = (_EVIDENCE,), remedy: tuple[Step, ...] = (),
    forms: tuple[str, ...] = (), see: tuple[str, ...] = (),
) -> Topic:  # fmt: skip
    return Topic(name, Kind.STATUS, title, means, origin, check, remedy, forms, see=see)


TOPICS = (
    _topic(
        "rdma-elsewhere", "an RDMA device of the port is in another network namespace",
        "RDMA namespaces are exclusive here, and the device was moved: into a container (rdma-cni "
        "does that), or it was left in the namespace of one that has ended. The netdev may have "
        "stayed. What uses the device cannot be seen from here; is it the one for raw QPs, then a "
        "port that is down may have one, and its owner is unknown, or inferred from debugfs.",
        "sysfs: the uverbs device, which every network namespace sees, has no RDMA device here",
        check=(Step("The mode, and the devices here:", "rdma system show; rdma dev"),
               Step("The namespaces, and the devices in one:",
                    "ip netns; lsns -t net; ip netns exec NETNS rdma dev")),
        remedy=(Step("To bring it back, as long as its namespace has a name:",
                     "ip netns attach first 1; ip netns exec NETNS rdma dev set DEVICE netns first"),
                Step("From the namespace of a process:",
                     "ip netns attach first 1; nsenter -t PID -n rdma dev set DEVICE netns first"),
                Step("When neither leads to it, bind the driver again; this ends the traffic of "
                     "all ports of the function:",
                     "echo PCI > /sys/bus/pci/drivers/mana/unbind; "
                     "echo PCI > /sys/bus/pci/drivers/mana/bind")),
        forms=("raw-QP device in another network namespace",
               "the RDMA device that raw queue pairs are made on is not in this network namespace",
               "the RDMA device that raw QPs are made on is not in this network namespace",
               "is in another network namespace (`rdma system show`): what uses it",
               "it is in another network namespace, or mana_ib has not made it",
               "belong to another network namespace"),
        see=("free", "raw-qp"),
    ),
    _topic(
        "ethernet", "owner: the netdev has the vport",
        "The normal state: the netdev is up and the kernel sends and receives through it. A raw "
        "queue pair gets EBUSY, or ENODEV up to Linux 6.18.",
        "IFF_UP, and from 7.2 on the receive queues in debugfs",
        remedy=(Step("To hand it over:", "manactl claim --raw-qp PORT"),),
        forms=("the netdev is up", "the vport has the netdev's receive queues",
               "the vport is in use and no raw queue pair exists: the netdev is being opened"),
        see=("EBUSY",),
    ),
    _topic(
        "raw-qp", "owner: a raw queue pair of a process has the vport",
        "A program in user space (DPDK, raw verbs) sends and receives Ethernet frames directly. "
        "The netdev is down and cannot be set up, `rdma link` reads DOWN, and both are right.",
        "debugfs: event queues without receive queues; nldev: a raw queue pair exists",
        remedy=(Step("To get the port back, end the program, then:", "manactl release PORT"),
                Step("Without a claim, instead:", "ip link set PORT up")),
        forms=(
            "the vport is in use, and not by the netdev",
            "a raw queue pair exists on the RDMA device",
            "completion queues are in use on the device that only raw users have",
            "completion queues are used by a queue pair that the kernel does not list",
            "and no other port can have it",
            "no claim covers it: when the raw QP ends, the port stays down",
        ),
        see=("rdma-link-down", "holder"),
    ),
    _topic(
        "free", "owner: the vport has no owner",
        "The netdev is down and it is certain that no raw queue pair has the vport. manactl reports "
        "free on positive proof only; without proof, it reports unknown.",
        "no open context, only empty protection domains, or no event queues on the vport",
        remedy=(Step("To use it as a netdev:", "ip link set PORT up"),
                Step("For RDMA:", "manactl claim --raw-qp PORT")),
        forms=(
            "no process has the RDMA device open",
            "all protection domains of the RDMA device are empty",
            "no completion queue of the RDMA device is in use",
            "all uses of completion queues are explained by other queue pairs",
            "the vport has no event queues, and no raw queue pair exists",
            "the netdev is down, and no raw queue pair exists",
            "the netdev is down, and no raw queue pair is left unexplained",
            "the vport has no event queues, and those of other ports explain every raw QP",
        ),
    ),
    _topic(
        "unknown", "owner: the evidence does not decide; treat it as taken",
        "Either something could not be read (see `missing`), or this kernel does not show on which "
        "of several down ports a raw queue pair is: then they are listed as candidates.",
        "kernels before 7.2 show that a raw queue pair exists, not where",
        check=(Step("As root more can be seen:", "sudo manactl status -v"),),
        remedy=(Step("A claim finds out, by creating a queue pair and destroying it:",
                     "manactl claim --raw-qp PORT"),),
        forms=("a raw queue pair may be on this port", "a raw QP may be on any of these",
               "whether a raw queue pair exists could not be read"),
        see=("missing", "elsewhere"),
    ),
    _topic(
        "proven", "certainty: the kernel's rules leave no other answer",
        "Every fact that the answer needs was read, and given what the driver does, no other owner "
        "is possible.", "the tables in decide/ownership.py",
    ),
    _topic(
        "inferred", "certainty: by what programs usually do, not by a rule of the kernel",
        "A program that does something unusual with its queue pairs could make it wrong. A claim "
        "proves the port by a queue pair of its own in any case.", "the tables in decide/ownership.py",
    ),
    _topic(
        "in-transition", "the driver is opening, closing or resetting the port",
        "Flags and queues disagree for the moment, or a queue pair is being created. Until that is "
        "done, creating a raw queue pair fails with EBUSY. If it lasts for more than a minute, look "
        "at the kernel log.", "mana_open(), mana_close(), a reset, or ib_uverbs at work",
        check=(Step("Again in a moment:", "manactl status -v PORT"),
               Step("What the driver says:", "dmesg | grep mana | tail")),
        forms=(
            "the driver is in transition",
            "the driver is opening, closing or resetting this port",
            "the port is being taken, by the netdev or by a new queue pair",
            "a queue pair is being created, and may have taken this port already",
            "the port kept changing while it was looked at",
        ),
        see=("device-reset", "driver-busy"),
    ),
    _topic(
        "elsewhere", "the netdev is not in this network namespace",
        "A port's netdev can live in another namespace, and be up there, while its RDMA device is "
        "visible here. A missing netdev is not a free port.", "sysfs shows only this namespace's",
        check=(Step("As root the namespaces are searched:", "sudo manactl status -v"),
               Step("The named ones:", "ip netns list")),
        forms=("the netdev is not visible from here and may be up in another network namespace",
               "its netdev is not in this network namespace",
               "is in the network namespace <name>"),
        see=("foreign-netns",),
    ),
    _topic(
        "no-rdma-driver", "no RDMA driver is bound to the function",
        "mana_ib is not loaded, or this kernel was built without it. No raw queue pair can be made "
        "on any port of the function.", "sysfs",
        check=(Step("Whether it is loaded:", "lsmod | grep mana_ib"),
               Step("Whether it exists:", "modinfo mana_ib")),
        remedy=(Step("Load it:", "modprobe mana_ib"),
                Step("Ubuntu has it in a package of its own:",
                     "apt install linux-modules-extra-azure")),
        forms=("no RDMA driver is bound to the function",
               "has no RDMA device: no raw QP can be made on it",
               "Are RDMA modules loaded", "RDMA resources for <name> not found",
               "can not get RDMA subsystem network namespace mode"),
        see=("unsupported",),
    ),
    _topic(
        "drift", "a claimed port is not as its claim left it (claim: exit 6)",
        "The netdev was set up or moved to another namespace, or it is gone, or its device was "
        "plugged in again and made another one. A program that needs a port that is up gets EBUSY. "
        "Network managers, scripts and host servicing of a pair are the usual causes: hv_netvsc opens a "
        "VF that comes back 100 ms later, when its synthetic netdev is up (--synthetic=keep). A synthetic "
        "netdev that --synthetic=keep left up and that is down now carries no traffic; release does not "
        "set it up.", "the journal compared with sysfs",
        check=(_EVIDENCE, Step("Who may have done it:", "journalctl -b -t NetworkManager "
                               "-t systemd-networkd | tail -n 50")),
        remedy=(Step("If it was set up, have it set down again, and kept down:", "manactl hold"),
                Step("If its synthetic netdev is down and should be up:", "ip link set NAME up"),
                Step("Or release it and claim it again:", "manactl release PORT")),
        forms=(
            "`manactl hold` sets it down again, and keeps it down",
            "claimed, yet its netdev is up",
            "claimed, yet its netdev is up: somebody has set it up, or hv_netvsc, which opens it below <name>",
            "claimed with its synthetic netdev, yet <name> is up",
            "claimed with --synthetic=keep, yet <name> is down",
            "claimed below a synthetic netdev, yet it has none now",
            "claimed with --synthetic=uio, yet uio_hv_generic no longer has the VMBus device of <name>",
            "claimed, yet another NIC is in its place",
            "claimed, yet its netdev is not here any more",
            "claimed, yet its netdev has been moved to the network namespace <name>",
            "claimed, yet the netdev was re-created",
            "claimed, yet its synthetic netdev <name> was re-created",
            "is claimed, but something has set it up again since",
            "is claimed, but its synthetic netdev <name>, which --synthetic=keep had left up, is down",
            "is claimed, but uio_hv_generic no longer has the VMBus device of <name>",
            "is claimed, but not there now",
        ),
        see=("manager", "no-netdev"),
    ),
    _topic(
        "history", "the journal is from before the last boot",
        "After a reboot the boot configuration sets the ports up as it always does, but for those "
        "that were claimed with --persist: it leaves them down, and release ends that. Nothing is "
        "left to restore. recover, or the next release or claim, closes the journal.",
        "the boot id in the journal",
        remedy=(Step("Close it:", "manactl recover"),),
        forms=("its journal is from before the last boot",),
    ),
    _topic(
        "missing", "something could not be read",
        "Each entry names a source and why. Owners may be unknown or only inferred because of it. "
        "debugfs and other users' processes are root's alone.", "manactl status",
        check=(Step("As root:", "sudo manactl status -v"),
               Step("Whether debugfs is mounted:", "findmnt /sys/kernel/debug")),
        remedy=(Step("If it is not:", "mount -t debugfs none /sys/kernel/debug"),),
        forms=("only root may list it", "descriptors of other users' processes",
               "processes of other users are hidden (/proc is mounted with hidepid)",
               "/proc lists no process",
               "this kernel does not offer it (debugfs=off or no-mount)",
               "this kernel does not offer debugfs",
               "its holder is not visible from here", "a holder is not visible from here"),
    ),
    _topic(
        "driver-busy", "a process waits in the driver and holds the network lock (RTNL)",
        "A change of a netdev waits for the NIC and holds RTNL, up to 30 s and longer. status then "
        "shows what can be read without the lock. `ip`, `ethtool` and others hang until it ends.",
        "rtnl_lock()",
        check=(Step("Who waits, and in which function:", "manactl status -v"),),
        remedy=(Step("Wait. If it does not end, see:", "manactl explain device-silent"),),
        forms=("the kernel's network lock (RTNL) is held", "waits in the driver (<name>)"),
        see=("device-silent",),
    ),
)  # fmt: skip
