"""Words for completion, from a tree as the mana driver makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from manactl.sources import names

PCI = "7870:00:00.0"


@pytest.fixture
def sys(tmp_path: Path) -> str:
    function = tmp_path / names.DRIVER / PCI
    for name in ("enP1", "enP1d1", "evil\x1b[2J"):
        (function / "net" / name).mkdir(parents=True)
    (function / "net/enP1/master").symlink_to("../../virtual/net/eth0")
    for device in ("mana_0", "manae_0"):
        for port in ("1", "2"):
            (function / "infiniband" / device / "ports" / port).mkdir(parents=True)
    (tmp_path / names.DRIVER / "module").mkdir()
    return str(tmp_path)


def test_netdevs_and_masters_come_first(sys: str) -> None:
    assert names.words("", sys) == ["enP1", "enP1d1", "eth0"]
    assert names.words("enP1", sys) == ["enP1", "enP1d1"]
    assert names.words("et", sys) == ["eth0"]


def test_other_names_when_no_netdev_fits(sys: str) -> None:
    assert names.words("78", sys) == [f"{PCI}:1", f"{PCI}:2"]
    assert names.words("mana_", sys) == ["mana_0/1", "mana_0/2"]
    assert names.words("nothing", sys) == []


def test_a_name_with_control_characters_is_not_handed_to_a_shell(sys: str) -> None:
    assert names.words("evil", sys) == []


def test_without_the_driver_there_is_nothing(tmp_path: Path) -> None:
    assert names.words("", str(tmp_path)) == []
