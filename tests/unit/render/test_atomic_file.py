"""Readers of the output file see all of it, old or new."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from manactl.errors import RolledBack, UsageError
from manactl.render import atomic_file

SRC = str(Path(__file__).parents[3] / "src")


def test_the_file_is_replaced_whole_and_readable_for_others(tmp_path: Path) -> None:
    path = tmp_path / "manactl.prom"
    path.write_text("old and longer\n")
    path.chmod(0o600)
    with path.open() as reader:
        atomic_file.write(path, "new\n")
        assert reader.read() == "old and longer\n"  # who had it open has the old file, whole
    assert path.read_text() == "new\n"
    assert path.stat().st_mode & 0o7777 == 0o644
    assert os.listdir(tmp_path) == ["manactl.prom"]


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
    with pytest.raises(UsageError, match="not a regular file"):
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
