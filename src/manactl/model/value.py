"""Frozen values of which a program has many kinds, and few of each.

@dataclass writes each class's methods as source and has Python compile them: 0.45 ms a class, thirty
times as long as the class takes by itself, before anything has been done. A Value has the same
methods, written once. Making one takes longer, so what there are thousands of stays a NamedTuple or
a dataclass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, dataclass_transform

NONE: Mapping[Any, Any] = MappingProxyType({})
"""The default of a mapping: one for all, since nobody can change it."""


class _DataclassFields:
    """What dataclasses.replace() and fields() look for; made when they are called."""

    def __init__(self) -> None:
        self._made: dict[type, dict[str, Any]] = {}

    def __get__(self, value: object, owner: type) -> dict[str, Any]:
        if owner not in self._made:
            from dataclasses import fields, make_dataclass  # noqa: PLC0415 - see above

            names: tuple[str, ...] = owner.__match_args__  # type: ignore[attr-defined]
            made = make_dataclass(owner.__name__, names, init=False, repr=False, eq=False)
            self._made[owner] = {one.name: one for one in fields(made)}
        return self._made[owner]


@dataclass_transform(frozen_default=True)
class Value:
    """Base of classes that list their fields as a dataclass does: by annotations, in order, with
    defaults after those without; behind `_: KW_ONLY` those that are given by name. Equal to one of
    the same class with equal fields."""

    __match_args__: ClassVar[tuple[str, ...]] = ()
    __dataclass_fields__ = _DataclassFields()
    _defaults: ClassVar[Mapping[str, Any]] = {}
    _positional: ClassVar[int] = 0
    _beside: ClassVar[tuple[str, ...]] = ()
    """Fields by which two do not differ, and that repr() does not show."""

    def __init_subclass__(cls) -> None:
        own = [name for name, kind in cls.__annotations__.items() if "ClassVar" not in str(kind)]
        first = own.index("_") if "_" in own else len(own)
        if cls._positional == len(cls.__match_args__):
            cls._positional += first
        own = own[:first] + own[first + 1 :]
        found = {name: vars(cls)[name] for name in own if name in vars(cls)}
        cls._defaults = {**cls._defaults, **found}  # a function that is one is no method
        cls.__match_args__ = (*cls.__match_args__, *own)  # type: ignore[misc] # mypy makes its own

    def __init__(self, *args: Any, **named: Any) -> None:
        fields = self.__match_args__
        given = dict(zip(fields, args, strict=False))
        if len(args) > self._positional or not given.keys().isdisjoint(named):
            raise TypeError(f"{type(self).__name__}: too many values, or one twice")
        given = {**self._defaults, **given, **named}
        missing = [name for name in fields if name not in given]
        if missing or not given.keys() <= set(fields):
            odd = missing or sorted(given.keys() - set(fields))
            raise TypeError(f"{type(self).__name__}: missing or unknown: {', '.join(odd)}")
        self.__dict__.update(given)
        self.__post_init__()

    def __post_init__(self) -> None:
        """As of a dataclass; what it sets goes into the __dict__."""

    def __setattr__(self, name: str, value: object) -> None:
        raise self._frozen(name)

    def __delattr__(self, name: str) -> None:
        raise self._frozen(name)

    def _frozen(self, name: str) -> AttributeError:
        from dataclasses import FrozenInstanceError  # noqa: PLC0415 - only a bug pays for it

        return FrozenInstanceError(f"{type(self).__name__}.{name} cannot be set")

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self._compared())

    def _compared(self) -> Iterable[str]:
        return (name for name in self.__match_args__ if name not in self._beside)

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in self._compared())
        return f"{type(self).__name__}({', '.join(shown)})"
