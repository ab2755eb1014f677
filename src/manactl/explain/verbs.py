"""What user space says of RDMA devices: libibverbs and its provider libmana (rdma-core 56)."""

from __future__ import annotations

from manactl.explain.errnos import BY_RAW_QP
from manactl.explain.topic import Kind, Step, Topic, forms

TOPICS = (
    Topic(
        name="uverbs-open",
        kind=Kind.MESSAGE,
        title="the uverbs device of an RDMA device cannot be opened",
        forms=forms(
            """
            /dev/infiniband/uverbs<n>: <any>
            open /dev/infiniband/uverbs<n>
            Failed to open device
            failed to open /dev/infiniband
            Couldn't get context for <name>
            missing RDMA device spec for device
            missing RDMA device spec for
            """
        ),
        means=(
            "The RDMA device is listed, and the program may not open its character device, or does "
            "not have it. In a container that is nearly always a device that was not given to it: "
            "the node is missing in its /dev, or its device control group does not allow it. The "
            "vport's owner plays no part."
        ),
        by_errno={
            1: "the device control group of the container does not allow the device",
            2: "the device has no node in this /dev",
            13: "the mode of the node does not allow it; rdma-core sets 0666",
            19: "the RDMA device has gone, or its driver is being reset",
        },
        check=(
            Step("Where the program runs:", "ls -l /dev/infiniband/"),
            Step("On the machine:", "manactl doctor"),
        ),
        remedy=(
            Step(
                "Give the container the device, and CAP_NET_RAW for raw queue pairs:",
                "docker run --device /dev/infiniband/uverbs0 --cap-add NET_RAW --ulimit memlock=-1 "
                "IMAGE",
            ),
            Step("In Kubernetes: by a device plugin, which announces it as a resource."),
        ),
        origin="ib_uverbs_open(); the device controller of control groups",
        see=(
            "EACCES",
            "ibv-no-driver",
        ),
    ),
    Topic(
        name="ibv-no-driver",
        kind=Kind.MESSAGE,
        title="libibverbs has no driver for an RDMA device: programs do not see it",
        forms=forms(
            """
            couldn't allocate device for <name>
            couldn't allocate driver for <name>
            couldn't allocate driver name '<name>'
            couldn't load driver '<name>'
            no userspace device-specific driver found for <name>
            No IB devices found
            No IB device found
            No RDMA devices found
            Failed to get IB devices list
            no verbs device found
            No uverbs devices found
            """
        ),
        means=(
            "The kernel has the device, and libibverbs found no provider that takes it: libmana "
            "is not installed, it is not announced by a file in /etc/libibverbs.d, or a container "
            "has neither. `ibv_devices` does not list the device, and DPDK finds no port. "
            "A line that names another provider than mana is about other NICs. The vport's owner plays "
            "no part."
        ),
        check=(
            Step("Whether user space sees the devices:", "ibv_devices"),
            Step(
                "The provider, and what announces it:",
                "ls -l /usr/lib/*/libibverbs/ /etc/libibverbs.d/",
            ),
            Step("Both, judged:", "manactl doctor"),
        ),
        remedy=(
            Step(
                "Install it; in a container, in its image:",
                "apt install ibverbs-providers  # or: dnf install libibverbs",
            ),
            Step(
                "If the library is there, announce it again:",
                'echo "driver mana" > /etc/libibverbs.d/mana.driver',
            ),
        ),
        origin="try_drivers() and load_driver() of libibverbs",
        see=(
            "ibv-config",
            "dpdk-no-port",
        ),
    ),
    Topic(
        name="ibv-config",
        kind=Kind.MESSAGE,
        title="libibverbs cannot read which providers there are",
        forms=forms(
            """
            couldn't open config directory '<name>'
            couldn't read config file <name>
            couldn't stat config file '<name>'
            ignoring bad config directive '<name>' in file '<name>'
            """
        ),
        means=(
            "libibverbs reads the names of its providers from files in /etc/libibverbs.d. The "
            "directory or a file is missing, unreadable or malformed, as in a container whose "
            "image has the library alone: then no provider is loaded, and no program sees an RDMA "
            "device."
        ),
        check=(
            Step(
                "What is there:", "ls -l /etc/libibverbs.d/; grep . /etc/libibverbs.d/mana.driver"
            ),
            Step("Whether user space sees the devices:", "ibv_devices"),
        ),
        remedy=(
            Step(
                "Install the providers; in a container, in its image:",
                "apt install --reinstall ibverbs-providers  # or: dnf reinstall libibverbs",
            ),
        ),
        origin="read_config() of libibverbs",
        see=("ibv-no-driver",),
    ),
    Topic(
        name="ibv-abi",
        kind=Kind.MESSAGE,
        title="user space and kernel are of different ages: the ABI of verbs does not fit",
        forms=forms(
            """
            kernel ABI version <n> doesn't match library version <n>
            Driver <name> does not support the kernel ABI of <n> (supports <n> to <n>) for device <name>
            """
        ),
        means=(
            "libibverbs, or the provider for the device, does not speak the version of the "
            "kernel's interface. Usual in a container whose rdma-core is much older than the "
            "host's kernel."
        ),
        check=(
            Step("The version of rdma-core:", "dpkg -l ibverbs-providers"),
            Step(
                "The kernel's:",
                "grep . /sys/class/infiniband_verbs/abi_version /sys/class/infiniband_verbs/uverbs*/abi_version",
            ),
        ),
        remedy=(
            Step(
                "Raw queue pairs on MANA need rdma-core 44 or newer:",
                "apt install --only-upgrade rdma-core ibverbs-providers",
            ),
        ),
        origin="check_abi_version() and match_driver_id() of libibverbs",
        see=("ibv-no-driver",),
    ),
    Topic(
        name="ibv-limits",
        kind=Kind.MESSAGE,
        title="libibverbs warns of limits: locked memory, or fork()",
        forms=forms(
            """
            RLIMIT_MEMLOCK is <n> bytes. This will severely limit memory registrations
            fork()-safety requested but init failed
            getrlimit(RLIMIT_MEMLOCK) failed
            """
        ),
        means=(
            "The limit on locked memory is low, or the program asked for support of fork() and "
            "did not get it. Rings and buffers of a queue pair are pinned and count against "
            "RLIMIT_MEMLOCK, unless the process has CAP_IPC_LOCK."
        ),
        check=(Step("The limit of this shell, with what else RDMA needs:", "manactl doctor"),),
        remedy=(
            Step("For a session:", "prlimit --pid $$ --memlock=unlimited"),
            Step("For a unit: LimitMEMLOCK=infinity in its [Service] section."),
        ),
        origin="check_memlock_limit() and ibv_fork_init() of libibverbs",
        see=("ENOMEM",),
    ),
    Topic(
        name="libmana-context",
        kind=Kind.MESSAGE,
        title="libmana could not open the device, or make a protection domain",
        forms=forms(
            """
            mana<any>: Failed to allocate PD
            Failed to deallocate PD
            mana<any>: Failed to deregister MR
            mana<any>: Failed to get ucontext
            Failed to map doorbell page
            mana<any>: Failed to register MR
            Failed to register dma-buf MR
            This driver supports IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT only
            mana<any>: Unsupported context type <n>
            """
        ),
        means=(
            "The program has opened the uverbs device, and the kernel refused its context, its "
            "doorbell page, a protection domain or a memory region. Not the vport: no queue pair "
            "has been asked for yet."
        ),
        check=(
            Step("Modes of the devices, limits, and the rest:", "manactl doctor"),
            Step("What the kernel says:", "dmesg | grep mana | tail"),
        ),
        remedy=(
            Step(
                "For memory regions, raise the limit of the session:",
                "prlimit --pid $$ --memlock=unlimited",
            ),
            Step(
                "A parent domain takes IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT alone; see manadv(7)."
            ),
        ),
        origin="mana_alloc_context(), mana_alloc_pd(), mana_reg_mr() of rdma-core's providers/mana",
        see=(
            "ENOMEM",
            "EACCES",
            "parent-domain",
        ),
    ),
    Topic(
        name="libmana-queues",
        kind=Kind.MESSAGE,
        title="libmana could not make or destroy a queue pair or queue",
        forms=forms(
            """
            Create QP EX failed
            Create QP failed
            Destroy QP failed
            Failed to Create CQ
            Failed to Create WQ
            Failed to Destroy CQ
            Failed to alloc rc shadow queue
            Failed to alloc sq shadow queue
            Failed to allocate memory for RC queue <n>
            Failed to create RWQ IND table
            Failed to destroy RWQ IND table
            Failed to destroy WQ
            Failed to modify qp
            Invalid RX hash key length
            QP type <n> is not supported
            QPT not supported <n>
            WQ buffer needs to be externally allocated
            WQ needs external alloc context
            """
        ),
        means=(
            "The call went to the kernel and was refused, or something in it does not fit: "
            "buffers that the program has to give, the length of the RSS key (40 bytes), the type "
            "of the queue pair. A raw queue pair is refused, too, when the vport has another "
            "owner: errno shows which it was."
        ),
        by_errno=BY_RAW_QP,
        check=(
            Step("Who has the port's vport:", "manactl status -v PORT"),
            Step("errno of the call; `manactl explain` knows its number and name."),
        ),
        remedy=(
            Step("If the owner is ethernet:", "manactl claim --raw-qp PORT"),
            Step("In the program: what manadv(7) asks for."),
        ),
        origin="mana_create_qp(), mana_create_wq(), mana_create_cq() of rdma-core's providers/mana",
        see=(
            "parent-domain",
            "extern-alloc",
            "raw-qp-refused",
        ),
    ),
    Topic(
        name="libmana-post",
        kind=Kind.MESSAGE,
        title="libmana could not post a request to a queue pair",
        forms=forms(
            """
            Failed to post RQ wqe , ret <n>
            Failed to post send request ret <n>
            mana<any>: Invalid QP state
            rc post Read data WQE error, ret <n>
            rc post send error, ret <n>
            recv shadow queue full
            mana<any>: shadow queue full
            """
        ),
        means=(
            "The queue is full, the queue pair is in another state than the request needs, or the "
            "kind of request is not supported by MANA. The vport and its owner play no part."
        ),
        remedy=(Step("In the program: take completions before more is posted."),),
        origin="mana_post_send(), mana_post_recv() of rdma-core's providers/mana",
        see=("dpdk-mana-packets",),
    ),
    Topic(
        name="libmana-news",
        kind=Kind.MESSAGE,
        title="no fault: libmana reports what it does",
        forms=forms(
            """
            Mapped db_page=<name>
            device attr max_qp <n> max_qp_wr <n> max_cqe <n>
            """
        ),
        means=("Written where VERBS_LOG_LEVEL and VERBS_LOG_FILE are set."),
        origin="rdma-core's providers/mana",
        see=("parent-domain",),
    ),
)
