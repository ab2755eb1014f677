"""Classes and filters: what of a dump is configuration, and in which order they are made."""

from __future__ import annotations

import json
import struct

from manactl.netstate.link_settings import LinkSettings, Qdisc, changes, qdiscs
from manactl.netstate.tc_objects import TcObject, classes, filters, in_order

ROOT = 0xFFFFFFFF
NEWTCLASS, NEWTFILTER = 40, 44
KIND, OPTIONS, STATS, XSTATS, RATE, STATS2, CHAIN = 1, 2, 3, 4, 5, 7, 11


def attr(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def message(handle: int, parent: int, info: int, kind: str, *more: bytes) -> bytes:
    head = struct.pack("=BxxxiIII", 0, 3, handle, parent, info)
    return head + attr(KIND, kind.encode() + b"\0") + b"".join(more)


def test_counters_and_the_number_of_the_inner_qdisc_are_not_kept_of_a_class() -> None:
    counted = [attr(kind, b"1234") for kind in (STATS, XSTATS, RATE, STATS2)]
    body = message(0x10001, ROOT, 0x70000, "htb", *counted, attr(OPTIONS, b"abcd"))
    (found,) = classes([body])
    assert found.key == (NEWTCLASS, 0x10001, ROOT, 0, "htb")
    assert found.attrs == attr(KIND, b"htb\0") + attr(OPTIONS, b"abcd")
    request = found.request(7)
    assert (request.type, request.flags) == (NEWTCLASS, 0x600)
    assert request.body[:20] == struct.pack("=BxxxiIII", 0, 7, 0x10001, ROOT, 0)


def test_classes_that_are_there_with_their_qdisc_are_not_made() -> None:
    assert classes([message(0x10001, ROOT, 0, "prio"), message(0x10001, ROOT, 0, "mq")]) == ()


def test_of_a_filter_what_the_hardware_has_is_not_asked_for() -> None:
    pref = 10 << 16 | 8
    for kind, number in (("flower", 22), ("u32", 11), ("matchall", 3)):
        options = attr(number, struct.pack("=I", 0x8 | 0x1)) + attr(8, b"key")
        body = message(1, 0xFFFFFFF2, pref, kind, attr(CHAIN, b"\0\0\0\0"), attr(OPTIONS, options))
        (found,) = filters([body])
        assert found.attrs.endswith(attr(number, struct.pack("=I", 1)) + attr(8, b"key"))
        assert attr(CHAIN, b"\0\0\0\0") in found.attrs
        assert found.describe() == f"filter {kind} pref 10 at ingress"


def test_a_filter_of_a_block_is_of_no_device() -> None:
    head = struct.pack("=BxxxiIII", 0, -1, 1, 5, 7 << 16 | 8)
    (found,) = filters([head + attr(KIND, b"flower\0")])
    assert found.describe() == "filter flower pref 7 at block 5"
    again = TcObject.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found
    assert again.request(7).body[:20] == head


def test_a_qdisc_is_in_its_blocks() -> None:
    blocks = attr(13, struct.pack("=I", 5)) + attr(14, struct.pack("=I", 6))
    body = message(0xFFFF0000, 0xFFFFFFF1, 0, "clsact", blocks)
    (found,) = qdiscs([body], 3)
    assert found.request(9).body.endswith(blocks)
    kept = LinkSettings(qdiscs=(found, Qdisc(1, 2, "fq", b"\0")))
    again = LinkSettings.from_json(json.loads(json.dumps(kept.to_json())))
    assert again == kept
    without = LinkSettings(qdiscs=(found._replace(blocks=b""), kept.qdiscs[1]))
    assert [one.text for one in changes(kept, without, 9)] == [found.describe()]


def test_the_message_of_a_priority_is_no_filter() -> None:
    assert filters([message(0, 0xFFFFFFF2, 10 << 16 | 8, "flower")]) == ()


def test_they_come_back_from_json() -> None:
    one = TcObject(NEWTCLASS, 1, ROOT, 0, "htb", b"\0\xff")
    assert TcObject.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_each_comes_after_what_it_hangs_on() -> None:
    def hung(handle: int, parent: int) -> TcObject:
        return TcObject(NEWTCLASS, handle, parent, 0, "htb", b"")

    root, inner = Qdisc(0x10000, ROOT, "htb", None), Qdisc(0x200000, 0x10030, "htb", None)
    deep = Qdisc(0x300000, 0x200001, "fq", None)
    one, two, below = hung(0x10001, ROOT), hung(0x10030, 0x10001), hung(0x200001, ROOT)
    found = in_order([deep, inner, below, two, one, root])
    assert [x.handle for x in found] == [0x10000, 0x10001, 0x10030, 0x200000, 0x200001, 0x300000]
    assert one.describe() == "class htb 1:1 parent root"
    assert two.describe() == "class htb 1:30 parent 1:1"


def test_a_ring_is_left_in_the_order_of_the_kernel() -> None:
    ring = [Qdisc(0x10000, 0x20001, "htb", None), Qdisc(0x20000, 0x10001, "htb", None)]
    assert in_order(ring) == ring
    prio = [Qdisc(0x10000, ROOT, "prio", None), Qdisc(0x20000, 0x10001, "tbf", None)]
    assert in_order(prio[::-1]) == prio  # a band is there with its qdisc
