"""A machine that is fit, to be made unfit in one way at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from manactl.doctor.machine import (
    Function,
    HugePages,
    Journals,
    Machine,
    Module,
    PciManager,
    Shape,
    Uverbs,
)
from manactl.look.debugfs import Mount
from manactl.netstate.surroundings import Manager, Process

FUNCTION = Function("7870:00:00.0", "mana", 2, ("manae_0", "mana_0"), rdma_served=True)
NODE = Uverbs("/dev/infiniband/uverbs0", "manae_0", 0o666, usable=True)
ALL_CAPABILITIES = (1 << 41) - 1
LOADED = dict.fromkeys(("mana", "mana_ib", "ib_uverbs"), Module.LOADED)
FIT = Machine(
    kernel="7.3.4",
    functions=(FUNCTION,),
    modules=LOADED,
    debugfs=Mount.MOUNTED,
    shape=Shape.VPORT_EQS,
    lockdown=None,
    rdma_netns="shared",
    uverbs=(NODE,),
    provider="/usr/lib/libibverbs/libmana-rdmav34.so",
    rdma_core=56,
    announced=True,
    listed=("mana_0", "manae_0"),
    pyverbs=True,
    capabilities=ALL_CAPABILITIES,
    memlock=8 << 20,
    hugepages=(HugePages(2048, 64, 64),),
    hugetlbfs=("/dev/hugepages",),
    hugepage_files=(),
    iommu_groups=0,
    managers=(),
    systemd=None,
    uio_vmbus=None,
    journals=Journals(),
    state_dir=None,
)


def manager(name: str, managed: bool | None) -> PciManager:
    return PciManager(
        "eth1", Manager(name, Process(7, name), managed, "/run/x"), "/run/10-a.network"
    )


def machine(**change: Any) -> Machine:
    """FIT but for these facts."""
    return replace(FIT, **change)
