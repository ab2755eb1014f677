"""A journal that cannot be read stands in the way of its own function alone."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manactl.journal import file as journal
from manactl.journal.file import Journal, JournalError
from tests.unit.fakes import PORT, archived
from tests.unit.journal.test_file import HEADER, written
from tests.unit.wording import Coded, says, wording

OTHER = PORT._replace(pci="7871:00:00.0", permanent_mac="00:0d:3a:aa:00:11")


def header(*ports: Any, **more: object) -> dict[str, Any]:
    listed = [
        {"pci": port.pci, "port": port.port, "permanent_mac": port.permanent_mac, "netdev": "eth1"}
        for port in ports
    ]
    return {**HEADER, "ports": listed, **more}


def made(state_dir: Path, *ports: Any, **more: object) -> Path:
    with Journal.create(state_dir, header(*ports, **more), ports) as log:
        log.append("doing", step=0)
        return log.path


def damage_end(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"doing"', b'"doubt"'))


def damage_all(path: Path) -> None:
    path.write_bytes(b"\0" * 512)


def test_the_others_are_listed_beside_it(tmp_path: Path) -> None:
    bad, good = made(tmp_path, PORT), made(tmp_path, OTHER)
    damage_end(bad)
    claims, (unreadable,) = journal.list_claims(tmp_path, "b")
    assert [(claim.path, claim.port) for claim in claims] == [(good, OTHER)]
    assert (unreadable.path, unreadable.ports) == (bad, (PORT,))
    with wording:
        assert "checksum" in unreadable.error.message
    assert [unreadable.concerns(port.pci) for port in (PORT, OTHER)] == [True, False]


def test_a_whole_header_says_whom_it_concerns(tmp_path: Path) -> None:
    """Whatever its file is called, also when a newer manactl wrote it."""
    path = made(tmp_path, PORT, OTHER)
    line, _ = journal._line({"schema": "manactl.journal/2", **header(PORT, OTHER)}, "")
    path.unlink()
    path.with_name("a-ffff:00:00.0-1.journal").write_bytes(line)
    claims, (unreadable,) = journal.list_claims(tmp_path, "b")
    assert (claims, unreadable.pci) == ([], {PORT.pci, OTHER.pci})
    assert "journal/2" in unreadable.error.message


def test_without_a_header_its_name_does(tmp_path: Path) -> None:
    path = made(tmp_path, PORT, OTHER)
    damage_all(path)
    (unreadable,) = journal.list_claims(tmp_path, "b").unreadable
    assert (unreadable.pci, unreadable.ports) == ({PORT.pci, OTHER.pci}, ())


def test_the_header_of_something_else_is_none(tmp_path: Path) -> None:
    path = made(tmp_path, PORT)
    line, _ = journal._line({"schema": "other.journal/1", **header(OTHER)}, "")
    path.write_bytes(line)
    (unreadable,) = journal.list_claims(tmp_path, "another").unreadable
    assert unreadable.pci == {PORT.pci}


def a_directory(path: Path) -> None:
    path.mkdir()


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


@pytest.mark.parametrize(
    "make",
    [Path.touch, os.mkfifo, a_directory, a_socket, lambda path: path.symlink_to("/etc/passwd")],
)
def test_a_stray_file_concerns_nobody_and_is_listed(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    good = made(tmp_path, PORT)
    stray = tmp_path / "claims/notes.journal"
    make(stray)
    claims, (unreadable,) = journal.list_claims(tmp_path, "b")
    assert [claim.path for claim in claims] == [good]
    assert (unreadable.path, unreadable.pci) == (stray, None)
    assert not unreadable.concerns(PORT.pci)
    ours = stray.is_file() and not stray.is_symlink()  # an empty file of ours has no header
    with wording:
        assert ("is corrupt" if ours else "is not trusted") in unreadable.error.message


def test_one_from_before_the_boot_is_a_claim_to_close(tmp_path: Path) -> None:
    path = made(tmp_path, PORT)
    damage_end(path)
    (claim,), unreadable = journal.list_claims(tmp_path, "another")
    assert (claim.port, claim.same_boot, claim.to_recover) == (PORT, False, True)
    assert unreadable == []
    assert journal.salvaged(path, "another") is not None
    assert journal.salvaged(path, "b") is None
    journal.archive(path)
    assert journal.list_claims(tmp_path, "another") == ([], [])
    assert list((tmp_path / "history").iterdir()) == [archived(path)]


def test_one_that_is_in_order_is_not_salvaged(tmp_path: Path) -> None:
    assert journal.salvaged(made(tmp_path, PORT), "another") is None


@pytest.mark.parametrize("missing", ["boot_id", "ports", "time", "by", "schema"])
def test_a_header_without_what_is_needed_is_none(tmp_path: Path, missing: str) -> None:
    path = made(tmp_path, PORT)
    content = {"schema": journal.SCHEMA, **header(PORT)}
    del content[missing]
    line, _ = journal._line(content, "")
    path.write_bytes(line)
    (unreadable,) = journal.list_claims(tmp_path, "another").unreadable
    assert (unreadable.pci, unreadable.ports) == ({PORT.pci}, ())


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM])
@pytest.mark.parametrize("call", ["open", "read", "fstat"])
def test_a_lack_of_descriptors_is_not_taken_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    path = made(tmp_path, PORT)
    before = sorted(os.listdir("/proc/self/fd"))

    def fails(*_args: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        for attempt in (journal.read, Journal.open):
            with pytest.raises(
                JournalError, match=says("could not be read"), check=Coded("journal")
            ) as caught:
                attempt(path)
            assert os.strerror(number) in caught.value.message
            assert caught.value.exit_code == 5
            assert "by hand" not in (caught.value.hint or "")
        (unreadable,) = journal.list_claims(tmp_path, "b").unreadable
        assert unreadable.pci == {PORT.pci}
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert journal.list_claims(tmp_path, "b").unreadable == []


def test_a_directory_that_cannot_be_listed_is_not_taken_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, PORT)

    def fails(*_args: object) -> list[str]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "listdir", fails)
    with pytest.raises(
        JournalError, match=says("could not be read: Too many open files"), check=Coded("journal")
    ):
        journal.list_claims(tmp_path, "b")


def test_no_descriptor_is_lost_on_a_journal_that_is_not_believed(tmp_path: Path) -> None:
    path = written(tmp_path, "doing")
    damage_end(path)
    before = sorted(os.listdir("/proc/self/fd"))
    for attempt in (journal.read, Journal.open):
        with pytest.raises(JournalError):
            attempt(path)
    path.chmod(0o666)
    with pytest.raises(JournalError):
        journal.read(path)
    assert sorted(os.listdir("/proc/self/fd")) == before
