"""What is read of a function's RDMA devices, and what is not when the kernel refuses."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Any

import pytest

from manactl.decide.ownership import DeviceFacts
from manactl.look import rdma
from manactl.look.sysfs import Function, RdmaNode
from manactl.model.port import Certainty, Evidence, Missing, Owner, RdmaPort, RdmaUse, Source
from manactl.wire.nldev import RdmaDevice, Resource
from tests.unit.machine import PCI, Make, noted
from tests.unit.test_report import nldev, owners
from tests.unit.wording import read, wording


def test_rdma_devices_are_told_apart_by_shape_not_by_name(make: Make) -> None:
    machine = make("7-raw-qp-on-port-2")
    for old, new in (("manae_0", "rdmap1s0"), ("mana_0", "manae_0")):
        machine.pci(f"infiniband/{old}").rename(machine.pci(f"infiniband/{new}"))
        for ibdev in machine.pci("infiniband_verbs").glob("*/ibdev"):
            if ibdev.read_text().strip() == old:
                ibdev.write_text(new + "\n")
        for one in nldev(machine).recorded:
            if one["device"]["name"] == old:
                one["device"]["name"] = new
    machine.holder(7)
    first, second = machine.look().ports
    assert first.rdma == RdmaPort("rdmap1s0", 1, ("manae_0/1",))
    assert second.owner is Owner.RAW_QP
    assert [holder.pid for holder in second.holders] == [7]


def test_without_an_rdma_driver_a_down_port_is_free(make: Make) -> None:
    machine = make("6.18-idle")
    machine.remove(machine.pci("infiniband"))
    machine.remove(machine.pci("infiniband_verbs"))
    for auxiliary in machine.path(f"/sys/bus/pci/devices/{PCI}").glob("mana.*"):
        (auxiliary / "driver").unlink()
    assert owners(machine) == [(Owner.FREE, Certainty.PROVEN)] * 2
    assert machine.look().ports[0].rdma is None


def test_rdma_devices_of_another_namespace_leave_it_open(make: Make) -> None:
    machine = make("6.18-idle")
    machine.remove(machine.pci("infiniband"))
    nldev(machine).recorded = []
    assert owners(machine) == [(Owner.UNKNOWN, Certainty.UNKNOWN)] * 2


def test_two_devices_that_look_alike_leave_it_open(make: Make) -> None:
    machine = make("6.18-idle")
    machine.pci("infiniband/mana_0/node_guid").write_text("0000:0000:0000:0000\n")
    for one in nldev(machine).recorded:
        one["device"]["protocol"] = None
    report = machine.look()
    assert {port.owner for port in report.ports} == {Owner.UNKNOWN}
    with wording:
        assert any("cannot tell" in item.why for item in report.missing)


@pytest.mark.parametrize("state", ["idle", "raw-qp-on-port-2"])
@pytest.mark.parametrize(
    ("kernel", "owner"),
    [("6.12", Owner.UNKNOWN), ("6.18", Owner.UNKNOWN), ("7", Owner.RAW_QP)],
)
def test_a_raw_device_in_another_namespace_proves_no_port_free(
    make: Make, kernel: str, owner: Owner, state: str
) -> None:
    """What the RNIC's device tells is not taken for it; event queues without receive queues are
    somebody's still, and his processes are those with the device open."""
    machine = make(f"{kernel}-{state}")
    name = "mana_0" if kernel == "6.12" else "manae_0"
    machine.remove(machine.pci(f"infiniband/{name}"))
    nldev(machine).recorded = [
        one for one in nldev(machine).recorded if one["device"]["name"] != name
    ]
    machine.holder(7)
    first, second = machine.look().ports
    assert second.rdma is None
    assert (second.raw_elsewhere, second.rdma_elsewhere) == (True, (name,))
    assert [holder.pid for holder in second.holders] == [7]
    if state == "idle":
        assert (first.owner, second.owner) == (Owner.UNKNOWN, Owner.UNKNOWN)
        assert second.reasons[-1] == "raw-device-elsewhere"
    else:
        assert (first.owner, second.owner) == (Owner.ETHERNET, owner)
        assert second.certainty is not Certainty.PROVEN
    assert noted(second)["rdma-elsewhere"] == (name,)
    whys = [item.why for item in machine.look().missing if item.source == "nldev"]
    with wording:
        assert [why for why in whys if why.startswith("raw-QP device in another network namespace")]


def test_the_rnics_device_in_another_namespace_takes_no_certainty(make: Make) -> None:
    machine = make("7-idle")
    machine.remove(machine.pci("infiniband/mana_0"))
    nldev(machine).recorded = [
        one for one in nldev(machine).recorded if one["device"]["name"] != "mana_0"
    ]
    assert owners(machine) == [(Owner.FREE, Certainty.PROVEN)] * 2
    (port, _) = machine.look().ports
    assert port.rdma == RdmaPort("manae_0", 1)
    assert (port.raw_elsewhere, port.rdma_elsewhere) == (False, ("mana_0",))


RAW = RdmaNode("rdma7", 0, (1, 2), (77,))
RNIC = RdmaNode("roce3", 0x15DFF, (1,), (78,))
KERNELS_OWN = Resource(True, None, 2, "ib_core")


@dataclass
class FakeNldev:
    """The RDMA subsystem: for each device index what is tracked, or the error of asking."""

    listed: list[RdmaDevice] = field(default_factory=lambda: [BARE])
    tracked: Any = False
    of_contexts: Any = ()
    of_pds: Any = ()
    of_cqs: Any = ()
    counts: Any = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)

    def _tell(self, what: str, index: int, answer: Any) -> Any:
        self.asked.append((what, index))
        if isinstance(answer, dict) and index in answer:
            answer = answer[index]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def devices(self) -> list[RdmaDevice]:
        return self.listed

    def summary(self, index: int) -> dict[str, int]:
        answer = self._tell("summary", index, self.counts)
        return dict(answer.pop(0) if isinstance(answer, list) else answer)

    def contexts(self, index: int) -> list[Resource]:
        return list(self._tell("contexts", index, self.of_contexts))

    def pds(self, index: int) -> list[Resource]:
        return list(self._tell("pds", index, self.of_pds))

    def cqs(self, index: int) -> list[Resource]:
        return list(self._tell("cqs", index, self.of_cqs))

    def raw_qp_tracked(self, index: int) -> bool:
        return bool(self._tell("tracked", index, self.tracked))


BARE = RdmaDevice(5, "rdma7", 2, 0, None)
COMBINED = RdmaDevice(5, "rdma7", 2, 0, "roce")
ROCE = RdmaDevice(6, "roce3", 1, 0x15DFF, "roce")
DENIED = OSError(errno.EPERM, "Operation not permitted")


def user(pid: int | None = 4211, users: int | None = 1) -> Resource:
    return Resource(False, pid, users)


def look(fake: FakeNldev, *nodes: RdmaNode) -> rdma.RdmaView:
    return rdma.view(function(*(nodes or (RAW,))), fake, fake.listed)


def function(*nodes: RdmaNode, **more: Any) -> Function:
    """As on kernels with a device of its own for raw queue pairs, where there are two."""
    values: dict[str, Any] = {"rdma_driver": True, "auxiliary": True, "apart": len(nodes) > 1}
    return Function(PCI, (), nodes, **(values | more))


def test_nothing_is_counted_that_is_the_kernels_own() -> None:
    fake = FakeNldev(
        tracked=True,
        of_contexts=[user(4211), user(4212), Resource(True, None, None)],
        of_pds=[user(users=2), user(users=0), user(users=3), KERNELS_OWN],
        of_cqs=[user(users=2), user(users=4), KERNELS_OWN, KERNELS_OWN],
        counts={"qp": 5},
    )
    view = look(fake)
    assert view.raw is RAW
    assert view.facts == DeviceFacts(
        absent=False, combined=False, raw_qp_tracked=True, contexts=2, pd_users=5, cq_users=6,
        user_qps=3, busy_pds=2,
    )  # fmt: skip
    assert view.use == RdmaUse(2, (4211, 4212), 0)
    assert {index for _, index in fake.asked} == {5}
    assert view.missing == ()
    assert read(view.evidence) == [
        ("nldev", value) for value in (True, 2, 5, 2, 6, 3, [4211, 4212])
    ]
    with wording:
        assert [(entry.source, entry.fact, entry.value) for entry in view.evidence] == [
            ("nldev", "rdma7: raw QP in the tracking table", True),
            ("nldev", "rdma7: open contexts", 2),
            ("nldev", "rdma7: users of protection domains", 5),
            ("nldev", "rdma7: protection domains in use", 2),
            ("nldev", "rdma7: users of completion queues", 6),
            ("nldev", "rdma7: tracked user QPs", 3),
            ("nldev", "rdma7: context creators", [4211, 4212]),
        ]


def test_an_empty_device_is_empty_and_not_unknown() -> None:
    view = look(FakeNldev(counts={"qp": 0}))
    assert view.facts == DeviceFacts(
        raw_qp_tracked=False, contexts=0, pd_users=0, cq_users=0, user_qps=0, busy_pds=0
    )
    assert view.use == RdmaUse(0, (), 0)
    with wording:
        assert "rdma7: open contexts" in [entry.fact for entry in view.evidence]
        assert "rdma7: context creators" not in [entry.fact for entry in view.evidence]


@pytest.mark.parametrize(
    ("source", "unknown", "words"),
    [
        ("tracked", {"raw_qp_tracked"}, "queue pair 0"),
        ("of_contexts", {"contexts"}, "contexts"),
        ("of_pds", {"pd_users", "busy_pds"}, "protection domains"),
        ("of_cqs", {"cq_users", "user_qps"}, "completion queues"),
        ("counts", {"user_qps"}, "summary"),
    ],
)
@pytest.mark.parametrize(
    ("error", "why"),
    [
        (DENIED, "Operation not permitted"),
        (ValueError("cut"), "malformed answer (cut)"),
        (KeyError(3), "malformed answer (3)"),
    ],
)
def test_what_cannot_be_read_is_unknown_and_nothing_else_is(
    source: str, unknown: set[str], words: str, error: Exception, why: str
) -> None:
    known = {"of_contexts": [user()], "of_pds": [user()], "of_cqs": [user(users=2)],
             "counts": {"qp": 1}, "tracked": True}  # fmt: skip
    view = look(FakeNldev(**{**known, source: error}))
    facts = view.facts._asdict()
    asked = ("raw_qp_tracked", "contexts", "pd_users", "busy_pds", "cq_users", "user_qps")
    assert {name for name in asked if facts[name] is None} == unknown
    with wording:
        assert Missing(Source.NLDEV, f"{words}: {why}") in view.missing
    assert (view.use.contexts is None) is (source == "of_contexts")
    assert (view.use.creators is None) is (source == "of_contexts")


@pytest.mark.parametrize("kind", ["of_pds", "of_cqs"])
def test_one_object_that_does_not_tell_its_users_leaves_the_sum_open(kind: str) -> None:
    facts = look(FakeNldev(**{kind: [user(users=1), user(users=None)]}, counts={"qp": 0})).facts
    sums = {"of_pds": (facts.pd_users, facts.busy_pds), "of_cqs": (facts.cq_users,)}
    assert set(sums.pop(kind)) == {None}
    assert None not in next(iter(sums.values()))


@pytest.mark.parametrize(
    ("pids", "creators"),
    [((), ()), ((7,), (7,)), ((9, 7, 9), (7, 9)), ((7, None), None), ((None,), None)],
)
def test_the_creators_are_known_when_every_context_names_one(
    pids: tuple[int | None, ...], creators: tuple[int, ...] | None
) -> None:
    """A process of another pid namespace has no pid here, and may be the one that holds it."""
    view = look(FakeNldev(of_contexts=[user(pid) for pid in pids]))
    assert view.use.creators == creators
    shown = [entry.value for entry in view.evidence if entry.fact.endswith("creators")]
    with wording:
        assert shown == ([sorted({pid for pid in pids if pid})] if any(pids) else [])


@pytest.mark.parametrize(
    ("qps", "of_kernel", "user_qps"),
    [(3, [2], 2), (1, [2], 0), (3, [2, 2], 1), (3, [], 3), (0, [2], None), (3, [1], None),
     (3, [None], None)],
)  # fmt: skip
def test_each_queue_pair_of_the_kernel_uses_two_of_its_queues(
    qps: int, of_kernel: list[int | None], user_qps: int | None
) -> None:
    cqs = [Resource(True, None, users) for users in of_kernel]
    assert look(FakeNldev(of_cqs=cqs, counts={"qp": qps})).facts.user_qps == user_qps


def test_a_summary_without_queue_pairs_tells_nothing_of_them() -> None:
    assert look(FakeNldev(counts={"cq": 3})).facts.user_qps is None


def test_queue_pairs_that_come_or_go_meanwhile_are_not_counted() -> None:
    view = look(FakeNldev(counts={5: [{"qp": 1}, {"qp": 2}]}))
    assert view.facts.user_qps is None
    assert view.facts.cq_users == 0
    assert look(FakeNldev(counts={5: [{"qp": 1}, {"qp": 1}]})).facts.user_qps == 1


@pytest.mark.parametrize(
    ("tracked", "qps", "other"),
    [(True, 3, 2), (False, 3, 3), (True, 1, 0), (False, 0, 0), (DENIED, 3, None)],
)
def test_a_device_for_all_kinds_has_others_beside_the_raw_one(
    tracked: Any, qps: int, other: int | None
) -> None:
    fake = FakeNldev([COMBINED], tracked, [user()], [user()], [user(users=6)], {"qp": qps})
    view = look(fake)
    assert view.facts.combined
    assert view.use.other_qps == other
    assert view.others_use == (((RAW, other),) if other else ())
    label = "rdma7: RC, UC and UD queue pairs of users"
    found = [entry.value for entry in view.evidence if entry.fact == label]
    with wording:
        assert found == ([other] if other else [])


def test_a_device_for_all_kinds_whose_queue_pairs_are_unknown_may_have_others() -> None:
    fake = FakeNldev([COMBINED], True, [user()], [user()], [user()], DENIED)
    assert look(fake).use == RdmaUse(1, (4211,), None)


def test_users_of_the_other_device_are_counted_there() -> None:
    fake = FakeNldev(
        [BARE, ROCE],
        of_contexts={5: [], 6: [user(9)]},
        of_cqs={5: [], 6: [user(users=2), KERNELS_OWN]},
        counts={5: {"qp": 0}, 6: {"qp": 3}},
    )
    view = look(fake, RNIC, RAW)
    assert (view.raw, view.others) == (RAW, (RNIC,))
    assert view.others_use == ((RNIC, 2),)
    assert view.use == RdmaUse(0, (), 0)
    assert read([view.evidence[-1]]) == [("nldev", 2)]
    with wording:
        assert view.evidence[-1] == Evidence(
            "nldev", "roce3: RC, UC and UD queue pairs of users", 2
        )


@pytest.mark.parametrize(
    ("contexts", "counts"),
    [
        ([], {"qp": 3}),
        (DENIED, {"qp": 3}),
        ([user()], DENIED),
        ([user()], {}),
        ([user()], {"qp": 0}),
    ],
)
def test_what_the_other_device_does_not_tell_is_no_users_note(contexts: Any, counts: Any) -> None:
    fake = FakeNldev(
        [BARE, ROCE], of_contexts={5: [], 6: contexts}, counts={5: {"qp": 0}, 6: counts}
    )
    view = look(fake, RAW, RNIC)
    assert view.others_use == ()
    assert view.missing == ()
    assert view.facts.contexts == 0


@pytest.mark.parametrize(
    ("apart", "nodes", "listed", "found"),
    [
        (False, [RAW], [], RAW),
        (False, [RNIC], [ROCE], RNIC),
        (True, [RAW], [], RAW),  # the RNIC's is in another network namespace
        (True, [RAW], [BARE], RAW),
        (True, [RNIC], [ROCE], None),  # the one for raw queue pairs is
        (True, [RNIC], [], None),
        (True, [RNIC._replace(node_guid=0)], [ROCE], None),
        (True, [RAW._replace(node_guid=None)], [], None),
        (True, [RAW, RNIC], [BARE, ROCE], RAW),
        (True, [RNIC, RAW], [], RAW),  # by its node GUID alone
        (True, [RAW, RNIC._replace(node_guid=0)], [BARE, ROCE], RAW),  # by the protocol
        (True, [RAW, RNIC._replace(node_guid=0)], [BARE], None),
        (True, [RNIC, RNIC._replace(name="x")], [BARE, ROCE], None),
        (True, [RAW._replace(node_guid=None), RNIC], [BARE, ROCE], None),
        (True, [], [], None),
        (False, [], [], None),
    ],
)
def test_the_device_of_raw_queue_pairs(
    apart: bool, nodes: list[RdmaNode], listed: list[RdmaDevice], found: RdmaNode | None
) -> None:
    by_name = {device.name: device for device in listed}
    assert rdma.raw_device(nodes, by_name, apart=apart) is found


def test_a_function_without_devices_has_no_driver_or_hides_them() -> None:
    gone = rdma.view(function(rdma_driver=False), FakeNldev(), ())
    assert (gone.facts, gone.missing) == (DeviceFacts(absent=True), ())
    assert read(gone.evidence) == read((Evidence("sysfs", "RDMA driver", None),))
    with wording:
        assert gone.evidence == (Evidence("sysfs", "RDMA driver", None),)
    hidden = rdma.view(function(), FakeNldev(), ())
    assert hidden.facts == DeviceFacts(elsewhere=True)
    (missing,) = hidden.missing
    with wording:
        assert (missing.source, "or mana_ib has not made it" in missing.why) == ("nldev", True)
    assert (gone.hidden, hidden.hidden) == ((), ())
    assert gone.use == hidden.use == RdmaUse(None, None, None)


AWAY = RdmaNode("rdma7", None, (), (77,))
RNIC_AWAY = RdmaNode("roce3", None, (), (78,))


@pytest.mark.parametrize(
    ("apart", "here", "elsewhere"),
    [
        (True, (RNIC,), (AWAY,)),  # it alone has been moved
        (True, (), (AWAY, RNIC_AWAY)),
        (False, (), (AWAY,)),  # one device for everything
    ],
)
def test_what_is_on_a_device_elsewhere_is_not_known(
    apart: bool, here: tuple[RdmaNode, ...], elsewhere: tuple[RdmaNode, ...]
) -> None:
    """The other device is here, idle and empty: that says nothing about raw queue pairs."""
    fake = FakeNldev([ROCE] if here else [])
    view = rdma.view(function(*here, apart=apart, elsewhere=elsewhere), fake, fake.listed)
    assert (view.raw, view.others, view.hidden) == (None, here, elsewhere)
    assert view.facts == DeviceFacts(elsewhere=True)
    assert view.use == RdmaUse(None, None, None)
    (missing,) = view.missing
    with wording:
        assert missing.why.startswith("raw-QP device in another network namespace (rdma7")
        assert ("among them" in missing.why) is (len(elsewhere) > 1)


def test_the_other_device_elsewhere_takes_nothing_away() -> None:
    fake = FakeNldev([BARE])
    view = rdma.view(function(RAW, apart=True, elsewhere=(RNIC_AWAY,)), fake, fake.listed)
    assert (view.raw, view.others, view.hidden, view.missing) == (RAW, (), (), ())
    assert (view.facts.contexts, view.facts.elsewhere) == (0, False)


def test_a_device_that_is_not_listed_is_known_by_name_and_no_more() -> None:
    for netlink, devices in ((None, [BARE]), (FakeNldev(), [ROCE])):
        view = rdma.view(function(RAW, RNIC), netlink, devices)
        assert (view.raw, view.others, view.facts) == (RAW, (RNIC,), DeviceFacts())
        assert view.use == RdmaUse(None, None, None)
        with wording:
            assert view.missing == (
                Missing(Source.NLDEV, "rdma7 is not listed by the RDMA subsystem"),
            )


def test_devices_that_cannot_be_told_apart_are_named() -> None:
    twin = RAW._replace(name="rdma8")
    view = rdma.view(function(RAW, twin), FakeNldev(), [])
    assert (view.raw, view.others, view.facts) == (None, (RAW, twin), DeviceFacts())
    assert "rdma7, rdma8" in view.missing[0].why


def test_the_list_of_devices_or_why_there_is_none() -> None:
    assert rdma.list_devices(FakeNldev([BARE, ROCE])) == ([BARE, ROCE], [])
    found, missing = rdma.list_devices(None)
    assert (found, [item.source for item in missing]) == ([], ["nldev"])

    class Refuses(FakeNldev):
        def devices(self) -> list[RdmaDevice]:
            raise DENIED

    refused = [Missing(Source.NLDEV, "devices: Operation not permitted")]
    with wording:
        assert rdma.list_devices(Refuses()) == ([], refused)
