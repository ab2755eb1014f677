"""Having a network manager leave netdevs alone from boot on, by files of ours below /etc.

networkd gets a .network file for each netdev that says Unmanaged=yes, NetworkManager one with
unmanaged-devices. Files that others wrote, or that netplan and cloud-init generate, are not touched:
ours come first by their names. A kernel that was started after a crash (kdump) has `elfcorehdr=` on
its command line, and NetworkManager in an initrd has the tag `initrd`: there they are not in force.
In rescue mode no manager runs.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from manactl.act import file_words, manager_files
from manactl.act.manager_files import by_mac, by_name, device_sections
from manactl.look import boot_files
from manactl.look.boot_files import LIFTED, MARK
from manactl.netstate.left_down import LeftDown
from manactl.netstate.unmanaged import NETWORKD, UnmanagedLink

_DIGEST = "sha256"
_NOT_A_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO)  # a link, a directory, a socket


class NotTold(OSError):
    """The files are out of force, but the manager, which has read them, could not be told."""


class BootFiles:
    """The files below `etc`. They are whole or not there, and on disk when a call returns."""

    def __init__(self, etc: Path = Path("/etc")) -> None:
        self._etc = etc

    def paths(self, kept: LeftDown) -> list[Path]:
        unmanaged = kept.unmanaged
        found = boot_files.paths(
            unmanaged.manager, unmanaged.key, len(unmanaged.links), str(self._etc)
        )
        return [Path(path) for path in found]

    def are_there(self, kept: LeftDown) -> bool:
        return all(path.exists() for path in self.paths(kept))

    def write(self, kept: LeftDown) -> None:
        for path, text in zip(self.paths(kept), _texts(kept), strict=True):
            if os.path.lexists(path) and not _is_as_written(path):
                raise FileExistsError(
                    errno.EEXIST, "it is there, and not as manactl writes it", str(path)
                )
            manager_files.write(path, text, durable=True)

    def remove(self, kept: LeftDown) -> tuple[str, ...]:
        """Remove them, so that none is in force; those that somebody has changed are left and
        returned. The manager is not told."""
        left = []
        for path in self.paths(kept):
            manager_files.unfinished(path).unlink(missing_ok=True)
            _lifted(path).unlink(missing_ok=True)
            if not os.path.lexists(path):
                continue
            if not _is_as_written(path):
                left.append(str(path))
                continue
            path.unlink()
        self._sync(kept)
        return tuple(left)

    def lift(self, kept: LeftDown, tell: Callable[[], bool]) -> tuple[bool, tuple[str, ...]]:
        """Take them out of force, `tell` the manager, and remove them: one that dies on the way
        leaves what `boot_files.find()` finds. What `tell` has returned, and the files that are left
        since somebody has changed them. NotTold where `tell` failed."""
        left = []
        for path in self.paths(kept):
            if not os.path.lexists(path):
                continue
            if _is_as_written(path):
                path.rename(_lifted(path))
            else:
                left.append(str(path))
        try:
            told = tell()
        except OSError as error:
            raise NotTold(*error.args) from error
        for path in self.paths(kept):
            _lifted(path).unlink(missing_ok=True)
        self._sync(kept)
        return told, tuple(left)

    def _sync(self, kept: LeftDown) -> None:
        for folder in {path.parent for path in self.paths(kept)}:
            manager_files.sync(folder)


def _texts(kept: LeftDown) -> list[str]:
    """What stands in each file."""
    unmanaged = kept.unmanaged
    if unmanaged.manager == NETWORKD:
        return [_with_head(kept, _network_file(link)) for link in unmanaged.links]
    return [_with_head(kept, _configuration(unmanaged.links, unmanaged.key))]


def _with_head(kept: LeftDown, directives: str) -> str:
    """Two lines of comment before the directives: for people, and for us. The digest tells, for any
    later version, whether the directives are those that were written."""
    said = {**kept.to_json(), _DIGEST: _digest(directives)}
    why = file_words.at_boot(kept.name, kept.port)
    return "\n".join([why, f"{MARK}{json.dumps(said, sort_keys=True)}", directives])


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
    import hashlib  # noqa: PLC0415 - for --persist alone

    return hashlib.sha256(directives.encode(errors="surrogateescape")).hexdigest()


def _network_file(link: UnmanagedLink) -> str:
    lines = [*manager_files.match_section(link), "KernelCommandLine=!elfcorehdr", ""]
    return "\n".join([*lines, "[Link]", "Unmanaged=yes", "RequiredForOnline=no", ""])


def _configuration(links: Iterable[UnmanagedLink], key: str) -> str:
    which = [by_mac(link) if link.mac else by_name(link) for link in links]
    return "[.config]\nenable=except:env:initrd\n\n" + device_sections(f"boot-{key}", which)


def _lifted(path: Path) -> Path:
    return path.with_name(path.name + LIFTED)
