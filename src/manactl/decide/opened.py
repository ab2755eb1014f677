"""What made a netdev come up that a claim has set down, by what is known of it; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from manactl.model.hold import Cause, Opened, Opener, OpenEvent, Unasked

_REMEMBERED = 32  # opens: who may be of another network namespace, where nothing is announced here
_ANNOUNCED_AFTER = 1.0  # s, at most, from the return of an open


class Openers:
    """Who has opened what the kernel is about to announce.

    With RTNL held an open begins, returns, and is announced where it has succeeded (__dev_open(),
    rtmsg_ifinfo()), and then the next one may begin. So whoever has not returned yet belongs to an
    announcement that nobody can have read, and who has failed to none.
    """

    def __init__(self) -> None:
        self._under_way: list[Opener | Unasked] = []
        self._returned: list[tuple[Opener | Unasked, float]] = []

    def add(self, events: Iterable[OpenEvent]) -> None:
        """What was seen, in the order of time."""
        for event in events:
            if isinstance(event, Opened):
                self._ends(event)
            else:
                self._under_way.append(event)
        del self._under_way[:-_REMEMBERED]
        del self._returned[:-_REMEMBERED]

    def _ends(self, event: Opened) -> None:
        """netvsc_open() opens the VF while it is under way itself: the newest ends first."""
        for opener in reversed(self._under_way):
            if opener.thread == event.thread:
                self._under_way.remove(opener)
                if not event.failed:
                    self._returned.append((opener, event.at))
                return

    def take(self, announcements: int | None = None) -> tuple[Opener, ...]:
        """Whose opens so many announcements are of, or all that have returned; known no more. Who was
        not asked has an announcement, too, and no name."""
        if not self._returned:
            return ()
        newest = self._returned[-1][1]
        recent = [one for one in self._returned if newest - one[1] <= _ANNOUNCED_AFTER]
        if announcements is None or announcements > len(recent):
            announcements = len(recent)
        self._returned = recent[announcements:]
        return tuple(one for one, _ in recent[:announcements] if isinstance(one, Opener))


def cause(
    openers: Sequence[Opener], *, announced: bool, recreated: bool, above_up: bool | None
) -> Cause:
    """`recreated`: the VF is another netdev than the last time; `above_up`: its synthetic netdev is
    up (None: there is none).

    hv_netvsc opens a VF from a work queue 100 ms after it has come, where the synthetic netdev is
    up (netvsc_vf_setup(), __netvsc_vf_setup()). When a process opens the synthetic netdev,
    netvsc_open() opens the VF in that process.
    """
    if any(not opener.kernel for opener in openers):
        return Cause.PROCESS
    if above_up and (openers or recreated):
        return Cause.NETVSC
    if openers:
        return Cause.PROCESS
    return Cause.UNKNOWN if announced else Cause.FOUND
