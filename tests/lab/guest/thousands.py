"""Many sockets, and many entries of connection tracking.

    python3 thousands.py sockets ADDRESS CONNECTIONS     both ends of each are here
    python3 thousands.py tracked NET ENTRIES VIA         from addresses of NET (a /16) to VIA

`sockets` tells `ready` and keeps them until it is killed; `tracked` tells `made` and ends, for the
entries live as long as their timeout.
"""

from __future__ import annotations

import contextlib
import ipaddress
import resource
import select
import signal
import socket
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
from manactl.wire.attrs import attr, nest
from manactl.wire.netlink import NLM_F_CREATE, NLM_F_EXCL, NetlinkSocket
from tests.lab.guest.lines import tell

NETFILTER, CT_NEW = 12, 1 << 8
PEERS = 1000  # addresses that the connections go to, so as many ways to look up
TCP, ESTABLISHED, ASSURED = 6, 3, 0xE  # IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED


def hold_sockets(address: str, count: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * count + 100, 2 * count + 100))
    first = int(ipaddress.ip_address(address))
    kept = []
    servers = [socket.create_server((address, 7000 + n), backlog=100) for n in range(4)]
    for number in range(count):
        server = servers[number % len(servers)]
        peer = socket.socket()
        peer.bind((str(ipaddress.ip_address(first + 1 + number % PEERS)), 0))
        peer.connect(server.getsockname())
        kept += [peer, server.accept()[0]]
    tell("ready", sockets=len(kept))
    while True:
        with contextlib.suppress(InterruptedError):
            select.select([], [], [])


def big(kind: int, value: int, form: str = "!I") -> bytes:
    return attr(kind, struct.pack(form, value))


def tuple_of(kind: int, source: int, target: int, sport: int, dport: int) -> bytes:
    ends = nest(1, big(1, source), big(2, target))
    protocol = nest(2, attr(1, bytes([TCP])), big(2, sport, "!H"), big(3, dport, "!H"))
    return nest(kind, ends, protocol)


def track(net: str, count: int, via: str) -> None:
    first, to = int(ipaddress.ip_network(net)[0]), int(ipaddress.ip_address(via))
    state = nest(4, nest(1, attr(1, bytes([ESTABLISHED]))))
    with NetlinkSocket(NETFILTER, strict=False) as netlink:
        for number in range(count):
            source, sport = first + 1 + number % PEERS, 1024 + number // PEERS
            body = struct.pack("=BBH", socket.AF_INET, 0, 0)
            body += tuple_of(1, source, to, sport, 443) + tuple_of(2, to, source, 443, sport)
            body += big(3, ASSURED) + state + big(7, 86400)
            netlink.request(CT_NEW, NLM_F_CREATE | NLM_F_EXCL, body)
    tell("made", entries=count)


signal.signal(signal.SIGTERM, signal.SIG_DFL)
mode, where, many, *rest = sys.argv[1:]
if mode == "sockets":
    hold_sockets(where, int(many))
else:
    track(where, int(many), *rest)
