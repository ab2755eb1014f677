"""What ib_core, rdma_cm, librdmacm and the plug-ins of containers say of RDMA devices."""

from __future__ import annotations

from manactl.explain.topic import Kind, Step, Topic, forms

_BY_CM = {
    2: "no RDMA device has that address",
    19: "no RDMA device has that address in this network namespace, or the netdev that leads to "
    "the peer has none. It says nothing about the vport",
    22: "the address family or the port number does not fit",
    98: "the port number of the address is taken",
    99: "the source address is not on this machine, or not in this network namespace",
    101: "there is no route to the peer",
    104: "the peer refused or has ended",
    110: "the peer, or the neighbour on the way to it, did not answer",
    111: "nobody listens at the peer",
    113: "the neighbour on the way to the peer did not answer",
}

TOPICS = (
    Topic(
        name="rdma-netns-shared",
        kind=Kind.MESSAGE,
        title="an RDMA device cannot be moved: RDMA devices belong to all network namespaces here",
        forms=forms(
            """
            Cannot change net namespace of RDMA device in shared netns mode
            netns mode shared
            RDMA subsystem in shared mode
            """
        ),
        means=(
            "`rdma dev set DEVICE netns NAME`, or a container plug-in that does the same, works "
            "only in the exclusive mode, which can be set only while there is no network "
            "namespace but the first. In the shared mode, the default, every container sees all "
            "RDMA devices, and nothing has to be moved for a raw queue pair."
        ),
        check=(
            Step("The mode:", "rdma system show"),
            Step("Which namespaces there are:", "ip netns list; lsns -t net"),
        ),
        remedy=(
            Step(
                "To use the port from a container in the shared mode, give the container the "
                "uverbs device and CAP_NET_RAW; move nothing."
            ),
            Step(
                "For the exclusive mode, right after boot, before any namespace is made:",
                "rdma system set netns exclusive",
            ),
            Step(
                "To keep it over reboots:",
                'echo "options ib_core netns_mode=0" > /etc/modprobe.d/ib_core.conf',
            ),
        ),
        origin="rdma_dev_change_netns() and rdma_compatdev_set() of ib_core",
        see=("rdma-netns-exclusive",),
    ),
    Topic(
        name="rdma-netns-exclusive",
        kind=Kind.MESSAGE,
        title="an RDMA device is, or should be, in another network namespace",
        forms=forms(
            """
            incorrect RDMA subsystem network namespace
            Unable to use requested device name in the target net namespace
            Device name already exists in the target net namespace
            Device does not support namespace changes
            Missing CAP_NET_ADMIN in the target net namespace
            Invalid target net namespace fd
            Couldn't rename device after namespace change
            Couldn't re-enable device after namespace change
            failed to pick device name during namespace teardown: <n>
            failed to rename device during namespace teardown: <n>
            Failed to move RDMA device <name> to init_net on netns exit: <n>
            Fail to rename compatdev to new name <name>
            failed to move RDMA device <any> to net namespace
            failed to set RDMA device <any> netns
            RDMA exclusive mode
            """
        ),
        means=(
            "In the exclusive mode an RDMA device is visible in one network namespace alone, and "
            "a program must run there. The two RDMA devices of a MANA function and the netdev of "
            "a port move one by one: a plug-in that moves only one of them leaves the port in two "
            "places. Plug-ins report a mode other than the one that they are configured for as an "
            "incorrect one."
        ),
        check=(
            Step("The mode:", "rdma system show"),
            Step(
                "The RDMA devices here, and those of a namespace:",
                "rdma dev; ip netns exec NAMESPACE rdma dev",
            ),
            Step("Where the netdev is:", "manactl status -v"),
        ),
        remedy=(
            Step(
                "Set the mode that the plug-in is configured for, before any namespace is made:",
                "rdma system set netns exclusive",
            ),
            Step(
                "Bring a device back that a pod has left behind:",
                "ip netns attach first 1; ip netns exec NAMESPACE rdma dev set DEVICE netns first",
            ),
            Step("Claim and release a port from the namespace that its netdev is in."),
        ),
        origin="rdma_dev_change_netns() of ib_core; the RDMA plug-ins of Kubernetes",
        see=(
            "rdma-netns-shared",
            "rdma-elsewhere",
            "foreign-netns",
            "elsewhere",
        ),
    ),
    Topic(
        name="rdma-cm",
        kind=Kind.MESSAGE,
        title="the RDMA connection manager: an address, route or peer, not the vport",
        forms=forms(
            """
            RDMA_CM_EVENT_ADDR_ERROR
            RDMA_CM_EVENT_ROUTE_ERROR
            RDMA_CM_EVENT_CONNECT_ERROR
            RDMA_CM_EVENT_UNREACHABLE
            RDMA_CM_EVENT_REJECTED
            RDMA_CM_EVENT_DISCONNECTED
            RDMA_CM_EVENT_DEVICE_REMOVAL
            RDMA_CM_EVENT_ADDR_CHANGE
            RDMA_CM_EVENT_MULTICAST_ERROR
            RDMA_CM_EVENT_TIMEWAIT_EXIT
            RDMA CMA: <any>, error <n>
            rdma_resolve_addr
            rdma_resolve_route
            rdma_bind_addr
            rdma_create_event_channel
            rdma_connect
            nvme_rdma_resolve_addr
            librdmacm: Fatal: no RDMA devices found
            librdmacm: Fatal: unable to open RDMA device
            librdmacm: Warning:
            cma event <any>, error <n>
            """
        ),
        means=(
            "RDMA_CM connects RC queue pairs by IP addresses. ADDR_ERROR means that no RDMA "
            "device has the source address, or that the way to the peer leaves by a netdev "
            "without one: the wrong network namespace, a netdev that is down or claimed, or an "
            "address that is on a bond or netvsc interface above the port. A raw queue pair does "
            "not use RDMA_CM: who has the vport plays no part."
        ),
        by_errno=_BY_CM,
        check=(
            Step("By which netdev the peer is reached:", "ip route get PEER"),
            Step("Whether its RDMA port is up:", "rdma link"),
            Step("Whether the GID of the address is there:", "ibv_devinfo -v | grep GID"),
            Step("Whether the port is claimed:", "manactl status"),
        ),
        remedy=(
            Step("If the port is claimed and RC is what you want:", "manactl release PORT"),
            Step(
                "Otherwise fix the address or the route, or run the program in the namespace "
                "that has both."
            ),
        ),
        origin="addr_handler() and cma_ib_handler() of rdma_cm; librdmacm",
        see=(
            "rdma-link-down",
            "rdma-users",
        ),
    ),
    Topic(
        name="ipv6-autojoin",
        kind=Kind.MESSAGE,
        title="an IPv6 address with `autojoin`: the multicast group is joined already",
        forms=forms(
            """
            Multicast auto join failed
            """
        ),
        means=(
            "The kernel joins the group of such an address on a socket of its own. When the port "
            "goes down the address goes and the membership stays, so that adding the address "
            "again, by hand or by a release, is refused with EADDRINUSE."
        ),
        check=(Step("The memberships of the port:", "ip maddress show dev PORT"),),
        remedy=(
            Step(
                "Add the address without the flag; the group is still joined:",
                "ip -6 address add ADDRESS dev PORT",
            ),
            Step(
                "If a release lists it as not restored and it is no longer needed:",
                "manactl recover --accept PORT",
            ),
        ),
        origin="ipv6_mc_config() in inet6_addr_add()",
        see=("residue",),
    ),
)
