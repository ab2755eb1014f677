"""Courses: what is put in must come out, once, in order and unchanged."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.lab.nic import frames
from tests.lab.nic.course import FLOWS, OUTSIDE, Course, Courses, made

ONE, TWO, THREE = (bytes.fromhex(f"02155d00000{port}") for port in (1, 2, 3))
COUNT = 300


def course(*, rewritten: bool = False, count: int = COUNT) -> Course:
    return Course(1, 2, THREE, (ONE, TWO, THREE), count, seed=4, rewritten=rewritten)


class Router:
    """Holds what is put into it until told to send, and may send something else."""

    def __init__(self, spoil: Callable[[int, bytes], list[bytes]] | None = None) -> None:
        self.spoil = spoil or (lambda _number, frame: [frame])
        self.held: list[bytes] = []
        self.space = {1: 1000, 3: 1000}
        self.due: list[Callable[[], None]] = []
        self.number = 0
        self.courses = Courses(
            lambda _port, frame: self.held.append(frame),
            lambda port: self.space[port],
            lambda _seconds, act: self.due.append(act),
        )

    def run(self, one: Course) -> Course:
        self.courses.start(one)
        while self.held:
            frame = self.held.pop(0)
            for sent in self.spoil(self.number, frame):
                self.courses.saw(2, sent)
            self.number += 1
        return one


def judged(one: Course) -> tuple[int, int, int, int, bool]:
    return one.seen, one.altered, one.strange, one.reordered, one.done


def test_what_comes_out_as_it_went_in_is_exact() -> None:
    assert judged(Router().run(course())) == (COUNT, 0, 0, 0, True)


def test_an_ethernet_hop_puts_its_addresses_in() -> None:
    router = Router(lambda _number, frame: [THREE + TWO + frame[12:]])
    assert judged(router.run(course(rewritten=True))) == (COUNT, 0, 0, 0, True)
    router = Router()
    assert router.run(course(rewritten=True)).altered == COUNT


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (lambda f: [], (COUNT - 1, 0, 0, 0, False)),
        (lambda f: [f, f], (COUNT, 0, 1, 0, True)),
        (lambda f: [f[:30] + bytes((f[30] ^ 1,)) + f[31:]], (COUNT, 1, 0, 0, True)),
        (lambda f: [f[:60]], (COUNT - 1, 0, 1, 0, False)),
    ],
    ids=["lost", "twice", "a bit", "cut"],
)
def test_what_goes_wrong_is_told(
    how: Callable[[bytes], list[bytes]], expected: tuple[int, int, int, int, bool]
) -> None:
    router = Router(lambda number, frame: how(frame) if number == 100 else [frame])
    assert judged(router.run(course())) == expected


def test_order_counts_within_a_flow_only() -> None:
    late: list[bytes] = []

    def hold(behind: int) -> Callable[[int, bytes], list[bytes]]:
        def spoil(number: int, frame: bytes) -> list[bytes]:
            if number == 40:
                late.append(frame)
                return []
            return [frame, late.pop()] if number == 40 + behind else [frame]

        return spoil

    assert Router(hold(FLOWS - 1)).run(course()).reordered == 0
    assert Router(hold(FLOWS)).run(course()).reordered == 1


def test_no_more_is_put_in_than_rings_take() -> None:
    router, one = Router(), course()
    router.space[3] = 2 * one.window - 1
    router.run(one)
    assert one.put == 0
    router.space[3] = 1000
    router.due.pop()()
    assert one.put == one.window == len(router.held)
    assert router.due == []


def test_a_port_is_watched_once() -> None:
    router = Router()
    router.courses.start(course())
    with pytest.raises(ValueError, match="watched"):
        router.courses.start(course())


@pytest.mark.parametrize("bad", [{"into": 4}, {"out_of": 0}, {"count": 0}, {"to": b"\0"}])
def test_a_course_that_cannot_be(bad: dict[str, object]) -> None:
    values = {"into": 1, "out_of": 2, "to": THREE, "macs": (ONE, TWO, THREE), "count": 1, "seed": 0}
    with pytest.raises(ValueError, match=r"ports|destination"):
        Course(**{**values, **bad})  # type: ignore[arg-type]


def test_frames_are_whole_and_of_many_kinds() -> None:
    """And the same for the same seed, here and in the guest."""
    all_of_them = list(made(9, ONE, OUTSIDE, COUNT))
    assert all_of_them == list(made(9, ONE, OUTSIDE, COUNT))
    assert len(set(all_of_them)) == COUNT
    kinds, right = set(), 0
    for frame in all_of_them:
        assert frame[:12] == ONE + OUTSIDE
        headers = frames.parse(frame)
        kinds.add(headers and (headers.version, headers.protocol))
        if headers is not None:
            assert headers.end == len(frame)
            at = headers.l4 + (16 if headers.protocol == frames.TCP else 6)
            checksum = int.from_bytes(frame[at : at + 2], "big")
            right += checksum == frames.l4_checksum(frame, headers)
    assert kinds == {None, (4, 6), (4, 17), (6, 6), (6, 17)}
    assert 0 < COUNT - right < COUNT // 2
