"""Many claims and releases at the same time, and an eye on the journals meanwhile.

    python3 crowd.py DIRECTORY WORKERS SECONDS NETDEV...

Each worker claims or releases one of the netdevs, at random, until the time is over; runs are
forks of a process that has manactl loaded. At the end everything is released. Tells {"codes":
{VERB: {CODE: TIMES}}, "doubled": journals that named a port of another open journal, "texts": a
word of each code that is neither 0 nor 6}.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.lab.guest.lines import tell
from tests.lab.guest.zygote import load, run

OUT = "/tmp/crowd"


def once(words: list[str], out: str) -> tuple[int, str]:
    pid = os.fork()
    if pid == 0:
        run(words, out, False)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, Path(out).read_text(errors="replace")


def work(number: int, until: float, netdevs: list[str]) -> None:
    """A worker's life; its tally goes to a file."""
    rng = random.Random(number)
    codes: Counter[str] = Counter()
    texts: dict[str, str] = {}
    while time.monotonic() < until:
        name = rng.choice(netdevs)
        verb = rng.choice(("claim", "release"))
        wait = ["--wait", "1"] if rng.random() < 0.5 else []
        words = [verb, *(["--raw-qp", name] if verb == "claim" else [name]), *wait]
        code, text = once(words, f"{OUT}.{number}.out")
        codes[f"{verb} {code}"] += 1
        if code not in (0, 6):
            texts[f"{verb} {code}"] = text
    Path(f"{OUT}.{number}.json").write_text(json.dumps([codes, texts]))


def claimed(directory: str) -> dict[str, list[str]]:
    """The open journals of each port, by the header line alone."""
    found: dict[str, list[str]] = {}
    for name in os.listdir(directory):
        if name.startswith("."):
            continue
        try:
            header = Path(directory, name).read_bytes().partition(b"\n")[0].rpartition(b"\t")[0]
        except FileNotFoundError:
            continue
        for port in json.loads(header)["ports"]:
            found.setdefault(f"{port['pci']}:{port['port']}", []).append(name)
    return found


def doubled(directory: str) -> list[str]:
    """Ports with two journals. Looked at twice: while a directory is read, one may go and the
    next come."""
    try:
        first, second = claimed(directory), claimed(directory)
    except FileNotFoundError:
        return []
    return [
        f"{port}: {sorted(set(names) & set(second.get(port, ())))}"
        for port, names in first.items()
        if len(set(names) & set(second.get(port, ()))) > 1
    ]


def main(directory: str, workers: str, seconds: str, *netdevs: str) -> None:
    load()
    until = time.monotonic() + float(seconds)
    pids = []
    for number in range(int(workers)):
        pid = os.fork()
        if pid == 0:
            try:
                work(number, until, list(netdevs))
            finally:
                os._exit(0)
        pids.append(pid)
    twice: list[str] = []
    while time.monotonic() < until:
        twice += doubled(directory)
        time.sleep(0.02)
    for pid in pids:
        os.waitpid(pid, 0)
    code, text = once(["release", "--all", "--wait", "30"], f"{OUT}.out")
    codes: Counter[str] = Counter()
    texts: dict[str, str] = {}
    for number in range(int(workers)):
        counted, said = json.loads(Path(f"{OUT}.{number}.json").read_text())
        codes.update(counted)
        texts.update(said)
    tell("ended", codes=codes, doubled=twice, texts=texts, last=code, said=text)


main(*sys.argv[1:])
