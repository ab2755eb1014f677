"""nftables rules, made by hand."""

from __future__ import annotations

import struct

import pytest

from manactl.wire import nft
from manactl.wire.nft import Sender
from tests.unit.look.kernel import attr
from tests.unit.wire.headers import numbers

NESTED = 0x8000


def big(value: int) -> bytes:
    return struct.pack("!I", value)


def expression(name: str, *fields: bytes) -> bytes:
    made = attr(1, name.encode() + b"\0") + attr(2 | NESTED, b"".join(fields))
    return attr(1 | NESTED, made)


def load(register: int, value: bytes) -> bytes:
    data = attr(2 | NESTED, attr(1, value))
    return expression("immediate", attr(1, big(register)), data)


def device(index: int, register: int = 1) -> bytes:
    return load(register, struct.pack("=I", index))


def fwd(register: int = 1) -> bytes:
    return expression("fwd", attr(1, big(register)))


def dup(to_device: int | None, to_address: int | None = None) -> bytes:
    fields = [] if to_address is None else [attr(1, big(to_address))]
    fields += [] if to_device is None else [attr(2, big(to_device))]
    return expression("dup", *fields)


def rule(family: int, *expressions: bytes) -> bytes:
    head = struct.pack("=BBH", family, 0, 0) + attr(1, b"t\0") + attr(2, b"c\0")
    return head + attr(3, bytes(8)) + attr(4 | NESTED, b"".join(expressions))


MATCH = expression("meta", attr(1, big(1)), attr(2, big(9)))


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (rule(5, MATCH, device(3), fwd()), [Sender("netdev t c", 3)]),
        (rule(5, device(3), dup(1), device(4), fwd()),
         [Sender("netdev t c", 3), Sender("netdev t c", 4)]),
        (rule(2, load(1, bytes([10, 0, 0, 9])), device(3, 2), dup(2, 1)), [Sender("ip t c", 3)]),
        (rule(10, load(1, bytes(16)), dup(None, 1)), []),  # routed: to whom, not by which device
        # A map has written the register.
        (rule(5, device(3), expression("lookup", attr(1, b"m\0")), fwd()),
         [Sender("netdev t c", None)]),
        (rule(5, MATCH, device(3)), []),
        (rule(9, device(3), fwd()), [Sender("9 t c", 3)]),
    ],
)  # fmt: skip
def test_what_a_rule_sends_elsewhere(body: bytes, found: list[Sender]) -> None:
    assert nft.senders(body) == found


def test_all_families_are_asked_for() -> None:
    assert nft.rules() == bytes(4)


def test_the_numbers_are_the_kernels() -> None:
    known = numbers("linux/netfilter/nfnetlink.h", "linux/netfilter/nf_tables.h")
    for name in (
        "NFTA_RULE_TABLE", "NFTA_RULE_CHAIN", "NFTA_RULE_EXPRESSIONS", "NFTA_EXPR_NAME",
        "NFTA_EXPR_DATA", "NFTA_IMMEDIATE_DREG", "NFTA_IMMEDIATE_DATA", "NFTA_DATA_VALUE",
        "NFTA_FWD_SREG_DEV", "NFTA_DUP_SREG_DEV",
    ):  # fmt: skip
        assert getattr(nft, name) == known[name], name
    assert known["NFNL_SUBSYS_NFTABLES"] << 8 | known["NFT_MSG_GETRULE"] == nft.NFT_MSG_GETRULE
