"""What mana_ib says, the RDMA side of the driver; most of it by dynamic debugging."""

from __future__ import annotations

from manactl.explain.errnos import BY_DEVICE, BY_RAW_QP
from manactl.explain.topic import Kind, Step, Topic, forms

TOPICS = (
    Topic(
        name="raw-qp-refused",
        kind=Kind.MESSAGE,
        title="mana_ib did not make a raw queue pair",
        forms=forms(
            """
            Failed to configure vPort: <n>
            Failed copy udata for create qp-raw, <n>
            Failed to configure vPort <n>
            Failed to copy from udata create qp-raw, <n>
            Failed to create EQs, ret <n>
            Failed to create queue for create qp-raw, err <n>
            Failed to create wq for create raw-qp, err <n>
            Invalid port <n> in creating qp
            Requested max_send_sge <n> exceeding limit
            Requested max_send_wr <n> exceeding limit
            """
        ),
        means=(
            "The line says at which step: the vport could not be configured (it has another "
            "owner, or the device refused), the port number does not exist on the device, the "
            "queue is larger than the device allows, or memory could not be used. The program "
            "gets the number as errno."
        ),
        by_errno=BY_RAW_QP,
        check=(
            Step("Who has the port's vport:", "manactl status -v PORT"),
            Step("Device and port number that belong to a netdev:", "manactl status -v"),
            Step(
                "Most of these lines are written only with dynamic debugging:",
                "echo module mana_ib +p > /sys/kernel/debug/dynamic_debug/control",
            ),
        ),
        remedy=(
            Step("If the owner is ethernet:", "manactl claim --raw-qp PORT"),
            Step("If the owner is raw-qp, end the process that status names."),
        ),
        origin="mana_ib_create_qp_raw(), mana_ib_cfg_vport()",
        see=(
            "EBUSY",
            "ENODEV",
            "EINVAL",
            "dpdk-tx-queues",
        ),
    ),
    Topic(
        name="rss-qp-refused",
        kind=Kind.MESSAGE,
        title="mana_ib did not make the receive side of a raw queue pair",
        forms=forms(
            """
            Failed copy from udata for create rss-qp, err <n>
            Failed to copy from udata for create wq, <n>
            Failed to copy to udata create rss-qp, <n>
            Failed to create queue for create wq, <n>
            Indirect table size <n> exceeding limit
            Only one RSS QP per vport is supported
            RX Hash function is not supported, <n>
            Requested max_recv_sge <n> exceeding limit
            Requested max_recv_wr <n> exceeding limit
            """
        ),
        means=(
            "The vport is the program's, but its receive queues or the RSS queue pair over them "
            "could not be made: a second RSS queue pair on one vport, a hash function that the "
            "device does not have, a table that is not a power of two, or more or longer queues "
            "than the device allows."
        ),
        by_errno=BY_RAW_QP,
        check=(
            Step(
                "Most of these lines are written only with dynamic debugging:",
                "echo module mana_ib +p > /sys/kernel/debug/dynamic_debug/control",
            ),
        ),
        remedy=(
            Step(
                "Use as many receive queues as the port has, a power of two of them:",
                "ethtool -l PORT",
            ),
        ),
        origin="mana_ib_create_qp_rss(), mana_ib_create_wq()",
        see=("dpdk-rx-queues",),
    ),
    Topic(
        name="rdma-memory",
        kind=Kind.MESSAGE,
        title="mana_ib could not make a completion queue, or use a program's memory",
        forms=forms(
            """
            mana <any>CQE <n> exceeding limit
            Failed create dma region for user-mr, <n>
            Failed to allocate doorbell page <n>
            Failed to allocate doorbell page: ret <n>, <n>
            Failed to copy from udata for create cq, <n>
            Failed to create RNIC cq, <n>
            mana <any>Failed to create cq err <n>
            Failed to create dma region, <n>
            Failed to create kernel queue for create cq, <n>
            mana <any>Failed to create mr <n>, <n>
            mana <any>Failed to create queue <n>, err <n>
            Failed to create queue for create cq, <n>
            Failed to destroy MR: <n>, <n>
            mana <any>Failed to destroy cq err <n>
            Failed to destroy doorbell page <n>
            Failed to destroy doorbell page: ret <n>, <n>
            mana <any>Failed to find page size
            Failed to get dmabuf umem, <name>
            Failed to get umem for register user-mr, <n>
            Failed to get umem for register user-mr, <name>
            Failed to get umem, <n>
            Failed to get umem, <name>
            Failed to install cq callback, <n>
            mana <any>Unexpected vm_pgoff <n>
            can't rdma_user_mmap_io ret <n>
            invalid param (GDMA_MR_TYPE) passed, type <n>
            """
        ),
        means=(
            "A completion queue, a memory region or a doorbell page could not be made for a "
            "program. Memory is pinned and counts against RLIMIT_MEMLOCK, unless the process has "
            "CAP_IPC_LOCK. The vport's owner is not the cause, nor is it touched."
        ),
        by_errno=BY_DEVICE,
        check=(
            Step("The limit of a process:", "prlimit --memlock --pid PID"),
            Step("With what else RDMA needs:", "manactl doctor"),
        ),
        remedy=(
            Step("For a session:", "prlimit --pid $$ --memlock=unlimited"),
            Step("For a unit: LimitMEMLOCK=infinity in its [Service] section."),
        ),
        origin="mana_ib_create_cq(), mana_ib_reg_user_mr(), mana_ib_create_queue(), mana_ib_mmap()",
        see=("ENOMEM",),
    ),
    Topic(
        name="rdma-setup",
        kind=Kind.MESSAGE,
        title="mana_ib could not set up an RDMA device of the function",
        forms=forms(
            """
            Failed to add Mac address, ret <n>
            Failed to config IP addr err <n>
            Failed to config Mac addr err <n>
            Failed to create RNIC adapter err <n>
            Failed to destroy RNIC adapter err <n>
            Failed to destroy pd_handle <n> err <n> status <n>
            Failed to get netdev for IB port <n>
            Failed to get netdev for IB port 1
            Failed to get pd_id err <n> status <n>
            Failed to query ETH device caps, ret <n>
            Failed to query adapter caps err <n>
            Failed to query device caps, ret <n>
            Failed to register device, ret <n>
            Failed to register net notifier, <n>
            Failed to set ib netdev, ret <n>
            Unsupported rdma network type <n>
            """
        ),
        means=(
            "The module found the function, but the device refused, or the netdev of a port was "
            "not there: an RDMA device is missing or incomplete, `ibv_devices` does not list it, "
            "and no raw queue pair can be made on its ports."
        ),
        by_errno=BY_DEVICE,
        check=(
            Step("Which RDMA devices there are:", "rdma dev; ibv_devices"),
            Step("What is missing:", "manactl doctor"),
            Step("What it said before:", "dmesg | grep -i mana | tail -n 30"),
        ),
        remedy=(
            Step(
                "Load the module again; every RDMA program of all ports must have ended:",
                "modprobe -r mana_ib && modprobe mana_ib",
            ),
        ),
        origin="mana_ib_probe()",
        see=(
            "no-rdma-driver",
            "device-setup",
        ),
    ),
    Topic(
        name="rdma-qp-types",
        kind=Kind.MESSAGE,
        title="a queue pair that is not a raw one: refused, or not known to mana_ib",
        forms=forms(
            """
            Creating QP type <n> not supported
            Failed modify qp err <n>
            mana <any>Failed to copy from udata, <n>
            mana <any>Failed to copy to udata, <n>
            Failed to create rc qp <n>
            Failed to create rc qp err <n>
            Failed to create shadow rq err <n>
            Failed to create shadow sq err <n>
            Failed to create ud qp <n>
            Failed to create ud qp err <n>
            Failed to destroy rc qp err <n>
            Failed to destroy ud qp err <n>
            Failed to query device counters err <n>
            Failed to query vf counters err <n>
            Invalid port <n> in QP <n>
            Modify QP type <n> not supported
            Posting recv wr on qp type <n> is not supported
            Posting send wr on qp type <n> is not supported
            Unexpected QP type <n>
            Unknown QP type for removing from mana table, <n>
            Unknown QP type for storing in mana table, <n>
            User-level UD QPs are not supported
            """
        ),
        means=(
            "RC and UD queue pairs do not share the vport: they live beside the netdev, and need "
            "it up. mana_ib knows RC queue pairs of programs, UD only for the kernel, and of raw "
            "ones neither changes nor posting by the kernel."
        ),
        by_errno=BY_DEVICE,
        check=(
            Step("Which device is for which:", "manactl status -v PORT"),
            Step("Whether the RDMA port is up:", "rdma link"),
        ),
        remedy=(
            Step("For Ethernet frames, a raw queue pair; first:", "manactl claim --raw-qp PORT"),
            Step("For RC: leave the port to its netdev, or release it:", "manactl release PORT"),
        ),
        origin="mana_ib_create_rc_qp(), mana_ib_create_ud_qp(), mana_ib_modify_qp()",
        see=(
            "rdma-users",
            "EOPNOTSUPP",
        ),
    ),
    Topic(
        name="rdma-debug",
        kind=Kind.MESSAGE,
        title="no fault: what mana_ib did, written by dynamic debugging",
        forms=forms(
            """
            Configured steering vPort <n> log_entries <n>
            Doorbell page allocated <n>
            Skip as this PD is already configured vport
            created dma region <n>
            created dma region for user-mr <n>
            destroy dma region <n>
            destroying wq->rx_object <n>
            mana <any>ind table size <n>
            mana <any>index <n> handle <n>
            mapped I/O pfn <n> page_size <n>, ret <n>
            mdev=<name> id=<n> num_ports=<n>
            num_pages_to_handle <n>, gdma_page_type <n>
            page_sz <n> offset_in_page <n>
            pd_handle <n> pd_id <n>
            mana <any>port <n> ndev <name> mpc <name>
            qp->qp_handle <n> sq id <n> cq id <n>
            rx_hash_function <n> port <n>
            rx_object <n> wq id <n> cq id <n>
            size_dma_region <n> num_pages_total <n>
            start <n>, iova <n> length <n> access_flags <n>
            ucmd sq_buf_addr <n> port <n>
            ucmd wq_buf_addr <n>
            vport handle <n> default_rxobj <n>
            vport handle <name> pdid <name> doorbell_id <name>
            """
        ),
        means=(
            "Each call of a program leaves some lines with handles and sizes. `Skip as this PD is "
            "already configured vport` is a second queue pair of the program that has the vport "
            "already."
        ),
        remedy=(
            Step("To stop it:", "echo module mana_ib -p > /sys/kernel/debug/dynamic_debug/control"),
        ),
        origin="ibdev_dbg() in mana_ib",
        see=("vport-given",),
    ),
)
