"""What the units of systemd have to say so that systemd neither ends nor forgets a service."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

import pytest

import manactl
from manactl.look import boot_files
from manactl.netstate.unmanaged import NETWORK_MANAGER, NETWORKD

UNITS = Path(manactl.__file__).parent / "systemd"


def unit(name: str) -> ConfigParser:
    found = ConfigParser(strict=False, interpolation=None)
    found.optionxform = str  # type: ignore[method-assign, assignment]
    found.read_string((UNITS / name).read_text())
    return found


def test_hold_has_as_long_to_start_as_to_live_between_two_signs_of_life() -> None:
    """The first look, before READY=1, sets netdevs down as any later one does."""
    service = unit("manactl-hold.service")["Service"]
    assert service["Type"] == "notify"
    assert service["TimeoutStartSec"] == service["WatchdogSec"] == "5min"


def test_hold_has_descriptors_for_every_cpu() -> None:
    """Seven for each: two functions are watched on it, and their returns, and the execs; mmap has a
    second of each of both rings."""
    most_cpus = 8192  # CONFIG_NR_CPUS with MAXSMP
    assert int(unit("manactl-hold.service")["Service"]["LimitNOFILE"]) > 7 * most_cpus


def test_hold_is_started_again_for_as_long_as_it_takes() -> None:
    """By default systemd gives up after five starts in ten seconds."""
    found = unit("manactl-hold.service")
    assert found["Service"]["Restart"] == "on-failure"
    assert found["Unit"]["StartLimitIntervalSec"] == "0"


@pytest.mark.parametrize("name", ["manactl-claim@.service", "manactl-recover.service"])
def test_the_files_of_persist_can_be_written_and_removed(name: str) -> None:
    """With "-": a manager that is not installed has no such directory."""
    service = unit(name)["Service"]
    assert service["ProtectSystem"] == "full"
    places = [
        str(Path(path).parent)
        for manager in (NETWORKD, NETWORK_MANAGER)
        for path in boot_files.paths(manager, "key", 1)
    ]
    assert service["ReadWritePaths"].split() == [f"-{place}" for place in places]
