from __future__ import annotations

import os
from pathlib import Path

import pytest

from manactl.look.debugfs import Mount, VportDir, mounted, vports
from tests.unit.machine import PCI, Machine


def test_a_vport_of_7x_shows_its_owners_kind(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "7-raw-qp-on-port-2")
    assert vports(str(machine.path("/sys")), [PCI]) == {
        0: VportDir(eqs=True, rx=True),
        1: VportDir(eqs=True, rx=False),
    }


def test_shared_event_queues_of_6_18_tell_nothing_of_a_vport(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "6.18-raw-qp-on-port-2")
    # Its directory has the name of the slot, which comes second.
    assert vports(str(machine.path("/sys")), [PCI, "0"]) == {
        0: VportDir(eqs=None, rx=True),
        1: VportDir(eqs=None, rx=False),
    }


def test_nothing_there_is_an_error_not_an_empty_answer(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "6.12-idle")
    for names in ([PCI, "0"], []):
        with pytest.raises(FileNotFoundError):
            vports(str(machine.path("/sys")), names)


def test_other_entries_are_not_vports(tmp_path: Path) -> None:
    for name in ("vport0", "vport10", "vport", "vportx", "xvport1"):
        (tmp_path / "kernel/debug/mana" / PCI / name).mkdir(parents=True)
    assert sorted(vports(str(tmp_path), [PCI])) == [0, 10]


def test_the_first_name_that_is_there_counts(tmp_path: Path) -> None:
    base = tmp_path / "kernel/debug/mana"
    (base / "second/vport3/EQs").mkdir(parents=True)
    (base / "third/vport4").mkdir(parents=True)
    assert vports(str(tmp_path), ["first", "second", "third"]) == {3: VportDir(True, False)}


def test_a_function_without_vports_is_read_and_has_none(tmp_path: Path) -> None:
    (tmp_path / "kernel/debug/mana" / PCI).mkdir(parents=True)
    assert vports(str(tmp_path), [PCI]) == {}


@pytest.mark.parametrize(
    ("inside", "found"),
    [
        ((), VportDir(False, False)),
        (("EQs",), VportDir(True, False)),
        (("RX-0",), VportDir(False, True)),
        (("EQs", "RX-11", "TX-0"), VportDir(True, True)),
        (("EQs0", "xRX-0", "RX"), VportDir(False, False)),
    ],
)
def test_what_a_vport_has_is_told_by_names(
    tmp_path: Path, inside: tuple[str, ...], found: VportDir
) -> None:
    base = tmp_path / "kernel/debug/mana" / PCI
    for name in ("", *inside):
        (base / "vport1" / name).mkdir(parents=True, exist_ok=True)
    assert vports(str(tmp_path), [PCI]) == {1: found}
    (base / "EQs").mkdir()  # shared, and no vport's
    assert vports(str(tmp_path), [PCI]) == {1: found._replace(eqs=None)}


def test_a_directory_that_vanishes_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("vport0", "vport1", "vport2"):
        (tmp_path / "kernel/debug/mana" / PCI / name / "EQs").mkdir(parents=True)
    listdir = os.listdir

    def vanishing(path: str) -> list[str]:
        if path.endswith("vport1"):
            raise FileNotFoundError(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", vanishing)
    assert sorted(vports(str(tmp_path), [PCI])) == [0, 2]


def test_what_may_not_be_read_is_an_error_for_every_vport(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kernel/debug/mana" / PCI / "vport0").mkdir(parents=True)

    def refuse(path: str) -> list[str]:
        raise PermissionError(path)

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(PermissionError):
        vports(str(tmp_path), [PCI, "0"])


def test_what_is_no_vport_ends_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "kernel/debug/mana" / PCI
    (base / "vport2/EQs").mkdir(parents=True)
    listdir = os.listdir
    order = {str(base): ["gdma", "vportx", "vport1", "vport2"]}  # vport1 has just gone
    monkeypatch.setattr(os, "listdir", lambda path: order.get(path) or listdir(path))
    assert vports(str(tmp_path), [PCI]) == {2: VportDir(True, False)}


@pytest.mark.parametrize(
    ("place", "filesystems", "found"),
    [
        ("debug/mana", "nodev\tdebugfs\n", Mount.MOUNTED),
        ("debug", "nodev\tsysfs\nnodev\tdebugfs\n\text4\n", Mount.NOT_MOUNTED),
        ("debug", None, Mount.NOT_MOUNTED),
        ("debug", "nodev\tsysfs\nnodev\tnodebugfs\n", Mount.NOT_OFFERED),
        ("", "nodev\tsysfs\n", Mount.NOT_OFFERED),
    ],
)
def test_whether_it_is_mounted_or_can_be(
    tmp_path: Path, place: str, filesystems: str | None, found: Mount
) -> None:
    (tmp_path / "kernel" / place).mkdir(parents=True)
    if filesystems is not None:
        (tmp_path / "filesystems").write_text(filesystems)
    assert mounted(str(tmp_path), str(tmp_path)) is found
