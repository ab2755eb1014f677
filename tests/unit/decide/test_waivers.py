"""What --allow waives and what it does not, and the failure in which refusals end."""

from __future__ import annotations

from typing import Any

import pytest

from manactl.decide import refusal as why
from manactl.decide import waivers
from manactl.decide.codes import Bar, Code
from manactl.decide.refusal import Refusal
from manactl.errors import Busy, Denied, ManactlError, Refused, Unsupported
from manactl.model.port import Evidence, Holder
from tests.unit.decide.scene import AWAY, VLAN
from tests.unit.decide.test_codes import BY_ALLOW, BY_CONFIRM, BY_NOTHING
from tests.unit.fakes import PORT
from tests.unit.wording import read, wording


def refusal(code: str, facts: why.Facts = why.Xdp(), label: str = "eth1") -> Refusal:  # noqa: B008
    return Refusal(Code(code), PORT, label, facts)


def failure(*found: Refusal, allow: tuple[str, ...] = ()) -> ManactlError:
    with pytest.raises(ManactlError) as caught:
        raise waivers.refused(waivers.standing(found, allow), allow)
    return caught.value


@pytest.mark.parametrize("code", BY_ALLOW)
def test_a_waiver_takes_effect_for_its_own_code_alone(code: str) -> None:
    found = refusal(code)
    others = [other for other in BY_ALLOW if other != code]
    assert found.bar is None
    assert waivers.standing([found], [code]) == []
    assert waivers.standing([found], [*others, code]) == []
    assert failure(found, allow=tuple(others)).code == code
    assert failure(found).code == code


@pytest.mark.parametrize(
    ("code", "bar"),
    [(code, Bar.NEVER) for code in BY_NOTHING] + [(code, Bar.NEEDS_CONFIRM) for code in BY_CONFIRM],
)
def test_a_waiver_without_effect(code: str, bar: Bar) -> None:
    found = refusal(code)
    assert found.bar is bar
    assert waivers.stands(found, [code])
    assert failure(found, allow=(code,)).code == code


def test_an_upper_that_release_does_not_restore_stands_all_the_same() -> None:
    lost, kept = (refusal("upper", why.Uppers((one,))) for one in (AWAY, VLAN))
    assert waivers.stands(lost, {"upper"})
    assert not waivers.stands(kept, {"upper"})
    error = failure(lost, kept, allow=("upper",))
    assert len(error.evidence) == 1


def test_those_that_are_not_waived_are_reported() -> None:
    found = [refusal("tcp-established"), refusal("packet-sockets", why.PacketSockets(()))]
    assert waivers.standing([], ()) == []
    assert waivers.standing(iter(found), {"tcp-established", "packet-sockets"}) == []
    error = failure(*found, allow=("tcp-established",))
    assert [piece.fact for piece in error.evidence] == ["packet-sockets"]


HOLDER = Holder(4211, "testpmd", None, 0, "fwd.service", None, None)
DRIVER = (Evidence("debugfs", "EQs", True),)
OF_THE_PORT: list[tuple[str, why.Facts, type[ManactlError], int, tuple[Evidence, ...]]] = [
    ("unsupported", why.NoRdmaDevice(), Unsupported, 8, ()),
    (
        "holder",
        why.HeldBy((HOLDER,)),
        Busy,
        6,
        (Evidence("proc", "holder", {"pid": 4211, "comm": "testpmd", "unit": "fwd.service"}),),
    ),
    ("denied", why.OwnerUnprovable(DRIVER), Denied, 7, DRIVER),
    ("busy", why.InTransition(("flags and debugfs disagree",), DRIVER), Busy, 6, DRIVER),
]


@pytest.mark.parametrize(("code", "facts", "error", "exit_code", "evidence"), OF_THE_PORT)
def test_what_no_waiver_changes_has_a_failure_of_its_own(
    code: str,
    facts: why.Facts,
    error: type[ManactlError],
    exit_code: int,
    evidence: tuple[Evidence, ...],
) -> None:
    refused = failure(refusal(code, facts), allow=(code,))
    assert type(refused) is error
    assert (refused.exit_code, refused.code) == (exit_code, code)
    assert [source for source, _ in read(refused.evidence)] == [
        source for source, _ in read(evidence)
    ]
    with wording:
        assert refused.evidence == evidence
    two = failure(refusal(code, facts), refusal(code, facts, "eth2"))
    assert (type(two), two.code) == (error, code)


@pytest.mark.parametrize("code", BY_NOTHING[:3] + BY_CONFIRM + BY_ALLOW)
def test_a_guards_refusal_is_exit_3(code: str) -> None:
    refused = failure(refusal(code))
    assert type(refused) is Refused
    assert (refused.exit_code, refused.code) == (3, code)
    (piece,) = refused.evidence
    assert (piece.source, piece.fact) == ("guard", code)


@pytest.mark.parametrize(
    "found",
    [
        (refusal("xdp"), refusal("upper", why.Uppers((VLAN,)))),
        (refusal("xdp"), refusal("xdp", label="eth2")),
    ],
)
def test_the_document_has_a_guards_code_only_where_one_refusal_stands_alone(found: Any) -> None:
    error = failure(*found)
    assert error.code == "refused"
    assert [piece.fact for piece in error.evidence] == [str(one.code) for one in found]


@pytest.mark.parametrize(
    ("codes", "worst"),
    [
        (("xdp", "busy"), "busy"),
        (("busy", "denied"), "denied"),
        (("denied", "holder"), "holder"),
        (("holder", "unsupported"), "unsupported"),
    ],
)
def test_of_several_kinds_of_failure_the_worst_counts(codes: tuple[str, ...], worst: str) -> None:
    facts = {code: facts for code, facts, *_ in reversed(OF_THE_PORT)} | {"xdp": why.Xdp()}
    found = [refusal(code, facts[code]) for code in codes]
    for order in (found, found[::-1]):
        error = failure(*order)
        assert (error.code, type(error)) == (worst, Code(worst).error)
