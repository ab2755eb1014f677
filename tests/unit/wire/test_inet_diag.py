"""The filter for sockets, run here by the rules of inet_diag_bc_run(), and answers taken apart."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manactl.model.named_tuple import NamedTuple
from manactl.wire import inet_diag as diag
from manactl.wire.inet_diag import Condition, TcpSocket
from tests.unit.wire.headers import numbers
from tests.unit.wire.socket_filter import audit, holds, packed

MINE, YOURS = "10.0.0.2", "192.0.2.9"


ADDRESSES = st.sampled_from([MINE, YOURS, "10.0.0.3", "2001:db8::1", "2001:db8::2", "127.0.0.9"])


@given(st.lists(ADDRESSES, max_size=5), ADDRESSES, ADDRESSES)
def test_filters_say_what_was_asked(own: list[str], local: str, peer: str) -> None:
    conditions = [*diag.local(map(packed, own)), *diag.peer(diag.LOOPBACK)]
    fulfilled = local in own or peer == "127.0.0.9"
    for program, expected in (
        (diag.any_of(conditions), fulfilled),
        (diag.none_of(conditions), not fulfilled),
    ):
        audit(program)
        assert holds(program, local, peer) is expected


class Named(NamedTuple):
    """What a filter names, and the interfaces that sockets are bound to."""

    mine: list[str]
    own: list[str]
    near: list[str]
    ports: list[int]


SOME = st.lists(ADDRESSES, max_size=3)
NAMED = st.builds(Named, SOME, SOME, SOME, st.lists(st.sampled_from([3, 4]), max_size=2))


@given(NAMED, ADDRESSES, ADDRESSES, st.sampled_from([0, 3, 4]))
def test_filters_in_filters(named: Named, local: str, peer: str, bound: int) -> None:
    def to(addresses: list[str]) -> list[Condition]:
        return diag.peer((packed(one), len(packed(one)) * 8) for one in addresses)

    sure = [*diag.local(map(packed, named.mine)), *map(diag.BoundTo, named.ports)]
    rest = diag.none_of(to(named.own), diag.any_of(to(named.near)), only=diag.BoundTo(0))
    program = diag.any_of(sure, rest)
    audit(program)
    taken = bound == 0 and peer in named.own
    expected = local in named.mine or bound in named.ports or (not taken and peer in named.near)
    assert holds(program, local, peer, bound) is expected


def test_a_network_is_compared_by_its_prefix() -> None:
    program = diag.any_of([Condition(diag.BC_D_COND, packed("10.1.0.0"), 16)])
    assert holds(program, MINE, "10.1.255.1")
    assert not holds(program, MINE, "10.2.0.1")


def test_the_request() -> None:
    body = diag.request(socket.AF_INET6, b"")
    family, protocol, extensions, states = struct.unpack_from("=BBBxI", body)
    assert (family, protocol, extensions, len(body)) == (10, 6, 0, 56)
    named = {1, 2, 3, 4, 5, 8, 9, 11}
    assert {n for n in range(32) if states >> n & 1} == named == set(diag.STATES)
    assert diag.request(socket.AF_INET, b"program.")[56:] == struct.pack("=HH", 12, 1) + b"program."


def test_other_sockets_are_asked_for_by_protocol_and_states() -> None:
    body = diag.request(socket.AF_INET, b"", socket.IPPROTO_UDP, diag.UNCONNECTED)
    assert struct.unpack_from("=BBBxI", body) == (2, 17, 0, 1 << 7)
    assert (diag.CONNECTED, diag.LISTENING) == (1 << 1, 1 << 10)


def test_numbers_are_the_kernels() -> None:
    theirs = numbers("linux/sock_diag.h", "linux/inet_diag.h")
    for ours, name in (
        (diag.SOCK_DIAG_BY_FAMILY, "SOCK_DIAG_BY_FAMILY"),
        (diag.INET_DIAG_REQ_BYTECODE, "INET_DIAG_REQ_BYTECODE"),
        (diag.INET_DIAG_MARK, "INET_DIAG_MARK"),
        (diag.BC_JMP, "INET_DIAG_BC_JMP"),
        (diag.BC_S_COND, "INET_DIAG_BC_S_COND"),
        (diag.BC_D_COND, "INET_DIAG_BC_D_COND"),
        (diag.BC_DEV_COND, "INET_DIAG_BC_DEV_COND"),
    ):
        assert ours == theirs[name]


@pytest.mark.parametrize(
    ("family", "raw", "expected"),
    [
        (2, packed("10.0.0.2") + bytes(12), packed("10.0.0.2")),
        (10, packed("2001:db8::2"), packed("2001:db8::2")),
        (10, packed("::ffff:10.0.0.2"), packed("10.0.0.2")),
        (10, packed("::fffe:10.0.0.2"), packed("::fffe:10.0.0.2")),
    ],
)
@pytest.mark.parametrize("mark", [None, 77])
def test_answers(family: int, raw: bytes, expected: bytes, mark: int | None) -> None:
    body = struct.pack("=BBBB", family, 8, 1, 2) + struct.pack("!HH", 22, 4444) + raw + raw[::-1]
    body = body[:24] + (packed(YOURS) + bytes(12) if family == 2 else packed("2001:db8::9"))
    body += struct.pack("=III", 5, 0xAAAA, 0xBBBB) + struct.pack("=IIIII", 1, 2, 3, 4, 99)
    body += b"" if mark is None else struct.pack("=HHI", 8, 15, mark)
    peer = packed(YOURS if family == 2 else "2001:db8::9")
    assert diag.parse(body) == TcpSocket(8, expected, 22, peer, 4444, 5, 99, mark or 0, 4)
