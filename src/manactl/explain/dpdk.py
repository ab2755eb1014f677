"""Messages of DPDK and libmana, as seen from testpmd of DPDK 24.11 and rdma-core 56."""

from __future__ import annotations

from manactl.explain.topic import Kind, Step, Topic

_WHO = Step("Who has the port's vport:", "manactl status -v PORT")
_CLAIM = Step("Hand the port over, then start the program:", "manactl claim --raw-qp PORT")
_BACK = Step("When the program has ended:", "manactl release PORT")

TOPICS = (
    Topic(
        name="dpdk-tx-queues",
        kind=Kind.MESSAGE,
        title="DPDK cannot create its send queue: it does not get the port's vport",
        forms=(
            "Failed to create qp queue index <n>",
            "failed to start tx queues <n>",
            "failed to create cq queue index <n>",
            "Failed to get manadv objects",
            "Fail to start port <n>",
            "Not all ports were started",
        ),
        means=(
            "The first send queue of a DPDK port is a RAW_PACKET queue pair, and creating it takes "
            "the vport. The kernel refused. The number at the end of the line is its errno and "
            "shows why. testpmd goes on without the port and may still exit with 0."
        ),
        by_errno={
            1: "the process lacks CAP_NET_RAW; the kernel has not looked at the vport's owner yet",
            12: "memory could not be pinned, usually because of the memlock limit",
            16: "the vport has another owner: the port's netdev is up, or another program has a "
            "raw queue pair on it (this number from Linux 7.2 on)",
            19: "the vport has another owner, as with 16: up to Linux 6.18 every failure to "
            "configure the vport reads ENODEV. The device is not missing",
            22: "one protection domain for two ports, or libmana refused the call itself",
            110: "the device did not answer the driver",
        },
        check=(_WHO,),
        remedy=(
            Step("If the owner is ethernet:", "manactl claim --raw-qp PORT"),
            Step("If the owner is raw-qp, end the process that status names, then try again."),
            _BACK,
        ),
        origin="mana_start_tx_queues() and mana_dev_start() of DPDK's net_mana; "
        "mana_cfg_vport() of the kernel decides",
        see=("EBUSY", "ENODEV", "EPERM", "raw-qp"),
    ),
    Topic(
        name="dpdk-rx-queues",
        kind=Kind.MESSAGE,
        title="DPDK has the vport, but cannot create its receive side",
        forms=(
            "failed to start rx queues <n>",
            "failed to create rx cq queue <n>",
            "failed to create rx wq <n>",
            "failed to create ind_table ret <n>",
            "rx ibv_create_qp_ex failed",
            "manadv_init_obj failed ret <n>",
        ),
        means=(
            "The send queues exist, so the vport was free. The receive side, one RSS queue pair "
            "over the port's work queues, could not be made."
        ),
        by_errno={
            12: "memory could not be pinned, usually because of the memlock limit",
            16: "the protection domain has an RSS queue pair already: a vport has only one",
            22: "the RSS queue pair was asked for on another port than the send queues have",
            110: "the device did not answer the driver",
        },
        check=(Step("What the driver says:", "dmesg | grep mana | tail"),),
        remedy=(
            Step("Use as many receive queues as the port has:", "ethtool -l PORT"),
            Step("For 12, raise the limit of the session:", "prlimit --pid $$ --memlock=unlimited"),
        ),
        origin="mana_start_rx_queues() of DPDK's net_mana; mana_ib_create_qp_rss()",
        see=("ENOMEM", "ETIMEDOUT"),
    ),
    Topic(
        name="dpdk-hugepages",
        kind=Kind.MESSAGE,
        title="DPDK finds no huge pages",
        forms=(
            "No free <n> kB hugepages reported on node <n>",
            "Cannot get hugepage information",
            "EAL: FATAL: Cannot get hugepage information",
            "Cannot init EAL: Permission denied",
        ),
        means="No huge pages are reserved, or hugetlbfs is not mounted. No port was touched yet.",
        check=(
            Step("How many there are:", "grep Huge /proc/meminfo"),
            Step("With everything else that DPDK needs:", "manactl doctor"),
        ),
        remedy=(
            Step("Reserve some (1024 of 2 MB):", "sysctl -w vm.nr_hugepages=1024"),
            Step("Mount hugetlbfs:", "mount -t hugetlbfs none /dev/hugepages"),
            Step("Or, for a trial only, start the program with --no-huge -m 512."),
        ),
        origin="rte_eal_init() of DPDK",
    ),
    Topic(
        name="dpdk-no-port",
        kind=Kind.MESSAGE,
        title="DPDK finds no port at all",
        forms=(
            "No probed ethernet devices",
            "No Ethernet ports",
            "Did not find any ports to use",
        ),
        means=(
            "No device matched the arguments of -a or --vdev. For MANA that needs the kernel's "
            "mana_ib and ib_uverbs, DPDK's net_mana driver and rdma-core's libmana, a readable "
            "uverbs device, and a mac= that is the permanent MAC of a port."
        ),
        check=(
            Step("PCI address, permanent MAC and RDMA device of each port:", "manactl status -v"),
            Step("Whether user space sees the RDMA devices:", "ibv_devices"),
            Step("What is missing:", "manactl doctor"),
        ),
        remedy=(
            Step("Load what is missing:", "modprobe -a mana_ib ib_uverbs"),
            Step("Then name the port as status prints it: -a PCI,mac=PERMANENT-MAC."),
        ),
        origin="mana_pci_probe() of DPDK's net_mana; testpmd prints the line",
        see=("no-rdma-driver", "EACCES"),
    ),
    Topic(
        name="dpdk-promiscuous",
        kind=Kind.MESSAGE,
        title="harmless: MANA has no promiscuous mode to switch on",
        forms=("Error during enabling promiscuous mode for port <n>: Operation not supported",),
        means="testpmd asks every port for it, net_mana does not offer it, and testpmd goes on.",
        remedy=(Step("Nothing: it is printed for healthy ports too."),),
        origin="testpmd; no promiscuous_enable operation in DPDK's net_mana",
    ),
    Topic(
        name="parent-domain",
        kind=Kind.MESSAGE,
        title="a raw queue pair was asked for without saying on which port",
        forms=(
            "Create RAW QP should use parent domain",
            "Create RAW QP should use a parent domain",
            "RAW QP needs to be on a parent domain",
        ),
        means=(
            "libmana takes the port number from the pd_context of a parent domain. With a plain "
            "protection domain it answers EINVAL itself; the kernel was not asked, so this says "
            "nothing about who has the vport. The line is written only where VERBS_LOG_LEVEL and "
            "VERBS_LOG_FILE are set."
        ),
        check=(Step("The port number that belongs to a netdev:", "manactl status -v PORT"),),
        remedy=(
            Step(
                "In the program: ibv_alloc_parent_domain() with pd_context set to the RDMA port "
                "number, and external buffer allocators by manadv_set_context_attr()."
            ),
        ),
        origin="mana_create_qp_raw() in rdma-core's providers/mana/qp.c; manadv(7)",
        see=("extern-alloc", "EINVAL"),
    ),
    Topic(
        name="extern-alloc",
        kind=Kind.MESSAGE,
        title="a raw queue pair was asked for without buffer allocators",
        forms=("RAW QP requires extern alloc for buffers",),
        means=(
            "libmana does not allocate the rings of a raw queue pair: the program has to give it "
            "allocators first. The kernel was not asked."
        ),
        remedy=(
            Step(
                "In the program: manadv_set_context_attr() with MANADV_CTX_ATTR_BUF_ALLOCATORS, "
                "before the completion queue and the queue pair are created."
            ),
        ),
        origin="mana_create_qp_raw() in rdma-core's providers/mana/qp.c; manadv(7)",
        see=("parent-domain",),
    ),
)
