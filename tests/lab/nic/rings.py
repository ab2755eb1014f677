"""The three kinds of ring: owner bits, arming, head and tail. No I/O but through a region.

Linux: mana_gd_read_cqe(), mana_gd_process_eq_events(), mana_gd_ring_doorbell(); OpenVMM: queues.rs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.lab.nic.regions import Region
from tests.lab.nic.wire import queues
from tests.lab.nic.wire.queues import CQE_SIZE, EQE_SIZE, OWNER_PASSES, OWNER_SHIFT, Event

_DWORD = queues.DWORD.pack
_EQE = queues.EQE_DETAILS.pack
_WQE_HEADER = queues.WQE_HEADER.unpack
_COUNTER = 0xFFFFFFFF


class RingError(Exception):
    """The driver broke a rule of the rings."""


@dataclass(slots=True, eq=False)
class EventQueue:
    """EQEs and one MSI-X vector, fired only when armed. Starts armed.

    Both sides count entries from N, so that the owner field of the first pass is 1 and differs
    from the zeroed memory.
    """

    number: int
    region: Region
    entries: int
    vector: int
    fire: Callable[[int], None]
    pdid: int = 0
    device: int = 0
    armed: bool = True
    produced: int = 0
    acknowledged: int = 0  # the index of the last doorbell, modulo 8 N

    def __post_init__(self) -> None:
        self.produced = self.acknowledged = self.entries

    def post(self, event: int, first: int = 0) -> None:
        n = self.entries
        at = self.produced % n * EQE_SIZE
        owner = self.produced // n % OWNER_PASSES
        self.region.write(at, _EQE(first, 0, 0))
        # The driver polls the dword with the owner bits: it is written last.
        self.region.write(at + 12, _DWORD(event | owner << OWNER_SHIFT))
        self.produced += 1
        if self.armed:
            self.armed = False
            self.fire(self.vector)

    def ring(self, index: int, arm: bool) -> None:
        """The driver's consumer index; with entries beyond it an arming fires at once."""
        self.acknowledged = index
        if not arm:
            self.armed = False
            return
        unseen = (self.produced - index) % (OWNER_PASSES * self.entries)
        if 1 <= unseen <= self.entries:
            self.armed = False
            self.fire(self.vector)
        else:
            # 0: all seen. More than N: the index is ahead of us, which rdma-core does on purpose
            # when an application arms twice without polling.
            self.armed = True

    @property
    def owed(self) -> bool:
        """Whether the driver still has entries to acknowledge by a doorbell."""
        return (self.produced - self.acknowledged) % (OWNER_PASSES * self.entries) != 0


@dataclass(slots=True, eq=False)
class CompletionQueue:
    """CQEs; one EQE to the parent queue per arming, never one per CQE."""

    number: int
    region: Region
    entries: int
    eq: EventQueue | None
    armed: bool = False
    produced: int = 0
    handle: int = 0  # of an RNIC CQ
    doorbell: int = 0
    users: int = 0  # RNIC QPs on it
    acknowledged: int = 0

    def __post_init__(self) -> None:
        self.produced = self.acknowledged = self.entries

    def post(self, data: bytes, queue: int, is_sq: bool) -> None:
        n = self.entries
        at = self.produced % n * CQE_SIZE
        owner = self.produced // n % OWNER_PASSES
        self.region.write(at, data)
        tail = queue | owner << OWNER_SHIFT
        self.region.write(at + 60, _DWORD(tail | queues.CQE_IS_SQ if is_sq else tail))
        self.produced += 1
        if self.armed:
            self._notify()

    def ring(self, index: int, arm: bool) -> None:
        self.acknowledged = index
        if not arm:
            self.armed = False
            return
        unseen = (self.produced - index) % (OWNER_PASSES * self.entries)
        if 1 <= unseen <= self.entries:
            self._notify()
        else:
            self.armed = True

    @property
    def owed(self) -> bool:
        return (self.produced - self.acknowledged) % (OWNER_PASSES * self.entries) != 0

    def _notify(self) -> None:
        self.armed = False
        if self.eq is not None:
            self.eq.post(Event.COMPLETION, self.number)


@dataclass(slots=True)
class Wqe:
    """One work queue entry, copied out of the ring."""

    offset: int  # free-running byte offset of its start
    length: int
    word: int  # second header dword: flags and data unit
    oob: bytes
    sges: list[tuple[int, int, int]]  # bus or virtual address, memory key, size
    header: int = 0  # first header dword


@dataclass(slots=True, eq=False)
class WorkQueue:
    """WQEs of an SQ or RQ. Head and tail are free-running byte counters modulo 2**32."""

    number: int
    region: Region
    size: int
    cq: CompletionQueue | None = None
    pdid: int = 0
    on_work: Callable[[WorkQueue], None] | None = None
    head: int = 0
    tail: int = 0
    owner: str = ""

    @property
    def pending(self) -> int:
        return self.tail - self.head & _COUNTER

    def ring(self, tail: int) -> None:
        new = tail - self.tail & _COUNTER
        if (tail - self.head & _COUNTER) > self.size:
            raise RingError(
                f"tail {tail:#x} of queue {self.number} is {new:#x} ahead of the last one,"
                f" head {self.head:#x}, size {self.size:#x}"
            )
        self.tail = tail
        if self.on_work is not None and new:
            self.on_work(self)

    def take(self) -> Wqe:
        """The WQE at the head, which moves past it; past everything posted if it is broken."""
        head = self.head
        header, word = _WQE_HEADER(self._read(head, 8))
        code, count = word >> queues.WQE_OOB_SHIFT & 7, word & queues.WQE_SGES
        oob = queues.OOB_SIZES.get(code)
        if oob is None:
            self.skip()
            raise RingError(f"WQE at {head:#x} of queue {self.number}: inline data code {code}")
        length = queues.wqe_length(oob, count)
        posted = self.pending
        if length > min(posted, queues.WQE_MAX):
            self.skip()
            raise RingError(
                f"WQE at {head:#x} of queue {self.number}: {length} bytes, {posted} posted"
            )
        raw = self._read(head, length)
        first = queues.sge_offset(oob)
        sges = list(queues.SGE.iter_unpack(raw[first : first + 16 * count]))
        self.head = head + length & _COUNTER
        return Wqe(head, length, word, raw[8 : 8 + oob], sges, header)

    def skip(self) -> None:
        """Forget what is posted: behind a broken WQE nothing can be told apart."""
        self.head = self.tail

    def _read(self, at: int, length: int) -> bytes:
        at %= self.size
        if at + length <= self.size:
            return self.region.read(at, length)
        first = self.size - at
        return self.region.read(at, first) + self.region.read(0, length - first)


def entries(size: int, entry: int) -> int:
    """How many whole entries a ring of that many bytes has; at least one."""
    if size < entry:
        raise RingError(f"a ring of {size} bytes")
    return size // entry
