"""Nobody has to follow."""

from __future__ import annotations

from pathlib import Path

from manactl.act.plan import Plan
from manactl.act.progress import Progress, Silent
from tests.unit.fakes import PORT
from tests.unit.host import FakeHost, Followed, claim, furnished, release
from tests.unit.wording import wording


def test_silence_takes_everything() -> None:
    silent: Progress = Silent()
    silent.planned("claim eth1", Plan("claim", (PORT,), ()))
    silent.ended("set eth1 down", 1.0, failed=True)
    silent.noted("a line")
    with silent.doing("set eth1 down"):
        pass
    with silent.waiting("pid 7 to end", 1.0):
        pass


def test_who_follows_hears_of_every_step_in_order(tmp_path: Path) -> None:
    kernel = furnished()
    followed = Followed()
    claim(tmp_path, FakeHost(kernel), progress=followed)
    release(tmp_path, FakeHost(kernel), progress=followed)
    with wording:
        assert [(title, failed) for title, _, failed in followed.steps] == [
            ("save eth1's addresses and routes", False),
            ("set eth1 down", False),
            ("prove that the vport of manae_0 port 1 is free", False),
            ("set eth1 up", False),
            ("restore and verify eth1", False),
        ]
    assert followed.begun == [title for title, _, _ in followed.steps]
    (_, claimed), (title, plan) = followed.plans
    assert (followed.plans[0][0], claimed.verb) == ("claim eth1", "claim")
    assert title == "release eth1"
    assert plan.verb == "release"
