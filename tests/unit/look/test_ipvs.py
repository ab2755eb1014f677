"""Connections of IPVS, from a table as ip_vs_conn_seq_show() writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from manactl.look import ipvs
from manactl.look.ipvs import Balanced
from tests.unit.wire.test_conntrack import packed

HEAD = "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n"
FOUR = "TCP CB007109 9C40 0A010004 0050 AC110002 1F90 ESTABLISHED     899\n"
SIX = (
    "UDP 2001:0db8:0000:0000:0000:0000:0000:0009 9C40 2001:0db8:0001:0000:0000:0000:0000:0004 0035 "
    "fd17:0000:0000:0000:0000:0000:0000:0002 0035 UDP             299\n"
)
# What ends a connection of TCP, and an association of SCTP.
OVER = [
    FOUR.replace("TCP", protocol).replace("ESTABLISHED", f"{state:11}")
    for protocol, state in (
        ("TCP", "TIME_WAIT"), ("TCP", "CLOSE"), ("SCTP", "CLOSED"), ("SCTP", "REJECTED"),
    )
]  # fmt: skip
TEMPLATE = "TCP CB007109 0000 0A010004 0050 AC110002 1F90 NONE            299\n"


def table(root: Path, *rows: str) -> Path:
    path = root / "self/net/ip_vs_conn"
    path.parent.mkdir(parents=True)
    path.write_text(HEAD + "".join(rows))
    return root


def test_clients_services_and_real_servers(tmp_path: Path) -> None:
    found = ipvs.connections(table(tmp_path, FOUR, *OVER, SIX, TEMPLATE))
    assert found == [
        Balanced("tcp", packed("203.0.113.9"), 40000, packed("10.1.0.4"), 80, packed("172.17.0.2")),
        Balanced(
            "udp", packed("2001:db8::9"), 40000, packed("2001:db8:1::4"), 53, packed("fd17::2")
        ),
    ]


def test_where_ipvs_is_not_there_is_none(tmp_path: Path) -> None:
    assert ipvs.connections(tmp_path) == []


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unpack"):
        ipvs.connections(table(tmp_path, "something else\n"))
