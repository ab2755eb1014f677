"""What full routing tables and many sockets cost on this host's kernel: the rows of `make bench`
for which the guest would take hours.

    python3 -m tests.netns.pace [--routes N] [--elsewhere N] [--sockets N] [--rounds N]

Runs in a network namespace of its own, and so as root. Minimum and median of the rounds: wall time
of what waits for a disk, CPU time of this process and of the kernel for it of all else, since the
two cannot be interleaved with what they are compared with. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from manactl.act.plan import KeepState, Plan
from manactl.journal import file as journal
from manactl.look import sockets
from manactl.look.rtnetlink import Rtnl
from manactl.model.uncollected import uncollected
from manactl.netstate.snapshot import PortState, port_to_json
from tests.netns.port import PORT, Here, batch, down_and_up, ip, put_back

_CLONE_NEWNET = 0x40000000
_FEW = 10  # routes of the port where there are many elsewhere
_OF_ONE = 4000  # connections of one process: more are more descriptors than it may have, as a rule
THOUSANDS = Path(__file__).parents[1] / "lab/guest/thousands.py"
NETWORK = """
link add port0 address 02:00:00:00:00:01 type veth peer name wire0
link add other0 type veth peer name wire1
link set port0 addrgenmode none
link set lo up
link set wire0 up
link set wire1 up
link set port0 up
link set other0 up
address add 10.0.0.2/8 dev port0
address add 2001:db8::2/48 dev port0 nodad
route add local 10.77.0.0/16 dev lo
"""


def routes(netdev: str, numbers: range, *, via: bool = True) -> str:
    """The lines of a batch file that adds them: half of them IPv4, half IPv6, as a router's are."""
    lines = []
    for n in numbers:
        high, low, gateway = n >> 16, n & 0xFFFF, n // 2 % 200 + 3
        if n % 2:
            to, way = f"100.{high}.{low >> 8}.{low & 255}/32", f" via 10.0.0.{gateway}"
        else:
            to, way = f"2001:db9:{high:x}:{low:x}::/64", f" via 2001:db8::{gateway:x}"
        lines.append(f"route add {to}{way * via} dev {netdev} proto bird")
    return "\n".join(lines) + "\n"


def add(lines: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True)


def flush(netdev: str) -> None:
    for family in ("-4", "-6"):
        ip(family, "route", "flush", "dev", netdev, "proto", "bird")


def timed(what: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    start = clock()
    what()
    return clock() - start


def row(name: str, values: list[float], form: str = "{:.2f}") -> None:
    least, middle = map(form.format, (min(values), statistics.median(values)))
    print(f"| {name} | {least} | {middle} |", flush=True)


def release() -> float:
    """Restoring a port of which all is lost, by a process that has read nothing yet."""
    with Rtnl() as rtnl:
        state = Here(rtnl, "port0").capture(PORT)
    down_and_up()
    with Rtnl() as rtnl:
        here = Here(rtnl, "port0")
        return timed(lambda: put_back(here, state))


def elsewhere(count: int, rounds: int) -> None:
    add(routes("port0", range(_FEW)))
    release()
    alone = [release() for _ in range(rounds)]
    add(routes("other0", range(_FEW, _FEW + count), via=False))
    beside = [release() for _ in range(rounds)]
    flush("other0")
    flush("port0")
    row(f"restoring {_FEW} routes, CPU ms", [one * 1e3 for one in alone])
    row(f"the same with {count} on another netdev, CPU ms", [one * 1e3 for one in beside])


@contextlib.contextmanager
def connected(count: int) -> Iterator[None]:
    """That many TCP sockets that have nothing to do with the port."""
    made = []
    try:
        for number in range(0, count // 2, _OF_ONE):
            argv = [sys.executable, str(THOUSANDS), "sockets", f"10.77.{number // _OF_ONE * 5}.1"]
            argv.append(str(min(_OF_ONE, count // 2 - number)))
            made.append(subprocess.Popen(argv, stdout=subprocess.PIPE))
        for one in made:
            assert one.stdout is not None
            assert b"ready" in one.stdout.readline()
        yield
    finally:
        for one in made:
            one.terminate()
            one.wait()


def guard(count: int, rounds: int) -> None:
    reach = sockets.Reach(
        frozenset({socket.if_nametoindex("port0")}), frozenset({socket.inet_aton("10.0.0.2")})
    )

    def look() -> float:
        with Rtnl() as rtnl:
            return timed(
                lambda: sockets.using(
                    reach, rtnl, many=sockets.are_many(socket.IPPROTO_TCP, Path("/proc/self"))
                )
            )

    look()
    none = [look() for _ in range(rounds)]
    with connected(count):
        many = [look() for _ in range(rounds)]
    row("TCP guard, CPU ms", [one * 1e3 for one in none])
    row(f"the same with {count} sockets elsewhere, CPU ms", [one * 1e3 for one in many])


def write(state: PortState, place: Path) -> tuple[float, int]:
    """Seconds until the journal of a claim is on disk, and its size."""
    plan = Plan("claim", (PORT,), (KeepState(state),))
    header = {
        "boot_id": "x", "netns": {"inode": 1, "cookie": 1}, "mode": "claim", "by": {},
        "time": journal.stamp(datetime.now(UTC)),
        "ports": [{**port_to_json(PORT), "netdev": "port0", "ifindex": 1, "altnames": []}],
        "waived": [], "plan": plan.to_json(drops=False), "snapshot": [state.to_json()],
    }  # fmt: skip
    found: list[journal.Journal] = []

    def made() -> None:
        found.append(journal.Journal.create(place, header, [PORT]))

    took = timed(made, time.perf_counter)
    with found[0] as log:
        size = log.path.stat().st_size
        log.path.unlink()
    return took, size


def first_sync(count: int, rounds: int) -> None:
    add(routes("port0", range(count)))
    with Rtnl() as rtnl, tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        state = Here(rtnl, "port0").capture(PORT)
        raw = sum(len(fact.body) for fact in state.facts)
        done = [write(state, Path(place)) for _ in range(rounds)]
    flush("port0")
    row(f"writing and syncing the journal of {count} routes, ms", [took * 1e3 for took, _ in done])
    row("its size, x the kernel's messages", [size / raw for _, size in done])


def claims(count: int, rounds: int) -> None:
    """What a claim does with a full table: two looks, of which the second compares, and the
    journal. In the guest, whose CPU is emulated, Python is slower towards `ip` than it is here."""
    add(routes("port0", range(count)))
    shows, ours = [], []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:

        def show() -> None:
            argv = ["ip", "-j", "route", "show", "table", "all"]
            subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)

        def claim() -> None:
            with uncollected(), Rtnl() as rtnl:
                here = Here(rtnl, "port0")
                state = here.capture(PORT)
                assert len(here.capture(PORT).facts) == len(state.facts)
            write(state, Path(place))

        for _ in range(rounds):
            shows.append(timed(show, time.perf_counter))
            ours.append(timed(claim, time.perf_counter))
    flush("port0")
    row(f"`ip -j route show table all` with {count} routes, ms", [one * 1e3 for one in shows])
    row("what a claim does with them, ms", [one * 1e3 for one in ours])
    row(
        "that x this, round by round", [one / other for one, other in zip(ours, shows, strict=True)]
    )


def releases(count: int, rounds: int) -> None:
    """What a release does with a full table, from the journal to the last look."""
    lines = routes("port0", range(count))
    adds, ours = [], []
    for _ in range(rounds):
        adds.append(timed(lambda: add(lines), time.perf_counter))
        with Rtnl() as rtnl:
            kept = Here(rtnl, "port0").capture(PORT).to_json()
        down_and_up()

        def back(kept: dict[str, Any] = kept) -> None:
            state = PortState.from_json(kept)
            with uncollected(), Rtnl() as rtnl:
                assert not put_back(Here(rtnl, "port0"), state).residue

        ours.append(timed(back, time.perf_counter))
        flush("port0")
    row(f"`ip -batch` with {count} routes, ms", [one * 1e3 for one in adds])
    row("what a release does with them, ms", [one * 1e3 for one in ours])
    row("that x this, round by round", [one / other for one, other in zip(ours, adds, strict=True)])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.netns.pace", description=__doc__)
    parser.add_argument("--routes", type=int, default=100_000, help="of the journal")
    parser.add_argument("--elsewhere", type=int, default=1_000_000, help="routes on another netdev")
    parser.add_argument("--sockets", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        error = os.strerror(ctypes.get_errno())
        print(f"a network namespace is needed: {error}", file=sys.stderr)
        return 1
    batch(NETWORK)
    print("\n| on this host's kernel | min | median |\n|---|---|---|")
    first_sync(asked.routes, asked.rounds)
    claims(asked.routes, asked.rounds)
    releases(asked.routes, asked.rounds)
    guard(asked.sockets, asked.rounds)
    elsewhere(asked.elsewhere, asked.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
