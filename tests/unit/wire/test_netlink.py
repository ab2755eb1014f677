"""Netlink exchanges replayed from bytes that a 6.18 kernel sent on rtnetlink.

The socket under test is one end of a socket pair; the other end is filled beforehand with the
kernel's answers, numbered for the exchanges that will be made (they count from 1).
"""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from manactl.wire import netlink
from manactl.wire.attrs import as_str, parse_attrs
from manactl.wire.netlink import NLM_F_DUMP_INTR, DumpInterruptedError, NetlinkSocket, Table
from tests.unit.wire import datagrams
from tests.unit.wire.headers import numbers, public
from tests.unit.wording import says

RTM_GETADDR = 22

ADDRESS_OF_LO = bytes.fromhex(
    "4c000000140002000500000010350000020880fe01000000080001007f000001080002007f000001"
    "070003006c6f0000080008008000000014000600ffffffffffffffffa0920100a0920100"
)
DONE = bytes.fromhex("1400000003000200050000001035000000000000")
NO_SUCH_DEVICE = bytes.fromhex(
    "24000000020000010100000010350000edffffff20000000120005000100000000000000"
)
BAD_PREFIX = bytes.fromhex(
    "40000000020000030600000010350000eaffffff1c0000001800050606000000000000001a000100"
    "496e76616c696420707265666978206c656e677468000000"
)
DONE_WITH_WORDS = bytes.fromhex(
    "3c000000030002020200000010350000eaffffff28000100496e76616c69642068656164657220"
    "666f72204649422064756d70207265717565737400"
)
ACK = struct.pack("=IHHIIiIHHII", 36, 2, 0x100, 0, 0, 0, 20, 22, 5, 0, 0)


def numbered(packet: bytes, seq: int, flags: int = 0) -> bytes:
    """`packet` as the answer to exchange `seq`, with more flags."""
    was = int.from_bytes(packet[6:8], "little")
    return packet[:6] + struct.pack("=HI", was | flags, seq) + packet[12:]


class Wire:
    """The kernel's end: what to answer, and what was asked."""

    def __init__(self) -> None:
        self.opened = 0
        self.fails = False
        self.kernel, self._ours = datagrams.pair()
        self.kernel.setblocking(False)

    def open(self, _family: int) -> socket.socket:
        if self.fails:
            raise OSError(errno.EMFILE, "Too many open files")
        self.opened += 1
        return datagrams.ours(self._ours)

    def answer(self, *packets: bytes, sender: int = 0) -> None:
        """One datagram, of the kernel unless another port id is given."""
        datagrams.send(self.kernel, b"".join(packets), sender)

    def asked(self) -> list[tuple[int, int, bytes]]:
        """(type, flags, body) of every request so far."""
        requests = []
        while True:
            try:
                data = self.kernel.recv(65536)
            except BlockingIOError:
                return requests
            _, kind, flags, _, _ = struct.unpack_from("=IHHII", data)
            requests.append((kind, flags, data[16:]))

    def close(self) -> None:
        self.kernel.close()
        self._ours.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def sock(wire: Wire) -> Iterator[NetlinkSocket]:
    with NetlinkSocket(0, opener=wire.open) as made:
        yield made


def test_dump_collects_until_done_over_several_datagrams(wire: Wire, sock: NetlinkSocket) -> None:
    wire.answer(numbered(ADDRESS_OF_LO, 1), numbered(ADDRESS_OF_LO, 1))
    wire.answer(numbered(ADDRESS_OF_LO, 1))
    wire.answer(numbered(DONE, 1))
    answers = sock.dump(RTM_GETADDR, b"\2" + bytes(7))
    assert [as_str(parse_attrs(body, 8)[3]) for _, body in answers] == ["lo"] * 3
    assert wire.asked() == [(RTM_GETADDR, 0x301, b"\2" + bytes(7))]


def test_interrupted_dump_is_read_again_from_the_start(wire: Wire, sock: NetlinkSocket) -> None:
    wire.answer(numbered(ADDRESS_OF_LO, 1))
    wire.answer(numbered(ADDRESS_OF_LO, 1, NLM_F_DUMP_INTR), numbered(DONE, 1))
    wire.answer(numbered(DONE, 2, NLM_F_DUMP_INTR))  # the mark may come on the end alone
    wire.answer(numbered(ADDRESS_OF_LO, 3), numbered(DONE, 3))
    assert len(sock.dump(RTM_GETADDR)) == 1
    assert len(wire.asked()) == 3


def test_dump_that_is_always_interrupted_gives_up(wire: Wire, sock: NetlinkSocket) -> None:
    for seq in (1, 2, 3):
        wire.answer(numbered(DONE, seq, NLM_F_DUMP_INTR))
    with pytest.raises(DumpInterruptedError, match=says("3 times")) as caught:
        sock.dump(RTM_GETADDR, tries=3)
    assert caught.value.errno == errno.EINTR


def test_error_at_the_end_of_a_dump_has_the_kernels_words(wire: Wire, sock: NetlinkSocket) -> None:
    wire.answer(numbered(ADDRESS_OF_LO, 1), numbered(DONE_WITH_WORDS, 1))
    with pytest.raises(OSError, match="Invalid header for FIB dump request") as caught:
        sock.dump(RTM_GETADDR)
    assert caught.value.errno == errno.EINVAL


def test_request_returns_what_came_before_the_acknowledgement(
    wire: Wire, sock: NetlinkSocket
) -> None:
    wire.answer(numbered(ADDRESS_OF_LO, 1))
    wire.answer(numbered(ACK, 1))
    (answer,) = sock.request(RTM_GETADDR, 0x400, b"body")
    assert answer.type == 20
    assert wire.asked() == [(RTM_GETADDR, 0x405, b"body")]


@pytest.mark.parametrize(
    ("packet", "code", "words"),
    [
        (NO_SUCH_DEVICE, errno.ENODEV, "No such device"),
        (BAD_PREFIX, errno.EINVAL, "Invalid argument (Invalid prefix length)"),
    ],
)
def test_refused_request_raises_its_errno_and_words(
    wire: Wire, sock: NetlinkSocket, packet: bytes, code: int, words: str
) -> None:
    wire.answer(numbered(packet, 1))
    with pytest.raises(OSError) as caught:  # noqa: PT011 - errno and text are compared below
        sock.request(RTM_GETADDR)
    assert (caught.value.errno, caught.value.strerror) == (code, words)


def test_uncapped_error_is_read_behind_the_echoed_request(wire: Wire, sock: NetlinkSocket) -> None:
    """Kernels without NETLINK_CAP_ACK echo the whole request before the attributes."""
    echoed = struct.pack("=IHHII", 21, 22, 5, 1, 0) + b"12345" + bytes(3)
    words = struct.pack("=HH", 4 + 5, 1) + b"nope\0" + bytes(3) + struct.pack("=HHI", 8, 2, 20)
    body = struct.pack("=i", -errno.EPERM) + echoed + words
    wire.answer(struct.pack("=IHHII", 16 + len(body), 2, 0x200, 1, 0) + body)
    with pytest.raises(PermissionError, match=says(r"\(nope, at byte 20 of the request\)")):
        sock.request(RTM_GETADDR)


def test_leftovers_of_an_earlier_exchange_are_skipped(wire: Wire, sock: NetlinkSocket) -> None:
    wire.answer(numbered(DONE_WITH_WORDS, 77), numbered(ADDRESS_OF_LO, 77))
    wire.answer(numbered(DONE, 1))
    assert sock.dump(RTM_GETADDR) == []


def test_overrun_makes_a_dump_start_over_on_a_new_socket(wire: Wire, sock: NetlinkSocket) -> None:
    overrun = struct.pack("=IHHII", 16, 4, 0, 1, 0)
    wire.answer(numbered(ADDRESS_OF_LO, 1), overrun)
    wire.answer(numbered(ADDRESS_OF_LO, 2), numbered(DONE, 2))
    assert len(sock.dump(RTM_GETADDR)) == 1
    assert wire.opened == 2


def test_overrun_of_a_request_is_reported_since_it_may_have_been_done(
    wire: Wire, sock: NetlinkSocket
) -> None:
    wire.answer(struct.pack("=IHHII", 16, 4, 0, 1, 0))
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is compared below
        sock.request(RTM_GETADDR)
    assert caught.value.errno == errno.ENOBUFS
    assert len(wire.asked()) == 1


@pytest.mark.parametrize("length", [0, 15, 1000])
def test_a_length_outside_the_datagram_is_an_error(
    wire: Wire, sock: NetlinkSocket, length: int
) -> None:
    wire.answer(struct.pack("=IHHII", length, 20, 2, 1, 0))
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is compared below
        sock.dump(RTM_GETADDR)
    assert caught.value.errno == errno.EBADMSG


def test_what_others_send_is_no_answer(wire: Wire, sock: NetlinkSocket) -> None:
    forged = struct.pack("=IHHIIiIHHII", 36, 2, 0x100, 1, 0, -errno.EPERM, 20, 22, 5, 0, 0)
    wire.answer(forged, sender=4711)
    wire.answer(b"no netlink message at all", sender=4711)
    wire.answer(bytes(1 << 18)[: 1 << 17], sender=4711)
    wire.answer(numbered(ADDRESS_OF_LO, 1))
    wire.answer(numbered(ACK, 1), sender=4711)
    wire.answer(numbered(ADDRESS_OF_LO, 1))
    wire.answer(numbered(ACK, 1))
    assert len(sock.request(RTM_GETADDR)) == 2
    wire.answer(numbered(DONE, 2), sender=1)
    wire.answer(numbered(ADDRESS_OF_LO, 2), numbered(DONE, 2))
    assert len(sock.dump(RTM_GETADDR)) == 1


def test_an_answer_that_does_not_fit_is_an_error(wire: Wire, sock: NetlinkSocket) -> None:
    """Half of it would look like a shorter table."""
    room = (1 << 17) - 8
    body = numbered(ADDRESS_OF_LO, 1) * (room // len(ADDRESS_OF_LO) + 1)
    wire.answer(body)
    with pytest.raises(OSError, match=says("larger than")) as caught:
        sock.dump(RTM_GETADDR)
    assert caught.value.errno == errno.EMSGSIZE


def test_the_end_of_the_stream_is_an_error(wire: Wire, sock: NetlinkSocket) -> None:
    wire.kernel.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionResetError):
        sock.dump(RTM_GETADDR)


def test_bytes_behind_the_last_message_are_an_error(wire: Wire, sock: NetlinkSocket) -> None:
    wire.answer(numbered(ADDRESS_OF_LO, 1), bytes(4))
    with pytest.raises(OSError, match=says("4 bytes")) as caught:
        sock.dump(RTM_GETADDR)
    assert caught.value.errno == errno.EBADMSG


class Interrupting(datagrams.Ours):
    """Raises what a signal handler would, once, when the second datagram is read."""

    reads = 0

    def recvmsg(self, bufsize: int, *more: int) -> Any:
        Interrupting.reads += 1
        if Interrupting.reads == 2:
            raise KeyboardInterrupt
        return super().recvmsg(bufsize, *more)


def test_a_dump_that_was_left_halfway_leaves_a_clean_socket(wire: Wire) -> None:
    Interrupting.reads = 0

    def opener(family: int) -> socket.socket:
        return Interrupting(fileno=wire.open(family).detach())

    with NetlinkSocket(0, opener=opener) as sock:
        wire.answer(numbered(ADDRESS_OF_LO, 1))
        with pytest.raises(KeyboardInterrupt):
            sock.dump(RTM_GETADDR)
        wire.fails = True
        with pytest.raises(OSError, match="Too many"):
            sock.request(RTM_GETADDR)
        wire.fails = False
        wire.answer(numbered(ACK, 2))
        wire.answer(numbered(ACK, 3))
        assert sock.request(RTM_GETADDR) == []
        assert wire.opened == 2
        assert sock.request(RTM_GETADDR) == []
    assert wire.opened == 2


def test_a_dump_that_the_kernel_ended_by_an_error_needs_no_new_socket(
    wire: Wire, sock: NetlinkSocket
) -> None:
    wire.answer(numbered(BAD_PREFIX, 1))
    with pytest.raises(OSError, match="Invalid prefix length"):
        sock.dump(RTM_GETADDR)
    wire.answer(numbered(DONE, 2))
    assert sock.dump(RTM_GETADDR) == []
    assert wire.opened == 1


def test_a_message_of_no_operation_is_skipped(wire: Wire, sock: NetlinkSocket) -> None:
    wire.answer(struct.pack("=IHHII", 16, 1, 0, 1, 0), numbered(DONE, 1))
    assert sock.dump(RTM_GETADDR) == []


def test_a_missing_attribute_is_named(wire: Wire, sock: NetlinkSocket) -> None:
    words = struct.pack("=HHI", 8, 5, 7)
    body = struct.pack("=i", -errno.EINVAL) + struct.pack("=IHHII", 20, 22, 5, 1, 0) + words
    wire.answer(struct.pack("=IHHII", 16 + len(body), 2, 0x300, 1, 0) + body)
    with pytest.raises(OSError, match=says(r"Invalid argument \(attribute 7 is missing\)")):
        sock.request(RTM_GETADDR)


def test_many_requests_go_at_once_and_each_has_its_answer(wire: Wire, sock: NetlinkSocket) -> None:
    wire.answer(numbered(NO_SUCH_DEVICE, 2))
    wire.answer(numbered(ACK, 9), numbered(BAD_PREFIX, 3), numbered(ACK, 4))
    said = sock.request_all([(20, 0x400, b"\1\2\3\4\5"), (20, 0, b""), (21, 0, b"x"), (20, 0, b"")])
    assert [error and error.errno for error in said] == [None, errno.ENODEV, errno.EINVAL, None]
    assert str(said[2]).endswith("Invalid argument (Invalid prefix length)")
    sent = wire.kernel.recv(65536)
    heads = []
    while sent:
        heads.append(struct.unpack_from("=IHHII", sent))
        sent = sent[(heads[-1][0] + 3) & ~3 :]
    # An acknowledgement is asked of the last alone: the kernel tells errors of all.
    assert heads == [(21, 20, 0x401, 1, 0), (16, 20, 1, 2, 0), (17, 21, 1, 3, 0), (16, 20, 5, 4, 0)]


def test_the_last_of_many_may_be_what_the_kernel_refuses(wire: Wire, sock: NetlinkSocket) -> None:
    wire.answer(numbered(BAD_PREFIX, 2))
    said = sock.request_all([(20, 0, b""), (20, 0, b"")])
    assert [error and error.errno for error in said] == [None, errno.EINVAL]


def test_no_more_go_at_once_than_answers_fit(wire: Wire, sock: NetlinkSocket) -> None:
    for first in (1, 129, 257):
        wire.answer(numbered(ACK, min(first + 127, 300)))
    assert sock.request_all([(20, 0, b"")] * 300) == [None] * 300
    assert [len(wire.kernel.recv(65536)) // 16 for _ in range(3)] == [128, 128, 44]
    assert sock.request_all([]) == []


# --- tables that are read again and again ------------------------------------------------------

TABLES = 1 << 31  # the number of each of their dumps: equal tables are equal bytes


def route(body: bytes, flags: int = 2, seq: int = TABLES) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), 24, flags, seq, 4711) + body


END = numbered(DONE, TABLES)


def bodies(table: Table) -> list[bytes]:
    return [body for part in table for body in part.bodies]


def test_a_table_is_the_same_while_it_is_equal(wire: Wire, sock: NetlinkSocket) -> None:
    first, second = (b"".join(map(route, some)) for some in ([b"a" * 8, b"b" * 12], [b"c" * 4]))
    found: list[Table] = []
    for third in (second, second, route(b"d" * 4), b""):
        for data in (first, third, END) if third else (first, END):
            wire.answer(data)
        found.append(sock.dump_again(RTM_GETADDR, b"ask", found[-1] if found else None))
    assert list(map(bodies, found)) == [
        [b"a" * 8, b"b" * 12, b"c" * 4],
        [b"a" * 8, b"b" * 12, b"c" * 4],
        [b"a" * 8, b"b" * 12, b"d" * 4],
        [b"a" * 8, b"b" * 12],
    ]
    assert found[1] is found[0]
    assert found[2][0] is found[0][0]  # not taken apart again
    assert wire.asked() == [(RTM_GETADDR, 0x301, b"ask")] * 4


@pytest.mark.parametrize("seed", range(40))
def test_a_table_is_taken_apart_like_any_dump(wire: Wire, sock: NetlinkSocket, seed: int) -> None:
    """Also where a body has the bytes that its neighbours' headers have, or is padded."""
    draw = random.Random(seed)
    like = route(b"")[4:]
    made = [
        b"".join(draw.choice((b"abcd", like, like[4:], bytes(4))) for _ in range(draw.randrange(5)))
        for _ in range(30)
    ]
    if seed % 2:
        made = [body + b"xyz"[: draw.choice((0, 0, 3))] for body in made]
    parts = [b""]
    for body in made:
        parts[-1] += route(body) + bytes(-len(body) % 4)
        if draw.random() < 0.2:
            parts.append(b"")
    for part in filter(None, parts):
        wire.answer(part)
    wire.answer(END)
    assert bodies(sock.dump_again(RTM_GETADDR, b"")) == made


@pytest.mark.parametrize("at", [0, 1, 59])
def test_a_message_of_the_same_length_may_be_of_another_kind(
    wire: Wire, sock: NetlinkSocket, at: int
) -> None:
    """In a datagram whose messages are of one length: an interruption, another exchange's answer."""
    alike = [b"%04d" % number for number in range(60)]
    for odd in ({"flags": 2 | NLM_F_DUMP_INTR}, {"seq": 5}):
        for what in (odd, {}):
            wire.answer(
                b"".join(route(one, **(what if n == at else {})) for n, one in enumerate(alike))
            )
            wire.answer(END)
        expected = alike if "flags" in odd else [*alike[:at], *alike[at + 1 :]]
        assert bodies(sock.dump_again(RTM_GETADDR, b"")) == expected
        if "seq" in odd:
            assert bodies(sock.dump_again(RTM_GETADDR, b"")) == alike


def test_an_interrupted_table_is_read_again(wire: Wire, sock: NetlinkSocket) -> None:
    for marked in (
        [route(b"1234", 2 | NLM_F_DUMP_INTR), END],
        [route(b"1234"), route(b"1234") + route(b"5678", 2 | NLM_F_DUMP_INTR), END],
        [route(b"1234"), numbered(END, TABLES, NLM_F_DUMP_INTR)],
    ):
        for data in (*marked, route(b"abcd"), END):
            wire.answer(data)
        assert bodies(sock.dump_again(RTM_GETADDR, b"")) == [b"abcd"]
    for _ in range(3):
        wire.answer(numbered(END, TABLES, NLM_F_DUMP_INTR))
    with pytest.raises(DumpInterruptedError, match=says("3 times")):
        sock.dump_again(RTM_GETADDR, b"", tries=3)
    assert wire.opened == 1


def test_a_table_that_the_kernel_refuses(wire: Wire, sock: NetlinkSocket) -> None:
    wire.answer(route(b"1234"), numbered(DONE_WITH_WORDS, TABLES))
    with pytest.raises(OSError, match="Invalid header for FIB dump request"):
        sock.dump_again(RTM_GETADDR, b"")
    wire.answer(numbered(BAD_PREFIX, TABLES))
    with pytest.raises(OSError, match="Invalid prefix length"):
        sock.dump_again(RTM_GETADDR, b"")
    for nonsense in (b"short", route(b"1234") + bytes(4), route(b"")[:-4] + b"12"):
        wire.answer(nonsense)
        with pytest.raises(OSError, match=says("netlink message")):
            sock.dump_again(RTM_GETADDR, b"")


def test_what_is_no_part_of_a_table_is_skipped(wire: Wire, sock: NetlinkSocket) -> None:
    wire.answer(route(b"old!", seq=7), numbered(DONE, 7))
    wire.answer(struct.pack("=IHHII", 16, 1, 0, TABLES, 0), route(b"1234"), END)
    assert bodies(sock.dump_again(RTM_GETADDR, b"")) == [b"1234"]
    wire.answer(route(b"1234"), struct.pack("=IHHII", 16, 4, 0, TABLES, 0))
    wire.answer(route(b"5678"), END)
    assert bodies(sock.dump_again(RTM_GETADDR, b"")) == [b"5678"]
    assert wire.opened == 2


# --- many requests that are alike --------------------------------------------------------------


def test_requests_that_are_alike_go_in_their_order_whatever_comes_of_one(
    wire: Wire, sock: NetlinkSocket
) -> None:
    wire.answer(numbered(BAD_PREFIX, TABLES + 1), numbered(NO_SUCH_DEVICE, TABLES + 1))
    wire.answer(numbered(ACK, 1))
    wire.answer(numbered(ACK, 2))
    alike = [(24, 0x400, b"head", 3, b"tail56"), (24, 0xC00, b"other", 0, b"")]
    fillings = [(0, b"%3d" % n) if n % 3 else (1, b"") for n in range(200)]
    sock.request_alike(alike, fillings)
    sent = wire.kernel.recv(65536) + wire.kernel.recv(65536)
    found = []
    while sent:
        length, kind, flags, seq, _ = struct.unpack_from("=IHHII", sent)
        found.append((kind, flags, seq, sent[16:length]))
        sent = sent[(length + 3) & ~3 :]
    due = [
        (24, 0x401, TABLES + 1, b"head%3dtail56" % n)
        if n % 3
        else (24, 0xC01, TABLES + 1, b"other")
        for n in range(200)
    ]
    # What is acknowledged is a message of no operation behind them.
    assert found == [*due[:128], (1, 5, 1, b""), *due[128:], (1, 5, 2, b"")]
    sock.request_alike(alike, [])
    assert wire.asked() == []


def test_requests_that_are_alike_and_cannot_be_sent(wire: Wire, sock: NetlinkSocket) -> None:
    wire.answer(numbered(NO_SUCH_DEVICE, 1))
    with pytest.raises(OSError, match="No such device"):
        sock.request_alike([(24, 0, b"", 1, b"")], [(0, b"x")])


def test_the_numbers_are_the_kernels() -> None:
    known = numbers("linux/netlink.h", "asm-generic/socket.h")
    ours = public(netlink, "NETLINK_", "NLM_F_", "NLMSG_", "SO_")
    assert {"NETLINK_ADD_MEMBERSHIP", "NETLINK_NETFILTER", "SO_RCVBUFFORCE"} <= ours.keys()
    assert ours.pop("NLM_F_DUMP") == known["NLM_F_ROOT"] | known["NLM_F_MATCH"]
    assert ours == {name: known[name] for name in ours}


def test_a_subscription_is_of_its_group_and_has_room() -> None:
    links = netlink.RTNLGRP_LINK
    with contextlib.closing(netlink.subscribed(netlink.NETLINK_ROUTE, links, 1 << 14)) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 1 << 14
        assert sock.getsockname()[1] == 1 << (links - 1)
    with pytest.raises(OSError, match="Invalid argument"):
        netlink.subscribed(netlink.NETLINK_ROUTE, 0)
