"""Raw Ethernet frames to a station that sends them back with the addresses swapped.

    python3 echoed.py NETDEV MAC COUNT

Sends COUNT frames of varying length, one at a time, and tells how many came back unharmed.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.lab.guest.lines import tell

KIND = 0x88B5  # set aside for experiments
PATIENCE = 10.0  # seconds per frame


def main(netdev: str, mac: str, count: int) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(KIND)) as wire:
        wire.bind((netdev, KIND))
        wire.settimeout(PATIENCE)
        mine = wire.getsockname()[4]
        theirs = bytes.fromhex(mac.replace(":", ""))
        good = 0
        for number in range(count):
            payload = KIND.to_bytes(2, "big") + number.to_bytes(4, "big") * (12 + number % 360)
            wire.send(theirs + mine + payload)
            try:
                good += wire.recv(9000) == mine + theirs + payload
            except TimeoutError:
                break
        tell("echoed", count=good)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
