"""Journals from before the last boot are put away, readable or not."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from manactl.act.stale import close_stale
from manactl.errors import NotRestored
from manactl.journal import file as journal
from manactl.journal.file import Journal
from tests.unit.fakes import archived
from tests.unit.host import FakeHost, claim, furnished
from tests.unit.wording import says, wording


def claimed(state_dir: Path) -> Path:
    path = claim(state_dir, FakeHost(furnished())).journal
    assert path is not None
    return path


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"claimed"', b'"clamied"'))


def test_one_that_can_be_read_says_that_the_boot_has_ended_it(tmp_path: Path) -> None:
    path = claimed(tmp_path)
    close_stale(path, "boot-2")
    last = journal.read(archived(path)).records[-1]
    assert (last["event"], last["how"]) == ("closed", "reboot")
    assert journal.paths(tmp_path) == []


def test_one_that_cannot_be_read_is_put_away_as_it_is(tmp_path: Path) -> None:
    path = claimed(tmp_path)
    damage(path)
    before = path.read_bytes()
    close_stale(path, "boot-2")
    assert archived(path).read_bytes() == before
    assert journal.paths(tmp_path) == []


def test_one_of_this_boot_that_cannot_be_read_stays(tmp_path: Path) -> None:
    path = claimed(tmp_path)
    damage(path)
    with pytest.raises(journal.JournalError):
        close_stale(path, "boot-1")
    assert journal.paths(tmp_path) == [path]


@pytest.mark.parametrize("readable", [True, False])
def test_one_that_cannot_be_put_away_is_reported(tmp_path: Path, readable: bool) -> None:
    path = claimed(tmp_path)
    if not readable:
        damage(path)
    (tmp_path / "history").rmdir()
    (tmp_path / "history").write_text("no directory")
    with pytest.raises(NotRestored) as caught:
        close_stale(path, "boot-2")
    assert caught.value.code == "journal"
    with wording:
        said = f"the journal {path} could not be closed: File exists; no port was touched"
        assert caught.value.message == said
    assert "manactl recover" in (caught.value.hint or "")
    assert path.exists()


def test_one_that_cannot_be_opened_is_reported_in_the_kernels_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = claimed(tmp_path)

    def fails(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Journal, "open", fails)
    with pytest.raises(
        NotRestored, match=says("could not be closed: Read-only file system; no port")
    ):
        close_stale(path, "boot-2")


def test_one_that_another_has_closed_needs_nothing(tmp_path: Path) -> None:
    path = claimed(tmp_path)
    path.unlink()
    close_stale(path, "boot-2")
