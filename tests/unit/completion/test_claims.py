"""What a TAB learns of the journals is what journal.py reads from them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from manactl.completion.claims import Claims, claims
from manactl.journal import file as journal
from manactl.journal.file import Journal
from tests.unit.fakes import PORT
from tests.unit.journal.test_file import HEADER, released, written

KEY = (PORT.pci, PORT.port)


@pytest.fixture
def proc(tmp_path: Path) -> str:
    place = tmp_path / "proc/sys/kernel/random/boot_id"
    place.parent.mkdir(parents=True)
    place.write_text(HEADER["boot_id"] + "\n")
    return str(tmp_path / "proc")


@pytest.mark.parametrize(
    "events",
    [
        (),
        ("doing",),
        ("doing", "done", "claimed"),
        ("doing", "unwinding"),
        ("doing", "claimed", "releasing"),
        ("doing", "claimed", "releasing", "closed"),
    ],
)
def test_it_agrees_with_the_journal(tmp_path: Path, proc: str, events: tuple[str, ...]) -> None:
    written(tmp_path / "state", *events)
    told = {(c.port.pci, c.port.port) for c in journal.list_claims(tmp_path / "state", "b").claims}
    assert claims(str(tmp_path / "state"), proc) == Claims(now=frozenset(told))


@pytest.mark.parametrize("confirmed", [False, True])
def test_it_knows_which_wait_to_be_confirmed(tmp_path: Path, proc: str, confirmed: bool) -> None:
    path = written(tmp_path / "state", "claimed")
    with Journal.open(path) as log:
        log.append("armed", guardian=1, deadline=5.0, confirm_by=HEADER["time"])
        if confirmed:
            log.append("confirmed", by={})
        (claim,) = journal.list_claims(tmp_path / "state", HEADER["boot_id"]).claims
    assert (claim.claim.confirm_by is None) is confirmed
    found = claims(str(tmp_path / "state"), proc)
    waiting = frozenset() if confirmed else frozenset({KEY})
    assert found == Claims(now=frozenset({KEY}), unconfirmed=waiting)
    Path(proc, "sys/kernel/random/boot_id").write_text("another\n")
    assert claims(str(tmp_path / "state"), proc) == Claims(history=frozenset({KEY}))


def test_a_released_port_has_left(tmp_path: Path, proc: str) -> None:
    released(tmp_path / "state")
    assert claims(str(tmp_path / "state"), proc) == Claims()


def test_a_port_whose_residue_was_accepted_has_left(tmp_path: Path, proc: str) -> None:
    path = written(tmp_path / "state", "doing", "claimed", "releasing")
    with Journal.open(path) as log:
        log.append("accepted", pci=PORT.pci, port=PORT.port, residue=["a route"])
    assert claims(str(tmp_path / "state"), proc) == Claims()
    assert journal.list_claims(tmp_path / "state", HEADER["boot_id"]).claims == []


def test_a_claim_from_before_the_last_boot_is_history(tmp_path: Path, proc: str) -> None:
    written(tmp_path / "state", "doing", "claimed")
    Path(proc, "sys/kernel/random/boot_id").write_text("another\n")
    assert claims(str(tmp_path / "state"), proc) == Claims(history=frozenset([KEY]))


def test_no_directory_is_no_claim(tmp_path: Path, proc: str) -> None:
    assert claims(str(tmp_path / "none"), proc) == Claims()


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"[]\tx\n", b"{}\tx\n", b"\xff\tx\n", b"{" * 99999]
)
def test_what_is_no_journal_is_skipped(tmp_path: Path, proc: str, content: bytes) -> None:
    written(tmp_path / "state", "doing", "claimed")
    (tmp_path / "state/claims/broken.journal").write_bytes(content)
    assert claims(str(tmp_path / "state"), proc) == Claims(now=frozenset([KEY]))


def test_a_torn_last_line_is_no_loss(tmp_path: Path, proc: str) -> None:
    path = written(tmp_path / "state", "doing", "claimed")
    with path.open("ab") as file:
        file.write(b'{"event":"closed","n":')
    assert claims(str(tmp_path / "state"), proc) == Claims(now=frozenset([KEY]))


def test_what_may_not_be_read_is_not_known(tmp_path: Path, proc: str) -> None:
    written(tmp_path / "state", "doing", "claimed")
    read, write = os.pipe()
    if (child := os.fork()) == 0:  # root reads everything
        try:
            if os.geteuid() == 0:
                os.chown(tmp_path / "state", 0, 0)
                os.setresuid(65534, 65534, 65534)
            else:
                (tmp_path / "state").chmod(0)
            os.write(write, b"unknown" if claims(str(tmp_path / "state"), proc) is None else b"?")
        finally:
            os._exit(0)
    os.close(write)
    try:
        assert os.read(read, 100) == b"unknown"
    finally:
        os.close(read)
        os.waitpid(child, 0)
        (tmp_path / "state").chmod(0o700)


def test_a_pipe_or_a_link_is_no_journal(tmp_path: Path, proc: str) -> None:
    path = written(tmp_path / "state", "doing", "claimed")
    os.mkfifo(tmp_path / "state/claims/pipe.journal")
    other = tmp_path / "elsewhere"
    other.write_bytes(path.read_bytes().replace(b'"port":1', b'"port":2'))
    (tmp_path / "state/claims/link.journal").symlink_to(other)
    assert claims(str(tmp_path / "state"), proc) == Claims(now=frozenset([KEY]))


def test_what_cannot_be_listed_is_not_known(
    tmp_path: Path, proc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "state", "doing", "claimed")

    def fails(_path: str) -> list[str]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "listdir", fails)
    assert claims(str(tmp_path / "state"), proc) is None


@pytest.mark.parametrize("mode", ["down", "keep", "uio"])
def test_it_knows_the_synthetic_netdev_that_a_claim_destroys(
    tmp_path: Path, proc: str, mode: str
) -> None:
    (port,) = HEADER["ports"]
    header = {
        **HEADER,
        "ports": [{**port, "upper": "lan0", "vmbus": "000d3aaa", "synthetic": mode}],
    }
    path = written(tmp_path / "state", "claimed", header=header)
    found = claims(str(tmp_path / "state"), proc)
    assert found is not None
    assert found.destroyed == (frozenset({(KEY, "lan0")}) if mode == "uio" else frozenset())
    Path(proc, "sys/kernel/random/boot_id").write_text("another\n")
    assert claims(str(tmp_path / "state"), proc) == Claims(history=frozenset({KEY}))
    path.rename(path.with_name("old.journal"))
    written(tmp_path / "state", "claimed", header={**HEADER, "boot_id": "another"})
    found = claims(str(tmp_path / "state"), proc)
    assert found == Claims(now=frozenset({KEY})), "claimed again, without its synthetic netdev"
