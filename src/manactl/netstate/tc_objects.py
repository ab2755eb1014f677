"""Traffic control of one netdev below its qdiscs: classes and filters, to be made again. Pure.

They come back by the kernel's own messages. What a dump adds to a configuration (counters, ages,
whether the hardware has it) is left out, and two are the same by where they are and of which kind.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, Self, TypeVar

from manactl.model.named_tuple import NamedTuple
from manactl.netstate.requests import Request
from manactl.wire import if_link, tc
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import as_int, as_str, attr, attr_u32, parse_attrs
from manactl.wire.netlink import NLM_F_CREATE, NLM_F_EXCL

# Qdiscs whose classes somebody makes; those of others (prio, mq, ...) are there with the qdisc.
_CLASSFUL = frozenset({"htb", "hfsc", "drr", "qfq", "ets"})
# What counts, or tells of the hardware: TCA_STATS, XSTATS, RATE, STATS2, HW_OFFLOAD.
_COUNTED = frozenset({3, 4, 5, 7, 12})
# By kind of filter the attribute of its flags, of which some say what the hardware has taken, and
# include/uapi/linux/pkt_cls.h: SKIP_HW, SKIP_SW and VERBOSE, which a request may have.
_FLAGS = {"flower": 22, "u32": 11, "matchall": 3}
_SETTABLE = 0x13
_HEADS = {tc.RTM_NEWTCLASS: "class", tc.RTM_NEWTFILTER: "filter"}


class _Placed(Protocol):
    """A qdisc or a class."""

    @property
    def handle(self) -> int: ...
    @property
    def parent(self) -> int: ...


class TcObject(NamedTuple):
    """A class or a filter. `info` is a filter's priority and protocol; `attrs` what follows the
    header of its message. Of a filter `in_block` the parent is the number of a block, which several
    devices may share."""

    type: int
    handle: int
    parent: int
    info: int
    kind: str
    attrs: bytes
    in_block: bool = False

    @property
    def key(self) -> tuple[object, ...]:
        return self[:5]

    def describe(self) -> str:
        if self.type == tc.RTM_NEWTCLASS:
            return f"class {self.kind} {_handle(self.handle)} parent {_place(self.parent)}"
        place = f"block {self.parent}" if self.in_block else _place(self.parent)
        return f"filter {self.kind} pref {self.info >> 16} at {place}"

    def request(self, ifindex: int) -> Request:
        index = tc.IFINDEX_BLOCK if self.in_block else ifindex
        head = if_link.TCMSG.pack(0, index, self.handle, self.parent, self.info)
        return Request(self.type, NLM_F_CREATE | NLM_F_EXCL, head + self.attrs)

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "attrs": base64.b64encode(self.attrs).decode()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            int(data["type"]),
            int(data["handle"]),
            int(data["parent"]),
            int(data["info"]),
            str(data["kind"]),
            base64.b64decode(data["attrs"], validate=True),
            bool(data.get("in_block")),
        )


def _handle(handle: int) -> str:
    return f"{handle >> 16:x}:{handle & 0xFFFF:x}"


_PLACES = {if_link.TC_H_ROOT: "root", 0: "root", tc.TC_H_INGRESS: "ingress",
           tc.TC_H_MIN_INGRESS: "ingress", tc.TC_H_MIN_EGRESS: "egress"}  # fmt: skip


def _place(parent: int) -> str:
    return _PLACES.get(parent) or _handle(parent)


def classes(messages: Iterable[bytes]) -> tuple[TcObject, ...]:
    """The classes that somebody has made."""
    found = [_parse(tc.RTM_NEWTCLASS, body) for body in messages]
    # tcm_info is the number of the qdisc in the class, which is made for itself.
    return tuple(one._replace(info=0) for one in found if one.kind in _CLASSFUL)


def filters(messages: Iterable[bytes]) -> tuple[TcObject, ...]:
    """The filters; a dump has also one message for each priority, without a handle."""
    found = [_parse(tc.RTM_NEWTFILTER, body) for body in messages]
    return tuple(one for one in found if one.handle)


def _parse(number: int, body: bytes) -> TcObject:
    _, index, handle, parent, info = if_link.TCMSG.unpack_from(body)
    kind = as_str(parse_attrs(body, if_link.TCMSG.size).get(if_link.TCA_KIND, b""))
    kept = []
    for whole, payload in rt.split(body, if_link.TCMSG.size):
        which = rt.Attr(whole, payload).type
        if which == if_link.TCA_OPTIONS and number == tc.RTM_NEWTFILTER:
            kept.append(attr(whole, b"".join(_options(kind, payload))))
        elif which not in _COUNTED:
            kept.append(attr(whole, payload))
    in_block = index == tc.IFINDEX_BLOCK
    return TcObject(number, handle, parent, info, kind, b"".join(kept), in_block)


def _options(kind: str, options: bytes) -> Iterator[bytes]:
    for whole, payload in rt.split(options, 0):
        if rt.Attr(whole, payload).type == _FLAGS.get(kind):
            yield attr_u32(whole, as_int(payload) & _SETTABLE)
        else:
            yield attr(whole, payload)


Placed = TypeVar("Placed", bound=_Placed)


def in_order(objects: Sequence[Placed]) -> list[Placed]:
    """Qdiscs and classes, each after what it hangs on: a class on its qdisc, a qdisc on its class."""
    left, made = list(objects), list[Placed]()
    handles = {one.handle for one in objects}
    while left:
        there = {one.handle for one in made}
        ready = [
            one
            for one in left
            if one.parent not in handles - there
            and (one.handle & 0xFFFF == 0 or one.handle & 0xFFFF0000 not in handles - there)
            and (one.parent & 0xFFFF0000 not in handles - there or one.parent == if_link.TC_H_ROOT)
        ]
        ready = ready or left  # a ring: in the kernel's order
        made += ready
        left = [one for one in left if one not in ready]
    return made
