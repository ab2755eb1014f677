"""System calls that fail while the guards look: what could not be looked at refuses."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from manactl.decide.refusal import Bar
from manactl.netstate.surroundings import Surroundings
from tests.netns.test_surroundings import codes, ip, read, refusals
from tests.unit.faults import ERRNOS, Calls, Fault

__all__ = ["read"]
pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("netns")]
Look = Callable[..., Surroundings]
UNKNOWN = (Bar.UPPERS_UNKNOWN, Bar.NAMESPACES_UNKNOWN)


@pytest.fixture
def busy(read: Look) -> Iterator[Look]:
    """A port with something for most guards: a connection, a packet socket, a bridge, routes."""
    for line in (
        "link add br0 type bridge", "link set port0 master br0", "link set br0 up",
        "address add 10.2.0.2/24 dev br0", "address add fd00::2/64 dev br0 nodad",
        "address add fd00::3/64 dev br0 nodad", "route add default via 10.2.0.1",
    ):  # fmt: skip
        ip(*line.split())
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("fd00::2", 0), family=socket.AF_INET6))
        there = stack.enter_context(socket.socket(socket.AF_INET6))
        there.bind(("fd00::3", 0))
        there.connect(server.getsockname())
        stack.enter_context(server.accept()[0])
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.connect(("10.2.0.9", 9))
        packets = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        packets.bind(("br0", 3))
        yield read


def judged(look: Look, calls: Calls, due: set[str], *faults: Fault) -> str:
    """Every code that a look finds refuses still, or what no `--allow` waives does: what is stacked
    on the port could not be read, on which the others rest."""
    try:
        with calls.watched(*faults):
            found = look()
    except OSError:
        return "failed"
    if found.uppers is None or found.elsewhere is None:
        barred = {one.code for one in refusals(found) if one.bar in UNKNOWN}
        assert barred == {"upper"}
        return "barred"
    lost = due - set(codes(found))
    names = [calls.names[one.at] for one in faults if one.at < len(calls.names)]
    assert not lost, f"{lost} with {list(map(str, faults))} {names}"
    return "found"


def total(look: Look, calls: Calls) -> tuple[set[str], list[str]]:
    due = set(codes(look()))
    assert due >= {"default-route", "last-port", "upper", "packet-sockets", "tcp-established"}
    with calls.watched():
        look()
    return due, list(calls.names)


def test_a_guard_that_could_not_look_refuses(busy: Look) -> None:
    calls = Calls()
    due, names = total(busy, calls)
    rng = random.Random("guards")
    found = {
        judged(busy, calls, due, Fault(rng.randrange(len(names)), rng.choice(ERRNOS)))
        for _ in range(12)
    }
    assert "found" in found


@pytest.mark.soak
@pytest.mark.parametrize("lasts", [False, True])
def test_a_guard_that_could_not_look_refuses_at_any_call(busy: Look, lasts: bool) -> None:
    calls = Calls()
    due, names = total(busy, calls)
    for at in range(len(names)):
        for number in ERRNOS:
            judged(busy, calls, due, Fault(at, number, lasts=lasts))
