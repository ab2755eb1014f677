"""What the kernel announces of a netdev that goes up and down."""

from __future__ import annotations

import pytest

from manactl.look.link_changes import LinkChange, LinkChanges
from tests.netns.port import Here, ip

pytestmark = pytest.mark.netns


def of(changes: LinkChanges, name: str) -> list[LinkChange]:
    return [change for change in changes.read() if change.name == name]


def test_going_up_is_announced_once_among_all_else(here: Here) -> None:
    with LinkChanges() as changes:
        ip("link", "set", "port0", "down")
        down = of(changes, "port0")
        assert down
        assert not any(change.went_up for change in down)
        assert not down[-1].up
        ip("link", "set", "port0", "up")
        up = of(changes, "port0")
        assert [change.went_up for change in up].count(True) == 1
        assert up[-1].up
        ip("link", "set", "port0", "mtu", "1400")
        changed = of(changes, "port0")
        assert changed
        assert [(change.up, change.went_up) for change in changed] == [(True, False)] * len(changed)
        assert changes.lost is False


def test_a_change_is_of_the_right_netdev(here: Here) -> None:
    with LinkChanges() as changes:
        ip("link", "set", "port0", "down")
        ip("link", "set", "port0", "up")
        ip("link", "add", "new", "up", "type", "bridge")
        went_up = {change.name for change in changes.read() if change.went_up}
        assert went_up == {"port0", "new"}
