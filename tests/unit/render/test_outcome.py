"""The last lines of claim, release and recover."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from manactl.act.claim import ClaimResult
from manactl.act.released import Outcome, ReleasedPort, ReleaseResult
from manactl.act.restore import Lost
from manactl.model.port import Upper
from manactl.netstate.losses import Cause
from manactl.netstate.members import Member
from manactl.netstate.snapshot import Kind
from manactl.netstate.uppers import UpperState
from manactl.render import outcome
from tests.unit.act.test_choose import ONE
from tests.unit.decide.scene import STATE, STATUS
from tests.unit.fakes import PORT
from tests.unit.wording import wording


def released(**more: Any) -> list[str]:
    port = ReleasedPort(PORT, "eth1", more.pop("outcome", Outcome.RESTORED), **more)
    return outcome.release_lines(ReleaseResult([port]), verb="release", dry_run=False)


@pytest.mark.wording
@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({}, "eth1 released: up, nothing was missing; verified against the snapshot"),
        (
            {"counts": {Kind.ADDRESS: 1, Kind.ROUTE: 2}, "down_for_s": 41.3},
            "eth1 released: up (was down for 41.3 s), 1 address, 2 routes restored; verified "
            "against the snapshot",
        ),
        (
            {"carrier": False, "recovered": True},
            "eth1 recovered: up, no carrier yet, nothing was missing; verified against the "
            "snapshot",
        ),
        (
            {"carrier": True},
            "eth1 released: up, nothing was missing; verified against the snapshot",
        ),
        (
            {"outcome": Outcome.LEFT_DOWN},
            "eth1 released: it was down before the claim and is left as it is",
        ),
        ({"outcome": Outcome.NOT_CLAIMED}, "eth1 is not claimed: nothing to do"),
        (
            {"outcome": Outcome.HISTORY},
            "eth1: claimed before the last boot; the boot configuration has taken over, the "
            "journal is closed and nothing was changed",
        ),
    ],
)
def test_a_line_for_each_outcome(more: dict[str, Any], line: str) -> None:
    assert released(**more) == [line]


@pytest.mark.wording
def test_what_ended_and_what_came_is_listed_below() -> None:
    more: dict[str, Any] = {
        "expired": ("inet6 x",),
        "extra": ("ip address del y",),
        "advertised": ("default",),
    }
    more["lost"] = (Lost(Cause.ORDER, "a (order)"), Lost(Cause.TAKEN_OVER, "b (bird)"))
    first, *rest = released(outcome=Outcome.RESTORED, **more)
    assert first.endswith("; all else verified against the snapshot")
    assert rest == [
        "  its lifetime ended meanwhile: inet6 x",
        "  comes with the next router advertisement: default",
        "  cannot be restored: a (order)",
        "  settled: b (bird)",
        "  added during the claim, kept; to remove: ip address del y",
    ]


@pytest.mark.wording
@pytest.mark.parametrize(
    ("member", "line"),
    [
        (Member("br0", "bridge", "listening", False, 30.0),
         "  eth1 is listening; br0 forwards in up to 30 s"),
        (Member("br0", "bridge", "learning", False, None),
         "  eth1 is learning; br0 forwards when its STP says so"),
        (Member("bond0", "bond", "negotiating", False, 30.0),
         "  eth1 waits for its LACP partner; bond0 sends by it in up to 30 s"),
        (Member("bond0", "bond", "updelay", False, 8.0, "updelay"),
         "  eth1 waits for the updelay of bond0, which uses it in up to 8 s"),
        (Member("bond0", "bond", "unanswered", False, None, "arp"),
         "  eth1 waits for an answer to the ARP probes of bond0, which uses it then"),
        (Member("bond0", "bond", "down", False, None, "updelay"),
         "  eth1 is not up yet for bond0, which uses it when it is"),
    ],
)  # fmt: skip
def test_a_port_that_does_not_forward_yet(member: Member, line: str) -> None:
    assert released(settling=member)[1:] == [line]


@pytest.mark.wording
def test_the_active_slave_is_told_how_it_is_made_so_again() -> None:
    member = Member("bond 0", "bond", "backup", False, None, "updelay", True)
    assert released(settling=member)[1:] == [
        "  eth1 is in bond 0 again, not as the active slave",
        "  when it does, to send by it as before: ip link set 'bond 0' type bond active_slave eth1",
    ]


@pytest.mark.wording
def test_nothing_to_do_is_one_line() -> None:
    nothing = ReleaseResult()
    assert outcome.release_lines(nothing, verb="release", dry_run=False) == ["nothing is claimed"]
    assert outcome.release_lines(nothing, verb="recover", dry_run=True) == ["nothing to recover"]


@pytest.mark.wording
def test_a_claim_ends_with_the_next_command() -> None:
    proven = {PORT: {"prove-free": {"proven": True}}}
    result = ClaimResult(None, facts=proven, ports=(STATUS,))
    assert outcome.claim_lines(result, dry_run=False) == [
        "eth1 is claimed: its vport is free for raw QPs on manae_0 port 1, proven. When done: "
        "manactl release eth1"
    ]
    unproven = outcome.claim_lines(ClaimResult(None, ports=(STATUS,)), dry_run=False)
    assert "not proven" in unproven[0]
    already = outcome.claim_lines(ClaimResult(None, already=((STATUS, ONE),)), dry_run=False)
    assert already == [
        "eth1 is claimed already, since 2026-11-22 00:00:00 UTC. When done: manactl release eth1"
    ]
    of_command = ONE._replace(claim=ONE.claim._replace(mode="exec"))
    (line,) = outcome.claim_lines(ClaimResult(None, already=((STATUS, of_command),)), dry_run=False)
    assert line == (
        "eth1 is claimed already, since 2026-11-22 00:00:00 UTC. It is of a command that manactl "
        "runs, and is released when that ends. When done: manactl release eth1"
    )
    left = of_command._replace(forsaken=True)  # nobody is there who would
    assert (
        outcome.claim_lines(ClaimResult(None, already=((STATUS, left),)), dry_run=False) == already
    )
    assert outcome.claim_lines(result, dry_run=True) == ["Nothing was touched (dry run)."]


@pytest.mark.wording
def test_what_a_boot_will_do_is_said_where_that_was_asked_for() -> None:
    facts = {PORT: {"prove-free": {"proven": True}, "leave-down": {"files": ["/etc/x.network"]}}}
    for known, told in (
        (facts, ["eth1 is left down at every boot, too, until it is released."]),
        ({}, [
            "Nothing was written for the boot (--persist): no network manager could be told to "
            "leave eth1 down."
        ]),
    ):  # fmt: skip
        result = ClaimResult(None, facts=known, ports=(STATUS,), persist=True)
        assert outcome.claim_lines(result, dry_run=False)[1:] == told


def test_what_became_of_a_pair_is_said() -> None:
    pair = STATUS._replace(upper=Upper("eth0", "netvsc", "000d3aaa", "vf", True))
    proven = {PORT: {"prove-free": {"proven": True}}}
    above = UpperState("eth0", 2, "netvsc", 3, "000d3aaa", True, True, False)
    down = dataclasses.replace(STATE, uppers=(above,))
    kept = dataclasses.replace(STATE, alone=True)
    for state, words in (
        (down, "(eth0 and its VF eth1 are down: --synthetic=down)"),
        (kept, "(eth0 stays up on the synthetic path: --synthetic=keep)"),
    ):
        result = ClaimResult(None, states={PORT: state}, facts=proven, ports=(pair,))
        for follows in (False, True):  # a command, which may be DPDK
            first, last = outcome.claim_lines(result, dry_run=False, command_follows=follows)
            with wording:
                assert words in first
                assert last.startswith("A raw QP on eth1 can send, and receives nothing: ")
    on_uio = {PORT: {**proven[PORT], "bind-uio": {"boottime": 1.0}}}
    result = ClaimResult(None, states={PORT: down}, facts=on_uio, ports=(pair,))
    (line,) = outcome.claim_lines(result, dry_run=False)
    with wording:
        assert "(eth0 is gone until release, its VMBus device is uio_hv_generic's: " in line
        assert "--synthetic=uio" in line
    assert "--synthetic=down" not in line
    with wording:
        assert "its traffic takes the VF" in released(data_path="vf")[0]
    assert "VF" not in released()[0]
