"""kill -9 at any instant of a claim or a release, then `manactl release`: all is as it was.

Judged by what `ip` prints, with code that takes nothing from manactl.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.scene import down, manactl, owners, up
from tests.lab.vm import Vm

SEED = int(os.environ.get("MANACTL_CRASH_SEED", "20261123"))
INSTANTS = 10
CLAIMS = "/var/lib/manactl/claims"
GUEST = "/manactl/tests/lab/guest/crash.py"
MANACTL = ("env", "PYTHONPATH=/manactl/src", "python3", "-m", "manactl")
TIMES = {"valid_life_time", "preferred_life_time", "expires"}  # what only passing time changes
VIEWS = (
    "-d address",
    "-d -4 route show table all",
    "-d -6 route show table all",
    "-d nexthop",
    "-4 rule",
    "-6 rule",
    "neighbour show nud permanent",
    "neighbour show proxy",
)


def scene(name: str, other: str) -> str:
    """A port with something of everything that the kernel drops when it goes down."""
    return f"""
    ip address add 10.0.1.2/24 dev {other}
    ip address add 2001:db8:f::2/64 dev {other} nodad
    ip address add 10.0.2.2/24 dev {name}
    ip address add 10.0.2.3/24 dev {name} label {name}:x
    ip address add 10.3.0.2/24 dev {name} metric 77 valid_lft 900 preferred_lft 800
    ip address add 2001:db8:1::2/64 dev {name}
    ip address add 2001:db8:2::2/64 dev {name} noprefixroute nodad
    ip address add 2001:db8:3::2/64 dev {name} valid_lft 900 preferred_lft 800
    ip route add 192.0.2.0/24 via 10.0.2.9 mtu 1400
    ip route add 192.0.3.0/24 dev {name} scope link table 100
    ip route add 192.0.4.0/24 nexthop via 10.0.2.5 weight 3 nexthop via 10.0.2.6
    ip -6 route add 2001:db8:100::/40 via 2001:db8:1::1
    ip -6 route add 2001:db8:200::/40 via fe80::1 dev {name} table 200 metric 5
    ip nexthop add id 10 via 10.0.2.20 dev {name}
    ip nexthop add id 11 via 10.0.1.20 dev {other}
    ip nexthop add id 20 group 10,2/11,3
    ip route add 198.18.0.0/24 nhid 20
    ip route add 198.18.1.0/24 nhid 10
    ip neighbour add 10.0.2.50 lladdr 02:00:00:00:00:50 dev {name} nud permanent
    ip neighbour add proxy 2001:db8:1::60 dev {name}
    """


@pytest.fixture
def furnished(vm: Vm) -> Iterator[Vm]:
    down(vm, 1, 2)
    up(vm, 1, 2)
    vm.run("set -e\n" + scene(vm.netdevs[2], vm.netdevs[1]))
    settle(vm)
    yield vm
    vm.run(f"echo 1 > /proc/sys/net/ipv6/conf/{vm.netdevs[2]}/accept_dad")


def without_dad(vm: Vm) -> None:
    """Duplicate address detection takes 2 s each time; the first round has been through it."""
    vm.run(f"echo 0 > /proc/sys/net/ipv6/conf/{vm.netdevs[2]}/accept_dad")


def settle(vm: Vm) -> None:
    """Wait until no address is in duplicate address detection any more."""
    deadline = time.monotonic() + 60
    while "tentative" in vm.run("ip -6 address").out:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def without(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {k: without(v, keys) for k, v in value.items() if k not in keys}
    if isinstance(value, list):
        return [without(item, keys) for item in value]
    return value


def everything(vm: Vm) -> dict[str, list[str]]:
    """All that `ip` tells, in its order for addresses, sorted for the rest, without times."""
    shown = vm.run("\n".join(f"ip -j {view}; echo; echo ===" for view in VIEWS)).out
    found = {}
    for view, text in zip(VIEWS, shown.split("===\n"), strict=False):
        rows = [json.dumps(without(r, TIMES), sort_keys=True) for r in json.loads(text or "[]")]
        found[view] = rows if "address" in view else sorted(rows)
    return found


def run(vm: Vm, trigger: str, delay: str, *words: str) -> dict[str, Any]:
    """One run of manactl in the guest, killed `delay` ms after its journal holds `trigger`."""
    argv = ["python3", GUEST, CLAIMS, trigger, delay, *MANACTL, *words]
    told: dict[str, Any] = json.loads(vm.run(argv, timeout=120).out)
    return told


def instants(rng: random.Random, window: float) -> list[str]:
    """Delays over the whole of what a run does, one just before its first act and one at it."""
    late = [rng.uniform(0, window) for _ in range(INSTANTS - 2)]
    return [f"-{rng.uniform(100, 900):.1f}", "0", *(f"{delay:.2f}" for delay in late)]


def recover(vm: Vm, before: dict[str, list[str]], story: str) -> None:
    result = manactl(vm, "release")
    assert result.rc == 0, f"{story}: {result.out}{result.err}"
    settle(vm)
    assert everything(vm) == before, story
    assert owners(vm) == {1: "ethernet", 2: "ethernet"}, story
    assert vm.run(f"ls -A {CLAIMS}", check=False).out == "", story


def test_a_killed_claim_is_put_back(furnished: Vm) -> None:
    vm = furnished
    before = everything(vm)
    words = ("claim", "--raw-qp", vm.netdevs[2])
    whole = run(vm, '"claim"', "none", *words)
    assert whole["rc"] == 0, whole
    recover(vm, before, "a whole claim")
    without_dad(vm)
    killed = 0
    for delay in instants(random.Random(f"{SEED} claim"), whole["ms"]):
        told = run(vm, '"claim"', delay, *words)
        killed += told["killed"]
        recover(vm, before, f"claim killed at {delay} of {whole['ms']:.0f} ms: {told}")
    assert killed >= INSTANTS // 2, "hardly a run was killed before its end"


def test_a_killed_release_is_finished(furnished: Vm) -> None:
    vm = furnished
    before = everything(vm)
    claim = ("claim", "--raw-qp", vm.netdevs[2])
    assert manactl(vm, *claim).rc == 0
    whole = run(vm, '"releasing"', "none", "release")
    assert whole["rc"] == 0, whole
    settle(vm)
    assert everything(vm) == before
    without_dad(vm)
    assert manactl(vm, *claim).rc == 0
    whole = run(vm, '"releasing"', "none", "release")
    assert whole["rc"] == 0, whole
    killed = 0
    for delay in instants(random.Random(f"{SEED} release"), whole["ms"]):
        claimed = manactl(vm, *claim)
        assert claimed.rc == 0, claimed.err
        told = run(vm, '"releasing"', delay, "release")
        killed += told["killed"]
        recover(vm, before, f"release killed at {delay} of {whole['ms']:.0f} ms: {told}")
    assert killed >= INSTANTS // 2, "hardly a run was killed before its end"
