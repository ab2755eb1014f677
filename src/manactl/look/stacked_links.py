"""The devices stacked on a port, from one dump of all links of this network namespace."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from manactl.look.text_files import LACKS, names, number, passing_over, read
from manactl.model.named_tuple import NamedTuple
from manactl.netstate.link_settings import SYSFS
from manactl.netstate.snapshot import Accepted, Setting
from manactl.netstate.uppers import NETVSC, UpperState
from manactl.wire.if_link import IfLink

_PROTOCOLS = {0x8100: "802.1Q", 0x88A8: "802.1ad"}
# IFLA_LINK is the other end here, or where a tunnel sends: nothing stacked on the device.
BESIDE = frozenset({"veth", "netkit", "gre", "gretap", "erspan", "ipip", "sit", "vti", "vti6",
                     "ip6tnl", "ip6gre", "ip6gretap", "ip6erspan", "xfrm"})  # fmt: skip

# NETDEV_UP sets it to the device's MTU (addrconf_notify()); nothing else of the trees
# net/{ipv4,ipv6}/{conf,neigh} changes.
CHANGING = (("net/ipv6/conf", "mtu"),)


class StackedLink(NamedTuple):
    """What of a link says which lower it is stacked on."""

    ifindex: int
    name: str
    kind: str
    up: bool
    carrier: bool
    link: int | None  # its lower; None also when that is in another namespace
    far_lower: tuple[int, int] | None  # a lower in another netns: ifindex and nsid there
    master: int | None
    id: str | None
    follows: bool
    active: int | None
    table: int | None = None
    mac: str | None = None


def parse(body: bytes) -> StackedLink:
    """One RTM_NEWLINK message. ValueError when it is broken."""
    link = IfLink(body)
    uuid = None if link.kind else link.vmbus
    kind = NETVSC if uuid else link.kind or ""
    far_lower = None
    if link.lower is not None and link.lower_netnsid is not None:
        far_lower = link.lower, link.lower_netnsid
    vlan = link.vlan
    return StackedLink(
        link.ifindex,
        link.name,
        kind,
        link.up,
        bool(link.carrier),
        None if kind in BESIDE or far_lower else _lower(link),
        far_lower,
        link.master,
        uuid if vlan is None else f"{_PROTOCOLS.get(vlan.protocol, hex(vlan.protocol))} {vlan.id}",
        vlan is not None and not vlan.loose_binding,
        link.active_slave,
        link.vrf_table,
        link.mac,
    )


def _lower(link: IfLink) -> int | None:
    return link.vxlan_link or None if link.kind == "vxlan" else link.lower


def uppers(links: Iterable[StackedLink], ifindex: int) -> tuple[UpperState, ...]:
    """The uppers of that link, direct or not, from the bottom up."""
    every = list(links)
    by_index = {link.ifindex: link for link in every}
    seen = {ifindex}
    order: list[UpperState] = []
    row = [ifindex]
    while row:
        below, row = row, []
        for lower in below:
            direct = [link for link in every if link.link == lower]
            master = by_index[lower].master if lower in by_index else None
            if master in by_index:
                direct.append(by_index[master])
            for link in sorted(direct, key=lambda link: link.ifindex):
                if link.ifindex not in seen:
                    seen.add(link.ifindex)
                    row.append(link.ifindex)
                    order.append(_state(link, lower))
    return tuple(order)


def without_synthetic(links: Iterable[StackedLink], ifindex: int) -> list[StackedLink]:
    """The same links, where that one is below no netdev of hv_netvsc."""
    every = list(links)
    above = {link.ifindex for link in every if link.kind == NETVSC}
    return [
        link._replace(master=None) if link.ifindex == ifindex and link.master in above else link
        for link in every
    ]


def _state(link: StackedLink, lower: int) -> UpperState:
    return UpperState(
        link.name,
        link.ifindex,
        link.kind,
        lower,
        link.id,
        link.up,
        link.carrier,
        link.follows,
        link.active,
        link.table,
        link.mac,
    )


def settings(
    devices: Collection[tuple[int, str]], proc: Path = Path("/proc/sys")
) -> tuple[Setting, ...]:
    """The sysctls of those devices that going down and up changes. Where IPv6 is off: none."""
    found = []
    for ifindex, name in devices:
        for tree, key in CHANGING:
            try:
                value = read(proc / tree / name / key)
            except FileNotFoundError:
                continue
            found.append(Setting(ifindex, tree, key, value))
    return tuple(found)


def accepted(
    devices: Iterable[tuple[int, str]], proc: Path = Path("/proc/sys")
) -> tuple[Accepted, ...]:
    """What those devices take from router advertisements; nothing of one that takes none
    (ipv6_accept_ra()), or whose settings cannot be read."""
    found = []
    for ifindex, name in devices:
        conf = proc / "net/ipv6/conf" / name
        try:
            accept = _number(conf / "accept_ra")
            taken = accept == 2 if _number(conf / "forwarding") else accept != 0
            if not taken or _number(conf / "disable_ipv6"):
                continue
            prefixes = _number(conf / "accept_ra_pinfo") != 0
            found.append(
                Accepted(
                    ifindex,
                    default=_number(conf / "accept_ra_defrtr") != 0,
                    prefixes=prefixes,
                    addresses=prefixes and _number(conf / "autoconf") != 0,
                    routes=_number(conf / "accept_ra_rt_info_max_plen", 0),
                    solicits=_number(conf / "router_solicitations") != 0,
                )
            )
        except (OSError, ValueError) as error:
            if getattr(error, "errno", None) in LACKS:
                raise
            continue
    return tuple(found)


def _number(path: Path, otherwise: int | None = None) -> int:
    """A sysctl; `otherwise` for one that this kernel was built without."""
    try:
        return int(read(path))
    except FileNotFoundError:
        if otherwise is None:
            raise
        return otherwise


TREES = (
    "net/ipv4/conf", "net/ipv4/neigh", "net/ipv6/conf", "net/ipv6/neigh", "net/mpls/conf",
)  # fmt: skip


def every_setting(name: str, proc: Path = Path("/proc/sys")) -> dict[tuple[str, str], str]:
    """All sysctls of one device that can be read and written, by tree and key."""
    found = {}
    for tree in TREES:
        with passing_over():
            for path in sorted((proc / tree / name).iterdir()):
                # A secret that was never set cannot be read; statistics cannot be written.
                with passing_over():
                    if path.stat().st_mode & 0o200:
                        found[tree, path.name] = read(path)
    return found


# What of a netdev is in its directory in sysfs alone: of all its NAPIs, and of each of its queues.
_OF_NETDEV = ("threaded", "gro_flush_timeout", "napi_defer_hard_irqs")
_OF_QUEUES = {"rx": ("rps_cpus", "rps_flow_cnt"), "tx": ("xps_cpus", "xps_rxqs", "tx_maxrate")}


def of_queues(name: str, ifindex: int, sys: Path = Path("/sys")) -> dict[tuple[str, str], str]:
    """How the kernel polls a device and shares its queues among CPUs, by SYSFS and the path of the
    file. Nothing where /sys is that of another network namespace."""
    directory, found = sys / SYSFS / name, {}
    if number(f"{directory}/ifindex") != ifindex:
        return {}
    keys = list(_OF_NETDEV)
    for queue in sorted(names(f"{directory}/queues")):
        files = _OF_QUEUES.get(queue.partition("-")[0], ())
        keys += [f"queues/{queue}/{key}" for key in files]
    for key in keys:
        with passing_over():  # a queue that is not in use, or a kernel without it
            found[SYSFS, key] = read(directory / key)
    return found


def addr_gen_mode(name: str, proc: Path = Path("/proc/sys")) -> str | None:
    """How the kernel makes the IPv6 link-local address of one device; None where it has no IPv6."""
    try:
        return read(proc / "net/ipv6/conf" / name / "addr_gen_mode")
    except OSError as error:
        if error.errno in LACKS:
            raise
        return None


def put_setting(
    path: str, value: str, proc: Path = Path("/proc/sys"), sys: Path = Path("/sys")
) -> None:
    """Write one sysctl, or one setting of SYSFS. OSError when the kernel refuses."""
    base = sys if path.startswith(f"{SYSFS}/") else proc
    (base / path).write_text(value)
