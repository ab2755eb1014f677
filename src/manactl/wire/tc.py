"""Traffic control, as far as packets of one device are sent by another: action mirred.

Layouts and numbers: include/uapi/linux/{rtnetlink,pkt_cls,pkt_sched,tc_act/tc_mirred}.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from manactl.wire.attrs import as_int, as_str, attr_str, iter_attrs, nest, parse_attrs

RTM_GETACTION, RTM_GETQDISC, RTM_GETTFILTER = 50, 38, 46
RTM_NEWTCLASS, RTM_GETTCLASS, RTM_NEWTFILTER = 40, 42, 44
TCA_ACT_TAB, TCA_ACT_KIND, TCA_ACT_OPTIONS = 1, 1, 2
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_MIRRED_PARMS = 2
BLOCKS = (13, 14)  # TCA_INGRESS_BLOCK, TCA_EGRESS_BLOCK
IFINDEX_BLOCK = -1  # TCM_IFINDEX_MAGIC_BLOCK: the parent is the number of a block
TC_H_ROOT, TC_H_INGRESS = 0, 0xFFFF0000  # parents of filters
TC_H_CLSACT = 0xFFFFFFF1
TC_H_MIN_INGRESS, TC_H_MIN_EGRESS = 0xFFFFFFF2, 0xFFFFFFF3

_TCAMSG = struct.Struct("=Bxxx")
_TCMSG = struct.Struct("=BxxxiIII")  # family, ifindex, handle, parent, info
_BINDCNT_AT, _IFINDEX_AT = 16, 24  # in struct tc_mirred
_MIRRED = "mirred"


def actions() -> bytes:
    """The body of a dump of all mirred actions."""
    return _TCAMSG.pack(0) + nest(TCA_ACT_TAB, nest(1, attr_str(TCA_ACT_KIND, _MIRRED)))


def qdiscs() -> bytes:
    """The body of a dump of the qdiscs of all devices."""
    return _TCMSG.pack(0, 0, 0, 0, 0)


def filters(ifindex: int, parent: int) -> bytes:
    """The body of a dump of the filters at one place of a device."""
    return _TCMSG.pack(0, ifindex, 0, parent, 0)


def classes(ifindex: int) -> bytes:
    """The body of a dump of the classes of a device."""
    return _TCMSG.pack(0, ifindex, 0, 0, 0)


def device(body: bytes) -> tuple[int, int]:
    """The ifindex of a qdisc or filter, and a qdisc's handle."""
    _, ifindex, handle, _, _ = _TCMSG.unpack_from(body)
    return ifindex, handle


def targets_of_actions(body: bytes) -> set[int]:
    """The devices that the actions in one answer send packets to, if a filter has them."""
    found: set[int] = set()
    for kind, table in iter_attrs(body, _TCAMSG.size):
        if kind == TCA_ACT_TAB:
            found |= {to for to, bound in _targets(table) if bound}
    return found


def targets_of_filter(body: bytes) -> set[int]:
    """The devices that a filter sends packets to. Each kind of filter has its actions in another
    attribute; where something else is there, it is none."""
    found: set[int] = set()
    options = parse_attrs(body, _TCMSG.size).get(TCA_OPTIONS, b"")
    for _, payload in iter_attrs(options):
        try:
            found |= {to for to, _ in _targets(payload)}
        except ValueError:
            continue
    return found


def _targets(table: bytes) -> Iterator[tuple[int, int]]:
    """Each action's device, and how many filters have it."""
    for _, action in iter_attrs(table):
        attrs = parse_attrs(action)
        if as_str(attrs.get(TCA_ACT_KIND, b"")) == _MIRRED:
            parms = parse_attrs(attrs.get(TCA_ACT_OPTIONS, b"")).get(TCA_MIRRED_PARMS, b"")
            bound = as_int(parms[_BINDCNT_AT : _BINDCNT_AT + 4])
            yield as_int(parms[_IFINDEX_AT : _IFINDEX_AT + 4]), bound
