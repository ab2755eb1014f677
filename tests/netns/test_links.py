"""What a child process learns of links, and what is left when the kernel keeps it waiting."""

from __future__ import annotations

import os

import pytest

from manactl.look import links
from manactl.look.links import RtnetlinkLinks
from manactl.wire.attrs import attr_str, nest
from manactl.wire.if_link import IFLA_ALT_IFNAME, IFLA_PROP_LIST, IfInfoMsg
from manactl.wire.netlink import NETLINK_ROUTE, NLM_F_CREATE, NLM_F_EXCL, NetlinkSocket

pytestmark = [
    pytest.mark.netns,
    pytest.mark.usefixtures("netns"),
    # A test runner may have threads; the command has none.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

RTM_NEWLINKPROP = 108


def add_altname(index: int, name: str) -> None:
    body = IfInfoMsg(ifindex=index).pack()
    props = nest(IFLA_PROP_LIST, attr_str(IFLA_ALT_IFNAME, name))
    with NetlinkSocket(NETLINK_ROUTE) as sock:
        sock.request(RTM_NEWLINKPROP, NLM_F_CREATE | NLM_F_EXCL, body + props)


def test_altnames_come_back_and_absent_links_do_not() -> None:
    add_altname(1, "an-alternative")
    source = RtnetlinkLinks(wait=20)
    source.ask([1, 4711])
    found = source.collect()
    assert found is not None
    assert set(found) == {1}
    assert (found[1].name, found[1].altnames) == ("lo", ("an-alternative",))


def test_a_kernel_that_keeps_the_child_waiting_costs_the_wait_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(_indexes: list[int]) -> dict[int, tuple[object, ...]]:
        read, _write = os.pipe()
        os.read(read, 1)
        return {}

    monkeypatch.setattr(links, "read_links", never)
    source = RtnetlinkLinks(wait=0.05)
    source.ask([1])
    assert source.collect() is None
    assert source.collect() == {}  # nothing is under way any more


def test_a_child_that_fails_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_indexes: list[int]) -> dict[int, tuple[object, ...]]:
        raise PermissionError

    monkeypatch.setattr(links, "read_links", fail)
    source = RtnetlinkLinks(wait=20)
    source.ask([1])
    assert source.collect() is None
