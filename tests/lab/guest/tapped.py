"""What arrives at a netdev, as a program on a raw socket sees it that checks everything itself.

    python3 tapped.py NETDEV MARK PORT

DHCP clients work so (AF_PACKET): a UDP checksum that was left to some hardware is wrong to them,
whatever the kernel knows of it. Says `ready`; answers `report` with what came since the last one:

    marked, distinct, sum   frames whose last 8 bytes begin with MARK (hex), and the sum of their CRCs
    right, wrong, none      UDP datagrams to PORT by their checksums
"""

from __future__ import annotations

import socket
import struct
import sys
import zlib
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.lab.guest.lines import obey, tell

ALL: Final = 3  # ETH_P_ALL
RCVBUFFORCE: Final = 33  # SO_RCVBUFFORCE
OUTGOING: Final = 4  # PACKET_OUTGOING
UDP: Final = 17


def datagram(frame: bytes) -> tuple[bytes, bytes] | None:
    """The pseudo-header and the datagram of a UDP frame without extension headers."""
    kind = frame[12:14]
    if kind == b"\x08\x00" and frame[23] == UDP:
        at, addresses = 14 + (frame[14] & 15) * 4, frame[26:34]
    elif kind == b"\x86\xdd" and frame[20] == UDP:
        at, addresses = 54, frame[22:54]
    else:
        return None
    (length,) = struct.unpack_from(">H", frame, at + 4)
    return addresses + struct.pack(">II", length, UDP), frame[at : at + length]


def verdict(pseudo: bytes, body: bytes) -> str:
    if body[6:8] == b"\0\0":
        return "none"
    data = pseudo + body + bytes(len(body) & 1)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    return "right" if total % 0xFFFF == 0 else "wrong"


class Tap:
    """The socket, which keeps what comes until somebody asks."""

    def __init__(self, netdev: str, mark: bytes, port: int) -> None:
        self.mark, self.port = mark, port
        self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
        self.wire.setsockopt(socket.SOL_SOCKET, RCVBUFFORCE, 64 << 20)
        self.wire.bind((netdev, ALL))
        self.wire.setblocking(False)

    def report(self) -> None:
        sums: list[int] = []
        found = {"right": 0, "wrong": 0, "none": 0}
        while True:
            try:
                frame, address = self.wire.recvfrom(65536)
            except BlockingIOError:
                break
            if address[2] == OUTGOING:
                continue
            if frame[-8:-4] == self.mark:
                sums.append(zlib.crc32(frame))
                continue
            parts = datagram(frame)
            if parts is not None and int.from_bytes(parts[1][2:4], "big") == self.port:
                found[verdict(*parts)] += 1
        tell("tapped", marked=len(sums), distinct=len(set(sums)), sum=sum(sums), **found)


def main(netdev: str, mark: str, port: str) -> None:
    tap = Tap(netdev, bytes.fromhex(mark), int(port))
    tell("ready")
    obey({"report": tap.report, "quit": lambda: sys.exit(0)})


if __name__ == "__main__":
    main(*sys.argv[1:])
