"""Where tunnels send, from messages made by hand."""

from __future__ import annotations

import socket
import struct

import pytest

from manactl.wire import tunnels
from manactl.wire.if_link import IfLink
from manactl.wire.tunnels import Association, Outer, Tunnel, association, tunnel
from tests.unit.look.kernel import attr
from tests.unit.wire.headers import numbers

V4, V6 = socket.inet_aton("10.1.0.9"), socket.inet_pton(socket.AF_INET6, "2001:db8::9")
ME4, ME6 = socket.inet_aton("10.1.0.4"), socket.inet_pton(socket.AF_INET6, "2001:db8::4")


def u32(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack("=I", value))


def link(kind: str, *data: bytes, nsid: int | None = None) -> IfLink:
    head = struct.pack("=BxHiII", 0, 1, 7, 0x1003, 0)
    info = attr(18, attr(1, kind.encode() + b"\0") + attr(2, b"".join(data)))
    away = b"" if nsid is None else attr(37, struct.pack("=i", nsid))
    return IfLink(head + attr(3, b"t0\0") + info + away)


def outers(*data: bytes, kind: str) -> tuple[Outer, ...]:
    made = tunnel(link(kind, *data))
    assert made is not None
    assert (made.ifindex, made.name, made.kind) == (7, "t0", kind)
    return made.outers


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("vxlan", (attr(2, V4), attr(4, ME4)), Outer(V4, ME4)),
        ("vxlan", (attr(16, V6), attr(17, ME6)), Outer(V6, ME6)),
        ("geneve", (attr(2, V4),), Outer(V4)),
        ("geneve", (attr(7, V6),), Outer(V6)),
        ("gre", (attr(6, ME4), attr(7, V4), u32(20, 9)), Outer(V4, ME4, 9)),
        ("gretap", (attr(6, bytes(4)), attr(7, V4)), Outer(V4)),
        ("ip6gre", (attr(6, ME6), attr(7, V6)), Outer(V6, ME6)),
        ("ip6gretap", (attr(7, V6),), Outer(V6)),
        ("erspan", (attr(7, V4),), Outer(V4)),
        ("ip6erspan", (attr(7, V6),), Outer(V6)),
        ("ipip", (attr(2, ME4), attr(3, V4)), Outer(V4, ME4)),
        ("sit", (attr(3, V4), u32(20, 5)), Outer(V4, b"", 5)),
        ("ip6tnl", (attr(3, V6),), Outer(V6)),
        ("vti", (attr(4, ME4), attr(5, V4), u32(6, 3)), Outer(V4, ME4, 3)),
        ("vti6", (attr(5, V6),), Outer(V6)),
    ],
)
def test_endpoints_are_attributes_of_the_kind(
    kind: str, data: tuple[bytes, ...], expected: Outer
) -> None:
    assert outers(*data, kind=kind) == (expected,)


@pytest.mark.parametrize("kind", ["gre", "ipip", "vxlan", "xfrm", "vti"])
def test_the_device_below_and_its_namespace(kind: str) -> None:
    number = 3 if kind == "vxlan" else 1
    made = tunnel(link(kind, u32(number, 4), nsid=2))
    assert made is not None
    assert (made.under, made.nsid, made.outers) == (4, 2, ())
    alone = tunnel(link(kind))
    assert alone is not None
    assert (alone.under, alone.nsid) == (0, None)


@pytest.mark.parametrize(
    ("kind", "data", "metadata"),
    [
        ("vxlan", attr(25, b"\1"), True),
        ("vxlan", attr(25, b"\0"), False),
        ("geneve", attr(6, b""), True),
        ("gre", attr(18, b""), True),
        ("ipip", attr(19, b""), True),
        ("xfrm", attr(3, b""), True),
        ("bareudp", attr(1, b"\0\1"), True),
        ("gre", attr(6, ME4), False),
    ],
)
def test_endpoints_may_come_with_each_packet(kind: str, data: bytes, metadata: bool) -> None:
    made = tunnel(link(kind, data))
    assert made is not None
    assert made.metadata is metadata


@pytest.mark.parametrize("kind", ["", "vlan", "veth", "macvlan", "bridge", "dummy"])
def test_other_links_are_no_tunnels(kind: str) -> None:
    assert tunnel(link(kind, attr(2, V4), attr(7, V4))) is None


def test_xfrm_interfaces_and_their_associations() -> None:
    made = tunnel(link("xfrm", u32(1, 3), u32(2, 42)))
    assert made == Tunnel(7, "t0", "xfrm", under=3, if_id=42)
    for there, here, family in ((V4, ME4, socket.AF_INET), (V6, ME6, socket.AF_INET6)):
        body = bytearray(224)
        body[56 : 56 + len(there)] = there
        body[80 : 80 + len(here)] = here
        struct.pack_into("=H", body, 212, family)
        found = association(bytes(body) + u32(31, 42) + u32(29, 7))
        assert found == Association(42, Outer(there, here, 7))
        assert association(bytes(body)) == Association(0, Outer(there, here, 0))


def test_the_numbers_are_the_kernels() -> None:
    known = numbers("linux/if_link.h", "linux/if_tunnel.h", "linux/xfrm.h")
    gre, vxlan, geneve = (tunnels.KINDS[kind] for kind in ("gre", "vxlan", "geneve"))
    for name, value in {
        "IFLA_GRE_LINK": gre.link, "IFLA_GRE_LOCAL": gre.local, "IFLA_GRE_REMOTE": gre.remote,
        "IFLA_GRE_COLLECT_METADATA": gre.metadata, "IFLA_GRE_FWMARK": gre.mark,
        "IFLA_IPTUN_LINK": tunnels.KINDS["sit"].link,
        "IFLA_IPTUN_LOCAL": tunnels.KINDS["sit"].local,
        "IFLA_IPTUN_REMOTE": tunnels.KINDS["sit"].remote,
        "IFLA_IPTUN_COLLECT_METADATA": tunnels.KINDS["ipip"].metadata,
        "IFLA_IPTUN_FWMARK": tunnels.KINDS["ip6tnl"].mark,
        "IFLA_VTI_LINK": tunnels.KINDS["vti"].link, "IFLA_VTI_LOCAL": tunnels.KINDS["vti"].local,
        "IFLA_VTI_REMOTE": tunnels.KINDS["vti6"].remote,
        "IFLA_VTI_FWMARK": tunnels.KINDS["vti6"].mark,
        "IFLA_VXLAN_GROUP": vxlan.remote, "IFLA_VXLAN_LINK": vxlan.link,
        "IFLA_VXLAN_LOCAL": vxlan.local, "IFLA_VXLAN_GROUP6": vxlan.remote6,
        "IFLA_VXLAN_LOCAL6": vxlan.local6, "IFLA_VXLAN_COLLECT_METADATA": vxlan.metadata,
        "IFLA_GENEVE_REMOTE": geneve.remote, "IFLA_GENEVE_REMOTE6": geneve.remote6,
        "IFLA_GENEVE_COLLECT_METADATA": geneve.metadata,
        "IFLA_XFRM_LINK": tunnels.KINDS["xfrm"].link,
        "IFLA_XFRM_IF_ID": tunnels.KINDS["xfrm"].if_id,
        "IFLA_XFRM_COLLECT_METADATA": tunnels.KINDS["xfrm"].metadata,
        "XFRM_MSG_GETSA": tunnels.XFRM_MSG_GETSA, "XFRMA_IF_ID": tunnels.XFRMA_IF_ID,
        "XFRMA_SET_MARK": tunnels.XFRMA_SET_MARK,
    }.items():  # fmt: skip
        assert known[name] == value, name
