"""Which devices' filters send by another, asked of the running kernel."""

from __future__ import annotations

import socket
import subprocess

import pytest

from manactl.look import redirects
from tests.conftest import lacking
from tests.netns.port import Here

pytestmark = pytest.mark.netns


def tc(*words: str) -> None:
    done = subprocess.run(["tc", *words], check=False, capture_output=True, text=True)
    if done.returncode:
        lacking("uppers", done.stderr)  # this kernel has no such action; the lab's have


def test_filters_that_send_by_the_port_are_found_by_their_action(here: Here) -> None:
    names = {index: name for index, name in socket.if_nameindex()}
    port = socket.if_nametoindex(here.name)
    assert redirects.live(names, port) == ()
    tc("qdisc", "add", "dev", "other0", "clsact")
    mirred = ["action", "mirred", "egress", "redirect", "dev", here.name]
    tc("filter", "add", "dev", "other0", "ingress", "matchall", *mirred)
    assert redirects.live(names, port) == ("other0",)
    assert redirects.live(names, socket.if_nametoindex("wire0")) == ()
