"""What the kernel's mana driver says of a port, beside what kernel.py explains: Linux 6.12, 6.18, 7.3."""

from __future__ import annotations

from manactl.explain.errnos import BY_DEVICE
from manactl.explain.topic import Kind, Step, Topic, forms

TOPICS = (
    Topic(
        name="vport-queues",
        kind=Kind.MESSAGE,
        title="the port has its vport, but its queues could not be made",
        forms=forms(
            """
            Failed to configure RSS table: <n>
            Failed to configure vPort RX: <n>
            Failed to create <n> TX queues, <n>
            Failed to create EQ <n> : <n>
            Failed to create EQ on vPort <n>: <n>
            Failed to create EQs: <n>
            Failed to create RXQ: err = <n>
            Failed to create TXQ on vPort <n>: <n>
            Failed to create WQ object: <n>
            Failed to create queue type <n> of size <n>, err: <n>
            Failed to create queue type <n> of size: <n>, err: <n>
            mana <any>Failed to create queue: <n>, <n>
            Failed to create rxq <n> : <n>
            Failed to register filter: <n>
            Failed to register hw vPort: <n>
            Got an invalid WQ object handle
            No RX pre-allocated bufs
            mana rxbufs_pre exists
            netif_set_real_num_rx_queues () failed for ndev with num_queues <n> : <n>
            netif_set_real_num_tx_queues () failed for ndev with num_queues <n> : <n>
            rxbpre_alloc_size mismatch: <n>: <n>
            rxbpre_datasize mismatch: <n>: <n>
            rxbpre_headroom mismatch: <n>: <n>
            vPort RX configuration failed: <n>
            """
        ),
        means=(
            "The port is being set up, or gets other queues, and a queue, its interrupt, the "
            "filter of its MAC address or the RSS table could not be made. Setting the netdev up "
            "fails with this number and the driver frees what it had; the vport's owner is not "
            "the cause. Early drivers may keep the vport counted as taken after it."
        ),
        by_errno=BY_DEVICE,
        check=(
            Step(
                "The lines before it name the request and its status:",
                "dmesg | grep mana | tail -n 30",
            ),
            Step("What status reports of the port:", "manactl status -v PORT"),
        ),
        remedy=(
            Step("Try once more:", "ip link set PORT up"),
            Step(
                "With 12, ask for smaller queues, but never while a raw queue pair has the port:",
                "ethtool -G PORT rx 256 tx 256",
            ),
            Step(
                "If it then reads EBUSY although nobody has the port, see:",
                "manactl explain kernel-bug",
            ),
        ),
        origin="mana_alloc_queues() and what it calls",
        see=(
            "open-refused",
            "queue-memory",
            "kernel-bug",
        ),
    ),
    Topic(
        name="queue-memory",
        kind=Kind.MESSAGE,
        title="the driver did not get the memory for queues or buffers",
        forms=forms(
            """
            Create page pool err:<n>
            Failed to allocate DMA buffer size: <n>, err <n>
            Failed to allocate DMA buffer: <n>
            Failed to allocate per port queue reset workqueue
            Failed to create DMA region of length: <n>, page_type: <n>, status: <n>, err: <n>
            Failed to create DMA region: <n>
            Failed to pre-allocate RX buffers for <n> queues
            GDMA queue type: <n>, size: <n>, gdma memory allocation err: <n>
            GDMA queue type: <n>, size: <n>, memory allocation err: <n>
            Insufficient memory for new MTU
            Insufficient memory for new allocations
            Insufficient memory for reset post tx stall detection
            contiguous <n>-byte DMA alloc failed; using <n> scattered pages
            XDP: Insufficient memory for tx/rx re-config
            """
        ),
        means=(
            "Memory for a port's queues or receive buffers could not be allocated: the machine is "
            "short of memory, or of memory in one piece, for the sizes that were asked for "
            "(queues, MTU, XDP). A change of the MTU, the rings or the XDP program is refused, "
            "and the port stays as it was."
        ),
        by_errno=BY_DEVICE,
        check=(Step("How much there is, and in which pieces:", "free -m; cat /proc/buddyinfo"),),
        remedy=(
            Step(
                "Fewer channels or shorter rings need less:",
                "ethtool -L PORT combined 1; ethtool -G PORT rx 256 tx 256",
            ),
            Step("Not while a raw queue pair has the port; see:", "manactl explain mtu-bug"),
        ),
        origin="mana_gd_alloc_memory(), mana_pre_alloc_rxbufs(), mana_create_page_pool()",
        see=(
            "ENOMEM",
            "mtu-bug",
        ),
    ),
    Topic(
        name="vport-close",
        kind=Kind.MESSAGE,
        title="the driver could not free a part of a port in the device",
        forms=forms(
            """
            mana_<name> failed to deallocate queues: <n>
            Can't destroy unknown queue: type=<n>
            Failed to deregister filter: <n>, <n>
            Failed to deregister hw vPort: <n>, <n>
            Failed to destroy DMA region: <n>, <n>
            Failed to destroy WQ object: <n>
            Failed to detach vPort <n>: <n>
            Failed to disable queue: <n>, <n>
            Failed to disable vPort: <n>
            Failed to fence RQ <n>: <n>
            Failed to fence RQ <n>: timed out
            Failed to unregister filter: <n>
            Failed to unregister hw vPort: <n>
            flr failed <n> with <n> pkts pending in txq <n>
            """
        ),
        means=(
            "The port is being set down or freed, and the device did not confirm that one of its "
            "objects is gone: a queue, a filter, the vport. The driver goes on as if it were. If "
            "the device answers nothing any more, a reset follows. A claim proves afterwards by a "
            "raw queue pair of its own that the vport is free."
        ),
        by_errno=BY_DEVICE,
        check=(
            Step(
                "The lines before it name the request and its status:",
                "dmesg | grep mana | tail -n 30",
            ),
            Step("Whether the vport is free now:", "manactl status -v PORT"),
        ),
        remedy=(
            Step("Nothing, when status reports the port free or owned as it should be."),
            Step("If the vport stays taken without an owner, see:", "manactl explain kernel-bug"),
        ),
        origin="mana_dealloc_queues() and what it calls",
        see=(
            "device-silent",
            "kernel-bug",
        ),
    ),
    Topic(
        name="packet-errors",
        kind=Kind.MESSAGE,
        title="single packets were dropped, or a queue of the port has stalled",
        forms=forms(
            """
            mana <any>Dropped a truncated packet
            Dropped oversized RX packet: len=<n>, datasize=<n>
            EQ <n>: overflow detected
            Failed to map skb of size <n> to DMA
            Failed to post TX OOB: <n>
            RX coalescing is unsupported
            RX pkt len=0, rq=<n>, cq=<n>, rxobj=<n>
            TX nonlinear head: hs:<n>, skb_hlen:<n>
            TX timeout on queue <n>: reset skipped (tx_timeout_skip_reset enabled)
            TX: CQE error <n>
            TX: unknown CQE type <n>
            Unknown RX CQE type = <n>
            """
        ),
        means=(
            "The netdev of the port works; one packet could not be sent or received, or a "
            "completion was not understood. Several a second, or a transmit timeout, mean that a "
            "queue is lost: the driver then resets the port's queues or the device. It has "
            "nothing to do with claims: while a port is claimed its netdev has no queues."
        ),
        check=(Step("Whether it goes on:", "ethtool -S PORT | grep -e err -e drop; dmesg -w"),),
        remedy=(
            Step(
                "When the port no longer sends, set it down and up, unless it is claimed:",
                "ip link set PORT down; ip link set PORT up",
            ),
        ),
        origin="mana_start_xmit(), mana_poll_rx_cq(), mana_poll_tx_cq(), mana_tx_timeout()",
        see=(
            "device-reset",
            "dpdk-mana-packets",
        ),
    ),
    Topic(
        name="port-settings",
        kind=Kind.MESSAGE,
        title="a setting of the port was refused, or could not be applied",
        forms=forms(
            """
            Change CQE coalescing failed: <n>
            Failed to set bandwidth clamp for speed <n>, err = <n>
            Failed to set bandwidth clamp: <n>, <n>
            Interrupt Moderation is not supported by HW
            MANA_SET_BW_CLAMP not supported
            mana <any>QoS is unconfigured
            Using nearest power of 2 values for Txq:<n> Rxq:<n>
            XDP: mtu:<n> too large, mtu_max:<n>
            coalesce frames must be <= <n>
            coalesce usecs must be <= <n>
            Cannot create multiple shapers
            Please use multiples of 100Mbps for bandwidth
            XDP: Re-config failed at attach
            XDP: Re-config failed at detach
            mana: XDP: mtu too large
            net shaper scope should be netdev
            mana_attach failed at xdp set: <n>
            mana_attach failed: <n>
            mana_detach failed at xdp set: <n>
            mana_detach failed: <n>
            rx-frames must be 1 or <n>, got <n>
            rx:<n> less than the min:<n>
            tx:<n> less than the min:<n>
            """
        ),
        means=(
            "MTU, rings, channels, coalescing, XDP or a bandwidth limit were to be changed. The "
            "driver takes the port down and up again for most of them: where `mana_attach` "
            "failed, the port is down now although nobody claimed it. Do not change any of these "
            "while a raw queue pair has the port."
        ),
        by_errno=BY_DEVICE,
        check=(
            Step(
                "What it is set to:",
                "ethtool -g PORT; ethtool -l PORT; ethtool -c PORT; ip -d link show PORT",
            ),
            Step("Whether the port is up as it should be:", "manactl status PORT"),
        ),
        remedy=(
            Step("If it was left down:", "ip link set PORT up"),
            Step("If it is claimed, first:", "manactl release PORT"),
        ),
        origin="mana_change_mtu(), mana_set_ringparam(), mana_set_channels(), mana_set_coalesce(), mana_xdp_set(), mana_shaper_set()",
        see=(
            "mtu-bug",
            "ethtool-busy",
        ),
    ),
)
