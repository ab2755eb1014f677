"""The facts of `doctor` read from a machine made of files."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from manactl.doctor import read_machine as reading
from manactl.doctor.machine import (
    Away,
    Function,
    HugePages,
    Journals,
    Module,
    PciManager,
    Shape,
    Uverbs,
)
from manactl.doctor.read_machine import Places
from manactl.look.debugfs import Mount
from manactl.look.sysfs import Roots
from manactl.look.vmbus import NETWORK
from manactl.model.port import (
    Certainty,
    ClaimInfo,
    Missing,
    Netdev,
    Owner,
    PortId,
    PortStatus,
    Report,
    Source,
    Upper,
)
from manactl.netstate.surroundings import Manager, Process
from tests.unit.journal.test_file import HEADER, written
from tests.unit.wording import wording

RELEASE = "6.8.0-azure"
REPORT = Report(datetime.now(UTC), RELEASE, privileged=True)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    def at(name: str) -> str:
        (tmp_path / name).mkdir()
        return str(tmp_path / name)

    made = Places(
        Roots(at("sys"), at("proc")),
        at("dev"),
        at("run"),
        at("modules"),
        (at("lib"),),
        at("libibverbs.d"),
        at("state"),
        at("var-lib"),
        at("etc"),
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
    assert (found.debugfs, found.shape, found.lockdown) == (Mount.MOUNTED, None, None)
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
    assert (found.debugfs, found.shape) == (Mount.NOT_MOUNTED, None)
    write(places.roots.proc, "filesystems", "nodev\tsysfs\n")
    assert reading.read(REPORT, None, places).debugfs is Mount.NOT_OFFERED
    Path(places.roots.sys, "kernel/debug").rmdir()
    found = reading.read(REPORT, None, places)
    assert (found.debugfs, found.shape) == (Mount.NOT_OFFERED, None)


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
    with wording:
        assert "root's alone" in (reading.read(REPORT, None, places).state_dir or "")
    missing = places._replace(state=f"{places.state}/not/there")
    assert reading.read(REPORT, None, missing).state_dir is None


PCI = "7870:00:00.0"


def device(places: Places, pci: str, ids: str, driver: str | None) -> Path:
    vendor, kind = ids.split(":")
    base = Path(places.roots.sys, "bus/pci/devices", pci)
    write(str(base), "vendor", f"0x{vendor}\n")
    write(str(base), "device", f"0x{kind}\n")
    if driver is not None:
        there = Path(places.roots.sys, "bus/pci/drivers", driver, pci)
        there.mkdir(parents=True)
        (base / "driver").symlink_to(there.parent)
    return base


def port(number: int, owner: Owner = Owner.FREE, **more: Any) -> PortStatus:
    return PortStatus(
        id=PortId(PCI, number, None),
        netdev=Netdev(f"eth{number}", 40 + number, 0x1002, "down", None, None, None),
        netns=more.pop("netns", None),
        upper=None,
        rdma=None,
        owner=owner,
        certainty=Certainty.PROVEN,
        **more,
    )


def test_functions_with_their_ports_and_devices_and_those_of_other_drivers(places: Places) -> None:
    base = device(places, PCI, "1414:00ba", "mana")
    for name in ("manae_0", "mana_0"):
        write(str(base), f"infiniband/{name}/node_guid", "0000:0000:0000:0000\n")
        (base / f"infiniband/{name}/ports").mkdir()
    device(places, "7871:00:00.0", "1414:00ba", "vfio-pci")
    device(places, "7872:00:00.0", "1414:00ba", None)
    device(places, "7873:00:00.0", "1414:1234", None)  # not a MANA device
    device(places, "7874:00:00.0", "8086:00ba", None)
    elsewhere = port(1)._replace(id=PortId("7879:00:00.0", 1, None))
    report = REPORT._replace(ports=(port(1), port(2), elsewhere))
    assert reading.read(report, "shared", places).functions == (
        Function(PCI, "mana", 2, ("mana_0", "manae_0"), True),
        Function("7871:00:00.0", "vfio-pci", 0, (), False),
        Function("7872:00:00.0", None, 0, (), False),
    )
    assert reading.read(report, "shared", places).rdma_netns == "shared"


def test_uverbs_devices_of_a_function(places: Places) -> None:
    base = device(places, PCI, "1414:00ba", "mana")
    for number, name in ((2, "mana_0"), (0, "manae_0"), (1, "x")):
        write(str(base), f"infiniband_verbs/uverbs{number}/ibdev", f"{name}\n")
    where = Path(places.dev, "infiniband")
    where.mkdir()
    (where / "uverbs2").symlink_to("/dev/null")
    write(str(where), "uverbs1", "").chmod(0o640)
    assert reading.read(REPORT, None, places).uverbs == (
        Uverbs(f"{where}/uverbs0", "manae_0", None),
        Uverbs(f"{where}/uverbs1", "x", 0o640, os.geteuid(), usable=False),  # no device
        Uverbs(f"{where}/uverbs2", "mana_0", 0o666, 0, usable=True),
    )


def test_ports_that_are_held_without_a_claim_or_elsewhere(places: Places) -> None:
    claim = ClaimInfo(datetime.now(UTC), {"uid": 0}, "claim", None, True, None)
    held = (port(1, Owner.RAW_QP), port(2, Owner.RAW_QP, claim=claim), port(3, Owner.FREE))
    away = port(4, netns="blue")
    found = reading.read(REPORT._replace(ports=(*held, away)), None, places)
    assert found.unmanned == ("eth1",)
    assert found.in_other_netns == (Away(f"{PCI}:4", "blue", "eth4"),)


def test_only_what_waits_in_the_drivers_waits() -> None:
    missing = [Missing(source, f"{source} waits") for source in Source]
    assert reading.waiting(REPORT._replace(missing=tuple(missing))) == (
        "rtnetlink waits",
        "mana waits",
    )


@pytest.mark.parametrize(
    ("names", "version"),
    [
        (("libmana.so.1.0.39.0", "x-linux-gnu/libmana.so.1.0.56.1"), 56),
        (("libmana.so.1.0.56.1", "x-linux-gnu/libmana.so.1.0.39.0"), 56),
        (("other/libmana.so.1.0.56.1",), None),
        (("libmana.so.1", "libmana.so.1.0.56.1.old"), None),
    ],
)
def test_the_newest_library_of_those_there_are(
    places: Places, names: tuple[str, ...], version: int | None
) -> None:
    for name in names:
        write(places.libraries[0], name, "")
    assert reading.read(REPORT, None, places).rdma_core == version


def test_a_provider_is_where_libibverbs_looks(places: Places) -> None:
    (library,) = places.libraries
    write(library, "libibverbs/libmana-rdmav34.so.old", "")
    assert reading.read(REPORT, None, places).provider == ""
    write(library, "libibverbs/libmana-rdmav57.so", "")
    assert reading.read(REPORT, None, places).provider == (
        f"{library}/libibverbs/libmana-rdmav57.so"
    )


@pytest.mark.parametrize(
    ("files", "announced"),
    [
        ({}, False),
        ({"mana.driver": "driver mana\n"}, True),
        ({"all": "# of the image\n\ndriver mlx5\n driver   mana \n"}, True),
        ({"own": "driver /opt/rdma/lib/libmana\n"}, True),
        ({"mlx5.driver": "driver mlx5\n"}, False),
        ({"mana.driver": "mana\n"}, False),
        ({"mana.driver": "driver mana extra\n"}, False),
        ({".mana.driver.swp": "driver mana\n"}, False),
    ],
)
def test_whether_the_provider_is_announced(
    places: Places, files: dict[str, str], announced: bool
) -> None:
    for name, words in files.items():
        write(places.verbs, name, words)
    assert reading.read(REPORT, None, places).announced is announced


def test_libibverbs_is_asked_where_there_is_a_function(places: Places) -> None:
    asked = []

    def listed() -> tuple[str, ...]:
        asked.append("ibv_devices")
        return ("mana_0",)

    assert reading.read(REPORT, None, places, listed).listed is None
    assert asked == []
    device = Path(places.roots.sys, "bus/pci/devices/7870:00:00.0")
    write(str(device), "vendor", "0x1414\n")
    write(str(device), "device", "0x00ba\n")
    assert reading.read(REPORT, None, places, listed).listed == ("mana_0",)
    assert asked == ["ibv_devices"]


def test_sizes_of_huge_pages_in_order_and_only_whole_ones(places: Places) -> None:
    base = "kernel/mm/hugepages"
    for size, total in ((2048, "3\n"), (1048576, "1\n"), (64, "")):
        write(places.roots.sys, f"{base}/hugepages-{size}kB/nr_hugepages", total)
        write(places.roots.sys, f"{base}/hugepages-{size}kB/free_hugepages", "0\n")
    write(places.roots.sys, f"{base}/other/nr_hugepages", "1\n")
    assert reading.read(REPORT, None, places).hugepages == (
        HugePages(1048576, 1, 0),
        HugePages(2048, 3, 0),
    )


def test_mounts_of_hugetlbfs_alone(places: Places) -> None:
    text = "x /a hugetlbfs rw 0 0\ny /hugetlbfs tmpfs rw 0 0\nshort\nz /b hugetlbfs rw 0 0\n"
    write(places.roots.proc, "mounts", text)
    assert reading.read(REPORT, None, places).hugetlbfs == ("/a", "/b")


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("[none] integrity confidentiality\n", "none"),
        ("none integrity [confidentiality]\n", "confidentiality"),
        ("none integrity\n", None),
    ],
)
def test_lockdown(places: Places, text: str, mode: str | None) -> None:
    write(places.roots.sys, "kernel/security/lockdown", text)
    assert reading.read(REPORT, None, places).lockdown == mode


def test_root_of_a_user_namespace_is_told_from_root(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    os.chmod(places.state, 0o777)
    found = reading.read(REPORT, None, places)
    assert not found.own_user_namespace
    with wording:
        assert "not root's alone" in (found.state_dir or "")
    write(places.roots.proc, "self/ns/user", "")  # any inode but that of the first namespace
    found = reading.read(REPORT, None, places)
    assert found.own_user_namespace
    assert found.state_dir is None  # what belongs to whom cannot be seen from there


def test_iommu_groups_are_counted(places: Places) -> None:
    for number in range(3):
        Path(places.roots.sys, "kernel/iommu_groups", str(number)).mkdir(parents=True)
    assert reading.read(REPORT, None, places).iommu_groups == 3


def test_uio_that_is_loaded_and_has_nothing(places: Places) -> None:
    Path(places.roots.sys, "bus/vmbus/drivers/uio_hv_generic").mkdir(parents=True)
    assert reading.read(REPORT, None, places).uio_vmbus == ()


def running(places: Places, pid: int, comm: str) -> None:
    write(places.roots.proc, f"{pid}/comm", f"{comm}\n")
    write(places.roots.proc, f"{pid}/status", f"Name:\t{comm}\nUid:\t0\t0\t0\t0\n")
    write(places.roots.proc, f"{pid}/cgroup", "0::/\n")


def test_networkd_with_the_file_that_it_applies(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(places, 7, "systemd-network")
    link = "ADMIN_STATE=configured\nNETWORK_FILE=/run/systemd/network/10-azure.network\n"
    write(places.run, "systemd/netif/links/41", link)
    monkeypatch.setattr(reading, "_systemd", lambda managers: f"{len(managers or ())} asked")
    found = reading.read(REPORT._replace(ports=(port(1), port(2, netns="blue"))), None, places)
    assert found.managers is not None
    (one,) = found.managers
    assert (one.port, one.manager.name, one.manager.managed) == ("eth1", "systemd-networkd", True)
    assert one.network_file == "/run/systemd/network/10-azure.network"
    assert found.systemd == "1 asked"


def test_systemd_is_asked_only_where_networkd_runs(places: Places) -> None:
    assert reading.read(REPORT, None, places).systemd is None
    assert reading._systemd(None) is None


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("systemd 257 (257.6-1)\n+PAM", "257.6-1"),
        ("systemd 252\n+PAM", "252"),
        ("nonsense", None),
    ],
)
def test_the_version_as_systemd_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, version: str | None
) -> None:
    program = write(str(tmp_path), "systemctl", f"#!/bin/sh\necho '{printed}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    networkd = PciManager("eth1", Manager("systemd-networkd", Process(7, "x"), True, "/run/x"))
    other = PciManager("eth1", Manager("NetworkManager", Process(7, "x"), True, "/run/x"))
    assert reading._systemd([other, networkd]) == version
    assert reading._systemd([other]) is None


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_journals_that_nobody_finished(places: Places) -> None:
    state = Path(places.state)
    ports = [
        {"pci": PCI, "port": number, "permanent_mac": None, "netdev": "x"} for number in (1, 2)
    ]
    written(state, "doing", header=HEADER | {"boot_id": boot_id(), "ports": ports[:1]})
    written(state, "doing", "claimed", header=HEADER | {"boot_id": "before", "ports": ports[1:]})
    found = reading.read(REPORT, None, places).journals
    assert (found.interrupted, found.stale) == ((f"{PCI}:1",), (f"{PCI}:2",))
    assert (found.broken, found.unread) == (None, None)


def test_a_claim_that_is_whole_is_no_finding(places: Places) -> None:
    written(Path(places.state), "doing", "claimed", header=HEADER | {"boot_id": boot_id()})
    assert reading.read(REPORT, None, places).journals == Journals()


@pytest.mark.parametrize(("mode", "fine"), [(0o700, True), (0o755, True), (0o720, False)])
def test_the_state_directory_is_roots_to_write(places: Places, mode: int, fine: bool) -> None:
    os.chmod(places.state, mode)
    found = reading.read(REPORT, None, places).state_dir
    assert (found is None) is fine
    assert fine or f"{mode:o}" in (found or "")


def test_a_state_directory_that_is_a_file_or_has_no_room(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(places.state, "file", "")
    there = places._replace(state=str(file))
    with wording:
        assert "not a directory" in (reading.read(REPORT, None, there).state_dir or "")
    real = os.statvfs(places.state)

    def room(blocks: int, files: int, free: int, flags: int) -> str | None:
        values = list(real)
        # f_bavail, f_files, f_favail, f_flag
        values[4], values[5], values[7], values[8] = blocks, files, free, flags
        monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(values))
        return reading.read(REPORT, None, places).state_dir

    assert room(1, 1, 1, 0) is None
    assert room(1, 0, 0, 0) is None  # a file system without a count of files
    assert "full" in (room(0, 1, 1, 0) or "")
    assert "full" in (room(1, 1, 0, 0) or "")
    assert "read-only" in (room(1, 1, 1, os.ST_RDONLY) or "")


def test_another_user_is_not_told_of_the_state_directory(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chmod(places.state, 0o777)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert reading.read(REPORT, None, places).state_dir is None


def test_who_manages_the_synthetic_netdev_of_a_pair_counts(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = "000d3aaa-0010-000d-3aaa-0010000d3aaa"
    write(places.roots.sys, f"bus/vmbus/devices/{uuid}/class_id", "{f8615163}\n")
    write(places.roots.sys, f"bus/vmbus/devices/{uuid}/net/lan0/ifindex", "52\n")
    running(places, 7, "systemd-network")
    write(places.run, "systemd/netif/links/52", "ADMIN_STATE=configured\n")
    monkeypatch.setattr(reading, "_systemd", lambda managers: None)
    pair = port(1)._replace(upper=Upper("lan0", "netvsc", uuid, None, True))
    found = reading.read(REPORT._replace(ports=(pair,)), None, places)
    managed = {one.port: one.manager.managed for one in found.managers or ()}
    assert managed["lan0"] is True


def test_whether_there_is_a_netvsc_interface(places: Places) -> None:
    assert not reading.read(REPORT, None, places).netvsc
    device = Path(places.roots.sys, "bus/vmbus/devices/000d3aaa")
    write(places.roots.sys, "bus/vmbus/devices/000d3aaa/class_id", f"{NETWORK}\n")
    assert not reading.read(REPORT, None, places).netvsc
    (device / "driver").symlink_to("../../drivers/hv_netvsc")
    assert reading.read(REPORT, None, places).netvsc


def test_files_of_persist_that_are_of_no_use(places: Places) -> None:
    said = '{"port": {"pci": "7870:00:00.0", "port": 2, "permanent_mac": null}}'
    name = "systemd/network/00-1-manactl-%s-0.network"
    write(places.etc, name % "a", "[Match]\n")
    write(places.etc, name % "b", f"# why\n# manactl: {said}\n")
    found = reading.read(REPORT, None, places).odd_files
    assert [(one.path.rpartition("manactl-")[2][0], one.port) for one in found] == [
        ("a", None),
        ("b", None),
    ]
