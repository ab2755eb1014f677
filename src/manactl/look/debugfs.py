"""Which queues each vport has, by the names of directories in the mana driver's debugfs.

Directories are listed, files never opened: a locked-down kernel refuses that. Two shapes are
known. 7.x keeps `vportN/EQs` exactly while the vport has an owner; 6.18 shares event queues, has
one `EQs` for the function all the time, and then `vportN` shows the netdev's queues only.
"""

import enum
import os
from collections.abc import Iterable

from manactl.look.text_files import fields, lines
from manactl.model.named_tuple import NamedTuple


class Mount(enum.Enum):
    """Whether debugfs can be looked at."""

    MOUNTED = enum.auto()
    NOT_MOUNTED = enum.auto()
    NOT_OFFERED = enum.auto()  # by the kernel: debugfs=off or no-mount on its command line


class VportDir(NamedTuple):
    """What the directory of one vport holds; `eqs` is None where event queues are shared."""

    eqs: bool | None
    rx: bool


def mounted(sys: str, proc: str) -> Mount:
    """PermissionError: only root may look."""
    try:
        if os.listdir(f"{sys}/kernel/debug"):
            return Mount.MOUNTED
    except FileNotFoundError:
        return Mount.NOT_OFFERED  # where it can be mounted the kernel makes the place for it
    # The file system is registered where it may be mounted (debugfs_init()).
    offered = [fields(line)[-1:] for line in lines(f"{proc}/filesystems")]
    return Mount.NOT_OFFERED if offered and ["debugfs"] not in offered else Mount.NOT_MOUNTED


def vports(sys: str, names: Iterable[str]) -> dict[int, VportDir]:
    """The vports of a function (from 0), whose directory has one of `names`.

    PermissionError: only root may look. FileNotFoundError: not mounted, or this kernel's driver
    has nothing there.
    """
    missing: OSError | None = None
    for name in names:
        try:
            return _vports(f"{sys}/kernel/debug/mana/{name}")
        except FileNotFoundError as error:
            missing = error
    raise missing or FileNotFoundError("no name to look for")


def _vports(base: str) -> dict[int, VportDir]:
    entries = os.listdir(base)
    shared = "EQs" in entries
    found = {}
    for entry in entries:
        number = entry.removeprefix("vport")
        if number == entry or not number.isdecimal():
            continue
        try:
            inside = os.listdir(f"{base}/{entry}")
        except FileNotFoundError:  # removed since: MTU and ring changes make the directory again
            continue
        found[int(number)] = VportDir(
            eqs=None if shared else "EQs" in inside,
            rx=any(child.startswith("RX-") for child in inside),
        )
    return found
