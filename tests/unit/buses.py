"""The system bus in memory, with a networkd and a NetworkManager that have ideas of their own.

They read the files that are below /run when they are told to, as the real ones do: what it
means to be unmanaged is seen in what becomes of their links.
"""

from __future__ import annotations

import configparser
import errno
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

NETWORKD, NM = "org.freedesktop.network1", "org.freedesktop.NetworkManager"
EXTERNAL = 0x80


@dataclass
class Link:
    """A netdev, as a manager has it."""

    name: str
    ifindex: int
    mac: str = "00:0d:3a:aa:00:10"
    driver: str = "hv_netvsc"
    file: str | None = None
    state: str = "configured"
    activation: str | None = "up"
    required: bool = True  # for being online
    leases: tuple[str, ...] = ()
    managed: bool = True
    explicit: bool | None = None  # by D-Bus
    nm_state: int = 100
    active: str | None = "uuid-one"
    flags: int = 0x5C
    flushed: bool = False  # it was taken from NetworkManager while it was connected


def _ini(path: Path) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    section = ""
    for line in path.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(section, []).append((key.strip(), value.strip()))
    return found


@dataclass
class World:
    """The machine: links, files, and which services are there."""

    run: Path
    links: list[Link] = field(default_factory=lambda: [Link("eth1", 3)])
    services: set[str] = field(default_factory=lambda: {NETWORKD, NM})
    calls: list[str] = field(default_factory=list)
    profiles: set[str] = field(default_factory=lambda: {"uuid-one"})
    fails: set[str] = field(default_factory=set)
    assumes: bool = False  # NetworkManager only watches a link that has addresses
    seconds: float = 0.0
    call_takes: float = 0.0  # s

    def pause(self, seconds: float) -> None:
        self.seconds += seconds

    def name_of(self, ifindex: int) -> str:
        for link in self.links:
            if link.ifindex == ifindex:
                return link.name
        raise OSError(errno.ENXIO, "no such device or address")

    def link(self, name: str) -> Link:
        return next(one for one in self.links if one.name == name)

    # --- busctl

    def __call__(self, words: Sequence[str]) -> str:
        verb, service, path, _, *rest = words
        self.calls.append(" ".join([verb, *rest]))
        self.seconds += self.call_takes
        if rest[0] in self.fails:
            raise OSError(errno.EIO, f"busctl {verb}: {rest[0]} failed")
        if rest[0] == "NameHasOwner":
            return json.dumps({"type": "b", "data": [rest[2] in self.services]})
        if service not in self.services:
            raise OSError(errno.EIO, f"busctl {verb}: no {service}")
        answer = self._networkd(rest) if service == NETWORKD else self._nm(verb, path, rest)
        return "\n".join(json.dumps({"type": "v", "data": data}) for data in answer)

    def _networkd(self, rest: Sequence[str]) -> list[object]:
        if rest[0] == "Describe":
            return [[json.dumps({"Interfaces": [self._described(one) for one in self.links]})]]
        assert rest[0] == "Reload"
        files = sorted((self.run / "systemd/network").glob("[!.]*.network"), key=lambda p: p.name)
        for link in self.links:
            chosen = next((path for path in files if self._matches(path, link)), None)
            link.file = None if chosen is None else str(chosen)
            link.state = "unmanaged" if chosen is None else "configured"
            settings = dict(_ini(chosen).get("Link", ())) if chosen else {}
            link.activation = settings.get("ActivationPolicy", "up")
            link.required = settings.get("RequiredForOnline", "yes") == "yes"
            if chosen and dict(_ini(chosen).get("Network", ())).get("BindCarrier"):
                link.activation = "bound"  # network_verify()
        return []

    @staticmethod
    def _matches(path: Path, link: Link) -> bool:
        wanted = {"Name": link.name, "PermanentMACAddress": link.mac, "Driver": link.driver}
        rules = _ini(path).get("Match", [])
        return bool(rules) and all(wanted[key] == value for key, value in rules)

    def _described(self, link: Link) -> dict[str, object]:
        return {
            "Index": link.ifindex,
            "Name": link.name,
            "AdministrativeState": link.state,
            "NetworkFile": link.file,
            "ActivationPolicy": link.activation,
            "PermanentHardwareAddress": list(bytes.fromhex(link.mac.replace(":", ""))) or None,
            "Driver": link.driver,
            **{client: {"Lease": {"LeaseTimestampUSec": 1}} for client in link.leases},
        }

    def _nm(self, verb: str, path: str, rest: Sequence[str]) -> list[object]:
        if rest[0] == "GetDeviceByIpIface":
            found = [one for one in self.links if one.name == rest[2]]
            if not found:
                raise OSError(errno.EIO, f"busctl call: no device {rest[2]}")
            return [[f"/dev/{found[0].ifindex}"]]
        if rest[0] == "GetConnectionByUuid":
            if rest[2] not in self.profiles:
                raise OSError(errno.EIO, "busctl call: no connection")
            return [[f"/settings/{rest[2]}"]]
        if rest[0] == "ActivateConnection":
            link = self._by_path(rest[3])
            link.active, link.flags, link.nm_state = rest[2].rpartition("/")[2], 0x5C, 100
            return [["/active/9"]]
        if rest[0] == "Reload":
            for link in self.links:
                self._applied(link)
            return []
        link = self._by_path(path)
        if verb == "set-property":
            assert rest[:2] == ["Managed", "b"]
            link.explicit = rest[2] == "true"
            self._applied(link)
            return []
        values: dict[str, object] = {
            "Managed": link.managed, "State": link.nm_state, "HwAddress": link.mac.upper(),
            "Driver": link.driver, "ActiveConnection": f"/active/{link.ifindex}" if link.active else "/",
            "Uuid": link.active, "StateFlags": link.flags,
        }  # fmt: skip
        return [values[name] for name in rest]

    def _by_path(self, path: str) -> Link:
        return next(one for one in self.links if one.ifindex == int(path.rpartition("/")[2]))

    def _applied(self, link: Link) -> None:
        """nm_device_set_unmanaged_by_flags(): a file against D-Bus, which may only take away."""
        by_file = False
        for path in (self.run / "NetworkManager/conf.d").glob("*.conf"):
            for key, value in _ini(path).get("keyfile", []):
                assert key == "unmanaged-devices+", "what others have set is kept"
                by_file |= bool(
                    {f"mac:{link.mac}", f"interface-name:={link.name}"} & {*value.split(";")}
                )
        managed = link.explicit is not False and not by_file
        if link.managed and not managed:
            link.flushed = link.explicit is not False  # a file alone takes it down
            link.nm_state, link.active = 10, None
        elif managed and not link.managed:
            link.nm_state = 100
            link.active, link.flags = ("eth1", EXTERNAL) if self.assumes else ("uuid-one", 0x5C)
        link.managed = managed


def is_ini(text: str) -> bool:
    """Whether a parser of others understands it, sections that come twice included."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return bool(parser.sections())
