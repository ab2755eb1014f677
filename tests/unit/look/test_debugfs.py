from __future__ import annotations

from pathlib import Path

import pytest

from manactl.look.debugfs import VportDir, vports
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
