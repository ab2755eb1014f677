"""What a network manager lets go of while a port is claimed. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from manactl.model.value import Value
from manactl.netstate.beside import Beside

NETWORKD = "systemd-networkd"
NETWORK_MANAGER = "NetworkManager"


class UnmanagedLink(Value):
    """One netdev of which a manager lets go.

    `mac` and `driver` identify it after it was re-created, too; None where it has no permanent
    address or no driver: then its name does. `settled`: the manager had done with it. `profile` is
    the UUID of NetworkManager's connection, `ready` its IP families that were done, as flags; None
    where it has activated none by itself. `addr_gen_mode`: the sysctl of that name where the manager
    sets it, which it does also to a netdev that it has let go of. `drops`: the addresses that the
    manager removes itself when the netdev goes down, which networkd does with its own; None: it is
    not known which. `leases`: those of networkd's DHCP clients that had one.
    """

    name: str
    ifindex: int
    mac: str | None
    driver: str | None
    settled: bool
    profile: str | None = None
    ready: int = 0
    addr_gen_mode: str | None = None
    drops: tuple[str, ...] | None = None
    leases: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "ifindex": self.ifindex,
            "mac": self.mac,
            "driver": self.driver,
            "settled": self.settled,
            "profile": self.profile,
            "ready": self.ready,
            "addr_gen_mode": self.addr_gen_mode,
            "drops": None if self.drops is None else list(self.drops),
            "leases": list(self.leases),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> UnmanagedLink:
        return cls(
            str(data["name"]),
            int(data["ifindex"]),
            data["mac"],
            data["driver"],
            bool(data["settled"]),
            data["profile"],
            int(data["ready"]),
            data.get("addr_gen_mode"),
            None if data.get("drops") is None else tuple(map(str, data["drops"])),
            tuple(map(str, data.get("leases", ()))),
        )


class Unmanaged(Value):
    """A manager, the netdevs that it lets go of, and the word for its run-time files: it tells
    the ports of several claims apart. `beside` is what it deletes when it takes them back, though
    it hangs on no netdev."""

    manager: str
    key: str
    links: tuple[UnmanagedLink, ...]
    beside: tuple[Beside, ...] = ()

    @property
    def names(self) -> str:
        return ", ".join(link.name for link in self.links)

    def to_json(self) -> dict[str, Any]:
        return {
            "manager": self.manager,
            "key": self.key,
            "links": [link.to_json() for link in self.links],
            "beside": [one.to_json() for one in self.beside],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Unmanaged:
        links = tuple(UnmanagedLink.from_json(link) for link in data["links"])
        beside = tuple(Beside.from_json(one) for one in data["beside"])
        return cls(str(data["manager"]), str(data["key"]), links, beside)
