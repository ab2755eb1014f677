"""A port that a network manager leaves alone from boot on. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from manactl.model.named_tuple import NamedTuple
from manactl.model.port import PortId
from manactl.netstate import snapshot
from manactl.netstate.unmanaged import Unmanaged


class LeftDown(NamedTuple):
    """The manager, and the netdevs that it leaves alone, are those of `unmanaged`. `name`: what the
    port was called when that was said."""

    port: PortId
    name: str
    unmanaged: Unmanaged

    def to_json(self) -> dict[str, Any]:
        return {
            "port": snapshot.port_to_json(self.port),
            "name": self.name,
            **self.unmanaged.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LeftDown:
        port = snapshot.port_from_json(data["port"])
        return cls(port, str(data["name"]), Unmanaged.from_json(data))
