"""Fixtures of the lab: one guest per kernel serves many tests, and the reset between is checked.

`vm`       the guest of one kernel, with two ports and RNIC; every test with it runs once per kernel
`pair`     the same with hv_netvsc above the ports, as on Azure
`booted`   the same as `vm` with systemd as init, and no manager running; `booted_pair` with pairs
`make_vm`  for tests that need a guest of their own: other ports, no RNIC, or one that they wreck
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import pytest

from tests.conftest import lacking

from . import cache
from .build import KERNELS, WITHOUT_HEADERS
from .errors import HostLacks, LabError, LostVm, MirrorUnknown, Unreachable
from .reset import Inventory, ResetFailed, gave_up, inventory, reset, trouble
from .vm import Vm

_LONG = frozenset(
    f"test_{name}"
    for name in (
        "busy",
        "crash",
        "forms",
        "guards",
        "mainjob",
        "members",
        "networks",
        "powercut",
        "signals",
        "traffic",
        "truth",
        "two_ports",
        "walk",
    )
)
# What a worker does in one row, the longest first: then the last ones end at about the same time.
_ROWS = (
    "linux-6.12 long",
    "linux-7 long",
    "linux-7 short",
    "pairs-7 short",
    "systemd-7 short",
    "linux-6.12 short",
    "linux-6.18 long",
    "linux-6.18 short",
    "pairs-6.12 short",
    "systemd-pairs-7 short",
)
_TESTS = Path(__file__).parent.parent
_IN_USE = pytest.StashKey[list[Vm]]()


class Pool:
    """The running guests of this test process, by kernel."""

    def __init__(self) -> None:
        self._vms: dict[str, tuple[Vm, Inventory]] = {}

    def take(self, kernel: str, *, pair: bool = False, systemd: str = "", cpus: int = 1) -> Vm:
        """A guest as freshly booted; an old one if its reset was clean and it has as many CPUs.

        Under xdist a kernel's tests come in one row: guests of other kernels have had theirs.
        """
        prefix, kernel = kernel, kernel_key(kernel, pair=pair, systemd=systemd)
        if "PYTEST_XDIST_WORKER" in os.environ:
            for other in self._vms.keys() - {kernel}:
                self._drop(other)
        if kernel in self._vms and self._vms[kernel][0].cpus != cpus:
            self._drop(kernel)
        if kernel not in self._vms:
            # For sub-channels: offline, they cost nothing, and another boot would.
            spare = 2 if pair and not systemd else 0
            vm = start(prefix, pair=pair, systemd=systemd, cpus=cpus, spare=spare)
            vm.pooled = True
            try:
                self._vms[kernel] = (vm, inventory(vm))
            except BaseException:
                vm.close()
                raise
        return self._vms[kernel][0]

    def give_back(self, kernel: str, *, worn: bool) -> None:
        """Reset the guest for the next test, or end it when it is `worn`, lost or unclean."""
        vm, boot = self._vms[kernel]
        if not worn and vm.lost is None:
            with contextlib.ExitStack() as undo:
                undo.callback(self._drop, kernel)
                reset(vm, boot)
                undo.pop_all()
        else:
            self._drop(kernel)

    def _drop(self, kernel: str) -> None:
        vm, _ = self._vms.pop(kernel)
        vm.close()

    def close(self) -> None:
        for kernel in list(self._vms):
            self._drop(kernel)


def kernel_key(kernel: str, *, pair: bool, systemd: str = "") -> str:
    """Under which the pool has the guest of a kernel."""
    return kernel + (" with pairs" if pair else "") + (" and systemd" if systemd else "")


def start(kernel: str, **more: object) -> Vm:
    """Boot a guest. What the host lacks skips the test, unless the run requires the lab."""
    vm = Vm(kernel, **more)  # type: ignore[arg-type]
    try:
        return vm.start()
    except (HostLacks, MirrorUnknown, Unreachable) as error:
        lacking("lab", str(error))
        raise


def pytest_collection_finish(session: pytest.Session) -> None:
    """Groups must reach xdist's scheduler, or every worker boots every kernel."""
    if getattr(session.config.option, "loadgroup", False):
        for item in session.items:
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
                raise pytest.UsageError("this pytest and this pytest-xdist do not do loadgroup")


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        cache.say = lambda text: None  # the controller's own run of build() has told it


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    made = Pool()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(
    params=[pytest.param(k, marks=pytest.mark.xdist_group(f"linux-{k}"), id=k) for k in KERNELS]
)
def kernel(request: pytest.FixtureRequest) -> str:
    """A kernel version prefix: the test runs once for each."""
    return str(request.param)


@pytest.fixture
def vm(request: pytest.FixtureRequest, pool: Pool, kernel: str) -> Iterator[Vm]:
    """The guest of one kernel, as it booted; see reset.py for what the test may leave behind.

    One CPU saves the host a fifth of its time. The short rows have two, for what only happens then:
    a second queue, which the driver opens and gives back, and DPDK's second lcore.
    """
    both = request.node.path.stem not in _LONG
    yield from _shared(request, pool, kernel, pair=False, cpus=1 + both)


@pytest.fixture(
    params=[
        pytest.param(k, marks=pytest.mark.xdist_group(f"pairs-{k}"), id=k)
        for k in KERNELS
        if k not in WITHOUT_HEADERS
    ]
)
def pair(request: pytest.FixtureRequest, pool: Pool) -> Iterator[Vm]:
    """The guest of one kernel with hv_netvsc above each port, as it booted."""
    yield from _shared(request, pool, str(request.param), pair=True)


def _on_newest(group: str) -> list[object]:
    """A kernel for parameters: the newest in `make test`, the others among the long ones."""
    marked: list[object] = []
    for name in KERNELS:
        marks = [pytest.mark.xdist_group(f"{group}-{name}")]
        if name != KERNELS[-1]:
            marks.append(pytest.mark.soak)
        if name not in WITHOUT_HEADERS or "pairs" not in group:
            marked.append(pytest.param(name, marks=marks, id=name))
    return marked


@pytest.fixture(params=_on_newest("systemd"))
def booted(request: pytest.FixtureRequest, pool: Pool) -> Iterator[Vm]:
    """The guest with systemd as init; tests start the manager that they want."""
    yield from _shared(request, pool, str(request.param), pair=False, systemd="bare")


@pytest.fixture(params=_on_newest("systemd-pairs"))
def booted_pair(request: pytest.FixtureRequest, pool: Pool) -> Iterator[Vm]:
    """The guest with systemd as init and hv_netvsc above each port."""
    yield from _shared(request, pool, str(request.param), pair=True, systemd="bare")


def _shared(
    request: pytest.FixtureRequest,
    pool: Pool,
    kernel: str,
    *,
    pair: bool,
    systemd: str = "",
    cpus: int = 1,
) -> Iterator[Vm]:
    machine = pool.take(kernel, pair=pair, systemd=systemd, cpus=cpus)
    key = kernel_key(kernel, pair=pair, systemd=systemd)
    machine.begin_test()
    users = request.node.stash.setdefault(_IN_USE, [])
    users.append(machine)
    try:
        yield machine
        users.remove(machine)
        _after(pool, key, machine)
    finally:
        if machine in users:  # the teardown of another fixture failed
            pool.give_back(key, worn=True)


def _after(pool: Pool, kernel: str, machine: Vm) -> None:
    """Reset, and whether it or what the test left running brought bad news."""
    worn = bool(machine.expected or machine.tolerated) or machine.worn
    if worn or machine.lost is not None or gave_up(machine):
        pool.give_back(kernel, worn=True)
        return
    pool.give_back(kernel, worn=False)
    if news := trouble(machine):
        pool.give_back(kernel, worn=True)
        pytest.fail(f"after the test, while its processes were ended: {news}", pytrace=False)


@pytest.fixture
def seed() -> int:
    """Of what a test does at random; printed, and MANACTL_SEED=N does the same again."""
    given = os.environ.get("MANACTL_SEED")
    found = int(given) if given else random.SystemRandom().randrange(1 << 31)
    print(f"MANACTL_SEED={found}")
    return found


@pytest.fixture
def make_vm(request: pytest.FixtureRequest) -> Iterator[Callable[..., Vm]]:
    """make_vm(kernel, ports=..., ...) boots a guest for this test alone."""
    machines = request.node.stash.setdefault(_IN_USE, [])
    with contextlib.ExitStack() as stack:

        def make(kernel: str = "7", **more: object) -> Vm:
            machine = start(kernel, **more)
            stack.callback(machine.close)
            machine.begin_test()
            machines.append(machine)
            return machine

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Let the kernel's and the NIC's complaints fail the test itself, not its teardown."""
    try:
        yield
    except BaseException as error:
        for machine in item.stash.get(_IN_USE, []):
            machine.worn = True  # a failed test may have stopped anywhere
            with contextlib.suppress(LabError):
                if news := trouble(machine):
                    error.add_note(news)
        raise
    for machine in item.stash.get(_IN_USE, []):
        if machine.lost is not None:
            continue  # the test wanted it so, or it would not have come here
        if news := trouble(machine):
            machine.worn = True
            pytest.fail(news, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, LostVm | ResetFailed):
        name = "LOST VM" if call.excinfo.errisinstance(LostVm) else "RESET FAILED"
        report.__dict__["lab_trouble"] = name  # plain data, so that xdist carries it over
        report.longrepr = f"{item.nodeid}\n{call.excinfo.value}"
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """A lost VM is an error of the lab, in the summary too; it is not the test's failure."""
    trouble_name = getattr(report, "lab_trouble", None)
    if trouble_name is None or report.passed:
        return None
    return "error", "L", trouble_name


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {"vm", "pair", "booted", "booted_pair", "make_vm"} & set(
            getattr(item, "fixturenames", ())
        ):
            item.add_marker("lab")
        if item.get_closest_marker("xdist_group"):
            # Half of a kernel's tests is work enough for the boot that it costs.
            half = "long" if item.path.stem in _LONG else "short"
            item.add_marker(pytest.mark.xdist_group(half))
    items.sort(key=_place)
    items[:] = _mixed(items)


def _mixed(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Those of tests/netns between the files of unit tests: the first wait, for carriers and
    addresses, while the others compute. Files stay whole, for what their tests share."""
    waiting = [item for item in items if _waits(item)]
    rest = [item for item in items if not _waits(item)]
    blocks = [list(of) for _, of in itertools.groupby(rest, key=lambda item: item.path)]
    among = [block for block in blocks if _kind(block[0]) == "unit"]
    if not among:
        return list(items)
    found, given = [item for block in blocks if _kind(block[0]) != "unit" for item in block], 0
    for number, block in enumerate(among, 1):
        until = len(waiting) * number // len(among)
        found += waiting[given:until]
        found += block
        given = until
    return found


def _waits(item: pytest.Item) -> bool:
    return _kind(item) == "netns" and item.get_closest_marker("soak") is None


def _kind(item: pytest.Item) -> str:
    """The directory below tests that it is in."""
    return item.path.relative_to(_TESTS).parts[0]


def _place(item: pytest.Item) -> int:
    """The rows first; single tests fill up what they leave of the time."""
    words = [mark.args[0] for mark in item.iter_markers("xdist_group")]
    row = " ".join(sorted(words, key=("long", "short").__contains__))
    return _ROWS.index(row) if row in _ROWS else len(_ROWS)
