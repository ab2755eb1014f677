"""Where a frame goes: the one rule for VFs and for the synthetic NICs of the VMBus.

A *station* is what a MAC address stands for on the host's switch: a VF, a synthetic NIC, or both.
With both, the guest says which of the two receives (the data path, `path_vf`). Sending is never
restricted: what comes in at either is forwarded. Without a synthetic NIC a VF is a plain port.

What of its frames still reaches the synthetic NIC while the path is on the VF is Microsoft's
description for Azure ("Accelerated Networking, how it works"), not something that was measured:
broadcast, multicast, and the first packet of a flow, for which TCP's SYN stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.lab.nic import frames
from tests.lab.nic.frames import Headers

Piece = tuple[bytes | bytearray, Headers | None, bool]  # frame, headers, checksums known good
Deliver = Callable[[Piece, int | None], None]  # with the VLAN tag that travels beside it

_LEARNED: Final = 1024
_TCP_FLAGS_AT, _SYN_ACK, _SYN = 13, 0x12, 0x02


@dataclass(slots=True, eq=False)
class Station:
    mac: bytes
    vf: Deliver | None = None
    synthetic: Deliver | None = None
    path_vf: bool = False
    to_vf: int = 0  # counted only beside a synthetic NIC
    to_synthetic: int = 0
    lost: int = 0  # the path led to a VF that is not there

    def facts(self) -> dict[str, Any]:
        return {
            "mac": self.mac.hex(":"),
            "vf": self.vf is not None,
            "synthetic": self.synthetic is not None,
            "path": "vf" if self.path_vf else "synthetic",
            "to_vf": self.to_vf,
            "to_synthetic": self.to_synthetic,
            "lost": self.lost,
        }


class Fabric:
    """Stations joined by destination MAC; other addresses are learnt, unknown ones flooded.

    Never back to the sender. It outlives the drivers on either side.
    """

    def __init__(self) -> None:
        self.exceptions = True  # the vendor's description, see above
        self.watch: Callable[[Station, bytes | bytearray], None] | None = None  # told of each frame
        self._stations: dict[bytes, Station] = {}
        self._learned: dict[bytes, Station] = {}

    def station(self, mac: bytes) -> Station:
        """The station of that address, made on first use."""
        return self._stations.setdefault(mac, Station(mac))

    def prune(self) -> None:
        """Forget stations with nothing behind them, and what was learnt of them."""
        for mac, station in list(self._stations.items()):
            if station.vf is None and station.synthetic is None:
                del self._stations[mac]
        alive = set(map(id, self._stations.values()))
        self._learned = {mac: one for mac, one in self._learned.items() if id(one) in alive}

    def facts(self) -> list[dict[str, Any]]:
        return [station.facts() for station in self._stations.values()]

    def forward(self, source: Station, piece: Piece, tag: int | None) -> None:
        self._forward(source, piece, tag)
        if self.watch is not None:
            self.watch(source, piece[0])

    def _forward(self, source: Station, piece: Piece, tag: int | None) -> None:
        frame = piece[0]
        destination, sender = bytes(frame[:6]), bytes(frame[6:12])
        if sender != source.mac and sender not in self._stations:
            if len(self._learned) >= _LEARNED:
                self._learned.clear()
            self._learned[sender] = source
        if not destination[0] & 1:
            target = self._stations.get(destination) or self._learned.get(destination)
            if target is not None:
                if target is not source:
                    self._deliver(target, piece, tag)
                return
        for target in self._stations.values():
            if target is not source:
                self._deliver(target, piece, tag)

    def _deliver(self, target: Station, piece: Piece, tag: int | None) -> None:
        if target.synthetic is None:
            if target.vf is not None:
                target.vf(piece, tag)
        elif not target.path_vf or (self.exceptions and _exceptional(piece)):
            target.to_synthetic += 1
            target.synthetic(piece, tag)
        elif target.vf is None:
            target.lost += 1
        else:
            target.to_vf += 1
            target.vf(piece, tag)


def _exceptional(piece: Piece) -> bool:
    frame, headers, _ = piece
    if frame[0] & 1:
        return True
    headers = headers or frames.parse(frame)
    if headers is None or headers.protocol != frames.TCP or headers.fragment:
        return False
    at = headers.l4 + _TCP_FLAGS_AT
    return at < len(frame) and frame[at] & _SYN_ACK == _SYN
