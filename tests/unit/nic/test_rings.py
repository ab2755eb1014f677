from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab.nic.memory import DmaFault, Memory
from tests.lab.nic.regions import Region
from tests.lab.nic.rings import CompletionQueue, EventQueue, RingError, WorkQueue
from tests.lab.nic.wire import queues

PAGE = 4096
BASE = 0x10_0000


def region(
    ram: bytearray,
    length: int,
    *,
    pages: list[int] | None = None,
    size: int = PAGE,
    offset: int = 0,
) -> Region:
    memory = Memory()
    memory.map(BASE, len(ram), memoryview(ram), writable=True)
    count = -(-(offset + length) // size)
    return Region(
        handle=1,
        memory=memory,
        length=length,
        offset=offset,
        page_size=size,
        expected=count,
        pages=[BASE + size * i for i in range(count)] if pages is None else pages,
    )


def event_queue(ram: bytearray, entries: int) -> tuple[EventQueue, list[int]]:
    fired: list[int] = []
    return EventQueue(1, region(ram, entries * 16), entries, 5, fired.append), fired


@given(entries=st.integers(1, 300), posts=st.integers(0, 3000))
def test_owner_bits_follow_the_drivers_rule_over_many_passes(entries: int, posts: int) -> None:
    """A driver at head h takes an entry whose owner is (h / N) mod 8, and stops at (h / N - 1)."""
    ram = bytearray(2 * PAGE)
    eq, _ = event_queue(ram, entries)
    head = entries
    for number in range(posts):
        eq.post(queues.Event.TEST, number)
        at = head % entries * 16
        first, tail = struct.unpack_from("<I8xI", ram, at)
        assert (first, tail & 0xFF) == (number, queues.Event.TEST)
        assert tail >> 29 == head // entries & 7
        head += 1
        following = struct.unpack_from("<I", ram, head % entries * 16 + 12)[0] >> 29
        assert following == (head // entries - 1) & 7


class TestArming:
    def test_an_event_queue_starts_armed_and_fires_once(self) -> None:
        eq, fired = event_queue(bytearray(PAGE), 16)
        eq.post(queues.Event.TEST)
        eq.post(queues.Event.TEST)
        assert fired == [5]
        assert not eq.armed

    def test_arming_at_the_producers_index_waits_for_the_next_entry(self) -> None:
        eq, fired = event_queue(bytearray(PAGE), 16)
        eq.post(queues.Event.TEST)
        eq.ring(17, arm=True)
        assert fired == [5]
        eq.post(queues.Event.TEST)
        assert fired == [5, 5]

    def test_arming_with_entries_beyond_the_index_fires_at_once(self) -> None:
        """The handler takes five at a time; without this the bring-up's eleven would hang."""
        eq, fired = event_queue(bytearray(PAGE), 16)
        for _ in range(11):
            eq.post(queues.Event.TEST)
        for taken in (21, 26):
            eq.ring(taken, arm=True)
            assert not eq.armed
        eq.ring(27, arm=True)
        assert fired == [5, 5, 5]
        assert eq.armed

    def test_an_index_ahead_of_the_producer_arms(self) -> None:
        """rdma-core does it when an application arms twice without polling."""
        eq, fired = event_queue(bytearray(PAGE), 16)
        eq.ring(40, arm=True)
        assert eq.armed
        assert fired == []

    def test_a_doorbell_without_arm_disarms(self) -> None:
        eq, fired = event_queue(bytearray(PAGE), 16)
        eq.ring(16, arm=False)
        eq.post(queues.Event.TEST)
        assert fired == []

    def test_a_completion_queue_tells_its_event_queue_once_per_arming(self) -> None:
        eq, fired = event_queue(bytearray(PAGE), 16)
        cq = CompletionQueue(9, region(bytearray(PAGE), PAGE), 64, eq)
        cq.post(bytes(60), 3, is_sq=True)
        assert fired == []
        cq.ring(64, arm=True)  # one completion lies beyond
        assert (fired, cq.armed) == ([5], False)
        cq.ring(65, arm=True)
        cq.post(bytes(60), 3, is_sq=True)
        cq.post(bytes(60), 3, is_sq=True)
        assert eq.produced == 18

    @given(st.lists(st.sampled_from(["post", "take", "arm", "disarm"]), max_size=200))
    def test_no_wake_up_is_ever_lost(self, steps: list[str]) -> None:
        """Whoever arms with everything taken, or not, hears of whatever it has not taken."""
        eq, fired = event_queue(bytearray(PAGE), 16)
        head, waiting = 16, True  # waiting: it armed last and has not been told since
        for step in steps:
            before = len(fired)
            if step == "post" and eq.produced - head < 16:
                eq.post(queues.Event.TEST)
                assert len(fired) == before + waiting
            elif step == "take" and head < eq.produced:
                head += 1
            elif step in {"arm", "disarm"}:
                eq.ring(head % 128, arm=step == "arm")
                assert len(fired) == before + (step == "arm" and head < eq.produced)
                waiting = step == "arm" and head == eq.produced
            if len(fired) > before:
                waiting = False
            assert eq.armed == waiting


class TestWorkQueue:
    def queue(self, ram: bytearray, size: int = PAGE) -> WorkQueue:
        return WorkQueue(7, region(ram, size), size)

    def test_takes_what_lies_between_head_and_tail(self) -> None:
        ram = bytearray(PAGE)
        struct.pack_into("<II8xQII", ram, 0, 0, 1 | 2 << 8, 0xABC, 4, 60)
        wq = self.queue(ram)
        wq.ring(32)
        wqe = wq.take()
        assert wqe.sges == [(0xABC, 4, 60)]
        assert (wqe.offset, wqe.length, wq.pending) == (0, 32, 0)

    def test_sges_continue_at_the_start_of_the_ring(self) -> None:
        ram = bytearray(PAGE)
        struct.pack_into("<II8xQII", ram, PAGE - 32, 0, 2 | 2 << 8, 1, 2, 3)
        struct.pack_into("<QII", ram, 0, 4, 5, 6)
        wq = self.queue(ram)
        wq.head = wq.tail = 2 * PAGE - 32
        wq.ring(2 * PAGE + 32)
        assert wq.take().sges == [(1, 2, 3), (4, 5, 6)]

    def test_counters_wrap_at_32_bits(self) -> None:
        ram = bytearray(PAGE)
        struct.pack_into("<II", ram, PAGE - 32, 0, 1 | 2 << 8)
        wq = self.queue(ram)
        wq.head = wq.tail = (1 << 32) - 32
        wq.ring(0)
        assert wq.pending == 32
        wq.take()
        assert (wq.head, wq.pending) == (0, 0)

    def test_a_tail_beyond_the_ring_is_refused(self) -> None:
        wq = self.queue(bytearray(PAGE))
        with pytest.raises(RingError, match="ahead"):
            wq.ring(PAGE + 32)
        assert wq.pending == 0

    @pytest.mark.parametrize("word", [1 | 3 << 8, 3 | 2 << 8], ids=["inline code", "too long"])
    def test_a_broken_wqe_empties_the_queue(self, word: int) -> None:
        ram = bytearray(PAGE)
        struct.pack_into("<II", ram, 0, 0, word)
        wq = self.queue(ram)
        wq.ring(32)
        with pytest.raises(RingError):
            wq.take()
        assert wq.pending == 0


class TestRegion:
    @given(
        shift=st.integers(0, 4),
        offset=st.integers(0, 4095),
        length=st.integers(1, 60_000),
        data=st.data(),
    )
    def test_translates_scattered_pages_of_any_size(
        self, shift: int, offset: int, length: int, data: st.DataObject
    ) -> None:
        size = PAGE << shift
        count = -(-(offset + length) // size)
        order = data.draw(st.permutations(range(count)))
        ram = bytearray(count * size)
        pages = [BASE + size * place for place in order]
        scattered = region(ram, length, pages=pages, size=size, offset=offset)
        at = data.draw(st.integers(0, length - 1))
        text = data.draw(st.binary(min_size=1, max_size=min(length - at, 9000)))
        scattered.write(at, text)
        assert scattered.read(at, len(text)) == text
        whole = b"".join(ram[size * place : size * place + size] for place in order)
        assert whole[offset + at : offset + at + len(text)] == text
        assert sum(map(bool, ram)) == sum(map(bool, text))

    @pytest.mark.parametrize(("at", "length"), [(-1, 2), (4095, 2), (5000, 1)])
    def test_nothing_outside_it(self, at: int, length: int) -> None:
        for pages in ([BASE], [BASE + PAGE]):
            with pytest.raises(DmaFault):
                region(bytearray(2 * PAGE), PAGE, pages=pages).read(at, length)

    def test_memory_taken_away_is_gone_at_once(self) -> None:
        made = region(bytearray(PAGE), PAGE)
        made.write(0, b"x")
        made.memory.unmap(BASE, PAGE)
        with pytest.raises(DmaFault, match="not mapped"):
            made.write(0, b"y")


class TestMemory:
    def test_pieces_come_and_go(self) -> None:
        memory = Memory()
        low, high = bytearray(PAGE), bytearray(b"h" * PAGE)
        memory.map(0, PAGE, memoryview(low), writable=True)
        memory.map(1 << 32, PAGE, memoryview(high), writable=True)
        assert memory.read((1 << 32) + 5, 3) == b"hhh"
        memory.write(10, b"abc")
        assert low[10:13] == b"abc"
        memory.unmap(0, 1 << 20)
        with pytest.raises(DmaFault):
            memory.read(10, 1)

    def test_an_access_may_not_leave_its_mapping(self) -> None:
        memory = Memory()
        memory.map(0, PAGE, memoryview(bytearray(PAGE)), writable=True)
        with pytest.raises(DmaFault):
            memory.read(PAGE - 1, 2)

    def test_read_only_and_empty_mappings(self) -> None:
        memory = Memory()
        memory.map(0, PAGE, memoryview(bytes(PAGE)), writable=False)
        memory.map(PAGE, PAGE, None, writable=True)
        with pytest.raises(DmaFault, match="read-only"):
            memory.write(0, b"x")
        with pytest.raises(DmaFault, match="no memory"):
            memory.read(PAGE, 1)

    def test_overlaps_and_splits_are_refused(self) -> None:
        memory = Memory()
        memory.map(PAGE, 2 * PAGE, None, writable=True)
        with pytest.raises(ValueError, match="overlaps"):
            memory.map(2 * PAGE, PAGE, None, writable=True)
        with pytest.raises(ValueError, match="splits"):
            memory.unmap(PAGE, PAGE)
