"""What a test says about words, kept apart from what it says about behaviour.

Where manactl has other words (MANACTL_WORDS, see tests/other_words.py), what is here asks for
nothing: all else in a test holds with any words. A test that is about nothing but words has the mark
`wording`.

    with pytest.raises(Busy, match=says("set it up again"), check=Coded("drift")) as caught:
        ...
    with wording:
        assert "manactl release eth1" in (caught.value.hint or "")
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple

from manactl.errors import ManactlError
from manactl.model.port import Evidence

OWN_WORDS = os.environ.get("MANACTL_WORDS", "plain") == "plain"


def says(pattern: str) -> str | None:
    """For `match`: what the message of an error is like."""
    return pattern if OWN_WORDS else None


class Coded(NamedTuple):
    """For `check`: which error it is, in what programs go by."""

    code: str
    untouched: bool | None = None  # whether it says that nothing was done; None: either

    def __call__(self, error: ManactlError) -> bool:
        untouched = error.untouched is not None
        return error.code == self.code and self.untouched in (None, untouched)


def read(evidence: Iterable[Evidence]) -> list[tuple[str, object]]:
    """What was read and from where, without what it is called."""
    return [(one.source, one.value) for one in evidence]


class _Wording:
    """A block of assertions about words alone."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> bool:
        # What is looked for in words may not be there to be taken, either.
        return not OWN_WORDS and isinstance(error, AssertionError | LookupError | ValueError)


wording = _Wording()
