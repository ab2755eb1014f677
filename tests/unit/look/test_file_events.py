"""A descriptor that tells what happens to a file, on real files."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from pathlib import Path

import pytest

from manactl.look.file_events import FileEvents


def told(events: FileEvents) -> bool:
    return bool(select.select([events.fd], [], [], 0)[0])


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("more\n")


@pytest.mark.parametrize(
    "act",
    [append, Path.unlink, lambda path: path.rename(path.with_name("elsewhere"))],
    ids=["written", "removed", "moved"],
)
def test_what_happens_to_the_file_is_told_once(
    act: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text("first\n")
    with path.open() as kept, FileEvents(path) as events:  # a journal is open while it is removed
        assert not told(events)
        act(path)
        assert told(events)
        events.drain()
        assert not told(events)
        assert kept.read(1)


def test_what_happens_beside_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with FileEvents(path) as events:
        append(tmp_path / "other")
        assert not told(events)


def test_a_file_that_is_not_there_is_an_error_that_leaves_nothing_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="No such file") as caught:
        FileEvents(tmp_path / "none")
    assert caught.value.errno == errno.ENOENT
    assert os.listdir("/proc/self/fd") == before


def put_away(path: Path) -> None:
    """As a journal is, into the history."""
    (path / "there").rename(path.parent / "away")


def begun(path: Path) -> None:
    """As a journal is, whole at once."""
    (path.parent / "new").touch()
    (path.parent / "new").rename(path / "new")


@pytest.mark.parametrize(
    "act",
    [
        put_away,
        begun,
        lambda path: append(path / "there"),
        lambda path: (path / "there").unlink(),
        lambda path: (path / "more").touch(),
        lambda path: path.rename(path.with_name("elsewhere")),
    ],
    ids=["moved-away", "moved-here", "written", "removed", "made", "itself"],
)
def test_what_happens_in_a_directory_is_told(act: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "claims"
    path.mkdir()
    (path / "there").touch()
    with FileEvents(path) as events:
        assert not told(events)
        act(path)
        assert told(events)
        events.drain()
        assert not told(events)


def test_it_knows_when_another_one_is_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "state" / "claims"
    path.mkdir(parents=True)
    with FileEvents(path) as events:
        append(path / "there")
        assert events.in_place
        path.rename(path.with_name("elsewhere"))
        assert not events.in_place
        path.mkdir()
        assert not events.in_place
        path.rmdir()
        path.with_name("elsewhere").rename(path)
        assert events.in_place
        path.parent.rename(tmp_path / "moved")
        assert not events.in_place
        (tmp_path / "state").touch()
        assert not events.in_place
