from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manactl.look.procfs import container_of, describe, holders, unit_of
from tests.unit.machine import NULL, Machine

ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("cgroup", "unit", "container"),
    [
        ("0::/system.slice/fwd.service\n", "fwd.service", None),
        ("0::/system.slice/fwd.service/worker\n", "fwd.service", None),
        ("0::/user.slice/user-0.slice/session-3.scope\n", "session-3.scope", None),
        ("0::/init.scope\n", "init.scope", None),
        (f"0::/system.slice/docker-{ID}.scope\n", f"docker-{ID}.scope", ID),
        (f"0::/docker/{ID}\n", None, ID),
        (f"0::/machine.slice/libpod-{ID}.scope/container\n", f"libpod-{ID}.scope", ID),
        (
            f"0::/kubepods.slice/pod1.slice/cri-containerd-{ID}.scope\n",
            f"cri-containerd-{ID}.scope",
            ID,
        ),
        (f"5:memory:/x\n1:name=systemd:/docker/{ID}\n", None, ID),
        ("4:cpu:/a.service\n1:name=systemd:/system.slice/b.service\n", "b.service", None),
        ("0::/\n", None, None),
        ("", None, None),
        ("nonsense\n", None, None),
    ],
)
def test_unit_and_container(cgroup: str, unit: str | None, container: str | None) -> None:
    assert container_of(cgroup) == container
    assert unit_of(cgroup) == unit


@given(st.text())
def test_any_cgroup_text_is_read(text: str) -> None:
    unit_of(text)
    container_of(text)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, "7-idle")


def proc(machine: Machine) -> str:
    return str(machine.path("/proc"))


def test_every_process_with_the_device_is_found_once(machine: Machine) -> None:
    machine.holder(30)
    machine.holder(4)
    machine.path("/proc/4/fd/9").symlink_to("/dev/null")  # the same device twice
    machine.path("/proc/77/fd").mkdir(parents=True)
    machine.path("/proc/77/fd/1").symlink_to("/dev/zero")
    found = holders(proc(machine), {NULL, 12345})
    assert [holder.pid for holder in found.of[NULL]] == [4, 30]
    assert found.of[12345] == ()
    assert found.descriptors == {NULL: 3, 12345: 0}
    assert not found.hidden


def test_without_a_device_nothing_is_searched(machine: Machine) -> None:
    assert holders(str(machine.base / "no-such-proc"), set()).of == {}


def test_processes_and_descriptors_that_vanish_are_skipped(machine: Machine) -> None:
    machine.holder(4)
    machine.path("/proc/5").mkdir()  # gone between the listing and its fd
    machine.path("/proc/4/fd/8").symlink_to("/dev/not-there-any-more")
    assert [holder.pid for holder in holders(proc(machine), {NULL}).of[NULL]] == [4]


def test_a_process_that_ends_after_it_was_found_keeps_its_pid(machine: Machine) -> None:
    holder = describe(proc(machine), 99, 1700000000)
    assert holder.pid == 99
    fields = (holder.comm, holder.exe, holder.uid, holder.unit, holder.container, holder.since)
    assert fields == (None,) * 6


def test_a_name_with_parentheses_and_cut_utf8_is_kept(machine: Machine) -> None:
    name = "a) S 1 (b\udce2\udc82"
    machine.holder(4)
    machine.write("/proc/4/comm", name + "\n")
    machine.write("/proc/4/stat", machine.path("/proc/4/stat").read_text().replace("testpmd", name))
    holder = describe(proc(machine), 4, 1700000000)
    assert holder.comm == name
    assert holder.since is not None
    assert holder.since.timestamp() == 1700000005


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # the runner's threads
@pytest.mark.skipif(os.geteuid() != 0, reason="needs another uid to look from")
def test_what_others_have_open_is_hidden_from_an_ordinary_user(machine: Machine) -> None:
    """In a child, since it gives up its uid for good."""
    machine.holder(4)
    machine.path("/proc/4/fd").chmod(0o700)
    os.chmod(machine.path("/proc"), 0o755)
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            os.chdir(machine.path("/proc"))
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            code = 0 if holders(".", {NULL}).hidden else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
