"""Drivers of VMBus devices: what is written where in sysfs."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from manactl.act import vmbus_binding
from manactl.look.sysfs import Roots
from manactl.look.vmbus import NETWORK
from tests.unit.wording import says

ONE, TWO = "000d3aaa-0010", "000d3aaa-0011"


@pytest.fixture
def bus(tmp_path: Path) -> Path:
    root = tmp_path / "bus/vmbus"
    for driver in ("hv_netvsc", "uio_hv_generic"):
        (root / "drivers" / driver).mkdir(parents=True)
        for name in ("bind", "unbind", "new_id", "remove_id"):
            (root / "drivers" / driver / name).write_text("")
    for uuid in (ONE, TWO):
        (root / "devices" / uuid).mkdir(parents=True)
        (root / "devices" / uuid / "class_id").write_text(NETWORK + "\n")
    return root


def roots(bus: Path) -> Roots:
    return Roots(str(bus.parent.parent))


def give(bus: Path, uuid: str, driver: str) -> None:
    (bus / "devices" / uuid / "driver").symlink_to(bus / "drivers" / driver)


def written(bus: Path, driver: str, name: str) -> str:
    return (bus / "drivers" / driver / name).read_text()


def test_who_has_a_device(bus: Path) -> None:
    give(bus, ONE, "hv_netvsc")
    assert vmbus_binding.driver_of(ONE, roots(bus)) == "hv_netvsc"
    assert vmbus_binding.driver_of(TWO, roots(bus)) is None
    with pytest.raises(OSError, match=says("no VMBus device gone")) as caught:
        vmbus_binding.driver_of("gone", roots(bus))
    assert caught.value.errno == errno.ENODEV


def test_binding_and_unbinding(bus: Path) -> None:
    vmbus_binding.bind(ONE, "uio_hv_generic", roots(bus))
    vmbus_binding.unbind(ONE, "hv_netvsc", roots(bus))
    assert written(bus, "uio_hv_generic", "bind") == ONE
    assert written(bus, "hv_netvsc", "unbind") == ONE


@pytest.mark.parametrize("takes", [True, False])
def test_a_driver_that_was_unloaded_meanwhile_is_loaded(
    bus: Path, monkeypatch: pytest.MonkeyPatch, takes: bool
) -> None:
    """It takes the device by itself, unless somebody has told it not to (drivers_autoprobe)."""
    gone, there = bus / "hv_netvsc", bus / "drivers/hv_netvsc"
    there.rename(gone)
    device = bus / "devices" / ONE / "driver"
    tools = bus.parent / "tools"
    tools.mkdir()
    modprobe = tools / "modprobe"
    take = f"ln -s {there} {device}" if takes else ":"
    modprobe.write_text(f'#!/bin/sh\n[ "$*" = "-- hv_netvsc" ] && mv {gone} {there} && {take}\n')
    modprobe.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    vmbus_binding.bind(ONE, "hv_netvsc", roots(bus))
    assert written(bus, "hv_netvsc", "bind") == ("" if takes else ONE)


def test_the_class_is_written_and_what_had_a_driver_before_stays(bus: Path) -> None:
    give(bus, ONE, "uio_hv_generic")
    vmbus_binding.open_uio(roots(bus))
    assert written(bus, "uio_hv_generic", "new_id") == NETWORK.strip("{}")
    assert written(bus, "uio_hv_generic", "unbind") == ""


@pytest.mark.parametrize("gone", [False, True])
def test_what_the_driver_takes_by_the_class_alone_is_let_go(
    bus: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """A device that had no driver; it may be taken back by its host in that moment."""
    write, done = vmbus_binding._write, list[tuple[str, str]]()

    def writes(path: Path, text: str) -> None:
        done.append((path.name, text))
        if path.name == "new_id":
            give(bus, ONE, "uio_hv_generic")
        elif gone:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        write(path, text)

    monkeypatch.setattr(vmbus_binding, "_write", writes)
    give(bus, TWO, "hv_netvsc")
    vmbus_binding.open_uio(roots(bus))
    assert done == [("new_id", NETWORK.strip("{}")), ("unbind", ONE)]


@pytest.mark.parametrize("number", [errno.EEXIST, errno.ENOMEM])
def test_a_class_that_is_there_already_will_do(
    bus: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fails(path: Path, text: str) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(vmbus_binding, "_write", fails)
    if number == errno.EEXIST:
        vmbus_binding.open_uio(roots(bus))
        return
    with pytest.raises(OSError, match="memory"):
        vmbus_binding.open_uio(roots(bus))


def override_of(bus: Path) -> str:
    return (bus / "devices" / ONE / "driver_override").read_text()


def test_a_device_that_is_for_another_driver_alone_is_bound_all_the_same(bus: Path) -> None:
    path = bus / "devices" / ONE / "driver_override"
    assert vmbus_binding.override(ONE, roots(bus)) is None, "a kernel that has none"
    vmbus_binding.bind(ONE, "hv_netvsc", roots(bus))
    assert not path.exists()
    path.write_text("(null)\n")
    vmbus_binding.bind(ONE, "hv_netvsc", roots(bus))
    assert (vmbus_binding.override(ONE, roots(bus)), override_of(bus)) == (None, "(null)\n")
    path.write_text("")
    vmbus_binding.set_override(ONE, "uio_hv_generic", roots(bus))
    vmbus_binding.bind(ONE, "uio_hv_generic", roots(bus))
    assert vmbus_binding.override(ONE, roots(bus)) == "uio_hv_generic"
    path.write_text("uio_hv\n")
    vmbus_binding.bind(ONE, "hv_netvsc", roots(bus))
    assert override_of(bus) == "hv_netvsc\n"
    path.write_text("")
    vmbus_binding.set_override(ONE, None, roots(bus))
    assert override_of(bus) == "\n", "what clears it"


def test_the_class_is_removed_with_the_last_device(bus: Path) -> None:
    give(bus, ONE, "uio_hv_generic")
    vmbus_binding.close_uio(roots(bus))
    assert written(bus, "uio_hv_generic", "remove_id") == ""
    (bus / "devices" / ONE / "driver").unlink()
    vmbus_binding.close_uio(roots(bus))
    assert written(bus, "uio_hv_generic", "remove_id") == NETWORK.strip("{}")


def test_an_id_that_is_not_there_needs_no_removing(bus: Path) -> None:
    (bus / "drivers/uio_hv_generic/remove_id").unlink()
    vmbus_binding.close_uio(roots(bus))


@pytest.mark.parametrize(
    ("script", "why"), [("exit 3", "code 3"), (r"printf '\377no' >&2; exit 1", "\ufffdno")]
)
def test_a_module_that_is_not_loaded_has_a_reason(tmp_path: Path, script: str, why: str) -> None:
    with pytest.raises(OSError, match=says(f"cannot be loaded: {why}")):
        vmbus_binding._load("x", ("sh", "-c", script))
    vmbus_binding._load("x", ("sh", "-c", "exit 0"))


def test_without_the_driver_its_module_is_loaded(
    bus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (bus / "drivers/uio_hv_generic").iterdir():
        path.unlink()
    (bus / "drivers/uio_hv_generic").rmdir()
    vmbus_binding.close_uio(roots(bus))
    tools = bus.parent / "tools"
    tools.mkdir()
    modprobe = tools / "modprobe"
    modprobe.write_text("#!/bin/sh\necho modprobe: FATAL: Module $2 not found. >&2; exit 1\n")
    modprobe.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    with pytest.raises(OSError, match=says(r"cannot be loaded: Module uio_hv_generic not found\.")):
        vmbus_binding.open_uio(roots(bus))
    (bus / "drivers/hv_netvsc").rename(bus / "unloaded")
    with pytest.raises(OSError, match=says(r"cannot be loaded: Module hv_netvsc not found\.")):
        vmbus_binding.bind(ONE, "hv_netvsc", roots(bus))
    there, device = bus / "drivers/hv_netvsc", bus / "devices" / ONE / "driver"
    modprobe.write_text(f"#!/bin/sh\nmkdir {there} && ln -s {there} {device}\n")
    vmbus_binding.bind(ONE, "hv_netvsc", roots(bus))  # it was taken as the module was loaded
    assert not (there / "bind").exists()
