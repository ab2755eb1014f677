"""A claim of a port that has a journal already: its own, one that died, one of another boot, of
another NIC."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from signal import SIGKILL
from typing import Any

import pytest

from tests.lab.notes import ANY, noted
from tests.lab.site import CLAIMS, STATE, Site, on, rewritten, site
from tests.lab.vm import Vm
from tests.unit.wording import wording

pytestmark = on(0)
MARK = {"0": 0}  # signal 0 is none: the acts are watched, and nothing else


@pytest.fixture
def here(vm: Vm) -> Iterator[Site]:
    with site(vm) as made:
        yield made


def test_a_claim_over_one_that_was_killed(here: Site) -> None:
    before = here.view()
    claim = ("claim", "--raw-qp", here.second)
    acts = here.well(*claim, signals=MARK).acts
    here.well("release")
    down = acts.index("rtnetlink 16 down")
    # Before the journal is there nothing is left; when the port is down it has to be put back.
    early = next(n for n, act in enumerate(acts) if act.startswith("rename"))
    assert here.run(*claim, signals={str(early): int(SIGKILL)}).rc == -SIGKILL
    assert here.owners()[2] == "ethernet"
    here.well(*claim)
    here.well("release")
    assert here.run(*claim, signals={str(down + 1): int(SIGKILL)}).rc == -SIGKILL
    assert here.owners()[2] == "free"
    with here.untouched():
        ran = here.fails(5, "interrupted-claim", *claim)
        assert "manactl recover" in ran.document["hint"]
        here.fails(5, "interrupted-claim", "claim", "--raw-qp", here.first, *claim[1:])
        here.well("claim", "--dry-run", "--raw-qp", here.first)
        assert noted(here.status()[2]["notes"], "claim-interrupted", ANY)
    ran = here.well("recover", "--json")
    assert (ran.port["outcome"], ran.port["recovered"]) == ("restored", True)
    assert here.journals() == {}
    here.same(before)


def test_a_claim_over_one_that_stands(here: Site) -> None:
    before = here.view()
    assert here.claim(here.second).document["already"] is False
    data = here.journals()
    with here.untouched():
        again = here.claim(here.second).document
    (row,) = again["ports"]
    assert (again["already"], again["plan"], again["journal"]) == (True, None, None)
    assert (row["already"], row["was"], row["down_ms"], row["proof"]) == (True, None, None, None)
    assert row["proven"] is True
    more = here.claim(here.first, here.second).document
    assert {row["port"]: row["already"] for row in more["ports"]} == {1: False, 2: True}
    assert more["already"] is False
    assert more["release"] == f"manactl release {here.first} {here.second}"
    assert data.items() < here.journals().items()
    here.well("release", here.first)
    # A stranger: then it is no claim that one could rely on.
    here.sh(f"ip link set {here.second} up")
    with here.untouched():
        here.fails(6, "drift", "claim", "--raw-qp", here.second)
        here.fails(6, "drift", "claim", "--raw-qp", here.first, "--raw-qp", here.second)
        assert here.status()[2]["drift"] != []
    assert here.journals() == data
    assert here.owners() == {1: "ethernet", 2: "ethernet"}
    here.well("release")
    assert here.journals() == {}
    here.same(before)


def edit(here: Site, change: Callable[[dict[str, Any]], None]) -> dict[str, bytes]:
    """The one journal with another header that is as valid."""
    ((name, data),) = here.journals().items()
    here.vm.put(f"{CLAIMS}/{name}", rewritten(data, change), mode=0o600)
    return here.journals()


def of_another_boot(header: dict[str, Any]) -> None:
    header["boot_id"] = "01234567-89ab-cdef-0123-456789abcdef"


def history(here: Site) -> list[str]:
    return str(here.vm.run(f"ls {STATE}/history", check=False).out).split()


def test_a_journal_of_another_boot_is_closed_and_nothing_else(here: Site) -> None:
    for words in (("release",), ("release", here.second), ("recover",)):
        here.claim(here.second)
        (name,) = edit(here, of_another_boot)
        had = here.view()
        with wording:
            assert here.well(*words, "--dry-run").out.count("before the last boot") == 1
        assert here.journals() != {}
        ran = here.well(*words, "--json")
        assert (ran.port["outcome"], ran.port["restored"]) == ("history", {})
        assert here.journals() == {}
        assert history(here)[-1].endswith(f"-{name}")
        assert here.owners() == {1: "ethernet", 2: "free"}
        here.same(had)
        here.sh(f"ip link set {here.second} up")
    here.claim(here.second)
    (old,) = edit(here, of_another_boot)
    document = here.claim(here.second).document
    assert [row["already"] for row in document["ports"]] == [False]
    assert history(here)[-1].endswith(f"-{old}")
    assert [f"{CLAIMS}/{name}" for name in here.journals()] == [document["journal"]]
    here.well("release")


def test_a_journal_of_another_nic_in_the_same_place(here: Site) -> None:
    """Nothing of it is written onto this one, and this one does not count as claimed."""
    mine = here.status()[2]["permanent_mac"]
    other = "02:15:5d:00:99:99"

    def of_another_nic(header: dict[str, Any]) -> None:
        changed = json.loads(json.dumps(header).replace(mine, other))
        header.update(changed)

    here.claim(here.second)
    edit(here, of_another_nic)
    claim = ("claim", "--raw-qp", here.second)
    for state in ("down", "up"):
        here.sh(f"ip link set {here.second} {state}")
        with here.untouched():
            for words in (("release",), ("release", here.second)):
                ran = here.fails(5, "no-netdev", *words)
                assert f"{here.vm.pci}:2" in ran.document["message"]
            ran = here.fails(6, "drift", *claim)
            assert other in ran.document["message"]
            assert mine in ran.document["message"]
            here.fails(6, "drift", *claim, "--raw-qp", here.first)
            assert noted(here.status()[2]["drift"], "drift-another-nic", other)
