"""What hv_netvsc says, the driver of the interface that stands above a MANA port in Azure."""

from __future__ import annotations

from manactl.explain.topic import Kind, Step, Topic, forms

TOPICS = (
    Topic(
        name="netvsc-vf-joined",
        kind=Kind.MESSAGE,
        title="no fault: a MANA port joined its netvsc interface, or left it",
        forms=forms(
            """
            Moved VF to namespace with: <name>
            VF moved to namespace with: <name>
            VF registering: <name>
            VF slot <n> <name>
            VF unregistering: <name>
            Waiting for the VF association from host
            hv_netvsc <any>joined to <name>
            """
        ),
        means=(
            "hv_netvsc pairs its interface with the MANA port of the same serial number: the port "
            "becomes its fast path, moves into its network namespace, and leaves when the device "
            "is removed, also for servicing by the host. While a raw queue pair has the port the "
            "slow path carries the interface's traffic."
        ),
        check=(
            Step("The pair:", "manactl status -v"),
            Step("Whether packets go through the port:", "ethtool -S NETVSC | grep vf_"),
        ),
        origin="netvsc_register_vf(), netvsc_unregister_vf(), netvsc_send_vf()",
        see=(
            "data-path",
            "device-reset",
        ),
    ),
    Topic(
        name="netvsc-vf-alone",
        kind=Kind.MESSAGE,
        title="a MANA port and its netvsc interface did not come together",
        forms=forms(
            """
            Cannot move to same namespace as <name>: <n>
            Ignore VF_ASSOCIATION msg from the host supporting isolation
            hv_netvsc <any>Invalid vf serial:<name>
            SR-IOV not advertised by guests on the host supporting isolation
            can not register netvsc VF receive handler (err = <n>)
            can not set master device <name> (err = <n>)
            could not move to same namespace as <name>: <n>
            hv_netvsc: vf_setxdp failed
            no PCI slot information
            no netdev found for vf serial:<n>
            unable to change mtu to <n>
            hv_netvsc <any>unable to open: <n>
            hv_netvsc <any>vf_setxdp failed:<n>
            hv_netvsc has not joined it to <name> yet, whose VF it is
            it is the VF of <name>, which hv_netvsc has not joined it to
            """
        ),
        means=(
            "The host announced the port, but hv_netvsc found no device with its serial number, "
            "could not become its master, move it into its own namespace, set its MTU or its XDP "
            "program. Traffic of the interface then takes the slow path through the host; the "
            "port itself may work. manactl knows them by their MAC address all the same, and claims "
            "the port only when they are joined: alone it would be opened again with that."
        ),
        check=(
            Step("Which ports have a netvsc interface:", "manactl status -v"),
            Step("Whether packets go through the port:", "ethtool -S NETVSC | grep vf_"),
            Step("What was said:", "dmesg | grep -e hv_netvsc -e mana | tail -n 30"),
        ),
        remedy=(
            Step(
                "Have the pair made again, by the driver of the MANA function; that makes new "
                "netdevs:",
                "echo PCI > /sys/bus/pci/drivers/mana/unbind; "
                "echo PCI > /sys/bus/pci/drivers/mana/bind",
            ),
            Step(
                "If the port is in another network namespace, move the netvsc interface "
                "there; the port follows. On Linux 7.2 and 7.3 do neither while the interface is "
                "in another one than the first: see netvsc-netns-hang."
            ),
        ),
        origin="netvsc_register_vf(), get_netvsc_byslot(), netvsc_vf_join(), netvsc_prepare_bonding()",
        see=(
            "netvsc-vf-not-opened",
            "data-path",
        ),
    ),
    Topic(
        name="netvsc-netns-hang",
        kind=Kind.MESSAGE,
        title="kernel bug: a VF appeared while its netvsc interface was in another namespace",
        forms=forms(
            """
            netvsc_register_vf<any>
            __dev_change_net_namespace<any>
            """
        ),
        means=(
            "On Linux 7.2 and 7.3 hv_netvsc moves a VF into the network namespace of its interface "
            "while the VF is being registered, and waits for itself with the network lock held: ip "
            "and everything else that configures networks hangs. Binding mana again does it, and so "
            "does host servicing. A claim and a release of a pair do not."
        ),
        check=(Step("Where it hangs:", "dmesg | grep -A 20 netvsc_register_vf"),),
        remedy=(Step("Reboot; then leave netvsc interfaces in the first network namespace."),),
        origin="netvsc_register_vf(), __dev_change_net_namespace() of the kernel",
        see=("netvsc-vf-alone",),
    ),
    Topic(
        name="netvsc-settings",
        kind=Kind.MESSAGE,
        title="a setting of a netvsc interface was refused or could not be restored",
        forms=forms(
            """
            Fail to set RSS parameters:<n>
            Fail to set offload on host side:<n>
            Skip LRO - unsupported with XDP
            XDP: mtu:<n> too large, buf_max:<n>
            XDP: not support LRO
            Increased ring_size to <n> (min allowed)
            hv_netvsc: XDP: mtu too large
            restoring channel setting failed
            hv_netvsc <any>restoring mtu failed
            hv_netvsc <any>restoring ringparam failed
            xdp reg_mem_model fail: <n>
            xdp_rxq_info_reg fail: <n>
            """
        ),
        means=(
            "MTU, rings, channels, XDP or LRO of the interface were to be changed. hv_netvsc "
            "closes and opens its channel for most of them; what could not be restored leaves the "
            "interface without traffic until it is set up again. The MANA port below it has "
            "settings of its own."
        ),
        check=(Step("Whether it is up:", "ip -d link show NETVSC"),),
        remedy=(
            Step("If it is without traffic:", "ip link set NETVSC down; ip link set NETVSC up"),
        ),
        origin="netvsc_change_mtu(), netvsc_set_channels(), netvsc_set_ringparam(), netvsc_xdp_set()",
        see=("port-settings",),
    ),
    Topic(
        name="netvsc-channel",
        kind=Kind.MESSAGE,
        title="the synthetic channel of a netvsc interface: the host answered wrong, or not",
        forms=forms(
            """
            Invalid NVSP version <n> (expected >= <n>) from the host supporting isolation
            Invalid per_pkt_info_len: <n>
            Invalid per_pkt_info_offset: <n>
            hv_netvsc <any>Invalid ppi size: <n>
            Invalid ppi: size <n> ppi_offset <n>
            hv_netvsc <any>Invalid ppi_offset: <n>
            Invalid rndis_msg (buflen: <n>)
            Invalid rndis_msg (buflen: <n>, msg_len: <n>)
            hv_netvsc <any>Invalid transaction ID <name>
            Invalid xfer page pkt, offset too small: <n>
            Invalid xfer page set id - expecting <name> got <name>
            Packet offset:<n> + len:<n> too big
            Packet too big: buflen=<n> recv_section_size=<n>
            Range count is not valid: <n>
            Received send-table offset too big:<n>
            Received wrong send-table size:<n>
            Recv_comp full buf q:<n>, tid:<name>
            Ring buffer not empty after closing rndis
            Unable to complete receive buffer initialization with NetVsp - status <n>
            Unable to complete send buffer initialization with NetVsp - status <n>
            Unable to send packet pages <n> len <n>, ret <n>
            hv_netvsc <any>Unexpected VMBUS completion
            Unknown nvsp packet type received <n>
            Unknown send completion type <n> received
            got rndis message uninitialized
            hv_netvsc: Unable to register netdev
            inband nvsp_message length too small: <n>
            hv_netvsc <any>invalid NDIS objrev <name>
            hv_netvsc <any>invalid NDIS objsize <n>, data size <n>
            hv_netvsc <any>invalid NDIS objtype <n>
            invalid number of allocated sub channel
            invalid nvsp header, length too small: <n>
            invalid recv_section_size <n>
            invalid rndis packet offset: <n>
            invalid rndis pkt, data_buflen too small: <n>
            invalid rndis_indicate_status packet
            invalid send_section_size <n>
            no rndis request found for this response (id <n> res type <n>)
            nvsp_msg length too small: <n>
            nvsp_msg1 length too small: <n>
            nvsp_msg5 length too small: <n>
            nvsp_rndis_pkt_complete error status: <name>
            nvsp_v4_msg length too small: <n>
            nvsp_v5_msg length too small: <n>
            rndis message buffer overflow detected (got <n>, min <n>)...dropping this message
            rndis msg_len too small: <n>
            rndis response buffer overflow detected (size <n> max <n>)
            sub channel allocate send failed: <n>
            sub channel open failed: <n>
            sub channel request failed
            unable to add netvsc device (ret <n>)
            unable to allocate receive buffer of size <n>
            unable to allocate send buffer of size <n>
            unable to close device (ret <n>)
            unable to connect to NetVSP - <n>
            unable to establish receive buffer's gpadl
            unable to establish send buffer's gpadl
            unable to open channel: <n>
            unable to open device (ret <n>)
            unable to send receive buffer's gpadl to netvsp
            unable to send revoke receive buffer to netvsp
            unable to send revoke send buffer to netvsp
            unable to send send buffer's gpadl to netvsp
            unable to teardown receive buffer's gpadl
            unable to teardown send buffer's gpadl
            unhandled packet type <n>, tid <name>
            unhandled rndis message (type <n> len <n>)
            """
        ),
        means=(
            "This is the slow path between hv_netvsc and the host, not the MANA port: a message "
            "of the host was malformed or not expected, a buffer or subchannel could not be made, "
            "or the channel could not be opened or closed. A claimed port depends on it: the "
            "interface above it has no other path meanwhile."
        ),
        check=(
            Step("Whether the interface still has traffic:", "ethtool -S NETVSC"),
            Step("What was said:", "dmesg | grep hv_netvsc | tail -n 30"),
        ),
        remedy=(
            Step(
                "If it has none, release claimed ports below it first, then set it down and up:",
                "manactl release --all",
            ),
            Step("If it comes again after a reboot, it is a matter for the host."),
        ),
        origin="netvsc.c and rndis_filter.c of hv_netvsc",
        see=("data-path",),
    ),
    Topic(
        name="netvsc-news",
        kind=Kind.MESSAGE,
        title="no fault: hv_netvsc reports what it does",
        forms=forms(
            """
            Device MAC <name> link state <name>
            Negotiated NVSP version:<name>
            hv_netvsc <any>No net device to remove
            RNDIS_MSG_INDICATE (len <n>, status <n>, buf len <n>, buf offset <n>)
            RNDIS_MSG_INIT_C (len <n>, id <n>, status <n>, major <n>, minor <n>, device flags <n>, max xfer size <n>, max pkts <n>, pkt aligned <n>)
            RNDIS_MSG_PACKET (len <n>, data offset <n> data len <n>, # oob <n>, oob offset <n>, oob len <n>, pkt offset <n>, pkt len <n>
            RNDIS_MSG_QUERY_C (len <n>, id <n>, status <n>, buf len <n>, buf offset <n>)
            RNDIS_MSG_SET_C (len <n>, id <n>, status <n>)
            Receive sections: <n> sub_allocs: size <n> count: <n>
            Send section size: <n>, Section count:<n>
            hv_netvsc channel opened successfully
            net device safe to remove
            netvsc msg_enable: <n>
            """
        ),
        means=(
            "Written when the interface is made, opened or removed, some lines only with its "
            "message level raised (`ethtool -s NETVSC msglvl`)."
        ),
        origin="hv_netvsc",
        see=("netvsc-vf-joined",),
    ),
)
