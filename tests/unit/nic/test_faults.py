"""Faults on order, on the device in process: the driver's end is tests/unit/nic/driver.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.lab.nic.faults import ANY, Fault, Faults
from tests.lab.nic.wire import queues
from tests.lab.nic.wire.messages import REQUEST_HEADER, Request
from tests.unit.nic.driver import Driver, started


def test_a_fault_is_used_up_after_its_times() -> None:
    faults = Faults()
    faults.add(Fault("CREATE_PD", status=1, times=2, skip=1))
    hits = [faults.take(Request.CREATE_PD) is not None for _ in range(5)]
    assert hits == [False, True, True, False, False]
    assert faults.clear() == 0


def test_a_fault_without_times_lasts_until_cleared() -> None:
    faults = Faults()
    faults.add(Fault(ANY, lost=True, times=None))
    assert all(faults.take(code) for code in (Request.CREATE_PD, Request.CREATE_MR, 0x7777))
    assert faults.facts()[0]["left"] is None
    assert faults.clear() == 1
    assert faults.take(Request.CREATE_PD) is None


def test_other_requests_pass() -> None:
    faults = Faults()
    faults.add(Fault("CREATE_PD", delay=1.5))
    assert faults.take(Request.CREATE_MR) is None
    fault = faults.take(Request.CREATE_PD)
    assert fault is not None
    assert fault.delay == 1.5


@pytest.mark.parametrize(
    "words",
    [
        {"request": "NO_SUCH"},
        {"request": ANY},
        {"request": ANY, "lost": True, "status": 3},
        {"request": ANY, "lost": True, "times": 0},
        {"request": ANY, "delay": -1.0},
    ],
)
def test_nonsense_is_refused(words: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"no such request|one of status|not negative"):
        Fault(**words)  # type: ignore[arg-type]


def test_a_held_answer_is_given_when_told() -> None:
    driver = started()
    driver.nic.faults.add(Fault("LIST_DEVICES", held=True))
    message = REQUEST_HEADER.pack(code=Request.LIST_DEVICES, response_size=296)
    driver.poke(driver.message, message)
    oob = queues.HWC_TX_OOB.pack(0, 0, driver.cq.number, driver.sq.number)
    driver.post(driver.sq, [(driver.message, 1, len(message))], oob)
    driver.ring(queues.DB_SQ, driver.sq.number | driver.sq.head << 32)
    assert driver.completions(driver.cq) == []
    assert driver.nic.faults.let_go() == 1
    assert len(driver.completions(driver.cq)) == 1
    assert driver.nic.faults.let_go() == 0


def test_a_refusal_does_nothing() -> None:
    driver = Driver()
    driver.establish()
    driver.nic.faults.add(Fault("CREATE_PD", status=0x1234))
    driver.request(Request.CREATE_PD, flags=0, expect=0x1234)
    assert driver.nic.state()["objects"]["pd"] == 0
    driver.request(Request.CREATE_PD, flags=0)
    assert driver.nic.state()["objects"]["pd"] == 1


def test_a_lost_request_does_nothing_and_is_not_answered() -> None:
    driver = Driver()
    driver.establish()
    driver.nic.faults.add(Fault("CREATE_PD", lost=True))
    with pytest.raises(IndexError):
        driver.request(Request.CREATE_PD, flags=0)
    assert driver.nic.state()["objects"]["pd"] == 0
    assert driver.record.history[-1]["event"] == "request-lost"
    assert driver.record.excuse


def test_a_late_answer_comes_when_its_time_has_come() -> None:
    driver = Driver()
    waiting: list[tuple[float, Callable[[], None]]] = []
    driver.nic.later = lambda seconds, act: waiting.append((seconds, act))
    driver.establish()
    driver.nic.faults.add(Fault("CREATE_PD", delay=2.5))
    with pytest.raises(IndexError):
        driver.request(Request.CREATE_PD, flags=0)
    assert driver.nic.state()["objects"]["pd"] == 1
    ((seconds, act),) = waiting
    assert seconds == 2.5
    act()
    assert len(driver.completions(driver.cq)) == 1


def test_a_late_answer_stays_away_from_a_driver_that_left() -> None:
    driver = Driver()
    waiting: list[Callable[[], None]] = []
    driver.nic.later = lambda seconds, act: waiting.append(act)
    driver.establish()
    driver.nic.faults.add(Fault("QUERY_MAX_RESOURCES", delay=1.0))
    with pytest.raises(IndexError):
        driver.request(Request.QUERY_MAX_RESOURCES)
    before = bytes(driver.ram)
    driver.destroy()
    waiting[0]()
    assert bytes(driver.ram) == before
