"""The lab itself: what its agent, its checks and its reset promise to the other tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from .agent import CommandFailed, GuestError
from .build import KERNELS
from .errors import KernelGone, LostVm
from .image import kernel as build_kernel
from .reset import inventory, reset, trouble
from .vm import Vm

# The agent does not care for the kernel below it: most of this runs on one.
any_kernel = pytest.mark.parametrize(
    "kernel",
    [pytest.param(KERNELS[-1], marks=pytest.mark.xdist_group(f"linux-{KERNELS[-1]}"))],
    indirect=True,
)
BINARY = bytes(range(256)) * 4096 + b"\0\n\r\xff"


def test_binary_passes_unchanged(vm: Vm) -> None:
    assert vm.run(["cat"], input=BINARY).out_bytes == BINARY
    assert vm.run("cat >&2", input=BINARY).err_bytes == BINARY


@any_kernel
def test_the_checkout_comes_compiled(vm: Vm) -> None:
    """Python reads the bytecode that is there, and has none to write."""
    modules = "manactl.cli.main, manactl.act.claim, manactl.act.release, manactl.cli.status"
    script = f"PYTHONPATH=/manactl/src python3 -P -v -c 'import {modules}' 2>&1"
    lines = vm.run(script).out.splitlines()
    ours = [line for line in lines if "/manactl/src/manactl/" in line]
    read = [line for line in ours if line.startswith("# code object from")]
    assert len(read) > 20
    assert all(".pyc" in line for line in read), read
    assert not [line for line in ours if line.startswith("# wrote")]


@any_kernel
def test_exit_codes_and_signals(vm: Vm) -> None:
    assert vm.run("exit 7", check=False).rc == 7
    assert vm.run("kill -SEGV $$", check=False).rc == -signal.SIGSEGV
    with pytest.raises(CommandFailed, match="ended with 3"):
        vm.run("echo spoken; exit 3")
    with pytest.raises(GuestError) as caught:
        vm.run(["/nowhere/to/be/found"])
    assert caught.value.errno == 2


@any_kernel
def test_environment_directory_and_closed_stdin(vm: Vm) -> None:
    done = vm.run("echo $WORD; pwd; wc -c", env={"WORD": "hello"}, cwd="/proc")
    assert done.out.split() == ["hello", "/proc", "0"]


@any_kernel
def test_a_timeout_ends_the_whole_group(vm: Vm) -> None:
    done = vm.run("trap '' TERM; sleep 1001 & sleep 1002", timeout=0.5, check=False)
    assert done.timed_out
    assert done.rc == -signal.SIGKILL
    assert vm.run("pgrep -f 'sleep 100[12]'", check=False).rc == 1


@any_kernel
def test_a_child_left_behind_does_not_delay_the_answer(vm: Vm) -> None:
    assert vm.run("sleep 1003 & echo done").out == "done\n"
    assert vm.run(["pgrep", "-x", "sleep"]).out
    assert any("sleep 1003" in line for line in vm.sweep())
    assert vm.run(["pgrep", "-x", "sleep"], check=False).rc == 1


@any_kernel
def test_a_program_in_the_background(vm: Vm) -> None:
    cat = vm.spawn(["cat"])
    cat.stdin_write("one\ntwo\n")
    assert cat.read_until("\n") == "one\n"
    assert cat.read_until("\n") == "two\n"
    assert cat.poll() is None
    cat.stdin_write(b"three", close=True)
    done = cat.wait()
    assert (done.rc, done.out) == (0, "one\ntwo\nthree")


@any_kernel
def test_signals_reach_a_program_in_the_background(vm: Vm) -> None:
    sleeper = vm.spawn("trap 'echo caught; exit 5' USR1; echo ready; while :; do sleep 0.05; done")
    sleeper.read_until("ready\n")
    sleeper.signal(signal.SIGUSR1, group=False)
    sleeper.read_until("caught\n")
    assert sleeper.wait().rc == 5
    killed = vm.spawn(["sleep", "1004"])
    killed.kill()
    assert killed.poll() == -signal.SIGKILL


@any_kernel
def test_waiting_in_vain_tells_the_story(vm: Vm) -> None:
    program = vm.spawn("echo this instead")
    with pytest.raises(CommandFailed, match="this instead"):
        program.read_until("that", timeout=30)


@any_kernel
def test_files_go_both_ways(vm: Vm) -> None:
    vm.put("/tmp/new/dir/file", BINARY * 3, mode=0o750)
    assert vm.get("/tmp/new/dir/file") == BINARY * 3
    assert vm.run(["stat", "-c", "%a", "/tmp/new/dir/file"]).out == "750\n"
    assert vm.get("/proc/version").startswith(b"Linux version " + vm.release.encode())
    with pytest.raises(GuestError) as caught:
        vm.get("/nowhere")
    assert caught.value.errno == 2


def test_kernel_messages_stream(vm: Vm) -> None:
    mark = vm.dmesg_mark()
    vm.run("echo 'the lab speaks' > /dev/kmsg")
    assert [line.text for line in vm.kmsg(mark)] == ["the lab speaks"]
    assert vm.wait_kmsg("lab speaks", mark).text == "the lab speaks"


@any_kernel
def test_a_kernel_warning_is_trouble_unless_declared(vm: Vm) -> None:
    """A line that the kernel would print: whoever wrote it, it must not go by unseen."""
    warning = "WARNING: CPU: 0 PID: 1 at net/core/nothing.c:1 nowhere+0x1/0x2"
    vm.run(["sh", "-c", f"echo '{warning}' > /dev/kmsg"])
    assert warning in trouble(vm)
    vm.expect_kmsg(r"WARNING: CPU: \d+ PID: 1 at net/core/nothing\.c:1 nowhere.*")
    assert trouble(vm) == ""
    vm.expect_kmsg("BUG: that never came")
    assert "that never came" in trouble(vm)
    vm.expected.remove("BUG: that never came")


@any_kernel
def test_many_commands(vm: Vm) -> None:
    for number in range(200):
        assert vm.run(["echo", str(number)]).out == f"{number}\n"


def test_reset_brings_the_guest_back(vm: Vm) -> None:
    before = inventory(vm)
    port = vm.netdevs[1]
    vm.run(
        f"""ip link set {port} up; ip addr add 192.0.2.1/24 dev {port}
        ip link set {port} mtu 1400; ip route add 198.51.100.0/24 via 192.0.2.9
        ip netns add other; ip link add v0 type veth peer name v1 netns other
        ip link set {vm.netdevs[2]} netns other; mkdir -p /var/lib/manactl
        touch /var/lib/manactl/left; sleep 1005 & sleep 0; ip link add b0 type bridge"""
    )
    changed = inventory(vm)
    assert changed.guest != before.guest
    assert changed.owners[0] == "ethernet"
    reset(vm, before)
    assert inventory(vm) == before


@any_kernel
def test_the_checkout_is_what_the_guest_runs(vm: Vm) -> None:
    from manactl import __version__  # noqa: PLC0415 - the checkout's, whatever is installed

    assert __version__ in vm.manactl("--version", check=True).out


@pytest.mark.parametrize("number", [1, 4])
def test_ports_and_addresses_are_selectable(make_vm: Callable[..., Vm], number: int) -> None:
    macs = [f"00:0d:3a:00:00:{index:02x}" for index in range(0x10, 0x10 + number)]
    vm = make_vm("7", ports=number, rnic=number == 4, macs=macs)
    assert sorted(vm.netdevs) == list(range(1, number + 1))
    for port, name in vm.netdevs.items():
        assert vm.get(f"/sys/class/net/{name}/address").decode().strip() == macs[port - 1]


def test_a_panic_is_a_lost_vm_with_its_console(make_vm: Callable[..., Vm]) -> None:
    vm = make_vm("7", nic=False)
    with pytest.raises(LostVm) as caught:
        vm.run("echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger", timeout=20)
    assert "sysrq triggered crash" in str(caught.value).lower()
    with pytest.raises(LostVm):
        vm.run(["true"])


def test_a_killed_qemu_is_a_lost_vm(make_vm: Callable[..., Vm]) -> None:
    vm = make_vm("7", nic=False)
    os.kill(vm.pid, signal.SIGKILL)
    with pytest.raises(LostVm, match="qemu ended with -9"):
        vm.run(["true"])


def test_a_kernel_that_is_gone_is_named() -> None:
    with pytest.raises(KernelGone, match=r"no cloud kernel 5\.99\*.*6\.12\."):
        build_kernel("5.99")
