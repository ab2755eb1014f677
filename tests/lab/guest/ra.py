"""A router as IPv6 hosts see it: sends router advertisements (RFC 4861, 4191), without a daemon.

    python3 ra.py send DEV LIFETIME ROUTER      one advertisement to all nodes
    python3 ra.py answer DEV LIFETIME ROUTER    one for each solicitation, until it is killed

LIFETIME (s) is that of the on-link and SLAAC prefix and of the route information, ROUTER (s) that
of the default router. `answer` tells `listening`, and both `sent`.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.lab.guest.lines import tell

PREFIX, ROUTE, MTU = "2001:db8:aa::", "2001:db8:bb::", 1400
_SOLICITATION, _ADVERTISEMENT = 133, 134
_ON_LINK_AND_SLAAC = 0xC0
_JOIN_GROUP = 20  # IPV6_ADD_MEMBERSHIP
PATIENCE = 30.0  # s for the device to get its link-local address


def advertisement(lifetime: int, router: int) -> bytes:
    head = struct.pack("!BBHBBHII", _ADVERTISEMENT, 0, 0, 64, 0, router, 0, 0)
    prefix = socket.inet_pton(socket.AF_INET6, PREFIX)
    prefix_information = struct.pack(
        "!BBBBIII16s", 3, 4, 64, _ON_LINK_AND_SLAAC, lifetime, lifetime, 0, prefix
    )
    mtu = struct.pack("!BBHI", 5, 1, 0, MTU)
    route = socket.inet_pton(socket.AF_INET6, ROUTE)[:8]
    route_information = struct.pack("!BBBBI8s", 24, 2, 64, 0, lifetime, route)
    return head + prefix_information + mtu + route_information


def send(sock: socket.socket, message: bytes, index: int) -> None:
    """To all nodes, as soon as the device has an address to send from."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            sock.sendto(message, ("ff02::1", 0, 0, index))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL or time.monotonic() >= deadline:
                raise
            time.sleep(0.05)
        else:
            return


def main(mode: str, device: str, lifetime: int, router: int) -> None:
    index = socket.if_nametoindex(device)
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        all_routers = socket.inet_pton(socket.AF_INET6, "ff02::2")
        sock.setsockopt(socket.IPPROTO_IPV6, _JOIN_GROUP, all_routers + struct.pack("=I", index))
        if mode == "answer":
            tell("listening")
        while True:
            if mode == "answer" and sock.recv(2048)[0] != _SOLICITATION:
                continue
            send(sock, advertisement(lifetime, router), index)
            tell("sent")
            if mode == "send":
                return


if __name__ == "__main__":
    kind, where, *times = sys.argv[1:]
    main(kind, where, *map(int, times))
