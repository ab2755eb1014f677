"""What ethtool shows of a netdev of this machine; it is set in tests/netns and in the lab."""

from __future__ import annotations

import errno
import socket

import pytest

from manactl.look import ethtool
from manactl.netstate.ethtool_settings import Command, Ethtool
from manactl.netstate.link_settings import LinkSettings


def test_the_loopback_device_has_features_and_no_rss() -> None:
    found = ethtool.read(socket.if_nametoindex("lo"), "lo")
    assert "rx-gro" in found.groups["features"].bits
    assert (found.rss, found.hashed) == (None, {})


def test_of_a_netdev_that_is_not_there_nothing_is_shown() -> None:
    assert ethtool.read(0x7FFFFFFF, "no-such-device") == Ethtool()
    bare = LinkSettings(names={"lo": 1})
    assert ethtool.added(bare, 0x7FFFFFFF) is bare
    assert ethtool.added(bare, socket.if_nametoindex("lo")).ethtool.groups["features"].bits


@pytest.mark.parametrize(
    "command",
    [Command("", "rings"), Command("", rss=bytes(20)), Command("", flow=1, fields=0x30)],
)
def test_what_cannot_be_set_raises(command: Command) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011
        ethtool.put(0x7FFFFFFF, "no-such-device", command)
    assert caught.value.errno in (errno.ENODEV, errno.EPERM)
