"""What a claim or a release is doing, reported as it happens to whoever shows it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from manactl.act.plan import Plan


class Progress(Protocol):
    """What shows the steps. Nothing here may raise: what is shown must not change what is done."""

    def planned(self, title: str, plan: Plan) -> None: ...
    def doing(self, title: str) -> AbstractContextManager[None]: ...
    def ended(self, title: str, seconds: float, *, failed: bool) -> None: ...
    def noted(self, line: str) -> None: ...
    def waiting(self, what: str, seconds: float) -> AbstractContextManager[None]: ...


class Silent:
    """Shows nothing."""

    def planned(self, title: str, plan: Plan) -> None:
        pass

    @contextlib.contextmanager
    def doing(self, title: str) -> Iterator[None]:
        yield

    def ended(self, title: str, seconds: float, *, failed: bool) -> None:
        pass

    def noted(self, line: str) -> None:
        pass

    @contextlib.contextmanager
    def waiting(self, what: str, seconds: float) -> Iterator[None]:
        yield
