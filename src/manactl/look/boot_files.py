"""Files by which a network manager leaves ports alone from boot on: `claim --persist`.

They are their own record: the second line of each says for which port it is, and what the manager
was told. So nothing has to agree with them, and they are found whatever became of the journal.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

MARK = "# manactl: "
LIFTED = ".lifted"
"""The end of a name that the manager does not read any more, and is to be told of."""

# systemd-networkd takes the first file that matches, by name; the hold of a claim comes before, the
# administrator's after. NetworkManager reads all.
_PLACES = {
    "systemd-networkd": ("systemd/network", "00-1-manactl-", ".network"),
    "NetworkManager": ("NetworkManager/conf.d", "zz-manactl-boot-", ".conf"),
}


class BootFile(NamedTuple):
    """One file; `said` is what its second line says. `lifted`: it is not in force any more, and
    the manager may not have been told."""

    path: str
    pci: str
    port: int
    permanent_mac: str | None
    said: dict[str, Any]
    lifted: bool

    @property
    def key(self) -> tuple[str, int]:
        return self.pci, self.port


def paths(manager: str, key: str, links: int, etc: str = "/etc") -> list[str]:
    """The files of a manager for so many netdevs; `key` tells ports apart."""
    place, begin, end = _PLACES[manager]
    each = manager == "systemd-networkd"
    numbers = [f"-{number}" for number in range(links)] if each else [""]
    return [f"{etc}/{place}/{begin}{key}{number}{end}" for number in numbers]


def knows(manager: str) -> bool:
    return manager in _PLACES


def find(etc: str = "/etc") -> tuple[BootFile, ...]:
    """All that are there, by their names. One that does not say what it is for is somebody's own."""
    return tuple(_find(etc))


def _find(etc: str) -> Iterator[BootFile]:
    for place, begin, end in _PLACES.values():
        try:
            names = sorted(os.listdir(f"{etc}/{place}"))
        except OSError:
            continue
        for name in names:
            if name.startswith(begin) and name.endswith((end, end + LIFTED)):
                with contextlib.suppress(OSError, KeyError, RecursionError, TypeError, ValueError):
                    yield _read(f"{etc}/{place}/{name}")


def read(path: str) -> str:
    """What stands in a file. ValueError for what is none, a FIFO or a link."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, encoding="utf-8", errors="surrogateescape") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError(path)
        return file.read()


def _read(path: str) -> BootFile:
    import json  # noqa: PLC0415 - only where there is one

    _, line, *_ = [*read(path).split("\n", 2), ""]
    if not line.startswith(MARK):
        raise ValueError(path)
    said = json.loads(line.removeprefix(MARK))
    port = said["port"]
    mac = port["permanent_mac"]
    lifted = path.endswith(LIFTED)
    return BootFile(path, str(port["pci"]), int(port["port"]), mac, said, lifted)
