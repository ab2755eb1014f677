"""Giving a VMBus network device to uio_hv_generic, and back to hv_netvsc.

uio_hv_generic takes network devices only after their class was written to its `new_id`. From then
on it takes those of them that no driver has, as well: what it takes besides is given back at once,
and the class is removed again with the last network device that it has. Kernel: vmbus_drv.c.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path

from manactl.look import vmbus
from manactl.look.sysfs import Roots
from manactl.look.vmbus import NETWORK, UIO

_CLASS = NETWORK.strip("{}")


def driver_of(uuid: str, roots: Roots) -> str | None:
    """The driver that has the device now. OSError(ENODEV) when there is no such device."""
    nic = vmbus.nic(uuid, roots)
    if nic is None:
        raise OSError(errno.ENODEV, f"the host offers no VMBus device {uuid} (any more)")
    return nic.driver


def bind(uuid: str, driver: str, roots: Roots) -> None:
    """A driver whose module is not loaded is loaded, and takes what has no driver by itself then."""
    if not (_drivers(roots) / driver).exists():
        _load(driver)
        if driver_of(uuid, roots) == driver:
            return
    _write(_drivers(roots) / driver / "bind", uuid)


def unbind(uuid: str, driver: str, roots: Roots) -> None:
    _write(_drivers(roots) / driver / "unbind", uuid)


def open_uio(roots: Roots) -> None:
    """Have uio_hv_generic take network devices that are given to it, and no others."""
    driver = _drivers(roots) / UIO
    if not driver.exists():
        _load(UIO)
    without = _uuids(roots, None)
    try:
        _write(driver / "new_id", _CLASS)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
    for uuid in without & _uuids(roots, UIO):
        with contextlib.suppress(OSError):
            unbind(uuid, UIO, roots)


def close_uio(roots: Roots) -> None:
    """The opposite, once uio_hv_generic has no network device any more."""
    driver = _drivers(roots) / UIO
    if driver.exists() and not _uuids(roots, UIO):
        with contextlib.suppress(OSError):  # there is none
            _write(driver / "remove_id", _CLASS)


def _uuids(roots: Roots, driver: str | None) -> set[str]:
    return {nic.uuid for nic in vmbus.nics(roots) if nic.driver == driver}


def _drivers(roots: Roots) -> Path:
    return Path(roots.sys, "bus/vmbus/drivers")


def _write(path: Path, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)


def _load(module: str, command: Iterable[str] = ("modprobe", "--")) -> None:
    """OSError with what modprobe has said, when it could not be loaded."""
    import subprocess  # noqa: PLC0415 - for the first pair alone

    ran = subprocess.run(
        [*command, module], capture_output=True, check=False, encoding="utf-8", errors="replace"
    )
    if ran.returncode:
        why = ran.stderr.strip().removeprefix("modprobe: FATAL: ") or f"code {ran.returncode}"
        raise OSError(errno.ENOENT, f"the module {module} cannot be loaded: {why}")
