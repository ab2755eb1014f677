"""Two ports in one claim: what keeps one of them keeps both, and each comes back by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.lab.site import Run, Site, on, site
from tests.lab.users import user
from tests.lab.vm import Vm

pytestmark = on(1)


@pytest.fixture
def here(vm: Vm) -> Iterator[Site]:
    with site(vm) as made:
        yield made


def refusals(ran: Run) -> set[tuple[str, str]]:
    """Code and port of each guard that refused."""
    return {(one["fact"], one["value"]["port"]) for one in ran.document["evidence"]}


@contextmanager
def a_default_route(here: Site) -> Iterator[None]:
    here.sh(f"ip route add default via 10.0.2.254 dev {here.second}")
    yield
    here.sh("ip route del default")


@contextmanager
def an_upper(here: Site) -> Iterator[None]:
    here.sh(f"ip link add link {here.second} name v9 type vlan id 9")
    yield
    here.sh("ip link del v9")


@contextmanager
def a_connection(here: Site) -> Iterator[None]:
    """Over IPv6 to an address of this host: with its port the address goes."""
    with ExitStack() as stack:
        for role in ("serve", "probe"):
            one = stack.enter_context(user(here.vm, "tcp", role, "fd00:2::1", "7000"))
            one.wait_for("listening" if role == "serve" else "connected")
        yield


@contextmanager
def a_packet_socket(here: Site) -> Iterator[None]:
    with user(here.vm, "occupy", "packet", here.second) as one:
        one.wait_for("ready")
        yield


OBSTACLES = {
    "default-route": a_default_route,
    "upper": an_upper,
    "tcp-established": a_connection,
    "packet-sockets": a_packet_socket,
}


def test_what_is_on_the_second_port_alone_keeps_both(here: Site) -> None:
    both = ("--raw-qp", here.first, "--raw-qp", here.second)
    for code, obstacle in OBSTACLES.items():
        with obstacle(here), here.untouched():
            ran = here.fails(3, code, "claim", *both)
            assert refusals(ran) == {(code, here.second)}
            if code == "upper":
                again = here.fails(3, code, "claim", "--raw-qp", here.second, *both[:2])
                assert refusals(again) == {(code, here.second)}
    here.sh(f"ip netns add blue; ip link set {here.second} netns blue")
    with here.untouched():
        ran = here.fails(3, "foreign-netns", "claim", *both[:3], f"{here.vm.pci}:2")
        assert refusals(ran) == {("foreign-netns", f"{here.vm.pci}:2")}
    assert here.owners()[1] == "ethernet"


def test_ports_of_the_same_claim_are_no_other_way(here: Site) -> None:
    both = ("--raw-qp", here.first, "--raw-qp", here.second)
    here.sh("ip addr flush dev spare")
    with here.untouched():
        for one in (both[:2], both[2:]):
            here.well("claim", "--dry-run", "--json", *one)
        ran = here.fails(3, "refused", "claim", *both)
        assert refusals(ran) == {("last-port", here.first), ("last-port", here.second)}
    # Nor is a netdev that is down, or has no carrier.
    here.sh(f"ip addr flush dev {here.first}")
    here.sh("ip addr add 198.51.100.1/24 dev spare; ip link set spare down")
    with here.untouched():
        here.fails(3, "last-port", "claim", "--raw-qp", here.second)
    here.sh("ip link set spare up carrier off")
    with here.untouched():
        here.fails(3, "last-port", "claim", "--raw-qp", here.second)
    here.sh("ip link set spare carrier on")
    here.well("claim", "--dry-run", "--raw-qp", here.second)


def outcomes(ran: Run) -> dict[int, str]:
    return {one["port"]: one["outcome"] for one in ran.document["ports"]}


def test_one_of_two_ports_is_released_and_the_other_later(here: Site) -> None:
    before = here.view()
    here.claim(here.first, here.second)
    assert here.owners() == {1: "free", 2: "free"}
    ((name, claimed),) = here.journals().items()
    ran = here.well("release", here.first, "--json")
    assert outcomes(ran) == {1: "restored"}
    assert here.owners() == {1: "ethernet", 2: "free"}
    assert of(before, here.first) == of(here.view(), here.first)
    ((still, data),) = here.journals().items()
    assert still == name
    assert data.startswith(claimed)
    rows = here.status()
    assert rows[1]["claim"] is None
    assert (rows[2]["claim"]["proven"], rows[2]["drift"], rows[2]["notes"]) == (True, [], [])
    with here.untouched():
        assert outcomes(here.well("release", here.first, "--json")) == {1: "not-claimed"}
        assert json.loads(here.well("recover", "--json").out)["ports"] == []
    again = here.claim(here.first)
    assert [one["already"] for one in again.document["ports"]] == [False]
    assert len(here.journals()) == 2
    assert outcomes(here.well("release", here.second, "--json")) == {2: "restored"}
    assert here.owners() == {1: "free", 2: "ethernet"}
    here.well("release")
    assert here.journals() == {}
    here.same(before)


def of(view: dict[str, list[str]], name: str) -> list[Any]:
    """What is told of one port."""
    return [
        row for rows in view.values() for row in rows if f'"{name}"' in row or f"/{name}/" in row
    ]


def test_a_holder_of_one_port_keeps_that_one_only(here: Site) -> None:
    before = here.view()
    here.claim(here.first, here.second)
    with user(here.vm, "rawqp") as holder:
        pid = holder.wait_for("ready")["pid"]
        holder.ask("create 2", "created")
        with here.untouched_but_proofs():
            for words in ((here.first, here.second), (here.second,), ("--all",)):
                ran = here.fails(6, "holder", "release", *words, "--wait", "0")
                assert f"pid {pid} python3" in ran.err
        assert outcomes(here.well("release", here.first, "--json")) == {1: "restored"}
        assert here.owners() == {1: "ethernet", 2: "raw-qp"}
        # Two claims now: the free one is released, and the other stays as it is.
        here.claim(here.first)
        held, _ = sorted(here.journals())
        data = here.journals()[held]
        here.fails(6, "holder", "release", "--all", "--wait", "0")
        assert here.owners() == {1: "ethernet", 2: "raw-qp"}
        assert here.journals() == {held: data}
        holder.ask("quit", "leaving")
    here.becomes(2, "free")
    here.well("release")
    assert here.journals() == {}
    here.same(before)
