"""Look once at every MANA port: sources in, Report out. Nothing is kept between two looks."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from manactl.decide import port_notes
from manactl.decide.ownership import Decision, PortFacts, decide
from manactl.decide.port_names import resolve
from manactl.errors import LACKS, strerror
from manactl.escape import called
from manactl.look import debugfs, procfs, rdma, sysfs, user_namespace
from manactl.look.blocked_tasks import Waiting, waiting
from manactl.look.links import LinkFacts, LinkSource, RtnetlinkLinks, is_same
from manactl.look.netns import NetdevInNetns, NetnsSource, OtherNamespaces, own
from manactl.look.sysfs import Roots
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import (
    UIO,
    Evidence,
    Missing,
    Netdev,
    Owner,
    PortId,
    PortStatus,
    RdmaPort,
    Report,
    Source,
)
from manactl.model.port import Upper as UpperDevice
from manactl.wire.nldev import Nldev, RdmaNetlink

if TYPE_CHECKING:
    from manactl.look.boot_files import BootFile
    from manactl.model.claim import ClaimSummary, NetnsId

__all__ = ["Roots", "look", "resolve"]

_TRIES = 3  # looks at a function that changes while it is looked at

_BUSY = (
    "the kernel's network lock (RTNL) is held and was not released in time: a driver may be "
    "waiting for its device; carrier comes from operstate, altnames are not known"
)
_FOREIGN_SYSFS = (
    "/sys shows the netdevs of another network namespace than this process is in (`nsenter --net`; "
    "`ip netns exec` mounts its own)"
)
_NO_DEBUGFS = {
    debugfs.Mount.MOUNTED: "the mana driver of this kernel shows nothing there",
    debugfs.Mount.NOT_MOUNTED: "not mounted",
    debugfs.Mount.NOT_OFFERED: "this kernel does not offer it (debugfs=off or no-mount)",
}
_HIDDEN = {
    False: "descriptors of other users' processes",
    True: "processes of other users are hidden (/proc is mounted with hidepid)",
}
_EMPTY_PROC = (
    "/proc lists no process: it is not mounted, or is that of a PID namespace that has ended"
)
_NO_PORT = (
    "{pci} is bound to mana but has no port: the driver is setting it up, is resetting it, or has "
    "failed to (see the kernel log)"
)
_NO_NETDEV = (
    "{pci} is bound to mana, and no netdev of it can be seen from here: its ports are in another "
    "network namespace (run this on the host, as root), or the driver could not make them (see the "
    "kernel log)"
)
_IN_DRIVER = (
    "{comm} {pid} waits in the driver ({function}), usually for the device to answer: until it "
    "does, what is shown may be out of date"
)


class _Shared(NamedTuple):
    """What is read once for all functions."""

    roots: Roots
    links: Mapping[int, LinkFacts] | None
    holders: procfs.Holders
    claims: Mapping[tuple[str, int], "ClaimSummary"]
    claims_known: bool
    changing: bool  # a queue pair is being created
    foreign: bool  # /sys shows another network namespace
    netns: "NetnsId | None"  # of this process; None where no claim is to be compared with it

    def named(self, name: str, ifindex: int | None = None) -> LinkFacts | None:
        """The link of that name, and of that number where it is known."""
        for index, link in (self.links or {}).items():
            if link.name == name and ifindex in (None, index):
                return link
        return None


class _Seen(NamedTuple):
    """One function as read, between two equal samples of what changes with the owner."""

    function: sysfs.Function
    vports: Mapping[int, debugfs.VportDir] | None
    view: rdma.RdmaView
    shown: Mapping[int, bool | None]  # by port number: IFF_UP, wherever /sys was mounted
    in_other_netns: Mapping[int, NetdevInNetns]  # by port number
    numbers: frozenset[int]  # every port that any source knows of
    missing: tuple[Missing, ...]
    steady: bool


def look(
    roots: Roots = Roots(),  # noqa: B008 - frozen
    *,
    netlink: RdmaNetlink | None = None,
    links: LinkSource | None = None,
    netns: NetnsSource | None = None,
    claims: Sequence["ClaimSummary"] = (),
    missing: Iterable[Missing] = (),
    boot_files: Iterable["BootFile"] = (),
) -> Report:
    """Read every port. `netlink`, `links` and `netns` are the kernel's own unless given.

    `claims` are what the journals report as claimed, `boot_files` those of `claim --persist`;
    `missing` is what the caller could not read.
    """
    missing = list(missing)
    with ExitStack() as stack:
        if netlink is None:
            netlink = _open_nldev(roots, stack, missing)
        links = links or RtnetlinkLinks()
        netns = netns or OtherNamespaces(roots)
        for foreign in (False, False, True):  # a netdev may have been moved, so look twice
            pcis = _functions(roots, missing)
            seen = [_see(roots, netlink, netns, pci, foreign=foreign) for pci in pcis]
            _ask(links, seen)
            holders, unsearched = _search(roots, _held_devices(seen))
            answered = _collect(links, seen)
            if _sysfs_is_ours(seen, answered, links):
                break
    if foreign:
        missing.append(Missing(Source.SYSFS, _FOREIGN_SYSFS))
    if answered is None:
        missing.append(Missing(Source.RTNETLINK, _BUSY))
    tasks, unread = _waiting(roots) if seen else ([], ())
    missing += [*unsearched, *unread]
    missing += [Missing(Source.MANA, _in_driver(task)) for task in tasks]
    if holders.hidden and not unsearched:
        why = _EMPTY_PROC if holders.empty else _HIDDEN[holders.unlisted]
        missing.append(Missing(Source.PROC, why))
    missing += [
        Missing(
            Source.SYSFS, f"{pci} is a MANA function bound to {driver or 'no driver'}, not to mana"
        )
        for pci, driver in sysfs.unbound(roots)
    ]
    claims_known = not any(item.source is Source.JOURNAL for item in missing)
    changing = bool(unread) or any(task.creates for task in tasks)
    here_is = own(roots.proc) if claims else None
    shared = _Shared(
        roots, answered, holders, _by_port(claims), claims_known, changing, foreign, here_is
    )
    ports = [port for scan in seen for port in _ports(scan, shared)]
    ports = [_with_boot_files(port, boot_files) for port in ports]
    missing += [
        Missing(Source.SYSFS, _without_ports(scan.function)) for scan in seen if not scan.numbers
    ]
    here = {port.id.key for port in ports}
    missing += [
        Missing(Source.SYSFS, f"port {claim.port} is claimed, but not there now")
        for claim in claims
        if claim.port.key not in here
    ]
    for scan in seen:
        missing += scan.missing
    return Report(
        time=datetime.now(UTC),
        kernel=os.uname().release,
        privileged=os.geteuid() == 0
        and not holders.hidden
        and user_namespace.is_initial(roots.proc),
        missing=tuple(dict.fromkeys(missing)),
        ports=tuple(ports),
    )


def _functions(roots: Roots, missing: list[Missing]) -> list[str]:
    """The functions; of none that are shown it is told where they could not be listed."""
    try:
        return sysfs.listed_functions(roots)
    except OSError as error:
        if error.errno in LACKS:
            raise
        unread = Missing(Source.SYSFS, f"the functions of mana: {strerror(error)}")
        missing += [] if unread in missing else [unread]
        return []


def _in_driver(task: Waiting) -> str:
    return _IN_DRIVER.format(pid=task.pid, comm=called(task.comm), function=task.function)


def _search(roots: Roots, rdevs: set[int]) -> tuple[procfs.Holders, tuple[Missing, ...]]:
    """Who holds these devices, and what kept us from searching all processes."""
    try:
        return procfs.holders(roots.proc, rdevs), ()
    except OSError as error:
        nobody = procfs.Holders({rdev: () for rdev in rdevs}, True, dict.fromkeys(rdevs, 0))
        return nobody, (Missing(Source.PROC, f"who has it open: {strerror(error)}"),)


def _waiting(roots: Roots) -> tuple[list[Waiting], tuple[Missing, ...]]:
    """The tasks that wait in the drivers, and what kept us from looking at all."""
    try:
        return list(waiting(roots.proc)), ()
    except OSError as error:
        return [], (Missing(Source.PROC, f"who waits in the driver: {strerror(error)}"),)


def _open_nldev(roots: Roots, stack: ExitStack, missing: list[Missing]) -> RdmaNetlink | None:
    # Opening the socket would load ib_core where it is not loaded: not ours to do.
    if not os.path.isdir(f"{roots.sys}/class/infiniband"):
        return None
    try:
        return stack.enter_context(Nldev())
    except OSError as error:
        missing.append(Missing(Source.NLDEV, f"socket: {strerror(error)}"))
        return None


def _ask(links: LinkSource, seen: Iterable[_Seen]) -> None:
    if netdevs := _here(seen):
        masters = (links.index(dev.master) for dev in netdevs if dev.master)
        links.ask({dev.ifindex for dev in netdevs} | {index for index in masters if index})


def _collect(links: LinkSource, seen: Iterable[_Seen]) -> Mapping[int, LinkFacts] | None:
    return links.collect() if _here(seen) else {}


def _here(seen: Iterable[_Seen]) -> list[Netdev]:
    return [port.netdev for scan in seen for port in scan.function.netdevs]


def _sysfs_is_ours(
    seen: Iterable[_Seen], answered: Mapping[int, LinkFacts] | None, links: LinkSource
) -> bool:
    """Whether all netdevs are of this network namespace (after `nsenter --net` they are not).

    While rtnetlink does not answer, name and index must suffice: another netdev may have the same.
    """
    if answered is None:
        return all(links.index(netdev.name) == netdev.ifindex for netdev in _here(seen))
    return all(
        is_same(port.netdev, scan.function.pci, answered.get(port.netdev.ifindex))
        for scan in seen
        for port in scan.function.netdevs
    )


def _see(
    roots: Roots,
    netlink: RdmaNetlink | None,
    netns: NetnsSource,
    pci: str,
    *,
    foreign: bool = False,
) -> _Seen:
    """Read a function until nothing that shows the owner changed while it was read.

    `foreign`: the netdevs in /sys are not those of this network namespace.
    """
    before = _sample(roots, pci)
    for _ in range(_TRIES):
        function, vports, missing = before
        devices, unlisted = rdma.list_devices(netlink) if function.rdma else ([], [])
        view = rdma.view(function, netlink, devices)
        numbers, complete = _numbers(function, vports, view)
        shown = {port.dev_port + 1: port.netdev.admin_up for port in function.netdevs}
        if foreign:
            function = function._replace(netdevs=())
        in_netns, unsearched = _in_other_netns(function, numbers if complete else None, netns)
        after = _sample(roots, pci)
        steady = after == before
        if steady:
            break
        before = after
    unread = (*missing, *unlisted, *view.missing, *unsearched)
    own = [sysfs.PortNetdev(at.netdev, n - 1) for n, at in in_netns.items() if not at.netns]
    function = function._replace(netdevs=(*function.netdevs, *own))
    in_netns = {number: at for number, at in in_netns.items() if at.netns}
    known = frozenset(numbers.union(shown, in_netns, (n.dev_port + 1 for n in own)))
    return _Seen(function, vports, view, shown, in_netns, known, unread, steady)


_Sample = tuple[sysfs.Function, Mapping[int, debugfs.VportDir] | None, tuple[Missing, ...]]


def _sample(roots: Roots, pci: str) -> _Sample:
    function = sysfs.function(roots, pci)
    try:
        vports = debugfs.vports(roots.sys, [pci, *sysfs.slot_names(roots, pci)])
    except PermissionError:
        return function, None, (Missing(Source.DEBUGFS, "only root may list it"),)
    except FileNotFoundError:
        try:
            why = _NO_DEBUGFS[debugfs.mounted(roots.sys, roots.proc)]
        except OSError as error:
            why = str(error.strerror)
        return function, None, (Missing(Source.DEBUGFS, why),)
    except OSError as error:
        return function, None, (Missing(Source.DEBUGFS, str(error.strerror)),)
    return function, vports, ()


def _numbers(
    function: sysfs.Function,
    vports: Mapping[int, debugfs.VportDir] | None,
    view: rdma.RdmaView,
) -> tuple[set[int], bool]:
    """The ports that are seen from here, and whether these are all.

    Netdevs may be in other network namespaces: only the driver's debugfs and the device for raw
    queue pairs show every port.
    """
    numbers = {port.dev_port + 1 for port in function.netdevs}
    numbers |= {vport + 1 for vport in vports or ()}
    complete = vports is not None or view.raw is not None
    return numbers | set(view.raw.ports if view.raw else ()), complete


def _without_ports(function: sysfs.Function) -> str:
    # mana_probe() makes the auxiliary devices when the netdevs are there (add_adev()).
    return (_NO_NETDEV if function.auxiliary else _NO_PORT).format(pci=function.pci)


def _in_other_netns(
    function: sysfs.Function, numbers: Iterable[int] | None, netns: NetnsSource
) -> tuple[dict[int, NetdevInNetns], tuple[Missing, ...]]:
    """The netdevs, by port number, that the function has beside those that /sys shows.

    `numbers` are its ports, None where only a search of all namespaces tells how many there are.
    """
    here = {port.dev_port for port in function.netdevs}
    absent = None if numbers is None else {number - 1 for number in numbers} - here
    if absent is not None and not absent:
        return {}, ()
    try:
        found = netns.find(function.pci, absent)
    except OSError as error:
        return {}, (Missing(Source.NETNS, f"other network namespaces: {strerror(error)}"),)
    return {dev_port + 1: where for dev_port, where in found.items() if dev_port not in here}, ()


def _held_devices(seen: Iterable[_Seen]) -> set[int]:
    """The uverbs devices worth searching /proc for: not those without an open context."""
    return {rdev for scan in seen if scan.view.facts.contexts != 0 for rdev in _rdevs(scan)}


def _ports(seen: _Seen, shared: _Shared) -> Iterator[PortStatus]:
    facts = _facts(seen)
    device = seen.view.facts._replace(
        in_reset=not seen.function.auxiliary, changing=shared.changing
    )
    decisions = decide(device, facts)
    netdevs = {port.dev_port + 1: port.netdev for port in seen.function.netdevs}
    for fact in facts:
        port = _port(seen, fact, decisions[fact.port], netdevs.get(fact.port), shared)
        labels = [
            netdevs[number].name if number in netdevs else f"{seen.function.pci}:{number}"
            for number in decisions[fact.port].candidates
        ]
        hidden = shared.holders.hidden
        notes = list(port_notes.of(port, decisions, labels, steady=seen.steady, hidden=hidden))
        found = sum(shared.holders.descriptors.get(rdev, 0) for rdev in _rdevs(seen))
        if more := port_notes.unseen(port, found, hidden):
            notes.append(more)
        if more := port_notes.slow(port):
            notes.append(more)
        port = _with_unjoined(port, shared)
        claim = shared.claims.get(port.id.key)
        if (more := port_notes.unjoined(port)) and not (claim and claim.to_recover):
            notes.append(more)
        if port.upper is None and claim is not None:
            port = port._replace(upper=_destroyed(claim, shared.roots))
        notes += [
            port_notes.rdma_users(node.name, count)
            for node, count in seen.view.others_use
            if fact.port in node.ports
        ]
        port = port._replace(notes=tuple(notes), in_reset=device.in_reset)
        moved = seen.in_other_netns.get(fact.port)
        yield _with_claim(port, claim, shared, moved.inode if moved else None)


def _rdevs(seen: _Seen) -> Sequence[int]:
    """What opens the device for raw queue pairs, or what may be that device."""
    nodes = seen.view.hidden if seen.view.raw is None else (seen.view.raw,)
    return [rdev for node in nodes for rdev in node.uverbs]


def _facts(seen: _Seen) -> list[PortFacts]:
    flags = dict(seen.shown)
    flags |= {port.dev_port + 1: port.netdev.admin_up for port in seen.function.netdevs}
    flags |= {number: at.netdev.admin_up for number, at in seen.in_other_netns.items()}
    vports = seen.vports or {}
    return [
        PortFacts(
            port=number,
            admin_up=flags.get(number),
            eqs=vports[number - 1].eqs if number - 1 in vports else None,
            rx=vports[number - 1].rx if number - 1 in vports else None,
        )
        for number in sorted(seen.numbers)
    ]


def _port(
    seen: _Seen, fact: PortFacts, decision: Decision, netdev: Netdev | None, shared: _Shared
) -> PortStatus:
    pci = seen.function.pci
    netdev = netdev and _with_link(netdev, shared.links)
    upper = _upper(netdev, shared)
    moved = seen.in_other_netns.get(fact.port)
    if netdev is None and moved is not None:
        netdev = moved.netdev
        upper = UpperDevice(netdev.master, None) if netdev.master else None
    may_be_held = decision.owner is Owner.RAW_QP or bool(decision.candidates)
    rdevs = _rdevs(seen) if may_be_held else ()
    held = {holder.pid: holder for rdev in rdevs for holder in shared.holders.of.get(rdev, ())}
    return PortStatus(
        id=PortId(pci, fact.port, netdev.permanent_mac if netdev else None),
        netdev=netdev,
        netns=moved.netns if moved else None,
        upper=upper,
        rdma=_rdma_port(seen.view, fact.port),
        owner=decision.owner,
        certainty=decision.certainty,
        candidates=tuple(f"{pci}:{number}" for number in decision.candidates),
        holders=tuple(held.values()),
        evidence=(*_evidence(netdev, moved, fact, seen.view, tuple(held)), *_of_pair(upper)),
        reasons=decision.reasons,
        rdma_use=seen.view.use,
        vport_eqs=fact.eqs,
        eqs_lost=decision.eqs_lost,
        rdma_elsewhere=tuple(node.name for node in seen.function.elsewhere),
        raw_elsewhere=seen.view.facts.elsewhere,
    )


def _with_link(netdev: Netdev, links: Mapping[int, LinkFacts] | None) -> Netdev:
    """The netdev with what rtnetlink adds; a link of the same index and another name is not it."""
    link = (links or {}).get(netdev.ifindex)
    if link is None or link.name != netdev.name:
        return netdev
    return netdev._replace(
        altnames=link.altnames,
        carrier=link.carrier if netdev.admin_up else None,
        permanent_mac=link.permanent_mac or netdev.permanent_mac,
    )


def _upper(netdev: Netdev | None, shared: _Shared) -> UpperDevice | None:
    if netdev is None or netdev.master is None:
        return None
    kind, uuid = None, None
    if not shared.foreign:
        from manactl.look import pairs  # noqa: PLC0415 - only for a port with a master

        kind, uuid = sysfs.upper_kind(shared.roots, netdev.master)
        if nic := pairs.synthetic(netdev, shared.roots):
            path = pairs.data_path(netdev, nic, shared.roots)
            more = shared.named(netdev.master, nic.ifindex)
            found = UpperDevice(netdev.master, kind, nic.uuid, path, nic.admin_up)
            return found._replace(altnames=more and more.altnames)
    link = shared.named(netdev.master)
    if kind is None and link is not None:
        kind = link.kind
    return UpperDevice(netdev.master, kind, uuid, altnames=link and link.altnames)


def _with_unjoined(port: PortStatus, shared: _Shared) -> PortStatus:
    """The port with the VMBus device whose VF it is to be; that one's netdev is above it already,
    as far as all others are concerned."""
    netdev, roots = port.netdev, shared.roots
    if netdev is None or netdev.master is not None or port.netns is not None or shared.foreign:
        return port
    if not os.path.isdir(f"{roots.sys}/bus/vmbus/devices"):
        return port
    from manactl.look import pairs  # noqa: PLC0415 - only on a machine with a VMBus

    nic = pairs.unjoined(netdev, roots)
    if nic is None:
        return port
    upper = None
    if nic.netdev is not None:
        path = "synthetic" if nic.admin_up else None
        upper = UpperDevice(nic.netdev, "netvsc", nic.uuid, path, nic.admin_up)
    return port._replace(upper=upper, unjoined=nic.uuid)


def _destroyed(claim: "ClaimSummary", roots: Roots) -> UpperDevice | None:
    """The synthetic netdev of a pair that was claimed for uio, as long as there is none: its name is
    what the journal has, also where uio_hv_generic does not have the device (yet, or any more)."""
    of_uio = claim.claim.synthetic == UIO and claim.same_boot
    if not (of_uio and claim.vmbus and claim.upper):
        return None
    from manactl.look import vmbus  # noqa: PLC0415 - only for a claimed pair

    nic = vmbus.nic(claim.vmbus, roots)
    if nic is not None and nic.netdev is not None:
        return None
    on_uio = nic is not None and nic.driver == vmbus.UIO
    return UpperDevice(
        claim.upper, "netvsc", claim.vmbus, altnames=claim.upper_altnames, on_uio=on_uio
    )


def _ifindex_above(claim: "ClaimSummary", roots: Roots) -> int | None:
    """Of the synthetic netdev of a claimed pair as it is now."""
    if not claim.vmbus:
        return None
    from manactl.look import vmbus  # noqa: PLC0415 - only for a claimed pair

    nic = vmbus.nic(claim.vmbus, roots)
    return nic and nic.ifindex


def _rdma_port(view: rdma.RdmaView, number: int) -> RdmaPort | None:
    if view.raw is None or number not in view.raw.ports:
        return None
    others = tuple(f"{node.name}/{number}" for node in view.others if number in node.ports)
    return RdmaPort(view.raw.name, number, others)


def _evidence(
    netdev: Netdev | None,
    moved: NetdevInNetns | None,
    fact: PortFacts,
    view: rdma.RdmaView,
    pids: tuple[int, ...],
) -> tuple[Evidence, ...]:
    found = []
    if netdev is None or moved is not None:
        found.append(Evidence("sysfs", "netdev", None))
    if moved is not None:
        found.append(Evidence("netns", f"netdev in {moved.netns}", moved.netdev.name))
    if netdev is not None and netdev.flags is not None:
        found.append(Evidence("sysfs", "flags", f"{netdev.flags:#x}"))
    if fact.eqs is not None:
        found.append(Evidence("debugfs", "EQs", fact.eqs))
    if fact.rx is not None:
        found.append(Evidence("debugfs", "RX", fact.rx))
    found += view.evidence
    if pids:
        found.append(Evidence("proc", "processes with the uverbs device open", list(pids)))
    return tuple(found)


def _of_pair(upper: UpperDevice | None) -> Iterator[Evidence]:
    if upper is not None and upper.vmbus is not None:
        yield Evidence("sysfs", f"VMBus device of {upper.netdev}", upper.vmbus)
        yield Evidence("sysfs", f"data path of {upper.netdev}", upper.data_path)


def _with_claim(
    port: PortStatus, claim: "ClaimSummary | None", shared: _Shared, inode: int | None
) -> PortStatus:
    """The port with its claim; without one it is unclaimed, where all journals were read. `inode`:
    of the other network namespace that has its netdev."""
    if claim is None:
        more = port_notes.unclaimed(port) if shared.claims_known else None
        return port._replace(notes=(*port.notes, more)) if more else port
    above = None if shared.foreign else _ifindex_above(claim, shared.roots)
    drift = tuple(port_notes.drift(port, claim, shared.netns, inode, above))
    elsewhere = port_notes.claimed_elsewhere(claim, shared.netns)
    more = claim.next_step if elsewhere is None else None if elsewhere in drift else elsewhere
    hold = None if elsewhere else port_notes.hold_keeps_down(drift, claim.claim.synthetic)
    return port._replace(
        claim=claim.claim,
        claimed_names=claim.names if claim.same_boot else (),
        drift=drift,
        notes=(*port.notes, *(note for note in (more, hold, claim.waits) if note)),
    )


def _with_boot_files(port: PortStatus, files: Iterable["BootFile"]) -> PortStatus:
    """The port with what is said of it below /etc, but of another NIC in its place."""
    mine = [file.path for file in files if file.is_of(port.id)]
    return port._replace(notes=(*port.notes, port_notes.left_down(mine))) if mine else port


def _by_port(claims: Iterable["ClaimSummary"]) -> dict[tuple[str, int], "ClaimSummary"]:
    return {claim.port.key: claim for claim in claims}
