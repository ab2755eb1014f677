"""Files by which a network manager leaves ports alone from boot on: `claim --persist`.

They are their own record: the second line of each says for which port it is, and what the manager
was told. So nothing has to agree with them, and they are found whatever became of the journal.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from manactl.errors import strerror
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import OddFile, Oddity, PortId

if TYPE_CHECKING:
    from manactl.netstate.left_down import LeftDown

MARK = "# manactl: "
LIFTED = ".lifted"
"""The end of a name that the manager does not read any more, and is to be told of."""

# systemd-networkd takes the first file that matches, by name; that of a claim in /run comes before,
# the administrator's after. NetworkManager reads all.
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

    def is_of(self, port: PortId) -> bool:
        """Whether it is for this port, and not for another NIC in its place."""
        own = PortId(self.pci, self.port, self.permanent_mac)
        return own.key == port.key and not port.is_another(own)


def paths(manager: str, key: str, links: int, etc: str = "/etc") -> list[str]:
    """The files of a manager for so many netdevs; `key` tells ports apart."""
    place, begin, end = _PLACES[manager]
    each = manager == "systemd-networkd"
    numbers = [f"-{number}" for number in range(links)] if each else [""]
    return [f"{etc}/{place}/{begin}{key}{number}{end}" for number in numbers]


def find(etc: str = "/etc") -> tuple[BootFile, ...]:
    """All that can be used, by their names."""
    return tuple(file for file in _look(etc) if isinstance(file, BootFile))


def odd(etc: str = "/etc") -> tuple[OddFile, ...]:
    """Those that cannot be read, or do not say what they are for in a way that is understood."""
    found = (file if isinstance(file, OddFile) else _misunderstood(file) for file in _look(etc))
    return tuple(file for file in found if file is not None)


def understood(file: BootFile) -> LeftDown | None:
    """What a file says; None where a later version has written it, or somebody else."""
    from manactl.netstate.left_down import LeftDown  # noqa: PLC0415 - only where there is one

    try:
        kept = LeftDown.from_json(file.said)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return kept if kept.unmanaged.manager == _manager(file.path) else None


def _misunderstood(file: BootFile) -> OddFile | None:
    if understood(file) is not None:
        return None
    return OddFile(file.path, _manager(file.path), Oddity.NOT_UNDERSTOOD)


def of_no_use(ports: Iterable[PortId], etc: str = "/etc") -> tuple[OddFile, ...]:
    """The odd ones, and those whose port is none of these, which are all that are here."""
    ports, found = tuple(ports), odd(etc)
    known = {file.path for file in found}
    return found + tuple(
        OddFile(file.path, _manager(file.path), Oddity.ABSENT, f"{file.pci}:{file.port}")
        for file in find(etc)
        if file.path not in known and not any(map(file.is_of, ports))
    )


def _look(etc: str) -> Iterator[BootFile | OddFile]:
    for manager, (place, begin, end) in _PLACES.items():
        try:
            names = sorted(os.listdir(f"{etc}/{place}"))
        except FileNotFoundError:
            continue
        except OSError as error:  # there may be some
            yield OddFile(f"{etc}/{place}", manager, strerror(error))
            continue
        for name in names:
            path = f"{etc}/{place}/{name}"
            if not (name.startswith(begin) and name.endswith((end, end + LIFTED))):
                continue
            try:
                yield _read(path)
            except FileNotFoundError:
                continue  # just removed
            except OSError as error:
                yield OddFile(path, manager, strerror(error))
            except (KeyError, RecursionError, TypeError, ValueError):
                yield OddFile(path, manager, Oddity.NO_PORT)


def _manager(path: str) -> str:
    return next(name for name, (place, _, _) in _PLACES.items() if f"/{place}/" in path)


def read(path: str) -> str:
    """What stands in a file. ValueError for what is none, a FIFO or a link."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError(path)
        # Of a directory open() would not take the descriptor, so that is looked at first.
        with open(fd, encoding="utf-8", errors="surrogateescape", closefd=False) as file:
            return file.read()
    finally:
        os.close(fd)


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
