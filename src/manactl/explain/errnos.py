"""Error numbers that these drivers use, and what each usually means here."""

from __future__ import annotations

from manactl.explain.topic import Kind, Step, Topic

_WHO = Step("Who has the port's vport:", "manactl status -v PORT")
_RAW = "raw queue pair"


def _topic(  # noqa: PLR0917 - a row of a table
    number: int, name: str, words: str, title: str, means: str, origin: str,
    check: tuple[Step, ...] = (), remedy: tuple[Step, ...] = (), see: tuple[str, ...] = (),
) -> Topic:  # fmt: skip
    return Topic(
        name, Kind.ERRNO, f"{number}, {words}: {title}", means, origin, check, remedy,
        forms=(words,), errno=number, see=see,
    )  # fmt: skip


# What an error number means where a request to the device or to the driver has failed, and where a
# RAW_PACKET queue pair could not be made.
BY_DEVICE = {
    12: "memory could not be allocated or pinned",
    22: "the driver found the request wrong before it asked the device",
    71: "the device refused the request",
    95: "the device does not offer it",
    110: "the device did not answer the driver",
}
BY_RAW_QP = {
    1: "the process lacks CAP_NET_RAW",
    12: "memory could not be pinned, usually because of the memlock limit",
    16: "the vport has another owner: the netdev is up, or another program has it",
    19: "the vport has another owner, as with 16: up to Linux 6.18 every failure to configure the "
    "vport reads ENODEV",
    22: "the request is wrong: the port number, one protection domain for two ports, or buffers",
    71: "the device refused the request",
    95: "mana_ib does not offer it",
    110: "the device did not answer the driver",
}

TOPICS = (
    _topic(
        1,
        "EPERM",
        "Operation not permitted",
        "a capability is missing",
        "Creating a raw queue pair needs CAP_NET_RAW, and the kernel asks for it before it looks "
        "at the vport: EPERM says nothing about the owner. Setting a netdev up or down needs "
        "CAP_NET_ADMIN. Pinning memory with a memlock limit of 0 is EPERM, too.",
        "ib_uverbs for RAW_PACKET; rtnetlink",
        check=(Step("What a process may do:", "getpcaps PID"),),
        remedy=(
            Step(
                "Run it as root, or give the program the capability:",
                "setcap cap_net_raw+ep PROGRAM",
            ),
        ),
        see=("denied", "ENOMEM"),
    ),
    _topic(
        11,
        "EAGAIN",
        "Resource temporarily unavailable",
        "a limit, or a queue pair in the making",
        "From a verbs call: a limit of the rdma cgroup. From the kernel's list of RDMA resources: "
        "a raw queue pair exists on the device; manactl uses that answer as evidence.",
        "rdma cgroup; restrack",
        check=(
            Step(
                "The limits of the unit's control group:", "grep . /sys/fs/cgroup/SLICE/UNIT/rdma.*"
            ),
        ),
    ),
    _topic(
        12,
        "ENOMEM",
        "Cannot allocate memory",
        "usually the limit on locked memory",
        "Rings and buffers of a queue pair are pinned and count against RLIMIT_MEMLOCK, unless the "
        "process has CAP_IPC_LOCK. A raw queue pair alone needs 8 KiB, DPDK all of its memory.",
        "ib_umem_get()",
        check=(
            Step("The limit of a process:", "prlimit --memlock --pid PID"),
            Step("That of this shell, with what else RDMA needs:", "manactl doctor"),
        ),
        remedy=(
            Step("For a session:", "prlimit --pid $$ --memlock=unlimited"),
            Step("For a unit: LimitMEMLOCK=infinity in its [Service] section."),
        ),
        see=("EPERM",),
    ),
    _topic(
        13,
        "EACCES",
        "Permission denied",
        "the uverbs device may not be opened or written",
        "Opening /dev/infiniband/uverbs* is a matter of the file's mode and of device control "
        "groups. A command that fails with it was sent after the process changed its credentials.",
        "ib_uverbs_open(), ib_safe_file_access()",
        check=(Step("The modes:", "ls -l /dev/infiniband/"),),
        see=("uverbs-credentials", "dpdk-hugepages"),
    ),
    _topic(
        16,
        "EBUSY",
        "Device or resource busy",
        "the vport has another owner",
        "A vport has one owner at a time: the netdev while it is up, or the protection domain of "
        f"a {_RAW}. The second one gets EBUSY. A {_RAW} gets EBUSY from Linux 7.2 on, and "
        "ENODEV up to 6.18; setting the netdev up gets EBUSY on all of them. Two more cases: a "
        "second RSS queue pair of one protection domain, and for a moment while `ethtool -L` or "
        "a reset of the queues is in progress.",
        "mana_cfg_vport()",
        check=(_WHO,),
        remedy=(
            Step("Owner ethernet, and a program wants the port:", "manactl claim --raw-qp PORT"),
            Step(
                "Owner raw-qp, and the netdev is wanted: end the holder, then:",
                "manactl release PORT",
            ),
            Step("Owner free: try again; the queues were being changed at that moment."),
        ),
        see=("ENODEV", "dpdk-tx-queues", "open-refused"),
    ),
    _topic(
        19,
        "ENODEV",
        "No such device",
        "up to Linux 6.18: the vport has another owner",
        f"The device is there. Up to Linux 6.18 mana_ib answers ENODEV to a {_RAW} whenever the "
        "vport could not be configured, and nearly always that is because the netdev is up or "
        "another program has it. Newer kernels say EBUSY.",
        "mana_ib_create_qp_raw()",
        check=(_WHO, Step("Whether the device is really there:", "lspci -d 1414:00ba")),
        remedy=(
            Step("Owner ethernet:", "manactl claim --raw-qp PORT"),
            Step("Owner raw-qp: end the process that status names."),
        ),
        see=("EBUSY", "dpdk-tx-queues"),
    ),
    _topic(
        22,
        "EINVAL",
        "Invalid argument",
        "the call is wrong, not the port's state",
        f"For a {_RAW}: one protection domain for two ports (7.x), a port number that the device "
        "does not have, or libmana refused the call itself, because a parent domain or buffer "
        "allocators are missing; then the kernel was not asked.",
        "mana_ib_cfg_vport(), mana_ib_create_qp_raw(), libmana",
        check=(
            Step("Device and port number that belong to a netdev:", "manactl status -v PORT"),
            Step(
                "Why libmana refuses it, if it was libmana:",
                "VERBS_LOG_LEVEL=4 VERBS_LOG_FILE=/tmp/verbs.log PROGRAM; cat /tmp/verbs.log",
            ),
        ),
        remedy=(
            Step(
                "In the program: one protection domain for each port, and what manadv(7) asks for."
            ),
        ),
        see=("parent-domain", "extern-alloc", "pd-of-another-port"),
    ),
    _topic(
        71,
        "EPROTO",
        "Protocol error",
        "the device answered what the driver did not expect",
        "The NIC refused a request, or its answer was malformed; the lines before it in the kernel "
        "log name the request and its status.",
        "mana_gd_send_request() and its callers",
        check=(Step("Those lines:", "dmesg | grep mana | tail -n 30"),),
        see=("device-silent",),
    ),
    _topic(
        95,
        "EOPNOTSUPP",
        "Operation not supported",
        "mana_ib does not offer this",
        "Listing queue pairs (`rdma resource show qp`), modifying a raw queue pair, UD queue pairs "
        "of user space and promiscuous mode in DPDK all fail with it. The owner of a port cannot be "
        "found that way.",
        "mana_ib has no such operation",
        remedy=(Step("For who has which port:", "manactl status -v"),),
        see=("rdma-res-qp", "dpdk-promiscuous"),
    ),
    _topic(
        100,
        "ENETDOWN",
        "Network is down",
        "the netdev under a socket was set down",
        "Packet sockets bound to a port (DHCP clients, lldpd, tcpdump) get it when the port is "
        "claimed, once; many programs end then and have to be started again after the release.",
        "packet_notifier()",
        check=(Step("Whether the port is claimed:", "manactl status PORT"),),
        remedy=(Step("After the claim:", "manactl release PORT"),),
        see=("packet-sockets",),
    ),
    _topic(
        110,
        "ETIMEDOUT",
        "Connection timed out",
        "the NIC did not answer the driver",
        "From a verbs call, a netdev operation or the kernel's log: a request to the NIC was not "
        "answered in time. (From a TCP socket it is the peer that did not answer.)",
        "mana_hwc_send_request()",
        check=(Step("What the driver says:", "dmesg | grep mana | tail -n 30"),),
        see=("device-silent",),
    ),
)
