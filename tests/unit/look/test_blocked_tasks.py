"""Who waits in the drivers, by a /proc made of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from manactl.look import blocked_tasks
from manactl.look.blocked_tasks import Waiting, in_drivers, waiting
from tests.unit.machine import Make
from tests.unit.test_report import KERNELS

HWC = "mana_hwc_send_request"
STACK = f"""[<0>] wait_for_completion_timeout+0x10c/0x170
[<0>] {HWC}+0x254/0x490 [mana]
[<0>] mana_gd_send_request+0x3c/0x60 [mana]
[<0>] mana_ib_create_qp_raw+0x19c/0x340 [mana_ib]
[<0>] do_syscall_64+0x5b/0x80
"""


def stat(pid: int, comm: str, state: str, threads: int) -> str:
    zeros = " ".join("0" for _ in range(16))
    return f"{pid} ({comm}) {state} {zeros} {threads} 0 0\n"


class Proc:
    """Processes and their threads, each with a state and a stack."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def add(self, pid: int, *threads: tuple[int, str, str, str]) -> None:
        for tid, comm, state, stack in threads:
            places = [self.base / f"{pid}/task/{tid}"]
            places += [self.base / str(pid)] if tid == pid else []
            for place in places:
                place.mkdir(parents=True, exist_ok=True)
                (place / "stat").write_text(stat(tid, comm, state, len(threads)))
                (place / "stack").write_text(stack)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    made = Proc(tmp_path)
    made.add(1, (1, "init", "S", ""))
    (tmp_path / "uptime").write_text("1.0 1.0\n")
    return made


def test_a_thread_that_is_not_the_first_is_found(proc: Proc) -> None:
    proc.add(70, (70, "dpdk-testpmd", "S", ""), (71, "eal) worker (", "D", STACK))
    assert list(waiting(str(proc.base))) == [Waiting(70, "eal) worker (", HWC, creates=True)]


def test_threads_behind_a_first_one_that_has_exited_are_found(proc: Proc) -> None:
    proc.add(70, (70, "app", "Z", ""), (71, "app", "S", ""), (72, "app", "D", STACK))
    assert [task.pid for task in waiting(str(proc.base))] == [70]


def test_every_thread_that_waits_counts(proc: Proc) -> None:
    elsewhere = STACK.replace("mana_ib_create_qp_raw", "mana_close")
    proc.add(70, (70, "ip", "D", elsewhere))
    proc.add(80, (80, "app", "D", elsewhere), (81, "app", "D", STACK))
    found = [(task.pid, task.creates) for task in waiting(str(proc.base))]
    assert sorted(found) == [(70, False), (80, False), (80, True)]


def test_whoever_waits_for_something_else_or_not_at_all_is_not_meant(proc: Proc) -> None:
    proc.add(70, (70, "dd", "D", "[<0>] folio_wait_bit+0x13d/0x350\n"), (71, "dd", "S", STACK))
    (proc.base / "72").mkdir()  # ended since
    (proc.base / "73").mkdir()
    (proc.base / "73/stat").write_text("73 (cut")
    assert list(waiting(str(proc.base))) == []


def test_one_thread_alone_costs_no_further_reading(proc: Proc) -> None:
    proc.add(70, (70, "ip", "D", STACK))
    (proc.base / "70/task/70/stat").unlink()
    (proc.base / "70/task/71").mkdir()
    (proc.base / "70/task/71/stat").write_text(stat(71, "not there", "D", 1))
    (proc.base / "70/task/71/stack").write_text(STACK)
    assert [task.comm for task in waiting(str(proc.base))] == ["ip"]


def test_the_functions_of_the_drivers_innermost_first() -> None:
    assert in_drivers(STACK) == [HWC, "mana_gd_send_request", "mana_ib_create_qp_raw"]


@pytest.mark.wording
@pytest.mark.parametrize("kernel", KERNELS)
def test_who_waits_in_the_driver_is_named(make: Make, kernel: str) -> None:
    machine = make(f"{kernel}-idle")
    machine.write("/proc/41/stat", "41 (ip (x)) D 1 1\n")
    machine.write(
        "/proc/41/stack",
        "[<0>] mana_hwc_send_request+0x291/0x360 [mana]\n[<0>] do_setlink+0x9/0x12\n",
    )
    machine.write("/proc/42/stat", "42 (kworker/0:1+events) D 1 1\n")
    machine.write("/proc/42/stack", "[<0>] netdev_work_proc+0x14/0x1f0\n")
    machine.write("/proc/43/stat", "43 (running) R 1 1\n")
    machine.write("/proc/43/stack", "[<0>] mana_hwc_send_request+0x291/0x360 [mana]\n")
    machine.write("/proc/44/stat", "44 (not ours to see) D 1 1\n")
    (why,) = [item.why for item in machine.look().missing if item.source == "mana"]
    assert why.startswith("ip (x) 41 waits in the driver (mana_hwc_send_request)")


def test_the_innermost_function_is_named_and_any_creation_counts(proc: Proc) -> None:
    proc.add(70, (70, "app", "D", STACK.replace("mana_ib_create_qp_raw", "mana_ib_cfg_vport")))
    assert list(waiting(str(proc.base))) == [Waiting(70, "app", HWC, creates=True)]


@pytest.mark.parametrize("state", ["S", "R", "I", "Z", "T"])
def test_only_a_sleep_that_nothing_interrupts_counts(proc: Proc, state: str) -> None:
    proc.add(70, (70, "app", state, STACK))
    assert list(waiting(str(proc.base))) == []


def test_a_stack_that_may_not_be_read_names_nobody(proc: Proc) -> None:
    proc.add(70, (70, "app", "D", STACK))
    (proc.base / "70/stack").unlink()
    assert list(waiting(str(proc.base))) == []
    (proc.base / "70/stack").mkdir()  # read() fails, open() does not
    assert list(waiting(str(proc.base))) == []


def test_a_name_that_is_not_utf8_is_kept(proc: Proc) -> None:
    proc.add(70, (70, "app", "D", STACK))
    raw = (proc.base / "70/stat").read_bytes().replace(b"(app)", b"(a\xe2)")
    (proc.base / "70/stat").write_bytes(raw)
    assert [task.comm for task in waiting(str(proc.base))] == ["a\udce2"]


def test_a_proc_that_is_not_there_has_nobody_waiting(tmp_path: Path) -> None:
    assert list(waiting(str(tmp_path / "none"))) == []


def test_functions_of_others_are_not_the_drivers() -> None:
    lines = "[<0>] my_mana_hook+0x1/0x2\nmana_open+0x1/0x2\n[<0>] mana_open+0x1/0x2 [mana]\n"
    assert in_drivers(lines) == ["mana_open"]
    assert in_drivers("") == []


def test_what_is_no_task_that_waits_ends_no_search(
    proc: Proc, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc.add(70, (70, "app", "D", STACK))
    proc.add(71, (71, "shell", "S", ""), (72, "shell", "S", ""))
    orders = {str(proc.base): ["uptime", "1", "71", "70"], f"{proc.base}/71/task": ["71", "72"]}
    monkeypatch.setattr(blocked_tasks, "names", lambda path: orders[path])
    assert [task.pid for task in waiting(str(proc.base))] == [70]
