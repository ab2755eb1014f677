"""A release that waits for the last holder, and tries again: of exec mode, and of its guardian."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TypeVar

from manactl.act.await_free import await_holders
from manactl.act.host import Host
from manactl.act.released import ReleaseRequest
from manactl.errors import Busy, NotRestored
from manactl.journal.file import JournalError
from manactl.model.port import PortId
from manactl.model.value import Value

_T = TypeVar("_T")


class Policy(Value):
    """What is tried again, and after how long, in seconds: each pause is twice the one before."""

    first: float
    busy_most: float  # while somebody else is at work, or the driver in transition: for ever
    else_most: float | None = None  # after any other failure, for ever; None: that is raised
    # What could not be restored is for people once these pauses are over, and is raised.
    not_restored: tuple[float, ...] = ()


def release_when_free(
    request: ReleaseRequest,
    ports: Callable[[], Sequence[PortId]],
    host: Host,
    attempt: Callable[[ReleaseRequest], _T],
    policy: Policy,
    *,
    failed: Callable[[Exception], None],
    over: Callable[[], bool] = lambda: False,
    wake: Collection[int] = (),
) -> _T | None:
    """What the first `attempt` that does not fail returns; None when it is `over` before that.

    A quiet request is attempted when no holder has the ports any more, or a descriptor of `wake`
    can be read; one that is not quiet is at once, and becomes quiet by the first refusal for a
    holder. `failed` is told of each attempt that is followed by another. FileNotFoundError, which
    is the journal's, is raised: somebody else has ended the claim.
    """
    pause, again = policy.first / 2, iter(policy.not_restored)
    while not over():
        try:
            if request.quiet:
                await_holders(host, ports(), wake)
            return attempt(request)
        except FileNotFoundError:
            raise
        except Busy as busy:
            if busy.code == "holder" and not request.quiet:
                request = replace(request, quiet=True)
                continue
            later = pause = min(2 * pause, policy.busy_most)
            failed(busy)
        except Exception as error:
            if policy.else_most is None:
                raise
            if isinstance(error, NotRestored) and not isinstance(error, JournalError):
                if (after := next(again, None)) is None:
                    raise
                later = after
            else:
                later = pause = min(2 * pause, policy.else_most)
            failed(error)
        host.pause(later)
    return None
