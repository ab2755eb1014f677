"""Residue that can never be restored, and its end: `recover --accept`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from signal import SIGKILL
from typing import Any

import pytest

from tests.lab.site import STATE, Site, on, site
from tests.lab.test_mainjob import Watch
from tests.lab.vm import Vm
from tests.unit.wording import wording

pytestmark = on(-1)
MARK = {"0": 0}  # signal 0 is none: the acts are watched, and nothing else
# Of the acts that a watcher sees: what the journal, its history, the lock and the outlets need.
ON_FILES = {
    "flock", "fsync", "ftruncate", "mkdir", "openat", "pwrite", "rename", "unlink", "write",
}  # fmt: skip
HOP = 40


@pytest.fixture
def here(vm: Vm) -> Iterator[Site]:
    with site(vm) as made:
        yield made
    vm.run(f"ip nexthop del id {HOP}", check=False)


def reused(here: Site) -> str:
    """The second port was claimed, and somebody has given the id of its nexthop to another device
    since; the stranger's nexthop, as ip shows it."""
    here.sh(
        f"ip nexthop add id {HOP} via 10.0.2.20 dev {here.second}\n"
        f"ip route add 192.0.2.0/24 nhid {HOP}"
    )
    here.claim(here.second)
    here.sh(f"ip nexthop add id {HOP} via 198.51.100.20 dev spare")
    ran = here.fails(5, "residue", "release", here.second)
    accept = f"manactl recover --accept {here.second}"
    assert accept in ran.document["hint"]
    with wording:
        assert f"or, when it cannot be fixed: {accept}" in ran.document["hint"]
    here.fails(5, "residue", "recover")
    here.fails(5, "interrupted-claim", "claim", "--raw-qp", here.second)
    return stranger(here)


def stranger(here: Site) -> str:
    return here.sh(f"ip -d nexthop show id {HOP}")


def closed(here: Site) -> list[dict[str, Any]]:
    """The records of the journal that was closed last."""
    text = here.sh(f"cat $(ls -t {STATE}/history/*.journal | head -n 1)")
    return [json.loads(line.rpartition("\t")[0]) for line in text.splitlines()]


def test_a_nexthop_id_that_a_stranger_has(here: Site) -> None:
    theirs = reused(here)
    assert "spare" in theirs
    with here.untouched():
        shown = here.well("recover", "--accept", here.second, "--dry-run", "--json").port
    assert shown["outcome"] == "residue"
    before, watch = here.view(), Watch.start(here.vm)
    ran = here.well("recover", "--accept", here.second, "--json", signals=MARK)
    assert watch.requests() == set()
    assert {act.split()[0] for act in ran.acts} <= ON_FILES, ran.acts
    here.same(before)
    assert ran.port["outcome"] == "accepted"
    assert ran.port["residue"] == shown["residue"]
    assert sorted(line.split(" (")[0] for line in shown["residue"]) == [
        f"192.0.2.0/24 nhid {HOP} proto boot",
        f"nexthop id {HOP} via 10.0.2.20 dev {here.second}",
    ]
    assert here.journals() == {}
    accepted, last = closed(here)[-2:]
    assert (accepted["event"], accepted["residue"]) == ("accepted", shown["residue"])
    assert (last["event"], last["how"]) == ("closed", "accepted")
    row = here.status()[2]
    assert (row["claim"], row["drift"], row["owner"]) == (None, [], "ethernet")

    here.claim(here.second)
    assert here.owners()[2] == "free"
    assert here.well("release", "--json").port["outcome"] == "restored"
    here.same(before)
    assert stranger(here) == theirs


def test_a_kill_before_every_act(here: Site) -> None:
    """The journal is whole wherever it stops, and the next run ends it."""
    theirs = reused(here)
    before = here.view()
    accept = ("recover", "--accept", here.second)
    number = 0
    while here.journals():
        ran = here.run(*accept, signals={str(number): int(SIGKILL)})
        assert ran.rc in {0, -SIGKILL}, str(ran)  # each reads what the last one has left
        number += 1
        assert number < 40
    here.well(*accept)
    assert closed(here)[-1]["how"] == "accepted"
    assert here.status()[2]["claim"] is None
    here.same(before)
    assert stranger(here) == theirs
