"""The kernel announces links, and the monitor hears it."""

from __future__ import annotations

import errno
import os
import select
import socket

import pytest

from manactl.look.link_events import Monitor
from manactl.wire.attrs import attr_str
from manactl.wire.netlink import NETLINK_ROUTE, NetlinkSocket
from tests.netns.test_netlink import RTM_DELLINK, add_bridge, ifinfo

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("netns")]

WITHIN = 10_000  # ms


def heard(monitor: Monitor) -> bool:
    poll = select.poll()
    for number in monitor.descriptors:
        poll.register(number, select.POLLIN)
    return bool(poll.poll(WITHIN))


def test_silence_is_not_news() -> None:
    with Monitor(rdma=False) as monitor:
        assert len(monitor.descriptors) == 1
        assert not monitor.refused
        assert not monitor.drain()


def test_a_link_that_comes_and_goes_is_announced() -> None:
    with Monitor(rdma=False) as monitor, NetlinkSocket(NETLINK_ROUTE) as sock:
        add_bridge(sock, "port1")
        assert heard(monitor)
        assert monitor.drain()
        assert not monitor.drain()
        sock.request(RTM_DELLINK, body=ifinfo() + attr_str(3, "port1"))
        assert heard(monitor)
        assert monitor.drain()


def test_more_than_the_socket_keeps_is_news_too() -> None:
    with Monitor(rdma=False) as monitor, NetlinkSocket(NETLINK_ROUTE) as sock:
        for _ in range(400):  # far beyond the default receive buffer
            add_bridge(sock, "flicker")
            sock.request(RTM_DELLINK, body=ifinfo() + attr_str(3, "flicker"))
        assert monitor.drain()
        assert not monitor.drain()
        add_bridge(sock, "port1")
        assert heard(monitor)


NETLINK_RDMA = 20
NO_RDMA = os.strerror(errno.EPROTONOSUPPORT)


def rdma_here() -> bool:
    """Whether this kernel has netlink for RDMA, by asking it."""
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_RDMA).close()
    except OSError as error:
        if error.errno != errno.EPROTONOSUPPORT:
            raise
        return False
    return True


def test_a_closed_door_is_named() -> None:
    """Without RDMA in the kernel there is nothing to subscribe to; links are heard all the same."""
    expected = ({}, 2) if rdma_here() else ({"nldev": NO_RDMA}, 1)
    with Monitor(rdma=True) as monitor, NetlinkSocket(NETLINK_ROUTE) as sock:
        assert (monitor.refused, len(monitor.descriptors)) == expected
        add_bridge(sock, "port1")
        assert heard(monitor)
        assert monitor.drain()


def test_what_another_process_sends_is_not_news() -> None:
    with (
        Monitor(rdma=False) as monitor,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE) as stranger,
    ):
        listening = socket.socket(fileno=os.dup(monitor.descriptors[0]))
        with listening:
            to = (listening.getsockname()[0], 0)
        stranger.sendto(b"look", to)
        assert heard(monitor)
        assert not monitor.drain()
