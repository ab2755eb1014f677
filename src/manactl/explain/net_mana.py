"""What DPDK's net_mana says beside what dpdk.py explains (24.11)."""

from __future__ import annotations

from manactl.explain.errnos import BY_DEVICE
from manactl.explain.topic import Kind, Step, Topic, forms

_BY_OPEN = {
    2: "the uverbs device has no node in /dev, as in a container without it",
    12: "memory could not be pinned, usually because of the memlock limit",
    13: "the uverbs device may not be opened: its mode, or a device control group",
    19: "no port of the function has that permanent MAC, or user space sees no RDMA device. It "
    "says nothing about the vport",
}

TOPICS = (
    Topic(
        name="dpdk-mana-probe",
        kind=Kind.MESSAGE,
        title="DPDK found a MANA function, but could not use a port of it",
        forms=forms(
            """
            NULL pointer eth_dev=<name> pci_dev=<name>
            Can't attach to dev <name>
            Exceeding max MAC address
            Failed to open IB device <name>
            Failed to parse parameters args = <name>
            Failed to query IB device <name>
            MANA_DRIVER: <any>Invalid MAC address <name>
            Probe on IB port <n> failed <n>
            Skip device vendor part id <name>
            Skip device without RAW support
            MANA_DRIVER: <any>error parsing args
            failed to parse kvargs args=<name>
            ibv_alloc_parent_domain failed port <n>
            ibv_alloc_pd failed port <n>
            MANA_DRIVER: <any>unrecognized mac addr <name>
            """
        ),
        means=(
            "net_mana looks for the RDMA devices of the PCI function, opens each, takes the one "
            "that can make raw queue pairs, and a port whose permanent MAC is one of those in "
            "mac=. A device that it skips for its vendor part id or for lack of RAW support is "
            "the other one of the function, and no fault."
        ),
        by_errno=_BY_OPEN,
        check=(
            Step("PCI address, permanent MAC and RDMA device of each port:", "manactl status -v"),
            Step("Whether user space sees the RDMA devices:", "ibv_devices"),
            Step("What is missing:", "manactl doctor"),
        ),
        remedy=(
            Step("Name the port as status prints it: -a PCI,mac=PERMANENT-MAC."),
            Step(
                "Not as root, a program needs the uverbs device and CAP_NET_RAW:",
                "ls -l /dev/infiniband/",
            ),
        ),
        origin="mana_pci_probe(), mana_pci_probe_mac(), mana_probe_port() of DPDK's net_mana",
        see=(
            "dpdk-no-port",
            "EACCES",
        ),
    ),
    Topic(
        name="dpdk-mana-settings",
        kind=Kind.MESSAGE,
        title="the settings of a MANA port in DPDK do not fit",
        forms=forms(
            """
            Can't update RSS after device has started
            Only support equal number of rx/tx queues
            Fail: input rxq (<n>) can't be greater than max_rx_queues
            Fail: input txq (<n>) can't be greater than max_tx_queues
            Fail: input rxd (<n>) can't be
            Fail: input txd (<n>) can't be
            Fail to configure port <n>
            Port <n> invalid RSS HF <n>
            MANA_DRIVER: <any>Port <n> key len must be <n> long
            number of TX/RX queues must be power of 2
            """
        ),
        means=(
            "net_mana wants as many receive as send queues, and a power of two of them; RSS is "
            "set before the port is started, with a key of 40 bytes and the hashes that the "
            "device has."
        ),
        remedy=(
            Step(
                "For testpmd: --txq=N --rxq=N with N of 1, 2, 4, 8 and so on, no more than:",
                "ethtool -l PORT",
            ),
        ),
        origin="mana_dev_configure(), mana_rss_hash_update() of DPDK's net_mana",
        see=("dpdk-rx-queues",),
    ),
    Topic(
        name="dpdk-mana-memory",
        kind=Kind.MESSAGE,
        title="DPDK could not get or register memory for a MANA port",
        forms=forms(
            """
            (2nd) Failed to add to global MR btree
            (2nd) Failed to allocate MR
            B-tree initialized table <name> size <n> len <n>
            Cannot allocate mana shared data
            Cannot attach mana shared data
            Failed secondary map <n>
            Failed to allocate B-tree n <n> socket <n>
            Failed to allocate intr_handle
            Failed to allocate memory for interrupt vector
            MANA_DRIVER: <any>Failed to get mem page size
            Failed to init PMD global data <n>
            Failed to init RXQ MR btree
            Failed to init TXQ MR btree
            Failed to init device MR btree <n>
            Failed to map secondary doorbell port <n>
            failed to allocate rxq
            failed to allocate txq
            shared data is already initialized
            MANA_DRIVER: <any>size=<n> socket=<n>
            Btree overflow detected len <n> size <n>
            Expanded btree to size <n>
            Failed to add MR to local tree
            Failed to add to global MR btree
            Failed to add to local MR btree
            Failed to allocate MR ret <n> addr <name> len <n>
            Failed to expand btree size <n>
            Internal error second try failed
            MR failed at <n> len <n>
            MR failed start <n> len <n>
            failed to allocate mbufs for RX
            failed to get MR, pkt_idx <n>
            failed to register RX MR
            memory chunk size <n> exceeding max MR
            """
        ),
        means=(
            "Queues, their rings or the buffers could not be allocated, or the device did not "
            "take a buffer's memory as a memory region. Registered memory is pinned and counts "
            "against RLIMIT_MEMLOCK, unless the process has CAP_IPC_LOCK."
        ),
        by_errno=BY_DEVICE,
        check=(
            Step("Limit and huge pages:", "manactl doctor"),
            Step("The limit of a running program:", "prlimit --memlock --pid PID"),
        ),
        remedy=(
            Step("For a session:", "prlimit --pid $$ --memlock=unlimited"),
            Step("For a unit: LimitMEMLOCK=infinity in its [Service] section."),
            Step("Fewer or smaller mbufs: testpmd's --total-num-mbufs."),
        ),
        origin="mana_alloc_pmd_mr(), mana_new_pmd_mr(), mana_mr_btree_init() of DPDK's net_mana",
        see=(
            "ENOMEM",
            "dpdk-hugepages",
        ),
    ),
    Topic(
        name="dpdk-mana-packets",
        kind=Kind.MESSAGE,
        title="a packet or a completion of a MANA port in DPDK failed",
        forms=forms(
            """
            CQ overflowed, ID <n> cqe <n> new <n>
            failed to post <n> WQEs, ret <n>
            MANA_DRIVER: <any>vlan insert failed
            Invalid input for TCP CKSUM
            Invalid input for UDP CKSUM
            RX CQE type <n> client <n> vendor <n>
            failed to post RX ret = <n>
            fatal error: offset_in_bytes <n> too big
            mana_tx_comp_oob cqe_type <n> vendor_err <n>
            mana_txq_desc has a NULL pkt
            send packet segments <n> exceeding max
            """
        ),
        means=(
            "The port works and the program has its vport. One packet was malformed, had too many "
            "segments or could not be posted; or the device reported an error for one. Many of "
            "them at once, or an overflow of a completion queue, mean that the device has reset "
            "or closed the queues: look whether it is being serviced."
        ),
        check=(
            Step("Whether the device was reset:", "dmesg | grep mana | tail -n 30"),
            Step("Whether the program still has the vport:", "manactl status -v PORT"),
        ),
        remedy=(Step("After a reset, stop the port in the program and start it again."),),
        origin="mana_tx_burst(), mana_rx_burst(), gdma_poll_completion_queue() of DPDK's net_mana",
        see=("device-reset",),
    ),
    Topic(
        name="dpdk-mana-stop",
        kind=Kind.MESSAGE,
        title="DPDK could not free a part of a MANA port",
        forms=forms(
            """
            Failed to deallocate PD: <n>
            Failed to deallocate parent PD: <n>
            Failed to unregister intr callback ret <n>
            destroy rwq ind table failed <n>
            MANA_DRIVER: <any>failed destroy comp <n>
            failed to stop tx queues
            rx_queue destroy_cq failed <n>
            rx_queue destroy_qp failed <n>
            rx_queue destroy_wq failed <n>
            tx_queue destroy_cp failed <n>
            tx_queue destroy_qp failed <n>
            Can't disable RX intr queue <n>
            """
        ),
        means=(
            "The port is being stopped or closed and a queue pair, work queue, completion queue "
            "or domain could not be destroyed. All of them end with the process at the latest, "
            "and the vport with them."
        ),
        by_errno=BY_DEVICE,
        check=(Step("Whether the vport is free:", "manactl status -v PORT"),),
        remedy=(Step("End the program, then:", "manactl release --wait 30 PORT"),),
        origin="mana_dev_stop(), mana_stop_tx_queues(), mana_stop_rx_queues() of DPDK's net_mana",
        see=("holder",),
    ),
    Topic(
        name="dpdk-mana-secondary",
        kind=Kind.MESSAGE,
        title="a secondary DPDK process and its primary do not agree on a MANA port",
        forms=forms(
            """
            MANA_DRIVER: <any>Failed to get FD <n>
            MANA_DRIVER: <any>Failed to register primary handler <n> <n>
            MANA_DRIVER: <any>MP INIT PRIMARY
            MANA_DRIVER: <any>MP INIT SECONDARY
            MP handle port ID <n> invalid
            Port <n> request to primary failed
            Port <n> unknown primary MP type <n>
            Port <n> unknown secondary MP type <n>
            failed to get CMD FD, port <n>
            free shared memezone data
            MANA_DRIVER: <any>got FDs <n> unexpected
            mp uninit primary
            mp uninit secondary
            port <n> command FD from primary is <n>
            port <n> failed to request Rx/Tx (<n>)
            port <n> not all secondaries responded (<n>)
            MANA_DRIVER: <any>port <n> request failed on secondary <n>
            port <n> request to primary process failed
            primary replied <n> messages
            """
        ),
        means=(
            "A secondary process gets the device's descriptor and the memory regions from the "
            "primary, by DPDK's own messages. One of them was refused or not answered: the "
            "primary has ended, is stuck, or runs another version. The vport belongs to the "
            "primary process."
        ),
        check=(Step("Who has the device open:", "manactl status -v PORT"),),
        remedy=(Step("End all processes of the program, and start the primary first."),),
        origin="mp.c of DPDK's net_mana",
        see=("dpdk-lock",),
    ),
    Topic(
        name="dpdk-mana-interrupts",
        kind=Kind.MESSAGE,
        title="receive interrupts of a MANA port in DPDK could not be set up",
        forms=forms(
            """
            Failed to change async_fd to NONBLOCK
            Failed to enable RX interrupts
            Failed to install intr handler
            Failed to register intr callback
            Failed to set FD at intr <n>
            Failed to set comp non-blocking
            Failed to set intr vec <n>
            Queue <n> comp channel failed
            """
        ),
        means=(
            "The program asked for them, and a completion channel or its descriptor could not be "
            "made or armed: usually the limit of open files. Polling does not need them."
        ),
        by_errno=BY_DEVICE,
        check=(Step("The limit:", "prlimit --nofile --pid PID"),),
        remedy=(Step("For a session:", "prlimit --pid $$ --nofile=65536"),),
        origin="rx_intr_vec_enable(), mana_intr_install() of DPDK's net_mana",
    ),
    Topic(
        name="dpdk-mana-news",
        kind=Kind.MESSAGE,
        title="no fault: DPDK reports what it does with a MANA port",
        forms=forms(
            """
            Port <n> starting datapath
            Port <n> stopping datapath
            Probe device name <name> dev_name <name> ibdev_path <name>
            Secondary doorbell mapped to <name>
            Successfully probed on IB port <n>
            TX/RX queues have started
            dev <name> max queues <n> desc <n> sge <n> mr <n>
            MANA_DRIVER: <any>device <name> at port <n>
            device located port <n> address <name>
            idx <n> nb_desc <n> socket <n>
            ind_table handle <n> num <n>
            MANA_DRIVER: <any>key=<name> value=<name> index=<n>
            rxq cq id <n> buf <name> count <n> size <n>
            rxq rq id <n> buf <name> count <n> size <n>
            (): start rx queues
            txq cq id <n> buf <name> count <n> size <n> head <n>
            txq sq id <n> vp_offset <n> db_page <name> buf <name> count <n> size <n>
            MANA_INIT: <any>>>
            """
        ),
        means=(
            "Lines of the debugging level (--log-level=pmd.net.mana.*:debug), and those of a port "
            "that was found or started."
        ),
        origin="DPDK's net_mana",
        see=("raw-qp",),
    ),
)
