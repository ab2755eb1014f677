"""What the kernel's mana driver says of a whole function: Linux 6.12, 6.18 and 7.3."""

from __future__ import annotations

from manactl.explain.errnos import BY_DEVICE
from manactl.explain.topic import Kind, Step, Topic, forms

TOPICS = (
    Topic(
        name="port-probe",
        kind=Kind.MESSAGE,
        title="a port of the function could not be made",
        forms=forms(
            """
            Adapter MTU too small: <n>
            Attach Failed for port <n>
            Failed to detect any vPort
            Failed to probe vPort <n>: <n>
            mana <any>Failed to query config: <n>
            Failed to query info for vPort <n>
            Indirection table size not set for vPort <n>
            Invalid max queues from vPort config
            mana <any>Invalid query result: <n>, <n>
            No net device to remove
            PF reported adapter_mtu of 0, falling back to <n> (jumbo frames disabled)
            Probe Failed for port <n>
            Setting indirection table size to default <n> for vPort <n>
            The number of vPorts changed: <n>-><n>
            Unable to register netdev
            """
        ),
        means=(
            "While the driver bound to the function, came back from a reset or was resumed, a "
            "port of it could not be made: its netdev is missing or unusable, so it can neither "
            "be claimed nor released. With a changed number of vPorts or an odd MTU the device "
            "itself has changed."
        ),
        by_errno=BY_DEVICE,
        check=(
            Step("Which ports there are now:", "manactl status"),
            Step(
                "The lines before it name the request and its status:",
                "dmesg | grep mana | tail -n 30",
            ),
        ),
        remedy=(
            Step(
                "Bind the driver again: new netdevs, and the end of all RDMA users:",
                "echo PCI > /sys/bus/pci/drivers/mana/unbind; "
                "echo PCI > /sys/bus/pci/drivers/mana/bind",
            ),
            Step(
                "If that fails in the same way, stop and start the virtual machine: the host "
                "gives it another device."
            ),
        ),
        origin="mana_probe(), mana_probe_port(), mana_query_device_cfg()",
        see=(
            "device-setup",
            "device-reset",
        ),
    ),
    Topic(
        name="device-setup",
        kind=Kind.MESSAGE,
        title="the driver could not set the function up",
        forms=forms(
            """
            mana <any>mana_<name> failed (error <n>)
            mana <any>DMA set mask failed: <n>
            Doorbell ID <n> out of range
            Doorbell offset <n> exceeds BAR0 size <n>
            Doorbell page size <n> too small (min <n>)
            EQ throttling limit (<n>) > maximum EQE (<n>)
            Error when setting up HWC: <n>
            Error when tearing down HWC: <n>
            Failed to alloc irq_map msi <n> err <n>
            mana <any>Failed to create EQ: <n>
            Failed to create HWC CQ for RQ: <n>
            Failed to create HWC CQ: <n>
            Failed to create HWC EQ for RQ: <n>
            Failed to create HWC RQ: <n>
            Failed to create HWC SQ: <n>
            Failed to create HWC queue size= <n> type= <n> err= <n>
            Failed to deregister device: <n>, <n>
            Failed to detect devices: <n>, <n>
            Failed to enable pci device (err=<n>)
            Failed to establish HWC: <n>
            mana <any>Failed to flush EQ: <n>
            Failed to init inflight_msg_res: <n>
            Failed to initialize HWC: <n>
            Failed to post WQE on HWC RQ: <n>
            Failed to post WQE on HWC SQ: <n>
            Failed to query MSI-X table size: <n>
            Failed to query resource info: <n>, <n>
            mana <any>Failed to register irq: <n>
            Failed to request irq <n> <name>
            Failed to set the hwc timeout <n>
            Failed to setup IRQs for HWC creation: <n>
            Failed to setup remaining IRQs: <n>
            Failed to store irq context for msi <n>: <n>
            Failed to test HWC: <n>
            No free MSI vectors available
            Register IRQ err:<n>, msi:<n> nMSI:<n>
            SHM offset <n> out of range or unaligned (BAR0 size <n>)
            mana <any>SMC operation failed: <n>
            SRIOV SHM offset <n> out of range or unaligned (BAR0 size <n>)
            SRIOV base offset <n> out of range or unaligned (BAR0 size <n>)
            Timeout when setting up HWC: <n>
            Timeout when tearing down HWC
            mana <any>VfVerifyVersionOutput: <n>, status=<n>
            Wrong SMC response <n>, type=<n>, ver=<n>
            gdma probe failed: err = <n>
            gdma_register_device_resp failed: <n>, <n>
            mana <any>test_eq failed: <n>
            test_eq got an event on wrong queue <n> (<n>)
            test_eq timed out on queue <n>
            """
        ),
        means=(
            "Before any port exists the driver opens its command channel to the device, asks for "
            "its limits and takes its interrupts. One of these failed: the function has no ports, "
            "`manactl status` does not list it or reports it in reset, and nothing can be "
            "claimed."
        ),
        by_errno=BY_DEVICE,
        check=(
            Step(
                "The lines before it name the request and its status:",
                "dmesg | grep mana | tail -n 30",
            ),
            Step("Whether the device is there:", "lspci -d 1414:00ba"),
            Step("What else is missing:", "manactl doctor"),
        ),
        remedy=(
            Step("Bind the driver again:", "echo PCI > /sys/bus/pci/drivers/mana/bind"),
            Step(
                "If it fails each time, stop and start the virtual machine: the host gives it "
                "another device."
            ),
        ),
        origin="mana_gd_probe(), mana_gd_setup(), mana_hwc_create_channel()",
        see=(
            "device-silent",
            "in-reset",
        ),
    ),
    Topic(
        name="device-refused",
        kind=Kind.MESSAGE,
        title="the device refused a request of the driver",
        forms=forms(
            """
            Command <n> failed with status: <n>
            Failed to post work req from queue type <n> of size <n> (err=<n>)
            Failed to send mana message: <n>, <n>
            HWC RX: wrong msg_id=<n>
            HWC RX: wrong rx_req_idx=<n>, num_reqs=<n>
            HWC: Failed hw_channel req: <n>
            HWC: Failed to post send WQE: <n>
            HWC: req msg size: <n> > <n>
            Unexpected mana message response: <name>,<name>,<name>,<name>
            hwc_rx: invalid msg_id = <n>
            mana <any>unsuccessful flow control
            wrong msg_size: <n>, buf_len: <n>
            """
        ),
        means=(
            "The device answered a request with a status that is not success, or with something "
            "that the driver does not understand. The line names the request's code or status; "
            "the line after it says what could not be done because of it, and that is the one to "
            "look up."
        ),
        by_errno=BY_DEVICE,
        check=(
            Step(
                "What could not be done:",
                'dmesg | grep -A 3 -e "failed with status" -e "mana message"',
            ),
        ),
        remedy=(Step("Look that line up as well."),),
        origin="mana_hwc_send_request(), mana_send_request()",
        see=(
            "vport-queues",
            "vport-close",
            "device-silent",
        ),
    ),
    Topic(
        name="driver-news",
        kind=Kind.MESSAGE,
        title="no fault: the driver reports what it has done",
        forms=forms(
            """
            mana <any>mana_<name> succeeded
            mana <any>mana_<name> successful
            Auxiliary device added successfully
            Cannot disable SR-IOV while VFs are assigned
            Created DMA region handle <n>
            Failed to query GF stats: <n>
            Failed to query PHY stats: <n>, resp:<n>
            Failed to query link config: <n>
            Limiting MSI-X vectors from <n> to table size <n>
            MANA IRQ indices #<name> will retain the default CPU affinity
            MANA_QUERY_LINK_CONFIG not supported
            MSI sharing mode <n> max queues <n>
            Microsoft Azure Network Adapter protocol version: <n>.<n>.<n>
            Requested num VFs: <n>
            mana <any>Shutdown was called
            gd=<name>, id=<n>, num_ports=<n>, type=<n>, instance=<n>
            mana gdma cleanup successful
            mana gdma remove successful
            mana gdma setup successful
            set the hwc timeout to <n>
            """
        ),
        means=(
            "Written when the function or a port is set up, removed, or asked for its counters, "
            "some of them only with dynamic debugging. Nothing has to be done."
        ),
        origin="mana_gd_probe(), mana_probe(), mana_gd_setup()",
        see=("vport-given",),
    ),
)
