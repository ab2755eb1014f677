"""A port that is left down at boot, through JSON and back."""

from __future__ import annotations

import json

from manactl.model.port import PortId
from manactl.netstate.left_down import LeftDown
from manactl.netstate.unmanaged import NETWORKD, Unmanaged, UnmanagedLink


def test_it_comes_back_as_it_was() -> None:
    link = UnmanagedLink("eth1", 3, "00:0d:3a:aa:00:11", "mana", True, "uuid", 3, "1")
    one = LeftDown(PortId("7870:00:00.0", 2, None), "eth1", Unmanaged(NETWORKD, "key", (link,)))
    assert LeftDown.from_json(json.loads(json.dumps(one.to_json()))) == one
