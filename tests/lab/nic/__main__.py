"""python3 -m tests.lab.nic: run the NIC for one QEMU."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TextIO

from tests.lab.nic.config import Config, parse_mac
from tests.lab.nic.record import Record
from tests.lab.nic.server import Server


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab.nic", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True, help="for QEMU's vfio-user-pci")
    parser.add_argument("--control", type=Path, required=True, help="for questions, JSON lines")
    parser.add_argument("--link", type=Path, help="for a second device, to the VMBus's host")
    parser.add_argument("--ports", type=int, default=2)
    parser.add_argument("--mac", type=parse_mac, action="append", default=[], help="per port")
    parser.add_argument("--rnic", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--log", type=Path, help="every event, as it happens")
    return parser.parse_args()


def main() -> None:
    arguments = _arguments()
    try:
        config = Config(arguments.ports, tuple(arguments.mac), arguments.rnic)
    except ValueError as error:
        sys.exit(f"python3 -m tests.lab.nic: {error}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log: TextIO | None = None
    if arguments.log is not None:
        log = arguments.log.open("a", buffering=1)
    record = Record(lambda line: log.write(line + "\n") if log is not None else None)
    Server(config, arguments.socket, arguments.control, record, arguments.link).run()


if __name__ == "__main__":
    main()
