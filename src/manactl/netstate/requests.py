"""What is sent to change something."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from manactl.model.named_tuple import NamedTuple
from manactl.model.value import Value


class Request(NamedTuple):
    """One rtnetlink request, ready to be sent."""

    type: int
    flags: int
    body: bytes


class Alike(NamedTuple):
    """A request that is sent many times, with other bytes in one place of its body each time."""

    type: int
    flags: int
    before: bytes
    size: int  # of what comes between
    after: bytes

    def filled(self, filling: bytes) -> Request:
        return Request(self.type, self.flags, self.before + filling + self.after)


class Filled(Value):
    """Many requests in their order, each by its place in `alike` and what fills it."""

    alike: Sequence[Alike]
    fillings: Sequence[tuple[int, bytes]]

    def each(self) -> Iterator[Request]:
        """One by one."""
        return (self.alike[at].filled(filling) for at, filling in self.fillings)
