"""The facts of `doctor` read from a machine made of files."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from manactl.doctor import read_machine as reading
from manactl.doctor.machine import HugePages, Journals, Module, Shape
from manactl.doctor.read_machine import Places
from manactl.look.sysfs import Roots
from manactl.model.port import Report

RELEASE = "6.8.0-azure"
REPORT = Report(datetime.now(UTC), RELEASE, privileged=True)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    def at(name: str) -> str:
        (tmp_path / name).mkdir()
        return str(tmp_path / name)

    made = Places(
        Roots(at("sys"), at("proc")), at("dev"), at("run"), at("modules"), (at("lib"),), at("state")
    )
    os.chmod(made.state, 0o700)
    write(made.roots.sys, "kernel/debug/x", "")
    return made


def write(base: str, name: str, text: str) -> Path:
    path = Path(base) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_an_empty_machine(places: Places) -> None:
    found = reading.read(REPORT, None, places)
    assert found.functions == ()
    assert found.modules == dict.fromkeys(reading.MODULES, Module.ABSENT)
    assert (found.debugfs, found.shape, found.lockdown) == (True, None, None)
    assert (found.provider, found.rdma_core, found.uio_vmbus) == ("", None, None)
    assert (found.hugepages, found.hugetlbfs, found.managers) == ((), (), ())
    assert found.journals == Journals()


def test_modules(places: Places) -> None:
    Path(places.roots.sys, "module/mana").mkdir(parents=True)
    base = f"{places.modules}/{RELEASE}"
    write(base, "modules.dep", "kernel/x/mana_ib.ko.zst: kernel/y/ib-uverbs.ko.zst\n")
    write(base, "modules.builtin", "kernel/y/ib-uverbs.ko\n")
    assert reading.read(REPORT, None, places).modules == {
        "mana": Module.LOADED,
        "mana_ib": Module.INSTALLED,
        "ib_uverbs": Module.LOADED,
    }


@pytest.mark.parametrize(
    ("names", "shape"),
    [
        ((), Shape.NOTHING),
        (("01:00/EQs/x", "01:00/vport0/x"), Shape.SHARED_EQS),
        (("0000:01:00.0/vport0/x",), Shape.VPORT_EQS),
    ],
)
def test_shapes(places: Places, names: tuple[str, ...], shape: Shape) -> None:
    Path(places.roots.sys, "bus/pci/drivers/mana/0000:01:00.0").mkdir(parents=True)
    for name in names:
        write(places.roots.sys, f"kernel/debug/mana/{name}", "")
    assert reading.read(REPORT, None, places).shape is shape


def test_debugfs_that_is_not_mounted(places: Places) -> None:
    Path(places.roots.sys, "kernel/debug/x").unlink()
    found = reading.read(REPORT, None, places)
    assert (found.debugfs, found.shape) == (False, None)


def test_libraries_and_lockdown(places: Places) -> None:
    (library,) = places.libraries
    write(library, "x86_64-linux-gnu/libibverbs/libmana-rdmav34.so", "")
    write(library, "x86_64-linux-gnu/libmana.so.1.0.56.1", "")
    write(places.roots.sys, "kernel/security/lockdown", "none [integrity] confidentiality\n")
    found = reading.read(REPORT, None, places)
    assert found.provider == f"{library}/x86_64-linux-gnu/libibverbs/libmana-rdmav34.so"
    assert (found.rdma_core, found.lockdown) == (56, "integrity")


def test_huge_pages_and_what_dead_programs_left(places: Places) -> None:
    size = "kernel/mm/hugepages/hugepages-2048kB"
    write(places.roots.sys, f"{size}/nr_hugepages", "64\n")
    write(places.roots.sys, f"{size}/free_hugepages", "60\n")
    mount = Path(places.dev, "hugepages")
    for prefix in ("dead", "alive"):
        write(str(mount), f"{prefix}map_0", "")
        config = write(places.run, f"dpdk/{prefix}/config", "")
    write(places.roots.proc, "mounts", f"nodev {mount} hugetlbfs rw 0 0\n")
    lock = f"1: POSIX  ADVISORY  WRITE 77 08:01:{config.stat().st_ino} 0 EOF\n"
    write(places.roots.proc, "locks", lock)
    found = reading.read(REPORT, None, places)
    assert found.hugepages == (HugePages(2048, 64, 60),)
    assert found.hugepage_files == (f"{mount}/deadmap_0",)


def test_vmbus_devices_of_uio(places: Places) -> None:
    driver = "bus/vmbus/drivers/uio_hv_generic"
    write(places.roots.sys, f"{driver}/new_id", "")
    write(places.roots.sys, f"{driver}/f8615163-0000-1000-2000-000d3aaa0010", "")
    found = reading.read(REPORT, None, places)
    assert found.uio_vmbus == ("f8615163-0000-1000-2000-000d3aaa0010",)


def test_a_broken_journal(places: Places) -> None:
    path = write(places.state, "claims/1.journal", "nonsense\n")
    path.chmod(0o600)
    assert "1.journal" in (reading.read(REPORT, None, places).journals.broken or "")


def test_a_state_directory_that_others_may_write(places: Places) -> None:
    os.chmod(places.state, 0o777)
    assert "root's alone" in (reading.read(REPORT, None, places).state_dir or "")
    missing = places._replace(state=f"{places.state}/not/there")
    assert reading.read(REPORT, None, missing).state_dir is None
