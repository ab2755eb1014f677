"""Every finding of `doctor`, each from the one fact that makes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from manactl.doctor import fitness, kernel_facts
from manactl.doctor.finding import Level
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
from manactl.netstate.surroundings import Manager, Process

FUNCTION = Function("7870:00:00.0", "mana", 2, ("manae_0", "mana_0"), rdma_served=True)
NODE = Uverbs("/dev/infiniband/uverbs0", "manae_0", 0o666, usable=True)
ALL_CAPABILITIES = (1 << 41) - 1
LOADED = dict.fromkeys(("mana", "mana_ib", "ib_uverbs"), Module.LOADED)
FIT = Machine(
    kernel="7.3.4",
    functions=(FUNCTION,),
    modules=LOADED,
    debugfs=True,
    shape=Shape.VPORT_EQS,
    lockdown=None,
    rdma_netns="shared",
    uverbs=(NODE,),
    provider="/usr/lib/libibverbs/libmana-rdmav34.so",
    rdma_core=56,
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


def test_a_fit_machine() -> None:
    found = fitness.findings(FIT)
    assert fitness.fit(found)
    assert {one.code for one in found if one.level is not Level.FINE} == {"kernel-bug-mtu"}


MEND, ADVICE, UNSEEN = Level.MEND, Level.ADVICE, Level.UNSEEN
CASES: list[tuple[dict[str, Any], str, Level, str]] = [
    ({"functions": (replace(FUNCTION, driver="vfio-pci"),)}, "driver", MEND, "vfio-pci/unbind"),
    ({"functions": (replace(FUNCTION, driver=None),)}, "driver", MEND, "mana/bind"),
    (
        {"functions": (replace(FUNCTION, driver=None),),
         "modules": LOADED | {"mana": Module.INSTALLED}},
        "driver", MEND, "modprobe mana",
    ),
    ({"functions": (replace(FUNCTION, ports=0),)}, "no-port", MEND, "journalctl"),
    (
        {"functions": (replace(FUNCTION, rdma=(), rdma_served=False),),
         "modules": LOADED | {"mana_ib": Module.INSTALLED}},
        "mana-ib", MEND, "modprobe mana_ib",
    ),
    (
        {"functions": (replace(FUNCTION, rdma=(), rdma_served=False),),
         "modules": LOADED | {"mana_ib": Module.ABSENT}},
        "mana-ib", MEND, "linux-modules-extra-7.3.4",
    ),
    (
        {"functions": (replace(FUNCTION, rdma=(), rdma_served=False),)},
        "mana-ib", MEND, "journalctl",
    ),
    (
        {"modules": LOADED | {"ib_uverbs": Module.INSTALLED}, "uverbs": ()},
        "ib-uverbs", MEND, "modprobe ib_uverbs",
    ),
    ({"uverbs": (replace(NODE, mode=None),)}, "uverbs-node", MEND, "udevadm trigger"),
    ({"uverbs": (replace(NODE, mode=0o600),)}, "uverbs-access", ADVICE, "chmod 0666"),
    ({"functions": (replace(FUNCTION, rdma=()),)}, "rdma-netns", MEND, "netns shared"),
    ({"rdma_netns": "exclusive"}, "rdma-netns", ADVICE, "netns shared"),
    ({"waiting": ("pid 7 waits",)}, "driver-busy", MEND, "status -v"),
    ({"shape": Shape.SHARED_EQS}, "generation", ADVICE, ""),
    ({"shape": Shape.NOTHING}, "kernel-bug-open", ADVICE, ""),
    ({"debugfs": False, "shape": None}, "debugfs", ADVICE, "mount -t debugfs"),
    ({"debugfs": None, "shape": None}, "debugfs", UNSEEN, ""),
    ({"provider": ""}, "rdma-core", MEND, "ibverbs-providers"),
    ({"rdma_core": 39}, "rdma-core", MEND, "ibverbs-providers"),
    ({"pyverbs": False}, "pyverbs", ADVICE, "python3-pyverbs"),
    ({"capabilities": 0}, "privilege", UNSEEN, "sudo"),
    ({"capabilities": 0, "memlock": 64 << 10}, "memlock", ADVICE, "ulimit -l"),
    ({"hugepages": (HugePages(2048, 0, 0),)}, "hugepages", ADVICE, "nr_hugepages"),
    ({"hugetlbfs": ()}, "hugetlbfs", ADVICE, "mount -t hugetlbfs"),
    ({"hugepage_files": ("/dev/hugepages/rtemap_0",)}, "hugepage-files", ADVICE, "rm /dev"),
    ({"managers": None}, "manager", UNSEEN, ""),
    ({"managers": (manager("NetworkManager", True),)}, "manager", MEND, "managed no"),
    ({"managers": (manager("systemd-networkd", None),)}, "manager", MEND, "10-a.network.d"),
    ({"systemd": "257.6-1"}, "systemd", ADVICE, "apt"),
    ({"uio_vmbus": ()}, "uio", ADVICE, "remove_id"),
    ({"journals": Journals(interrupted=("a:1",))}, "interrupted", MEND, "manactl recover"),
    ({"journals": Journals(stale=("a:1",))}, "stale", ADVICE, "manactl recover"),
    ({"journals": Journals(broken="torn")}, "journal", MEND, ""),
    ({"journals": Journals(unread="denied")}, "journal", UNSEEN, ""),
    ({"state_dir": "/var is full"}, "state-dir", MEND, ""),
    ({"unmanned": ("eth1",)}, "unclaimed", ADVICE, "status -v"),
    ({"elsewhere": ("a:1 (blue)",)}, "foreign-netns", ADVICE, "ip netns exec"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "code", "level", "command"), CASES)
def test_one_fact_makes_one_finding(
    change: dict[str, Any], code: str, level: Level, command: str
) -> None:
    found = fitness.findings(replace(FIT, **change))
    (one,) = [x for x in found if x.code == code and x.level is not Level.FINE]
    assert one.level is level
    assert command in "\n".join(one.mend)
    assert fitness.fit(found) is (level is not Level.MEND)


def test_what_is_fine_is_said_too() -> None:
    said = {one.code for one in fitness.findings(FIT) if one.level is Level.FINE}
    told = {"driver", "mana-ib", "ib-uverbs", "rdma-core", "privilege", "memlock", "hugepages"}
    assert told <= said
    change = {
        "managers": (manager("systemd-networkd", False),),
        "systemd": "257.13-1",
        "lockdown": "integrity",
        "capabilities": 0,
        "memlock": 1 << 30,
        "iommu_groups": 3,
    }
    found = fitness.findings(replace(FIT, **change))  # type: ignore[arg-type]
    said = {one.code for one in found if one.level is Level.FINE}
    assert {"manager", "lockdown", "memlock", "iommu"} <= said


def test_the_worst_comes_first() -> None:
    levels = [one.level for one in fitness.findings(replace(FIT, provider="", capabilities=0))]
    assert levels == sorted(levels, key=[MEND, ADVICE, UNSEEN, Level.FINE].index)


def of_kernel(number: int) -> dict[str, str | None]:
    return {fact.code: fact.lab[number] for fact in kernel_facts.FACTS if fact.lab}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_kernel_of_the_lab_is_recognised(number: int) -> None:
    table = kernel_facts.rows(of_kernel(number))
    assert kernel_facts.verdict(table).startswith(f"like {kernel_facts.KERNELS[number]} ")


def test_other_kernels_are_not() -> None:
    odd = kernel_facts.rows(of_kernel(2) | {"raw-qp-up": "EPERM"})
    assert kernel_facts.verdict(odd) == "like no kernel of the lab: raw-qp-up"
    mixed = kernel_facts.rows(of_kernel(2) | {"raw-qp-up": "ENODEV"})
    assert kernel_facts.verdict(mixed) == "a mixture of the lab's kernels"
    assert "nothing" in kernel_facts.verdict(kernel_facts.rows({"rdma-devices": None}))
