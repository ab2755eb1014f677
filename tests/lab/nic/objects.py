"""Live objects of the function, and the vports with their owners."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.lab.nic.config import INDIRECTION, MANA_PDID
from tests.lab.nic.regions import Region
from tests.lab.nic.rings import CompletionQueue, WorkQueue
from tests.lab.nic.wire.messages import MrKind


class Ids:
    """Numbers for objects, handed out round robin so that a dead one does not soon come back."""

    def __init__(self, first: int, last: int, step: int = 1) -> None:
        self._first, self._last, self._step = first, last, step
        self._next = first

    def take(self, used: Mapping[int, Any] | set[int]) -> int | None:
        """A number not in use, or None when there is none left."""
        for _ in range(self._first, self._last + 1, self._step):
            number = self._next
            self._next += self._step
            if self._next > self._last:
                self._next = self._first
            if number not in used:
                return number
        return None


@dataclass(slots=True, eq=False)
class Pd:
    handle: int
    pdid: int
    flags: int
    mrs: int = 0
    qps: int = 0


@dataclass(slots=True, eq=False)
class Mr:
    """A memory key. `region` is None where addresses are bus addresses (GPA) or for windows."""

    handle: int
    pd: Pd
    kind: MrKind
    key: int
    region: Region | None = None
    base: int = 0  # the virtual address of the region's first byte
    access: int = 0

    def runs(self, address: int, length: int) -> Iterator[tuple[int, int]]:
        """Bus addresses behind an SGE's."""
        if self.region is None:
            yield address, length
        else:
            yield from self.region.runs(address - self.base, length)


@dataclass(slots=True, eq=False)
class WqObject:
    """A WQ and its CQ on a vport, made and destroyed together."""

    handle: int
    is_sq: bool
    vport: Vport
    wq: WorkQueue
    cq: CompletionQueue


@dataclass(slots=True, eq=False)
class Qp:
    """An RNIC QP with its queues. What follows `state` is for RC, which has a data path."""

    handle: int
    kind: str
    pd: Pd
    sqs: list[WorkQueue]
    rqs: list[WorkQueue]
    cqs: tuple[CompletionQueue, CompletionQueue]
    state: int = 0
    number: int = 0
    peer: int = 0  # the number of the other end
    addresses: tuple[str, str] = ("", "")  # of this end and the other, in hex
    mtu: int = 1024
    requests: WorkQueue | None = None
    reads: WorkQueue | None = None  # where READ puts what it gets
    receives: WorkQueue | None = None
    next_psn: int = 0  # of the next request
    due_psn: int = 0  # of the next request from the peer
    acked: int = 0
    armed: int | None = None  # a completion is wanted once this PSN is acknowledged
    sequence: int = 0
    waiting: Any = None  # a request taken from the ring that the peer is not ready for
    octets_out: int = 0
    octets_in: int = 0


@dataclass(slots=True)
class Counters:
    tx_frames: int = 0
    tx_bytes: int = 0
    tx_errors: int = 0
    tx_finished: int = 0  # of the frames those with a checksum that the NIC computed
    rx_frames: int = 0
    rx_bytes: int = 0
    rx_disabled: int = 0
    rx_no_wqe: int = 0
    rx_truncated: int = 0


@dataclass(slots=True, eq=False)
class Vport:
    """A port's queues and who programmed it.

    No message announces that a vport is given up. It has an owner from CONFIG_VPORT_TX until the
    last of its WQ objects is gone; if it never got one (an open that failed), until the EQs made
    meanwhile are gone, or, where there were none of these either, until the refusal that ended it.
    """

    index: int
    mac: bytes
    pdid: int | None = None
    doorbell: int = 0
    since: int = 0  # monotonic ns of the last change of owner
    objects: dict[tuple[bool, int], WqObject] = field(default_factory=dict)
    eqs: set[int] = field(default_factory=set)
    rx: bool = False
    rss: bool = False
    default: WqObject | None = None
    table: list[WqObject | None] = field(default_factory=lambda: [None] * INDIRECTION)
    key: bytes = bytes(40)
    hash_types: int = 0x3F
    counters: Counters = field(default_factory=Counters)

    @property
    def handle(self) -> int:
        return self.index + 1

    @property
    def owner(self) -> str | None:
        if self.pdid is None:
            return None
        return "ethernet" if self.pdid == MANA_PDID else "raw-qp"

    def configure(self, pdid: int, doorbell: int) -> None:
        if pdid != self.pdid:
            self.since = time.monotonic_ns()
        self.pdid, self.doorbell = pdid, doorbell
        self.eqs.clear()

    def release(self) -> None:
        self.pdid = None
        self.since = time.monotonic_ns()
        self.rx = False
        self.eqs.clear()

    def detach(self, gone: WqObject) -> None:
        del self.objects[gone.is_sq, gone.handle]
        if gone is self.default:
            self.default = None
        self.table = [None if entry is gone else entry for entry in self.table]

    def facts(self) -> dict[str, Any]:
        counters = {name: getattr(self.counters, name) for name in Counters.__slots__}
        return {
            "index": self.index,
            "mac": self.mac.hex(":"),
            "owner": self.owner,
            "pdid": self.pdid,
            "since": self.since,
            "rx": self.rx,
            "rss": self.rss,
            "sqs": sum(is_sq for is_sq, _ in self.objects),
            "rqs": sum(not is_sq for is_sq, _ in self.objects),
            **counters,
        }
