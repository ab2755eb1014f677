"""Files of ours that a network manager reads: writing one, and saying in it which netdevs it is for."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Collection, Iterable
from functools import reduce
from operator import and_
from pathlib import Path

from manactl.journal import state_dir
from manactl.netstate.unmanaged import UnmanagedLink

_SPECIAL = frozenset(" \t*?[]!;,\\\"'")


def write(path: Path, text: str, *, like: Collection[str] = (), durable: bool = False) -> None:
    """Whole or not at all: a manager may read its files at any time. It does not read names that
    begin with a dot.

    Nobody may read it who may not read those that it is `like`: netplan writes some for networkd's
    group alone. OSError (EPERM) where they are for different groups, as a file has one only.
    `durable`: it is on disk when this returns.
    """
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True)
        path.parent.chmod(0o755)  # networkd is a user of its own, whatever umask we have
    new = unfinished(path)
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    # A netdev's name is bytes to the kernel.
    with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        known = [os.stat(one) for one in like]
        groups = {one.st_gid for one in known if not one.st_mode & stat.S_IROTH}
        if len(groups) > 1:
            raise OSError(
                errno.EPERM, f"{', '.join(like)} may be read by different groups", str(path)
            )
        for group in groups:
            os.fchown(fd, -1, group)
        os.fchmod(fd, reduce(and_, (one.st_mode for one in known), 0o644))
        file.write(text)
        if durable:
            file.flush()
            os.fsync(fd)
    new.replace(path)
    if durable:
        sync(path.parent)


def unfinished(path: Path) -> Path:
    """What a write that was interrupted leaves."""
    return path.with_name(f".{path.name}.new")


def sync(folder: Path) -> None:
    """Have the names in a folder on disk, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        state_dir.sync(folder)


def match_section(link: UnmanagedLink) -> list[str]:
    """The lines by which networkd knows this netdev and no other (systemd.network(5))."""
    if link.mac is None:
        return ["[Match]", f"Name={plain(link.name)}"]
    return ["[Match]", f"PermanentMACAddress={link.mac}", f"Driver={link.driver}"]


def device_sections(name: str, devices: Iterable[str]) -> str:
    """What has NetworkManager leave devices alone, those of by_name() and by_mac(), also when they
    are re-created (NetworkManager.conf(5)). `name` is that of the section."""
    which = ";".join(dict.fromkeys(devices))
    return (
        f"[keyfile]\nunmanaged-devices+={which}\n\n"
        f"[device-manactl-{name}]\nmatch-device={which}\nmanaged=0\n"
    )


def by_name(link: UnmanagedLink) -> str:
    """How NetworkManager is told of a device. OSError when others would match."""
    return f"interface-name:={plain(link.name)}"


def by_mac(link: UnmanagedLink) -> str:
    return f"mac:{link.mac}"


def is_plain(name: str) -> bool:
    """Whether a manager takes this for one name, and not for a pattern or a list."""
    return _SPECIAL.isdisjoint(name)


def plain(name: str) -> str:
    """The name, for a file of a manager. OSError when it would match others."""
    if not is_plain(name):
        raise OSError(errno.EINVAL, f"a netdev called {name!r} has no other mark to match by")
    return name
