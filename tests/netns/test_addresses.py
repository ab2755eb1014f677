"""The addresses and default routes that describe a port, from the kernel itself."""

from __future__ import annotations

import os
import subprocess

import pytest

from manactl.completion import addresses
from manactl.completion.addresses import Addresses, AddressFacts

pytestmark = [
    pytest.mark.netns,
    pytest.mark.usefixtures("netns"),
    # A test runner may have threads; the command has none.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def bridge(name: str, index: int) -> None:
    ip(f"link add {name} index {index} type bridge")
    ip(f"link set {name} up")


def found() -> dict[int, AddressFacts]:
    return Addresses(wait=20).collect()


def test_the_first_address_that_others_can_reach() -> None:
    bridge("one", 41)
    bridge("two", 42)
    ip("addr add 169.254.1.1/16 dev one scope link")
    ip("addr add fd00::1/64 dev one nodad")
    assert found() == {41: AddressFacts("fd00::1")}
    ip("addr add 10.0.1.4/24 dev one")
    ip("addr add 10.0.2.4/24 dev one")
    assert found() == {41: AddressFacts("10.0.1.4")}


@pytest.mark.parametrize(
    "route",
    [
        "default via 10.0.1.1",
        "default dev one table 7",
        "default dev one metric 5",
        "default nexthop via 10.0.1.1 dev one nexthop dev two",
        "-6 default dev one",
    ],
)
def test_a_default_route_of_any_table_and_family(route: str) -> None:
    bridge("one", 41)
    bridge("two", 42)
    ip("addr add 10.0.1.4/24 dev one")
    ip("route add 10.7.0.0/16 dev one")
    ip("route add unreachable default metric 4000")
    assert found()[41] == AddressFacts("10.0.1.4", False)
    family = ["-6"] if route.startswith("-6") else []
    words = route.removeprefix("-6 ")
    subprocess.run(["ip", *family, "route", "add", *words.split()], check=True)
    assert found()[41] == AddressFacts("10.0.1.4", True)


def test_a_kernel_that_does_not_answer_costs_the_wait_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never() -> dict[int, tuple[str | None, bool]]:
        read, _write = os.pipe()
        os.read(read, 1)
        return {}

    monkeypatch.setattr(addresses, "read", never)
    assert Addresses(wait=0.05).collect() == {}
