"""The machine as claim and release meet it: what they read, and what they change it by."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from manactl.act.audit import Audit
from manactl.act.plan import System
from manactl.act.system import CAP_NET_ADMIN, CAP_NET_RAW, LiveSystem, capabilities, who
from manactl.act.terminate import LiveProcesses, Processes
from manactl.errors import Unsupported, strerror
from manactl.journal import file as journal
from manactl.look import netns, user_namespace
from manactl.look.netns import Namespace
from manactl.model.claim import ClaimSummary, NetnsId
from manactl.model.port import PortId, PortStatus, Report
from manactl.netstate.snapshot import PortState
from manactl.netstate.surroundings import Surroundings
from manactl.report import look

__all__ = ["CAP_NET_ADMIN", "CAP_NET_RAW", "Host", "HostSystem", "LiveHost"]


class HostSystem(System, Protocol):
    """The kernel while a claim, release or hold works on it: steps, and what surrounds a port."""

    def surroundings(
        self, port: PortStatus, state: PortState | None, claimed: Sequence[int]
    ) -> Surroundings: ...
    def warm_up(self, port: PortId) -> None: ...
    def set_up(self, ifindex: int, up: bool) -> None: ...


class Host(Protocol):
    """One machine. Nothing is remembered: every call asks again."""

    @property
    def processes(self) -> Processes: ...
    def look(self, claims: Sequence[ClaimSummary] = ()) -> Report:
        """Every port. `claims`: without its own the synthetic netdev that uio took is not known."""

    def system(self, pause: Callable[[float], None]) -> AbstractContextManager[HostSystem]: ...
    def capabilities(self) -> int: ...
    def in_user_namespace(self) -> bool: ...
    def who(self) -> dict[str, object]: ...
    def boot_id(self) -> str: ...
    def netns(self) -> NetnsId: ...
    def find_netns(self, wanted: NetnsId) -> Namespace | None: ...
    def audit(self, verb: str, words: Sequence[str]) -> Audit: ...
    def monotonic(self) -> float: ...
    def pause(self, seconds: float) -> None: ...


class LiveHost:
    """The machine that this process runs on."""

    processes = LiveProcesses()

    def look(self, claims: Sequence[ClaimSummary] = ()) -> Report:
        return look(claims=claims)

    def system(self, pause: Callable[[float], None]) -> LiveSystem:
        return LiveSystem(self.look, pause=pause)

    def capabilities(self) -> int:
        return capabilities()

    def in_user_namespace(self) -> bool:
        return not user_namespace.is_initial()

    def who(self) -> dict[str, object]:
        return who()

    def boot_id(self) -> str:
        try:
            return journal.read_boot_id()
        except OSError as error:
            raise Unsupported(
                f"{error.filename} cannot be read: {strerror(error)}; a claim of this boot "
                "cannot be told from an older one, and nothing was touched",
                hint="run it where all of /proc is mounted: a unit needs ProcSubset=all",
            ) from error

    def netns(self) -> NetnsId:
        return netns.own()

    def find_netns(self, wanted: NetnsId) -> Namespace | None:
        return netns.find(wanted)

    def audit(self, verb: str, words: Sequence[str]) -> Audit:
        return Audit(verb, self.who(), words)

    def monotonic(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)
