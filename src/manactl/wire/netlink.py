"""One netlink socket: requests, dumps, and the kernel's own words when it says no.

The kernel handles a request inside sendmsg() and a dump inside recvmsg(). A handler that waits
for a lock (RTNL behind a driver that hangs) therefore blocks there, and no time-out of ours can
cut that short: whoever must not wait runs the whole exchange in a process of its own.
"""

import _socket  # `socket` without its enums, which take longer to make than all exchanges here
import errno
import operator
import os
import struct
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Self

from manactl.model.named_tuple import NamedTuple
from manactl.wire.attrs import align, as_int, as_str, iter_attrs

NETLINK_ROUTE = 0
NETLINK_SOCK_DIAG = 4
NETLINK_NETFILTER = 12
NETLINK_RDMA = 20

KERNEL = 0  # the port id of the kernel's own sockets (nl_pid)

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300  # NLM_F_ROOT | NLM_F_MATCH
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200

NLMSG_NOOP = 1
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSG_OVERRUN = 4

SOL_NETLINK = 270  # include/linux/socket.h
NETLINK_ADD_MEMBERSHIP = 1  # include/uapi/linux/netlink.h, as are the next
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12
RTNLGRP_LINK = 1  # enum rtnetlink_groups
SO_RCVBUFFORCE = 33  # include/uapi/asm-generic/socket.h

_ERR_MSG, _ERR_OFFS, _ERR_MISS_TYPE = 1, 2, 5  # enum nlmsgerr_attrs

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_INT = struct.Struct("=i")

_ROOM = 1 << 17  # the kernel fills at most 32 KiB of a dump; a single answer may be larger
_RCVBUF = 1 << 20
_ANSWER_WITHIN = 10.0  # s without a message while no handler runs: the answer was lost
_DUMP_TRIES = 8
_SEQ_OF_TABLES = 0x80000000  # of each dump_again(), that equal tables have equal bytes
_SEQ_OF_ALIKE = 0x80000001
_RTM_BASE = 16  # the types below are those of netlink itself
_AT_ONCE = 128  # requests; errors of all of them fit into the receive buffer
_PADDING = (b"", bytes(3), bytes(2), bytes(1))  # behind a message, by the rest of its length


class Message(NamedTuple):
    """One answer without its nlmsghdr: `body` is family header plus attributes."""

    type: int
    body: bytes


class _Packet(NamedTuple):
    type: int
    flags: int
    seq: int
    body: bytes


class Datagram(NamedTuple):
    """A part of a dump, whole and taken apart. `error` comes with the `last` of them, when the
    dump has failed."""

    data: bytes
    bodies: list[bytes]
    last: bool = False
    error: _Packet | None = None


Table = tuple[Datagram, ...]


class DumpInterruptedError(OSError):
    """Every try of a dump was interrupted by changes: what was read may be inconsistent."""


def open_socket(family: int) -> _socket.socket:
    """A bound socket. It belongs to the network namespace of the thread that opened it."""
    sock = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, family)
    try:
        sock.bind((0, 0))
    except BaseException:
        sock.close()
        raise
    return sock


class NetlinkSocket:
    """A blocking netlink socket for one exchange at a time; not for sharing between threads.

    `strict` asks the kernel to check get requests and apply their filters (kernels 4.20 on;
    it is left out where missing). `opener` decides where the socket comes from, which is how
    a caller gets one in another network namespace.
    """

    def __init__(
        self,
        family: int,
        *,
        strict: bool = True,
        opener: Callable[[int], _socket.socket] = open_socket,
    ) -> None:
        self._family = family
        self._strict = strict
        self._opener = opener
        self._seq = 0
        self._mid_dump = False  # a dump has begun, and its end was not read
        self._sock = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._sock.close()

    def request(self, kind: int, flags: int = 0, body: bytes = b"") -> list[Message]:
        """Send one request and return the answers that came before its acknowledgement.

        NLM_F_REQUEST and NLM_F_ACK are added. OSError carries the kernel's errno, and in
        strerror its extended-ack message. After ENOBUFS (the answer did not fit into the
        receive buffer) it is not known whether the request was carried out.
        """
        seq = self._send(kind, flags | NLM_F_REQUEST | NLM_F_ACK, body)
        answers: list[Message] = []
        for packet in self._packets((seq,)):
            if packet.type == NLMSG_ERROR:
                _raise_error(packet)
                return answers
            answers.append(Message(packet.type, packet.body))
        raise AssertionError("unreachable: _packets() ends by return or raise of its caller")

    def request_all(self, requests: Sequence[tuple[int, int, bytes]]) -> list[OSError | None]:
        """Send requests (type, flags, body), and tell of each what the kernel said against it.

        Many go in one sendmsg(), which the kernel carries out in their order
        (netlink_rcv_skb()); an error of one does not keep it from the next.
        """
        found: list[OSError | None] = []
        for at in range(0, len(requests), _AT_ONCE):
            found += self._request_some(requests[at : at + _AT_ONCE])
        return found

    def _request_some(self, requests: Sequence[tuple[int, int, bytes]]) -> list[OSError | None]:
        first = seq = self._seq + 1
        last = self._seq = self._seq + len(requests)
        parts = []
        for kind, flags, body in requests:
            length = _HEADER.size + len(body)
            # An error is told without being asked for (netlink_rcv_skb()), and in its turn.
            asked = flags | (NLM_F_REQUEST | NLM_F_ACK if seq == last else NLM_F_REQUEST)
            parts += [_HEADER.pack(length, kind, asked, seq, 0), body, _PADDING[length & 3]]
            seq += 1
        self._renew()
        self._sock.send(b"".join(parts))
        errors: list[OSError | None] = [None] * len(requests)
        for packet in self._packets(range(first, last + 1)):
            if packet.type == NLMSG_ERROR:
                try:
                    _raise_error(packet)
                except OSError as error:
                    errors[packet.seq - first] = error
                if packet.seq == last:
                    return errors
        raise AssertionError("unreachable: _packets() ends by return or raise of its caller")

    def request_alike(
        self,
        alike: Sequence[tuple[int, int, bytes, int, bytes]],
        fillings: Iterable[tuple[int, bytes]],
    ) -> None:
        """Send requests in their order, each by its place in `alike` (type, flags, and the body
        before, for how many bytes, and after what fills it) and what fills it. Errors of single
        ones are not told apart, and not reported: the caller looks what has come of them. OSError
        when the exchange itself fails."""
        frames = []
        for kind, flags, before, size, after in alike:
            length = _HEADER.size + len(before) + size + len(after)
            # One number for all: nobody tells them apart.
            head = _HEADER.pack(length, kind, flags | NLM_F_REQUEST, _SEQ_OF_ALIKE, 0)
            frames.append((head + before, after + _PADDING[length & 3]))
        parts: list[bytes] = []
        for at, filling in fillings:
            head, tail = frames[at]
            parts += (head, filling, tail)
            if len(parts) == 3 * _AT_ONCE:
                self._send_parts(parts)
                parts = []
        if parts:
            self._send_parts(parts)

    def _send_parts(self, parts: Sequence[bytes]) -> None:
        """Behind them a message of no operation asks for the one acknowledgement
        (netlink_rcv_skb())."""
        seq = self._seq = self._seq + 1
        end = _HEADER.pack(_HEADER.size, NLMSG_NOOP, NLM_F_REQUEST | NLM_F_ACK, seq, 0)
        self._renew()
        self._sock.send(b"".join((*parts, end)))
        for packet in self._packets((seq,)):
            if packet.type == NLMSG_ERROR:
                _raise_error(packet)
                return

    def dump(self, kind: int, body: bytes = b"", *, tries: int = _DUMP_TRIES) -> list[Message]:
        """Read a whole table, again from the start when it changed meanwhile.

        The kernel marks such a dump by NLM_F_DUMP_INTR and would let entries be missing or
        doubled. Raises DumpInterruptedError (EINTR) when `tries` dumps in a row were marked.
        However this is left, by a signal's exception too, the socket can be used again.
        """
        for _ in range(tries):
            try:
                answers = self._dump_once(kind, body)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            if answers is not None:
                return answers
        raise DumpInterruptedError(errno.EINTR, f"dump interrupted {tries} times by changes")

    def dump_again(
        self, kind: int, body: bytes, before: Table | None = None, *, tries: int = _DUMP_TRIES
    ) -> Table:
        """dump() of a table whose messages are of one type, as the kernel has sent it. What is as
        it was `before`, in an earlier dump by this socket, is not taken apart again; where all is,
        the earlier table is returned itself."""
        for _ in range(tries):
            try:
                found = self._table_once(kind, body, before)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            if found is not None:
                same = before is not None and len(found) == len(before)
                if same and all(map(operator.is_, found, before or ())):
                    return before or found
                return found
        raise DumpInterruptedError(errno.EINTR, f"dump interrupted {tries} times by changes")

    def _table_once(self, kind: int, body: bytes, before: Table | None) -> Table | None:
        seq = self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, body, dump=True, seq=_SEQ_OF_TABLES)
        found: list[Datagram] = []
        interrupted = False
        known = iter(before or ())
        while True:
            data = self._receive()
            one = next(known, None)
            if one is None or one.data != data:
                one, marked = _datagram(data, seq)
                interrupted |= marked
            found.append(one)
            if one.last:
                self._mid_dump = False
                if one.error is not None:
                    _raise_error(one.error)
                return None if interrupted else tuple(found)

    def _dump_once(self, kind: int, body: bytes) -> list[Message] | None:
        seq = self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, body, dump=True)
        answers: list[Message] = []
        make = Message._make
        interrupted = False
        while True:
            for packet in _split(self._receive()):
                of, flags, answered, rest = packet
                if of == NLMSG_OVERRUN:
                    raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
                if answered != seq or of == NLMSG_NOOP:
                    continue
                if flags & NLM_F_DUMP_INTR:
                    interrupted = True
                if of in (NLMSG_ERROR, NLMSG_DONE):
                    self._mid_dump = False
                    _raise_error(_Packet(*packet))
                    return None if interrupted else answers
                answers.append(make((of, rest)))

    def _open(self) -> _socket.socket:
        sock = self._opener(self._family)
        sock.settimeout(_ANSWER_WITHIN)
        _prefer(sock, SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        _prefer(sock, SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        if self._strict:
            _prefer(sock, SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        if not _prefer(sock, _socket.SOL_SOCKET, SO_RCVBUFFORCE, _RCVBUF):
            _prefer(sock, _socket.SOL_SOCKET, _socket.SO_RCVBUF, _RCVBUF)
        return sock

    def _send(
        self, kind: int, flags: int, body: bytes, *, dump: bool = False, seq: int | None = None
    ) -> int:
        self._renew()
        self._mid_dump = dump
        if seq is None:
            seq = self._seq = self._seq + 1
        self._sock.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, seq, 0) + body)
        return seq

    def _renew(self) -> None:
        """The kernel refuses a second dump with EBUSY until the first is read to its end, and of
        one that overran the end may be lost: only a new socket is clean."""
        if self._mid_dump:
            self._sock.close()
            self._sock = self._open()
            self._mid_dump = False

    def _packets(self, seqs: Container[int]) -> Iterator[_Packet]:
        """Packets that answer `seqs`; leftovers of earlier exchanges are skipped, and whatever
        another process sends: only the kernel has the port id 0."""
        while True:
            for answer in _split(self._receive()):
                packet = _Packet(*answer)
                if packet.type == NLMSG_OVERRUN:
                    raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
                if packet.seq in seqs and packet.type != NLMSG_NOOP:
                    yield packet

    def _receive(self) -> bytes:
        """The kernel's next messages."""
        while True:
            data, _, flags, (sender, _) = self._sock.recvmsg(_ROOM)
            if sender != KERNEL:
                continue
            if flags & _socket.MSG_TRUNC:
                raise OSError(errno.EMSGSIZE, f"netlink answer larger than {_ROOM} bytes")
            if not data:
                raise OSError(errno.ECONNRESET, "netlink socket closed")
            return data


def _datagram(data: bytes, seq: int) -> tuple[Datagram, bool]:
    """A datagram of the dump with that number, and whether the dump is marked as interrupted."""
    if (bodies := _alike(data, seq)) is not None:
        return Datagram(data, bodies), False
    bodies = []
    interrupted = False
    for packet in map(_Packet._make, _split(data)):
        if packet.type == NLMSG_OVERRUN:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        if packet.seq != seq or packet.type == NLMSG_NOOP:
            continue
        interrupted |= bool(packet.flags & NLM_F_DUMP_INTR)
        if packet.type in (NLMSG_ERROR, NLMSG_DONE):
            return Datagram(data, bodies, last=True, error=packet), interrupted
        bodies.append(packet.body)
    return Datagram(data, bodies), interrupted


def _alike(data: bytes, seq: int) -> list[bytes] | None:
    """The bodies of a datagram whose messages differ in their length and body alone, and none of
    which tells of an end or an interruption; None for any other.

    The rest of the header parts them, by the interpreter's own search: where the same bytes are in
    a body too, or a message is padded, the lengths do not fit.
    """
    if len(data) < _HEADER.size:
        return None
    rest = data[4 : _HEADER.size]
    _, kind, flags, answered, _ = _HEADER.unpack_from(data)
    if kind < _RTM_BASE or flags & NLM_F_DUMP_INTR or answered != seq:
        return None
    if (bodies := _of_one_length(data)) is not None:
        return bodies
    first, *pieces = data.split(rest)
    last = pieces.pop()
    bodies = [piece[:-4] for piece in pieces]
    bodies.append(last)
    lengths = b"".join([first, *(piece[-4:] for piece in pieces)])
    if len(lengths) != 4 * len(bodies):
        return None
    due = struct.unpack(f"={len(bodies)}I", lengths)
    return bodies if due == tuple([len(body) + _HEADER.size for body in bodies]) else None


def _of_one_length(data: bytes) -> list[bytes] | None:
    """The bodies of a datagram whose messages have equal headers, as nearly all of a full table
    have; None for any other. Where one begins follows from the length of those before it: what is
    equal there is a header."""
    length = int.from_bytes(data[:4], sys.byteorder)
    step = align(length)
    if length < _HEADER.size or len(data) % step:
        return None
    for at in range(_HEADER.size):
        if data[at::step].strip(data[at : at + 1]):
            return None
    form = f"{_HEADER.size}x{length - _HEADER.size}s{step - length}x"
    return [body for (body,) in struct.iter_unpack(form, data)]


def messages(data: bytes) -> Iterator[Message]:
    """The messages of a datagram, whatever they answer. OSError (EBADMSG) when it is broken."""
    return (Message(kind, body) for kind, _, _, body in _split(data))


def _split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """What _Packet has, as plain tuples: a dump of a full table has a hundred thousand."""
    offset, end, size, unpack = 0, len(data), _HEADER.size, _HEADER.unpack_from
    while offset + size <= end:
        length, kind, flags, seq, _ = unpack(data, offset)
        after = offset + length
        if length < size or after > end:
            raise OSError(errno.EBADMSG, f"netlink message of {length} bytes at {offset}")
        yield kind, flags, seq, data[offset + size : after]
        offset = (after + 3) & ~3
    if offset < end:
        raise OSError(errno.EBADMSG, f"{end - offset} bytes behind the last netlink message")


def _raise_error(packet: _Packet) -> None:
    """Raise what an NLMSG_ERROR or NLMSG_DONE reports; zero is an acknowledgement."""
    code = -_INT.unpack_from(packet.body)[0] if len(packet.body) >= _INT.size else 0
    if code == 0:
        return
    text = os.strerror(code)
    if words := _extended_ack(packet):
        text = f"{text} ({words})"
    raise OSError(code, text)


def _extended_ack(packet: _Packet) -> str:
    if not packet.flags & NLM_F_ACK_TLVS:
        return ""
    start = _INT.size
    if packet.type == NLMSG_ERROR:
        # The refused request follows: its header alone when capped, else all of it.
        sent = _HEADER.unpack_from(packet.body, start)[0]
        start += _HEADER.size if packet.flags & NLM_F_CAPPED else align(sent)
    words: list[str] = []
    for kind, payload in iter_attrs(packet.body, start):
        if kind == _ERR_MSG:
            words.insert(0, as_str(payload))
        elif kind == _ERR_OFFS:
            words.append(f"at byte {as_int(payload)} of the request")
        elif kind == _ERR_MISS_TYPE:
            words.append(f"attribute {as_int(payload)} is missing")
    return ", ".join(words)


def subscribed(family: int, group: int, rcvbuf: int | None = None) -> _socket.socket:
    """A socket that hears what the kernel announces to a group, and never blocks; it has room for
    `rcvbuf` bytes, or as much of that as an unprivileged caller gets. OSError when the kernel does
    not give it."""
    kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
    sock = _socket.socket(_socket.AF_NETLINK, kind, family)
    try:
        if rcvbuf is not None:
            level = _socket.SOL_SOCKET
            if not _prefer(sock, level, SO_RCVBUFFORCE, rcvbuf):
                sock.setsockopt(level, _socket.SO_RCVBUF, rcvbuf)
        sock.bind((0, 0))
        sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    except BaseException:
        sock.close()
        raise
    return sock


def _prefer(sock: _socket.socket, level: int, option: int, value: int) -> bool:
    """Set an option that an older kernel or an unprivileged caller may not have."""
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        return False
    return True
