"""Connections that IPVS forwards to real servers. Connection tracking may have none of them: IPVS
keeps its own table (net.ipv4.vs.conntrack).
"""

from __future__ import annotations

import socket
from pathlib import Path

from manactl.look.text_files import fields, read, rows
from manactl.model.named_tuple import NamedTuple

_TABLE = "self/net/ip_vs_conn"  # below /proc; where the module is not loaded it is not there
# Of TCP (tcp_state_name_table), and of SCTP (sctp_state_name()): over, but for their timers.
_OVER = frozenset({"TIME_WAIT", "CLOSE", "CLOSED", "REJECTED"})


class Balanced(NamedTuple):
    """A client's connection to the address of a service, which a real server answers."""

    protocol: str
    client: bytes
    port: int
    address: bytes
    service: int
    server: bytes


def connections(proc: Path = Path("/proc")) -> list[Balanced]:
    """Those of this network namespace (ip_vs_conn_seq_show()). OSError or ValueError when they
    cannot be read."""
    try:
        lines = rows(read(proc / _TABLE))[1:]
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        protocol, client, port, address, service, server, _, state, *_ = fields(line)
        if state not in _OVER and int(port, 16):  # without a port it is a template
            found.append(
                Balanced(
                    protocol.lower(), _packed(client), int(port, 16),
                    _packed(address), int(service, 16), _packed(server),
                )
            )  # fmt: skip
    return found


def _packed(words: str) -> bytes:
    """%08X of an IPv4 address, %pI6 of another."""
    if ":" in words:
        return socket.inet_pton(socket.AF_INET6, words.strip("[]"))
    return int(words, 16).to_bytes(4, "big")
