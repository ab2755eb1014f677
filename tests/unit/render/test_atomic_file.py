"""Readers of the output file see all of it, old or new."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from manactl.errors import RolledBack, UsageError
from manactl.render import atomic_file
from tests.conftest import lacking
from tests.unit.wording import says

SRC = str(Path(__file__).parents[3] / "src")


def test_the_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "manactl.prom"
    path.write_text("old and longer\n")
    path.chmod(0o600)
    with path.open() as reader:
        atomic_file.write(path, "new\n")
        assert reader.read() == "old and longer\n"  # who had it open has the old file, whole
    assert path.read_text() == "new\n"
    assert os.listdir(tmp_path) == ["manactl.prom"]


def test_a_file_that_is_there_keeps_owner_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    path.chmod(0o4640)
    if os.geteuid() == 0:
        os.chown(path, 0, 65534)
    before = path.stat()
    atomic_file.write(path, "new")
    after = path.stat()
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert after.st_mode & 0o7777 == 0o640  # no bit of it makes a program of it
    assert after.st_ino != before.st_ino


def planted(directory: Path, mode: int, owner: int) -> None:
    """In a directory with this mode: a link to a file beside it."""
    if os.geteuid() != 0:
        lacking("netns", "only root can give links and files away")
    (directory.parent / "victim").write_text("precious")
    directory.mkdir()
    (directory / "link").symlink_to("../victim")
    (directory / "within").symlink_to(".")
    for name in ("link", "within"):
        os.chown(directory / name, owner, owner, follow_symlinks=False)
    directory.chmod(mode)


@pytest.mark.parametrize("name", ["link", "within/f", "within/link"])
@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o775])
def test_a_link_that_others_may_have_planted_is_refused(
    tmp_path: Path, mode: int, name: str
) -> None:
    planted(tmp_path / "shared", mode, 65534)
    before = sorted(os.listdir(tmp_path / "shared"))
    with pytest.raises(UsageError, match=says("symbolic link of uid 65534")):
        atomic_file.write(tmp_path / "shared" / name, "new")
    assert (tmp_path / "victim").read_text() == "precious"
    assert sorted(os.listdir(tmp_path / "shared")) == before


def test_a_link_in_somebody_elses_directory_is_refused(tmp_path: Path) -> None:
    planted(tmp_path / "theirs", 0o755, 65534)
    os.chown(tmp_path / "theirs", 65534, 65534)
    with pytest.raises(UsageError, match=says("symbolic link")):
        atomic_file.write(tmp_path / "theirs/link", "new")
    assert (tmp_path / "victim").read_text() == "precious"


def test_roots_link_is_followed_there_too_and_a_strangers_where_only_root_can_put_it(
    tmp_path: Path,
) -> None:
    planted(tmp_path / "shared", 0o1777, 0)
    atomic_file.write(tmp_path / "shared/link", "new")
    assert (tmp_path / "victim").read_text() == "new"
    planted(tmp_path / "closed", 0o755, 65534)
    atomic_file.write(tmp_path / "closed/within/link", "newer")
    assert (tmp_path / "victim").read_text() == "newer"


def test_a_file_that_others_may_have_planted_is_refused(tmp_path: Path) -> None:
    planted(tmp_path / "shared", 0o1777, 0)
    path = tmp_path / "shared/f"
    path.write_text("theirs")
    os.chown(path, 65534, 65534)
    with pytest.raises(UsageError, match=says("belongs to uid 65534")):
        atomic_file.write(path, "new")
    assert path.read_text() == "theirs"


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UsageError, match="Too many levels"):
        atomic_file.write(tmp_path / "a", "x")


@pytest.mark.parametrize("name", ["f", "./f", "d/../f", "d//../f", "up", "absolute", "long"])
def test_all_paths_lead_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "up").symlink_to("d/../f")
    (tmp_path / "absolute").symlink_to(tmp_path / "f")
    for number in range(39):
        (tmp_path / f"long{number}").symlink_to(f"long{number + 1}" if number < 38 else "f")
    (tmp_path / "long").symlink_to("long0")
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir("/proc/self/fd"))
    atomic_file.write(Path(name), "here")
    assert (tmp_path / "f").read_text() == "here"
    atomic_file.write(tmp_path / name, "there")
    assert (tmp_path / "f").read_text() == "there"
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("name", ["/", ".", "d/."])
def test_a_directory_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "d").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        atomic_file.write(Path(name), "x")


def test_the_content_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    synced: list[tuple[str, str]] = []
    real = os.fsync

    def fsync(number: int) -> None:
        real(number)
        synced.append((Path(f"/proc/self/fd/{number}").read_text(), path.read_text()))

    monkeypatch.setattr(os, "fsync", fsync)
    atomic_file.write(path, "new")
    assert synced == [("new", "old")]


def test_a_name_that_is_no_utf8_is_written(tmp_path: Path) -> None:
    atomic_file.write(tmp_path / "f", "a\udcff")
    assert (tmp_path / "f").read_text() == "a\\udcff"
    atomic_file.write(tmp_path / ("n" * 255), "x")  # and the longest name there can be
    assert (tmp_path / ("n" * 255)).read_text() == "x"


def test_umask_does_not_hide_it(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        atomic_file.write(tmp_path / "f", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o7777 == 0o644


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    atomic_file.write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_not_a_file_is_left_alone(tmp_path: Path, make: object) -> None:
    path = tmp_path / "odd"
    make(path)  # type: ignore[operator]
    before = path.lstat()
    with pytest.raises(UsageError, match=says("not a regular file")):
        atomic_file.write(path, "x")
    assert path.lstat() == before


def test_a_missing_directory_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory"):
        atomic_file.write(tmp_path / "no" / "f", "x")


def test_a_full_disk_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    """A limit on file size stands for the disk: the write itself fails, in the middle."""
    path = tmp_path / "f"
    path.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(RolledBack) as failed:
            atomic_file.write(path, "x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.strerror(errno.EFBIG) in failed.value.message
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["f"]


def test_no_permission_is_named(tmp_path: Path) -> None:
    """As a user for whom the directory is closed."""
    path = tmp_path / "shut" / "f"
    path.parent.mkdir()
    path.parent.chmod(0o555)
    script = (
        "import os, sys; from pathlib import Path; from manactl.render import atomic_file\n"
        "from manactl.errors import Denied\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "try: atomic_file.write(Path(sys.argv[1]), 'x')\n"
        "except Denied as error: print(error.message, error.hint)"
    )
    # pytest's directories are closed for others; the test's own is reached by descriptor.
    number = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, f"/proc/self/fd/{number}/f"],
            env={"PYTHONPATH": SRC},
            pass_fds=[number],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        os.close(number)
    assert "Permission denied" in done.stdout
    assert "CAP_DAC_OVERRIDE" in done.stdout


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(UsageError, match="Not a directory"):
        atomic_file.write(tmp_path / "f/g", "x")


def test_a_users_own_link_is_followed_wherever_it_is() -> None:
    script = (
        "import os, sys; from pathlib import Path; from manactl.render import atomic_file\n"
        "os.chdir(sys.argv[1])\n"
        "os.symlink('real', 'link')\n"
        "atomic_file.write(Path('link'), 'new')\n"
        "print(Path('real').read_text(), os.path.islink('link'), os.stat('real').st_uid)"
    )
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chmod(directory, 0o777)
        uid = os.geteuid() or 65534
        done = subprocess.run(
            [sys.executable, "-c", f"import os; os.geteuid() or os.setuid({uid})\n{script}",
             directory],
            env={"PYTHONPATH": SRC}, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
    assert done.stdout == f"new True {uid}\n"
