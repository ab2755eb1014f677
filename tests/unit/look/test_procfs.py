from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manactl.look import procfs
from manactl.look.procfs import (
    Stat,
    container_of,
    describe,
    holders,
    manager_of,
    stat_of,
    unit_of,
)
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
        # Below a unit with Delegate= whoever has it names what he likes.
        ("0::/system.slice/fwd.service/sshd.service\n", "fwd.service", None),
        (f"0::/system.slice/docker-{ID}.scope/system.slice/a.service\n", f"docker-{ID}.scope", ID),
        ("0::/user.slice/user-7.slice/user@7.service/app.slice/a.service\n", "a.service", None),
        ("0::/user.slice/user-7.slice/user@7.service\n", "user@7.service", None),
    ],
)
def test_unit_and_container(cgroup: str, unit: str | None, container: str | None) -> None:
    assert container_of(cgroup) == container
    assert unit_of(cgroup) == unit


@pytest.mark.parametrize(
    ("path", "manager"),
    [
        ("/user.slice/user-7.slice/user@7.service/app.slice/a;b.service", 7),
        ("/user.slice/user-7.slice/user@7.service/init.scope", 7),
        ("/user.slice/user-7.slice/user@7.service/user@0.service/a.service", 7),
        ("/user.slice/user-7.slice/user@7.service", None),
        ("/user.slice/user-7.slice/session-3.scope", None),
        ("/system.slice/a.service/user@7.service/b.service", None),
    ],
)
def test_a_unit_below_a_users_manager_is_that_users(path: str, manager: int | None) -> None:
    assert manager_of(f"0::{path}\n") == manager


@given(st.text())
def test_any_cgroup_text_is_read(text: str) -> None:
    unit_of(text)
    manager_of(text)
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


STATUS = "Name:\tpython3\nCapEff:\t{:016x}\n"


@pytest.mark.parametrize(
    ("mounts", "capabilities", "unlisted"),
    [
        ("rw,hidepid=invisible", 0, True),
        ("rw,gid=7,hidepid=2", 0, True),
        ("rw,hidepid=ptraceable,subset=pid", 0, True),
        ("rw,hidepid=4", 1 << 19, False),  # CAP_SYS_PTRACE: nothing is hidden
        ("rw,hidepid=noaccess", 0, False),  # they are listed, and their descriptors refused
        ("rw,hidepid=1", 0, False),
        ("rw,hidepid=0", 0, False),
        ("rw", 0, False),
    ],
)
def test_processes_that_proc_does_not_list(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    mounts: str,
    capabilities: int,
    unlisted: bool,
) -> None:
    """Whose process 1 we see, as in a container of our own, needs the mount option."""
    machine.write("/proc/self/status", STATUS.format(capabilities))
    machine.write("/mounts", f"21 1 0:2 / {proc(machine)} rw - proc proc {mounts}\n"
                  "22 1 0:2 / /elsewhere rw - proc proc rw,hidepid=2\n")  # fmt: skip
    monkeypatch.setattr(procfs, "OWN_MOUNTS", str(machine.path("/mounts")))
    found = holders(proc(machine), {NULL})
    assert (found.hidden, found.unlisted, found.empty) == (unlisted, unlisted, False)


def test_a_place_without_any_process_is_told_apart(tmp_path: Path) -> None:
    """As in a chroot where nobody has mounted /proc."""
    found = holders(str(tmp_path), {NULL})
    assert (found.hidden, found.unlisted, found.empty) == (True, True, True)
    (tmp_path / "7").mkdir()  # with hidepid our own processes are there
    assert not holders(str(tmp_path), {NULL}).empty


def test_without_process_1_the_others_are_hidden(machine: Machine) -> None:
    machine.remove(machine.path("/proc/1"))
    machine.holder(4)
    found = holders(proc(machine), {NULL})
    assert (found.hidden, found.unlisted) == (True, True)
    assert [one.pid for one in found.of[NULL]] == [4]
    assert not holders(proc(machine), set()).hidden


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


def test_an_error_of_one_descriptor_is_that_ones_alone(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a file gives it whose server has gone, or refuses root."""
    machine.holder(4)
    machine.path("/proc/4/fd/1").symlink_to("/dev/zero")
    real = os.open
    for number in (errno.ENOTCONN, errno.ESTALE, errno.EIO, errno.ELOOP):

        def fails(path: str, flags: int, number: int = number, **more: int) -> int:
            if path == "1":
                raise OSError(number, os.strerror(number))
            return real(path, flags, **more)

        monkeypatch.setattr(os, "open", fails)
        found = holders(proc(machine), {NULL})
        assert ([one.pid for one in found.of[NULL]], found.hidden) == ([4], False)


@pytest.mark.parametrize(
    ("mount", "found", "hidden"),
    [
        ("rw - devtmpfs devtmpfs rw", [4], False),
        ("rw - tmpfs tmpfs rw", [4], False),
        ("rw - nfs4 server:/ rw", [], True),
        ("rw - overlay overlay rw", [], True),
        ("rw,nosuid,nodev - fuse x rw", [], False),
    ],
)
def test_only_our_own_file_systems_are_asked(
    machine: Machine, mount: str, found: list[int], hidden: bool
) -> None:
    """A device of another mount namespace, told by the process's own table of mounts."""
    machine.holder(4)
    machine.path("/proc/4/fd/3").unlink()
    node = machine.base / "uverbs0"
    os.mknod(node, stat.S_IFCHR | 0o666, NULL)
    machine.path("/proc/4/fd/3").symlink_to(node)
    held = os.open(node, os.O_PATH)
    try:
        (number,) = re.findall(r"mnt_id:\s*(\d+)", Path(f"/proc/self/fdinfo/{held}").read_text())
    finally:
        os.close(held)
    machine.write("/proc/4/fdinfo/3", f"pos:\t0\nflags:\t02\nmnt_id:\t{number}\n")
    machine.write("/proc/4/mountinfo", f"{number} 1 0:5 / / {mount}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("manactl.look.procfs.OWN_MOUNTS", "/nonexistent")
        seen = holders(proc(machine), {NULL})
    assert ([one.pid for one in seen.of[NULL]], seen.hidden) == (found, hidden)


# Two device nodes of one path, the second on a mount over the first; and /dev/null often.
STACKED = """
set -e
mount -t tmpfs none {place}
mknod {place}/uverbs0 c 1 3
exec 3<{place}/uverbs0 4<{place}/uverbs0
mount -t tmpfs none {place}
mknod {place}/uverbs0 c 1 5
exec 5<{place}/uverbs0 6</dev/null 7</dev/null
echo ready
read -r _
"""


def test_a_path_that_was_looked_at_hides_no_other_mount(tmp_path: Path) -> None:
    """Files that are no wanted device are looked at once; by mount and path, not by path alone."""
    words = ["unshare", "-m", "sh", "-c", STACKED.format(place=tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdin
        assert shell.stdout
        assert shell.stdout.readline() == b"ready\n"
        zero = os.stat("/dev/zero").st_rdev
        found = holders("/proc", {zero, NULL})
        alone = holders("/proc", {zero})
        shell.stdin.close()
    for seen in (found, alone):
        assert shell.pid in [one.pid for one in seen.of[zero]]
    assert shell.pid in [one.pid for one in found.of[NULL]]


def test_what_is_no_wanted_device_is_looked_at_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.path("/proc/4/fd").mkdir(parents=True)
    with open("/dev/zero", "rb") as file:
        own = Path(f"/proc/self/fdinfo/{file.fileno()}").read_text()
    for number in range(50):
        machine.path(f"/proc/4/fd/{number}").symlink_to("/dev/zero")
        machine.write(f"/proc/4/fdinfo/{number}", own)
    asked = []
    real = os.fstat
    monkeypatch.setattr(os, "fstat", lambda file: asked.append(file) or real(file))
    assert holders(proc(machine), {NULL}).of[NULL] == ()
    assert len(asked) == 1


def test_descriptors_of_a_search_are_not_left_open(machine: Machine) -> None:
    machine.holder(4)
    before = os.listdir("/proc/self/fd")
    holders(proc(machine), {NULL})
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    ("error", "hidden"),
    [(PermissionError, True), (ProcessLookupError, False), (FileNotFoundError, False)],
)
def test_what_may_not_be_read_is_hidden_and_what_is_gone_is_not(
    machine: Machine, error: type[OSError], hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.holder(4)
    machine.holder(5)
    opened = os.open

    def refusing(path: str, flags: int, **more: int) -> int:
        if str(path).endswith("/4/fd"):
            raise error(path)
        return opened(path, flags, **more)

    monkeypatch.setattr(os, "open", refusing)
    found = holders(proc(machine), {NULL})
    assert (found.hidden, [one.pid for one in found.of[NULL]]) == (hidden, [5])
    assert found.descriptors == {NULL: 1}


def test_every_field_of_a_holder_comes_from_its_file(machine: Machine) -> None:
    machine.holder(4, "fwd", f"0::/system.slice/docker-{ID}.scope\n")
    holder = describe(proc(machine), 4, 1000)
    assert (holder.pid, holder.comm, holder.exe, holder.uid) == (4, "fwd", "/usr/bin/testpmd", 1000)
    assert (holder.unit, holder.container) == (f"docker-{ID}.scope", ID)
    assert holder.since is not None
    assert holder.since.timestamp() == 1005


def test_without_the_time_of_the_boot_the_start_is_unknown(machine: Machine) -> None:
    machine.holder(4)
    machine.write("/proc/stat", "cpu 1 2 3\nxbtime 5\n")
    (holder,) = holders(proc(machine), {NULL}).of[NULL]
    assert holder.since is None
    assert describe(proc(machine), 4, None).since is None


@pytest.mark.parametrize("comm", ["fwd", "a) S 9 (b", "", "x\udce2"])
def test_stat_by_the_names_of_its_fields(machine: Machine, comm: str) -> None:
    numbers = [str(number) for number in range(4, 53)]
    line = f"4 ({comm}) D {' '.join(numbers)}\n"
    machine.path("/proc/4").mkdir(parents=True, exist_ok=True)
    machine.path("/proc/4/stat").write_bytes(line.encode(errors="surrogateescape"))
    found = stat_of(f"{proc(machine)}/4")
    assert (found.comm, found.state) == (comm, "D")
    assert (found.ppid, found.flags, found.threads, found.starttime) == (4, 9, 20, 22)


@pytest.mark.parametrize("line", [None, "", "\n", "4 (x", "4 (x)", "4 (x)\n"])
def test_a_stat_that_says_nothing_is_unknown(machine: Machine, line: str | None) -> None:
    if line is not None:
        machine.write("/proc/4/stat", line)
    found = stat_of(f"{proc(machine)}/4")
    assert found.state is None
    assert (found.ppid, found.flags, found.threads, found.starttime) == (None, None, None, None)


def test_a_field_that_is_no_number_is_unknown() -> None:
    found = Stat("4 (x) S one " + " ".join("7" * 20))
    assert (found.state, found.ppid, found.flags, found.starttime) == ("S", None, 7, 7)


def test_stat_of_this_process_as_the_kernel_has_it() -> None:
    found = stat_of(f"/proc/{os.getpid()}")
    assert (found.state, found.ppid) == ("R", os.getppid())
    threads = re.search(r"^Threads:\t(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert threads is not None
    assert found.threads == int(threads[1])


@pytest.mark.parametrize(("fields", "known"), [(0, False), (19, False), (20, True), (21, True)])
def test_a_stat_that_is_cut_has_no_start(machine: Machine, fields: int, known: bool) -> None:
    machine.holder(4)
    machine.write("/proc/4/stat", f"4 (x) {' '.join('7' * fields)}\n")
    assert (describe(proc(machine), 4, 1000).since is not None) is known


@pytest.mark.parametrize(
    ("status", "uid"),
    [("Uid:\t1000\t0\t0\t0\n", 1000), ("Name:\tUid: 7\nUid:\t5 6\n", 5), ("Gid:\t7\n", None)],
)
def test_the_real_uid_is_the_first_of_its_line(
    machine: Machine, status: str, uid: int | None
) -> None:
    machine.holder(4)
    machine.write("/proc/4/status", status)
    assert describe(proc(machine), 4, None).uid == uid


def test_files_of_proc_that_are_no_process_are_passed_over(machine: Machine) -> None:
    for name in ("self", "4x", "sys"):
        machine.path(f"/proc/{name}/fd").mkdir(parents=True)
        machine.path(f"/proc/{name}/fd/3").symlink_to("/dev/null")
    assert holders(proc(machine), {NULL}).of[NULL] == ()


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/a.service/b.service\n", "a.service"),
        ("0::/a.service/x\n", "a.service"),
        ("0::/a.slice\n", None),
        ("4:cpu:/a.service\n0::/b.socket\n", "b.socket"),
        ("2:cpu:/x.mount\n1:memory:/y.swap\n", "x.mount"),
        ("0::/serviced\n0::/a.services\n", None),
    ],
)
def test_the_outermost_unit_of_the_first_hierarchy_that_has_one(
    cgroup: str, unit: str | None
) -> None:
    assert unit_of(cgroup) == unit


@pytest.mark.parametrize(
    ("path", "container"),
    [(f"/a/{ID}/b", ID), (f"/{'f' * 64}/{ID}", ID), (f"/{ID}0", None), (f"/{ID[1:]}", None),
     (f"/x{ID}", None), (f"/libpod-conmon-{ID}.scope", ID), (f"/{ID}.service", None)],
)  # fmt: skip
def test_a_container_is_64_hex_digits_by_themselves(path: str, container: str | None) -> None:
    assert container_of(f"0::{path}\n") == container


def test_what_is_passed_over_ends_no_search(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder comes last, whatever order the file system has."""
    machine.holder(4)
    machine.path("/proc/4/fd/1").symlink_to("/dev/gone")
    machine.path("/proc/5").mkdir()
    listdir, opened = os.listdir, os.open
    order = {proc(machine): ["cpuinfo", "5", "6", "4"]}

    def ordered(path: str | int) -> list[str]:
        if isinstance(path, int):
            return sorted(listdir(path), key=lambda name: name == "3")
        return order.get(path) or listdir(path)

    def refusing(path: str, *args: int, **more: int) -> int:
        if str(path).endswith("/6/fd"):
            raise PermissionError(path)
        return opened(path, *args, **more)

    monkeypatch.setattr(os, "listdir", ordered)
    monkeypatch.setattr(os, "open", refusing)
    found = holders(proc(machine), {NULL})
    assert [one.pid for one in found.of[NULL]] == [4]
    assert found.hidden


@pytest.mark.parametrize("char", ["\u2028", "\u0085", "\x0b", "\x0c", "\x1c", "\u2029"])
def test_no_name_of_a_mount_point_hides_what_is_open_below_another(
    tmp_path: Path, char: str
) -> None:
    (tmp_path / "mountinfo").write_text(
        f"30 1 0:5 / /mnt/a{char}b rw,nosuid - tmpfs none rw\n31 1 0:6 / /dev rw - devtmpfs none rw\n",
        newline="",
    )
    found = procfs._mounts(f"{tmp_path}/mountinfo")
    assert found == {30: ("tmpfs", False), 31: ("devtmpfs", False)}


def test_a_search_without_descriptors_finds_nobody_to_be_nobody(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.holder(4)
    opened = os.open

    def full(path: str, flags: int, **more: int) -> int:
        if str(path).endswith("/4/fd"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return opened(path, flags, **more)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OSError, match="Too many open files"):
        holders(proc(machine), {NULL})
