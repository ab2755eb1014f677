"""`make bench`: what manactl costs in the guest, beside `import click` and beside other tools.

Every command is timed right after the baseline, round by round, so that a busy host slows both
down alike; read the ratios, not the milliseconds, which are an emulated CPU's. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .image import CHECKOUT
from .users import GUEST, user
from .vm import Vm
from .vmbus.host import CLASS

BASELINE = ["python3", "-c", "import click"]
INSTALLED = "/usr/local/bin/manactl"
# What pip writes for an entry point.
SCRIPT = """#!/usr/bin/python3
import sys
from manactl.__main__ import main
if __name__ == "__main__":
    sys.exit(main())
"""
MANY = 10_000


@dataclass(frozen=True, slots=True)
class Case:
    """One command, and how many times `import click` it may take; None: only shown."""

    name: str
    argv: list[str]
    goal: float | None = None
    env: dict[str, str] | None = None


def manactl(*words: str) -> list[str]:
    return [INSTALLED, *words]


BY_CLICK = {
    "_MANACTL_COMPLETE": "bash_complete",
    "COMP_WORDS": "manactl status ",
    "COMP_CWORD": "2",
}
BY_SCRIPT = {"_MANACTL_COMPLETE": "lines_complete"}  # as completions/ ask
TWO_PORTS = (
    Case("manactl status --json", manactl("status", "--json"), 1.8),
    Case("manactl status (piped)", manactl("status")),
    Case("manactl --version", manactl("--version"), 1.15),
    Case("completion of status PORT by click", manactl(), 1.4, BY_CLICK),
    Case("completion of claim --raw-qp PORT", manactl("claim", "--raw-qp", ""), 1.4, BY_SCRIPT),
    Case("completion of release PORT", manactl("release", ""), 1.4, BY_SCRIPT),
)
OTHERS = (
    Case("rdma link", ["rdma", "link"]),
    Case("rdma res", ["rdma", "res"]),
    Case("ip -d link", ["ip", "-d", "link"]),
    Case("ibv_devinfo", ["ibv_devinfo"]),
    Case("dpdk-devbind.py --status", ["dpdk-devbind.py", "--status"]),
)


class Bench:
    """One guest and the rows measured in it."""

    def __init__(self, vm: Vm, rounds: int) -> None:
        self.vm = vm
        self.rounds = rounds
        vm.put(INSTALLED, SCRIPT, 0o755)

    def run(self, cases: tuple[Case, ...]) -> dict[str, list[list[float]]]:
        asked = {
            "rounds": self.rounds,
            "baseline": BASELINE,
            "cases": [{"name": c.name, "argv": c.argv, "env": c.env or {}} for c in cases],
        }
        result = self.vm.run(
            ["python3", f"{GUEST}/pace.py"],
            input=json.dumps(asked),
            timeout=120.0 * self.rounds,
            env={"PYTHONPATH": "/manactl/src"},
        )
        measured: dict[str, list[list[float]]] = json.loads(result.out)
        return measured

    def present(self, case: Case) -> bool:
        return bool(self.vm.run(["which", case.argv[0]], check=False).rc == 0)


def row(name: str, runs: list[list[float]], goal: float | None) -> str:
    """Markdown: times in ms, then against the baseline of the same rounds."""
    base = [run[0] for run in runs]
    own = [run[2] for run in runs]
    memory = statistics.median(run[3] for run in runs)
    against = memory / statistics.median(run[1] for run in runs)
    failed = any(run[4] for run in runs)
    cells = [
        f"`{name}`" + (" (failed)" if failed else ""),
        f"{min(own) * 1e3:.0f}",
        f"{statistics.median(own) * 1e3:.0f}",
        f"{min(own) / min(base):.2f}",
        f"{statistics.median(a / b for a, b in zip(own, base, strict=True)):.2f}",
        "" if goal is None else f"{goal:.2f}",
        f"{memory / 1024:.0f}",
        f"{against:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


HEAD = (
    "| command | min ms | median ms | x click (min) | x click (median) | goal | peak MiB | x click |\n"
    "|---|---|---|---|---|---|---|---|"
)


def two_ports(vm: Vm, rounds: int) -> None:
    bench = Bench(vm, rounds)
    vm.run(["ip", "link", "set", vm.netdevs[1], "up"])
    measured = bench.run(TWO_PORTS)
    print(HEAD)
    base = [[*run[:2], *run[:2], 0] for runs in measured.values() for run in runs]
    print(row("python3 -c 'import click'", base, None))
    for case in TWO_PORTS:
        print(row(case.name, measured[case.name], case.goal))
    sys.stdout.flush()
    held(bench)
    others = tuple(case for case in OTHERS if bench.present(case))
    measured = bench.run(others)
    print(f"\n{HEAD}")
    for case in others:
        print(row(case.name, measured[case.name], case.goal))
    sys.stdout.flush()


def held(bench: Bench) -> None:
    """Only while somebody has the RDMA device open are holders searched for in /proc."""
    with contextlib.ExitStack() as stack:
        holder = stack.enter_context(user(bench.vm, "rawqp"))
        holder.wait_for("ready")
        holder.ask("create 2", "created")
        none = Case("status --json, port 2 held", manactl("status", "--json"))
        first = bench.run((none,))[none.name]
        crowd = stack.enter_context(user(bench.vm, "descriptors", str(MANY)))
        crowd.wait_for("ready")
        many = Case(f"the same, {MANY} descriptors elsewhere", none.argv)
        second = bench.run((many,))[many.name]
    print(row(none.name, first, None))
    print(row(many.name, second, None))
    least, middle = (
        how(run[2] / run[0] for run in second) / how(run[2] / run[0] for run in first)
        for how in (min, statistics.median)
    )
    print(f"\n{MANY} descriptors against none: {least:.2f} (min), {middle:.2f} (median); goal 2.00")
    sys.stdout.flush()


def many_ports(vm: Vm, rounds: int, ports: int) -> None:
    bench = Bench(vm, rounds)
    case = Case(f"manactl status --json, {ports} ports", manactl("status", "--json"), 3.0)
    print(f"\n{HEAD}")
    print(row(case.name, bench.run((case,))[case.name], case.goal), flush=True)


def full_table(vm: Vm, count: int, rounds: int) -> None:
    """What the routes of a router cost, against what `ip` takes for the same."""
    vm.put(INSTALLED, SCRIPT, 0o755)
    vm.run(["ip", "link", "set", vm.netdevs[1], "up"])
    vm.run(f"ip addr add 198.51.100.1/24 dev {vm.netdevs[1]}")  # that no port is the last way
    port, other = vm.netdevs[2], vm.netdevs[1]
    argv = ["python3", f"{GUEST}/table.py", port, str(count), str(rounds), other]
    found = json.loads(vm.run(argv, timeout=600.0 * rounds).out)
    print(f"\n| with {count} routes on the port, {rounds} rounds | min | median |\n|---|---|---|")
    for verb, beside, what in (
        ("claim", "show", "`ip -j route show table all`"),
        ("release", "batch", "`ip -batch`"),
    ):
        ratios = [(row[f"{verb} with"] - row[verb]) / row[beside] for row in found["rounds"]]
        print(
            f"| what they add to a {verb}, x {what} | {min(ratios):.2f} | "
            f"{statistics.median(ratios):.2f} |"
        )
    ways = [row["outage"] / row["bare down"] for row in found["rounds"]]
    backs = [1 + row["address back"] / row["bare up"] for row in found["rounds"]]
    for what, ratios in (
        ("the outage of a claim with them, x `ip link set down` with them", ways),
        ("up until the last address at release, x `ip link set up`", backs),
    ):
        print(f"| {what} | {min(ratios):.2f} | {statistics.median(ratios):.2f} |")
    for what, of, beside in (
        ("a claim without routes and uppers, x `import click`", "claim", "click"),
        ("a claim with them on another netdev, x without", "claim elsewhere", "claim"),
        ("a release with them on another netdev, x without", "release elsewhere", "release"),
    ):
        ratios = [row[of] / row[beside] for row in found["rounds"]]
        print(f"| {what} | {min(ratios):.2f} | {statistics.median(ratios):.2f} |")
    print(
        f"\npeak {found['peak'] / 1024:.0f} MiB; journal {found['journal'] / 1e6:.1f} MB, "
        f"{found['journal'] / count:.0f} bytes a route",
        flush=True,
    )


def crowd(vm: Vm, count: int, rounds: int) -> None:
    """A claim among sockets that do not use the port, both ends of each here."""
    bench, port = Bench(vm, rounds), vm.netdevs[2]
    vm.run("ip route add local 10.77.0.0/16 dev lo")
    claim = Case("a claim", manactl("claim", "--raw-qp", port))
    cases = (claim, Case("its release", manactl("release", port)))
    alone = bench.run(cases)[claim.name]
    with user(vm, "thousands", "sockets", "10.77.0.1", str(count // 2)) as many:
        many.wait_for("ready", 1800)
        among = bench.run(cases)[claim.name]
    least, middle = (
        how(run[2] / run[0] for run in among) / how(run[2] / run[0] for run in alone)
        for how in (min, statistics.median)
    )
    print(f"\na claim with {count} sockets elsewhere, x with none: {least:.2f}, {middle:.2f}")
    sys.stdout.flush()


def pairs(vm: Vm, rounds: int) -> None:
    """A pair that is claimed with both of its netdevs, beside a port that is none: the first port
    of the same guest, whose VMBus device uio_hv_generic has."""
    bench = Bench(vm, rounds)
    device, bus = vm.vmbus.nics()[0].uuid, "/sys/bus/vmbus/drivers"
    twin, plain = vm.twins[2], vm.netdevs[1]
    vm.run(f"""
        modprobe uio_hv_generic; modprobe dummy numdummies=0
        echo {device} > {bus}/hv_netvsc/unbind
        echo {CLASS} > {bus}/uio_hv_generic/new_id; echo {CLASS} > {bus}/uio_hv_generic/remove_id
        ip link add spare type dummy; ip link set spare up; ip addr add 198.51.100.1/24 dev spare
        n=1; for d in {plain} {twin}; do
            ip link set $d up; ip addr add 10.0.$n.1/24 dev $d; ip addr add fd00:$n::1/64 dev $d nodad
            ip route add 10.$n.0.0/16 via 10.0.$n.254; n=2
        done
    """)
    cases = {
        "claim of a port": Case("", manactl("claim", "--raw-qp", plain)),
        "claim of a pair": Case("", manactl("claim", "--raw-qp", twin)),
        "release of a port": Case("", manactl("release", plain)),
        "release of a pair": Case("", manactl("release", twin)),
    }
    measured = bench.run(tuple(Case(name, case.argv) for name, case in cases.items()))
    print(f"\n{HEAD}")
    for name, runs in measured.items():
        print(row(name, runs, None))
    outages = [outage(text) for text in histories(vm)][2:]  # without the round that warms up
    own = {name: [one for which, *one in outages if which == name] for name in (plain, twin)}
    print("\n| a pair, x a port | min | median |\n|---|---|---|")
    for verb in ("claim", "release"):
        found = [[run[2] for run in measured[f"{verb} of a {what}"]] for what in ("pair", "port")]
        print(ratios(f"a whole {verb}", *found))
    for at, what in enumerate(("down until it is claimed", "from the release until all is back")):
        print(ratios(what, [one[at] for one in own[twin]], [one[at] for one in own[plain]]))
    sys.stdout.flush()


def ratios(what: str, these: list[float], those: list[float]) -> str:
    """A row: the least against the least, the median against the median."""
    shown = [f"{how(these) / how(those):.2f}" for how in (min, statistics.median)]
    return f"| {what} | {' | '.join(shown)} |"


def histories(vm: Vm) -> list[str]:
    """The journals of claims that have ended, the oldest first."""
    where = "/var/lib/manactl/history"
    return [vm.get(f"{where}/{name}").decode() for name in vm.run(f"ls -tr {where}").out.split()]


def outage(journal: str) -> tuple[str, float, float]:
    """Whose it is, and the seconds from the record that announces the first netdev to go down to
    that of the claim, and from that of the release to its last."""
    header, *records = (json.loads(line.rpartition("\t")[0]) for line in journal.splitlines())
    at: dict[str, datetime] = {}
    for record in records:
        kind = record.get("kind", "")
        if record["event"] != "doing" or kind in ("set-admin", "set-synthetic"):
            at.setdefault(record["event"], datetime.fromisoformat(record["t"]))
    claim, release = at["claimed"] - at["doing"], at["released"] - at["releasing"]
    name = str(header["ports"][0]["netdev"])
    return name, claim.total_seconds(), release.total_seconds()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab.bench", description=__doc__)
    parser.add_argument("--kernel", default="7")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--ports", type=int, default=64, help="of the guest with many ports")
    parser.add_argument("--routes", type=int, default=20_000, help="of the port of a router")
    parser.add_argument("--sockets", type=int, default=100_000, help="that do not use the port")
    arguments = parser.parse_args()
    options: dict[str, Any] = {"kernel": arguments.kernel}
    with Vm(**options) as vm:
        print(f"Linux {vm.release}, {arguments.rounds} rounds\n", flush=True)
        two_ports(vm, arguments.rounds)
    with Vm(**options, pair=True) as vm:
        pairs(vm, arguments.rounds)
    with Vm(**options, ports=arguments.ports, mem=3072) as vm:
        many_ports(vm, arguments.rounds, arguments.ports)
    with Vm(**options, mem=2048) as vm:
        full_table(vm, arguments.routes, 3)
        crowd(vm, arguments.sockets, 3)
    beside_the_guest(arguments.routes)
    return 0


def beside_the_guest(count: int) -> None:
    """What takes too long there, on this host's kernel."""
    argv = [sys.executable, "-m", "tests.netns.pace", "--routes", str(count)]
    subprocess.run(argv, env={**os.environ, "PYTHONPATH": str(CHECKOUT / "src")}, check=False)


if __name__ == "__main__":
    sys.exit(main())
