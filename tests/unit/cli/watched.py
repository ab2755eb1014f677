"""A program that watches ports which its standard input describes; run by test_watch.py.

Arguments: the outlet (screen, blocks, json), and the file PORTS with words "NAME=OWNER", read by
each look, which adds a byte to the file PORTS.looks. The real loop, screen and outlets run around it.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from manactl.cli.app import App
from manactl.cli.watch import Blocks, Chosen, JsonLines, View, on_terminal, watch
from manactl.model.port import Certainty, Netdev, Owner, PortId, PortStatus, Report
from manactl.render import table
from manactl.render.status import plain

TICK = 0.02


def port(number: int, word: str) -> PortStatus:
    name, owner = word.split("=")
    up = 0x1003 if owner == "ethernet" else 0x1002
    return PortStatus(
        id=PortId("7870:00:00.0", number, None),
        netdev=Netdev(name, number, up, None, True, None, None),
        netns=None,
        upper=None,
        rdma=None,
        owner=Owner(owner),
        certainty=Certainty.PROVEN,
    )


def main() -> None:
    kind, path, *words = sys.argv[1:]
    chosen = Chosen(words)

    def look() -> View:
        with Path(f"{path}.looks").open("ab") as looks:
            looks.write(b".")
        found = Path(path).read_text().split()
        ports = tuple(port(number, word) for number, word in enumerate(found, 1))
        return chosen(Report(datetime.now(UTC), "7", True, (), ports))

    if kind == "screen":
        on_terminal(
            look,
            lambda view, width, marked: table.lines(
                *view, verbose=False, width=width, color=False, marked=marked
            ),
            rdma=False,
            tick=TICK,
        )
    else:
        blocks = Blocks(App(), lambda view: list(plain(*view, verbose=False)))
        watch(look, JsonLines() if kind == "json" else blocks, rdma=False, tick=TICK)
    print("ended", file=sys.stderr)


if __name__ == "__main__":
    os.environ.pop("COLUMNS", None)
    main()
