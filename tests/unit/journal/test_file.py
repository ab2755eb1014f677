"""Journals: whole or refused, and a torn last line is no loss."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manactl.act.host import LiveHost
from manactl.act.progress import Silent
from manactl.act.release import release
from manactl.act.released import ReleaseRequest, ReleaseResult
from manactl.act.signals import SignalGate
from manactl.errors import NotRestored, Refused
from manactl.journal import file as journal
from manactl.journal import lock
from manactl.journal import state_dir as statedir
from manactl.journal.file import Journal, JournalError
from manactl.journal.interrupted import BEFORE_BOOT
from tests.unit.fakes import PORT, archived
from tests.unit.wording import Coded, says, wording

HEADER: dict[str, Any] = {
    "boot_id": "b",
    "time": "2026-11-22T12:00:00Z",
    "mode": "claim",
    "by": {"uid": 0, "sudo_user": "operator", "loginuid": 1000},
    "ports": [{"pci": PORT.pci, "port": 1, "permanent_mac": PORT.permanent_mac, "netdev": "eth1"}],
    "plan": {},
    "snapshot": [],
}


def written(state_dir: Path, *events: str, header: dict[str, Any] = HEADER) -> Path:
    with Journal.create(state_dir, header, [PORT]) as log:
        for event in events:
            more = {"ports": [{"pci": PORT.pci, "port": 1, "proven": True}]}
            log.append(event, **(more if event == "claimed" else {}))
        return log.path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    content = journal.read(written(tmp_path, "doing", "done", "claimed"))
    assert content.header["by"]["sudo_user"] == "operator"
    assert [r["event"] for r in content.records] == ["doing", "done", "claimed"]
    assert content.phase == "claimed"
    assert content.ports == (PORT,)


def test_what_the_last_attempt_has_left_is_what_is_left(tmp_path: Path) -> None:
    with Journal.create(tmp_path, HEADER, [PORT]) as log:
        assert journal.read(log.path).residue == ()
        for lines in (["route one", "route two"], ["route two"]):
            log.append("releasing")
            log.append("residue", lines=lines)
    assert journal.read(log.path).residue == ("route two",)


@pytest.mark.parametrize("size", [0, 5, 1 << 16, (1 << 16) + 1])
def test_the_checksum_is_half_of_a_sha256(size: int) -> None:
    """By whichever implementation: journals are read by other versions of Python."""
    data = b"line" * size
    assert journal._checksum(data) == hashlib.sha256(data).hexdigest()[:16]


def test_what_the_header_has_of_each_port(tmp_path: Path) -> None:
    first = HEADER["ports"][0]
    others = [
        {**first, "pci": "7870:00:00.1", "netdev": "eth3"},
        {**first, "port": 2, "netdev": "eth2"},
    ]
    path = written(tmp_path, header={**HEADER, "ports": [*others, first]})
    content = journal.read(path)
    assert [content.port_entry(port)["netdev"] for port in content.all_ports] == [
        "eth3", "eth2", "eth1",
    ]  # fmt: skip
    assert content.port_entry(PORT) == first


def test_summary_for_status(tmp_path: Path) -> None:
    written(tmp_path, "doing", "claimed")
    (one,) = journal.list_claims(tmp_path, boot_id="b").claims
    assert (one.port, one.phase, one.same_boot, one.next_step) == (PORT, "claimed", True, None)
    assert (one.claim.mode, one.claim.proven, one.claim.by["loginuid"]) == ("claim", True, 1000)
    (later,) = journal.list_claims(tmp_path, boot_id="another").claims
    assert not later.same_boot
    assert later.next_step == BEFORE_BOOT


@pytest.mark.parametrize(
    ("events", "phase"),
    [
        ((), "interrupted"),
        (("doing",), "interrupted"),
        (("doing", "done", "claimed"), "claimed"),
        (("doing", "unwinding"), "interrupted"),
        (("doing", "claimed", "releasing"), "interrupted"),
        (("doing", "claimed", "releasing", "closed"), "closed"),
    ],
)
def test_phases(tmp_path: Path, events: tuple[str, ...], phase: str) -> None:
    assert journal.read(written(tmp_path, *events)).phase == phase


def released_by_manactl(state_dir: Path, **more: Any) -> ReleaseResult:
    return release(ReleaseRequest(state_dir, **more), LiveHost(), SignalGate(), Silent())


def released(state_dir: Path, *more: str) -> Path:
    path = written(state_dir, "doing", "claimed", "releasing")
    with Journal.open(path) as log:
        log.append("released", pci=PORT.pci, port=PORT.port)
        for event in more:
            log.append(event)
    return path


@pytest.mark.parametrize("more", [(), ("closed",)])
def test_a_release_that_died_at_its_very_end_is_put_away(
    tmp_path: Path, more: tuple[str, ...]
) -> None:
    """Its port is back, so nothing is claimed; only the file has to go to the history."""
    path = released(tmp_path, *more)
    assert journal.list_claims(tmp_path).claims == []
    outcome = released_by_manactl(tmp_path)
    assert outcome.ports == []
    assert not path.exists()
    (kept,) = (tmp_path / "history").iterdir()
    assert [r["event"] for r in journal.read(kept).records][-2:] == ["released", "closed"]


def test_a_dry_run_puts_nothing_away(tmp_path: Path) -> None:
    path = released(tmp_path)
    released_by_manactl(tmp_path, dry_run=True)
    assert path.exists()


def test_a_living_release_puts_its_journal_away_itself(tmp_path: Path) -> None:
    path = released(tmp_path)
    with lock.functions(tmp_path, [PORT.pci]):
        released_by_manactl(tmp_path)
        assert path.exists()


def test_without_a_state_directory_nothing_is_claimed(tmp_path: Path) -> None:
    assert journal.list_claims(tmp_path / "none").claims == []
    assert not (tmp_path / "none").exists()


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_torn_tail_is_dropped_and_written_over(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = written(Path(directory), "doing", "done", "claimed")
        whole = path.read_bytes()
        header_end = whole.index(b"\n") + 1
        cut = data.draw(st.integers(header_end, len(whole)))
        path.write_bytes(whole[:cut])
        lines = whole[:cut].count(b"\n") - 1
        assert len(journal.read(path).records) == lines
        with Journal.open(path) as log:
            log.append("undone")
        again = journal.read(path)
        assert [r["event"] for r in again.records] == [
            *["doing", "done", "claimed"][:lines],
            "undone",
        ]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_other_damage_is_an_error(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = written(Path(directory), "doing", "done")
        whole = bytearray(path.read_bytes())
        # The last newline is left out: without it the line is torn, which is no damage.
        at = data.draw(st.integers(0, len(whole) - 2))
        flip = data.draw(st.integers(1, 255))
        whole[at] ^= flip
        path.write_bytes(whole)
        with pytest.raises(JournalError) as caught:
            journal.read(path)
        assert caught.value.exit_code == 5
        with pytest.raises(JournalError):
            Journal.open(path)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_missing_line_is_an_error(tmp_path: Path, gone: int) -> None:
    path = written(tmp_path, "doing", "done", "claimed")
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[gone]
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalError):
        journal.read(path)


def test_an_empty_file_and_a_torn_header_are_errors(tmp_path: Path) -> None:
    path = written(tmp_path)
    header = path.read_bytes()
    for data in (b"", header[:-1], b"\0" * 100, b"\n"):
        path.write_bytes(data)
        with pytest.raises(JournalError):
            journal.read(path)


def test_a_newer_journal_names_both_schemas(tmp_path: Path) -> None:
    line, _ = journal._line({"schema": "manactl.journal/2", **HEADER}, "")
    with pytest.raises(JournalError, match=r"journal/2.*journal/1"):
        journal.parse(line, tmp_path / "x")


def test_a_symlinked_linked_or_writable_journal_is_not_trusted(tmp_path: Path) -> None:
    path = written(tmp_path, "doing")
    link = path.with_name("2" + path.name)
    link.symlink_to(path)
    with pytest.raises(
        JournalError,
        match=says(r"is not trusted .Too many levels of symbolic"),
        check=Coded("journal"),
    ):
        journal.read(link)
    link.unlink()
    os.link(path, link)
    with pytest.raises(JournalError, match=says("hard link"), check=Coded("journal")):
        journal.read(path)
    link.unlink()
    path.chmod(0o666)
    with pytest.raises(JournalError, match="666"):
        journal.read(path)
    path.unlink()
    path.mkdir()  # nothing to read and restore by hand
    with pytest.raises(JournalError) as caught:
        journal.read(path)
    with wording:
        assert "JSON" not in (caught.value.hint or "")
        assert "move it out of the directory" in (caught.value.hint or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_journal_of_another_user_is_not_trusted(tmp_path: Path) -> None:
    path = written(tmp_path, "doing")
    os.chown(path, 65534, 65534)
    with pytest.raises(JournalError, match="65534"):
        journal.read(path)


def test_a_state_directory_that_others_may_write_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "state"
    bad.mkdir()
    bad.chmod(0o777)
    with pytest.raises(Refused, match="777"):
        Journal.create(bad, HEADER, [PORT])
    target = tmp_path / "target"
    target.mkdir()
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(Refused):
        Journal.create(link, HEADER, [PORT])
    assert list(target.iterdir()) == []


def test_the_state_directory_is_private(tmp_path: Path) -> None:
    path = written(tmp_path / "state", "doing")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_journal_that_is_put_away_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, "doing")
    monkeypatch.setattr(journal, "paths", lambda state_dir: [path.with_name("gone"), path])
    assert [one.path for one in journal.list_claims(tmp_path, "b").claims] == [path]


def test_a_journal_has_room_to_grow(tmp_path: Path) -> None:
    """A disk that fills up after the first act must not keep the rest from being written."""
    info = written(tmp_path).stat()
    assert info.st_blocks * 512 >= info.st_size + 65536


def test_a_journal_that_announced_nothing_is_discarded(tmp_path: Path) -> None:
    log = Journal.create(tmp_path, HEADER, [PORT])
    told = log.discard(OSError(28, "No space left on device"))
    assert isinstance(told, Refused)
    with wording:
        assert "make room there" in (told.hint or "")
    assert not log.path.exists()
    again = Journal.create(tmp_path, HEADER, [PORT])
    assert again.discard(None) is None
    assert journal.paths(tmp_path) == []


@pytest.mark.parametrize("part", ["claims", "history", "locks"])
def test_no_part_of_the_state_directory_may_be_writable_by_others(
    tmp_path: Path, part: str
) -> None:
    written(tmp_path)
    (tmp_path / part).chmod(0o770)
    with pytest.raises(Refused, match="770"):
        Journal.create(tmp_path, HEADER, [PORT])
    with pytest.raises(Refused, match="770"), lock.functions(tmp_path, [PORT.pci]):
        raise AssertionError("unreachable")


def test_the_history_stays_short(tmp_path: Path) -> None:
    for _ in range(105):
        with Journal.create(tmp_path, HEADER, [PORT]) as log:
            log.append("closed", how="released")
            log.archive()
    assert len(list((tmp_path / "history").iterdir())) == 100
    assert journal.paths(tmp_path) == []


def test_lines_are_json_for_people_with_jq(tmp_path: Path) -> None:
    path = written(tmp_path, "doing")
    for line in path.read_text().splitlines():
        assert isinstance(json.loads(line.split("\t")[0]), dict)


def test_a_journal_that_cannot_be_discarded_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    log = Journal.create(tmp_path, HEADER, [PORT])

    def fails(*_args: object, **_more: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "unlink", fails)
    left = log.discard(OSError(errno.ENOSPC, "No space left on device"))
    assert isinstance(left, NotRestored)
    with wording:
        assert "could not be removed: Input/output error" in left.message
    assert (left.code, "manactl recover" in (left.hint or "")) == ("journal", True)
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_journal_that_cannot_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Also when the directory cannot be synced after the rename: no claim has begun."""

    def fails(*_args: object, **_more: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    statedir.prepare(tmp_path)
    before = sorted(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(
            Refused,
            match=says(r"Input/output error; nothing was touched"),
            check=Coded("state-dir", untouched=True),
        ):
            Journal.create(tmp_path, HEADER, [PORT])
    assert os.listdir(tmp_path / "claims") == []
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_the_directory_is_synced_after_the_name_and_the_file_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
        synced.append((name, bool(journal.paths(tmp_path))))

    monkeypatch.setattr(os, "fsync", fsync)
    with Journal.create(tmp_path, HEADER, [PORT]) as log:
        assert synced == [(f".{log.path.name}.new", False), ("claims", True)]
        synced.clear()
        log.append("closed", how="released")
        log.archive()
    assert synced == [(log.path.name, True), ("history", False), ("claims", False)]


def test_a_torn_tail_that_is_cut_off_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, "doing")
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"{half")
    sizes: list[int] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        sizes.append(os.fstat(fd).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    Journal.open(path).close()
    assert sizes == [whole]
    Journal.open(path).close()
    assert sizes == [whole]  # nothing was cut off


def test_the_oldest_of_the_history_go_first(tmp_path: Path) -> None:
    names = []
    for _ in range(102):
        with Journal.create(tmp_path, HEADER, [PORT]) as log:
            log.append("closed", how="released")
            log.archive()
            names.append(archived(log.path).name)
    (tmp_path / "history/notes.txt").write_text("not ours")
    with Journal.create(tmp_path, HEADER, [PORT]) as log:
        log.append("closed", how="released")
        log.archive()
        names.append(archived(log.path).name)
    assert sorted(os.listdir(tmp_path / "history")) == sorted([*names[-100:], "notes.txt"])


def closed(state_dir: Path) -> Path:
    """A journal that is made and closed, in the history."""
    with Journal.create(state_dir, HEADER, [PORT]) as log:
        log.append("closed", how="released")
        log.archive()
    return archived(log.path)


@pytest.mark.parametrize("off", [timedelta(days=-1), timedelta(days=1)])
def test_a_clock_that_is_set_changes_no_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: timedelta
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + off

    paths = [closed(tmp_path) for _ in range(100)]
    with monkeypatch.context() as patch:
        patch.setattr(journal, "datetime", Clock)
        paths.append(closed(tmp_path))
        assert journal.paths(tmp_path, "history") == paths[-100:]
    paths.append(closed(tmp_path))
    assert journal.paths(tmp_path, "history") == paths[-100:]


def test_those_that_were_put_away_without_a_number_are_the_oldest(tmp_path: Path) -> None:
    old = [closed(tmp_path) for _ in range(3)]
    for at, path in enumerate(old):
        old[at] = path.rename(path.with_name(path.name.partition("-")[2]))
    new = [closed(tmp_path) for _ in range(98)]
    assert journal.paths(tmp_path, "history") == [*old[1:], *new]


def test_records_are_numbered_dated_and_carry_what_was_given(tmp_path: Path) -> None:
    with Journal.create(tmp_path, HEADER, [PORT]) as log:
        log.append("doing", step=0, kind="set-admin")
        log.append("done", step=0, kind="set-admin", ms=7)
        assert log.content == journal.read(log.path)
    first, second = journal.read(log.path).records
    times = [datetime.fromisoformat(record["t"]) for record in (first, second)]
    assert times == sorted(times)
    assert [{k: v for k, v in record.items() if k != "t"} for record in (first, second)] == [
        {"n": 1, "event": "doing", "step": 0, "kind": "set-admin"},
        {"n": 2, "event": "done", "step": 0, "kind": "set-admin", "ms": 7},
    ]


def two_ports(state_dir: Path) -> Journal:
    ports = [{**HEADER["ports"][0], "port": number} for number in (1, 2)]
    return Journal.create(state_dir, {**HEADER, "ports": ports}, [PORT, PORT._replace(port=2)])


def test_each_port_of_a_claim_has_its_own_phase_and_proof(tmp_path: Path) -> None:
    one, two = PORT, PORT._replace(port=2)
    with two_ports(tmp_path) as log:
        proofs = [{"pci": PORT.pci, "port": n, "proven": n == 2} for n in (1, 2)]
        log.append("claimed", ports=proofs)
        assert log.content.proven == {(PORT.pci, 1): False, (PORT.pci, 2): True}
        log.append("releasing", ports=[{"pci": PORT.pci, "port": 1}])
        assert [log.content.phase_of(port) for port in (one, two)] == ["interrupted", "claimed"]
        assert log.content.phase == "interrupted"
        log.append("released", pci=PORT.pci, port=1)
        assert (log.content.ports, log.content.phase) == ((two,), "claimed")
    assert [(c.port, c.claim.proven) for c in journal.list_claims(tmp_path, "b").claims] == [
        (two, True)
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("2026-11-22T12:00:00.123456+02:00", "2026-11-22T10:00:00.123Z")],
)
def test_times_are_utc_to_the_millisecond(text: str, shown: str) -> None:
    assert journal.stamp(datetime.fromisoformat(text)) == shown


def test_a_record_out_of_order_is_an_error(tmp_path: Path) -> None:
    header, before = journal._line({"schema": journal.SCHEMA, **HEADER}, "")
    for record in ({"n": 2, "event": "doing"}, {"n": 1, "event": 7}, {"n": 1}, {"event": "x"}):
        line, _ = journal._line(record, before)
        with pytest.raises(JournalError):
            journal.parse(header + line, tmp_path / "x")
    line, _ = journal._line({"n": 1, "event": "doing"}, before)
    assert journal.parse(header + line, tmp_path / "x").size == len(header + line)


@pytest.mark.parametrize("named", [True, False])
def test_a_journal_that_stays_is_told_where_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """Under the other one it is no journal, and is swept away later."""

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fails)
        if named:
            patch.setattr(statedir, "sync", fails)
        else:
            patch.setattr(Path, "rename", fails)
        with pytest.raises(NotRestored if named else Refused):
            Journal.create(tmp_path, HEADER, [PORT])
    assert len(journal.paths(tmp_path)) == named
