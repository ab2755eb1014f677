"""The values of the documents, each against what the NIC or the kernel has on record: no constant
would do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab.site import PATIENCE, Run, Site, on, site
from tests.lab.users import eventually
from tests.lab.vm import Vm

oldest, newest = on(0), on(-1)
SLOW = 2.0  # s that the NIC takes for one answer


@pytest.fixture
def here(vm: Vm) -> Iterator[Site]:
    with site(vm) as made:
        yield made


def timed(run: Callable[[], Run]) -> tuple[dict[str, Any], float]:
    """The port of a run's document, and the milliseconds that the run took on the host's clock."""
    start = time.monotonic()
    port = run().port
    return port, (time.monotonic() - start) * 1000


@oldest
def test_how_long_down_and_up_took(here: Site) -> None:
    """Never longer than the run, never shorter than the NIC needed for its answer."""

    def claimed() -> Run:
        return here.claim(here.second)

    def released() -> Run:
        return here.well("release", "--json")

    quick, of_claim = timed(claimed)
    calm, of_release = timed(released)
    assert 0 < quick["down_ms"] <= of_claim
    assert 0 < calm["up_ms"] <= of_release
    assert 1000 * calm["down_for_s"] <= of_claim + of_release
    here.vm.nic.fault("MANA_CONFIG_VPORT_RX", delay=SLOW)
    down, of_claim = timed(claimed)
    # One that has the port for the proof, and the other with which the netdev opens it.
    here.vm.nic.fault("MANA_CONFIG_VPORT_TX", delay=SLOW, times=2)
    up, of_release = timed(released)
    assert 1000 * SLOW <= down["down_ms"] <= of_claim
    assert 1000 * SLOW <= up["up_ms"] <= of_release
    assert SLOW <= up["down_for_s"] <= (of_claim + of_release) / 1000


@oldest
def test_what_was_there_and_what_is_new(here: Site) -> None:
    before = here.view()
    here.sh(f"ip addr add 10.0.1.7/24 dev {here.first}; ip link set {here.first} down")
    here.sh(f"ip addr add 10.0.2.7/24 dev {here.second} valid_lft 12 preferred_lft 12")
    claimed = here.claim(here.first, here.second).document
    rows = {row["port"]: row for row in claimed["ports"]}
    assert [rows[n]["was"] for n in (1, 2)] == ["down", "up"]
    assert rows[1]["kept"] == {}
    assert rows[1]["down_ms"] is None
    assert rows[2]["kept"]["addresses"] == 4
    plan = claimed["plan"]
    (stops,) = plan["stops"]
    assert here.second in stops
    assert "10.0.2.1, 10.0.2.7, fd00:2::1" in stops
    dropped = "\n".join(plan["drops"])
    for gone in ("fd00:2::1/64", "10.2.0.0/16 via 10.0.2.254", "fd02::/32 via fd00:2::fe"):
        assert gone in dropped
    assert "inet 10.0.2.1/24" not in dropped
    # The lifetime of one address ends, and another one comes.
    eventually(lambda: "10.0.2.7" not in here.sh("ip addr"), PATIENCE, "the end of an address")
    here.sh(f"ip addr add 10.0.2.9/32 dev {here.second}")
    ran = here.well("release", "--json").document
    rows = {row["port"]: row for row in ran["ports"]}
    assert [rows[n]["outcome"] for n in (1, 2)] == ["left-down", "restored"]
    assert rows[1]["expired"] == []
    (expired,) = [text for text in rows[2]["expired"] if text.startswith("inet ")]
    assert "10.0.2.7/24" in expired
    assert rows[1]["extra"] == []
    (extra,) = rows[2]["extra"]
    assert extra.startswith("ip address del 10.0.2.9/32 dev")
    assert (rows[1]["carrier"], rows[1]["up_ms"], rows[1]["restored"]) == (None, None, {})
    assert rows[2]["carrier"] is True
    assert rows[2]["restored"]["addresses"] in (1, 2)  # the link-local one may come by itself
    assert rows[2]["restored"]["routes"] >= 2
    here.sh(extra)
    here.sh(f"ip addr del 10.0.1.7/24 dev {here.first}; ip link set {here.first} up")
    here.sh(
        f"ip route add 10.1.0.0/16 via 10.0.1.254 table 7; "
        f"ip -6 addr add fd00:1::1/64 dev {here.first} nodad; "
        f"ip route add fd01::/32 via fd00:1::fe dev {here.first}"
    )
    here.same(before)


@newest
def test_a_link_that_is_lost_meanwhile(here: Site) -> None:
    """Drivers before 7.x do not follow their device there."""
    here.claim(here.second)
    assert here.well("release", "--json").port["carrier"] is True
    here.claim(here.second)
    here.vm.nic.link(False)
    ran = here.well("release", "--json").port
    assert ran["carrier"] is False
    here.vm.nic.link(True)
