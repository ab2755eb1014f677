"""kill -9 of a claim or a release, at any instant and at every act: then all comes back.

Where acts are is found by tracing a run (guest/trap.py): each system call that changes something
or syncs is one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import pytest

from tests.lab.build import KERNELS
from tests.lab.furnished import Furnished, Shown, furnish
from tests.lab.vm import Vm

INSTANTS = 10
STRIDE = 7
NEWEST = [pytest.param(KERNELS[-1], marks=pytest.mark.xdist_group(f"linux-{KERNELS[-1]}"))]


@pytest.fixture
def furnished(vm: Vm) -> Iterator[Furnished]:
    with furnish(vm) as one:
        yield one


def instants(rng: random.Random) -> list[str | float]:
    """When to kill: one just before the first act, one at it, and parts of what a run takes."""
    return [f"-{rng.uniform(50, 400):.1f}", "0", *(rng.random() for _ in range(INSTANTS - 2))]


def test_killed_at_any_instant_it_is_put_back(furnished: Furnished, seed: int) -> None:
    one = furnished
    before, _ = one.view()
    one.well("whole", one.claim)
    one.put_back(before, "a whole claim and release")
    one.without_dad()
    for verb, words, trigger in (
        ("claim", one.claim, '"claim"'),
        ("release", "release", '"releasing"'),
    ):
        if verb == "release":
            one.well("whole", one.claim)
        window = one.well(f"timed:{trigger}:inf", words)["ms"]
        one.put_back(before, f"a whole {verb}")
        todo = instants(random.Random(f"{seed} {verb}"))
        outran = 0
        while todo:
            if verb == "release":
                one.well("whole", one.claim)
            when = todo.pop()
            delay = when if isinstance(when, str) else f"{when * window:.2f}"
            ran = one.run(f"timed:{trigger}:{delay}", words)
            one.put_back(before, f"{verb} killed at {delay} of {window:.0f} ms: {ran}")
            if not ran["killed"]:  # a machine that is less busy than before: aim again
                outran += 1
                assert outran < INSTANTS, f"no {verb} is killed before its end"
                window = min(window, ran["ms"]) * 0.9
                todo.append(when)


def acts_of(one: Furnished) -> dict[str, list[str]]:
    """What a claim and a release do to the world, one after the other."""
    claim = one.well("traced", one.claim)["acts"]
    release = one.well("traced", "release")["acts"]
    for verb, acts, must in (("claim", claim, "down"), ("release", release, "up")):
        assert f"rtnetlink 16 {must}" in acts, f"the trace of the {verb} misses its main act"
        assert sum(act.startswith("fsync") for act in acts) > 5, f"{verb}: {acts}"
    return {"claim": claim, "release": release}


def kill_at_acts(one: Furnished, before: Shown, points: Iterable[tuple[str, int, str]]) -> int:
    """Kill at these acts (verb, number, before or during it), recover, compare; how many died."""
    killed = 0
    for verb, number, when in points:
        if verb == "release":
            one.well("whole", one.claim)
        told = one.run(f"{when}:{number}", one.claim if verb == "claim" else "release")
        killed += told["killed"]
        story = f"{verb} killed {when} act {number}: {told['acts'][-3:]}, {told['text']!r}"
        one.put_back(before, story)
    return killed


# The turns in which pairs take all acts, some minutes each: odd, so that of two turns with the
# same acts one kills before them and one during them.
SLICES = 9
TURNS = range(2 * SLICES)


def kill_at_some(one: Furnished, stride: int, start: int) -> int:
    """Kill before or during every so many acts of a claim and a release, by turns, from one of the
    first on; of how many."""
    before, _ = one.view()
    acts = acts_of(one)
    one.put_back(before, "a whole claim and release")
    every = [(verb, number) for verb in acts for number in range(len(acts[verb]))]
    whens = ("before", "during")
    points = [
        (*point, whens[(n + start) % 2]) for n, point in enumerate(every[start % stride :: stride])
    ]
    killed = kill_at_acts(one, before, points)
    print(f"{len(every)} acts, killed at {killed} of them")
    assert killed == len(points)
    return killed


@pytest.mark.parametrize("kernel", NEWEST, indirect=True)
def test_killed_at_its_acts_it_is_put_back(furnished: Furnished, seed: int) -> None:
    furnished.without_dad()
    kill_at_some(furnished, STRIDE, seed)


@pytest.mark.parametrize("kernel", NEWEST, indirect=True)
def test_killed_and_renamed_it_is_put_back(furnished: Furnished) -> None:
    """Between the kill and the way back the netdev gets another name: identity is not the name."""
    one = furnished
    one.without_dad()

    def rename(old: str, new: str) -> None:
        one.vm.run(["ip", "link", "set", old, "name", new])

    rename(one.name, "wan0")  # which numbers the labels again, once
    before, _ = one.view()
    rename("wan0", one.name)
    acts = acts_of(one)
    for verb, what in (("claim", "16 down"), ("release", "104")):
        if verb == "release":
            one.well("whole", one.claim)
        number, act = next((n, a) for n, a in enumerate(acts[verb], 1) if what in a)
        told = one.run(f"before:{number}", one.claim if verb == "claim" else "release")
        assert told["killed"], told
        rename(one.name, "wan0")
        one.put_back(before, f"{verb} killed after {act}, then renamed: {told}")
        rename("wan0", one.name)


# --- claims that are released automatically ----------------------------------------------------------

WITHIN = 5  # s, which is what a run takes whose claim stands
CONFIRMED = "--confirm-within"


def kill_until_confirmed(one: Furnished, before: Shown, seed: int, stride: int) -> None:
    """Kill manactl, the guardian, and who confirms, at these acts; what is then left to do is for
    the guardian, or for `recover` and `release`."""
    soon, later = f"{one.claim} {CONFIRMED} {WITHIN}", f"{one.claim} {CONFIRMED} 3600"
    acts = {
        "": one.well("traced", soon)["acts"],
        "guard-": one.well("guard-traced", soon)["acts"],
    }
    one.put_back(before, "two that went back")
    assert "rtnetlink 16 down" in acts[""]
    assert "rtnetlink 16 up" in acts["guard-"]
    one.well("whole", later)
    acts["confirm"] = one.well("traced", "confirm")["acts"]
    assert any(act.startswith("fsync") for act in acts["confirm"])
    one.put_back(before, "one that was confirmed")

    every = [(who, number) for who in acts for number in range(len(acts[who]))]
    picked = every[seed % stride :: stride]
    for n, (who, number) in enumerate(picked):
        when = ("before", "during")[n % 2]
        if who == "confirm":
            one.well("whole", later)
            told = one.run(f"{when}:{number}", "confirm")
        else:
            told = one.run(f"{who}{when}:{number}", soon)
        assert len(told["acts"]) > number, told
        story = (
            f"{who or 'claim'} killed {when} act {number}: {told['acts'][-3:]}, {told['text']!r}"
        )
        if who == "guard-":
            assert told["rc"] in (0, 4), story
        else:
            assert told["killed"], story
        one.put_back(before, story)
    print(f"{len(every)} acts, killed at {len(picked)} of them")


@pytest.mark.parametrize("kernel", NEWEST, indirect=True)
def test_killed_before_it_is_confirmed_it_is_put_back(furnished: Furnished, seed: int) -> None:
    furnished.without_dad()
    before, _ = furnished.view()
    kill_until_confirmed(furnished, before, seed, 3 * STRIDE)


@pytest.mark.soak
@pytest.mark.parametrize("kernel", NEWEST, indirect=True)
def test_killed_anywhere_before_it_is_confirmed_it_is_put_back(furnished: Furnished) -> None:
    furnished.without_dad()
    before, _ = furnished.view()
    kill_until_confirmed(furnished, before, 0, 1)


@pytest.mark.soak
@pytest.mark.parametrize("when", ["before", "during"])
def test_killed_at_every_act_it_is_put_back(furnished: Furnished, when: str) -> None:
    one = furnished
    one.without_dad()
    before, _ = one.view()
    acts = acts_of(one)
    points = [(verb, number, when) for verb in acts for number in range(len(acts[verb]))]
    killed = kill_at_acts(one, before, points)
    print(f"{len(points)} acts, killed at {killed} of them")
    assert killed == len(points)
