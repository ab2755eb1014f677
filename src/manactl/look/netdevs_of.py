"""The netdev of a port, or of a VMBus device, at this moment: here, gone, or not to be read.

By sysfs, whose files take no lock that a driver may hold. That a netdev is gone is a fact which lets
a claim be closed; that it could not be looked at (too many open files, no memory) is none.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from manactl.errors import strerror
from manactl.look.sysfs import Roots
from manactl.look.text_files import read
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import IFF_UP, PortId

# What sysfs answers of a netdev that has just gone or is being renamed: its directory is not there,
# or its attributes are dead (sysfs_kf_seq_show(), netdev_show()).
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.EINVAL})


class NetdevNow(NamedTuple):
    """The netdev that a port has at this moment."""

    name: str
    ifindex: int
    up: bool


class Unread(NamedTuple):
    """Whether there is a netdev could not be read, for this reason."""

    error: OSError

    @property
    def why(self) -> str:
        return strerror(self.error)


Found = NetdevNow | Unread | None
"""None: it is gone, or is not here."""


def here(found: Found) -> NetdevNow | None:
    """None when it is gone. OSError where that could not be read."""
    if isinstance(found, Unread):
        raise found.error
    return found


def of_port(
    port: PortId,
    permanent_mac: Callable[[int], str | None],
    roots: Roots = Roots(),  # noqa: B008 - frozen
) -> Found:
    """By PCI address and dev_port. The permanent MAC must fit too, unless it was never seen: another
    NIC may have been plugged into the slot. `permanent_mac` asks the kernel for that of an ifindex,
    which needs RTNL: only where there is a question."""

    def is_it(base: str) -> NetdevNow | None:
        if _number(f"{base}/dev_port") != port.port - 1:
            return None
        now = _now(base)
        if port.permanent_mac and port.permanent_mac != permanent_mac(now.ifindex):
            return None
        return now

    return _first(f"{roots.sys}/bus/pci/devices/{port.pci}/net", is_it)


def of_vmbus(uuid: str, roots: Roots = Roots()) -> Found:  # noqa: B008 - frozen
    """By the VMBus device's UUID, without waiting for the host."""
    return _first(f"{roots.sys}/bus/vmbus/devices/{uuid}/net", _now)


def _first(directory: str, is_it: Callable[[str], NetdevNow | None]) -> Found:
    """The first of the directory that it is. Where one could not be read, it may be that one."""
    unread: Unread | None = None
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        return None if error.errno in _GONE else Unread(error)
    for name in names:
        try:
            if (found := is_it(f"{directory}/{name}")) is not None:
                return found
        except OSError as error:
            if error.errno not in _GONE:
                unread = unread or Unread(error)
        except ValueError as error:  # not a number, or a broken message
            unread = unread or Unread(OSError(errno.EBADMSG, f"{name}: {error}"))
    return unread


def _now(base: str) -> NetdevNow:
    name = base.rpartition("/")[2]
    return NetdevNow(name, _number(f"{base}/ifindex"), bool(_number(f"{base}/flags") & IFF_UP))


def _number(path: str) -> int:
    return int(read(path), 0)
