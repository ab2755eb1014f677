"""What the kernel's mana, mana_ib and hv_netvsc say, and what ip, rdma and ethtool make of it."""

from __future__ import annotations

from manactl.explain.topic import Kind, Step, Topic, forms

_WHO = Step("Who has the port's vport:", "manactl status -v PORT")

TOPICS = (
    Topic(
        name="open-refused",
        kind=Kind.MESSAGE,
        title="the netdev cannot be set up: the driver could not get the vport",
        forms=(
            "Failed to create vPort <n> : <n>",
            "mana_<name> failed to allocate queues: <n>",
            "RTNETLINK answers: Device or resource busy",
            "SIOCSIFFLAGS: Device or resource busy",
        ),
        means=(
            "Setting the netdev up asks for the vport, and a raw queue pair of some process has "
            "it. The netdev stays down; nothing else changed. From the kernel's log the number at "
            "the end is the errno (Linux 6.12 refuses without a line in the log)."
        ),
        by_errno={
            16: "a raw queue pair has the vport",
            71: "the device refused the request",
            110: "the device did not answer the driver",
        },
        check=(_WHO,),
        remedy=(
            Step("If a claim covers the port:", "manactl release --wait 30 PORT"),
            Step(
                "If none does, end the process that status names, then:",
                "ip link set PORT up",
            ),
        ),
        origin="mana_cfg_vport() from mana_alloc_queues() and mana_open()",
        see=("EBUSY", "raw-qp"),
    ),
    Topic(
        name="netdev-missing",
        kind=Kind.MESSAGE,
        title="there is no netdev of that name in this network namespace",
        forms=(
            "Cannot find device",
            "RTNETLINK answers: No such device",
            "netlink error: No such device",
        ),
        means=(
            "The netdev was renamed (udev does that after boot), moved to another network "
            "namespace, or removed because the driver was unbound or the device is being reset. "
            "It says nothing about the vport."
        ),
        check=(
            Step("The ports, by PCI address, and where their netdevs are:", "manactl status -v"),
            Step("The namespaces:", "ip netns list"),
        ),
        remedy=(Step("Use the name, an altname or PCI:PORT as status prints them."),),
        origin="rtnetlink",
        see=("elsewhere", "device-reset"),
    ),
    Topic(
        name="netvsc-vf-not-opened",
        kind=Kind.MESSAGE,
        title="a netvsc interface came up without its fast path",
        forms=(
            "unable to open slave: <name>: <n>",
            "goes on without <name>, by the slow synthetic path",
            "take the slow synthetic path, although",
        ),
        means=(
            "`ip link set` of the netvsc interface succeeded, but the MANA port below it could not "
            "be opened: traffic takes the slow path through the host, and only this line reports "
            "it. It is tried again only when the netvsc interface goes down and up. `manactl release` "
            "looks for this, and ends with 5."
        ),
        by_errno={16: "a raw queue pair has the port's vport"},
        check=(
            Step("Who has the port:", "manactl status -v"),
            Step("Whether packets go through it:", "ethtool -S NETVSC | grep vf_"),
        ),
        remedy=(
            Step(
                "End the process that has the vport, then open the port itself:",
                "ip link set PORT up",
            ),
        ),
        origin="netvsc_open() of the kernel's hv_netvsc",
        see=("open-refused",),
    ),
    Topic(
        name="ethtool-busy",
        kind=Kind.MESSAGE,
        title="the number of channels cannot be changed now",
        forms=(
            "netlink error: Device or resource busy",
            "Cannot change channels when RDMA is active",
        ),
        means=(
            "A raw queue pair has the vport of this port, whose netdev is down. Linux 7.x "
            "refuses `ethtool -L` meanwhile; 6.12 and 6.18 do not."
        ),
        check=(_WHO,),
        remedy=(Step("After the raw queue pair's end:", "ethtool -L PORT combined N"),),
        origin="mana_set_channels()",
        see=("EBUSY", "mtu-bug"),
    ),
    Topic(
        name="mtu-bug",
        kind=Kind.MESSAGE,
        title="kernel bug: MTU or rings of a claimed port were changed",
        forms=(
            "mana_destroy_eq<any>",
            "mana_ib_uncfg_vport<any>",
            "MTU or rings changed while a raw QP exists",
        ),
        means=(
            "On Linux 7.3.4 changing the MTU or the rings of a down netdev whose vport a raw queue "
            "pair has succeeds, and the kernel then follows a null pointer when that queue pair is "
            "destroyed. The process dies with locks held and the next command on the port hangs. "
            "A bond sets the MTU of its members when it is deleted, when its own MTU is changed, "
            "and when a member is moved to another network namespace."
        ),
        check=(Step("Whether the kernel has oopsed:", "dmesg | grep -A 20 mana_destroy_eq"),),
        remedy=(
            Step("If it has happened, only a reboot helps:", "systemctl reboot"),
            Step(
                "Otherwise do not use `ip link set PORT mtu` or `ethtool -G PORT`, nor change its "
                "bond, until after:",
                "manactl release PORT",
            ),
        ),
        origin="mana_destroy_eq() from mana_ib_uncfg_vport(); the detach and attach around an MTU "
        "change remove the debugfs directory under it; __bond_release_one() calls __dev_set_mtu()",
    ),
    Topic(
        name="ethtool-refused",
        kind=Kind.MESSAGE,
        title="ethtool asked for something that the driver of the netdev does not have, or refuses",
        forms=forms(
            """
            netlink error: Operation not supported
            netlink error: Invalid argument
            netlink error: failed to retrieve link settings
            netlink error: requested <any> out of range
            Cannot get device <any>settings: Operation not supported
            Cannot get device <any>parameters: Operation not supported
            Cannot set device <any>settings: Operation not supported
            Cannot set device <any>parameters: Operation not supported
            Cannot set device <any>parameters: Invalid argument
            Cannot get register dump: Operation not supported
            Cannot get EEPROM data: Operation not supported
            Cannot set new settings: Operation not supported
            Cannot get wake-on-lan settings: Operation not supported
            Cannot advertise <name>
            """
        ),
        means=(
            "The mana driver has rings, channels, RSS, statistics, link speed and, in newer kernels, "
            "coalescing; it has no pause frames, registers, EEPROM, Wake-on-LAN, FEC or speed to "
            "be set. An invalid argument is mostly a number that it does not take: more channels "
            "or longer rings than `ethtool -l` and `ethtool -g` show. Nothing was changed, and it "
            "says nothing about the vport's owner."
        ),
        check=(Step("What can be set, and to what:", "ethtool -g PORT; ethtool -l PORT"),),
        remedy=(
            Step(
                "Stay within these limits, and change nothing while a raw queue pair has the port."
            ),
        ),
        origin="the ethtool operations of mana (mana_ethtool_ops), which EOPNOTSUPP comes for",
        see=("port-settings", "EOPNOTSUPP", "mtu-bug"),
    ),
    Topic(
        name="rdma-res-qp",
        kind=Kind.MESSAGE,
        title="`rdma resource show qp` does not work with MANA",
        forms=(
            "^error: Operation not supported",
            "rdma: error: Operation not supported",
            "qp error: Operation not supported",
            "rdma res show qp",
            "rdma resource show qp",
        ),
        means=(
            "The command asks the driver for each queue pair's state, and mana_ib cannot answer "
            "that: the list ends with EOPNOTSUPP as soon as a queue pair exists, the kernel's "
            "own included. It does not indicate a fault."
        ),
        check=(Step("Counts and other objects can be listed:", "rdma resource show ctx"),),
        remedy=(Step("For who has which port:", "manactl status -v"),),
        origin="fill_res_qp_entry_query() calls ib_query_qp(); mana_ib has no query_qp operation",
        see=("EOPNOTSUPP",),
    ),
    Topic(
        name="rdma-link-down",
        kind=Kind.MESSAGE,
        title="the RDMA port reads DOWN while a program uses it",
        forms=(
            "state DOWN physical_state DISABLED",
            "PORT_DOWN (<n>)",
            "Port: <n> Link DOWN",
        ),
        means=(
            "The state of a MANA RDMA port is that of its netdev: link up means netdev up. While a "
            "raw queue pair has the vport the netdev is down, so `rdma link`, ibv_devinfo and "
            "ibstat show DOWN, and DPDK works all the same. RC and UD users of that port are "
            "affected: for them the link is down and the IPv6 GIDs are gone."
        ),
        check=(_WHO,),
        remedy=(
            Step("With owner raw-qp: nothing, this is how a healthy DPDK port looks."),
            Step("With owner free and no claim:", "ip link set PORT up"),
        ),
        origin="mana_ib_query_port()",
        see=("raw-qp", "rdma-users"),
    ),
    Topic(
        name="pd-of-another-port",
        kind=Kind.MESSAGE,
        title="one protection domain was used for two ports",
        forms=("PD already bound to port <n>",),
        means=(
            "A protection domain belongs to the port of its first raw queue pair. A second port "
            "with the same one is EINVAL on 7.x; 6.12 and 6.18 do not check."
        ),
        remedy=(Step("In the program: one protection domain for each port."),),
        origin="mana_ib_cfg_vport()",
        see=("EINVAL", "parent-domain"),
    ),
    Topic(
        name="uverbs-credentials",
        kind=Kind.MESSAGE,
        title="a program changed its identity after opening the RDMA device",
        forms=("changed security contexts after opening file descriptor",),
        means=(
            "The uverbs device takes commands only under the credentials that it was opened with. "
            "After setuid, setgid or a change of capabilities each of them is EACCES."
        ),
        remedy=(Step("In the program: drop privileges first, then open the device."),),
        origin="ib_safe_file_access()",
        see=("EACCES",),
    ),
    Topic(
        name="device-silent",
        kind=Kind.MESSAGE,
        title="the NIC did not answer the driver",
        forms=(
            "Command <name> timed out: <n> ms",
            "HWC: Request timed out",
            "HWC timeout occurred",
            "gf stats query timed out",
        ),
        means=(
            "A request on the driver's command channel was not answered in time (30 s). Whoever "
            "waited for it held the kernel's network lock meanwhile, so that `ip link` and others "
            "hung, too. After the first such timeout the driver hardly waits for later requests: "
            "they fail at once."
        ),
        check=(
            Step("Who waits in the driver, and what still can be read:", "manactl status -v"),
            Step("What followed:", "dmesg | grep mana | tail -n 30"),
        ),
        remedy=(
            Step(
                "Newer drivers reset the device by themselves. If the port does not come back:",
                "echo PCI > /sys/bus/pci/drivers/mana/unbind; "
                "echo PCI > /sys/bus/pci/drivers/mana/bind",
            ),
            Step("That makes new netdevs and ends every RDMA user of all ports of the function."),
        ),
        origin="mana_hwc_send_request()",
        see=("ETIMEDOUT", "driver-busy"),
    ),
    Topic(
        name="device-reset",
        kind=Kind.MESSAGE,
        title="the NIC is being reset or serviced",
        forms=(
            "Recv MANA service type:<n>",
            "Start MANA service type:<n>",
            "MANA reset cycle start",
            "MANA reset cycle completed",
            "MANA reset cycle failed err <n>",
            "Start MANA recovery mode",
            "MANA service: <any>",
            "Service is to be processed in probe",
            "mana <any>Already in service",
            "mana <any>Module is unloading",
            "Failed to add adev on resume: <n>",
            "Failed to schedule adev service event: <n>",
            "unknown adev service event <n>",
            "Received unknown SOC service type <n>",
            "Received unknown reconfig type <n>",
            "Received unknown gdma event <n>",
        ),
        means=(
            "The device asked for a reset, or the driver resets it after a failure. All ports of "
            "the function lose their queues and every RDMA user loses its device; netdevs that "
            "were up are opened again. About 10 s on the emulated NIC; servicing by a host may "
            "take much longer."
        ),
        check=(Step("How far it is:", "manactl status -v"),),
        remedy=(
            Step(
                "Wait for `MANA reset cycle completed`, then look at claims and drift:",
                "manactl status",
            ),
        ),
        origin="mana_serv_reset() and mana_serv_rescan()",
        see=("in-transition", "drift"),
    ),
    Topic(
        name="vport-given",
        kind=Kind.MESSAGE,
        title="no fault: the vport has got an owner",
        forms=(
            "Enabled vPort <n> PD <n> DB <n>",
            "Configured vPort <n> PD <n> DB <n>",
            "Configured steering vPort <n> entries <n>",
        ),
        means=(
            "The driver writes this line each time a vport gets an owner: a netdev that is set up, "
            "or a raw queue pair. Nothing is written when it is freed. manactl's own test QP, which "
            "proves that a port is free, causes one, too."
        ),
        check=(_WHO,),
        origin="mana_cfg_vport()",
        see=("ethernet", "raw-qp"),
    ),
    Topic(
        name="data-path",
        kind=Kind.MESSAGE,
        title="a netvsc interface changed between fast and slow path",
        forms=(
            "Data path switched <name> VF: <name>",
            "Data path failed to switch <name> VF: <name>, err: <n>",
            "Unable to send sw datapath msg, err: <n>",
            "Retry failed to send sw datapath msg, err: <n>",
            "a raw QP on <name> can send, and receives nothing",
        ),
        means=(
            "hv_netvsc has set where the host delivers this interface's packets: to the MANA port "
            "below it, or, when that goes down, to the synthetic channel. After `from VF` a DPDK "
            "program on the MANA port alone receives nothing: so it is after a claim with "
            "--synthetic=down, the default, and with keep. DPDK's netvsc PMD, which needs "
            "--synthetic=uio, asks the host for the VF again, and takes what comes on either path."
        ),
        check=(Step("Whether packets go through the port:", "ethtool -S NETVSC | grep vf_"),),
        remedy=(
            Step(
                "For a DPDK program that receives:", "manactl claim --raw-qp PORT --synthetic uio"
            ),
        ),
        origin="netvsc_vf_changed() of the kernel's hv_netvsc",
        see=("netvsc-vf-not-opened",),
    ),
)
