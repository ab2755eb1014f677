"""What DPDK's EAL and PCI bus say before or beside a driver (24.11, and the words of older ones)."""

from __future__ import annotations

from manactl.explain.topic import Kind, Step, Topic, forms

TOPICS = (
    Topic(
        name="dpdk-device-unusable",
        kind=Kind.MESSAGE,
        title="DPDK found the device that was named, but no driver of the program took it",
        forms=forms(
            """
            Requested device <name> cannot be used
            Cannot find pci device
            EAL: Cannot find device <n>:
            Error while adding device
            Cannot find resource for device
            Driver cannot attach the device
            Cannot find bus for device
            Cannot find bus (<any>)
            Cannot find device (<any>)
            Could not find bus "<any>"
            Bus (<name>) probe failed
            Cannot probe devices
            EAL: FATAL: Cannot probe devices
            Bus <name> not supported
            Scan for (<name>) bus failed
            Cannot scan the buses for devices
            EAL: FATAL: Cannot scan the buses for devices
            Not managed by a supported kernel driver, skipped
            Function plug not supported by bus
            Failed to attach device on primary process
            Failed to attach device on secondary process
            Failed to hotplug add device
            Cannot find plugged device
            Device is blocked, not initializing
            failed to parse device "<any>"
            Unable to parse device '<any>'
            Either bus or class must be specified
            No PCI address specified using
            PCI address invalid: <any>
            Unknown driver type for
            Failed to attach port <name>
            Attach port failed
            Failed to probe
            Cannot plug device
            attach of device failed
            Error attaching device '<any>' to DPDK
            devargs name not found
            devargs name too long
            devargs truncated
            not enough memory to parse device
            Failed to send hotplug add request
            Failed to send hotplug request
            Failed to rollback device attach
            """
        ),
        means=(
            "`Requested device ... cannot be used` is the last line of a failed probe: the "
            "driver's own lines before it have the cause. Without any, the program was built "
            "without net_mana, its plug-in is not loaded, or user space sees no RDMA device. A "
            "MANA function stays with the kernel's mana driver: never bind it to vfio-pci or uio."
        ),
        check=(
            Step("Whether net_mana is in the program:", "dpdk-pmdinfo.py PROGRAM"),
            Step("Whether user space sees the RDMA devices:", "ibv_devices"),
            Step("What is missing, and what it is bound to:", "manactl doctor"),
        ),
        remedy=(
            Step("Load what is missing:", "modprobe -a mana_ib ib_uverbs"),
            Step(
                "Load the plug-in: -d librte_net_mana.so, or install it:",
                "apt install librte-net-mana25  # Debian 13; else with dpdk",
            ),
            Step("Then name the port as status prints it: -a PCI,mac=PERMANENT-MAC."),
        ),
        origin="local_dev_probe() of EAL, rte_pci_probe() of the PCI bus",
        see=(
            "dpdk-no-port",
            "dpdk-mana-probe",
            "ibv-no-driver",
        ),
    ),
    Topic(
        name="dpdk-device-gone",
        kind=Kind.MESSAGE,
        title="a device was removed under a running DPDK program, or could not be given back",
        forms=forms(
            """
            Driver cannot detach the device
            Can not handle hot-unplug for device
            Failed to handle hot-unplug for device
            Failed to detach device on
            Failed to hotplug remove device
            Device is not probed
            Cannot find device (<any>) on bus
            Failed to handle SIGBUS
            uevent socket connection is broken
            Function unplug not supported by bus
            Failed to rollback device detach
            Failed to send device detach request
            Success to handle SIGBUS for hot-unplug
            Failed to bind uevent socket
            """
        ),
        means=(
            "The host services the device, somebody unbound its driver, or the program detached "
            "it. The raw queue pair of a MANA port ends with the device; the port's netdev comes "
            "back with the driver, and a claim is restored by its release."
        ),
        check=(
            Step("What happened to the device:", "dmesg | grep -e mana -e pci | tail -n 30"),
            Step("Which ports there are now:", "manactl status"),
        ),
        remedy=(Step("End the program, then:", "manactl release --wait 60 PORT"),),
        origin="rte_dev_remove(), dev_uev_handler() of EAL",
        see=(
            "device-reset",
            "drift",
        ),
    ),
    Topic(
        name="dpdk-memory",
        kind=Kind.MESSAGE,
        title="DPDK could not set up its memory: huge pages, or the limit on locked memory",
        forms=forms(
            """
            Cannot init memory
            EAL: FATAL: Cannot init memory
            No available <n> kB hugepages reported
            No free hugepages reported in <name>
            couldn't allocate memory
            <n> hugepages of size <n> reserved, but no mounted hugetlbfs found
            Failed to lock hugepage directory
            Cannot preallocate VA space for hugepage memory
            Couldn't get fd on hugepage file
            SIGBUS: Cannot mmap more hugepages
            <n> not <n> hugepages of size <n> MB allocated
            Unable to open hugepage directory
            Cannot init malloc heap
            EAL: FATAL: Cannot init malloc heap
            Cannot init memzone
            EAL: FATAL: Cannot init memzone
            couldn't allocate memory due to IOVA exceeding limits
            Not enough memory available
            mbuf pool init failed
            Creation of mbuf pool
            Failed to find NUMA socket for
            Couldn't remap hugepage files
            Cannot attach to memzone list
            Cannot attach to primary process memseg lists
            Could not store hugepage directory
            Error while walking hugepage dir
            Unable to read hugepage directory
            Unlinking existing hugepage files is prohibited
            Cannot open directory <any> to read system hugepage info
            Cannot allocate memory for packet pool
            mmap failed: Cannot allocate memory
            """
        ),
        means=(
            "The EAL reserves huge pages and pins them before it looks at any port; no port was "
            "touched. In a container huge pages are a resource of their own, and hugetlbfs has to "
            "be mounted there."
        ),
        check=(
            Step(
                "How many huge pages there are, and who mounts them:",
                "grep Huge /proc/meminfo; findmnt -t hugetlbfs",
            ),
            Step(
                "With the limit on locked memory, and files that dead programs left:",
                "manactl doctor",
            ),
        ),
        remedy=(
            Step("Reserve some (1024 of 2 MB):", "sysctl -w vm.nr_hugepages=1024"),
            Step("Mount hugetlbfs:", "mount -t hugetlbfs none /dev/hugepages"),
            Step("For a container: give it hugepages-2Mi and an emptyDir of medium HugePages."),
            Step("Or, for a trial only, start the program with --no-huge -m 512."),
        ),
        origin="rte_eal_memory_init() of DPDK",
        see=(
            "dpdk-hugepages",
            "ENOMEM",
        ),
    ),
    Topic(
        name="dpdk-iova",
        kind=Kind.MESSAGE,
        title="DPDK and a device want addresses of different kinds (IOVA)",
        forms=forms(
            """
            Expecting '<name>' IOVA mode but current mode is
            Some devices want 'VA' but
            The devices that want 'VA' won't initialize
            Some buses want 'VA' but
            Cannot use IOVA as 'PA'
            EAL: FATAL: Cannot use IOVA as 'PA'
            Unsupported IOVA mode
            Physical addresses are unavailable, selecting IOVA as VA
            cannot open /proc/self/pagemap
            IOMMU is not available, selecting IOVA as PA
            not all devices may be able to initialize
            not all buses may be able to initialize
            """
        ),
        means=(
            "MANA needs IOVA as VA, since the kernel pins and maps the memory of its queues. "
            "Another device, an option or a missing IOMMU made the EAL choose PA, or the device "
            "was left out for it."
        ),
        remedy=(
            Step("Start the program with --iova-mode=va, and give it no device that needs PA."),
        ),
        origin="rte_eal_init() of DPDK, rte_pci_probe_one_driver() of the PCI bus",
        see=("dpdk-device-unusable",),
    ),
    Topic(
        name="dpdk-lock",
        kind=Kind.MESSAGE,
        title="another DPDK program runs with the same file prefix",
        forms=forms(
            """
            Cannot create lock on '<any>'. Is another primary process running
            Cannot init config
            EAL: FATAL: Cannot init config
            Primary and secondary process DPDK version mismatch
            Primary process refused secondary attachment
            Cannot create runtime directory
            No DPDK runtime directory created
            Unable to open runtime directory
            Cannot clear runtime directory
            EAL: FATAL: Cannot clear runtime directory
            Error creating DPDK runtime path name
            Error creating prefix-specific runtime path name
            Cannot open '<any>' for rte_mem_config
            Cannot mmap memory for rte_config
            failed to init mp channel
            EAL: FATAL: failed to init mp channel
            failed to register mp callback for hotplug
            EAL: FATAL: failed to register mp callback for hotplug
            Could not map memory from primary process
            Unable to lock runtime directory
            Unable to read runtime directory
            Error while clearing runtime dir
            Cannot resize '<any>' for rte_mem_config
            """
        ),
        means=(
            "A primary process locks its run-time directory below /run/dpdk. A second one with "
            "the same prefix is refused before it has looked at any port; a secondary one needs a "
            "primary of the same version that runs."
        ),
        check=(
            Step("Which programs have the RDMA devices open:", "manactl status -v"),
            Step("The directories and their files:", "ls -l /run/dpdk/ /run/dpdk/*"),
        ),
        remedy=(
            Step(
                "Give each program a prefix and ports of its own: --file-prefix=NAME -a "
                "PCI,mac=PERMANENT-MAC."
            ),
            Step("Without root, set XDG_RUNTIME_DIR to a directory that may be written."),
        ),
        origin="rte_eal_config_create() of DPDK",
        see=(
            "dpdk-mana-secondary",
            "dpdk-hugepages",
        ),
    ),
    Topic(
        name="dpdk-init",
        kind=Kind.MESSAGE,
        title="DPDK stopped before it looked at any device",
        forms=forms(
            """
            EAL: FATAL:
            Invalid 'command line' arguments
            Invalid EAL arguments
            Cannot detect lcores
            Cannot create lcore thread
            invalid coremask
            invalid core list syntax
            invalid parameter for --<name>
            invalid parameters for --<name>
            eal_parse_args failed
            unsupported cpu type
            Cannot init plugins
            No lcore available
            No detected lcore is enabled
            core <n> unavailable
            Cannot set affinity
            Cannot init trace
            Cannot init alarm
            Cannot init VFIO
            already called initialization
            Cannot init interrupt-handling thread
            invalid log arguments
            Cannot init tail queues for objects
            Cannot init pthread attributes
            Cannot set pthread stack attributes
            Cannot allocate worker lcore stack memory
            failed to open shared lib
            Error with EAL initialization
            Cannot init EAL: <any>
            EAL: Cannot init plugin directory
            This system does not support "<any>"
            """
        ),
        means=(
            "A `FATAL` line of the EAL: an option, the list of cores, the processor or a plug-in "
            "does not fit. No port was touched, and the vport's owner plays no part."
        ),
        check=(
            Step(
                "The lines before it. Its cores, and those that it may use:",
                "grep Cpus_allowed_list /proc/self/status",
            ),
        ),
        remedy=(
            Step(
                "Give it only cores that it may use: -l LIST, and only options that "
                "`dpdk-testpmd --help` lists."
            ),
        ),
        origin="rte_eal_init() of DPDK",
        see=(
            "dpdk-memory",
            "dpdk-lock",
        ),
    ),
    Topic(
        name="dpdk-start-news",
        kind=Kind.MESSAGE,
        title="no fault: DPDK reports how it starts",
        forms=forms(
            """
            Detected CPU lcores: <n>
            Detected NUMA nodes: <n>
            Detected shared linkage of DPDK
            Detected static linkage of DPDK
            Multi-process socket <name>
            Selected IOVA mode '<name>'
            VFIO support initialized
            VFIO support could not be initialized
            VFIO modules not loaded, skipping VFIO support
            Buses did not request a specific IOVA mode
            IOMMU is available, selecting IOVA as VA mode
            wants IOVA as '<name>'
            In-memory mode enabled, hugepages of size
            Probe PCI driver: <name>
            No legacy callbacks, legacy socket not created
            """
        ),
        means=(
            "Cores, sockets, the kind of addresses, buses and drivers: each start of a program "
            "prints some of these. `Probe PCI driver: net_mana` is the moment at which it opens "
            "the MANA function's RDMA devices."
        ),
        check=(Step("Who has which port:", "manactl status -v"),),
        origin="rte_eal_init() of DPDK",
        see=("dpdk-tx-queues",),
    ),
    Topic(
        name="dpdk-uio-vfio",
        kind=Kind.MESSAGE,
        title="DPDK works on a device of uio or vfio, which a MANA port never is",
        forms=forms(
            """
            Error enabling interrupts for fd <n>
            Error disabling interrupts for fd <n>
            not managed by UIO driver, skipped
            not managed by VFIO driver, skipping
            Cannot open /dev/uio<n>
            Cannot find uio device
            failed to select IOMMU type
            failed to open VFIO group <n>
            VFIO group is not viable! Not all devices in IOMMU group bound to VFIO or unbound
            """
        ),
        means=(
            "The line is about another device, the VMBus device of a netvsc interface "
            "(uio_hv_generic), or a MANA function that somebody has bound to uio or vfio-pci. Such "
            "a function has no netdev and no RDMA device: DPDK's net_mana works beside the "
            "kernel's mana driver, through RDMA."
        ),
        check=(Step("What each MANA function is bound to:", "manactl doctor"),),
        remedy=(
            Step(
                "Bind a MANA function to its driver again:",
                "echo PCI > /sys/bus/pci/drivers/vfio-pci/unbind; "
                "echo PCI > /sys/bus/pci/drivers/mana/bind",
            ),
        ),
        origin="EAL and the PCI bus of DPDK",
        see=("dpdk-device-unusable", "dpdk-init"),
    ),
    Topic(
        name="dpdk-mlx5",
        kind=Kind.MESSAGE,
        title="a line of the mlx5 driver: another NIC's, not MANA's",
        prefixes=("mlx5:", "mlx5_", "mlx4_"),
        forms=forms(
            """
            mlx5_net: probe of PCI device <any> aborted after encountering an error: <any>
            mlx5_common: Failed to load driver <any>
            mlx5_common: Verbs device not found: <name>
            no Verbs device matches PCI device <name>, are kernel drivers loaded?
            """
        ),
        means=(
            "NVIDIA's (Mellanox) NICs have a model of their own, which DPDK's mlx5 driver shares with "
            "the kernel's; Azure has such VFs beside MANA ones. manactl knows nothing of them, and "
            "a MANA port plays no part. A program that may use both needs both drivers: "
            "librte_net_mlx5 and librte_net_mana."
        ),
        check=(
            Step("Which NICs there are:", "lspci -nn -d 15b3: ; lspci -nn -d 1414:"),
            Step("The MANA ports:", "manactl status"),
        ),
        origin="librte_net_mlx5, librte_common_mlx5, mlx5_core",
        see=("dpdk-device-unusable",),
    ),
    Topic(
        name="dpdk-port-owned",
        kind=Kind.MESSAGE,
        title="a DPDK port belongs to another part of the program",
        forms=forms(
            """
            Cannot set owner to port <n> already owned by
            owner set failed
            Port <n> owner is <name>
            is not my, owner
            """
        ),
        means=(
            "Within one program a port can be owned by another one, as the MANA port is by the "
            "netvsc or failsafe device that stands above it. It is configured and started by its "
            "owner. Nothing is wrong with the vport."
        ),
        remedy=(Step("Use the port of the owner, for instance that of the netvsc device."),),
        origin="rte_eth_dev_owner_set() of DPDK",
        see=("dpdk-netvsc-vf",),
    ),
)
