"""Policy rules, and nexthops and routes without a device: read, deleted and put back."""

from __future__ import annotations

import subprocess

import pytest

from manactl.look.rtnetlink import Rtnl
from manactl.netstate import beside
from tests.unit.wording import wording

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("netns")]

MADE = """\
rule add from 10.9.0.88 lookup 88
rule add not from 10.9.0.0/24 to 10.1.0.0/16 iif gone0 tos 0x10 lookup 89 priority 500
rule add fwmark 0x5/0xff ipproto udp dport 53 lookup 90 priority 501 protocol static
rule add from 10.2.0.0/16 goto 32766 priority 502
rule add to 10.3.0.0/16 prohibit priority 503
rule add lookup main suppress_prefixlength 0 priority 504
-6 rule add from 2001:db8::/32 uidrange 0-10 lookup 91 priority 505
nexthop add id 66 blackhole
nexthop add id 67 group 66
-6 nexthop add id 68 blackhole
route add blackhole 10.66.0.0/16
route add unreachable 10.67.0.0/16 metric 7 table 66
route add throw 10.68.0.0/16 table 66
route add 10.69.0.0/16 nhid 66 table 66
-6 route add prohibit 2001:db8:66::/48
-6 route add 2001:db8:67::/48 nhid 68
"""
SHOWN = (
    "rule", "-6 rule", "nexthop", "route show table all", "-6 route show table all",
)  # fmt: skip


def ip(words: str) -> str:
    ran = subprocess.run(["ip", *words.split()], check=True, capture_output=True, text=True)
    return ran.stdout


def picture() -> list[list[str]]:
    return [sorted(ip(words).splitlines()) for words in SHOWN]


def everything() -> None:
    ip("link set lo up")
    for line in MADE.splitlines():
        ip(line)


def test_what_was_deleted_comes_back_as_it_was() -> None:
    everything()
    with Rtnl() as rtnl:
        before, was = picture(), rtnl.beside()
        assert len(was) == len(MADE.splitlines())
        assert beside.missing(was, was) == []
        ip("nexthop flush")
        ip("route flush table 66")
        ip("route del blackhole 10.66.0.0/16")
        ip("-6 route del prohibit 2001:db8:66::/48 dev lo")
        for family in ("-4", "-6"):
            for priority in (*range(500, 506), *([32765] if family == "-4" else [])):
                subprocess.run(
                    ["ip", family, "rule", "del", "priority", str(priority)], check=False
                )
        assert rtnl.beside() == ()
        for one in beside.missing(was, rtnl.beside()):
            rtnl.send(beside.request(one))
        assert picture() == before
        assert beside.missing(was, rtnl.beside()) == []


def test_only_what_is_missing_is_made() -> None:
    everything()
    with Rtnl() as rtnl:
        was = rtnl.beside()
        ip("rule del priority 503")
        ip("route del blackhole 10.66.0.0/16")
        found = beside.missing(was, rtnl.beside())
        route, rule = (beside.text(one) for one in found)
        assert (route, "503" in rule) == ("blackhole 10.66.0.0/16 proto boot", True)
        with wording:
            assert rule == "IPv4 policy rule 503"


def test_the_kernels_own_and_what_has_a_device_are_none_of_it() -> None:
    ip("link set lo up")
    with Rtnl() as rtnl:
        assert rtnl.beside() == ()
        ip("link add name br0 type bridge")
        ip("link set br0 up")
        ip("addr add 10.9.0.1/24 dev br0")
        ip("route add 10.10.0.0/16 via 10.9.0.9")
        ip("nexthop add id 5 via 10.9.0.9 dev br0")
        ip("route add 10.11.0.0/16 nhid 5")
        assert rtnl.beside() == ()
        ip("nexthop add id 6 group 5")
        ip("route add 10.12.0.0/16 nhid 6")
        (group, route) = rtnl.beside()
    assert [group.kind, route.kind] == ["nexthop", "route"]
