"""One manactl per function; the other is told who."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from manactl.errors import Busy
from manactl.journal import lock


def test_the_loser_is_told_who_holds_it(tmp_path: Path) -> None:
    with (
        lock.functions(tmp_path, ["7870:00:00.0"]),
        pytest.raises(Busy, match=f"pid {os.getpid()} ") as caught,
        lock.functions(tmp_path, ["7870:00:00.0"]),
    ):
        raise AssertionError("held twice")
    assert caught.value.exit_code == 6
    assert "7870:00:00.0" in caught.value.message


def test_functions_do_not_disturb_each_other(tmp_path: Path) -> None:
    with lock.functions(tmp_path, ["7870:00:00.0"]), lock.functions(tmp_path, ["7871:00:00.0"]):
        pass


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with lock.functions(tmp_path, ["a"]):
                os.write(write, b"x")
                os.kill(os.getpid(), 9)
        finally:
            os._exit(1)
    os.read(read, 1)
    os.waitpid(pid, 0)
    with lock.functions(tmp_path, ["a"]):
        pass
    os.close(read)
    os.close(write)
