"""A NamedTuple of ours is one of typing's in all that a program can ask of it."""

from __future__ import annotations

import copy
import pickle
import types
import typing
from collections.abc import Callable
from typing import Any

import pytest

from manactl.model import named_tuple


class Ours(named_tuple.NamedTuple):
    """Where a packet goes."""

    dev: str
    via: str | None = None
    metric: int = 1024

    @property
    def on_link(self) -> bool:
        return self.via is None

    @classmethod
    def default(cls) -> Any:
        return cls("eth1", metric=0)


class Theirs(typing.NamedTuple):
    """Where a packet goes."""

    dev: str
    via: str | None = None
    metric: int = 1024

    @property
    def on_link(self) -> bool:
        return self.via is None

    @classmethod
    def default(cls) -> Any:
        return cls("eth1", metric=0)


class One(named_tuple.NamedTuple):
    dev: str


class Nothing(named_tuple.NamedTuple):
    """Without annotations, as a class of Python 3.14 may be, which works them out when asked."""


class Above(Ours):
    """A class of its own, whose values have attributes."""


BOTH: list[Any] = [Ours, Theirs]
ASKED: list[Callable[[Any], object]] = [
    lambda of: of("eth1"),
    lambda of: of("eth1", metric=3, via="10.0.0.1"),
    lambda of: of(*("eth1", None, 7)),
    lambda of: repr(of("eth1", "x")).replace(of.__name__, ""),
    lambda of: str(of.default()).replace(of.__name__, ""),
    lambda of: of("eth1")._replace(via="x", metric=1),
    lambda of: of("eth1")._asdict(),
    lambda of: of._make(["eth1", "x", 1]),
    lambda of: (of("eth1").on_link, of("eth1", "x").on_link),
    lambda of: (of._fields, of._field_defaults, of.__match_args__, of.__doc__),
    lambda of: list(of.__annotations__),
    typing.get_type_hints,
    lambda of: (type(of), of.__module__, of.__new__.__name__),
    lambda of: (hasattr(of("eth1"), "__dict__"), issubclass(of, tuple)),
    lambda of: hash(of("eth1")),
    lambda of: (of("a") < of("b"), of("a") == ("a", None, 1024), (*of("a"), 1)),
    lambda of: pickle.loads(pickle.dumps(of("eth1", "x"))),
    lambda of: copy.deepcopy(of("eth1", "x")),
    lambda of: [*of("eth1")],
]
REFUSED: list[Callable[[Any], object]] = [
    lambda of: of(),
    lambda of: of(metric=1),
    lambda of: of("eth1", "x", 1, 2),
    lambda of: of("eth1", dev="eth2"),
    lambda of: of("eth1", nosuch=1),
    lambda of: of._make(["eth1"]),
    lambda of: of._make(["eth1", "x", 1, 2]),
]


@pytest.mark.parametrize("number", range(len(ASKED)))
def test_it_answers_as_that_of_typing_does(number: int) -> None:
    ours, theirs = map(ASKED[number], BOTH)
    assert ours == theirs


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_it_refuses_what_that_of_typing_refuses_in_the_same_words(number: int) -> None:
    said = []
    for of in BOTH:
        with pytest.raises(TypeError) as caught:
            REFUSED[number](of)
        said.append(str(caught.value).replace(of.__name__, "X"))
    assert said[0] == said[1]


def test_its_values_cannot_be_changed() -> None:
    one: Any = Ours("eth1")
    for name in ("dev", "nosuch"):
        with pytest.raises(AttributeError):
            setattr(one, name, "eth2")


def test_an_unknown_field_is_not_replaced() -> None:
    with pytest.raises(TypeError, match="nosuch"):
        Ours("eth1")._replace(**{"nosuch": 1})


def test_it_is_taken_apart_in_a_match() -> None:
    match Ours("eth1", "x"):
        case Ours(dev, via=via):
            assert (dev, via) == ("eth1", "x")
        case _:
            pytest.fail("no match")


def test_it_may_have_one_field_or_none() -> None:
    assert (One("eth1"), Nothing()) == (("eth1",), ())
    assert repr((One("eth1"), Nothing())) == "(One(dev='eth1'), Nothing())"


def test_a_class_below_it_is_a_plain_one() -> None:
    one: Any = Above("eth1")
    one.note = "its own"
    assert (one, one.note, one._replace(metric=1)) == (
        ("eth1", None, 1024),
        "its own",
        Above("eth1", None, 1),
    )


@pytest.mark.parametrize("of", [named_tuple.NamedTuple, typing.NamedTuple])
def test_it_is_the_only_base(of: Any) -> None:
    with pytest.raises(TypeError):
        types.new_class("Both", (of, Exception), {}, lambda into: into.update(__annotations__={}))


@pytest.mark.parametrize("of", [named_tuple.NamedTuple, typing.NamedTuple])
def test_defaults_come_last(of: Any) -> None:
    body = {"__annotations__": {"a": "int", "b": "int"}, "a": 1}
    with pytest.raises(TypeError, match="default"):
        types.new_class("Bad", (of,), {}, lambda into: into.update(body))
