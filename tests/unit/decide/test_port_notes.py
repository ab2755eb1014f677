"""Which notes a port gets: each with what calls for it, and without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from manactl.decide import port_notes
from manactl.decide.ownership import Decision
from manactl.model.port import (
    Certainty,
    Holder,
    Netdev,
    Note,
    NoteCode,
    Owner,
    PortStatus,
    RdmaPort,
    RdmaUse,
    Upper,
)
from tests.unit.decide.scene import STATUS
from tests.unit.test_shapes import claim_of

ETHERNET = Decision(Owner.ETHERNET, Certainty.PROVEN, ("netdev-up",))
RAW = Decision(Owner.RAW_QP, Certainty.PROVEN, ("eqs-not-netdev",))
UNKNOWN = Decision(Owner.UNKNOWN, Certainty.UNKNOWN, ("up-without-queues",))
HELD = tuple(Holder(pid, comm, None, 0, None, None, None) for pid, comm in ((7, "a"), (8, None)))
TAKEN = STATUS._replace(owner=Owner.RAW_QP, rdma=None, holders=HELD[:1])


def notes(
    port: PortStatus = STATUS,
    decision: Decision = ETHERNET,
    *others: Decision,
    labels: tuple[str, ...] = (),
    steady: bool = True,
    hidden: bool = False,
) -> list[Note]:
    decisions = dict(enumerate((decision, *others), port.id.port))
    return list(port_notes.of(port, decisions, labels, steady=steady, hidden=hidden))


def test_nothing_is_said_of_a_port_like_any_other() -> None:
    assert notes() == []


def test_each_condition_has_its_note() -> None:
    assert notes(steady=False) == [Note("kept-changing")]
    assert notes(decision=ETHERNET._replace(in_transition=True)) == [Note("in-transition")]
    assert notes(decision=ETHERNET._replace(eqs_lost=True)) == [Note("eqs-lost", (True,))]
    shared = STATUS._replace(candidates=("7870:00:00.0:1", "7870:00:00.0:2"))
    assert Note("eqs-lost", (False,)) in notes(shared, UNKNOWN._replace(eqs_lost=True))


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"netns": "blue"}, Note("netdev-in-netns", ("eth1", "blue"))),
        ({"netdev": None}, Note("netdev-not-here")),
        ({"netdev": None, "owner": Owner.FREE}, Note("netdev-not-here")),
        ({"netdev": None, "owner": Owner.UNKNOWN}, Note("netdev-not-here-maybe-up")),
        ({"netdev": None, "netns": "blue"}, Note("netdev-not-here")),
    ],
)
def test_a_netdev_that_is_not_here(change: dict[str, Any], note: Note) -> None:
    assert notes(STATUS._replace(**change)) == [note]


def test_an_unknown_owner_is_explained_by_candidates_or_by_its_reasons() -> None:
    unknown = STATUS._replace(owner=Owner.UNKNOWN, reasons=("up-without-queues",))
    assert notes(unknown, UNKNOWN) == [Note("owner-unknown", ("up-without-queues",))]
    one = unknown._replace(candidates=("a",))
    assert notes(one, UNKNOWN) == [Note("owner-unknown", ("up-without-queues",))]
    two = unknown._replace(candidates=("a", "b"))
    assert notes(two, UNKNOWN, labels=("eth0", "eth1")) == [Note("candidates", ("eth0", "eth1"))]


def test_a_raw_qp_explains_what_rdma_link_shows() -> None:
    port = TAKEN._replace(rdma=RdmaPort("manae_0", 1))
    assert notes(port, RAW) == [Note("rdma-link-down", ("manae_0", 1))]
    assert notes(TAKEN, RAW) == []


@pytest.mark.parametrize(("hidden", "code"), [(False, "holder-unseen"), (True, "holder-hidden")])
def test_a_holder_that_is_not_visible(hidden: bool, code: str) -> None:
    nobody = TAKEN._replace(holders=())
    assert [note.code for note in notes(nobody, RAW, hidden=hidden)] == [code]


def test_several_holders_use_one_port_or_several() -> None:
    both = TAKEN._replace(holders=HELD)
    names = ("a 7", "? 8")
    assert notes(both, RAW) == [Note("holders-of-port", names)]
    assert notes(both, RAW, ETHERNET) == [Note("holders-of-port", names)]
    assert notes(both, RAW, RAW) == [Note("holders-of-ports", names)]


def below(kind: str | None, upper: bool = True) -> Iterator[PortStatus]:
    netdev = Netdev("eth1", 3, 0x1002, "down", None, None, None, master="bond0")
    for port in (STATUS, TAKEN):
        yield port._replace(netdev=netdev, upper=Upper("bond0", kind) if upper else None)


def test_the_upper_is_named_with_its_kind_where_that_is_known() -> None:
    for kind, note in (("bond", Note("upper-of-kind", ("bond0", "bond"))),
                       (None, Note("upper", ("bond0",)))):  # fmt: skip
        for port in below(kind):
            assert notes(port) == [note]
    for port in below(None, upper=False):
        assert notes(port) == [Note("upper", ("bond0",))]


def test_the_danger_of_a_bond_is_a_raw_qps() -> None:
    danger = Note("bond-danger", ("eth1", "bond0"))
    idle, taken = (port._replace(vport_eqs=True) for port in below("bond"))
    assert danger not in notes(idle)
    assert notes(taken, RAW)[-1] == danger
    assert port_notes.below_a_bond(idle) == danger  # as a claim says it, beforehand
    assert port_notes.below_a_bond(idle._replace(vport_eqs=None)) is None


@pytest.mark.parametrize(
    ("contexts", "descriptors", "found"),
    [(2, 1, True), (3, 1, True), (1, 1, False), (1, 2, False), (None, 0, False), (0, 0, False)],
)
@pytest.mark.parametrize("hidden", [False, True])
def test_contexts_without_a_descriptor(
    contexts: int | None, descriptors: int, found: bool, hidden: bool
) -> None:
    port = TAKEN._replace(rdma_use=RdmaUse(contexts))
    code = "contexts-hidden" if hidden else "contexts-unseen"
    note = Note(code, (contexts, descriptors))
    assert port_notes.unseen(port, descriptors, hidden) == (note if found else None)
    assert port_notes.unseen(port._replace(holders=()), descriptors, hidden) is None


@pytest.mark.parametrize("owner", Owner)
def test_a_raw_qp_without_a_claim_has_a_note(owner: Owner) -> None:
    note = Note("unclaimed") if owner is Owner.RAW_QP else None
    assert port_notes.unclaimed(STATUS._replace(owner=owner)) == note


def test_users_of_other_kinds() -> None:
    assert port_notes.rdma_users("mana_0", 3) == Note("other-qps", ("mana_0", 3))


DOWN = STATUS._replace(netdev=Netdev("eth1", 3, 0x1002, None, None, None, None))


@pytest.mark.parametrize(
    ("port", "drift"),
    [
        (DOWN, []),
        (STATUS, [Note("drift-up")]),
        (STATUS._replace(netdev=None), [Note("drift-no-netdev")]),
        (DOWN._replace(netns="blue"), [Note("drift-moved", ("blue",))]),
        (STATUS._replace(netns="blue"), [Note("drift-moved", ("blue",)), Note("drift-up")]),
        (DOWN._replace(netdev=DOWN.netdev and DOWN.netdev._replace(flags=None)), []),
    ],
)
def test_drift_is_where_a_standing_claim_left_it_otherwise(
    port: PortStatus, drift: list[Note]
) -> None:
    assert list(port_notes.drift(port, claim_of(1))) == drift
    assert list(port_notes.drift(port, claim_of(1, phase="interrupted"))) == []
    assert list(port_notes.drift(port, claim_of(1, same_boot=False))) == []


def test_a_netdev_that_was_recreated_has_another_ifindex() -> None:
    for then, drift in ((None, []), (3, []), (9, [Note("drift-recreated", (9, 3))])):
        claim = claim_of(1)._replace(ifindex=then)
        assert list(port_notes.drift(DOWN, claim)) == drift
    moved = list(port_notes.drift(DOWN._replace(netns="blue"), claim_of(1)._replace(ifindex=9)))
    assert moved == [Note("drift-moved", ("blue",))]


PAIR = Upper("eth0", "netvsc", "000d3aaa", "vf", True)


def paired(admin_up: bool = True, **pair: Any) -> PortStatus:
    netdev = Netdev("vf0", 3, 0x1803 if admin_up else 0x1802, "up", None, None, None, (), "eth0")
    return STATUS._replace(netdev=netdev, upper=PAIR._replace(**pair))


def test_a_pair_is_worth_a_note_on_its_slow_path_alone() -> None:
    assert notes(paired()) == []
    assert port_notes.slow(paired()) is None
    down = paired(admin_up=False, data_path="synthetic")
    assert port_notes.slow(down) == Note("slow-path", ("eth0",))
    assert port_notes.slow(STATUS) is None


def drift_of(port: PortStatus, mode: str | None) -> list[Note]:
    claim = claim_of(port.id.port)
    claim = claim._replace(claim=claim.claim._replace(synthetic=mode), ifindex=3)
    return list(port_notes.drift(port, claim))


def test_a_pair_that_is_as_its_claim_left_it() -> None:
    assert drift_of(paired(admin_up=False, up=False), "down") == []
    assert drift_of(paired(admin_up=False), "keep") == []


def test_a_pair_that_is_not_as_its_claim_left_it() -> None:
    vf, above = Note("drift-vf-up", ("eth0",)), Note("drift-synthetic-up", ("eth0",))
    assert drift_of(paired(), "down") == [vf, above]
    assert drift_of(paired(admin_up=False), "down") == [above]
    assert drift_of(paired(), "keep") == [vf], "hv_netvsc opens it below a netdev that is up"
    assert drift_of(paired(up=False), "down") == [Note("drift-up")], "somebody else did"
    alone = paired(admin_up=False)._replace(upper=None)
    assert drift_of(alone, "down") == [Note("drift-unpaired")]
    assert drift_of(alone, None) == []


@pytest.mark.parametrize("was", [True, False, None])
def test_a_synthetic_netdev_that_was_to_stay_up(was: bool | None) -> None:
    claim = claim_of(1)
    kept = claim._replace(claim=claim.claim._replace(synthetic="keep"), upper_up=was)
    down = paired(admin_up=False, up=False)
    found = [note.code for note in port_notes.drift(down, kept)]
    assert found == (["drift-synthetic-down"] if was else [])
    assert not [*port_notes.drift(paired(admin_up=False), kept)]
    lowered = kept._replace(claim=claim.claim._replace(synthetic="down"))
    assert not [*port_notes.drift(down, lowered)]


def test_a_pair_on_uio_whose_device_is_not_there_any_more() -> None:
    """Somebody has given it back, or unbound it; or the host has taken it, or offered it anew."""
    on_uio = Upper("eth0", "netvsc", "000d3aaa", on_uio=True)
    left = paired(admin_up=False)._replace(upper=on_uio)
    assert drift_of(left, "uio") == []
    back, alone = paired(admin_up=False, up=False), left._replace(upper=None)
    for port in (back, alone, back._replace(unjoined="000d3aaa")):
        assert [note.code for note in drift_of(port, "uio")] == ["drift-not-uio"]
    codes = [note.code for note in drift_of(paired(), "uio")]
    assert codes == ["drift-vf-up", "drift-synthetic-up", "drift-not-uio"]


@pytest.mark.parametrize("mode", ["down", "keep", "uio"])
@pytest.mark.parametrize(("then", "now"), [(4, 4), (4, 9), (None, 9), (4, None)])
def test_a_synthetic_netdev_that_is_another_one(
    mode: str, then: int | None, now: int | None
) -> None:
    """With uio there is none, and a new one is told of as that."""
    claim = claim_of(1)
    claim = claim._replace(claim=claim.claim._replace(synthetic=mode), upper_ifindex=then)
    up = {"down": False, "keep": True, "uio": None}[mode]
    found = {
        note.code for note in port_notes.drift(paired(admin_up=False, up=up), claim, above=now)
    }
    another = (then, now) == (4, 9) and mode != "uio"
    assert found == (
        {"drift-synthetic-recreated"} if another else {"drift-not-uio"} if mode == "uio" else set()
    )


@pytest.mark.parametrize(
    ("codes", "mode", "helps"),
    [
        ([], None, False),
        (["drift-up"], None, True),
        (["drift-recreated", "drift-up"], None, True),
        (["drift-vf-up"], "keep", True),
        (["drift-synthetic-up"], "down", True),
        (["drift-synthetic-up"], "uio", False),  # there was none when it was claimed
        (["drift-unpaired"], "down", False),
        (["drift-moved", "drift-up"], None, False),
        (["drift-another-nic", "drift-up"], None, False),
        (["claimed-elsewhere", "drift-up"], None, False),
    ],
)
def test_hold_helps_a_port_that_was_set_up(
    codes: list[NoteCode], mode: str | None, helps: bool
) -> None:
    found = port_notes.hold_keeps_down([Note(code) for code in codes], mode)
    assert found == (Note("hold-keeps-down") if helps else None)
