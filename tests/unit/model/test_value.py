"""A Value is what a frozen dataclass is."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
from collections.abc import Callable, Mapping
from typing import ClassVar

import pytest

from manactl.model.value import NONE, Value


class Address(Value):
    KIND: ClassVar = "address"
    netdev: str
    length: int = 24


class Labelled(Address):
    label: str | None = None


class Route(Value):
    dst: str
    _: dataclasses.KW_ONLY
    metric: int = 0
    via: str


class Scoped(Route):
    scope: str = "link"


@dataclasses.dataclass(frozen=True)
class AlikeRoute:
    dst: str
    _: dataclasses.KW_ONLY
    metric: int = 0
    via: str


class Counted(Value):
    counts: Mapping[str, int] = NONE


class Nothing(Value):
    pass


class Calls(Value):
    ask: Callable[[str], str] = str.upper
    look: Callable[[], object] = os.getpid
    read: Callable[[str], str] = lambda path: path


@dataclasses.dataclass(frozen=True)
class Alike:
    netdev: str
    length: int = 24


ONE = Address("eth1", 16)


def test_fields_are_given_in_order_or_by_name_with_defaults() -> None:
    assert (ONE.netdev, ONE.length, ONE.KIND) == ("eth1", 16, "address")
    assert Address("eth1", length=16) == Address(length=16, netdev="eth1") == ONE
    assert Address("eth1").length == 24
    assert Labelled("eth1", 16, "a").label == "a"
    assert Address.__match_args__ == Alike.__match_args__
    assert Nothing.__match_args__ == ()


@pytest.mark.parametrize(
    ("given", "named"),
    [((), {}), (("eth1", 1, 2), {}), (("eth1",), {"netdev": "eth2"}), (("eth1",), {"mtu": 9})],
)
def test_too_few_too_many_and_unknown_ones_are_refused(
    given: tuple[object, ...], named: dict[str, object]
) -> None:
    for made in (Address, Alike):
        with pytest.raises(TypeError):
            made(*given, **named)  # type: ignore[arg-type]


def test_behind_kw_only_fields_are_given_by_name() -> None:
    one = Route("::/0", via="fe80::1")
    assert (one.dst, one.metric, one.via) == ("::/0", 0, "fe80::1")
    assert dataclasses.replace(one, metric=5) == Route("::/0", metric=5, via="fe80::1")
    assert [field.name for field in dataclasses.fields(one)] == ["dst", "metric", "via"]
    assert repr(one) == "Route(dst='::/0', metric=0, via='fe80::1')"
    assert Scoped("::/0", via="x", scope="host").scope == "host"
    for made in (Route, AlikeRoute):
        for given, named in (("::/0", 1, "x"), {}), (("::/0", 1), {"via": "x"}), (("::/0",), {}):
            with pytest.raises(TypeError):
                made(*given, **named)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Scoped("::/0", "host", via="x")  # type: ignore[misc]


def test_a_mapping_that_is_not_given_is_one_that_nobody_can_change() -> None:
    assert Counted() == Counted({}) == Counted(counts={})
    with pytest.raises(TypeError):
        Counted().counts["route"] = 1  # type: ignore[index]


def test_a_function_is_a_value_like_others() -> None:
    assert (Calls().read("a"), Calls().ask("a")) == ("a", "A")
    assert Calls() == Calls(read=Calls().read)


def test_it_is_equal_by_its_class_and_fields() -> None:
    assert Address("eth1", 16) == ONE
    assert hash(ONE) == hash(Address("eth1", 16))
    assert len({ONE, Address("eth1", 16), Address("eth2", 16)}) == 2
    assert Labelled("eth1", 16) != ONE
    assert ONE != ("eth1", 16)


def test_it_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ONE.length = 8  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del ONE.length
    assert ONE.length == 16


def test_it_is_matched_shown_replaced_and_copied_like_a_dataclass() -> None:
    match ONE:
        case Address(netdev, length):
            assert (netdev, length) == ("eth1", 16)
    assert repr(ONE) == "Address(netdev='eth1', length=16)"
    assert dataclasses.replace(ONE, length=8) == Address("eth1", 8)
    assert dataclasses.replace(Address("eth1"), netdev="eth2") == Address("eth2")
    assert [one.name for one in dataclasses.fields(Labelled)] == ["netdev", "length", "label"]
    assert copy.copy(ONE) == pickle.loads(pickle.dumps(ONE)) == ONE
