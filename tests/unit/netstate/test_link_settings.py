"""Settings of a netdev: what differs, and the requests that set it."""

from __future__ import annotations

import dataclasses
import json
import struct

from manactl.netstate.link_settings import (
    LinkSettings,
    Qdisc,
    changed,
    changes,
    of_link,
    qdiscs,
)

MTU, TXQLEN, ALIAS, MASTER, ALT = 4, 13, 20, 10, 53
FIRST = Qdisc(0x10000, 0xFFFFFFFF, "prio", b"\3\0\0\0")
WAS = LinkSettings(
    0x1100,
    {MTU: struct.pack("=I", 4000), ALIAS: b"wan \xff\0"},
    ("wan0", "lan0"),
    "br0",
    {("net/ipv6/conf", "mtu"): "3000", ("net/ipv4/conf", "rp_filter"): "2"},
    (FIRST,),
)
FRESH = LinkSettings(
    0x1000,
    {MTU: struct.pack("=I", 1500)},
    ("lan0",),
    None,
    {("net/ipv6/conf", "mtu"): "1500", ("net/ipv4/conf", "rp_filter"): "0"},
    (),
    {"br0": 5},
)


def attr(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def test_all_that_differs_is_set_the_mtu_before_what_it_bounds() -> None:
    found = changes(WAS, FRESH, 7)
    assert [change.text for change in found] == [
        "mtu 4000",
        "alias wan \udcff",
        "promisc on",
        "altname wan0",
        "master br0",
        "sysctl net/ipv6/conf: mtu = 3000",
        "sysctl net/ipv4/conf: rp_filter = 2",
        "qdisc prio 1: root",
    ]
    sent = [change.request for change in found if change.request]
    assert all(struct.unpack_from("=i", one.body, 4)[0] == 7 for one in sent)
    assert [one.type for one in sent] == [16, 16, 16, 108, 16, 36]
    assert sent[0].body[16:] == attr(MTU, struct.pack("=I", 4000))
    assert struct.unpack_from("=II", sent[2].body, 8) == (0x100, 0x100)
    assert sent[3].body[16:] == attr(52 | 0x8000, attr(ALT, b"wan0\0"))
    assert sent[4].body[16:] == attr(MASTER, struct.pack("=I", 5))
    assert [change.sysctl for change in found][5] == ("net/ipv6/conf", "mtu", "3000")
    assert changes(WAS, WAS, 7) == []


def test_what_is_off_again_and_what_has_no_way_back() -> None:
    (change,) = changes(LinkSettings(), LinkSettings(0x100), 7)
    assert change.text == "promisc off"
    assert change.request is not None
    assert struct.unpack_from("=II", change.request.body, 8) == (0, 0x100)
    (change,) = changes(LinkSettings(master="br0"), LinkSettings(), 7)
    assert (change.text, change.request, change.sysctl) == ("master br0", None, None)
    # A master that it has now, and a sysctl that this kernel has not, are left alone.
    assert changes(LinkSettings(master="br0"), LinkSettings(master="br1"), 7) == []
    assert changes(LinkSettings(sysctls={("a", "b"): "1"}), LinkSettings(), 7) == []


def test_qdiscs_of_the_device_that_somebody_has_set() -> None:
    def message(index: int, handle: int, options: bytes | None) -> bytes:
        body = struct.pack("=BxxxiIII", 0, index, handle, 0xFFFFFFFF, 2) + attr(1, b"prio\0")
        return body if options is None else body + attr(2, options)

    messages = [message(7, 0x10000, b"\3\0\0\0"), message(7, 0, b""), message(8, 0x10000, b"")]
    assert qdiscs(messages, 7) == (FIRST,)
    assert FIRST.request(7).body == message(7, 0x10000, b"\3\0\0\0").replace(
        struct.pack("=I", 2), struct.pack("=I", 0), 1
    )
    assert Qdisc(0xFFFF0000, 0x10002, "x", None).describe() == "qdisc x ffff: parent 1:2"


def test_from_a_message() -> None:
    body = struct.pack("=BBHiII", 0, 0, 1, 7, 0x11143, 0)
    body += attr(MTU, struct.pack("=I", 9000)) + attr(52, attr(ALT, b"wan0\0"))
    body += attr(MASTER, struct.pack("=I", 5)) + attr(TXQLEN, struct.pack("=I", 555))
    assert of_link(body, {}, (), {"hv0": 5}).master is None  # of netvsc, which has no kind
    body += attr(18, attr(4, b"bridge\0"))
    made = of_link(body, {("t", "k"): "v"}, (FIRST,), {"br0": 5})
    assert made == LinkSettings(
        0x1100, {MTU: struct.pack("=I", 9000), TXQLEN: struct.pack("=I", 555)}, ("wan0",), "br0",
        {("t", "k"): "v"}, (FIRST,),
    )  # fmt: skip


def test_they_survive_json() -> None:
    text = json.dumps(WAS.to_json())
    assert LinkSettings.from_json(json.loads(text)) == WAS
    bare = LinkSettings(qdiscs=(Qdisc(1, 2, "clsact", None),))
    assert LinkSettings.from_json(json.loads(json.dumps(bare.to_json()))) == bare


def test_of_a_netdev_that_stayed_masters_and_counters_of_qdiscs_are_not_compared() -> None:
    counted = dataclasses.replace(WAS, master=None, qdiscs=(FIRST._replace(options=b"\7\0\0\0"),))
    assert changed(WAS, counted, 7) == []
    assert [change.text for change in changed(WAS, FRESH, 7)] == [
        change.text for change in changes(dataclasses.replace(WAS, master=None), FRESH, 7)
    ]
    other = dataclasses.replace(WAS, qdiscs=(FIRST._replace(kind="fq"),))
    assert [change.text for change in changed(WAS, other, 7)] == ["qdisc prio 1: root"]
