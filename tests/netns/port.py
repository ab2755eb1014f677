"""An interface that stands for a port, and all that `ip` shows of its namespace."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from manactl.act import restore
from manactl.act.restore import Restored
from manactl.look import stacked_links
from manactl.look.rtnetlink import Rtnl
from manactl.model.port import PortId
from manactl.netstate.requests import Filled
from manactl.netstate.snapshot import PortState, Request, Rows

PORT = PortId("0000:00:00.0", 1, None)
TIMES = {"valid_life_time", "preferred_life_time", "expires"}  # what only passing time changes
PASSING = {"tentative", "dadfailed", "deprecated"}


@dataclass
class Here:
    """restore.Network on an interface found by name."""

    rtnl: Rtnl
    name: str
    ahead: float = 0.0  # seconds that the clock of the lifetimes is moved on

    def monotonic(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def capture(
        self,
        port: PortId,
        nexthops: Collection[int] = (),
        rows: Rows = None,
        *,
        alone: bool = False,
    ) -> PortState:
        taken = time.clock_gettime(time.CLOCK_BOOTTIME) + self.ahead
        return self.rtnl.capture(
            port, socket.if_nametoindex(self.name), taken, nexthops, rows, alone=alone
        )

    def send(self, request: Request) -> None:
        self.rtnl.send(request)

    def send_all(self, requests: Sequence[Request]) -> list[OSError | None]:
        return self.rtnl.send_all(requests)

    def send_alike(self, requests: Filled) -> None:
        self.rtnl.send_alike(requests)

    def set_sysctl(self, path: str, value: str) -> None:
        stacked_links.put_setting(path, value)


def ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
    return done.stdout


def batch(lines: str) -> None:
    for line in lines.strip().splitlines():
        ip(*line.split())


def settle() -> None:
    """Wait until no address is tentative any more, and each has its local route.

    Even without duplicate address detection that comes from a workqueue (addrconf_dad_work()).
    """
    deadline = time.monotonic() + 60
    while "tentative" in (shown := ip("-6", "address")) or _without_route(shown):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _without_route(shown: str) -> set[str]:
    routes = re.findall(r"^local (\S+) ", ip("-6", "route", "show", "table", "all"), re.MULTILINE)
    return set(re.findall(r"inet6 ([^/ ]+)", shown)) - set(routes)


def without(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {k: without(v, keys) for k, v in value.items() if k not in keys}
    if isinstance(value, list):
        return [without(item, keys) for item in value]
    return value


COMMANDS = (
    ["-d", "address"],
    ["-d", "-4", "route", "show", "table", "all"],
    ["-d", "-6", "route", "show", "table", "all"],
    ["-d", "nexthop"],
    ["-4", "rule"],
    ["-6", "rule"],
    ["neighbour", "show", "nud", "permanent"],
    # The kernel has its own for groups, which come and go.
    ["neighbour", "show", "to", "10.0.0.0/8", "nud", "noarp"],
    ["-6", "neighbour", "show", "to", "2001:db8::/32", "nud", "noarp"],
    ["neighbour", "show", "proxy"],
)


def everything() -> dict[str, Any]:
    """All that `ip` shows of this namespace, but for passing states and remaining times."""
    found = {}
    for command in COMMANDS:
        shown = json.loads(ip("-j", *command) or "[]")
        rows = without(shown, TIMES | PASSING)
        found[" ".join(command)] = sorted(json.dumps(row, sort_keys=True) for row in rows)
    return found


def down_and_up() -> None:
    ip("link", "set", "port0", "down")
    ip("link", "set", "port0", "up")


def put_back(here: Here, state: PortState, patience: float = 3.0) -> Restored:
    (done,) = restore.restore_ports(here, [state], patience)
    return done
