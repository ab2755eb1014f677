"""sock_diag's question for TCP sockets, with a filter that the kernel runs on each of them.

The filter is a little program (inet_diag_bc_run()): an operation that holds goes on to the next
one, one that does not jumps. A socket is reported when the end is reached exactly. Every operation
has to be on the way of those that hold, which the kernel checks (inet_diag_bc_audit()): hence the
jumps between. Layouts and numbers: include/uapi/linux/inet_diag.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection, Iterable

from manactl.model.named_tuple import NamedTuple
from manactl.wire.attrs import as_int, attr, parse_attrs

SOCK_DIAG_BY_FAMILY = 20
INET_DIAG_REQ_BYTECODE = 1
INET_DIAG_MARK = 15  # reported to CAP_NET_ADMIN alone
BC_JMP, BC_S_COND, BC_D_COND, BC_DEV_COND = 1, 7, 8, 9

_REQUEST = struct.Struct("=BBBxI")  # family, protocol, extensions, states; inet_diag_sockid follows
_SOCKID = 48
_MESSAGE = struct.Struct("=BBBB")  # family, state, timer, retransmits
_TAIL = struct.Struct("=IIIII")  # expires, rqueue, wqueue, uid, inode
_IFINDEX_AT = 4 + 36
_OP = struct.Struct("=BBH")  # code, yes, no: where to go on, in bytes from here
_IFINDEX = struct.Struct("=I")
_HOSTCOND = struct.Struct("=BBxxi")  # family, prefix length, port (-1: any); the address follows
# All but TIME_WAIT (6), CLOSE (7), LISTEN (10) and the pseudo state of request sockets.
LIVE = sum(1 << state for state in (1, 2, 3, 4, 5, 8, 9, 11))
CONNECTED, UNCONNECTED, LISTENING = 1 << 1, 1 << 7, 1 << 10  # ESTABLISHED, CLOSE, LISTEN
STATES = {1: "established", 2: "syn-sent", 3: "syn-recv", 4: "fin-wait-1", 5: "fin-wait-2",
          8: "close-wait", 9: "last-ack", 11: "closing"}  # fmt: skip

LOOPBACK = ((socket.inet_aton("127.0.0.0"), 8), (socket.inet_pton(socket.AF_INET6, "::1"), 128))


class Condition(NamedTuple):
    """`code` says which end of the connection has to be in the network `address`/`length`, and have
    that port number, if one is given."""

    code: int
    address: bytes
    length: int
    port: int = -1

    def pack(self) -> bytes:
        """Operation and operand; where it does not hold, over the jump that follows."""
        family = socket.AF_INET if len(self.address) == 4 else socket.AF_INET6
        operand = _HOSTCOND.pack(family, self.length, self.port) + self.address
        size = _OP.size + len(operand)
        return _OP.pack(self.code, size, size + _OP.size) + operand


class BoundTo(NamedTuple):
    """The socket has to be bound to that interface (SO_BINDTODEVICE, or a scope); 0: to none."""

    ifindex: int

    def pack(self) -> bytes:
        operand = _IFINDEX.pack(self.ifindex)
        size = _OP.size + len(operand)
        return _OP.pack(BC_DEV_COND, size, size + _OP.size) + operand


Asked = Condition | BoundTo


def local(addresses: Iterable[bytes]) -> list[Condition]:
    """Connections of one of these addresses; as IPv4 also those of IPv6 sockets over IPv4."""
    return [Condition(BC_S_COND, address, len(address) * 8) for address in addresses]


def serving(networks: Iterable[tuple[bytes, int]], port: int) -> list[Condition]:
    """Connections whose end here is in one of these networks and has that port."""
    return [Condition(BC_S_COND, address, length, port) for address, length in networks]


def peer(networks: Iterable[tuple[bytes, int]]) -> list[Condition]:
    return [Condition(BC_D_COND, address, length) for address, length in networks]


# For what fulfils no condition: to beyond the end.
_BEYOND = _OP.pack(BC_JMP, _OP.size, 2 * _OP.size)


def any_of(conditions: Collection[Asked], otherwise: bytes = _BEYOND) -> bytes:
    """The program for sockets that fulfil at least one, or for which `otherwise` holds."""
    return _chain(conditions, after=otherwise, to=0)


def none_of(conditions: Collection[Asked], but: bytes = b"", *, only: Asked | None = None) -> bytes:
    """The program for sockets that fulfil none, and for which the program `but` holds. Those that do
    not fulfil `only` are not asked for the conditions."""
    program = _chain(conditions, after=but, to=_OP.size)
    if only is None:
        return program
    asked = only.pack()
    code, size, _ = _OP.unpack_from(asked)
    over = size + len(program) - len(but)
    return _OP.pack(code, size, over) + asked[_OP.size :] + program


def _chain(conditions: Iterable[Asked], *, after: bytes, to: int) -> bytes:
    """Each condition with a jump behind it to the end, or `to` bytes beyond; then `after`."""
    program = after
    for condition in reversed(list(conditions)):
        jump = _OP.pack(BC_JMP, _OP.size, _OP.size + len(program) + to)
        program = condition.pack() + jump + program
    return program


def request(
    family: int, program: bytes, protocol: int = socket.IPPROTO_TCP, states: int = LIVE
) -> bytes:
    """The body of a SOCK_DIAG_BY_FAMILY dump of sockets in those states, of live TCP ones if not
    said otherwise; no program: of all of them."""
    body = _REQUEST.pack(family, protocol, 0, states) + bytes(_SOCKID)
    return body + attr(INET_DIAG_REQ_BYTECODE, program) if program else body


class TcpSocket(NamedTuple):
    """One answer. `bound` is the ifindex that the socket is bound to, or 0; addresses are packed,
    IPv4 ones in four bytes also of IPv6 sockets."""

    state: int
    local: bytes
    local_port: int
    peer: bytes
    peer_port: int
    bound: int
    inode: int
    mark: int
    uid: int = 0  # of who made it


def parse(body: bytes) -> TcpSocket:
    """struct inet_diag_msg: ports and addresses are in network order, the rest in ours."""
    family, state, _, _ = _MESSAGE.unpack_from(body)
    size = 4 if family == socket.AF_INET else 16
    sport, dport = struct.unpack_from("!HH", body, 4)
    (bound,) = struct.unpack_from("=I", body, _IFINDEX_AT)
    uid, inode = _TAIL.unpack_from(body, 4 + _SOCKID)[3:]
    more = parse_attrs(body, 4 + _SOCKID + _TAIL.size)
    return TcpSocket(
        state, _plain(body[8 : 8 + size]), sport, _plain(body[24 : 24 + size]), dport, bound,
        inode, as_int(more.get(INET_DIAG_MARK, b"")), uid,
    )  # fmt: skip


def _plain(address: bytes) -> bytes:
    mapped = len(address) == 16 and address[:12] == bytes(10) + b"\xff\xff"
    return address[12:] if mapped else address
