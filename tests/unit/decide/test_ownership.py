"""The ownership tables: every row, and worlds of which parts of the evidence are hidden."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from manactl.decide.ownership import (
    DEVICE_RULES,
    PORT_RULES,
    Decision,
    DeviceFacts,
    PortFacts,
    Raw,
    decide,
    raw_on_device,
)
from manactl.model.port import Certainty, Owner

NO_RAW = DeviceFacts(raw_qp_tracked=False, contexts=0, pd_users=0, cq_users=0, user_qps=0)
ONE_RAW = DeviceFacts(
    raw_qp_tracked=True, contexts=1, pd_users=1, cq_users=2, user_qps=1, busy_pds=1
)
UNREADABLE = DeviceFacts()


@pytest.mark.parametrize(
    ("device", "raw"),
    [
        (DeviceFacts(absent=True), Raw.NONE),
        (DeviceFacts(elsewhere=True), Raw.UNKNOWN),
        (DeviceFacts(raw_qp_tracked=True), Raw.SOME),
        (DeviceFacts(raw_qp_tracked=True, combined=True), Raw.SOME),
        # ENOENT for queue pair 0 proves nothing.
        (DeviceFacts(raw_qp_tracked=False), Raw.UNKNOWN),
        (DeviceFacts(contexts=0), Raw.NONE),
        (DeviceFacts(contexts=3), Raw.UNKNOWN),
        (DeviceFacts(contexts=1, pd_users=0), Raw.NONE),
        (DeviceFacts(contexts=1, cq_users=0), Raw.NONE),
        (DeviceFacts(contexts=1, pd_users=2), Raw.UNKNOWN),  # memory regions use a PD too
        (DeviceFacts(contexts=1, pd_users=2, cq_users=0), Raw.NONE),
        # The first of two raw queue pairs is gone, the second escapes the table.
        (DeviceFacts(False, False, False, 1, 1, 2, 0), Raw.SOME_INFERRED),
        # On a combined device RC queue pairs use completion queues as well.
        (DeviceFacts(False, True, False, 1, 1, 2, 0), Raw.SOME_INFERRED),
        (DeviceFacts(False, True, False, 1, 1, 2, 1), Raw.NONE_INFERRED),
        (DeviceFacts(False, True, False, 2, 2, 4, 1), Raw.SOME_INFERRED),
        # The one tracked queue pair may itself be the raw one.
        (DeviceFacts(False, True, None, 1, 1, 2, 1), Raw.UNKNOWN),
        (DeviceFacts(False, True, False, 1, 1, 2, None), Raw.UNKNOWN),
        (DeviceFacts(False, True, False, 1, 1, 1, 1), Raw.UNKNOWN),  # does not add up
        (DeviceFacts(False, True, False, 1, 1, None, 1), Raw.UNKNOWN),
        (UNREADABLE, Raw.UNKNOWN),
    ],
)
def test_device_rows(device: DeviceFacts, raw: Raw) -> None:
    assert raw_on_device(device)[0] is raw


@pytest.mark.parametrize(
    ("port", "device", "owner", "certainty"),
    [
        # up rx eqs
        ((True, None, None), NO_RAW, Owner.ETHERNET, Certainty.PROVEN),
        ((True, None, None), UNREADABLE, Owner.ETHERNET, Certainty.PROVEN),
        ((True, True, True), ONE_RAW, Owner.ETHERNET, Certainty.PROVEN),
        ((True, False, False), NO_RAW, Owner.UNKNOWN, Certainty.UNKNOWN),
        ((True, False, None), NO_RAW, Owner.UNKNOWN, Certainty.UNKNOWN),
        ((True, False, True), NO_RAW, Owner.ETHERNET, Certainty.INFERRED),
        ((True, False, True), ONE_RAW, Owner.UNKNOWN, Certainty.UNKNOWN),
        ((True, False, True), UNREADABLE, Owner.UNKNOWN, Certainty.UNKNOWN),
        ((None, True, True), NO_RAW, Owner.ETHERNET, Certainty.PROVEN),
        ((None, True, None), UNREADABLE, Owner.ETHERNET, Certainty.PROVEN),
        ((False, True, True), NO_RAW, Owner.ETHERNET, Certainty.PROVEN),
        ((False, False, True), NO_RAW, Owner.ETHERNET, Certainty.INFERRED),
        ((False, False, True), ONE_RAW, Owner.RAW_QP, Certainty.PROVEN),
        ((None, False, True), ONE_RAW, Owner.RAW_QP, Certainty.PROVEN),
        ((False, False, True), UNREADABLE, Owner.RAW_QP, Certainty.INFERRED),
        ((False, False, False), NO_RAW, Owner.FREE, Certainty.PROVEN),
        ((None, False, False), NO_RAW, Owner.FREE, Certainty.PROVEN),
        ((False, False, False), UNREADABLE, Owner.UNKNOWN, Certainty.UNKNOWN),
        # A change of MTU lost the directory: the only port left has it all the same.
        ((False, False, False), ONE_RAW, Owner.RAW_QP, Certainty.INFERRED),
        ((False, None, None), NO_RAW, Owner.FREE, Certainty.PROVEN),
        ((False, False, None), NO_RAW, Owner.FREE, Certainty.PROVEN),
        ((False, None, None), ONE_RAW, Owner.RAW_QP, Certainty.PROVEN),
        ((False, None, None), UNREADABLE, Owner.UNKNOWN, Certainty.UNKNOWN),
        ((None, None, None), NO_RAW, Owner.UNKNOWN, Certainty.UNKNOWN),
        ((None, False, None), NO_RAW, Owner.UNKNOWN, Certainty.UNKNOWN),
        ((None, None, None), ONE_RAW, Owner.RAW_QP, Certainty.PROVEN),
        ((None, None, None), UNREADABLE, Owner.UNKNOWN, Certainty.UNKNOWN),
        ((False, None, None), DeviceFacts(absent=True), Owner.FREE, Certainty.PROVEN),
    ],
)
def test_one_port(
    port: tuple[bool | None, bool | None, bool | None],
    device: DeviceFacts,
    owner: Owner,
    certainty: Certainty,
) -> None:
    up, rx, eqs = port
    decision = decide(device, [PortFacts(1, admin_up=up, rx=rx, eqs=eqs)])[1]
    assert (decision.owner, decision.certainty) == (owner, certainty)
    assert decision.reasons


def test_certainty_of_the_device_is_that_of_the_elimination() -> None:
    lost_track = DeviceFacts(False, False, False, 1, 1, 2, 0)
    decision = decide(lost_track, [PortFacts(1, True), PortFacts(2, False)])[2]
    assert (decision.owner, decision.certainty) == (Owner.RAW_QP, Certainty.INFERRED)


def test_several_ports_that_may_have_it_are_candidates_and_no_more() -> None:
    ports = [PortFacts(1, True), PortFacts(2, False), PortFacts(3, None), PortFacts(4, False)]
    decisions = decide(ONE_RAW, ports)
    assert decisions[1].owner is Owner.ETHERNET
    for number in (2, 3, 4):
        assert decisions[number].owner is Owner.UNKNOWN
        assert decisions[number].candidates == (2, 3, 4)


@pytest.mark.parametrize("changing", [False, True])
@pytest.mark.parametrize("contexts", [None, 0, 1])
def test_a_vport_in_use_may_be_that_of_a_queue_pair_not_yet_counted(
    contexts: int | None, changing: bool
) -> None:
    device = DeviceFacts(False, False, False, contexts, 0, 0, 0, 0, changing=changing)
    decision = decide(device, [PortFacts(1, False, eqs=True, rx=False)])[1]
    opened = contexts == 0 and not changing
    assert decision.owner is (Owner.ETHERNET if opened else Owner.UNKNOWN)
    assert decision.candidates == (() if opened else (1,))


def test_debugfs_places_the_raw_qp_and_frees_the_others() -> None:
    ports = [PortFacts(1, False, eqs=False, rx=False), PortFacts(2, False, eqs=True, rx=False)]
    decisions = decide(ONE_RAW, ports)
    assert decisions[1].owner is Owner.FREE
    assert decisions[2].owner is Owner.RAW_QP


@pytest.mark.parametrize(
    ("cq_users", "busy_pds", "owner"),
    [
        (4, 2, Owner.UNKNOWN),
        (4, None, Owner.UNKNOWN),
        (None, 2, Owner.UNKNOWN),
        (None, None, Owner.UNKNOWN),
        (4, 1, Owner.FREE),  # two raw queue pairs on one port
        (3, 2, Owner.FREE),  # the other domain has a memory region only
    ],
)
def test_another_raw_qp_may_have_lost_its_directory(
    cq_users: int | None, busy_pds: int | None, owner: Owner
) -> None:
    """One is seen in debugfs; a change of MTU on its down port hides a second one."""
    device = DeviceFacts(False, False, True, 1, None, cq_users, None, busy_pds)
    ports = [PortFacts(1, False, eqs=False, rx=False), PortFacts(2, False, eqs=True, rx=False)]
    decisions = decide(device, ports)
    assert decisions[1].owner is owner
    assert decisions[1].candidates == ((1,) if owner is Owner.UNKNOWN else ())
    assert decisions[2].owner is Owner.RAW_QP


def test_a_raw_qp_that_debugfs_shows_nowhere_may_be_on_any_down_port() -> None:
    down = [PortFacts(n, False, eqs=False, rx=False) for n in (1, 2)]
    decisions = decide(ONE_RAW, [*down, PortFacts(3, True, eqs=True, rx=True)])
    assert decisions[1].owner is decisions[2].owner is Owner.UNKNOWN
    assert decisions[1].candidates == (1, 2)


def test_a_port_in_transition_is_not_ruled_out() -> None:
    opening = PortFacts(1, True, eqs=True, rx=False)
    decisions = decide(ONE_RAW, [opening, PortFacts(2, False)])
    assert decisions[1].in_transition
    assert decisions[1].owner is decisions[2].owner is Owner.UNKNOWN
    assert decisions[2].candidates == (1, 2)


@pytest.mark.parametrize("ports", [1, 2])
def test_a_device_elsewhere_never_proves_a_port_free(ports: int) -> None:
    """Whatever the ports show: only IFF_UP or receive queues say that the netdev has one, and only
    event queues beside them that a raw queue pair has it."""
    tri = (None, False, True)
    shown = [(up, rx, eqs) for up in tri for rx in tri for eqs in tri]
    for changing in (False, True):
        device = DeviceFacts(elsewhere=True, changing=changing)
        for up, rx, eqs in shown:
            mates = [PortFacts(n, False, eqs=False, rx=False) for n in range(2, ports + 1)]
            first, *others = decide(device, [PortFacts(1, up, eqs=eqs, rx=rx), *mates]).values()
            assert first.owner is not Owner.FREE
            if first.owner is Owner.ETHERNET:
                assert up or rx
            if first.owner is Owner.RAW_QP:
                assert (eqs, rx, first.certainty) == (True, False, Certainty.INFERRED)
            assert all(other.owner is Owner.UNKNOWN for other in others)
            if first.owner is Owner.UNKNOWN and up is False:
                assert 1 in first.candidates


def test_no_row_is_dead() -> None:
    """Each row decides some combination of facts, so none is there for show."""
    tri = (None, False, True)
    hit_device = {raw_on_device(DeviceFacts(elsewhere=True))[1]}
    counts = (None, 0, 1, 2)
    for absent in (False, True):
        for combined in (False, True):
            for tracked in tri:
                for contexts in counts:
                    for pds in counts:
                        for cqs in counts:
                            for qps in (None, 0, 1):
                                facts = DeviceFacts(
                                    absent, combined, tracked, contexts, pds, cqs, qps
                                )
                                hit_device.add(raw_on_device(facts)[1])
    assert hit_device == {why for _, _, why in DEVICE_RULES}
    devices = [NO_RAW, ONE_RAW, UNREADABLE, DeviceFacts(False, False, False, 1, 1, 2, 0)]
    devices.append(DeviceFacts(False, True, False, 1, 1, 2, 1))
    reasons = set()
    for device in devices:
        for up in tri:
            for eqs in tri:
                for rx in tri:
                    # Two ports, so that elimination does not hide the row.
                    pair = [PortFacts(1, up, eqs, rx), PortFacts(2, up, eqs, rx)]
                    reasons |= set(decide(device, pair)[1].reasons)
    assert {row.reason for *_, row in PORT_RULES} <= reasons


@dataclass(frozen=True)
class World:
    """The truth, and what a kernel of a given shape shows of it."""

    owners: tuple[Owner, ...]
    device: DeviceFacts
    ports: tuple[PortFacts, ...]


@st.composite
def worlds(draw: st.DrawFn, shapes: tuple[str, ...] = ("6.12", "6.18", "7")) -> World:
    shape = draw(st.sampled_from(shapes))
    lossy = draw(st.booleans())
    owners = draw(
        st.lists(
            st.sampled_from([Owner.ETHERNET, Owner.RAW_QP, Owner.FREE]), min_size=1, max_size=4
        )
    )
    raw_qps = sum(draw(st.integers(1, 3)) for owner in owners if owner is Owner.RAW_QP)
    work_queues = draw(st.integers(0, 4)) if raw_qps else 0
    rc_qps = draw(st.integers(0, 3)) if shape == "6.12" else 0
    regions = draw(st.integers(0, 2))
    idle_pds = draw(st.integers(0, 1)) if regions else 0  # with regions and no queue pair
    tracked = bool(raw_qps) and draw(st.booleans())
    idle = draw(st.integers(0, 2))
    users = bool(raw_qps or rc_qps or regions)
    device = DeviceFacts(
        absent=not users and not idle and draw(st.booleans()),
        combined=shape == "6.12",
        raw_qp_tracked=tracked,
        contexts=idle + users,
        pd_users=raw_qps + work_queues + rc_qps + regions,
        cq_users=2 * raw_qps + work_queues + 2 * rc_qps,
        user_qps=rc_qps + tracked,
        busy_pds=owners.count(Owner.RAW_QP) + bool(rc_qps) + idle_pds,
    )
    ports = []
    for number, owner in enumerate(owners, 1):
        # A change of MTU on a down port whose vport a raw QP has loses its directory of EQs.
        lost = lossy and owner is Owner.RAW_QP and draw(st.booleans())
        eqs = owner is not Owner.FREE and not lost
        ports.append(
            PortFacts(
                port=number,
                admin_up=owner is Owner.ETHERNET,
                eqs=eqs if shape == "7" else None,
                rx=owner is Owner.ETHERNET if shape != "6.12" else None,
            )
        )
    return World(tuple(owners), device, tuple(ports))


def hide(draw: st.DrawFn, facts: DeviceFacts | PortFacts, names: list[str]) -> dict[str, None]:
    return dict.fromkeys(name for name in names if draw(st.booleans()))


@st.composite
def sights(draw: st.DrawFn) -> tuple[World, DeviceFacts, list[PortFacts]]:
    """A world and what is left of the evidence after some of it was hidden."""
    world = draw(worlds())
    names = ["raw_qp_tracked", "contexts", "pd_users", "cq_users", "user_qps", "busy_pds"]
    device = world.device._replace(**hide(draw, world.device, names))
    ports = [port._replace(**hide(draw, port, ["admin_up", "eqs", "rx"])) for port in world.ports]
    return world, device, ports


@settings(max_examples=500)
@given(sights())
def test_whatever_is_hidden_no_owner_is_named_that_is_not_the_owner(
    sight: tuple[World, DeviceFacts, list[PortFacts]],
) -> None:
    world, device, ports = sight
    decisions = decide(device, ports)
    assert sorted(decisions) == [port.port for port in ports]
    for number, truth in enumerate(world.owners, 1):
        said = decisions[number]
        if said.owner is Owner.UNKNOWN:
            assert said.certainty is Certainty.UNKNOWN
            assert truth is not Owner.RAW_QP or number in said.candidates
        else:
            assert said.owner is truth
            assert said.candidates == ()
            assert said.certainty is not Certainty.UNKNOWN


@given(worlds(shapes=("7",)))
def test_with_all_the_evidence_of_a_7x_kernel_nothing_is_unknown(world: World) -> None:
    shown = sum(bool(port.eqs) and not port.rx for port in world.ports)
    assume(shown == world.owners.count(Owner.RAW_QP))  # no directory was lost
    assume(world.device.busy_pds == shown)  # nor is there a domain that could hide a raw QP
    decisions = decide(world.device, world.ports)
    assert [decisions[port.port].owner for port in world.ports] == list(world.owners)


@given(st.lists(st.integers(1, 64).map(PortFacts), min_size=1, unique_by=lambda p: p.port))
def test_without_any_evidence_nothing_is_free(ports: list[PortFacts]) -> None:
    for decision in decide(DeviceFacts(), ports).values():
        assert decision.owner is Owner.UNKNOWN
        assert decision.candidates == tuple(port.port for port in ports)


@pytest.mark.parametrize(
    ("admin_up", "eqs", "owner", "lost"),
    [
        (False, False, Owner.RAW_QP, True),  # it must be this one's, and debugfs has lost them
        (False, None, Owner.RAW_QP, False),  # this driver shows no event queues of a vport
        (False, True, Owner.RAW_QP, False),
        (None, False, Owner.RAW_QP, True),
    ],
)
@pytest.mark.parametrize("other", [PortFacts(2, True, True, True), PortFacts(2, True)])
def test_event_queues_are_lost_where_only_this_port_can_have_the_raw_qp(
    admin_up: bool | None, eqs: bool | None, owner: Owner, lost: bool, other: PortFacts
) -> None:
    decision = decide(ONE_RAW, [PortFacts(1, admin_up, eqs, rx=False), other])[1]
    assert (decision.owner, decision.eqs_lost) == (owner, lost)
    assert decision.certainty is (Certainty.INFERRED if lost else Certainty.PROVEN)
    assert decision.candidates == ()
    if eqs is not True:
        assert decision.reasons == ("only-port-left", "raw-qp-exists")


@pytest.mark.parametrize(
    ("device", "lost"),
    [
        (ONE_RAW, True),
        (DeviceFacts(False, False, False, 1, 1, 2, 0), True),  # inferred, and counts as much
        (UNREADABLE, False),
        (NO_RAW, False),
        (ONE_RAW._replace(changing=True), False),  # the queue pair is in the making, or ending
    ],
)
def test_event_queues_are_lost_on_one_of_several_ports(device: DeviceFacts, lost: bool) -> None:
    ports = [PortFacts(number, False, eqs=False, rx=False) for number in (1, 2)]
    decisions = decide(device, [*ports, PortFacts(3, False)])
    assert [decisions[number].eqs_lost for number in (1, 2, 3)] == [lost, lost, False]


def test_a_port_that_is_freed_by_elimination_has_lost_nothing() -> None:
    ports = [PortFacts(1, False, eqs=False, rx=False), PortFacts(2, False, eqs=True, rx=False)]
    freed = decide(ONE_RAW, ports)[1]
    assert (freed.owner, freed.eqs_lost) == (Owner.FREE, False)
    assert (freed.certainty, freed.reasons) == (Certainty.PROVEN, ("eqs-of-others",))


def test_a_queue_pair_in_the_making_frees_no_port_and_is_nobodys_yet() -> None:
    ports = [PortFacts(1, False, eqs=False, rx=False), PortFacts(2, True, True, True)]
    decisions = decide(NO_RAW._replace(changing=True), ports)
    assert decisions[1] == Decision(
        Owner.UNKNOWN, Certainty.UNKNOWN, ("qp-being-created",), candidates=(1,)
    )
    assert decisions[2].owner is Owner.ETHERNET
    one_left = decide(ONE_RAW._replace(changing=True), ports)[1]
    assert (one_left.owner, one_left.candidates) == (Owner.UNKNOWN, (1,))
    placed = [PortFacts(1, False, eqs=False, rx=False), PortFacts(2, False, eqs=True, rx=False)]
    assert decide(ONE_RAW._replace(changing=True), placed)[1].owner is Owner.UNKNOWN


@pytest.mark.parametrize(
    ("contexts", "absent", "changing", "reason"),
    [
        (0, False, False, "netdev-opening"),
        (None, True, False, "netdev-opening"),
        (1, True, False, "netdev-opening"),
        (1, False, False, "being-taken"),
        (None, False, False, "being-taken"),
        (0, False, True, "being-taken"),
    ],
)
def test_a_vport_that_is_being_taken(
    contexts: int | None, absent: bool, changing: bool, reason: str
) -> None:
    device = DeviceFacts(absent, False, False, contexts, 0, 0, 0, 0, changing=changing)
    assert decide(device, [PortFacts(1, False, eqs=True, rx=False)])[1].reasons == (reason,)


@pytest.mark.parametrize(
    ("admin_up", "owner"), [(True, Owner.UNKNOWN), (None, Owner.UNKNOWN), (False, Owner.FREE)]
)
def test_a_reset_leaves_no_owner_but_to_a_port_that_was_down(
    admin_up: bool | None, owner: Owner
) -> None:
    device = DeviceFacts(absent=True, in_reset=True)
    decision = decide(device, [PortFacts(1, admin_up)])[1]
    assert decision.owner is owner
    assert decision.in_transition is (admin_up is not False)
    assert (decision.reasons == ("in-reset",)) is (admin_up is not False)


@pytest.mark.parametrize(
    ("facts", "device", "transition"),
    [
        (PortFacts(1, True, True, False), NO_RAW, True),
        (PortFacts(1, True, True, False), ONE_RAW, True),
        (PortFacts(1, True, False, False), NO_RAW, True),
        (PortFacts(1, True, None, False), NO_RAW, True),
        (PortFacts(1, True, True, True), NO_RAW, False),
        (PortFacts(1, True), NO_RAW, False),
        (PortFacts(1, False, True, False), NO_RAW, False),
        (PortFacts(1, None, False, False), NO_RAW, False),
        (PortFacts(1, False), UNREADABLE, False),
    ],
)
def test_a_netdev_that_is_up_without_its_queues_is_in_transition(
    facts: PortFacts, device: DeviceFacts, transition: bool
) -> None:
    assert decide(device, [facts])[1].in_transition is transition


@pytest.mark.parametrize(
    ("facts", "device", "reasons"),
    [
        (PortFacts(1, True), NO_RAW, ("netdev-up",)),
        (PortFacts(1, True, True, False), NO_RAW, ("up-without-rx-no-raw-qp",)),
        (PortFacts(1, True, True, False), ONE_RAW, ("up-without-rx",)),
        (PortFacts(1, True, False, False), NO_RAW, ("up-without-queues",)),
        (PortFacts(1, None, None, True), NO_RAW, ("netdev-rx",)),
        (PortFacts(1, False, True, False), ONE_RAW, ("eqs-not-netdev",)),
        (PortFacts(1, False, False, False), NO_RAW, ("no-eqs",)),
        (PortFacts(1, False), NO_RAW, ("netdev-down",)),
        (PortFacts(1, None), NO_RAW, ("netdev-unseen",)),
        (PortFacts(1, False), UNREADABLE, ("may-have-raw-qp", "raw-qp-unread")),
    ],
)
def test_the_row_that_decided_is_the_reason(
    facts: PortFacts, device: DeviceFacts, reasons: tuple[str, ...]
) -> None:
    assert decide(device, [facts])[1].reasons == reasons


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        (DeviceFacts(absent=True), "no-rdma-driver"),
        (DeviceFacts(raw_qp_tracked=True), "raw-qp-exists"),
        (DeviceFacts(contexts=0), "no-context"),
        (DeviceFacts(contexts=1, pd_users=0), "pds-empty"),
        (DeviceFacts(contexts=1, pd_users=1, cq_users=0), "cqs-unused"),
        (DeviceFacts(contexts=1, pd_users=1, cq_users=1), "cqs-of-raw-users"),
        (DeviceFacts(False, True, False, 1, 1, 3, 1), "cqs-unlisted-qp"),
        (DeviceFacts(False, True, False, 1, 1, 2, 1), "cqs-explained"),
        (DeviceFacts(False, True, None, 1, 1, 2, 1), "raw-qp-unread"),
    ],
)
def test_the_row_of_the_device_is_named(device: DeviceFacts, reason: str) -> None:
    assert raw_on_device(device)[1] == reason


def test_what_is_known_of_a_raw_qp_has_its_certainty() -> None:
    assert {raw for raw in Raw if raw.none} == {Raw.NONE, Raw.NONE_INFERRED}
    assert {raw for raw in Raw if raw.some} == {Raw.SOME, Raw.SOME_INFERRED}
    assert {raw: raw.certainty for raw in Raw} == {
        Raw.NONE: Certainty.PROVEN,
        Raw.SOME: Certainty.PROVEN,
        Raw.NONE_INFERRED: Certainty.INFERRED,
        Raw.SOME_INFERRED: Certainty.INFERRED,
        Raw.UNKNOWN: Certainty.UNKNOWN,
    }


def test_the_netdev_of_another_port_takes_no_raw_qp() -> None:
    """Three ports, one raw QP placed: only where another may be does a port stay open."""
    ports = [
        PortFacts(1, False, eqs=True, rx=False),
        PortFacts(2, False, eqs=False, rx=False),
        PortFacts(3, False),  # of it nothing is known: it stays a candidate
    ]
    decisions = decide(ONE_RAW, ports)
    assert [decisions[number].owner for number in (1, 2, 3)] == [
        Owner.RAW_QP,
        Owner.FREE,
        Owner.UNKNOWN,
    ]
    assert decisions[3].candidates == (3,)
