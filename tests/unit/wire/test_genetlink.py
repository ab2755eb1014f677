"""Generic netlink: questions and answers made by hand."""

from __future__ import annotations

import socket
import struct

import pytest

from manactl.wire import genetlink as genl
from tests.unit.look.kernel import attr
from tests.unit.wire.headers import numbers, public

HEAD = struct.pack("=BBxx", 1, 1)
V4, V6 = socket.inet_aton("10.1.0.9"), socket.inet_pton(socket.AF_INET6, "fe80::9")


def sockaddr(address: bytes, scope: int = 0) -> bytes:
    if len(address) == 4:
        return struct.pack("=HH", 2, 51820) + address + bytes(8)
    return struct.pack("=HHI", 10, 51820, 0) + address + struct.pack("=I", scope)


def peer(*attrs: bytes) -> bytes:
    return attr(0x8000, b"".join(attrs))


def test_a_family_is_asked_for_by_name_and_answered_by_number() -> None:
    assert genl.family("wireguard") == struct.pack("=BBxx", 3, 1) + attr(2, b"wireguard\0")
    assert genl.family_id(HEAD + attr(2, b"x\0") + attr(1, b"\x1d\0")) == 0x1D
    with pytest.raises(KeyError):
        genl.family_id(HEAD)


def test_the_endpoints_of_wireguards_peers() -> None:
    assert genl.wireguard(7) == struct.pack("=BBxx", 0, 1) + attr(1, struct.pack("=I", 7))
    peers = peer(attr(1, bytes(32)), attr(4, sockaddr(V4))) + peer(attr(4, sockaddr(V6, 3)))
    silent = peer(attr(1, bytes(32)))  # nobody knows yet where it is
    mark = attr(7, struct.pack("=I", 0xCA6C))
    found = genl.wireguard_peers(HEAD + mark + attr(8, peers + silent))
    assert found == genl.Peers(((V4, 0), (V6, 3)), 0xCA6C)
    assert genl.wireguard_peers(HEAD) == genl.Peers((), 0)


@pytest.mark.parametrize(("local", "remote", "far"), [(24, 25, V4), (31, 32, V6)])
def test_l2tp_tunnels_and_their_sessions(local: int, remote: int, far: bytes) -> None:
    number = attr(9, struct.pack("=I", 5))
    found = genl.l2tp_tunnel(HEAD + number + attr(local, b"here") + attr(remote, far))
    assert found == (5, b"here", far)
    assert genl.l2tp_tunnel(HEAD + number) == (5, b"", b"")
    assert genl.l2tp_session(HEAD + number + attr(8, b"l2tpeth0\0")) == ("l2tpeth0", 5)
    assert genl.l2tp_session(HEAD + number) == ("", 5)


def test_the_numbers_are_the_kernels() -> None:
    known = numbers("linux/genetlink.h", "linux/wireguard.h", "linux/l2tp.h")
    ours = public(genl, "CTRL_", "WG", "L2TP_")
    assert ours == {name: known[name] for name in ours}
    assert len(ours) == 16
