"""Every finding of `doctor`, each from the one fact that makes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from manactl.doctor import fitness
from manactl.doctor.finding import Level
from manactl.doctor.machine import Away, HugePages, Journals, Machine, Module, Shape
from manactl.look.debugfs import Mount
from manactl.netstate.surroundings import Daemon, Does
from tests.unit.doctor.fit import FIT, FUNCTION, LOADED, NODE, manager
from tests.unit.wording import wording


def test_a_fit_machine() -> None:
    found = fitness.findings(FIT)
    assert fitness.fit(found)
    assert {one.code for one in found if one.level is not Level.FINE} == {"kernel-bug-mtu"}


FIX, ADVICE, UNSEEN = Level.FIX, Level.ADVICE, Level.UNSEEN
CASES: list[tuple[dict[str, Any], str, Level, str]] = [
    ({"functions": (replace(FUNCTION, driver="vfio-pci"),)}, "driver", FIX, "vfio-pci/unbind"),
    ({"functions": (replace(FUNCTION, driver=None),)}, "driver", FIX, "mana/bind"),
    (
        {"functions": (replace(FUNCTION, driver=None),),
         "modules": LOADED | {"mana": Module.INSTALLED}},
        "driver", FIX, "modprobe mana",
    ),
    ({"functions": (replace(FUNCTION, ports=0),)}, "no-port", FIX, "journalctl"),
    (
        {"functions": (replace(FUNCTION, rdma=(), rdma_served=False),),
         "modules": LOADED | {"mana_ib": Module.INSTALLED}},
        "mana-ib", FIX, "modprobe mana_ib",
    ),
    (
        {"functions": (replace(FUNCTION, rdma=(), rdma_served=False),),
         "modules": LOADED | {"mana_ib": Module.ABSENT}},
        "mana-ib", FIX, "linux-modules-extra-7.3.4",
    ),
    (
        {"functions": (replace(FUNCTION, rdma=(), rdma_served=False),)},
        "mana-ib", FIX, "journalctl",
    ),
    (
        {"modules": LOADED | {"ib_uverbs": Module.INSTALLED}, "uverbs": ()},
        "ib-uverbs", FIX, "modprobe ib_uverbs",
    ),
    ({"uverbs": (replace(NODE, mode=None),)}, "uverbs-node", FIX, "udevadm trigger"),
    ({"uverbs": (replace(NODE, mode=0o600),)}, "uverbs-access", ADVICE, "chmod 0666"),
    ({"functions": (replace(FUNCTION, rdma=()),)}, "rdma-netns", FIX, "netns shared"),
    ({"rdma_netns": "exclusive"}, "rdma-netns", ADVICE, "netns shared"),
    ({"waiting": ("pid 7 waits",)}, "driver-busy", FIX, "status -v"),
    ({"shape": Shape.SHARED_EQS}, "generation", ADVICE, ""),
    ({"shape": Shape.NOTHING}, "kernel-bug-open", ADVICE, ""),
    ({"debugfs": Mount.NOT_MOUNTED, "shape": None}, "debugfs", ADVICE, "mount -t debugfs"),
    ({"debugfs": None, "shape": None}, "debugfs", UNSEEN, ""),
    ({"provider": "", "listed": ()}, "rdma-core", FIX, "ibverbs-providers"),
    ({"listed": ()}, "rdma-core", FIX, "--reinstall"),
    ({"listed": (), "announced": False}, "rdma-core", FIX, "driver mana"),
    ({"rdma_core": 39}, "rdma-core", FIX, "ibverbs-providers"),
    ({"pyverbs": False}, "pyverbs", ADVICE, "python3-pyverbs"),
    ({"capabilities": 0}, "privilege", UNSEEN, "sudo"),
    ({"capabilities": 0, "memlock": 64 << 10}, "memlock", ADVICE, "ulimit -l"),
    ({"hugepages": (HugePages(2048, 0, 0),)}, "hugepages", ADVICE, "nr_hugepages"),
    ({"hugetlbfs": ()}, "hugetlbfs", ADVICE, "mount -t hugetlbfs"),
    ({"hugepage_files": ("/dev/hugepages/rtemap_0",)}, "hugepage-files", ADVICE, "rm /dev"),
    ({"managers": None}, "manager", UNSEEN, ""),
    ({"managers": (manager("NetworkManager", True),)}, "manager", FIX, "managed no"),
    ({"managers": (manager("systemd-networkd", None),)}, "manager", FIX, "10-a.network.d"),
    ({"managers": (manager("wicked", True),)}, "manager", FIX, "STARTMODE"),
    ({"managers": (manager("dhcpcd", True),)}, "manager", FIX, "denyinterfaces eth1"),
    ({"managers": (manager("ifupdown", True),)}, "manager", FIX, "--allow manager"),
    ({"daemons": (Daemon("FRR", Does.ROUTES, ()),)}, "manager", ADVICE, ""),
    ({"systemd": "257.6-1"}, "systemd", ADVICE, "apt"),
    ({"uio_vmbus": ()}, "uio", ADVICE, "remove_id"),
    ({"journals": Journals(interrupted=("a:1",))}, "interrupted", FIX, "manactl recover"),
    ({"journals": Journals(stale=("a:1",))}, "stale", ADVICE, "manactl recover"),
    ({"journals": Journals(broken="torn")}, "journal", FIX, "explain journal"),
    ({"journals": Journals(unread="denied")}, "journal", UNSEEN, ""),
    ({"state_dir": "/var is full"}, "state-dir", FIX, ""),
    ({"unmanned": ("eth1",)}, "unclaimed", ADVICE, "status -v"),
    ({"in_other_netns": (Away("a:1", "blue", "eth1"),)}, "foreign-netns", ADVICE, "ip netns exec"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "code", "level", "command"), CASES)
def test_one_fact_makes_one_finding(
    change: dict[str, Any], code: str, level: Level, command: str
) -> None:
    found = fitness.findings(replace(FIT, **change))
    (finding,) = [x for x in found if x.code == code and x.level is not Level.FINE]
    assert finding.level is level
    with wording:
        assert [part for part in finding.fix if command in part] if command else finding.fix == ()
    assert fitness.fit(found) is (level is not Level.FIX)


def fine(machine: Machine) -> set[str]:
    return {found.code for found in fitness.findings(machine) if found.level is Level.FINE}


def test_what_is_fine_is_said_too() -> None:
    always = {
        *("driver", "mana-ib", "ib-uverbs", "rdma-netns", "rdma-core", "pyverbs", "privilege"),
        *("memlock", "hugepages", "iommu", "generation"),
    }
    assert fine(FIT) == always
    change = {
        "managers": (manager("systemd-networkd", False),),
        "systemd": "257.13-1",
        "lockdown": "integrity",
        "capabilities": 0,
        "memlock": 1 << 30,
        "iommu_groups": 3,
    }
    changed = replace(FIT, **change)  # type: ignore[arg-type]
    assert fine(changed) == (always | {"manager", "lockdown"}) - {"privilege"}


def test_the_worst_comes_first() -> None:
    levels = [
        one.level for one in fitness.findings(replace(FIT, provider="", listed=(), capabilities=0))
    ]
    assert list(dict.fromkeys(levels)) == [FIX, ADVICE, UNSEEN, Level.FINE]
    assert levels == sorted(levels, key=[FIX, ADVICE, UNSEEN, Level.FINE].index)
