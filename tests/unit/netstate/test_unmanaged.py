"""What is unmanaged is the same after JSON."""

from __future__ import annotations

import json

from manactl.netstate.beside import Beside, Kind
from manactl.netstate.unmanaged import Unmanaged, UnmanagedLink

UNMANAGED = Unmanaged(
    "NetworkManager",
    "7870-00-00.0-1",
    (UnmanagedLink("eth1", 3, "00:0d:3a:aa:00:10", "mana", True, "uuid", 8, "1", ("10.0.0.2/24",),
                   ("DHCPv4Client",)),
     UnmanagedLink("vlan7", 9, None, None, False)),
    (Beside(Kind.RULE, b"x"),),
)  # fmt: skip


def test_the_same_after_json() -> None:
    assert Unmanaged.from_json(json.loads(json.dumps(UNMANAGED.to_json()))) == UNMANAGED


def test_a_record_without_the_mode_is_read() -> None:
    data = UNMANAGED.to_json()
    for link in data["links"]:
        del link["addr_gen_mode"]
    assert [link.addr_gen_mode for link in Unmanaged.from_json(data).links] == [None, None]


def test_its_netdevs_by_name() -> None:
    assert UNMANAGED.names == "eth1, vlan7"
