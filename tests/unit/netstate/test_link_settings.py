"""Settings of a netdev: what differs, and the requests that set it."""

from __future__ import annotations

import dataclasses
import json
import struct

import pytest

from manactl.netstate.link_settings import (
    LinkSettings,
    Qdisc,
    changed,
    changes,
    of_link,
    of_survivor,
    qdiscs,
)
from manactl.netstate.tc_objects import TcObject

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


def test_what_sysfs_alone_has_may_be_lost() -> None:
    """A new driver may have fewer queues; what this netdev has not at all is not asked for."""
    key, tree = "queues/rx-0/rps_cpus", "class/net"
    was = LinkSettings(sysctls={(tree, key): "3", (tree, "queues/rx-9/rps_cpus"): "3"})
    (change,) = changes(was, LinkSettings(sysctls={(tree, key): "0"}), 7)
    assert (change.sysctl, change.may_be_lost, change.in_sysfs) == ((tree, key, "3"), True, True)
    assert key in change.text
    (other,) = changes(WAS, dataclasses.replace(WAS, sysctls=FRESH.sysctls), 7)[:1]
    assert (other.may_be_lost, other.in_sysfs) == (False, False)


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
        {("t", "k"): "v"}, (FIRST,), member_kind="bridge",
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


def test_what_a_port_was_in_its_bridge_is_set_once_it_is_there() -> None:
    cost, state = struct.pack("=I", 77), b"\3"
    data = attr(3, cost) + attr(1, state)
    body = struct.pack("=BBHiII", 0, 0, 1, 7, 0, 0) + attr(MASTER, struct.pack("=I", 5))
    body += attr(18, attr(4, b"bridge\0") + attr(5, data))
    was = of_link(body, {}, (), {"br0": 5})
    assert was.member == {3: cost}  # what STP has decided is not ours to set
    outside = LinkSettings(names={"br0": 5})
    assert [one.text for one in changes(was, outside, 7)] == ["master br0"]
    there = dataclasses.replace(was, member={3: struct.pack("=I", 100)})
    (one,) = changes(was, there, 7)
    assert one.text == "bridge cost 77"
    assert one.request is not None
    assert one.request.body.endswith(
        attr(18 | 0x8000, attr(4, b"bridge\0") + attr(5 | 0x8000, attr(3, cost)))
    )
    assert changes(was, was, 7) == []
    assert changed(was, outside, 7) == []  # masters are compared with the uppers


def test_a_mac_address_is_set_before_the_rest_but_on_a_member_of_a_bond() -> None:
    mac, other = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
    was = LinkSettings(attributes={MTU: struct.pack("=I", 4000), 1: mac})
    now = LinkSettings(attributes={MTU: struct.pack("=I", 1500), 1: other})
    texts = [one.text for one in changes(was, now, 7)]
    assert texts == ["address 02:00:00:00:00:01", "mtu 4000"]
    slave = dataclasses.replace(was, member_kind="bond")
    assert [one.text for one in changes(slave, now, 7)] == ["mtu 4000"]
    assert was.without(1).attributes == {MTU: struct.pack("=I", 4000)}


def test_the_secret_comes_before_the_mode_that_goes_by_it() -> None:
    tree = "net/ipv6/conf"
    was = LinkSettings(sysctls={(tree, "addr_gen_mode"): "3", (tree, "stable_secret"): "fe80::1"})
    now = LinkSettings(sysctls={(tree, "addr_gen_mode"): "0"})  # one not set cannot be read
    secret, mode = changes(was, now, 7)
    assert secret.sysctl == (tree, "stable_secret", "fe80::1")
    assert mode.request is not None  # by the sysctl the kernel makes an address on a netdev down
    assert mode.request.body.endswith(attr(26 | 0x8000, attr(10 | 0x8000, attr(8, b"\3"))))


def test_an_htb_is_asked_for_as_the_kernel_takes_it_and_compared_without_its_counter() -> None:
    def shown(version: int, packets: int) -> bytes:
        return attr(2, struct.pack("=5I", version, 10, 32, 0, packets)) + attr(5, b"\1\0\0\0")

    was = LinkSettings(qdiscs=(Qdisc(0x70000, 0xFFFFFFFF, "htb", shown(0x30011, 9)),))
    now = LinkSettings(qdiscs=(Qdisc(0x70000, 0xFFFFFFFF, "htb", shown(0x30011, 0)),))
    assert changes(was, now, 7) == []
    (one,) = changes(was, LinkSettings(), 7)
    assert one.request is not None
    assert one.request.body.endswith(attr(2, shown(3, 0)))
    odd = Qdisc(0x70000, 0xFFFFFFFF, "htb", attr(2, b"\1"))
    assert odd.settable == odd.options


def test_classes_come_after_their_qdisc_and_filters_last() -> None:
    root = Qdisc(0x70000, 0xFFFFFFFF, "htb", None)
    inner = TcObject(40, 0x70001, 0xFFFFFFFF, 0, "htb", b"")
    pick = TcObject(44, 1, 0x70000, 10 << 16 | 8, "u32", b"")
    was = LinkSettings(qdiscs=(root,), queueing=(pick, inner))
    assert [one.text for one in changes(was, LinkSettings(), 7)] == [
        "qdisc htb 7: root", "class htb 7:1 parent root", "filter u32 pref 10 at 7:0",
    ]  # fmt: skip
    assert changes(was, was, 7) == []
    assert LinkSettings.from_json(json.loads(json.dumps(was.to_json()))) == was


def test_of_a_device_that_lost_its_last_member_address_and_mtu_are_looked_at() -> None:
    body = struct.pack("=BBHiII", 0, 0, 1, 7, 0x1002, 0) + attr(MTU, struct.pack("=I", 9000))
    body += attr(1, bytes(6)) + attr(ALIAS, b"up\0")
    assert of_survivor(body).attributes == {MTU: struct.pack("=I", 9000), 1: bytes(6)}
    assert of_survivor(body).flags == 0x1000


@pytest.mark.parametrize(("kind", "number"), [("codel", 5), ("fq_codel", 7)])
@pytest.mark.parametrize("wanted", [1, 500, 1024, 4999, 5000, 100000, 1000000])
def test_a_time_of_codel_comes_back_although_the_kernel_rounds_it_down(
    kind: str, number: int, wanted: int
) -> None:
    """codel_params: set (us * 1000) >> 10, shown as (value << 10) / 1000."""

    def kept(us: int) -> int:
        return us * 1000 >> 10

    shown = (kept(wanted) << 10) // 1000
    for which in (1, 3, number):
        qdisc = Qdisc(0x10000, 0xFFFFFFFF, kind, attr(which, struct.pack("=I", shown)))
        assert qdisc.settable is not None
        (asked,) = struct.unpack_from("=I", qdisc.settable, 4)
        assert kept(asked) == kept(wanted)
    other = Qdisc(0x10000, 0xFFFFFFFF, kind, attr(2, struct.pack("=I", 99)))
    assert other.settable == other.options
