"""Journals whose checksums are right and whose contents make no sense."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from manactl.act.release import ReleaseResult
from manactl.completion.claims import claims as completed
from manactl.errors import ManactlError
from manactl.journal import file as journal
from manactl.journal import history, shape
from manactl.journal.file import JournalError
from tests.unit.act.test_release import two_functions
from tests.unit.fakes import PORT
from tests.unit.host import FakeHost, claim, release
from tests.unit.journal.test_file import HEADER, written
from tests.unit.kernel import Kernel
from tests.unit.wording import Coded, says, wording


def rewritten(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the records of a journal, the header being the first, and make its checksums right."""
    lines = path.read_bytes().split(b"\n")[:-1]
    records = [json.loads(line.rpartition(b"\t")[0]) for line in lines]
    change(records)
    data, before = b"", ""
    for record in records:
        line, before = journal._line(record, before)
        data += line
    path.write_bytes(data)


@pytest.mark.parametrize(
    "more",
    [
        {"boot_id": 7}, {"time": "yesterday"}, {"time": "2026-11-22T12:00:00"},  # no zone
        {"time": "0001-01-01T00:00:00Z"}, {"by": []}, {"by": {"uid": [1]}}, {"mode": None},
        {"ports": []}, {"ports": {}}, {"ports": [7]}, {"plan": []}, {"plan": {"steps": [7]}},
        {"plan": {"steps": [{"kind": "set-admin"}]}}, {"snapshot": {}}, {"snapshot": [7]},
        {"netns": 7}, {"netns": {"inode": "x", "cookie": None}}, {"waived": "xdp"},
        *({"ports": [{**HEADER["ports"][0], **odd}]} for odd in (
            {"pci": "../../etc"}, {"pci": 7}, {"port": 0}, {"port": -1}, {"port": True},
            {"port": 10**30}, {"port": "1"}, {"permanent_mac": 7}, {"permanent_mac": "x"},
            {"netdev": {}}, {"altnames": "eth9"}, {"altnames": [7]}, {"ifindex": -3},
            {"upper_altnames": 7}, {"upper_ifindex": "40"}, {"upper_up": 1},
        )),
        {"ports": [HEADER["ports"][0]] * 2},
    ],
)  # fmt: skip
def test_a_header_that_makes_no_sense_is_not_believed(tmp_path: Path, more: dict[str, Any]) -> None:
    path = written(tmp_path, "doing", "claimed")
    rewritten(path, lambda records: records[0].update(more))
    with pytest.raises(
        JournalError, match=says("nothing was changed"), check=Coded("journal")
    ) as caught:
        journal.read(path)
    assert str(path) in caught.value.message
    claims, (unreadable,) = journal.list_claims(tmp_path, "b")
    assert (claims, unreadable.path, unreadable.concerns(PORT.pci)) == ([], path, True)


def test_a_number_of_any_length_makes_no_long_line(tmp_path: Path) -> None:
    path = written(tmp_path, "doing", "claimed")
    rewritten(path, lambda records: records[0]["ports"][0].update(port=10**3000))
    with pytest.raises(JournalError) as caught:
        journal.read(path)
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize(
    "record",
    [
        {"event": "released", "pci": "7999:00:00.0", "port": 1},
        {"event": "released"}, {"event": "released", "pci": [], "port": 1},
        {"event": "doing", "step": -1}, {"event": "doing", "step": 1 << 64}, {"event": "doing", "step": "0"}, {"event": "closed", "how": 7},
        {"event": "residue", "lines": "x"}, {"event": "residue", "lines": [7]},
        {"event": "releasing", "ports": 7}, {"event": "releasing", "ports": [{"pci": 1}]},
        {"event": "armed", "deadline": float("nan"), "guardian": 1, "confirm_by": HEADER["time"]},
        {"event": "armed", "deadline": 1e300, "guardian": 1, "confirm_by": HEADER["time"]},
        {"event": "armed", "deadline": 5, "guardian": -1, "confirm_by": HEADER["time"]},
        {"event": "armed", "deadline": 5, "guardian": 1}, {"event": "armed", "deadline": "5"},
        {"event": "confirmed", "by": 7}, {"event": "claimed"}, {"event": "claimed", "ports": [{}]},
        *({"event": "claimed", "ports": [{"pci": PORT.pci, "port": 1, "proven": odd}]}
          for odd in ("yes", 1, None)),
        {"event": "done", "boottime": "x"}, {"event": "done", "t": "12:00"},
    ],
)  # fmt: skip
def test_a_record_that_makes_no_sense_is_not_believed(
    tmp_path: Path, record: dict[str, Any]
) -> None:
    path = written(tmp_path, "doing")
    rewritten(path, lambda found: found.append({"n": 2, "t": HEADER["time"], **record}))
    with pytest.raises(JournalError, match=says("cannot be believed"), check=Coded("journal")):
        journal.read(path)


@pytest.mark.parametrize(
    ("record", "what"),
    [
        ({"event": "danced"}, "the record 'danced'"),
        ({"event": "x" * 500}, "the record 'xxx"),
        ({"event": "closed", "how": "sold"}, "the ending 'sold'"),
    ],
)
def test_a_word_that_only_a_later_version_knows_is_left_to_that(
    tmp_path: Path, record: dict[str, Any], what: str
) -> None:
    path = written(tmp_path, "doing")
    rewritten(path, lambda found: found.append({"n": 2, "t": HEADER["time"], **record}))
    with pytest.raises(
        JournalError,
        match=says("is of another version: this manactl does not"),
        check=Coded("journal"),
    ) as caught:
        journal.read(path)
    with wording:
        assert what in caught.value.message
    assert len(caught.value.message) < 300
    with wording:
        assert caught.value.hint == "release the port with the manactl that claimed it"
    assert [one.path for one in journal.list_claims(tmp_path, "b").unreadable] == [path]


def test_so_is_a_step_that_only_a_later_version_knows(tmp_path: Path) -> None:
    kernel = two_functions()
    claim(tmp_path, FakeHost(kernel), "eth1")
    (path,) = journal.paths(tmp_path)
    rewritten(path, lambda found: found[0]["plan"]["steps"][-1].update(kind="dance"))
    with pytest.raises(
        JournalError,
        match=says("does not know the step 'dance'; nothing was"),
        check=Coded("journal"),
    ) as caught:
        release(tmp_path, FakeHost(kernel))
    with wording:
        assert caught.value.hint == "release the port with the manactl that claimed it"


def test_a_clock_that_nobody_has_set_is_believed(tmp_path: Path) -> None:
    path = written(tmp_path, "doing", "claimed")
    rewritten(path, lambda found: [one.update(time="1970-01-01T00:00:07Z") for one in found[:1]])
    assert journal.read(path).ports == (PORT,)


def test_what_a_later_version_adds_is_none_of_our_business(tmp_path: Path) -> None:
    path = written(tmp_path, "doing")
    rewritten(path, lambda found: [one.update(more={"x": [1]}) for one in found])
    assert journal.read(path).ports == (PORT,)


# --- at random ------------------------------------------------------------------------------

DEEP: Any = "x"
for _ in range(3000):
    DEEP = [DEEP]
NONSENSE: list[Callable[[random.Random], Any]] = [
    lambda _: None, lambda _: True, lambda _: -1, lambda _: 10**40, lambda _: 0.5,
    lambda _: float("nan"), lambda _: 1e308, lambda _: "", lambda _: "x\ny\x1b[2J", lambda _: "\udcff",
    lambda _: [], lambda _: {}, lambda _: [[]], lambda _: {"x": {}}, lambda _: [None] * 5000,
    lambda rng: rng.choice(["../../../etc/x", "eth5", "0", "nan", "0x10", "7999:00:00.0"]),
    lambda rng: rng.randrange(-5, 1 << 33), lambda _: {"pci": [], "port": {}}, lambda _: "A" * 70000,
]  # fmt: skip


def places(found: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a JSON value, with each key or index in it."""
    for key in list(found) if isinstance(found, dict) else range(len(found)):
        yield found, key
        if isinstance(found[key], dict | list):
            yield from places(found[key])


def scrambled(rng: random.Random, records: list[dict[str, Any]]) -> None:
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        record = rng.choice([records[0], rng.choice(records)])
        place, key = rng.choice(list(places(record)))
        how = rng.random()
        if how < 0.2 and isinstance(place, dict):
            del place[key]
        elif how < 0.3:
            other, there = rng.choice(list(places(records[0])))
            place[key] = copy.deepcopy(other[there])
        elif how < 0.35:
            records.append(copy.deepcopy(rng.choice(records[1:])))
        else:
            place[key] = rng.choice(NONSENSE)(rng)
    if rng.random() < 0.8:
        for number, record in enumerate(records[1:], 1):
            record["n"] = number


class Scene:
    """Two claims of two functions, the first interrupted or not; kept as bytes."""

    def __init__(self, base: Path) -> None:
        self.base = base / "state"
        self.kernel = two_functions()
        claim(self.base, FakeHost(self.kernel), "eth1")
        claim(self.base, FakeHost(self.kernel), "eth5")

    def copy(self, to: Path) -> tuple[Kernel, Path]:
        shutil.copytree(self.base, to)
        first, _ = sorted((to / "claims").iterdir())
        return copy.deepcopy(self.kernel), first


def asked(ask: Callable[[], object]) -> tuple[str, ManactlError | None]:
    try:
        ask()
    except ManactlError as error:
        return f"exit {error.exit_code}", error
    return "exit 0", None


def tried(scene: Scene, base: Path, seed: int) -> str:
    """What came of everything that reads journals, with one that is nonsense. Another exception
    than ours is a fault."""
    rng = random.Random(seed)
    kernel, path = scene.copy(base)
    rewritten(path, lambda records: scrambled(rng, records))
    boot = rng.choice(["boot-1", "boot-1", "boot-1", "boot-0"])
    journal.list_claims(base, boot)
    history.read(base)
    completed(str(base))
    asked(lambda: release(base, FakeHost(kernel), everything=True, dry_run=True))
    asked(lambda: release(base, FakeHost(kernel), recover=True, dry_run=True))
    if rng.random() < 0.3:
        asked(lambda: release(base, FakeHost(kernel), f"{PORT.pci}:1", recover=True, accept=True))
    if rng.random() < 0.3:
        asked(lambda: claim(base, FakeHost(kernel), "eth1"))
    if rng.random() < 0.3:
        asked(lambda: release(base, FakeHost(kernel), recover=True))
    code, error = asked(lambda: release(base, FakeHost(kernel), everything=True))
    assert kernel.nic("eth5").up, "the other claim is released whatever this one's journal is"
    assert code in ("exit 0", "exit 5", "exit 6"), code
    if code == "exit 5":
        assert error is not None
        assert PORT.pci in error.message or "eth1" in error.message
        assert isinstance(error.beside, ReleaseResult)
    return code


@pytest.mark.parametrize("batch", range(2))
def test_whatever_stands_in_a_journal_is_no_bug(tmp_path: Path, batch: int) -> None:
    count(tmp_path, range(batch * 60, batch * 60 + 60))


@pytest.mark.soak
def test_thousands_of_journals(tmp_path: Path) -> None:
    print(count(tmp_path, range(10_000, 16_000)))


def count(base: Path, seeds: range) -> Counter[str]:
    scene = Scene(base)
    found: Counter[str] = Counter()
    for seed in seeds:
        try:
            found[tried(scene, base / f"try-{seed}", seed)] += 1
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        shutil.rmtree(base / f"try-{seed}")
    assert len(found) > 1  # some were believed, some not
    return found


def test_a_journal_that_is_nested_too_deep_is_not_believed(tmp_path: Path) -> None:
    path = written(tmp_path, "doing")
    text = json.dumps({"schema": "manactl.journal/1", **HEADER})[:-1]
    text += ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}"
    before = hashlib.sha256(text.encode()).hexdigest()[:16]
    path.write_bytes(f"{text}\t{before}\n".encode())
    with pytest.raises(JournalError, match=says("nothing was changed"), check=Coded("journal")):
        journal.read(path)


def test_nonsense_is_not_of_the_disk_or_of_a_signal() -> None:
    """These are not contents: a lack of memory, ^C or EIO must not look like a broken journal."""
    assert not any(issubclass(kind, shape.NONSENSE) for kind in (OSError, MemoryError))
    assert not issubclass(KeyboardInterrupt, shape.NONSENSE)
