"""What ethtool sets, as generic netlink has it: questions, answers and requests.

Layouts and numbers: include/uapi/linux/ethtool_netlink.h.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from manactl.model.named_tuple import NamedTuple
from manactl.wire import genetlink as genl
from manactl.wire.attrs import as_str, attr, attr_str, attr_u32, iter_attrs, nest, parse_attrs

FAMILY = "ethtool"
_HEADER, _DEV_INDEX = 1, 1  # ETHTOOL_A_*_HEADER, ETHTOOL_A_HEADER_DEV_INDEX
_NO_MASK, _BITS, _BIT, _BIT_NAME, _BIT_VALUE = 1, 3, 1, 2, 3
_HEAD = 4  # struct genlmsghdr


class Group(NamedTuple):
    """Settings that one command reads and another sets. `words` are the numbers that can be set,
    by attribute, as `ethtool` calls them; `bits` the attribute of a set of named bits, and `among`
    that of one in which those are on that can be changed, where not all can. Of `every` bit one
    that is not listed is off: the kernel lists those that are on alone."""

    get: int
    set: int
    words: Mapping[int, str] = {}
    bits: int = 0
    among: int = 0
    every: tuple[str, ...] = ()


_COALESCE = (
    "rx-usecs rx-frames rx-usecs-irq rx-frames-irq tx-usecs tx-frames tx-usecs-irq tx-frames-irq "
    "stats-block-usecs adaptive-rx adaptive-tx pkt-rate-low rx-usecs-low rx-frames-low "
    "tx-usecs-low tx-frames-low pkt-rate-high rx-usecs-high rx-frames-high tx-usecs-high "
    "tx-frames-high sample-interval cqe-mode-tx cqe-mode-rx tx-aggr-max-bytes tx-aggr-max-frames "
    "tx-aggr-time-usecs"
)
# enum netif_msg_class, as ethtool calls them
_MESSAGES = (
    "drv probe link timer ifdown ifup rx_err tx_err tx_queued intr tx_done rx_status pktdata hw wol"
)
# In an order that drivers take: queues before their rings.
GROUPS = {
    "private flags": Group(13, 14, bits=2),
    "channels": Group(17, 18, {6: "rx", 7: "tx", 8: "other", 9: "combined"}),
    "rings": Group(15, 16, {6: "rx", 7: "rx-mini", 8: "rx-jumbo", 9: "tx", 10: "rx-buf-len"}),
    "coalesce": Group(19, 20, dict(enumerate(_COALESCE.split(), 2))),
    "pause": Group(21, 22, {2: "autoneg", 3: "rx", 4: "tx"}),
    "features": Group(11, 12, bits=3, among=2),
    "message level": Group(7, 8, bits=2, every=tuple(_MESSAGES.split())),
}


class Values(NamedTuple):
    """What one group has: numbers by attribute, as the kernel sends them, and named bits."""

    numbers: Mapping[int, bytes]
    bits: Mapping[str, bool]


def question(group: Group, ifindex: int) -> bytes:
    return genl.command(group.get, _device(ifindex))


def values(group: Group, body: bytes) -> Values:
    """From the answer to a question."""
    found = parse_attrs(body, _HEAD)
    numbers = {number: found[number] for number in group.words if number in found}
    bits = dict(_named(found.get(group.bits, b""))) if group.bits else {}
    bits = dict.fromkeys(group.every, False) | bits
    if group.among:
        among = _named(found.get(group.among, b""))
        bits = {name: bits.get(name, False) for name, can_change in among if can_change}
    return Values(numbers, bits)


def _named(bitset: bytes) -> Iterator[tuple[str, bool]]:
    """The bits that are in the mask; a bitset without a mask is a list of those that are on, and
    they have no value (ethnl_put_bitset32())."""
    found = parse_attrs(bitset)
    for _, bit in iter_attrs(found.get(_BITS, b"")):
        one = parse_attrs(bit)
        yield as_str(one.get(_BIT_NAME, b"")), _NO_MASK in found or _BIT_VALUE in one


def request(group: Group, ifindex: int, wanted: Values) -> bytes:
    """What sets these numbers and these bits, and no others."""
    found = [attr(number, raw) for number, raw in wanted.numbers.items()]
    if wanted.bits:
        found.append(nest(group.bits, nest(_BITS, *_packed(wanted.bits.items()))))
    return genl.command(group.set, _device(ifindex) + b"".join(found))


def _packed(bits: Iterable[tuple[str, bool]]) -> Iterator[bytes]:
    for name, on in bits:
        yield nest(_BIT, attr_str(_BIT_NAME, name), attr(_BIT_VALUE, b"") if on else b"")


def _device(ifindex: int) -> bytes:
    return nest(_HEADER, attr_u32(_DEV_INDEX, ifindex))
