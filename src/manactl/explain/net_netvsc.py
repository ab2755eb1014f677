"""What DPDK says of a netvsc interface: its net_netvsc driver and the vmbus bus (24.11)."""

from __future__ import annotations

from manactl.explain.topic import Kind, Step, Topic, forms

TOPICS = (
    Topic(
        name="dpdk-netvsc-vf",
        kind=Kind.MESSAGE,
        title="no fault: DPDK took the MANA port of a netvsc device, or gave it back",
        forms=forms(
            """
            HN_DRIVER: <any><name>: retry count <n>
            <name>: waiting for <name> (retry <n>, <n>s elapsed)
            Attach VF device <n>
            Device notification type=<n> device_name=<name>
            Found matching MAC address, adding device <name> network name <name>
            Removing VF portid <n>
            Secondary releasing VF port <n>
            Start to remove port <n>
            Starting VF port <n>
            VF already attached
            VF already started on hot add
            VF serial <n> <name> port <n>
            configuring VF port <n>
            found matching VF port <n>
            send set datapath failed: <n>
            set datapath <name>
            Adding VF device
            """
        ),
        means=(
            "net_netvsc has found the DPDK port with the MAC of its VMBus device, and configures "
            "and starts it together with its own: traffic goes through the MANA port from `set "
            "datapath VF` on. The number is the number of the DPDK port, which is no RDMA port "
            "number."
        ),
        check=(Step("Who has the vport now:", "manactl status -v"),),
        origin="hn_vf_attach(), hn_vf_add(), hn_vf_remove() of DPDK's net_netvsc",
        see=(
            "dpdk-netvsc-vf-failed",
            "raw-qp",
        ),
    ),
    Topic(
        name="dpdk-netvsc-vf-failed",
        kind=Kind.MESSAGE,
        title="DPDK did not get the MANA port of a netvsc device",
        prefixes=("hn_vf_", "netvsc_hotadd_", "netvsc_hotplug_"),
        forms=forms(
            """
            <name>: can't open directory <name>, retrying in 1 second
            <name>: no matching MAC found after <n> retries, giving up
            <name>: no matching MAC found in <name>, retrying in 1 second (mac_retry <n>/<n>)
            Can not find owner for port <n>
            Can set owner for port <n>
            Couldn't find port for VF
            port <n> VF probe failed <n>
            VF probe failed <n>
            VF configure failed: <n>
            Failed to attach VF device
            Failed to add PCI device <name> (ret=<n>)
            Failed to add VF: <n>
            Failed to allocate hotadd context
            Failed to configure VF port <n>
            Failed to configure VF queues port <n>
            Failed to create socket errno <n>
            Failed to send SIOCGIFHWADDR for device <name>, interface may be renaming, retrying
            Failed to set VF MTU
            Failed to start device event monitoring
            Failed to stop device on port <n>
            Failed to switch to VF: <n>
            Failed to switch to synthetic: <n>
            Failed to unset owner for port <n>
            IB device not ready for <name>, restarting probe in 1 second
            PCI device <name> no longer exists, giving up after <n> retries
            Port <n> already owned by other device <name>
            Registering callback failed for vf port <n> ret <n>
            VF configuration failed: <n>
            HN_DRIVER: <any>VF path not active
            VF port <n> not present in secondary, skipping
            failed to register device event callback
            failed to request secondary VF remove
            invalid vf association NVS
            port <n> failed to request VF remove
            rte_eth_dev_callback_unregister failed ret=<n>
            rte_eth_dev_close failed port_id=<n> ret=<n>
            rte_eth_dev_owner_unset failed ret=<n>
            rte_eth_dev_start failed ret=<n>
            rte_eth_dev_stop failed port_id=<n> ret=<n>
            rte_eth_rx_queue_info_get failed ret=<n>
            rte_eth_rx_queue_setup failed ret=<n>
            rte_eth_tx_queue_info_get failed ret=<n>
            rte_eth_tx_queue_setup failed ret=<n>
            """
        ),
        means=(
            "net_netvsc could not find, own, configure or start the DPDK port of the MANA port. "
            "The packets go the slow path, or none go. The MANA port must be probed in the same "
            "program (-a PCI,mac=...), be free, and be owned by no other DPDK port. After a hot "
            "add it waits for the netdev and the RDMA device of the port, which take some "
            "seconds."
        ),
        check=(
            Step("The PCI address and the permanent MAC of each port:", "manactl status -v"),
            Step("Who has the vport:", "manactl status -v PORT"),
        ),
        remedy=(
            Step("Give the program both devices, the VMBus device and -a PCI,mac=PERMANENT-MAC."),
            Step(
                "If the owner is ethernet, hand the port over first:", "manactl claim --raw-qp PORT"
            ),
            Step("If the start failed, look up the line of MANA_DRIVER before it."),
        ),
        origin="hn_vf_attach(), hn_vf_configure(), hn_vf_add(), netvsc_hotadd_callback() of DPDK's net_netvsc",
        see=(
            "dpdk-tx-queues",
            "dpdk-no-port",
            "dpdk-netvsc-vf",
        ),
    ),
    Topic(
        name="dpdk-netvsc-channel",
        kind=Kind.MESSAGE,
        title="DPDK and the host do not understand each other on the synthetic channel",
        prefixes=("hn_nvs_", "hn_rndis_", "hn_chim_", "eth_hn_probe", "vmbus_uio_"),
        forms=forms(
            """
            Could not get MTU via RNDIS
            Could not re-map vmbus device
            Could not re-open vmbus channel
            Invalid chimney index <n>
            HN_DRIVER: <any>Invalid request id
            Invalid subchannel offermsg channel <n>
            RNDIS MTU is <n>
            RNDIS comp rid mismatch <n>, expect <n>
            RNDIS ctrl send failed: <n>
            RNDIS init failed: status <n>
            RNDIS query <n> failed: status <n>
            RNDIS query <n>, no data
            RNDIS query invalid comp ib off/len, <n>/<n>
            RNDIS request <n> greater than page size
            RNDIS request crosses page boundary
            RNDIS response exceeds buffer
            RNDIS response id zero
            RNDIS response timed out
            RNDIS send request can not get iova
            RNDIS set <n> failed: status <n>
            HN_DRIVER: <any>RXBUF ack failed
            HN_DRIVER: <any>Request already pending
            HN_DRIVER: <any>discard packet type <n>
            exec RNDIS set <n> failed
            exec nvs chim conn failed
            exec nvs rxbuf conn failed: <n>
            fixup RNDIS aggpkt align: <n> -> <n>
            got notify, nvs type <n>
            HN_DRIVER: <any>hwcaps query failed: <n>
            HN_DRIVER: <any>invalid NDIS objrev <n>
            HN_DRIVER: <any>invalid NDIS objsize <n>
            HN_DRIVER: <any>invalid NDIS objtype <n>
            invalid NVS resp len <n> (expect <n>)
            invalid chimney sending buffer section size: <n>
            HN_DRIVER: <any>link status <n>
            missing RNDIS header <n>
            no NVS compatible version available
            no memory for RNDIS init
            nvs chim conn failed: <name>
            nvs rxbuf conn failed: <name>
            nvs rxbuf response num sections <n> != 1
            open <n> subchannels
            open subchannel failed: <n>
            port <n>:<n> complete tx <n> failed status <n>
            HN_DRIVER: <any>port <n>:<n> send failed: <n>
            received id <n> pending id <n>
            HN_DRIVER: <any>recv response failed: <n>
            response missing NVS header
            send nvs chim disconn failed: <n>
            send nvs ndis conf failed: <n>
            send nvs ndis init failed: <n>
            send nvs rxbuf disconn failed: <n>
            HN_DRIVER: <any>send request failed: <n>
            set RX filter <n> done
            set RX filter <n> failed: <n>
            HN_DRIVER: <any>sg send failed: <n>
            subchannel configuration failed
            truncated RNDIS response <n>
            unexpected NVS resp <n>, expect <n>
            unexpected RNDIS message (type <n> len <n>)
            unexpected RNDIS response complete <n> expect <n>
            unexpected send completion type <n>
            unknown RNDIS indication: <n>
            HN_DRIVER: <any>unknown chan pkt <n>
            HN_DRIVER: <any>vlan insert failed
            <n> subchans are allocated, requested <n>
            NVS version <n>, NDIS version <n>.<n>
            RNDIS halt done
            RNDIS ver <n>.<n>, aggpkt size <n>, aggpkt cnt <n>, aggpkt align <n>
            HN_INIT: <any>device init failed
            failed to init chim bitmap
            nvs init failed for ver <n>
            nvs subch alloc failed: <n>
            HN_INIT: <any>version <n> error <n>
            vmbus ring buffer error: <n>
            """
        ),
        means=(
            "net_netvsc speaks to the host by VMBus, NVS and RNDIS. A request was refused, "
            "answered wrong or not at all, or a packet could not be sent there. The MANA port is "
            "another path: it may work all the same."
        ),
        check=(
            Step(
                "Whether the VMBus device is bound to uio_hv_generic:",
                "ls /sys/bus/vmbus/drivers/uio_hv_generic",
            ),
        ),
        remedy=(
            Step(
                "Start the program again. If it fails in the same way, give the device back "
                "to hv_netvsc; its id is in /sys/bus/vmbus/devices:",
                "echo DEVICE-ID > /sys/bus/vmbus/drivers/uio_hv_generic/unbind; "
                "echo DEVICE-ID > /sys/bus/vmbus/drivers/hv_netvsc/bind",
            ),
        ),
        origin="hn_nvs.c, hn_rndis.c and hn_rxtx.c of DPDK's net_netvsc",
        see=("dpdk-vmbus",),
    ),
    Topic(
        name="dpdk-netvsc-settings",
        kind=Kind.MESSAGE,
        title="a setting of a netvsc device in DPDK: refused, or not possible",
        forms=forms(
            """
            # of RX rings (<n>) > RSS indirect table size <n>
            HN_DRIVER: <any>0 RX rings
            Cannot allocate netvsc shared data
            Cannot attach netvsc shared data
            Could not allocate rxbuf info for queue <n>
            HN_DRIVER: <any>Failed to register primary handler <n> <n>
            Hash lookup table size does not match NDIS
            HN_DRIVER: <any>MAC address <name>
            HN_DRIVER: <any>MP INIT PRIMARY
            HN_DRIVER: <any>MP INIT SECONDARY
            RSS config num queues=<n> failed: <n>
            RSS distributing traffic to invalid Rx queue
            RSS indirect table size is not power-of-2 <n>
            HN_DRIVER: <any>RSS not supported on this host
            Restoring original MTU failed for VF
            Restoring original MTU failed for netvsc
            Unknown primary MP type <n>
            can not allocate driver data
            can not allocate rte ethdev
            can not attach secondary
            connect rxbuff va=<name> gpad=<n>
            connect send buf va=<name> gpad=<n>
            could not allocate rxbuf info
            devargs parsing failed ret=<n>
            event buffer expansion (need <n>)
            host notify of transmit indirection table
            HN_DRIVER: <any>initial RSS config failed
            HN_DRIVER: <any>invalid parameter <name>=<name>
            HN_DRIVER: <any>invalid parameters
            HN_DRIVER: <any>mempool <name> create failed: <n>
            new sub channel <n>
            offload config failed
            offload configure failed
            offload tx:<name> rx:<name> not supported by this version
            port <n> not all secondaries responded type <n>
            HN_DRIVER: <any>port <n> request failed on secondary <n>
            receive buffer size <n> count <n>
            reta reconfig failed
            HN_DRIVER: <any>rss disable failed
            rss reconfig failed (RSS disabled)
            rx copy break set to <n>
            rx extmbuf enable set to <n>
            send buffer <n> section size:<n>, count:<n>
            HN_DRIVER: <any>set latency <n> usec
            too many RSS indirect table entries <n>
            tx copy break set to <n>
            unsupported RX offload: <n>
            unsupported TX offload: <n>
            Device must be stopped before changing MTU
            HN_INIT: <any>>>
            HN_INIT: <any>Can not get owner id
            Failed to allocate memory store MAC addresses
            HN_INIT: <any>Port <n> is <name>
            RX rings <n> indirect <n> caps <n>
            TX descriptor pool <name> n=<n> size=<n>
            HN_INIT: <any>VMBus max channels <n>
            HN_INIT: <any>device args <name> <name>
            failed to allocate bitmap size <n>
            tx_free_thresh must be less than the number of TX entries minus 3(<n>). (tx_free_thresh=<n> port=<n> queue=<n>)
            """
        ),
        means=(
            "The number of queues, RSS, offloads, MTU or a parameter of the device does not fit, "
            "or there was no memory for its pools. The MANA port has settings of its own, and "
            "limits of its own."
        ),
        check=(Step("What the device offers: testpmd's `show port info N`."),),
        remedy=(Step("Start with one queue and no offloads (--txq=1 --rxq=1), then add."),),
        origin="hn_ethdev.c of DPDK's net_netvsc",
        see=("dpdk-netvsc-channel",),
    ),
    Topic(
        name="dpdk-vmbus",
        kind=Kind.MESSAGE,
        title="DPDK cannot use a VMBus device",
        forms=forms(
            """
            VMBUS_BUS:
            """
        ),
        means=(
            "The bus finds the device in /sys/bus/vmbus/devices and maps it by its uio node. That "
            "needs the device bound to uio_hv_generic, whose id was added by new_id, and root. A "
            "MANA port without a netvsc device in the program needs none of this."
        ),
        check=(
            Step("What is bound there:", "ls -l /sys/bus/vmbus/drivers/uio_hv_generic /dev/uio*"),
            Step("What it may take next:", "manactl doctor"),
        ),
        remedy=(
            Step("To use the MANA port alone, name it alone: -a PCI,mac=PERMANENT-MAC."),
            Step(
                "To use the netvsc device, give it to uio_hv_generic; release makes its interface again:",
                "manactl claim --raw-qp PORT --synthetic uio",
            ),
        ),
        origin="DPDK's bus_vmbus",
        see=(
            "dpdk-netvsc-channel",
            "dpdk-device-unusable",
        ),
    ),
)
