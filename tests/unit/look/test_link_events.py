"""Listening for announcements: what counts, and what cannot be had."""

from __future__ import annotations

import errno

import pytest

from manactl.look import link_events
from manactl.look.link_events import Monitor


class Announced:
    """A socket with datagrams of some senders, or errors, in turn."""

    def __init__(self, *announced: int) -> None:
        self._announced = list(announced)  # port ids; negative: an errno

    def recvfrom(self, size: int) -> tuple[bytes, tuple[int, int]]:
        if not self._announced:
            raise BlockingIOError
        number = self._announced.pop(0)
        if number < 0:
            raise OSError(-number, "refused")
        return bytes(size), (number, 1)


@pytest.mark.parametrize(
    ("announced", "news"),
    [
        ((), False),
        ((0,), True),
        ((4711,), False),
        ((4711, 0, 4711), True),
        ((-errno.ENOBUFS,), True),
        ((0, 4711), True),
    ],
)
def test_what_the_kernel_announces_is_news(
    announced: tuple[int, ...], news: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Monitor(rdma=False) as monitor:
        monkeypatch.setattr(monitor, "_sockets", [Announced(*announced), Announced()])
        assert monitor.drain() is news
        assert not monitor.drain()
        monkeypatch.undo()


def test_every_socket_is_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the second would wake the poll again at once."""
    with Monitor(rdma=False) as monitor:
        monkeypatch.setattr(monitor, "_sockets", [Announced(0), Announced(0)])
        assert monitor.drain()
        assert not monitor.drain()
        monkeypatch.undo()


def test_another_error_is_not_news(monkeypatch: pytest.MonkeyPatch) -> None:
    with Monitor(rdma=False) as monitor:
        monkeypatch.setattr(monitor, "_sockets", [Announced(-errno.EBADF)])
        with pytest.raises(OSError, match="refused"):
            monitor.drain()
        monkeypatch.undo()


def test_what_cannot_be_heard_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = link_events.subscribed

    def refused(protocol: int, group: int) -> object:
        if protocol == 20:  # NETLINK_RDMA
            raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")
        return plain(protocol, group)

    monkeypatch.setattr(link_events, "subscribed", refused)
    with Monitor() as monitor:
        assert monitor.refused == {"nldev": "Protocol not supported"}
        assert len(monitor.descriptors) == 1
