"""Which devices' filters send by another, asked of the running kernel; the lab's kernels have them."""

from __future__ import annotations

import socket

import pytest

from manactl.look import redirects
from tests.netns.port import Here

pytestmark = pytest.mark.netns


def test_without_actions_there_is_none(here: Here) -> None:
    names = {index: name for index, name in socket.if_nameindex()}
    assert len(names) > 2
    assert redirects.live(names, socket.if_nametoindex(here.name)) == ()
