"""What a hold tells: lines that a person reads, and documents."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from manactl.model.hold import Apart, Attempt, Cause, Opener, Outcome, Storm, Target, Trouble
from manactl.model.port import Holder, PortId
from manactl.render import hold
from tests.unit.schema import strict
from tests.unit.wording import wording

NOW = datetime(2026, 11, 22, 12, 0, 0, 250000, tzinfo=UTC)
PORT = PortId("7870:00:00.0", 1, "00:0d:3a:aa:00:10")
ETH1 = Target(PORT, "eth1", None, "f8615163-0001")
ETH0 = Target(PORT, "eth0", "f8615163-0001")
NM = Opener(Holder(612, "NetworkManager", "/usr/sbin/NetworkManager", 0,
                   "NetworkManager.service", None, None), False, 1.0)  # fmt: skip
POD = Opener(Holder(77, "ip", None, 0, None, "ab" * 32, None), False, 1.0)
GONE = Opener(Holder(78, None, None, None, None, None, None), False, 1.0)
WORKER = Opener(Holder(9, "kworker/0:1", None, 0, None, None, None), True, 1.0)
DOWN = Attempt(NOW, ETH1, "eth1", Outcome.SET_DOWN, Cause.PROCESS, (NM,), 12.5, 1.25)
FAILED = replace(DOWN, outcome=Outcome.FAILED, error="No such device", ms=None)


@pytest.mark.wording
@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            DOWN,
            "eth1 (port 7870:00:00.0:1) was set up by NetworkManager (pid 612, "
            "NetworkManager.service): set down again after 12.5 ms",
        ),
        (
            replace(DOWN, openers=(POD, GONE)),
            "eth1 (port 7870:00:00.0:1) was set up by ip (pid 77, container abababababab), a "
            "program that has ended (pid 78): set down again after 12.5 ms",
        ),
        (
            replace(DOWN, openers=(WORKER,)),
            "eth1 (port 7870:00:00.0:1) was set up by the kernel (kworker/0:1): set down again "
            "after 12.5 ms",
        ),
        (
            replace(DOWN, cause=Cause.NETVSC, openers=(WORKER,)),
            "eth1 (port 7870:00:00.0:1) was set up by hv_netvsc, after the host had given the VF "
            "back (its synthetic netdev is up): set down again after 12.5 ms",
        ),
        (
            replace(DOWN, cause=Cause.UNKNOWN, openers=(), outcome=Outcome.ALREADY, ms=None),
            "eth1 (port 7870:00:00.0:1) was set up by a program that the kernel does not name: it "
            "was down already when manactl looked",
        ),
        (
            replace(DOWN, cause=Cause.FOUND, openers=()),
            "eth1 (port 7870:00:00.0:1) was found up, who set it up is not known: set down again "
            "after 12.5 ms",
        ),
        (
            FAILED,
            "eth1 (port 7870:00:00.0:1) was set up by NetworkManager (pid 612, "
            "NetworkManager.service): setting it down failed: No such device; trying again",
        ),
        (
            replace(FAILED, still=True),
            "eth1 (port 7870:00:00.0:1) is still up: setting it down failed: No such device; "
            "trying again",
        ),
        (
            Storm(NOW, NOW - timedelta(seconds=9.6), 40, replace(FAILED, still=True)),
            "eth1 is still up: setting it down failed 40 more times in 10 s, the last time: No "
            "such device; trying again",
        ),
        (
            Storm(NOW, NOW - timedelta(seconds=9.6), 40, FAILED),
            "eth1 was set up 40 more times in 10 s, and setting it down failed each time (No such "
            "device; trying again); the last time by NetworkManager (pid 612, "
            "NetworkManager.service)",
        ),
        (
            Storm(NOW, NOW, 1, replace(DOWN, outcome=Outcome.ALREADY, ms=None)),
            "eth1 was set up once more in 1 s, and was down already when manactl looked; the last "
            "time by NetworkManager (pid 612, NetworkManager.service)",
        ),
        (
            Storm(NOW, NOW - timedelta(seconds=9.6), 240, DOWN),
            "eth1 was set up 240 more times in 10 s, and set down each time; the last time by "
            "NetworkManager (pid 612, NetworkManager.service)",
        ),
    ],
)
def test_a_line_says_which_who_and_what_came_of_it(event: hold.Event, text: str) -> None:
    assert hold.words(event) == text
    assert hold.line(event) == f"2026-11-22T12:00:00.250Z {text}"


def trouble(text: str) -> Trouble:
    return Trouble(text, None, None, text)


@pytest.mark.wording
def test_what_is_kept_down() -> None:
    assert hold.holding([]) == "nothing is claimed; waiting for a claim"
    assert hold.holding([ETH1, ETH0]) == "keeping down eth1, eth0"


@pytest.mark.wording
@pytest.mark.parametrize(
    ("apart", "text"),
    [
        (
            Apart((trouble("x: No such device"), trouble("y"))),
            "2 claims cannot be read: x: No such device",
        ),
        (Apart((trouble("x is corrupt"),)), "1 claim cannot be read: x is corrupt"),
        (Apart(unlisted=trouble("Too many")), "claims that are new cannot be seen: Too many"),
        (
            Apart(elsewhere=(PORT,)),
            "claimed in another network namespace: port 7870:00:00.0:1",
        ),
        (Apart(not_given=(PORT,)), "claimed, and not among the given: port 7870:00:00.0:1"),
    ],
)
def test_what_is_claimed_and_not_kept_down_is_not_nothing(apart: Apart, text: str) -> None:
    assert hold.holding([ETH1], apart) == f"keeping down eth1; {text}"
    assert hold.holding([], apart) == f"keeping nothing down, waiting for a claim; {text}"
    as_read(hold.holding_document(NOW, [], apart))


def test_what_is_left_alone_is_not_told_as_kept_down() -> None:
    apart = Apart((trouble("x is corrupt"),), doubtful=(ETH1,))
    with wording:
        assert hold.holding([ETH1, ETH0], apart) == (
            "keeping down eth0; 1 claim cannot be read, so eth1 is left alone: x is corrupt"
        )
    found = as_read(hold.holding_document(NOW, [ETH1, ETH0], apart))
    assert [one["netdev"] for one in found["netdevs"]] == ["eth0"]
    assert [one["netdev"] for one in found["left_alone"]] == ["eth1"]


def as_read(document: dict[str, object]) -> Any:
    text = hold.dumps(document)
    assert "\n" not in text
    found = json.loads(text)
    strict(found)
    return found


def test_the_document_of_an_attempt() -> None:
    assert as_read(hold.document(DOWN)) == {
        "schema": "manactl.hold/1",
        "time": "2026-11-22T12:00:00.250Z",
        "event": "set-down",
        "netdev": "eth1",
        "pci": "7870:00:00.0",
        "port": 1,
        "permanent_mac": "00:0d:3a:aa:00:10",
        "vmbus": None,
        "cause": "process",
        "by": [
            {
                "pid": 612,
                "comm": "NetworkManager",
                "exe": "/usr/sbin/NetworkManager",
                "uid": 0,
                "unit": "NetworkManager.service",
                "container": None,
                "kernel": False,
            }
        ],
        "ms": 12.5,
        "asked_ms": 1.25,
        "error": None,
        "outcome": "set-down",
        "still": False,
        "count": 1,
        "since": None,
    }


def test_the_document_of_a_storm_and_of_what_is_kept_down() -> None:
    found = as_read(hold.document(Storm(NOW, NOW - timedelta(seconds=9), 240, DOWN)))
    assert (found["event"], found["count"], found["since"]) == (
        "storm", 240, "2026-11-22T11:59:51.250Z"
    )  # fmt: skip
    found = as_read(hold.holding_document(NOW, [ETH1, ETH0]))
    assert found["event"] == "holding"
    assert [(one["netdev"], one["vmbus"]) for one in found["netdevs"]] == [
        ("eth1", None), ("eth0", "f8615163-0001")
    ]  # fmt: skip
    assert as_read(hold.holding_document(NOW, []))["netdevs"] == []


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("cause", list(Cause))
def test_every_outcome_and_cause_is_in_the_schema(outcome: Outcome, cause: Cause) -> None:
    as_read(hold.document(replace(DOWN, outcome=outcome, cause=cause)))
