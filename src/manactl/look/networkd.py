"""systemd-networkd by its D-Bus interface: what it does with each link, as `networkctl` shows it.

The JSON of Describe() is that of `networkctl --json=short list`; systemd 250 has it, older
versions have not. It has no drop-ins before 253 (Debian 12): those are looked for, as networkd does.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import ipaddress
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from manactl.look.bus import Bus, Interface
from manactl.look.text_files import fields, passing_over, read, rows
from manactl.model.value import Value

SERVICE = "org.freedesktop.network1"
_MANAGER = Interface(SERVICE, "/org/freedesktop/network1", f"{SERVICE}.Manager")
CONFIGURED = "configured"
_CLIENTS = ("DHCPv4Client", "DHCPv6Client")
PLACES = tuple(
    f"{base}/systemd/network" for base in ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")
)
"""Where networkd looks for files; of those of one name the first counts."""


class NetworkdLink(Value):
    """One link: the .network file that was chosen for it with its drop-ins, and how far networkd
    has come with it ("configured", "configuring", "failed", "unmanaged", ...)."""

    ifindex: int
    name: str
    state: str
    file: str | None = None
    drop_ins: tuple[str, ...] = ()
    activation: str | None = None
    mac: str | None = None  # the permanent one
    driver: str | None = None
    own: tuple[str, ...] | None = None  # addresses that it has made; None: it does not tell
    leases: tuple[str, ...] = ()  # which of its DHCP clients have one

    @property
    def files(self) -> tuple[str, ...]:
        """Its configuration, in the order in which networkd reads it."""
        return (*([self.file] if self.file else []), *self.drop_ins)


def links(bus: Bus, places: Iterable[str] = PLACES) -> dict[int, NetworkdLink]:
    """All links by ifindex. OSError when networkd does not answer, or not with JSON, or where a
    folder of drop-ins cannot be listed that it does not tell of."""
    (text,) = bus.call(_MANAGER, "Describe")
    try:
        found = [_link(data, places) for data in json.loads(text)["Interfaces"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OSError(errno.EPROTO, "systemd-networkd does not describe its links") from error
    return {link.ifindex: link for link in found}


def bound_to(link: NetworkdLink, all_: Iterable[NetworkdLink]) -> tuple[str, ...]:
    """The other links that networkd sets down while this one has no carrier, by BindCarrier= of
    their files; ActivationPolicy=bound rests on that, too."""
    return tuple(
        other.name
        for other in all_
        if other.ifindex != link.ifindex
        and any(fnmatch.fnmatchcase(link.name, pattern) for pattern in _bind_carrier(other))
    )


def _bind_carrier(link: NetworkdLink) -> list[str]:
    """Name patterns; a file that cannot be read has none that are known."""
    found: list[str] = []
    for path in link.files:
        with passing_over():
            for line in rows(read(path)):
                key, _, value = line.partition("=")
                if key.strip() == "BindCarrier":
                    found = [*found, *fields(value)] if value.strip() else []
    return found


def reload(bus: Bus) -> None:
    """Have the files read again; links whose configuration has changed are configured again."""
    bus.call(_MANAGER, "Reload")


def _link(data: Mapping[str, Any], places: Iterable[str]) -> NetworkdLink:
    return NetworkdLink(
        int(data["Index"]),
        str(data["Name"]),
        str(data["AdministrativeState"]),
        data.get("NetworkFile"),
        _drop_ins(data, places),
        data.get("ActivationPolicy"),
        _mac(data.get("PermanentHardwareAddress")),
        data.get("Driver"),
        _own(data.get("Addresses")),
        tuple(one for one in _CLIENTS if (data.get(one) or {}).get("Lease")),
    )


def _drop_ins(data: Mapping[str, Any], places: Iterable[str]) -> tuple[str, ...]:
    """In the order of their names, whichever folder each is in (conf_files_list_dropins())."""
    file = data.get("NetworkFile")
    if file is None or "NetworkFileDropins" in data:
        return tuple(data.get("NetworkFileDropins") or ())
    found: dict[str, str] = {}
    for place in places:
        folder = f"{place}/{os.path.basename(file)}.d"
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(folder):
                if name.endswith(".conf"):
                    found.setdefault(name, f"{folder}/{name}")
    return tuple(found[name] for name in sorted(found))


def _own(addresses: list[Mapping[str, Any]] | None) -> tuple[str, ...] | None:
    """As "10.0.0.2/24", but for those that others have made."""
    if addresses is None:
        return None
    return tuple(
        f"{ipaddress.ip_address(bytes(one['Address']))}/{one['PrefixLength']}"
        for one in addresses
        if one.get("ConfigSource") != "foreign"
    )


def _mac(numbers: list[int] | None) -> str | None:
    return bytes(numbers).hex(":") if numbers else None
