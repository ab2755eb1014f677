"""Places in a row, against a row as the kernel keeps it."""

from __future__ import annotations

import dataclasses
import random

import pytest

from manactl.netstate import rows
from manactl.netstate.rows import Entry, Row
from manactl.netstate.snapshot import Fact, PortState
from tests.unit.fakes import PORT, route

OWN = frozenset({3, 4})


def four(ifindex: int, gateway: int) -> Fact:
    return route("192.0.2.0", 24, ifindex, via=f"10.0.0.{gateway}")


def row(*facts: Fact) -> Row:
    (found,) = rows.split(facts, OWN, lambda fact: fact).values()
    return found


def test_rows_are_by_prefix_metric_and_table() -> None:
    facts = [
        four(3, 1), four(5, 2), route("192.0.2.0", 24, 3, metric=5), route("192.0.2.0", 24, 3, table=9),
        route("2001:db8::", 32),
    ]  # fmt: skip
    found = list(rows.split(facts, OWN, lambda fact: fact).values())
    assert [len(one) for one in found] == [2, 1, 1, 1]
    assert [entry.ours for entry in found[0]] == [True, False]


def test_a_swap_is_between_ours_and_anothers() -> None:
    a, b, x, y = four(3, 1), four(4, 2), four(5, 3), four(6, 4)
    assert rows.swapped(row(a, x, y), row(a, y, x)) is None  # theirs alone
    swap = rows.swapped(row(a, b, x, y), row(b, a, x, y))
    assert swap is not None
    assert (swap.first.fact, swap.then.fact) == (a, b)
    swap = rows.swapped(row(a, x), row(x, a))
    assert swap is not None
    assert (swap.first.fact, swap.then.fact) == (a, x)
    swap = rows.swapped(row(x, a), row(a, x))
    assert swap is not None
    assert (swap.first.fact, swap.then.fact) == (x, a)
    assert rows.swapped(row(a, x), row(a)) is None
    assert rows.swapped(row(a, x), row(y, a, x)) is None  # one that is new


def test_what_was_put_before_ours_meanwhile() -> None:
    a, b, x, y = four(3, 1), four(4, 2), four(5, 3), four(6, 4)
    swap = rows.overtaken(row(x, y, b, a), {a, x}, [y])
    assert swap is not None
    assert (swap.first.fact, swap.then.fact) == (a, y)  # b is new as well
    assert rows.overtaken(row(a, y), {a}, [y]) is None
    assert rows.overtaken(row(y, x), {a, x}, [y]) is None  # theirs alone
    assert rows.overtaken(row(x, a), {a}, [y]) is None


class KernelRow:
    """A row as fib_table_insert() keeps it."""

    def __init__(self, facts: list[Fact]) -> None:
        self.facts = facts

    def put(self, fact: Fact, first: bool) -> None:
        self.facts.remove(fact)
        self.facts.insert(0 if first else len(self.facts), fact)


@pytest.mark.parametrize("seed", range(200))
def test_moves_put_right_what_can_be(seed: int) -> None:
    rng = random.Random(seed)
    facts = [four(rng.choice((3, 4, 5, 6)), n) for n in range(rng.randint(1, 6))]
    lost = rows.unkept(facts, OWN)
    ours = [fact for fact in facts if fact_is_ours(fact)]
    others = [fact for fact in facts if not fact_is_ours(fact)]
    kernel = KernelRow([*others, *ours])  # made again in their order
    was = row(*facts)
    for fact, first in rows.moves(was, row(*kernel.facts)):
        assert fact_is_ours(fact)
        kernel.put(fact, first)
    assert rows.moves(was, row(*kernel.facts)) == []
    swap = rows.swapped(was, row(*kernel.facts))
    assert (swap is not None) == bool(lost)
    if not lost:
        assert kernel.facts == facts
    if others:  # the way that packets take is as it was, whatever else is lost
        assert kernel.facts[0] == facts[0]


def fact_is_ours(fact: Fact) -> bool:
    (entry,) = row(fact)
    return entry.ours


def test_what_was_last_is_put_last_again() -> None:
    """Others' routes that came after ours, which was there first."""
    a, b, x, y = four(3, 1), four(4, 2), four(5, 3), four(6, 4)
    assert rows.moves(row(x, a), row(a, x)) == [(a, False)]
    assert rows.moves(row(x, y, a, b), row(a, x, b, y)) == [(a, False), (b, False)]
    assert rows.moves(row(a, x, b), row(b, x, a)) == [(a, True), (b, False)]
    assert rows.moves(row(a, b), row(b, a)) == [(b, True), (a, True)], "all of them are ours"


def test_ipv6_is_never_moved_and_what_is_before_another_is_lost() -> None:
    mine, other = route("2001:db8::", 32, 3), route("2001:db8::", 32, 5)
    assert rows.moves(row(mine, other), row(other, mine)) == []
    (swap,) = rows.unkept([mine, other], OWN)
    assert (swap.first, swap.then) == (Entry(mine, mine, True), Entry(other, other, False))
    assert rows.unkept([other, mine], OWN) == []
    assert rows.unkept([mine, route("2001:db8::", 32, 4)], OWN) == []


# --- what other claims have in a row ------------------------------------------------------------


def kept(ifindex: int, facts: tuple[Fact, ...], row: tuple[Fact, ...]) -> PortState:
    return PortState(PORT, ifindex, f"eth{ifindex}", True, True, 100.0, facts, rows=row)


@pytest.mark.parametrize(
    ("order", "claimed"),
    [
        ("abx", "b"), ("bax", "b"), ("xab", "b"), ("axb", "b"), ("bxa", "b"),
        ("abc", "bc"), ("bca", "bc"), ("cab", "bc"), ("bac", "bc"),
    ],
)  # fmt: skip
def test_a_row_is_as_it_was_before_the_other_claims(order: str, claimed: str) -> None:
    """`a` is the port's, each of `claimed` that of a port which is claimed before, in turn."""
    facts = {"a": four(3, 1), "b": four(4, 2), "c": four(5, 3), "x": four(6, 4)}
    others: list[PortState] = []
    there = list(order)
    for one in claimed:
        row = tuple(facts[each] for each in there)
        known = kept({"b": 4, "c": 5}[one], (facts[one],), row if len(row) > 1 else ())
        others.append(dataclasses.replace(known, rows=rows.with_claimed(known, others)))
        there.remove(one)
    present = tuple(facts[each] for each in there)
    mine = kept(3, (facts["a"],), present if len(present) > 1 else ())
    assert rows.with_claimed(mine, others) == tuple(facts[each] for each in order)


def test_rows_without_the_port_are_not_its_rows() -> None:
    b, x = four(4, 2), four(6, 4)
    elsewhere = route("198.51.100.0", 24, 3)
    mine = kept(3, (elsewhere,), ())
    assert rows.with_claimed(mine, [kept(4, (b,), (b, x))]) == ()
    assert rows.with_claimed(mine, []) == ()


def test_what_is_there_again_is_not_put_in_twice() -> None:
    """A claim that was released meanwhile, or its lifetime has gone on."""
    a, b = four(3, 1), four(4, 2)
    mine = kept(3, (a,), (b, a))
    assert rows.with_claimed(mine, [kept(4, (b,), (a, b))]) == (b, a)
    later = route("192.0.2.0", 24, 4, via="10.0.0.2", expires=7)
    assert rows.with_claimed(mine, [kept(4, (later,), (a, later))])[0] == b
