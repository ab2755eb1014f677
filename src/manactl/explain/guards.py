"""The guards of a claim: what each protects, and what to do when it refuses."""

from __future__ import annotations

from manactl.decide.codes import BARRED, Code, bar_of
from manactl.explain.topic import Kind, Step, Topic


def _topic(
    name: str, title: str, means: str, origin: str, *,
    check: tuple[Step, ...], remedy: tuple[Step, ...] = (), more: tuple[str, ...] = (),
) -> Topic:  # fmt: skip
    """A guard's topic, with what its refusals say about a waiver."""
    if bar := bar_of(Code(name)):
        waiver = BARRED[bar]
        means = f"{means} {waiver[0].upper()}{waiver[1:]}."
    else:
        accept = f"manactl claim --raw-qp PORT --allow {name}"
        remedy = (*remedy, Step("Or accept the loss:", accept))
    forms = (f"{name}:", f"--allow {name}", *more)
    return Topic(name, Kind.GUARD, title, means, origin, check, remedy, forms)


_TRACKING = Step("Where connection tracking cannot be read:", "modprobe nf_conntrack_netlink")

TOPICS = (
    _topic(
        "ssh-session", "your own SSH session runs over the port, or somebody's",
        "Setting the port down would cut the session in which the claim was typed, and then you "
        "could not release it. SSH_CONNECTION of this process and its ancestors is used without "
        "proof; it can only add a refusal; an environment that cannot be read may have any session, so "
        "it refuses, too. In tmux, sudo -i or at it may be missing or old: so every "
        "connection of sshd over the port counts, whoever asks, and so do sessions of mosh and the "
        "remote sessions of logind. A login from a container or virtual machine of this host counts "
        "where somebody is connected to that over the port.",
        "SSH_CONNECTION and the route to the client; connections of sshd; mosh-server's UDP "
        "sockets; /run/systemd/sessions",
        check=(Step("Which port the session uses:", "ip route get CLIENT-ADDRESS"),
               Step("Connections of sshd:", "ss -tnp | grep sshd")),
        remedy=(Step("Log in over another port or the serial console, and claim from there."),
                _TRACKING),
    ),
    _topic(
        "default-route", "a default route goes through the port",
        "The machine would lose its default route. Default routes of all tables and of both families "
        "count, and so do routes of one table that together lead to nearly everywhere, as VPNs "
        "install them (0.0.0.0/1 and 128.0.0.0/1, or 2000::/3).",
        "rtnetlink",
        check=(Step("The default routes:", "ip route show default table all; "
                    "ip -6 route show default table all"),),
        remedy=(Step("Give the machine another default route first:",
                     "ip route replace default via GATEWAY dev OTHER"),),
    ),
    _topic(
        "last-port", "nothing else here is up with carrier and a global address",
        "After the claim the machine could not be reached over a network at all.",
        "rtnetlink",
        check=(Step("What is up:", "ip -br address"),),
        remedy=(Step("Bring another netdev up with an address first."),),
    ),
    _topic(
        "tcp-established", "live TCP connections use the port's addresses",
        "They stall while the port is claimed. IPv4 connections go on after the release unless an "
        "end has timed out before; IPv6 ones too, once their address is restored. One that its "
        "program has closed counts until the other end has answered; no process is shown with it. "
        "Where connection tracking is in use and cannot be read, it may send others by the port "
        "(NAT, marks): refused.",
        "sock_diag; connection tracking (nf_conntrack_netlink), which may send packets elsewhere",
        check=(Step("Which they are:",
                    "ss -tnp state connected exclude time-wait src ADDRESS"),),
        remedy=(Step("Stop the service, or wait until the connections are closed."), _TRACKING),
        more=("syn-sent", "syn-recv", "fin-wait-1", "fin-wait-2", "close-wait", "last-ack"),
    ),
    _topic(
        "storage", "storage is used over the port",
        "NFS, iSCSI, SMB, Ceph, 9P, Lustre or NVMe over TCP: file systems on it hang while the port "
        "is claimed, the root file system among them. What is mounted and idle counts, too.",
        "sock_diag: connections to the port numbers of storage servers; mount tables and sysfs: "
        "servers of mounts and disks, by their addresses",
        check=(Step("Network file systems:", "findmnt -t nfs,nfs4,cifs,ceph,9p,lustre"),
               Step("Block devices:", "lsblk -o NAME,TRAN,MOUNTPOINTS")),
        remedy=(Step("Unmount it, or route it over another port:", "ip route get SERVER"),
                _TRACKING),
    ),
    _topic(
        "azure-fabric", "the way to Azure's wire server or metadata service goes through the port",
        "168.63.129.16 gives a virtual machine its goal state, DNS and DHCP. Without it the guest "
        "agent stops reporting, and Azure may regard the machine as dead. 169.254.169.254 (IMDS) "
        "gives metadata and the tokens of managed identities. Where another netdev that works has a "
        "route there, the plan only says so.",
        "the routes to 168.63.129.16 and 169.254.169.254, also over each other netdev",
        check=(Step("The routes:", "ip route get 168.63.129.16; ip route get 169.254.169.254"),),
        remedy=(Step("Claim another port: the first port of a virtual machine has this route."),),
    ),
    _topic(
        "rdma-users", "RC or UD queue pairs of users exist on the RDMA device",
        "They do not share the vport and are not closed, but their RDMA port follows the netdev: "
        "it reads DOWN and loses its IPv6 GIDs. The kernel does not report which port they use.",
        "the kernel's list of RDMA resources (nldev)",
        check=(Step("Who they are:", "rdma resource show ctx; rdma resource show pd"),),
        remedy=(Step("Stop them, or make sure that they use another port."),),
    ),
    _topic(
        "upper", "other devices are stacked on the port",
        "Bond, bridge, team, VLAN, macvlan, VRF or Open vSwitch: they lose the port, and with it "
        "addresses and routes of their own. Release restores VLANs, macvlans, ipvlans, MACsec, bonds, "
        "teams, bridges, VRFs and Open vSwitch, each with its own; no other kinds. In another network "
        "namespace it restores nothing, so there only those may be on the port that lose nothing: not a "
        "VLAN (its IPv6 addresses and routes), and none with nexthop objects. A bond is to be "
        "left alone until then: to delete it, to change its MTU or to move its port to another network namespace sets the port's MTU, and "
        "Linux 7.3.4 crashes when the raw queue pair ends. A tunnel counts when it was made with the port "
        "as its device (VXLAN, GRE, xfrm); one that only sends by the port loses its traffic, which "
        "the other guards look for. The synthetic netdev of a netvsc pair is no such device: "
        "--synthetic decides what becomes of it.",
        "rtnetlink: IFLA_LINK, IFLA_MASTER and IFLA_INFO_DATA of all links, in every network "
        "namespace",
        check=(Step("What is stacked:", "ls -d /sys/class/net/PORT/upper_*"),),
        remedy=(Step("Remove the port from what release cannot restore:",
                     "ip link set PORT nomaster"),),
    ),
    _topic(
        "xdp", "an XDP program is attached to the port",
        "Or an AF_XDP socket is bound to it. It gets no packets while the port is claimed; the kernel "
        "keeps it, and it works again after the release.",
        "rtnetlink: IFLA_XDP; sock_diag: AF_XDP sockets",
        check=(Step("Which one:", "ip -d link show PORT"),),
        remedy=(Step("Make sure that nothing relies on it until the release."),),
    ),
    _topic(
        "packet-sockets", "programs listen to the port by packet sockets",
        "DHCP clients, lldpd or tcpdump: when the port goes down they get ENETDOWN once, and many "
        "exit then. A DHCP client that has exited does not renew the lease after the release.",
        "/proc/net/packet",
        check=(Step("Who they are:", "ss -0 -p"),),
        remedy=(Step("Stop them, and start them again after the release."),),
    ),
    _topic(
        "manager", "a network manager controls the port, and cannot be kept off it",
        "wicked, dhcpcd, ConnMan or ifupdown may set the port up again while a raw queue pair uses "
        "it, or drop its addresses while it is down. NetworkManager and systemd-networkd let go of a "
        "port for a claim and get it back at release; they are named here where they do not answer, "
        "or where the port is down already or in a bond, bridge, team or VRF.",
        "run-time files of the managers, and D-Bus",
        check=(Step("Who manages it, and how to have it leave the port alone:", "manactl doctor"),),
        remedy=(Step("NetworkManager: make it unmanaged:", "nmcli device set PORT managed no"),
                Step("systemd-networkd: in a drop-in, [Link] with ActivationPolicy=manual and "
                     "RequiredForOnline=no, [Network] with KeepConfiguration=yes and an empty "
                     "BindCarrier=, then:",
                     "networkctl reload")),
    ),
    _topic(
        "sockets", "UDP sockets or SCTP associations use the port",
        "Connected UDP sockets (QUIC, VoIP, DNS, the process of a tunnel), raw ones (PPTP) and SCTP "
        "associations send by the port or have one of its addresses. What is sent meanwhile is lost; an "
        "SCTP association without another path ends after its retransmissions.",
        "sock_diag, and /proc/net/{sctp/assocs,raw,raw6,udplite}",
        check=(Step("Which they are:", "ss -uwnp state established; ss -Snp"),),
        remedy=(Step("Stop the service, or wait until it is done."), _TRACKING),
    ),
    _topic(
        "forwarding", "connections of others are forwarded through the port",
        "Containers behind a bridge, virtual machines or whoever routes by this host have connections "
        "through the port, masqueraded or not, or to a service that is published at its address. They "
        "have no socket here. They stall while the port is claimed; what is masqueraded the "
        "kernel may forget when the port goes down. An IPsec policy without a device of its own puts "
        "packets, whosoever they are, into a tunnel that leaves by the port.",
        "connection tracking (nf_conntrack_netlink) and the routes of both ends; the policies of xfrm",
        check=(Step("Which they are:", "conntrack -L"),
               Step("The policies of IPsec:", "ip xfrm policy show dir out")),
        remedy=(Step("Move the containers, or wait until they are done."),
                Step("Where the entries cannot be read:", "modprobe nf_conntrack_netlink")),
    ),
    _topic(
        "foreign-netns", "the port, or its claim, belongs to another network namespace",
        "Only from its own namespace can the netdev be set down and restored. A "
        "missing netdev is not a free port. With --synthetic=uio, the synthetic netdev is made again "
        "by hv_netvsc in the initial namespace alone, so that is refused in others.",
        "sysfs and the namespaces found through /proc",
        check=(Step("Where it is (as root):", "manactl status -v"),),
        remedy=(Step("Claim from there:",
                     "ip netns exec NAMESPACE manactl claim --raw-qp PORT"),),
    ),
    _topic(
        "in-reset", "the device is being reset or set up",
        "The driver has removed the function's RDMA devices, as in a reset or a servicing by the "
        "host, or could not set the device up. The state of the port is about to change, and "
        "setting the netdev down could hang.",
        "the function's auxiliary devices are missing",
        check=(Step("Whether it is over:", "manactl status -v"),
               Step("What the driver says:", "dmesg | grep mana | tail")),
        remedy=(Step("Wait for it:", "manactl claim --raw-qp PORT --wait 60"),),
    ),
    _topic(
        "kernel-bug", "a known bug of this kernel would be triggered, or has been",
        "One of two; the message says which. (1) The MTU or the rings of a port were changed while "
        "a raw queue pair has it, perhaps by its bond: the kernel crashes when that queue pair is "
        "destroyed, so nothing is claimed, and release waits for no holder and signals none. "
        "(2) The vport has no owner, but the kernel counts it as taken: an earlier open of the "
        "netdev, which the NIC refused half-way, did not release the driver's use count (seen on "
        "Linux 6.12 and 6.18).",
        "mana_destroy_eq(); mana_cfg_vport() without mana_uncfg_vport()",
        check=(Step("What status reports of the port:", "manactl status -v PORT"),),
        remedy=(Step("(1): do not stop the program until you can reboot."),
                Step("(2), when all ports of the function may go down, and no netvsc interface is "
                     "in another network namespace (see netvsc-netns-hang):",
                     "modprobe -r mana_ib mana && modprobe mana_ib")),
    ),
)  # fmt: skip
