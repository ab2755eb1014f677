"""Sets a netdev up again and again, as a network manager that knows better does.

    python3 stranger.py NETDEV

Without pause, by rtnetlink; tells when it began, and at the end of standard input how often the
kernel took it.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.lab.guest.lines import tell

_ROUTE, _NEWLINK, _REQUEST_ACK, _UP = 0, 16, 5, 1


def main(name: str) -> None:
    index = socket.if_nametoindex(name)
    body = struct.pack("=BxHiII", 0, 0, index, _UP, _UP)
    request = struct.pack("=IHHII", 16 + len(body), _NEWLINK, _REQUEST_ACK, 1, 0) + body
    taken = refused = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _ROUTE) as rtnl:
        rtnl.bind((0, 0))
        tell("started", pid=os.getpid())
        while not select.select([sys.stdin], [], [], 0)[0]:
            rtnl.send(request)
            error = struct.unpack_from("=i", rtnl.recv(4096), 16)[0]
            if error:
                refused += 1
            else:
                taken += 1
    tell("ended", taken=taken, refused=refused)


main(*sys.argv[1:])
