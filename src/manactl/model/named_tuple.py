"""NamedTuple, as `typing` has it, made in a fraction of the time.

Each start of manactl makes the classes that a command needs: `status` 41 of these, a claim 134.
typing.NamedTuple compiles a constructor for each; with it they took a sixth of what status takes
beside `import click`. Here all of one number of fields share the code of one, under other names.
Type checkers see the one of `typing`.
"""

from __future__ import annotations

import functools
from types import CodeType, FunctionType, new_class
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple  # noqa: PLC0414, TID251 - where it comes from
else:
    from _collections import _tuplegetter  # a field of a tuple, as collections.namedtuple reads it
    from typing import NamedTuple as _OfTyping  # noqa: TID251 - for what is not made here

    class _Record(tuple):
        """What all have in common: the methods of collections.namedtuple."""

        __slots__ = ()
        _fields = ()

        @classmethod
        def _make(cls, values):
            made = tuple.__new__(cls, values)
            if len(made) != len(cls._fields):
                raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
            return made

        def _replace(self, /, **values):
            made = self._make(map(values.pop, self._fields, self))
            if values:
                raise TypeError(f"Got unexpected field names: {list(values)!r}")
            return made

        __replace__ = _replace

        def __repr__(self):
            fields = ", ".join(
                f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True)
            )
            return f"{type(self).__name__}({fields})"

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __getnewargs__(self):
            return tuple(self)

    @functools.cache
    def _code(count: int) -> CodeType:
        """Of a constructor with so many fields."""
        names = "".join(f", _{number}" for number in range(count))
        text = (
            f"lambda _cls{names}: _new(_cls, ({names[2:]},))"
            if count
            else "lambda _cls: _new(_cls)"
        )
        return eval(text).__code__  # noqa: S307 - of nothing but numbers

    class _Maker(type):
        """Makes a class that is a plain one, as typing.NamedTuple does."""

        def __new__(cls, name, bases, body):
            if len(bases) > 1:
                raise TypeError(f"{name}: a NamedTuple has no other base")
            fields = body.get("__annotations__")
            if fields is None:  # none, or of Python 3.14, which works them out when it is asked
                return new_class(name, (_OfTyping,), {}, lambda of: of.update(body))
            names = tuple(fields)
            defaults = {field: body[field] for field in names if field in body}
            if names[len(names) - len(defaults) :] != tuple(defaults):
                raise TypeError(f"{name}: a field without a default follows one with a default")
            code = _code(len(names)).replace(
                co_name="__new__",
                co_qualname=f"{name}.__new__",
                co_varnames=("_cls", *names),
            )
            new = FunctionType(code, {"_new": tuple.__new__}, "__new__", tuple(defaults.values()))
            body |= {field: _tuplegetter(at, None) for at, field in enumerate(names)}
            body |= {
                "__slots__": (), "__match_args__": names, "__new__": new,
                "_fields": names, "_field_defaults": defaults,
            }  # fmt: skip
            return type(name, (_Record,), body)

    NamedTuple = type.__new__(_Maker, "NamedTuple", (), {})
