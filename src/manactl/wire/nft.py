"""nftables rules, as far as they send packets out by a device of their choice: `fwd`, `dup`.

Numbers: include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h.
"""

from __future__ import annotations

import struct

from manactl.model.named_tuple import NamedTuple
from manactl.wire.attrs import as_int, as_str, iter_attrs, parse_attrs

NFT_MSG_GETRULE = (10 << 8) | 7  # NFNL_SUBSYS_NFTABLES
NFTA_RULE_TABLE, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS = 1, 2, 4
NFTA_EXPR_NAME, NFTA_EXPR_DATA = 1, 2
NFTA_IMMEDIATE_DREG, NFTA_IMMEDIATE_DATA, NFTA_DATA_VALUE = 1, 2, 1
NFTA_FWD_SREG_DEV, NFTA_DUP_SREG_DEV = 1, 2

_NFGEN = struct.Struct("=BBH")
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_SENDS = {"fwd": NFTA_FWD_SREG_DEV, "dup": NFTA_DUP_SREG_DEV}


class Sender(NamedTuple):
    """A chain with a rule that sends packets by a device; None: one that a map tells."""

    chain: str
    ifindex: int | None


def rules() -> bytes:
    """The body of a dump of the rules of all families."""
    return _NFGEN.pack(0, 0, 0)


def senders(body: bytes) -> list[Sender]:
    """What one rule sends elsewhere."""
    if b"fwd\0" not in body and b"dup\0" not in body:
        return []  # nearly all rules, and there may be many
    attrs = parse_attrs(body, _NFGEN.size)
    names = (as_str(attrs.get(kind, b"")) for kind in (NFTA_RULE_TABLE, NFTA_RULE_CHAIN))
    chain = " ".join([_FAMILIES.get(body[0], str(body[0])), *names])
    held: dict[bytes, int | None] = {}  # by register
    found = []
    for _, expression in iter_attrs(attrs.get(NFTA_RULE_EXPRESSIONS, b"")):
        parts = parse_attrs(expression)
        name, data = as_str(parts.get(NFTA_EXPR_NAME, b"")), parts.get(NFTA_EXPR_DATA, b"")
        fields = parse_attrs(data)
        if name == "immediate":
            value = parse_attrs(fields.get(NFTA_IMMEDIATE_DATA, b"")).get(NFTA_DATA_VALUE)
            number = as_int(value) if value is not None and len(value) == 4 else None
            held[fields.get(NFTA_IMMEDIATE_DREG, b"")] = number
        elif name in _SENDS and (register := fields.get(_SENDS[name])) is not None:
            found.append(Sender(chain, held.get(register)))
        elif name not in _SENDS:
            held.clear()  # it may have written to any register
    return found
