"""IPsec by policies, on a machine in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from manactl.look import ipsec
from manactl.look.sockets import Reach
from manactl.netstate.surroundings import IpsecTunnel
from manactl.wire.tunnels import Outer
from tests.unit.look.kernel import FakeRtnl, attr
from tests.unit.wire.test_xfrm import FAR, NEAR, policy, template
from tests.unit.wording import wording

RTNL = FakeRtnl([], ways={"10.1.0.0/24": {3}, "0.0.0.0/0": {2}})
SITE = policy("10.2.0.0/16", "10.3.0.0/16", template(), priority=9)
HTTPS_BYPASS = policy("0.0.0.0/0", "0.0.0.0/0", protocol=6, port=443, priority=1)
LAN_BYPASS = policy("0.0.0.0/0", "10.3.7.0/24", priority=2)
PORT, ELSEWHERE = Reach(frozenset({3}), frozenset()), Reach(frozenset({9}), frozenset())
HERE, THERE = bytes([10, 2, 0, 1]), bytes([10, 3, 0, 1])


def files(proc: Path, *protocols: int) -> Path:
    net = proc / "self/net"
    net.mkdir(parents=True)
    rows = [f"0000000000000000 {number:<3} 0 00000000 0 0 0 2 0 9" for number in protocols]
    (net / "netlink").write_text("\n".join(["sk Eth Pid Groups ...", *rows, ""]))
    return proc


def test_nobody_is_asked_where_nobody_can_have_made_any(tmp_path: Path) -> None:
    proc = files(tmp_path, 0, 4, 16)
    assert not ipsec.in_use(proc)
    assert ipsec.live(proc) == []
    (proc / "self/net/pfkey").touch()
    assert ipsec.in_use(proc)
    assert ipsec.in_use(files(tmp_path / "two", 0, 6))
    with pytest.raises(FileNotFoundError):
        ipsec.live(tmp_path / "nowhere")


def test_policies_come_in_the_order_in_which_the_kernel_asks_them() -> None:
    incoming = policy("10.3.0.0/16", "10.2.0.0/16", template(), direction=0)
    of_interface = policy("::/0", "::/0", template(), more=attr(31, b"\x2a\0\0\0"))
    found = ipsec.read([SITE, incoming, of_interface, LAN_BYPASS, HTTPS_BYPASS])
    assert [one.priority for one in found] == [1, 2, 9]
    with pytest.raises(ValueError, match="requires"):
        ipsec.read([SITE[:80]])


@pytest.mark.parametrize(
    ("source", "address", "outers"),
    [
        (HERE, THERE, (Outer(FAR, NEAR),)),
        (b"", THERE, (Outer(FAR, NEAR),)),
        (bytes([10, 9, 0, 1]), THERE, ()),  # of a source that it is not for
        (HERE, bytes([10, 3, 7, 1]), ()),  # bypassed
        (HERE, bytes([192, 0, 2, 1]), ()),
    ],
)
def test_the_tunnel_that_packets_get_into(
    source: bytes, address: bytes, outers: tuple[Outer, ...]
) -> None:
    policies = ipsec.read([SITE, LAN_BYPASS, HTTPS_BYPASS])
    assert ipsec.around(policies, address, source) == outers


def test_the_tunnels_that_leave_by_the_port() -> None:
    elsewhere = policy("10.2.0.0/16", "10.4.0.0/16", template(bytes([192, 0, 2, 9])))
    to_anybody = policy("10.2.0.0/16", "10.5.0.0/16", template(bytes(4), bytes(4)))
    policies = ipsec.read([SITE, SITE, elsewhere, to_anybody, LAN_BYPASS])
    found = ipsec.through(policies, PORT, RTNL)
    assert found == (
        IpsecTunnel("10.2.0.0/16", "10.5.0.0/16", None),
        IpsecTunnel("10.2.0.0/16", "10.3.0.0/16", "10.1.0.9"),
    )
    with wording:
        assert list(map(str, found)) == [
            "10.2.0.0/16 to 10.5.0.0/16 by any peer", "10.2.0.0/16 to 10.3.0.0/16 by 10.1.0.9",
        ]  # fmt: skip
    assert ipsec.through(ipsec.read([SITE]), ELSEWHERE, RTNL) == ()
    (away,) = ipsec.through(ipsec.read([SITE]), PORT, RTNL, "pod")
    with wording:
        assert str(away) == "10.2.0.0/16 to 10.3.0.0/16 by 10.1.0.9 in the network namespace pod"


def test_a_tunnel_whose_own_end_is_an_address_of_the_port() -> None:
    """Its peer sends to that address, wherever the answers leave by."""
    mine = ELSEWHERE._replace(addresses=frozenset({NEAR}))
    (found,) = ipsec.through(ipsec.read([SITE]), mine, RTNL)
    assert found == IpsecTunnel("10.2.0.0/16", "10.3.0.0/16", "10.1.0.9")
