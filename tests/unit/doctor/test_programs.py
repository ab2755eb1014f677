"""What `doctor` finds of libraries, capabilities, limits and memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from manactl.doctor import programs
from manactl.doctor.machine import HugePages
from tests.unit.doctor.fit import FIT, NODE, machine
from tests.unit.doctor.test_drivers import brief, check
from tests.unit.wording import wording

MIB = 1 << 20
NET_ADMIN, NET_RAW, IPC_LOCK = (1 << bit for bit in (12, 13, 14))


@pytest.mark.parametrize(
    ("provider", "version", "level"),
    [
        ("/x/libmana-rdmav34.so", 56, "fine"),
        ("/x/libmana-rdmav34.so", 44, "fine"),
        ("/x/libmana-rdmav34.so", 43, "mend"),
        ("/x/libmana-rdmav34.so", None, "fine"),
        ("", 56, "mend"),
        ("", None, "mend"),
    ],
)
def test_the_provider_and_its_age(provider: str, version: int | None, level: str) -> None:
    listed = FIT.listed if provider else ()
    (found,) = programs.rdma_core(machine(provider=provider, rdma_core=version, listed=listed))
    assert (found.code, str(found.level)) == ("rdma-core", level)
    upgrade = "apt install --only-upgrade rdma-core ibverbs-providers"
    commands = [command.partition("  #")[0] for command in found.fix]
    new = "apt install ibverbs-providers"
    with wording:
        assert commands == ([] if level == "fine" else [new if not provider else upgrade])
    assert (str(version) in found.what) is (bool(provider) and version is not None)


@pytest.mark.parametrize(
    ("facts", "level", "word"),
    [
        ({"listed": ()}, "mend", "manae_0"),
        ({"listed": ("mlx5_0",)}, "mend", "manae_0"),
        ({"listed": (), "announced": False}, "mend", "/etc/libibverbs.d"),
        ({"listed": (), "announced": None}, "mend", "reports"),
        ({"listed": ("manae_0",), "announced": False}, "fine", ""),  # it is told in another way
        ({"listed": ("manae_0",), "provider": ""}, "fine", ""),  # it lies in another place
        ({"listed": None}, "fine", ""),
        ({"listed": None, "provider": ""}, "mend", "no provider"),
        ({"listed": (), "uverbs": (replace(NODE, mode=None),)}, "fine", ""),
        ({"listed": (), "uverbs": ()}, "fine", ""),
        ({"listed": (), "rdma_core": 39}, "mend", "too old"),
    ],
)
def test_what_counts_is_what_libibverbs_lists(facts: dict[str, Any], level: str, word: str) -> None:
    (found,) = programs.rdma_core(machine(**facts))
    assert (found.code, str(found.level)) == ("rdma-core", level)
    with wording:
        assert word in f"{found.what} {found.why}"


@pytest.mark.wording
def test_a_provider_that_is_not_announced_is_announced_again() -> None:
    (found,) = programs.rdma_core(machine(listed=(), announced=False))
    assert found.fix == (
        "mkdir -p /etc/libibverbs.d",
        "echo 'driver mana' > /etc/libibverbs.d/mana.driver",
    )


def test_pyverbs_is_nice_to_have() -> None:
    assert check(programs.pyverbs) == [("pyverbs", "fine", ())]
    ((code, level, (command,)),) = check(programs.pyverbs, pyverbs=False)
    assert (code, level) == ("pyverbs", "advice")
    with wording:
        assert command.startswith("apt install python3-pyverbs ")


@pytest.mark.parametrize(
    ("capabilities", "lacking"),
    [
        (NET_ADMIN | NET_RAW, []),
        (NET_ADMIN, ["CAP_NET_RAW"]),
        (NET_RAW, ["CAP_NET_ADMIN"]),
        (IPC_LOCK, ["CAP_NET_ADMIN", "CAP_NET_RAW"]),
    ],
)
def test_capabilities(capabilities: int, lacking: list[str]) -> None:
    (found,) = programs.privilege(machine(capabilities=capabilities))
    if not lacking:
        assert brief([found]) == [("privilege", "fine", ())]
        return
    (inside,) = programs.privilege(machine(capabilities=capabilities, own_user_namespace=True))
    assert brief([inside]) == [("privilege", "unseen", ())]
    assert inside.what.startswith(found.what)
    with wording:
        assert "user namespace" in inside.why
        assert brief([found]) == [("privilege", "unseen", ("sudo manactl doctor",))]
    named = [word.strip(",") for word in found.what.split() if word.startswith("CAP_")]
    with wording:
        assert named == lacking


@pytest.mark.parametrize(
    ("capabilities", "limit", "level", "shown"),
    [
        (IPC_LOCK, 0, "fine", None),
        (0, -1, "fine", None),
        (0, 64 * MIB, "fine", "64 MiB"),
        (0, 64 * MIB - 1, "advice", "65535 KiB"),
        (NET_RAW, 8 * MIB, "advice", "8192 KiB"),
    ],
)
def test_memory_that_may_be_pinned(
    capabilities: int, limit: int, level: str, shown: str | None
) -> None:
    (found,) = programs.memlock(machine(capabilities=capabilities, memlock=limit))
    assert (found.code, str(found.level)) == ("memlock", level)
    with wording:
        assert (shown or "without limit") in found.what
    assert found.fix[:1] == (() if level == "fine" else ("ulimit -l unlimited",))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, [("hugepages", "fine")]),
        ({"hugepages": ()}, [("hugepages", "advice")]),
        ({"hugepages": (HugePages(2048, 0, 0), HugePages(1 << 20, 0, 0))}, [("hugepages", "advice")]),
        ({"hugetlbfs": ()}, [("hugetlbfs", "advice")]),
        ({"hugepages": (), "hugetlbfs": ()}, [("hugepages", "advice")]),
        ({"hugepage_files": ("/h/a", "/h/b")}, [("hugepage-files", "advice"), ("hugepages", "fine")]),
    ],
)  # fmt: skip
def test_huge_pages(change: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert [one[:2] for one in check(programs.hugepages, **change)] == found


def test_huge_pages_are_counted_by_size_and_files_named_once() -> None:
    pages = (HugePages(2048, 64, 60), HugePages(1 << 20, 0, 0), HugePages(1 << 20, 2, 1))
    files = ("/h/amap_0", "/h/amap_1")
    left, fine = programs.hugepages(machine(hugepages=pages, hugepage_files=files))
    with wording:
        assert fine.what.endswith("60 of 64 of 2 MiB free, 1 of 2 of 1024 MiB free")
        assert left.what.startswith("2 files ")
    assert left.fix == ("rm /h/amap_0 /h/amap_1",)
    assert "/h/amap_0" in left.what
    assert "/h/amap_1" not in left.what


def test_an_iommu_is_as_good_as_none() -> None:
    (none,), (one,), (many,) = (programs.iommu(machine(iommu_groups=n)) for n in (0, 1, 3))
    assert brief([none, one, many]) == [("iommu", "fine", ())] * 3
    assert (one.what, many.what) == ("IOMMU: 1 group", "IOMMU: 3 groups")
    with wording:
        assert not any(char.isdigit() for char in none.what)
