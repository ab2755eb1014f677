"""One manactl per function; the other learns who."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from manactl.errors import Busy, Refused
from manactl.journal import lock, state_dir
from tests.unit.wording import Coded, says, wording

PCI, OTHER = "7870:00:00.0", "7871:00:00.0"


def test_the_loser_is_told_who_holds_it(tmp_path: Path) -> None:
    with (
        lock.functions(tmp_path, [PCI]),
        pytest.raises(Busy) as caught,
        lock.functions(tmp_path, [PCI]),
    ):
        raise AssertionError("held twice")
    assert (caught.value.exit_code, caught.value.code) == (6, "locked")
    comm = Path("/proc/self/comm").read_text().strip()
    with wording:
        assert f"at work on {PCI}: pid {os.getpid()} ({comm}), since 20" in caught.value.message
    (evidence,) = caught.value.evidence
    assert isinstance(evidence.value, dict)
    assert (evidence.source, evidence.fact) == ("lock", PCI)
    assert (evidence.value["pid"], evidence.value["comm"]) == (os.getpid(), comm)
    assert str(evidence.value["since"]).endswith("Z")


def test_functions_do_not_disturb_each_other(tmp_path: Path) -> None:
    with lock.functions(tmp_path, [PCI]):
        with lock.functions(tmp_path, [OTHER]):
            pass
        # One lock that cannot be had gives the other back.
        with pytest.raises(Busy, match=PCI), lock.functions(tmp_path, ["0000:00:00.0", PCI]):
            raise AssertionError("held twice")
        with lock.functions(tmp_path, ["0000:00:00.0"]):
            pass


def test_a_lock_is_let_go_with_its_block(tmp_path: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with contextlib.suppress(ZeroDivisionError), lock.functions(tmp_path, [PCI, OTHER, PCI]):
        assert 1 / 0
    assert sorted(os.listdir("/proc/self/fd")) == before
    with lock.functions(tmp_path, [OTHER, PCI]):
        pass


def test_all_take_them_in_one_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    real = fcntl.flock

    def flock(fd: int, how: int) -> None:
        taken.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock.functions(tmp_path, [OTHER, PCI]):
        pass
    assert taken == [f"{PCI}.lock", f"{OTHER}.lock", f"{PCI}.hold", f"{OTHER}.hold"]


@contextlib.contextmanager
def held_by_child(
    tmp_path: Path, rename: str = "another"
) -> Iterator[tuple[int, Callable[[], None]]]:
    """A child with the lock: its pid, and what kills it."""
    said, say = os.pipe()
    waits, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(go)
            Path("/proc/self/comm").write_text(rename)
            with lock.functions(tmp_path, [PCI]):
                os.write(say, b"x")
                os.read(waits, 1)  # until it is killed, or the test has ended
        finally:
            os._exit(1)
    os.close(say)
    os.close(waits)
    alive = [pid]

    def kill() -> None:
        os.kill(alive.pop(), 9)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9

    try:
        assert select.select([said], [], [], 60)[0]
        assert os.read(said, 1) == b"x", "the child died before it had the lock"
        yield pid, kill
    finally:
        if alive:
            kill()
        os.close(said)
        os.close(go)


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    with held_by_child(tmp_path) as (pid, kill):
        with (
            pytest.raises(Busy, match=rf"pid {pid} \(another\)"),
            lock.functions(tmp_path, [PCI]),
        ):
            raise AssertionError("held twice")
        kill()
        with lock.functions(tmp_path, [PCI]):
            pass


def test_a_moment_is_not_had_while_somebody_is_at_work(tmp_path: Path) -> None:
    with lock.functions(tmp_path, [PCI]):
        with lock.moment(tmp_path, PCI) as free:
            assert not free
        with lock.moment(tmp_path, OTHER) as free:
            assert free
    with lock.moment(tmp_path, PCI) as free:
        assert free
        with lock.moment(tmp_path, PCI) as again:
            assert not again


def test_who_only_looks_leaves_moments_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lock.looking(tmp_path, [PCI]) as acting:
        with pytest.raises(Busy), lock.functions(tmp_path, [PCI]):
            raise AssertionError("two look")
        with lock.moment(tmp_path, PCI) as free:
            assert free
        with acting() as waited, lock.moment(tmp_path, PCI) as free:
            assert (waited, free) == (False, False)
        with lock.moment(tmp_path, PCI) as free:
            assert free
        moment = contextlib.ExitStack()
        assert moment.enter_context(lock.moment(tmp_path, PCI))
        Clock(monkeypatch).at[3] = moment.close
        with acting() as waited:
            assert waited


def test_who_wants_to_work_waits_for_a_moment_to_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    with lock.functions(tmp_path, [OTHER]):
        pass
    moment = contextlib.ExitStack()
    assert moment.enter_context(lock.moment(tmp_path, PCI))
    clock.at[3] = moment.close
    with lock.functions(tmp_path, [PCI]):  # without --wait
        assert len(clock.slept) == 3
    with (
        lock.moment(tmp_path, PCI),
        pytest.raises(
            Busy, match=says(f"at work on {PCI}: pid {os.getpid()} "), check=Coded("locked")
        ),
        lock.functions(tmp_path, [PCI]),
    ):
        raise AssertionError("it does not pass")
    assert sum(clock.slept) < 60


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.at: dict[int, Callable[[], None]] = {}
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        self.at.pop(len(self.slept), lambda: None)()


def test_a_lock_is_waited_for_as_long_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held_by_child(tmp_path):
        clock = Clock(monkeypatch)
        with pytest.raises(Busy), lock.functions(tmp_path, [PCI], wait=10.0):
            raise AssertionError("held twice")
        assert clock.now == pytest.approx(1010.0)
        assert min(clock.slept[:-1]) >= 0.01
        assert max(clock.slept) <= 0.25
        with pytest.raises(Busy), lock.functions(tmp_path, [PCI]):
            raise AssertionError("held twice")
        assert clock.now == pytest.approx(1010.0)  # nobody asked to wait


def test_a_lock_that_is_let_go_meanwhile_is_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held_by_child(tmp_path) as (_, kill):
        clock = Clock(monkeypatch)
        clock.at[3] = kill
        with lock.functions(tmp_path, [PCI], wait=86400.0):
            assert len(clock.slept) == 3


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"pid": "x"}', b"\xff", b'{"pid": 1}'])
def test_a_holder_that_has_not_said_who_it_is(tmp_path: Path, text: bytes) -> None:
    with lock.functions(tmp_path, [PCI]):
        (tmp_path / f"locks/{PCI}.lock").write_bytes(text)
        with pytest.raises(Busy, match=says("an unknown process"), check=Coded("locked")) as caught:
            lock.functions(tmp_path, [PCI]).__enter__()
    (evidence,) = caught.value.evidence
    with wording:
        assert evidence.value == {"pid": None, "comm": None, "since": "just now"}


def test_a_holder_whose_number_is_nobodys_is_gone(tmp_path: Path) -> None:
    with lock.functions(tmp_path, [PCI]):
        text = json.dumps({"pid": 2**22 + 1, "since": "2026-11-22T12:00:00Z"})
        (tmp_path / f"locks/{PCI}.lock").write_text(text)
        with pytest.raises(Busy, match=r"\(gone\), since 2026-11-22T12:00:00Z"):
            lock.functions(tmp_path, [PCI]).__enter__()


def test_the_name_of_the_last_holder_is_written_over(tmp_path: Path) -> None:
    with lock.functions(tmp_path, [PCI]):
        pass
    path = tmp_path / f"locks/{PCI}.lock"
    path.write_text("x" * 4096)
    with lock.functions(tmp_path, [PCI]):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_lock_holds_without_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk."""

    def fails(*_args: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", fails)
    with (
        lock.functions(tmp_path, [PCI]),
        pytest.raises(Busy, match=says("an unknown process"), check=Coded("locked")),
        lock.functions(tmp_path, [PCI]),
    ):
        raise AssertionError("held twice")


def test_a_planted_link_is_no_lock(tmp_path: Path) -> None:
    with lock.functions(tmp_path, [OTHER]):
        pass
    (tmp_path / "victim").write_text("precious")
    (tmp_path / f"locks/{PCI}.lock").symlink_to(tmp_path / "victim")
    with (
        pytest.raises(
            Refused, match=says("nothing was touched"), check=Coded("state-dir", untouched=True)
        ),
        lock.functions(tmp_path, [PCI]),
    ):
        raise AssertionError("unreachable")
    assert (tmp_path / "victim").read_text() == "precious"


def on_a_disk_that_is_read_only(path: object, flags: int, *words: int) -> int:
    if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    return OPENS(path, flags, *words)  # type: ignore[arg-type]


OPENS = os.open


def test_a_moment_needs_no_disk_that_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lock.functions(tmp_path, [PCI]):
        pass  # it has made the file
    monkeypatch.setattr(os, "open", on_a_disk_that_is_read_only)
    with lock.moment(tmp_path, PCI) as free:
        assert free
        with lock.moment(tmp_path, PCI) as again:
            assert not again
    with pytest.raises(Refused, match="Read-only"), lock.functions(tmp_path, [PCI]):
        raise AssertionError("a claim writes")


def test_a_lock_that_the_disk_cannot_give_is_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    state_dir.prepare(tmp_path)
    monkeypatch.setattr(fcntl, "flock", fails)
    with pytest.raises(Refused, match="No locks available"), lock.moment(tmp_path, PCI):
        raise AssertionError("not taken")
