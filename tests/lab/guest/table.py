"""What many routes on a port cost, beside what `ip` takes for the same routes; run in the guest.

    python3 table.py NETDEV COUNT ROUNDS OTHER

Half of the routes are IPv4, half IPv6, over two hundred gateways, as a router's are. Answers with
one JSON object: of each round the seconds of `import click`, of `ip -batch`, of showing the routes,
of setting NETDEV down and up with them, and of claim and release without them, with them, and with
as many on another netdev, OTHER; of the claim with them from the record that announces down to the
one that the vport is free, and of the release from up to the last address; and the most memory and
the largest journal that was seen.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.lab.guest.pace import run

MANACTL = "/usr/local/bin/manactl"
GLOBAL = "2001:db8::2/48"
RTM_NEWLINK, RTM_NEWADDR = 16, 20
RTMGRP_LINK, RTMGRP_IPV6_IFADDR = 0x1, 0x100
STATE = Path("/var/lib/manactl")
SHOW = "ip -j route show table all"  # of both families


def ip(*words: str, given: str = "") -> None:
    subprocess.run(["ip", *words], input=given, check=True, text=True)


def routes(netdev: str, count: int) -> str:
    """The lines of a batch file that adds them."""
    lines = []
    for n in range(count):
        high, low, gateway = n >> 16, n & 0xFFFF, n // 2 % 200 + 3
        if n % 2:
            to = f"100.{high}.{low >> 8}.{low & 255}/32 via 10.0.0.{gateway}"
        else:
            to = f"2001:db9:{high:x}:{low:x}::/64 via 2001:db8::{gateway:x}"
        lines.append(f"route add {to} dev {netdev} proto bird")
    return "\n".join(lines) + "\n"


def timed(*argv: str) -> tuple[float, int]:
    seconds, peak, status = run(list(argv), {"PYTHONPATH": "/manactl/src"})
    assert status == 0, (argv, status)
    return seconds, peak


def manactl(found: dict[str, Any], verb: str, *words: str) -> float:
    seconds, peak = timed(MANACTL, verb, *words)
    found["peak"] = max(found["peak"], peak)
    return seconds


def once(netdev: str, count: int, batch: Path, other: str, found: dict[str, Any]) -> None:
    claim = ("claim", "--raw-qp", netdev)
    row = {"click": timed("python3", "-c", "import click")[0]}
    row |= {"claim": manactl(found, *claim), "release": manactl(found, "release")}
    row["batch"] = timed("ip", "-batch", str(batch))[0]
    row["show"] = timed("sh", "-c", SHOW)[0]
    row["bare down"] = timed("ip", "link", "set", netdev, "down")[0]
    row["bare up"] = timed("ip", "link", "set", netdev, "up")[0]
    ip("-6", "address", "replace", GLOBAL, "dev", netdev, "nodad")
    ip("-batch", str(batch))
    row["claim with"] = manactl(found, *claim)
    (journal,) = (STATE / "claims").glob("*.journal")
    found["journal"] = journal.stat().st_size
    row["outage"] = outage(journal)
    with Watch(netdev) as watch:
        row["release with"] = manactl(found, "release")
    row["address back"] = watch.addresses[-1] - watch.ups[0]
    there = subprocess.run(["sh", "-c", SHOW], check=True, capture_output=True, text=True).stdout
    assert there.count('"bird"') == count
    flush(netdev)
    timed("ip", "-batch", f"{batch}.elsewhere")
    row["claim elsewhere"] = manactl(found, *claim)
    row["release elsewhere"] = manactl(found, "release")
    flush(other)
    found["rounds"].append(row)


def outage(journal: Path) -> float:
    """Seconds from the record that the port is about to be set down to the one that a QP was made."""
    records = [json.loads(line.partition("\t")[0]) for line in journal.read_text().splitlines()[1:]]
    at = {(one["event"], one.get("kind")): datetime.fromisoformat(one["t"]) for one in records}
    return (at["done", "prove-free"] - at["doing", "set-admin"]).total_seconds()


class Watch(threading.Thread):
    """When a netdev was up, and got an IPv6 address that others can reach, while this is entered."""

    def __init__(self, netdev: str) -> None:
        super().__init__(daemon=True)
        self.ups: list[float] = []
        self.addresses: list[float] = []
        self._ifindex = socket.if_nametoindex(netdev)
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.settimeout(0.2)
        self._over = threading.Event()
        self._socket.bind((0, RTMGRP_LINK | RTMGRP_IPV6_IFADDR))

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        self._socket.close()

    def run(self) -> None:
        while not self._over.is_set():
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                continue
            now = time.perf_counter()
            (kind,) = struct.unpack_from("=4xH", data)
            if kind == RTM_NEWLINK:
                _, index, flags = struct.unpack_from("=HxxiI", data, 16)
                if index == self._ifindex and flags & 1:  # IFF_UP
                    self.ups.append(now)
            elif kind == RTM_NEWADDR:
                scope, index = struct.unpack_from("=3xBI", data, 16)
                if index == self._ifindex and scope == 0:
                    self.addresses.append(now)


def flush(netdev: str) -> None:
    for family in ("-4", "-6"):
        ip(family, "route", "flush", "dev", netdev, "proto", "bird")


def main(arguments: list[str]) -> None:
    netdev, count, rounds, other = arguments[0], int(arguments[1]), int(arguments[2]), arguments[3]
    batch = Path("/tmp/routes.batch")
    batch.write_text(routes(netdev, count))
    # The gateways of NETDEV cannot be reached by OTHER.
    elsewhere = re.sub(r" via \S+", "", routes(other, count))
    Path(f"{batch}.elsewhere").write_text(elsewhere)
    ip("link", "set", netdev, "up")
    ip("address", "add", "10.0.0.2/8", "dev", netdev)
    ip("address", "add", GLOBAL, "dev", netdev, "nodad")
    found: dict[str, Any] = {"rounds": [], "peak": 0, "journal": 0}
    for words in (("claim", "--raw-qp", netdev), ("release",)):
        timed(MANACTL, *words)  # warms the caches up
    for _ in range(rounds):
        once(netdev, count, batch, other, found)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
