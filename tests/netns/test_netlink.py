"""The netlink socket against the kernel itself."""

from __future__ import annotations

import _socket
import errno
import socket
import struct
import threading
from typing import Any

import pytest

from manactl.wire.attrs import as_int, as_str, attr, attr_str, attr_u32, nest, parse_attrs
from manactl.wire.netlink import (
    NETLINK_ROUTE,
    NETLINK_SOCK_DIAG,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkSocket,
    open_socket,
)

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("netns")]

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_GETROUTE = 26
IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO, IFLA_INFO_KIND = 3, 4, 18, 1
SOCK_DIAG_BY_FAMILY = 20


def ifinfo(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, flags, change)


def add_bridge(sock: NetlinkSocket, name: str, *more: bytes) -> None:
    """A bridge: the one virtual netdev that nearly every kernel has."""
    kind = nest(IFLA_LINKINFO, attr_str(IFLA_INFO_KIND, "bridge"))
    body = ifinfo() + attr_str(IFLA_IFNAME, name) + kind + b"".join(more)
    sock.request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def names(sock: NetlinkSocket) -> list[str]:
    links = sock.dump(RTM_GETLINK, ifinfo())
    return [as_str(parse_attrs(body, 16)[IFLA_IFNAME]) for _, body in links]


def test_dump_of_a_fresh_namespace_is_lo_alone() -> None:
    with NetlinkSocket(NETLINK_ROUTE) as sock:
        assert names(sock) == ["lo"]


def test_request_creates_and_the_answer_of_a_get_is_returned() -> None:
    with NetlinkSocket(NETLINK_ROUTE) as sock:
        add_bridge(sock, "port1", attr_u32(IFLA_MTU, 1400))
        (answer,) = sock.request(RTM_GETLINK, body=ifinfo() + attr_str(IFLA_IFNAME, "port1"))
        assert answer.type == RTM_NEWLINK
        assert as_int(parse_attrs(answer.body, 16)[IFLA_MTU]) == 1400
        assert names(sock) == ["lo", "port1"]


def test_refusal_carries_errno_and_the_kernels_words() -> None:
    with NetlinkSocket(NETLINK_ROUTE) as sock:
        with pytest.raises(FileExistsError):
            sock.request(
                RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ifinfo() + attr_str(IFLA_IFNAME, "lo")
            )
        with pytest.raises(OSError, match=r"Invalid argument \(.+\)") as refused:
            sock.dump(RTM_GETROUTE, b"\0" * 3)  # too short for a strictly checked header
        assert refused.value.errno == errno.EINVAL
        # The socket is still good for the next exchange.
        assert names(sock) == ["lo"]


def test_without_strict_check_the_kernel_accepts_what_strict_refuses() -> None:
    with NetlinkSocket(NETLINK_ROUTE, strict=False) as sock:
        assert sock.dump(RTM_GETROUTE, b"\0" * 3) == []


def test_sock_diag_dump_is_empty_in_an_empty_namespace() -> None:
    request = struct.pack("=BBBxI48x", 2, 6, 0, 0xFFFFFFFF)  # inet_diag_req_v2: AF_INET, TCP
    with NetlinkSocket(NETLINK_SOCK_DIAG) as sock:
        assert sock.dump(SOCK_DIAG_BY_FAMILY, request) == []


def test_a_table_that_spans_many_messages_is_whole_under_change() -> None:
    """Links come and go while the table is read: what stays must be there exactly once."""
    with NetlinkSocket(NETLINK_ROUTE) as sock:
        stay = [f"stay{i}" for i in range(60)]
        for name in stay:
            add_bridge(sock, name)
        stop = threading.Event()
        with NetlinkSocket(NETLINK_ROUTE) as other:

            def churn() -> None:
                while not stop.is_set():
                    add_bridge(other, "flicker")
                    other.request(RTM_DELLINK, body=ifinfo() + attr_str(IFLA_IFNAME, "flicker"))

            thread = threading.Thread(target=churn)
            thread.start()
            try:
                for _ in range(10):
                    seen = names(sock)
                    assert sorted(n for n in seen if n.startswith("stay")) == sorted(stay)
            finally:
                stop.set()
                thread.join()


def forged(kind: int, code: int, seq: int = 1) -> bytes:
    """An acknowledgement or a refusal as the kernel would send it."""
    echoed = struct.pack("=IHHII", 20, 22, 5, seq, 0)
    return struct.pack("=IHHIIi", 36, kind, 0x100, seq, 0, code) + echoed


def test_another_process_cannot_answer_for_the_kernel() -> None:
    opened = []

    def opener(family: int) -> _socket.socket:
        opened.append(open_socket(family))
        return opened[-1]

    with (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE) as stranger,
        NetlinkSocket(NETLINK_ROUTE, opener=opener) as sock,
    ):
        to = (opened[0].getsockname()[0], 0)
        stranger.sendto(forged(2, -errno.EPERM), to)
        (answer,) = sock.request(RTM_GETLINK, body=ifinfo(1))
        assert as_str(parse_attrs(answer.body, 16)[IFLA_IFNAME]) == "lo"
        stranger.sendto(forged(3, 0, seq=2), to)  # NLMSG_DONE: an empty table
        assert names(sock) == ["lo"]
        stranger.sendto(forged(3, 0, seq=3) * 4000, to)  # longer than any answer
        assert names(sock) == ["lo"]


def test_a_dump_that_was_left_halfway_does_not_block_the_next() -> None:
    class Hasty(_socket.socket):
        reads = 0

        def recvmsg(self, *how: int) -> Any:
            Hasty.reads += 1
            if Hasty.reads == 2:
                raise KeyboardInterrupt
            return super().recvmsg(*how)

    def opener(family: int) -> _socket.socket:
        return Hasty(fileno=open_socket(family).detach())

    with NetlinkSocket(NETLINK_ROUTE) as other:
        for number in range(60):  # more than one datagram takes
            add_bridge(other, f"stay{number}")
    with NetlinkSocket(NETLINK_ROUTE, opener=opener) as sock:
        with pytest.raises(KeyboardInterrupt):
            sock.dump(RTM_GETLINK, ifinfo())
        assert len(names(sock)) == 61


def test_many_changes_at_once_are_made_in_their_order() -> None:
    """Whatever one of them is refused for, the others are carried out, before and after it."""
    with NetlinkSocket(NETLINK_ROUTE) as sock:
        head = struct.pack("=BBBBI", 2, 32, 0, 0, 1)  # struct ifaddrmsg, of lo
        wanted = [head + attr(2, bytes([10, 9, n >> 8, n & 255])) for n in range(300)]  # IFA_LOCAL
        asked = [(20, 0x600, body) for body in wanted]
        asked[7:7] = [asked[3]]  # there already
        said = sock.request_all(asked)
        assert [number for number, error in enumerate(said) if error] == [7]
        assert said[7] is not None
        assert said[7].errno == errno.EEXIST
        there = [parse_attrs(m.body, 8)[2] for m in sock.dump(22, b"\2" + bytes(7))]
        assert there == [body[12:] for body in wanted]
        assert sock.request_all([(21, 0, body) for body in wanted]) == [None] * 300
        assert sock.dump(22, b"\2" + bytes(7)) == []
