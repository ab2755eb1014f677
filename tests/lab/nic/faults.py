"""Answers that go wrong on order: a failure status, a late answer, one on demand, or none.

A fault waits for one kind of request and is used up after `times` of them, so that a driver that
probes again by itself can recover. What the driver does about it is documented nowhere but in the
driver: hw_channel.c gives up after its time-out and then waits one millisecond for every later
command, and mana of 7.x asks for a reset when a statistics query stays unanswered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.lab.nic.wire.messages import Request, request_name

ANY = "*"


@dataclass(slots=True)
class Fault:
    """What to do with the next `times` requests named `request`, after letting `skip` pass.

    `status`: refuse, without acting. `delay`: act, and answer that many seconds later. `held`:
    act, and answer when told to. `lost`: neither act nor answer. `times` None: until cleared.
    """

    request: str
    status: int | None = None
    delay: float = 0.0
    lost: bool = False
    held: bool = False
    times: int | None = 1
    skip: int = 0
    hits: int = 0

    def __post_init__(self) -> None:
        if self.request != ANY and self.request not in Request.__members__:
            raise ValueError(f"no such request: {self.request}")
        if sum((self.status is not None, self.delay > 0, self.lost, self.held)) != 1:
            raise ValueError("a fault has one of status, delay, lost and held")
        if self.delay < 0 or self.skip < 0 or (self.times is not None and self.times < 1):
            raise ValueError("delay and skip are not negative, times is at least 1")

    @property
    def spent(self) -> bool:
        return self.times is not None and self.hits >= self.times

    def fits(self, name: str) -> bool:
        return self.request in (ANY, name) and not self.spent


class Faults:
    """The faults in waiting; they outlive the command channel, as a broken NIC's would."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []
        self._answers: list[Callable[[], None]] = []

    def hold(self, deliver: Callable[[], None]) -> None:
        """Keep an answer until let_go()."""
        self._answers.append(deliver)

    def let_go(self) -> int:
        """Give the answers that are held; how many."""
        answers, self._answers = self._answers, []
        for deliver in answers:
            deliver()
        return len(answers)

    def add(self, fault: Fault) -> None:
        self._waiting.append(fault)

    def clear(self) -> int:
        """Forget all, and give what is held; how many had not been used up."""
        self.let_go()
        left = sum(not fault.spent for fault in self._waiting)
        self._waiting.clear()
        return left

    def take(self, code: int) -> Fault | None:
        """The fault for a request that has just come in, oldest first."""
        if not self._waiting:
            return None
        name = request_name(code)
        for fault in self._waiting:
            if not fault.fits(name):
                continue
            if fault.skip:
                fault.skip -= 1
                return None
            fault.hits += 1
            return fault
        return None

    def facts(self) -> list[dict[str, Any]]:
        return [
            {
                "request": fault.request,
                "status": fault.status,
                "delay": fault.delay,
                "lost": fault.lost,
                "held": fault.held,
                "left": None if fault.times is None else fault.times - fault.hits,
                "skip": fault.skip,
                "hits": fault.hits,
            }
            for fault in self._waiting
        ]
