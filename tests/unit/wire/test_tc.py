"""Actions and filters of traffic control, made by hand."""

from __future__ import annotations

import struct

from manactl.wire import tc
from tests.unit.look.kernel import attr
from tests.unit.wire.headers import numbers

MATCHALL_ACT, U32_ACT, NESTED = 2, 7, 0x8000


def mirred(to: int, kind: str = "mirred", bound: int = 1) -> bytes:
    """struct tc_mirred: tc_gen (20 bytes), eaction, ifindex."""
    parms = struct.pack("=IIiiiiI", 1, 0, 4, 1, bound, 1, to)
    options = attr(1, bytes(32)) + attr(2, parms)
    return attr(1, kind.encode() + b"\0") + attr(4, bytes(8)) + attr(2 | NESTED, options)


def table(*actions: bytes) -> bytes:
    return b"".join(attr(number, one) for number, one in enumerate(actions, 1))


def filter_(index: int, kind: str, at: int, actions: bytes, more: bytes = b"") -> bytes:
    head = struct.pack("=BxxxiIII", 0, index, 1, 0xFFFFFFF2, 0)
    return head + attr(1, kind.encode() + b"\0") + attr(2 | NESTED, more + attr(at, actions))


def test_actions_are_asked_for_by_kind() -> None:
    assert tc.actions() == bytes(4) + attr(1 | NESTED, attr(1 | NESTED, attr(1, b"mirred\0")))
    answer = bytes(4) + attr(1 | NESTED, table(mirred(3), mirred(4))) + attr(4, bytes(4))
    assert tc.targets_of_actions(answer) == {3, 4}
    assert tc.targets_of_actions(bytes(4)) == set()
    idle = bytes(4) + attr(1 | NESTED, table(mirred(3, bound=0)))
    assert tc.targets_of_actions(idle) == set()


def test_filters_are_asked_for_by_device_and_parent() -> None:
    assert tc.filters(3, 7) == struct.pack("=IiIII", 0, 3, 0, 7, 0)
    assert tc.device(struct.pack("=IiIII", 0, 3, 0x10000, 7, 0)) == (3, 0x10000)


def test_the_targets_of_a_filter_wherever_its_kind_has_them() -> None:
    odd = attr(1, b"\3\0") + attr(3, struct.pack("=HH", 99, 1)) + attr(5, bytes(16))
    for kind, at in (("matchall", MATCHALL_ACT), ("u32", U32_ACT)):
        body = filter_(2, kind, at, table(mirred(9, "gact"), mirred(3)), odd)
        assert tc.targets_of_filter(body) == {3}
    assert (
        tc.targets_of_filter(filter_(2, "matchall", MATCHALL_ACT, table(mirred(3, "skb")))) == set()
    )
    assert tc.targets_of_filter(struct.pack("=IiIII", 0, 3, 0, 7, 0)) == set()


def test_the_numbers_are_the_kernels() -> None:
    known = numbers(
        "linux/rtnetlink.h", "linux/pkt_cls.h", "linux/pkt_sched.h", "linux/tc_act/tc_mirred.h"
    )
    for name in (
        "RTM_GETACTION", "RTM_GETQDISC", "RTM_GETTFILTER", "TCA_ACT_KIND", "TCA_ACT_OPTIONS",
        "TCA_KIND", "TCA_OPTIONS", "TCA_MIRRED_PARMS",
    ):  # fmt: skip
        assert known[name] == getattr(tc, name), name
