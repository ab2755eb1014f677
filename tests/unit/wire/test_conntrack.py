"""Entries of connection tracking, made by hand."""

from __future__ import annotations

import socket
import struct

import pytest

from manactl.wire import conntrack as ct
from manactl.wire.conntrack import Ends, Flow, What
from tests.unit.look.kernel import attr
from tests.unit.wire.headers import numbers, public

NESTED = 0x8000


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def tuple_of(kind: int, source: str, destination: str, proto: bytes = b"", shift: int = 0) -> bytes:
    first = 1 if ":" not in source else 3
    ips = attr(first, packed(source)) + attr(first + 1, packed(destination))
    return attr(kind | NESTED, attr(9, b"x") * shift + attr(1 | NESTED, ips) + proto)


def ports(number: int, source: int, destination: int) -> bytes:
    inner = attr(1, bytes([number]))
    if source:
        inner += attr(2, struct.pack("!H", source)) + attr(3, struct.pack("!H", destination))
    return attr(2 | NESTED, inner)


def entry(
    source: str, destination: str, answers_from: str, answers_to: str, *,
    number: int = 6, source_port: int = 40000, port: int = 7000, state: int | None = 3,
    shift: int = 0, mark: int | None = None, of: int = 1,
) -> bytes:  # fmt: skip
    """As the kernel writes it; `shift` puts something before the addresses, `of` is the attribute of
    the protocol's state."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    proto = ports(number, source_port, port)
    info = b"" if state is None else attr(4, attr(of, attr(1, bytes([state]))))
    return (
        struct.pack("=BBH", family, 0, 0)
        + tuple_of(1, source, destination, proto, shift)
        + tuple_of(2, answers_from, answers_to, ports(number, port, source_port), shift)
        + attr(3, b"\0\0\0\x0e")
        + info
        + (b"" if mark is None else attr(8, struct.pack("!I", mark)))
    )


NAT = ("172.17.0.2", "10.1.0.9", "10.1.0.9", "10.1.0.4")
NAT6 = ("fd17::2", "2001:db8:1::9", "2001:db8:1::9", "2001:db8:1::4")


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("addresses", [NAT, NAT6])
def test_the_four_addresses(addresses: tuple[str, str, str, str], shift: int) -> None:
    body = entry(*addresses, shift=shift)
    assert ct.ends(body) == Ends(*map(packed, addresses))


def test_an_entry_without_addresses_is_none() -> None:
    assert ct.ends(struct.pack("=BBH", 2, 0, 0) + attr(3, bytes(4)) + attr(4, bytes(4))) is None
    half = struct.pack("=BBH", 2, 0, 0) + tuple_of(1, "10.0.0.1", "10.0.0.2") + attr(3, bytes(8))
    assert ct.ends(half) is None


def test_a_broken_entry_is_an_error() -> None:
    with pytest.raises(ValueError, match="length"):
        ct.ends(struct.pack("=BBHHH", 2, 0, 0, 3, 3) + bytes(8))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (entry(*NAT), What("tcp", 40000, 7000, False)),
        (entry(*NAT, state=7), What("tcp", 40000, 7000, True)),
        (entry(*NAT, state=8), What("tcp", 40000, 7000, True)),
        (entry(*NAT, number=17, state=None), What("udp", 40000, 7000, False)),
        (entry(*NAT6, number=132, state=None), What("sctp", 40000, 7000, False)),
        (entry(*NAT, number=1, source_port=0, state=None), What("icmp", 0, 0, False)),
        (entry(*NAT, number=99, source_port=0, state=None), What("protocol 99", 0, 0, False)),
        (entry(*NAT, number=132, of=3, state=4), What("sctp", 40000, 7000, False)),
        (entry(*NAT, number=132, of=3, state=1), What("sctp", 40000, 7000, True)),  # closed
        (entry(*NAT, number=132, of=3, state=7), What("sctp", 40000, 7000, False)),
    ],
)
def test_protocol_ports_and_whether_it_is_over(body: bytes, expected: What) -> None:
    assert ct.what(body) == expected


def test_the_numbers_are_the_kernels() -> None:
    known = numbers(
        "linux/netfilter/nfnetlink_conntrack.h", "linux/netfilter/nf_conntrack_tcp.h",
        "linux/netfilter/nf_conntrack_sctp.h",
    )  # fmt: skip
    ours = public(ct, "CTA_", "TCP_", "SCTP_")
    assert ours == {name: known[name] for name in ours}
    known = numbers("linux/netfilter/nfnetlink.h", "linux/netfilter/nfnetlink_conntrack.h")
    assert known["NFNL_SUBSYS_CTNETLINK"] << 8 | known["IPCTNL_MSG_CT_GET"] == ct.CT_GET
    assert ct.dump(10) == b"\x0a\0\0\0"


def test_both_directions_and_the_mark() -> None:
    body = entry(*NAT, mark=0x1F)
    there, back = ct.flows(body, Ends(*map(packed, NAT)))
    assert there == Flow(6, packed(NAT[0]), 40000, packed(NAT[1]), 7000)
    assert back == Flow(6, packed(NAT[2]), 7000, packed(NAT[3]), 40000)
    assert (ct.mark(body), ct.mark(entry(*NAT))) == (0x1F, 0)
