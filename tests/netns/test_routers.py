"""What an IPv6 router has advertised stays the router's: the next advertisement refreshes it,
lifetime 0 withdraws it. Judged by the kernel's own flags in /proc/net/ipv6_route."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.guest import ra
from tests.netns.port import PORT, Here, down_and_up, ip, put_back

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("netns")]

DEFAULT, ADDRCONF, PREFIX_RT, EXPIRES, ROUTEINFO = 0x10000, 0x40000, 0x80000, 0x400000, 0x800000
OWN_FLAGS = {
    "::/0": DEFAULT | ADDRCONF | EXPIRES,
    "2001:db8:aa::/64": PREFIX_RT | ADDRCONF | EXPIRES,
    "2001:db8:bb::/64": ROUTEINFO | EXPIRES,
}


def sysctl(key: str, value: int) -> None:
    Path("/proc/sys/net/ipv6/conf/port0", key).write_text(str(value))


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline, ip("-6", "route", "show", "dev", "port0")
        time.sleep(0.02)


def flags() -> dict[str, int]:
    """The flags of the advertised destinations on port0, as the kernel has them."""
    found = {}
    for line in Path("/proc/thread-self/net/ipv6_route").read_text().splitlines():
        dst, length, _, _, _, _, _, _, mask, device = line.split()
        for name in OWN_FLAGS:
            network, _, bits = name.partition("/")
            packed = ra.socket.inet_pton(ra.socket.AF_INET6, network).hex()
            if (device, dst, int(length, 16)) == ("port0", packed, int(bits)):
                found[name] = int(mask, 16)
    return found


def own() -> bool:
    """Whether all of them are the kernel's own, as it learned them from a router."""
    there = flags()
    return all(there.get(name, 0) & mask == mask for name, mask in OWN_FLAGS.items())


def slaac() -> bool:
    return "2001:db8:aa:" in ip("-6", "address", "show", "dev", "port0", "-tentative")


def advertise(lifetime: int, router: int) -> None:
    words = [sys.executable, ra.__file__, "send", "wire0", str(lifetime), str(router)]
    subprocess.run(words, check=True, capture_output=True, text=True)


@contextmanager
def answering(lifetime: int, router: int) -> Iterator[None]:
    words = [sys.executable, ra.__file__, "answer", "wire0", str(lifetime), str(router)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert "listening" in process.stdout.readline()
            yield
        finally:
            process.kill()


@pytest.fixture
def advertised(here: Here) -> Here:
    """A port that has heard a router: a default route, a prefix, an address, a route."""
    return hear(here)


def hear(here: Here) -> Here:
    sysctl("accept_ra_rt_info_max_plen", 64)
    sysctl("router_solicitations", 0)
    advertise(600, 500)
    until(lambda: own() and slaac())
    return here


def test_a_router_that_answers_brings_them(advertised: Here) -> None:
    sysctl("router_solicitations", -1)
    state = advertised.capture(PORT)
    with answering(600, 500):
        down_and_up()
        done = put_back(advertised, state, 15.0)
    assert (done.residue, done.extra, done.expired, done.advertised) == ((), (), (), ())
    assert own()
    assert slaac()


def test_what_a_router_has_brought_before_stays(here: Here) -> None:
    """Also where an address of ours was older, and is made after it now."""
    ip("address", "add", "2001:db8:1::2/64", "dev", "port0", "nodad")
    state = hear(here).capture(PORT)
    down_and_up()

    def heard() -> bool:
        advertise(600, 500)
        return own() and slaac()

    until(heard)
    done = put_back(here, state)
    assert (done.residue, done.advertised) == ((), ())
    assert own()
    assert slaac()


def test_what_has_not_come_is_left_to_the_next_advertisement(advertised: Here) -> None:
    state = advertised.capture(PORT)
    down_and_up()
    done = put_back(advertised, state)
    assert (done.residue, done.extra, done.expired) == ((), (), ())
    assert flags() == {}
    assert sorted(text.split(" ")[0] for text in done.advertised) == [
        "2001:db8:aa::/64", "2001:db8:bb::/64", "default", "inet6",
    ]  # fmt: skip
    advertise(700, 500)
    until(own)
    mtu = Path("/proc/sys/net/ipv6/conf/port0/mtu")
    until(lambda: mtu.read_text().strip() == str(ra.MTU))
    advertise(0, 0)
    until(lambda: flags() == {})


@pytest.mark.parametrize("key", ["accept_ra", "forwarding"])
def test_where_no_advertisement_is_accepted_they_are_replayed(advertised: Here, key: str) -> None:
    state = advertised.capture(PORT)
    down_and_up()
    sysctl(key, 1 if key == "forwarding" else 0)
    done = put_back(advertised, state)
    assert (done.residue, done.advertised) == ((), ())
    assert set(flags()) == set(OWN_FLAGS)
    assert slaac()


def test_a_router_that_forwards_and_accepts_is_a_host_too(advertised: Here) -> None:
    sysctl("accept_ra", 2)
    sysctl("forwarding", 1)
    state = advertised.capture(PORT)
    down_and_up()
    done = put_back(advertised, state)
    assert len(done.advertised) == 4
    assert flags() == {}


def test_an_address_of_our_own_in_the_prefix_is_made_again(advertised: Here) -> None:
    ip("address", "add", "2001:db8:aa::77/64", "dev", "port0", "nodad")
    state = advertised.capture(PORT)
    down_and_up()
    done = put_back(advertised, state)
    assert done.residue == ()
    assert "2001:db8:aa::77/64" in ip("-6", "address", "show", "dev", "port0")
    assert set(flags()) == {"2001:db8:aa::/64"}  # the connected route of that address
    assert len(done.advertised) == 3
