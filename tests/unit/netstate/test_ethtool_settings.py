"""What ethtool has set: what differs, and what is asked for."""

from __future__ import annotations

import json
import struct

from manactl.netstate.ethtool_settings import Ethtool, changes
from manactl.wire.ethtool import Values
from tests.unit.wording import wording

WAS = Ethtool(
    {
        "channels": Values({6: b"\2\0\0\0", 9: b"\4\0\0\0"}, {}),
        "features": Values({}, {"rx-gro": False, "tx-csum": True}),
        "pause": Values({2: b"\1"}, {}),
    },
    b"table",
    {1: 0x30, 5: 0x30},
)


def test_only_what_differs_is_set_and_in_the_order_of_the_groups() -> None:
    now = Ethtool(
        {
            "features": Values({}, {"rx-gro": True, "tx-csum": True}),
            "channels": Values({6: b"\2\0\0\0", 9: b"\1\0\0\0"}, {}),
        },
        b"other",
        {1: 0xF0},
    )
    found = list(changes(WAS, now))
    with wording:
        assert [one.text for one in found] == [
            "channels: combined 4", "features: rx-gro off", "RSS indirection, key and hash function",
            "hash fields of tcp4 0x30",
        ]  # fmt: skip
    assert found[0].values == Values({9: b"\4\0\0\0"}, {})
    assert found[1].values == Values({}, {"rx-gro": False})
    assert (found[2].rss, found[3].flow, found[3].fields) == (b"table", 1, 0x30)


def rxfh(table: list[int], key: bytes, function: int = 1) -> bytes:
    """struct ethtool_rxfh without its command."""
    head = struct.pack("=IIIBBxxI", 0, len(table), len(key), function, 3, 0)
    return head + struct.pack(f"={len(table)}I", *table) + key


def test_a_table_that_is_the_same_is_not_set() -> None:
    """The kernel would have it for the administrator's from then on."""
    was, no_table = rxfh([0, 1, 0, 1], b"old key."), 0xFFFFFFFF
    (key,) = changes(Ethtool(rss=was), Ethtool(rss=rxfh([0, 1, 0, 1], b"new key.")))
    assert key.rss == struct.pack("=IIIBBxxI", 0, no_table, 8, 1, 3, 0) + b"old key."
    for now in (
        rxfh([0, 1, 2, 3], b"new key."),
        rxfh([0, 1, 0, 1, 0, 1], b"old key."),
        rxfh([0, 1, 0, 1], b"shorter"),
        b"other",
    ):
        (both,) = changes(Ethtool(rss=was), Ethtool(rss=now))
        assert both.rss == was
    assert list(changes(Ethtool(rss=was), Ethtool(rss=was))) == []


def test_what_the_new_netdev_has_not_is_not_asked_for() -> None:
    assert list(changes(WAS, WAS)) == []
    assert list(changes(WAS, Ethtool())) == []
    assert list(changes(Ethtool(), WAS)) == []


def test_it_comes_back_from_json_without_groups_that_are_not_known() -> None:
    data = json.loads(json.dumps(WAS.to_json()))
    assert Ethtool.from_json(data) == WAS
    data["groups"]["of-tomorrow"] = {"numbers": {}, "bits": {}}
    assert Ethtool.from_json(data) == WAS
    assert Ethtool.from_json(json.loads(json.dumps(Ethtool().to_json()))) == Ethtool()
