"""IPsec policies, made by hand."""

from __future__ import annotations

import struct
from ipaddress import ip_network
from typing import Any

import pytest

from manactl.wire import xfrm
from manactl.wire.tunnels import Outer
from manactl.wire.xfrm import Net, Policy
from tests.unit.look.kernel import attr
from tests.unit.wire.headers import numbers

NEAR, FAR = bytes([10, 1, 0, 4]), bytes([10, 1, 0, 9])


def template(to: bytes = FAR, by: bytes = NEAR, mode: int = 1) -> bytes:
    """struct xfrm_user_tmpl: xfrm_id, family, saddr, reqid, mode, share, optional, three masks."""
    family = 2 if len(to) == 4 else 10
    made = to.ljust(16, b"\0") + struct.pack("=IB3x", 0, 50) + struct.pack("=H2x", family)
    made += by.ljust(16, b"\0") + struct.pack("=IBBBx", 7, mode, 0, 0) + b"\xff" * 12
    assert len(made) == 64
    return made


def policy(
    source: str,
    destination: str,
    *templates: bytes,
    direction: int = 1,
    priority: int = 0,
    protocol: int = 0,
    port: int = 0,
    more: bytes = b"",
) -> bytes:
    """struct xfrm_userpolicy_info with its templates."""
    by, to = ip_network(source), ip_network(destination)
    made = to.network_address.packed.ljust(16, b"\0") + by.network_address.packed.ljust(16, b"\0")
    made += struct.pack("!HHHH", port, 0xFFFF if port else 0, 0, 0)
    family = 2 if by.version == 4 else 10
    made += struct.pack("=HBBB3xiI", family, to.prefixlen, by.prefixlen, protocol, 0, 0)
    assert len(made) == 56
    made += bytes(96) + struct.pack("=IIBBBB4x", priority, 9, direction, 0, 0, 0)
    return made + (attr(5, b"".join(templates)) if templates else b"") + more


OUT = policy("10.2.0.0/24", "10.3.0.0/16", template(), priority=5)


def test_a_policy_for_outgoing_packets() -> None:
    assert xfrm.policy(OUT) == Policy(
        5, Net(bytes([10, 2, 0, 0]), 24), Net(bytes([10, 3, 0, 0]), 16), False, 0,
        (Outer(FAR, NEAR),),
    )  # fmt: skip


@pytest.mark.parametrize("direction", [0, 2, 3])
def test_others_are_for_what_comes_in(direction: int) -> None:
    assert xfrm.policy(policy("::/0", "::/0", template(), direction=direction)) is None


@pytest.mark.parametrize("narrow", [{"protocol": 6}, {"port": 443}])
def test_one_for_some_of_the_packets_says_so(narrow: dict[str, Any]) -> None:
    found = xfrm.policy(policy("0.0.0.0/0", "0.0.0.0/0", **narrow))
    assert found is not None
    assert (found.narrow, found.outers) == (True, ())


def test_only_what_is_put_into_another_packet_is_a_tunnel() -> None:
    """Transport mode leaves the addresses as they are; a template may be one of several."""
    six = bytes.fromhex("20010db8000100000000000000000009")
    body = policy(
        "2001:db8::/64", "::/0", template(mode=0), template(six, bytes(16), mode=1),
        more=attr(31, struct.pack("=I", 42)) + attr(29, struct.pack("=I", 3)),
    )  # fmt: skip
    found = xfrm.policy(body)
    assert found is not None
    assert (found.outers, found.if_id) == ((Outer(six, b"", 3),), 42)


def test_whom_a_policy_is_for() -> None:
    found = xfrm.policy(OUT)
    assert found is not None
    for source, destination, wanted in (
        ([10, 2, 0, 7], [10, 3, 255, 1], True),
        ([10, 2, 1, 7], [10, 3, 255, 1], False),
        ([10, 2, 0, 7], [10, 4, 0, 1], False),
        ([], [10, 3, 0, 1], True),
        ([10, 2, 0, 7], [0] * 16, False),
    ):
        assert found.wants(bytes(source), bytes(destination)) is wanted
    assert "10.3.0.1" not in found.destination


def test_a_broken_one_is_an_error() -> None:
    with pytest.raises(struct.error):
        xfrm.policy(OUT[:100])


def test_the_numbers_are_the_kernels() -> None:
    known = numbers("linux/xfrm.h")
    for name in ("XFRM_MSG_GETPOLICY", "XFRM_POLICY_OUT", "XFRM_MODE_TRANSPORT", "XFRMA_TMPL",
                 "XFRMA_SET_MARK", "XFRMA_IF_ID"):  # fmt: skip
        assert getattr(xfrm, name) == known[name], name
