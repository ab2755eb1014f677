"""A holder of a raw QP that keeps a record of the SIGTERMs which it gets, and ends by the first.

    python3 heard.py PORT

Tells `ready`, and on SIGTERM `heard`; answers `report` with those so far; ends by `quit`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.lab.guest.lines import obey, tell
from tests.lab.guest.rawqp import Context, RawQp, ethernet_device

HEARD: list[int] = []


def hear(number: int, _frame: FrameType | None) -> None:
    HEARD.append(number)
    tell("heard", signal=number)
    sys.exit(0)


def main(port: str) -> None:
    qp = RawQp(Context(ethernet_device()), int(port))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, hear)
    tell("ready", pid=os.getpid(), qp=qp.qp)
    obey({"report": lambda: tell("report", heard=HEARD), "quit": lambda: sys.exit(0)})


if __name__ == "__main__":
    main(*sys.argv[1:])
