"""Is the user side ready: libraries, limits and memory of the programs that make raw QPs?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from manactl.doctor.finding import Finding, Level, count, fine
from manactl.doctor.machine import Machine
from manactl.escape import command

CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK = 12, 13, 14
RDMA_CORE_WITH_MANA = 44  # the first release whose provider makes raw QPs
_ENOUGH_MEMLOCK = 64 << 20  # bytes; testpmd with its smallest pools pins some 30 MiB


def rdma_core(machine: Machine) -> Iterator[Finding]:
    """libibverbs with the provider for MANA, of an age that makes raw QPs.

    What counts is what libibverbs lists, where it answers: a provider that it does not load is
    none, and one that is in no usual place is one. Devices whose node is missing are left to
    another check.
    """
    nodes = {node.rdma_device for node in machine.uverbs if node.mode is not None}
    seen = nodes & set(machine.listed or ())
    unlisted = sorted(nodes - seen) if machine.listed is not None else []
    if not machine.provider and not seen:
        yield Finding(
            "rdma-core",
            Level.FIX,
            "libibverbs has no provider for MANA",
            "DPDK and other programs find no device without it",
            ("apt install ibverbs-providers  # or: dnf install libibverbs",),
        )
    elif machine.rdma_core is not None and machine.rdma_core < RDMA_CORE_WITH_MANA:
        yield Finding(
            "rdma-core",
            Level.FIX,
            f"rdma-core {machine.rdma_core} is too old",
            f"raw QPs on MANA need {RDMA_CORE_WITH_MANA} or newer",
            ("apt install --only-upgrade rdma-core ibverbs-providers  # or build rdma-core",),
        )
    elif unlisted:
        yield _unlisted(unlisted, announced=machine.announced is not False)
    else:
        version = f" {machine.rdma_core}" if machine.rdma_core else ""
        yield fine("rdma-core", f"rdma-core{version} has the provider for MANA")


def _unlisted(devices: Sequence[str], *, announced: bool) -> Finding:
    """The provider is there, and libibverbs does not use it."""
    what = f"libibverbs does not list {', '.join(devices)}, although its provider for MANA is there"
    why = "DPDK and other programs find no device; "
    if announced:
        return Finding(
            "rdma-core", Level.FIX, what,
            why + "libibverbs reports at its start why it does not load the provider, or its "
            "version does not fit that of the library or of the kernel",
            ("ibv_devices",
             "apt install --reinstall ibverbs-providers  # or: dnf reinstall libibverbs"),
        )  # fmt: skip
    return Finding(
        "rdma-core", Level.FIX, what,
        why + "no file in /etc/libibverbs.d announces the provider",
        ("mkdir -p /etc/libibverbs.d", "echo 'driver mana' > /etc/libibverbs.d/mana.driver"),
    )  # fmt: skip


def pyverbs(machine: Machine) -> Iterator[Finding]:
    if machine.pyverbs:
        yield fine("pyverbs", "pyverbs is there")
        return
    yield Finding(
        "pyverbs",
        Level.ADVICE,
        "pyverbs is not installed",
        "manactl does not need it: it can prove a vport free by the uverbs commands themselves",
        ("apt install python3-pyverbs  # Fedora, RHEL: dnf install python3-pyverbs",),
    )


def privilege(machine: Machine) -> Iterator[Finding]:
    """What this process may do. A claim needs the first, its proof the second."""
    names = {CAP_NET_ADMIN: "CAP_NET_ADMIN", CAP_NET_RAW: "CAP_NET_RAW"}
    lacking = [name for bit, name in names.items() if not machine.capabilities >> bit & 1]
    if not lacking:
        yield fine("privilege", "CAP_NET_ADMIN and CAP_NET_RAW are there")
        return
    what = f"this process has no {' and no '.join(lacking)}"
    why = (
        "claim and release need CAP_NET_ADMIN, a raw QP needs CAP_NET_RAW, and only root sees "
        "everything that is checked here"
    )
    if machine.own_user_namespace:
        what += " that is good for the machine's ports"
        why += (
            ". This is a user namespace of its own (a rootless container, `unshare -Ur`): its root "
            "has all capabilities, over what belongs to that namespace; run manactl outside of it"
        )
    fix = () if machine.own_user_namespace else ("sudo manactl doctor",)
    yield Finding("privilege", Level.UNSEEN, what, why, fix)


def memlock(machine: Machine) -> Iterator[Finding]:
    """Memory that a raw QP uses is pinned, and RLIMIT_MEMLOCK bounds that (ib_umem_get())."""
    if machine.capabilities >> CAP_IPC_LOCK & 1 or machine.memlock < 0:
        yield fine("memlock", "memory may be pinned without limit")
    elif machine.memlock < _ENOUGH_MEMLOCK:
        yield Finding(
            "memlock",
            Level.ADVICE,
            f"RLIMIT_MEMLOCK is {machine.memlock >> 10} KiB",
            "without CAP_IPC_LOCK a DPDK program may not pin its buffers, and gets ENOMEM",
            ("ulimit -l unlimited", "LimitMEMLOCK=infinity in the program's systemd unit"),
        )
    else:
        yield fine("memlock", f"{machine.memlock >> 20} MiB of memory may be pinned")


def hugepages(machine: Machine) -> Iterator[Finding]:
    """DPDK's usual memory. Raw verbs do without, and so does testpmd --no-huge."""
    for path in machine.hugepage_files[:1]:
        files = len(machine.hugepage_files)
        yield Finding(
            "hugepage-files",
            Level.ADVICE,
            f"{count(files, 'file')} of DPDK programs that are gone pin huge pages ({path} ...)",
            "a killed DPDK program leaves such files, and the next program finds too few free pages",
            (command("rm", *machine.hugepage_files),),
        )
    if not any(pool.total for pool in machine.hugepages):
        yield Finding(
            "hugepages",
            Level.ADVICE,
            "there are no huge pages",
            "a DPDK program exits at its start without them (unless it has --no-huge)",
            ("echo 1024 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",),
        )
    elif not machine.hugetlbfs:
        yield Finding(
            "hugetlbfs",
            Level.ADVICE,
            "hugetlbfs is not mounted",
            "DPDK takes its huge pages there",
            ("mkdir -p /dev/hugepages", "mount -t hugetlbfs nodev /dev/hugepages"),
        )
    else:
        sizes = [
            f"{p.free} of {p.total} of {p.size >> 10} MiB free"
            for p in machine.hugepages
            if p.total
        ]
        yield fine("hugepages", f"huge pages: {', '.join(sizes)}")


def iommu(machine: Machine) -> Iterator[Finding]:
    groups = machine.iommu_groups
    yield fine("iommu", f"IOMMU: {count(groups, 'group')}" if groups else
                "no IOMMU; none is needed, since the mana driver stays bound")  # fmt: skip
