"""What ethtool has set on a netdev, compared, and kept in JSON. Pure."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Self

from manactl.model.named_tuple import NamedTuple
from manactl.model.value import NONE, Value
from manactl.wire.attrs import as_int
from manactl.wire.ethtool import GROUPS, Values

# include/uapi/linux/ethtool.h: flow types whose hash fields (ETHTOOL_GRXFH) can be set.
FLOWS = {1: "tcp4", 2: "udp4", 3: "sctp4", 4: "ah4|esp4", 5: "tcp6", 6: "udp6", 7: "sctp6"}
_RSS = "RSS indirection, key and hash function"
# struct ethtool_rxfh without its command begins with context, entries of the table, bytes of the key;
# behind its 20 bytes are table and key.
_SIZES, _RXFH_SIZE = struct.Struct("=III"), 20
_NO_TABLE = struct.pack("=I", 0xFFFFFFFF)  # ETH_RXFH_INDIR_NO_CHANGE


class Ethtool(Value):
    """`groups` by the names in wire.ethtool; `rss` is struct ethtool_rxfh without its command, with
    indirection table and key; `hashed` the fields that are hashed, by flow type. What a driver has
    not is not there."""

    groups: Mapping[str, Values] = NONE
    rss: bytes | None = None
    hashed: Mapping[int, int] = NONE

    def to_json(self) -> dict[str, Any]:
        return {
            "groups": {
                name: {
                    "numbers": {str(n): _coded(raw) for n, raw in values.numbers.items()},
                    "bits": dict(values.bits),
                }
                for name, values in self.groups.items()
            },
            "rss": None if self.rss is None else _coded(self.rss),
            "hashed": {str(flow): fields for flow, fields in self.hashed.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            {
                name: Values(
                    {int(n): _decoded(raw) for n, raw in found["numbers"].items()},
                    {bit: bool(on) for bit, on in found["bits"].items()},
                )
                for name, found in data["groups"].items()
                if name in GROUPS
            },
            None if data["rss"] is None else _decoded(data["rss"]),
            {int(flow): int(fields) for flow, fields in data["hashed"].items()},
        )


def _coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


class Command(NamedTuple):
    """One thing to set: values of a group, the fields of a flow, or all of RSS."""

    text: str
    group: str = ""
    values: Values = Values({}, {})
    rss: bytes | None = None
    flow: int = 0
    fields: int = 0

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two of them the same, however they are worded."""
        numbers, bits = self.values
        values = frozenset(numbers.items()), frozenset(bits.items())
        return self.group, values, self.rss, self.flow, self.fields


def _rss_request(was: bytes, now: bytes) -> bytes:
    """Without the table where that is the same: once a table was set, the kernel has it for the
    administrator's (IFF_RXFH_CONFIGURED), and drivers fill in no other when queues change."""
    if len(was) < _RXFH_SIZE or was[: _SIZES.size] != now[: _SIZES.size]:
        return was
    _, entries, _ = _SIZES.unpack_from(was)
    end = _RXFH_SIZE + 4 * entries
    if was[_RXFH_SIZE:end] != now[_RXFH_SIZE:end]:
        return was
    return was[:4] + _NO_TABLE + was[8:_RXFH_SIZE] + was[end:]


def changes(was: Ethtool, now: Ethtool) -> Iterator[Command]:
    """What is to be set, in the order that drivers take. What is the same is not asked for: many
    drivers refuse what they cannot set, whatever its value."""
    for name, values in was.groups.items():
        have = now.groups.get(name)
        if have is None:
            continue
        numbers = {n: raw for n, raw in values.numbers.items() if have.numbers.get(n, raw) != raw}
        bits = {bit: on for bit, on in values.bits.items() if have.bits.get(bit, on) is not on}
        if numbers or bits:
            words = [f"{GROUPS[name].words[n]} {as_int(raw)}" for n, raw in numbers.items()]
            words += [f"{bit} {'on' if on else 'off'}" for bit, on in bits.items()]
            yield Command(f"{name}: {', '.join(words)}", name, Values(numbers, bits))
    if was.rss is not None and now.rss not in (None, was.rss):
        yield Command(_RSS, rss=_rss_request(was.rss, now.rss or b""))
    for flow, fields in was.hashed.items():
        if now.hashed.get(flow, fields) != fields:
            text = f"hash fields of {FLOWS.get(flow, flow)} {fields:#x}"
            yield Command(text, flow=flow, fields=fields)
