"""The NIC driven in process: bring-up, dispatch, objects, ownership, and what it objects to."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.nic import config as limits
from tests.lab.nic import device as device_module
from tests.lab.nic.config import MANA_PDID, Config
from tests.lab.nic.dispatch import HANDLERS
from tests.lab.nic.faults import Fault
from tests.lab.nic.wire import queues, smc
from tests.lab.nic.wire.messages import (
    MESSAGES,
    REQUEST_HEADER,
    RESPONSE_HEADER,
    DeviceType,
    MrKind,
    Request,
    Status,
)
from tests.lab.nic.wire.queues import Event, InitData, QueueKind
from tests.unit.nic.driver import BASE, PAGE, Driver, started


def owner(driver: Driver, port: int = 1) -> str | None:
    found: str | None = driver.nic.state()["vports"][port - 1]["owner"]
    return found


def events(driver: Driver, *names: str) -> list[dict[str, Any]]:
    return [entry for entry in driver.record.history if entry["event"] in names]


class TestBringUp:
    def test_registers_say_where_things_are(self) -> None:
        nic = Driver().nic
        doorbells, shared = (int.from_bytes(nic.read(at, 8), "little") for at in (0x08, 0x18))
        assert (doorbells, shared) == (device_module.DOORBELLS_AT, device_module.SHM_AT)
        assert int.from_bytes(nic.read(0x10, 4), "little") & 0xFFFF == PAGE
        assert int.from_bytes(nic.read(shared + 28, 4), "little") == 0

    def test_the_eq_is_introduced_first_and_the_end_is_last(self) -> None:
        driver = Driver()
        driver.establish()
        kinds = [kind for kind, _ in driver.init]
        assert kinds == [Event.HWC_INIT_EQ_ID_DB] + [Event.HWC_INIT_DATA] * 9 + [
            Event.HWC_INIT_DONE
        ]
        told = {value >> 24: value & 0xFFFFFF for _, value in driver.init[1:-1]}
        assert told[InitData.MAX_NUM_CQS] > told[InitData.CQ_ID]
        assert driver.fired[0] == 0

    def test_the_test_event_arrives(self) -> None:
        driver = Driver()
        driver.establish()
        driver.fired.clear()
        driver.request(Request.GENERATE_TEST_EQE, device=DeviceType.HWC, eq=driver.eq.number)
        assert (Event.TEST, 0) in driver.events(driver.eq)
        assert 0 in driver.fired

    def test_an_answer_waits_for_room(self) -> None:
        """A driver that stopped waiting may ask again before it posts a buffer."""
        driver = started()
        message = REQUEST_HEADER.pack(code=Request.LIST_DEVICES, response_size=296)
        driver.send(message)
        function = driver.nic.function
        assert function is not None
        rq = function.rqs[driver.rq.number]
        rq.skip()
        driver.poke(driver.message, message)
        oob = queues.HWC_TX_OOB.pack(0, 0, driver.cq.number, driver.sq.number)
        driver.post(driver.sq, [(driver.message, 1, len(message))], oob)
        driver.ring(queues.DB_SQ, driver.sq.number | driver.sq.head << 32)
        assert driver.completions(driver.cq) == []
        driver._post_response_buffer()
        assert len(driver.completions(driver.cq)) == 1

    @pytest.mark.parametrize(
        ("rnic", "listed"), [(True, {1, 2, 3}), (False, {1, 2})], ids=["rnic", "no rnic"]
    )
    def test_devices_listed(self, rnic: bool, listed: set[int]) -> None:
        driver = started(Config(rnic=rnic))
        answer = driver.request(Request.LIST_DEVICES)
        kinds = [each & 0xFFFF for each in answer.devices if each]
        assert (answer.count, set(kinds)) == (len(listed), listed)
        expect = 0 if rnic else Status.INVALID
        driver.request(Request.REGISTER_DEVICE, device=DeviceType.MANA_IB, expect=expect)

    def test_a_time_out_is_told_from_the_next_bring_up_on(self) -> None:
        driver = started()
        assert driver.request(Request.VERIFY_VF_DRIVER_VERSION).capabilities[0] == 0
        driver.nic.set_timeout(5000)
        assert driver.request(Request.VERIFY_VF_DRIVER_VERSION).capabilities[0] == 0
        driver.destroy()
        driver.establish()
        assert driver.request(Request.VERIFY_VF_DRIVER_VERSION).capabilities[0] == 1 << 3
        assert driver.request(Request.QUERY_HWC_TIMEOUT).timeout == 5000

    def test_again_after_destroy(self) -> None:
        driver = started()
        driver.destroy()
        assert driver.shared_memory_answer() == smc.Header(smc.DESTROY, response=True)
        assert driver.nic.state()["hwc"] is False
        driver.establish()
        driver.register()
        assert driver.rules == []

    @pytest.mark.parametrize(("word", "rule"), [(0x7, "smc"), (0x81, "smc"), (0x80000001, "smc")])
    def test_shared_memory_nonsense(self, word: int, rule: str) -> None:
        driver = Driver()
        driver.write_window(struct.pack("<I", word), at=smc.HEADER_AT)
        assert driver.shared_memory_answer().status != 0
        assert driver.rules == [rule]

    def test_queues_outside_guest_memory(self) -> None:
        driver = Driver()
        driver.write_window(smc.Establish(4096, 8192, 12288, 16384).pack() + b"\1\0\0\0")
        assert driver.shared_memory_answer().status != 0
        assert driver.rules == ["dma"]


class TestDispatch:
    def test_every_handler_has_its_layouts(self) -> None:
        assert set(HANDLERS) == set(MESSAGES)

    @pytest.mark.parametrize("code", [0x7777, Request.ALLOC_DM, Request.MANA_SET_BW_CLAMP])
    def test_unknown_requests_are_answered_and_told(self, code: int) -> None:
        driver = started()
        header = REQUEST_HEADER.pack(code=code, response_code=code, response_size=48)
        answer = driver.send(header)
        assert RESPONSE_HEADER.unpack(answer).status == Status.UNSUPPORTED
        assert len(answer) == 48
        assert driver.record.history[-1]["why"] == "not implemented"
        assert driver.rules == []

    def test_headers_are_echoed(self) -> None:
        driver = started()
        header = REQUEST_HEADER.pack(
            code=Request.MANA_QUERY_DEV_CONFIG,
            message_id=0,
            response_code=Request.MANA_QUERY_DEV_CONFIG,
            response_version=3,
            response_size=80,
            device_type=2,
            device_instance=1,
            activity=0xABCD,
        )
        head = RESPONSE_HEADER.unpack(driver.send(header))
        assert (head.code, head.version, head.size) == (Request.MANA_QUERY_DEV_CONFIG, 3, 80)
        assert (head.device_type, head.device_instance, head.activity) == (2, 1, 0xABCD)

    @pytest.mark.parametrize("room", [0, 32, 33, 60, 4096, 1 << 30])
    def test_answers_are_as_long_as_asked(self, room: int) -> None:
        driver = started()
        header = REQUEST_HEADER.pack(code=Request.LIST_DEVICES, response_size=room)
        assert len(driver.send(header)) == max(32, min(room, 4096))

    def test_an_exception_of_its_own_is_a_violation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        driver = started()

        def broken(*_: object) -> None:
            raise ZeroDivisionError("of its own")

        monkeypatch.setitem(HANDLERS, Request.LIST_DEVICES, broken)
        driver.request(Request.LIST_DEVICES, expect=Status.INVALID)
        assert driver.rules == ["exception"]
        assert "of its own" in driver.record.violations[0]["detail"]


class TestRegions:
    def test_lists_longer_than_a_message(self) -> None:
        driver = started()
        addresses = [BASE + PAGE * i for i in range(5)]
        made = driver.request(
            Request.CREATE_DMA_REGION,
            length=5 * PAGE - 10,
            pages=5,
            entries=2,
            tail=struct.pack("<2Q", *addresses[:2]),
            expect=Status.MORE_ENTRIES,
        )
        for at, expect in ((2, Status.MORE_ENTRIES), (3, Status.MORE_ENTRIES), (4, Status.OK)):
            driver.request(
                Request.DMA_REGION_ADD_PAGES,
                handle=made.handle,
                entries=1,
                tail=bytes(4) + struct.pack("<Q", addresses[at]),
                expect=expect,
            )
        function = driver.nic.function
        assert function is not None
        assert function.regions[made.handle].pages == addresses
        driver.request(Request.DESTROY_DMA_REGION, handle=made.handle)
        assert driver.rules == []

    @pytest.mark.parametrize(
        "fields",
        [
            {"length": PAGE + 1, "pages": 1, "entries": 1},
            {"length": PAGE, "pages": 1, "entries": 2},
            {"length": PAGE, "pages": 1, "entries": 1, "page_type": 11},
            {"length": PAGE, "pages": 1, "entries": 1, "offset": PAGE},
            {"length": PAGE, "pages": 1, "entries": 1, "page_type": 1},
        ],
        ids=["too few pages", "list too long", "page type", "offset", "alignment"],
    )
    def test_impossible_lists(self, fields: dict[str, int]) -> None:
        driver = started()
        tail = struct.pack("<2Q", BASE + PAGE, BASE)[: 8 * fields["pages"]]
        driver.request(Request.CREATE_DMA_REGION, **fields, tail=tail, expect=Status.INVALID)
        assert driver.nic.state()["objects"]["region"] == 0

    def test_an_owned_region_is_not_the_drivers_any_more(self) -> None:
        driver = started()
        eq = driver.make_eq()
        function = driver.nic.function
        assert function is not None
        (handle,) = (region.handle for region in function.regions.values())
        driver.request(Request.DESTROY_DMA_REGION, handle=handle, expect=Status.INVALID)
        driver.destroy_eq(eq)
        assert driver.rules == ["region-owned"]
        assert driver.nic.state()["objects"]["region"] == 0


class TestOwnership:
    def test_up_and_down(self) -> None:
        driver = started()
        vport = driver.open(1)
        state = driver.nic.state()["vports"]
        assert [each["owner"] for each in state] == ["ethernet", None]
        assert (state[0]["rx"], state[0]["sqs"], state[0]["rqs"]) == (True, 1, 1)
        assert state[0]["since"] > 0
        driver.close(vport)
        assert owner(driver) is None
        names = [(entry["event"], entry["owner"]) for entry in events(driver, *VPORT)]
        assert names == [("vport-configured", "ethernet"), ("vport-released", "ethernet")]
        assert driver.rules == []

    def test_another_pd_is_a_raw_qp(self) -> None:
        driver = started()
        pd = driver.request(Request.CREATE_PD)
        driver.take(2, pd.pdid)
        assert (owner(driver, 1), owner(driver, 2)) == (None, "raw-qp")
        sq, _ = driver.make_wq(2, QueueKind.SQ, driver.make_eq())
        driver.destroy_wq(sq, QueueKind.SQ)
        assert owner(driver, 2) is None

    def test_the_last_queue_counts(self) -> None:
        driver = started()
        driver.take(1)
        eq = driver.make_eq()
        first, _ = driver.make_wq(1, QueueKind.SQ, eq)
        second, _ = driver.make_wq(1, QueueKind.SQ, eq)
        driver.destroy_wq(first, QueueKind.SQ)
        assert owner(driver) == "ethernet"
        driver.destroy_wq(second, QueueKind.SQ)
        assert owner(driver) is None

    def test_a_second_owner_while_the_first_lives(self) -> None:
        driver = started()
        driver.open(1)
        pd = driver.request(Request.CREATE_PD)
        driver.take(1, pd.pdid)
        assert driver.rules == ["second-owner"]
        assert driver.record.violations[0]["vport"] == 0

    def test_a_new_owner_after_an_open_that_failed(self) -> None:
        """Nothing tells the device that the first gave up; nothing of it lives either."""
        driver = started()
        driver.take(1)
        pd = driver.request(Request.CREATE_PD)
        driver.take(1, pd.pdid)
        assert (owner(driver), driver.rules) == ("raw-qp", [])

    def test_an_open_that_failed_before_its_queues(self) -> None:
        driver = started()
        driver.take(1)
        eqs = [driver.make_eq(), driver.make_eq()]
        driver.destroy_eq(eqs[0])
        assert owner(driver) == "ethernet"
        driver.destroy_eq(eqs[1])
        assert owner(driver) is None

    def test_a_refused_queue_ends_an_open(self) -> None:
        driver = started()
        driver.take(1)
        driver.request(
            Request.MANA_CREATE_WQ_OBJ, vport=1, kind=1, parent_eq=999, expect=Status.INVALID
        )
        assert owner(driver) is None

    @pytest.mark.parametrize("part", ["CREATE_DMA_REGION", "CREATE_QUEUE"])
    def test_a_refusal_before_any_queue_ends_an_open(self, part: str) -> None:
        driver = started()
        other = driver.open(2)
        driver.take(1)
        driver.nic.faults.add(Fault(part, status=1))
        driver.request(Request[part], expect=1)
        assert (owner(driver, 1), owner(driver, 2)) == (None, "ethernet")
        driver.close(other)
        assert driver.rules == []

    def test_an_unknown_pd_owns_nothing(self) -> None:
        driver = started()
        driver.request(Request.MANA_CONFIG_VPORT_TX, vport=1, pdid=77, expect=Status.INVALID)
        assert (owner(driver), driver.rules) == (None, ["bad-handle"])

    def test_ports_beyond_four_are_only_a_number(self) -> None:
        driver = started(Config(ports=64))
        macs = {
            driver.request(Request.MANA_QUERY_VPORT_CONFIG, index=index).mac for index in range(64)
        }
        assert len(macs) == 64
        driver.take(64)
        assert owner(driver, 64) == "ethernet"


VPORT = ("vport-configured", "vport-released")


class TestLeaks:
    def test_clean(self) -> None:
        driver = started()
        driver.close(driver.open(1))
        driver.request(Request.DEREGISTER_DEVICE)
        driver.destroy()
        assert driver.rules == []
        assert events(driver, "hwc-destroyed")[0]["left"] == {}

    @pytest.mark.parametrize(
        ("leave", "kinds"),
        [
            (lambda driver: driver.make_eq(), {"eq": 1, "region": 1}),
            (lambda driver: driver.region(PAGE), {"region": 1}),
            (lambda driver: driver.request(Request.CREATE_PD), {"pd": 1}),
            (
                lambda driver: driver.request(
                    Request.ALLOCATE_RESOURCE_RANGE, kind=27, count=1, alignment=1
                ),
                {"doorbell": 1},
            ),
        ],
        ids=["eq", "region", "pd", "doorbell"],
    )
    def test_what_is_left_at_the_end(
        self, leave: Callable[[Driver], object], kinds: dict[str, int]
    ) -> None:
        driver = started()
        leave(driver)
        driver.destroy()
        (leak,) = driver.record.violations
        assert leak["rule"] == "leak"
        assert {kind: leak.get(kind) for kind in kinds} == kinds

    def test_queues_left_when_their_device_goes(self) -> None:
        driver = started()
        driver.open(1)
        driver.request(Request.DEREGISTER_DEVICE)
        assert driver.rules == ["leak"]

    def test_the_driver_is_told_of_host_servicing(self) -> None:
        driver = started()
        for name in device_module.SERVICES:
            assert driver.nic.service(name)
        told = [(132, 0), (134, 1 << 28), (134, 2 << 28), (133, 1 << 24 | 30_000), (133, 127 << 24)]
        assert [event for event in driver.events(driver.eq) if event[0] != 3] == told
        with pytest.raises(ValueError, match="fpga-reconfig"):
            driver.nic.service("painting")
        driver.destroy()
        assert not driver.nic.service("fpga-reconfig"), "nobody is there"

    def test_a_reset_that_the_device_asked_for_excuses_leftovers(self) -> None:
        driver = started()
        driver.open(1)
        assert driver.nic.request_reset()
        assert (Event.RESET_REQUEST, 0) in driver.events(driver.eq)
        driver.destroy()
        assert driver.rules == []
        assert len(events(driver, "excused")) == 1
        driver.establish()
        driver.make_eq()
        driver.destroy()
        assert driver.rules == ["leak"]

    def test_a_guest_that_dies_leaves_what_it_had(self) -> None:
        driver = started()
        driver.open(1)
        driver.nic.reset("device reset")
        assert (driver.rules, owner(driver)) == ([], None)


class TestInUse:
    def test_an_eq_under_a_cq(self) -> None:
        driver = started()
        vport = driver.open(1)
        driver.destroy_eq(vport.eq, expect=Status.INVALID)
        assert driver.rules == ["eq-in-use"]

    def test_a_pd_under_an_mr_and_under_a_vport(self) -> None:
        driver = started()
        pd = driver.request(Request.CREATE_PD)
        mr = driver.request(Request.CREATE_MR, pd=pd.handle, kind=MrKind.GPA)
        driver.request(Request.DESTROY_PD, handle=pd.handle, expect=Status.INVALID)
        driver.request(Request.DESTROY_MR, handle=mr.handle)
        driver.take(1, pd.pdid)
        driver.make_wq(1, QueueKind.SQ, driver.make_eq())
        driver.request(Request.DESTROY_PD, handle=pd.handle, expect=Status.INVALID)
        assert driver.rules == ["pd-in-use", "pd-in-use"]

    def test_twice_destroyed(self) -> None:
        driver = started()
        eq = driver.make_eq()
        driver.destroy_eq(eq)
        driver.destroy_eq(eq, expect=Status.INVALID)
        assert driver.rules == ["bad-handle"]

    def test_receiving_into_another_ports_queue(self) -> None:
        driver = started(Config(ports=2))
        vport = driver.open(1)
        driver.take(2)
        driver.request(
            Request.MANA_CONFIG_VPORT_RX,
            vport=2,
            update_default=1,
            default=vport.rq.handle,
            expect=Status.INVALID,
        )
        assert driver.rules == ["foreign-object"]


class TestDoorbells:
    @pytest.mark.parametrize("kind", [queues.DB_SQ, queues.DB_RQ, queues.DB_CQ, queues.DB_EQ])
    def test_of_a_queue_that_never_was(self, kind: int) -> None:
        driver = started()
        driver.ring(kind, 4000)
        assert driver.rules == ["dead-doorbell"]

    def test_of_a_destroyed_queue(self) -> None:
        driver = started()
        vport = driver.open(1)
        driver.close(vport)
        driver.ring(queues.DB_RQ, vport.rq.number | 32 << 32)
        driver.ring_cq(vport.rq_cq)
        assert driver.rules == ["dead-doorbell", "dead-doorbell"]
        assert "is destroyed" in driver.record.violations[0]["detail"]

    def test_the_acknowledgement_of_the_last_event_may_come_late(self) -> None:
        driver = started()
        eq = driver.make_eq()
        driver.request(Request.GENERATE_TEST_EQE, eq=eq.number)
        driver.destroy_eq(eq)
        driver.events(eq)
        driver.ring_eq(eq)
        assert driver.rules == []
        assert len(events(driver, "late-acknowledgement")) == 1
        eq.head += 1
        driver.ring_eq(eq)
        assert driver.rules == ["dead-doorbell"]

    def test_without_a_command_channel(self) -> None:
        driver = started()
        driver.destroy()
        driver.ring(queues.DB_SQ, driver.sq.number | 64 << 32)
        assert driver.rules == ["dead-doorbell"]

    def test_of_the_wrong_size_and_place(self) -> None:
        driver = started()
        driver.nic.write(device_module.DOORBELLS_AT + queues.DB_CQ, bytes(4))
        driver.nic.write(0x08, bytes(8))
        assert driver.rules == ["doorbell-size", "register-write"]

    def test_a_tail_beyond_the_ring(self) -> None:
        driver = started()
        vport = driver.open(1)
        driver.ring(queues.DB_SQ, vport.sq.number | (PAGE + 32) << 32)
        assert driver.rules == ["ring"]


class TestRnic:
    @pytest.fixture
    def rnic(self) -> Driver:
        driver = started()
        driver.request(Request.REGISTER_DEVICE, device=DeviceType.MANA_IB)
        self.eq = driver.make_eq(device=DeviceType.MANA_IB)
        made = driver.request(Request.MANA_IB_CREATE_ADAPTER, eq=self.eq.number)
        self.adapter = made.adapter
        self.pd = driver.request(Request.CREATE_PD, flags=1)
        return driver

    def make_cq(self, driver: Driver) -> Any:
        _, region = driver.region(PAGE)
        return driver.request(
            Request.MANA_IB_CREATE_CQ, adapter=self.adapter, region=region, eq=self.eq.number
        )

    def test_a_qp_lives_and_dies(self, rnic: Driver) -> None:
        send, receive = self.make_cq(rnic), self.make_cq(rnic)
        regions = [rnic.region(PAGE)[1] for _ in range(5)]
        qp = rnic.request(
            Request.MANA_IB_CREATE_RC_QP,
            adapter=self.adapter,
            pd=self.pd.handle,
            send_cq=send.handle,
            recv_cq=receive.handle,
            regions=regions,
        )
        assert len({number & ~3 for number in qp.queues}) == 1
        assert [number & 3 for number in qp.queues] == [0, 1, 2, 1, 0]
        destroy = {"adapter": self.adapter, "handle": send.handle}
        rnic.request(Request.MANA_IB_DESTROY_CQ, **destroy, expect=Status.INVALID)
        rnic.request(Request.MANA_IB_SET_QP_STATE, adapter=self.adapter, handle=qp.handle, state=3)
        assert rnic.nic.objects()["qp"][0]["state"] == 3
        rnic.request(Request.MANA_IB_DESTROY_RNIC_QP, adapter=self.adapter, handle=qp.handle)
        rnic.request(Request.MANA_IB_DESTROY_CQ, **destroy)
        assert rnic.rules == ["cq-in-use"]
        assert rnic.nic.state()["objects"]["qp"] == 0

    def test_the_first_gsi_qp_has_number_one(self, rnic: Driver) -> None:
        numbers = []
        for _ in range(2):
            cq = self.make_cq(rnic)
            made = rnic.request(
                Request.MANA_IB_CREATE_UD_QP,
                adapter=self.adapter,
                pd=self.pd.handle,
                send_cq=cq.handle,
                recv_cq=cq.handle,
                regions=[rnic.region(PAGE)[1] for _ in range(2)],
                kind=1,
            )
            numbers.append(made.queues[1])
        assert numbers[0] == 1
        assert numbers[1] != 1

    def test_an_rnic_qp_owns_no_port(self, rnic: Driver) -> None:
        self.test_a_qp_lives_and_dies(rnic)
        assert owner(rnic) is None

    def test_leaks_of_the_adapter(self, rnic: Driver) -> None:
        self.make_cq(rnic)
        rnic.request(Request.MANA_IB_DESTROY_ADAPTER, adapter=self.adapter)
        assert rnic.rules == ["leak"]


class TestConfig:
    @pytest.mark.parametrize("ports", [0, limits.MAX_PORTS + 1])
    def test_impossible_ports(self, ports: int) -> None:
        with pytest.raises(ValueError, match="ports"):
            Config(ports=ports)

    def test_macs_of_the_first_ports_are_selectable(self) -> None:
        mine = limits.parse_mac("02:aa:bb:cc:dd:ee")
        assert Config(ports=2, macs=(mine,)).all_macs == (mine, limits.default_mac(2))

    @pytest.mark.parametrize("text", ["01:00:00:00:00:00", "00:00:00:00:00:00", "02:15"])
    def test_impossible_macs(self, text: str) -> None:
        with pytest.raises(ValueError, match="MAC"):
            limits.parse_mac(text)

    def test_the_kernels_pd_is_told_from_others(self) -> None:
        assert MANA_PDID < limits.FIRST_USER_PDID
