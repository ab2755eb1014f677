"""A port with something of everything that the kernel drops when it goes down, and manactl at hand.

What `ip` prints is read here with code that takes nothing from manactl.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from tests.lab.scene import down, owners, up
from tests.lab.users import User, resident
from tests.lab.vm import Vm

TIMES = {"valid_life_time", "preferred_life_time", "expires"}  # what only passing time changes
Shown = list[list[str]]


def scene(name: str, other: str) -> str:
    """A port with something of everything that the kernel drops when it goes down."""
    return f"""
    address add 10.0.1.2/24 dev {other}
    address add 2001:db8:f::2/64 dev {other} nodad
    address add 10.0.2.2/24 dev {name}
    address add 10.0.2.3/24 dev {name} label {name}:x
    address add 10.3.0.2/24 dev {name} metric 77 valid_lft 900 preferred_lft 800
    address add 2001:db8:1::2/64 dev {name}
    address add 2001:db8:2::2/64 dev {name} noprefixroute nodad
    address add 2001:db8:3::2/64 dev {name} valid_lft 900 preferred_lft 800
    route add 192.0.2.0/24 via 10.0.2.9 mtu 1400
    route add 192.0.3.0/24 dev {name} scope link table 100
    route add 192.0.4.0/24 nexthop via 10.0.2.5 weight 3 nexthop via 10.0.2.6
    route add 2001:db8:100::/40 via 2001:db8:1::1
    route add 2001:db8:200::/40 via fe80::1 dev {name} table 200 metric 5
    nexthop add id 10 via 10.0.2.20 dev {name}
    nexthop add id 11 via 10.0.1.20 dev {other}
    nexthop add id 20 group 10,2/11,3
    route add 198.18.0.0/24 nhid 20
    route add 198.18.1.0/24 nhid 10
    neighbour add 10.0.2.50 lladdr 02:00:00:00:00:50 dev {name} nud permanent
    neighbour add proxy 2001:db8:1::60 dev {name}
    """


class Furnished:
    """A guest whose second port, or the one of that name, has much to lose, and manactl at hand
    there."""

    def __init__(self, vm: Vm, program: User, name: str | None = None) -> None:
        self.vm = vm
        self.name = vm.netdevs[2] if name is None else name
        self.claim = f"claim --raw-qp {self.name}"
        self._program = program

    def run(self, how: str, words: str) -> dict[str, Any]:
        """One run of manactl; see guest/crash.py for `how`."""
        return self._program.ask(f"run {how} {words}", "ran", timeout=120)

    def well(self, how: str, words: str) -> dict[str, Any]:
        told = self.run(how, words)
        assert told["rc"] == 0, f"manactl {words}: {told}"
        return told

    def view(self) -> tuple[Shown, list[str]]:
        """All that `ip` tells, in its order for addresses, sorted for the rest, without times;
        and the names of the journals that are open (hidden ones never announced anything)."""
        told = self._program.ask("view", "shown", timeout=120)
        tables = [rows for text in told["text"] for rows in documents(text)]
        lines = [[json.dumps(without(r, TIMES), sort_keys=True) for r in t] for t in tables]
        journals = [name for name in told["journals"] if not name.startswith(".")]
        return [lines[0], *(sorted(rows) for rows in lines[1:])], journals

    def without_dad(self) -> None:
        """Duplicate address detection takes 2 s each time, for whoever has seen it go right."""
        self.vm.run(f"echo 0 > /proc/sys/net/ipv6/conf/{self.name}/accept_dad")

    def put_back(self, before: Shown, story: str) -> None:
        """Recover what was interrupted, release what stands; then all is as before."""
        told = self.run("whole", "recover")
        assert told["rc"] == 0, f"{story}: then {told}"
        shown, journals = self.view()
        if journals:
            told = self.run("whole", "release")
            assert told["rc"] == 0, f"{story}: then {told}"
            shown, journals = self.view()
        assert shown == before, story
        assert owners(self.vm) == {1: "ethernet", 2: "ethernet"}, story
        assert journals == [], story


def documents(text: str) -> Iterator[list[Any]]:
    """The JSON lists that `ip -batch` prints one after the other."""
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        rows, end = decoder.raw_decode(text)
        yield rows
        text = text[end:]


def without(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {k: without(v, keys) for k, v in value.items() if k not in keys}
    if isinstance(value, list):
        return [without(item, keys) for item in value]
    return value


@contextlib.contextmanager
def furnish(vm: Vm) -> Iterator[Furnished]:
    """Both ports up and furnished, no address tentative any more."""
    down(vm, 1, 2)
    up(vm, 1, 2)
    vm.run(["ip", "-batch", "-"], input=scene(vm.netdevs[2], vm.netdevs[1]))
    program = resident(vm, "crash")
    one = Furnished(vm, program)
    one.view()
    yield one
    vm.run(f"echo 1 > /proc/sys/net/ipv6/conf/{vm.netdevs[2]}/accept_dad")
