"""What `doctor` knows about a machine. Plain values; None is "could not be read"."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from manactl.look.debugfs import Mount
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import OddFile
from manactl.netstate.surroundings import Daemon, Manager


class Module(enum.StrEnum):
    """Where a kernel module stands."""

    LOADED = "loaded"  # or built in
    INSTALLED = "installed"
    ABSENT = "absent"


class Shape(enum.StrEnum):
    """What the mana driver shows in debugfs: the driver's generation by what it does."""

    NOTHING = "nothing"  # no directory of its own
    SHARED_EQS = "shared-eqs"  # one EQs for the function: nothing about a vport
    VPORT_EQS = "vport-eqs"  # vportN/EQs exactly while the vport has an owner


@dataclass(frozen=True, slots=True)
class Uverbs:
    """A uverbs character device: what libibverbs opens. `mode` is None where the node is missing."""

    path: str
    rdma_device: str
    mode: int | None
    uid: int = 0
    usable: bool = False  # this process may open it for reading and writing


@dataclass(frozen=True, slots=True)
class Function:
    """A MANA PCI function."""

    pci: str
    driver: str | None
    ports: int
    rdma: tuple[str, ...]  # RDMA devices that are visible here
    rdma_served: bool  # mana_ib has bound to it, whether its devices are visible here or not
    rdma_elsewhere: tuple[str, ...] = ()  # RDMA devices in other network namespaces
    set_up: bool = False  # the driver has got as far as the devices that mana_ib binds to


@dataclass(frozen=True, slots=True)
class PciManager:
    """A network manager and a port that it manages, or of which it does not report that."""

    port: str
    manager: Manager
    network_file: str | None = None  # the .network file that networkd applies to it


@dataclass(frozen=True, slots=True)
class HugePages:
    """Huge pages of one size, in kB."""

    size: int
    total: int
    free: int


@dataclass(frozen=True, slots=True)
class Journals:
    """What the state directory holds of unfinished claims."""

    interrupted: tuple[str, ...] = ()  # ports whose claim or release was interrupted
    stale: tuple[str, ...] = ()  # ports claimed before the last boot
    broken: str | None = None  # why a journal cannot be used
    unread: str | None = None  # why the directory could not be read


class Away(NamedTuple):
    """A port whose netdev is in another network namespace: that one's name, or a path to it."""

    port: str
    netns: str
    netdev: str | None


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything that the findings are decided from, read once."""

    kernel: str
    functions: tuple[Function, ...]
    modules: Mapping[str, Module]
    debugfs: Mount | None  # None: only root may look
    shape: Shape | None
    lockdown: str | None
    rdma_netns: str | None  # "shared" or "exclusive"
    uverbs: tuple[Uverbs, ...]
    provider: str | None  # the mana provider of libibverbs; "" where there is none
    rdma_core: int | None  # its version, 56 of libmana.so.1.0.56.1
    announced: bool | None  # a file of libibverbs' configuration names the provider
    listed: tuple[str, ...] | None  # RDMA devices that libibverbs lists; None: it did not answer
    pyverbs: bool
    capabilities: int  # those that are good here
    memlock: int  # soft RLIMIT_MEMLOCK in bytes, -1 for no limit
    hugepages: tuple[HugePages, ...]
    hugetlbfs: tuple[str, ...]  # mount points
    hugepage_files: tuple[str, ...]  # left by DPDK programs that are gone
    iommu_groups: int
    managers: tuple[PciManager, ...] | None
    systemd: str | None  # version, only where networkd runs
    uio_vmbus: tuple[str, ...] | None  # VMBus devices that uio_hv_generic has; None: not loaded
    journals: Journals
    state_dir: str | None  # why a claim could not write there; None: it could
    unmanned: tuple[str, ...] = ()  # ports owned by a raw QP without a claim
    in_other_netns: tuple[Away, ...] = ()
    netvsc: bool = False  # hv_netvsc has a VMBus device
    own_user_namespace: bool = False  # root of it is root of nothing else
    daemons: tuple[Daemon, ...] = ()  # who changes links, addresses or routes beside them
    odd_files: tuple[OddFile, ...] = ()  # of `claim --persist`, that cannot be used
    waiting: tuple[str, ...] = ()  # what `status` reports of a driver that is busy or broken
