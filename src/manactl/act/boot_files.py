"""Having a network manager leave netdevs alone from boot on, by files of ours below /etc.

networkd gets a .network file for each netdev that says Unmanaged=yes, NetworkManager one with
unmanaged-devices. Files that others wrote, or that netplan and cloud-init generate, are not touched:
ours come first by their names. A kernel that was started after a crash (kdump) has `elfcorehdr=` on
its command line, and NetworkManager in an initrd has the tag `initrd`: there they are not in force.
In rescue mode no manager runs.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from manactl.act import manager_holds
from manactl.look import boot_files
from manactl.look.boot_files import LIFTED, MARK
from manactl.netstate.held import NETWORKD, HeldLink
from manactl.netstate.left_down import LeftDown

_DIGEST = "sha256"
_NOT_A_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO)  # a link, a directory, a socket


class BootFiles:
    """The files below `etc`. They are whole or not there, and on disk when a call returns."""

    def __init__(self, etc: Path = Path("/etc")) -> None:
        self._etc = etc

    def paths(self, kept: LeftDown) -> list[Path]:
        hold = kept.hold
        found = boot_files.paths(hold.manager, hold.key, len(hold.links), str(self._etc))
        return [Path(path) for path in found]

    def are_there(self, kept: LeftDown) -> bool:
        return all(path.exists() for path in self.paths(kept))

    def write(self, kept: LeftDown) -> None:
        for path, text in zip(self.paths(kept), _texts(kept), strict=True):
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True)
                path.parent.chmod(0o755)  # networkd is a user of its own, whatever umask we have
            if os.path.lexists(path) and not _is_as_written(path):
                raise FileExistsError(
                    errno.EEXIST, "it is there, and not as manactl writes it", str(path)
                )
            _replace(path, text)

    def remove(self, kept: LeftDown) -> tuple[str, ...]:
        """Remove them, so that none is in force; those that somebody has changed are left and
        returned. The manager is not told."""
        left = []
        for path in self.paths(kept):
            _unfinished(path).unlink(missing_ok=True)
            _lifted(path).unlink(missing_ok=True)
            if not os.path.lexists(path):
                continue
            if not _is_as_written(path):
                left.append(str(path))
                continue
            path.unlink()
            _sync(path.parent)
        return tuple(left)

    def lift(self, kept: LeftDown, tell: Callable[[], bool]) -> tuple[bool, tuple[str, ...]]:
        """Take them out of force, `tell` the manager, and remove them: one that dies on the way
        leaves what `boot_files.find()` finds. What `tell` has returned, and the files that are left
        since somebody has changed them."""
        left = []
        for path in self.paths(kept):
            if not os.path.lexists(path):
                continue
            if _is_as_written(path):
                path.rename(_lifted(path))
            else:
                left.append(str(path))
        told = tell()
        for path in self.paths(kept):
            _lifted(path).unlink(missing_ok=True)
        for folder in {path.parent for path in self.paths(kept)}:
            _sync(folder)
        return told, tuple(left)


def _texts(kept: LeftDown) -> list[str]:
    """What stands in each file."""
    hold = kept.hold
    if hold.manager == NETWORKD:
        return [_with_head(kept, _network_file(link)) for link in hold.links]
    return [_with_head(kept, _configuration(hold.links, hold.key))]


def _with_head(kept: LeftDown, directives: str) -> str:
    """Two lines of comment before the directives: for people, and for us. The digest tells, for any
    later version, whether the directives are those that were written."""
    said = {**kept.to_json(), _DIGEST: _digest(directives)}
    why = (
        f"Written by `manactl claim --persist`: {kept.name} stays down at boot, for RDMA. "
        f"`manactl release {kept.port}` removes this file."
    )
    return "\n".join([f"# {why}", f"{MARK}{json.dumps(said, sort_keys=True)}", directives])


def _is_as_written(path: Path) -> bool:
    """Whether nobody has changed what the manager reads of it. OSError where that cannot be read."""
    try:
        _, said, directives = [*boot_files.read(str(path)).split("\n", 2), "", ""][:3]
        digest = json.loads(said.removeprefix(MARK))[_DIGEST]
    except (KeyError, RecursionError, TypeError, ValueError):
        return False
    except OSError as error:
        if error.errno in _NOT_A_FILE:
            return False
        raise
    return bool(digest == _digest(directives))


def _digest(directives: str) -> str:
    return hashlib.sha256(directives.encode(errors="surrogateescape")).hexdigest()


def _network_file(link: HeldLink) -> str:
    if link.mac is None:
        match = [f"Name={manager_holds.plain(link.name)}"]
    else:
        match = [f"PermanentMACAddress={link.mac}", f"Driver={link.driver}"]
    lines = ["[Match]", *match, "KernelCommandLine=!elfcorehdr", ""]
    return "\n".join([*lines, "[Link]", "Unmanaged=yes", "RequiredForOnline=no", ""])


def _configuration(links: Iterable[HeldLink], key: str) -> str:
    which = ";".join(
        dict.fromkeys(
            f"mac:{link.mac}" if link.mac else f"interface-name:={manager_holds.plain(link.name)}"
            for link in links
        )
    )
    return (
        "[.config]\nenable=except:env:initrd\n\n"
        f"[keyfile]\nunmanaged-devices+={which}\n\n"
        f"[device-manactl-boot-{key}]\nmatch-device={which}\nmanaged=0\n"
    )


def _lifted(path: Path) -> Path:
    return path.with_name(path.name + LIFTED)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _replace(path: Path, text: str) -> None:
    new = _unfinished(path)
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    # A netdev's name is bytes to the kernel.
    with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        os.fchmod(fd, 0o644)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
