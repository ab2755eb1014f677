"""Claims that are released automatically unless they are confirmed.

The judge is `ip -j -d` (networks.py) and the NIC's record. What takes the claim back is a process
of its own, the guardian: it is looked for by its name, and killed by its pid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.lab.notes import ANY, noted
from tests.lab.site import PATIENCE, Site, on, site
from tests.lab.users import eventually, user
from tests.lab.vm import Vm
from tests.unit.wording import wording

pytestmark = on(-1)

SOON = "8"  # s, more than a claim takes; what follows is waited for, not for these seconds
LATER = "3600"


@pytest.fixture
def here(vm: Vm) -> Iterator[Site]:
    with site(vm) as made:
        yield made


def guardians(here: Site) -> list[str]:
    return str(here.vm.run("pgrep -x manactl-guard", check=False).out).split()


def claim(here: Site, within: str) -> None:
    document = here.well(
        "claim", "--raw-qp", here.second, "--confirm-within", within, "--json"
    ).document
    assert document["confirm_by"] == here.status()[2]["claim"]["confirm_by"]
    assert len(guardians(here)) == 1


def notes(here: Site) -> list[str]:
    return list(here.status()[2]["notes"])


def overdue(here: Site) -> bool:
    """Whether its time is over, by the guest's clock."""
    document = here.well("status", "--json").document
    (claim,) = (row["claim"] for row in document["ports"] if row["claim"])
    now, until = (datetime.fromisoformat(one) for one in (document["time"], claim["confirm_by"]))
    return now > until


def nothing_to_recover(here: Site) -> bool:
    return not here.well("recover", "--json").document["ports"]


def is_back(here: Site, before: dict[str, list[str]], *, why: str | None = "expired") -> None:
    # Names alone: the guardian may move it away at any time.
    eventually(
        lambda: here.vm.run("ls /var/lib/manactl/claims", check=False).out == "",
        PATIENCE,
        "the journal to be closed",
    )
    here.same(before)
    assert here.owners()[2] == "ethernet"
    eventually(lambda: not guardians(here), PATIENCE, "the guardian to end")
    last = here.well("history", "--json").document["claims"][0]
    assert (last["ending"], last["why"]) == ("released", why)


def test_what_nobody_confirms_goes_back(here: Site) -> None:
    before = here.view()
    claim(here, SOON)
    assert here.owners()[2] == "free"
    is_back(here, before)
    late = here.run("confirm", here.second)
    assert late.rc == 4
    with wording:
        assert "expired, released" in here.well("history").out
        assert "not confirmed in time" in late.err


def test_what_is_confirmed_stays(here: Site) -> None:
    before = here.view()
    claim(here, LATER)
    assert noted(notes(here), "unconfirmed", ANY)
    shown, confirmed = here.well("status").out, here.well("confirm").out
    assert here.second in confirmed
    with wording:
        assert " s are left to confirm its claim" in shown
        assert "is confirmed" in confirmed
    eventually(lambda: not guardians(here), PATIENCE, "the guardian to end")
    assert here.status()[2]["claim"]["confirm_by"] is None
    again, nothing = here.well("confirm", here.second).out, here.well("confirm").out
    assert (here.second in again, here.second in nothing) == (True, False)
    with wording:
        assert "needs no confirmation" in again
        assert nothing == "nothing waits to be confirmed\n"
    here.well("release")
    is_back(here, before, why=None)
    assert here.well("history", "--json").document["claims"][0]["confirmed_by"]["uid"] == 0


def test_it_goes_back_when_the_last_holder_has_ended(here: Site) -> None:
    before = here.view()
    claim(here, SOON)
    with user(here.vm, "rawqp") as holder:
        holder.wait_for("ready")
        holder.ask("create 2", "created")
        eventually(lambda: overdue(here), PATIENCE, "its time to be over")
        eventually(lambda: noted(notes(here), "overdue"), PATIENCE, "that to be told")
        assert here.owners()[2] == "raw-qp"
        assert guardians(here)
    is_back(here, before)


def test_until_then_it_can_still_be_confirmed(here: Site) -> None:
    before = here.view()
    claim(here, SOON)
    with user(here.vm, "rawqp") as holder:
        holder.wait_for("ready")
        holder.ask("create 2", "created")
        eventually(lambda: overdue(here), PATIENCE, "its time to be over")
        eventually(lambda: noted(notes(here), "overdue"), PATIENCE, "that to be told")
        here.well("confirm")
        eventually(lambda: not guardians(here), PATIENCE, "the guardian to end")
    here.becomes(2, "free")
    here.well("release")
    is_back(here, before, why=None)


def test_without_its_guardian_there_are_release_and_recover(here: Site) -> None:
    before = here.view()
    claim(here, LATER)
    here.vm.run(["kill", "-9", *guardians(here)])
    eventually(lambda: not guardians(here), PATIENCE, "the guardian to end")
    eventually(lambda: noted(notes(here), "unguarded", ANY), PATIENCE, "that to be told")
    with wording:
        assert here.well("recover").out == "nothing to recover\n"
    assert nothing_to_recover(here)
    here.well("release")
    is_back(here, before, why=None)

    claim(here, SOON)
    here.vm.run(["kill", "-9", *guardians(here)])
    eventually(lambda: not nothing_to_recover(here), PATIENCE, "its time to be over")
    is_back(here, before, why=None)


def test_a_clock_that_is_set_changes_nothing(here: Site) -> None:
    before = here.view()
    claim(here, SOON)
    here.vm.run("date -s '-2 hours' >/dev/null")
    try:
        is_back(here, before)
    finally:
        here.vm.run("date -s '+2 hours' >/dev/null")
    claim(here, LATER)
    here.vm.run("date -s '-2 hours' >/dev/null")
    try:
        shown = here.well("status").out
        with wording:
            assert re.search(r"\b3[0-6]\d\d s are left to confirm", shown)
    finally:
        here.vm.run("date -s '+2 hours' >/dev/null")
    here.well("release")
    is_back(here, before, why=None)
