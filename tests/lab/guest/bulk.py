"""Much data over TCP, checked by its digest: what a path does to large sends.

    python3 bulk.py serve ADDRESS PORT
    python3 bulk.py send ADDRESS PORT MIB

The server tells `listening`, and for each client `received` with the number of bytes and their
SHA-256; the sender tells the same of what it sent.
"""

from __future__ import annotations

import hashlib
import random
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.lab.guest.lines import tell

PIECE = 1 << 20


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve(address: str, port: int) -> None:
    with socket.create_server((address, port), family=family_of(address)) as listener:
        tell("listening", port=listener.getsockname()[1])
        while True:
            client, _ = listener.accept()
            digest, size = hashlib.sha256(), 0
            with client:
                while data := client.recv(PIECE):
                    digest.update(data)
                    size += len(data)
            tell("received", bytes=size, digest=digest.hexdigest())


def send(address: str, port: int, mib: int) -> None:
    piece = random.Random(mib).randbytes(PIECE)
    digest = hashlib.sha256()
    started = time.monotonic()
    with socket.create_connection((address, port), timeout=60) as connection:
        for _ in range(mib):
            connection.sendall(piece)
            digest.update(piece)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)  # the other side has read all and closed
    rate = mib * 8 * PIECE / (time.monotonic() - started) / 1e6
    tell("sent", bytes=mib * PIECE, digest=digest.hexdigest(), mbit_per_second=round(rate))


if __name__ == "__main__":
    mode, where, number, *rest = sys.argv[1:]
    if mode == "serve":
        serve(where, int(number))
    else:
        send(where, int(number), int(rest[0]))
