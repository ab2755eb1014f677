"""`manactl doctor` as it is typed, on machines made of values."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from manactl import report as looking
from manactl.cli import doctor as command
from manactl.cli.main import main
from manactl.doctor import probe, read_machine
from manactl.doctor.machine import Machine
from manactl.doctor.read_machine import Places
from manactl.model.port import Certainty, Missing, Netdev, Owner, PortId, PortStatus, Report, Source
from tests.unit.doctor.fit import FIT
from tests.unit.wording import wording

PORTS = tuple(
    PortStatus(
        id=PortId("7870:00:00.0", number, None),
        netdev=Netdev(f"eth{number}", number, 0x1002, "down", None, None, None),
        netns=None,
        upper=None,
        rdma=None,
        owner=Owner.FREE,
        certainty=Certainty.PROVEN,
    )
    for number in (1, 2)
)
UNFIT = {"provider": "", "listed": (), "systemd": "252"}


class Scene:
    """What the command looks at; `waits` is who waits in the driver at each look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
        self.machine: Machine = FIT
        self.waits: list[tuple[str, ...]] = [()]
        self.looks = 0
        self.pauses: list[float] = []
        self.given: list[dict[str, Any]] = []
        self.probed: list[str] = []
        self.uid = 0
        self.places: Places | None = None
        self.state = state
        monkeypatch.setattr(looking, "look", self.look)
        monkeypatch.setattr(read_machine, "read", self.read)
        monkeypatch.setattr(read_machine, "rdma_netns", lambda: "exclusive")
        monkeypatch.setattr(
            probe, "passive", lambda machine: {"qp-zero": "ENOENT", "debugfs": None}
        )
        monkeypatch.setattr(probe, "probed", self.probe)
        monkeypatch.setattr(time, "sleep", self.pauses.append)
        monkeypatch.setattr(command.os, "geteuid", lambda: self.uid)

    def look(self, **given: Any) -> Report:
        self.given.append(given)
        waits = self.waits[min(self.looks, len(self.waits) - 1)]
        self.looks += 1
        missing = tuple(Missing(Source.MANA, why) for why in waits)
        return Report(datetime.now(UTC), "7.3.4", True, missing, PORTS)

    def read(self, report: Report, netns: str | None, places: Places) -> Machine:
        self.places = places
        return replace(self.machine, rdma_netns=netns, waiting=read_machine.waiting(report))

    def probe(self, port: PortStatus) -> dict[str, str | None]:
        self.probed.append(port.label)
        return {"raw-qp-down": "made"}

    def run(self, *words: str) -> int:
        return main(["--state-dir", str(self.state), "doctor", *words])


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scene:
    return Scene(monkeypatch, tmp_path / "state")


Capture = pytest.CaptureFixture[str]
Document = Callable[..., tuple[int, Any]]


@pytest.fixture
def document(scene: Scene, capsys: Capture) -> Document:
    def run(*words: str) -> tuple[int, Any]:
        code = scene.run("--json", *words)
        return code, json.loads(capsys.readouterr().out)

    return run


def test_a_fit_machine(scene: Scene, capsys: Capture) -> None:
    assert scene.run() == 0
    out, err = capsys.readouterr()
    with wording:
        assert out.splitlines()[-1] == "This machine is fit to hand a port to RDMA."
    assert err == ""
    assert "FIX" not in out
    assert scene.pauses == []
    assert scene.places == Places(state=str(scene.state))


@pytest.mark.parametrize(("also", "count"), [({}, "one thing has"), ({"uverbs": ()}, "2 things")])
def test_what_is_to_be_mended_comes_first_and_is_counted(
    scene: Scene, capsys: Capture, also: dict[str, Any], count: str
) -> None:
    scene.machine = replace(FIT, **UNFIT, **also)
    assert scene.run() == 3
    lines = capsys.readouterr().out.splitlines()
    with wording:
        assert count in lines[-1]
    marks = [line.split()[0] for line in lines[:-1] if not line.startswith(" ")]
    assert list(dict.fromkeys(marks)) == ["FIX", "note", "ok"]
    assert "         $ apt install --only-upgrade systemd" in lines


def test_as_a_document(scene: Scene, document: Document) -> None:
    code, told = document()
    assert code == 0
    assert list(told) == ["schema", "time", "kernel", "fit", "findings"]
    assert (told["schema"], told["kernel"], told["fit"]) == ("manactl.doctor/1", "7.3.4", True)
    (netns,) = [one for one in told["findings"] if one["code"] == "rdma-netns"]
    assert netns["level"] == "advice"  # exclusive, as read
    scene.machine = replace(FIT, **UNFIT)
    code, told = document()
    assert (code, told["fit"]) == (3, False)
    assert told["findings"][0]["code"] == "rdma-core"
    assert told["findings"][0]["level"] == "mend"


def test_without_a_function_there_is_nothing_to_hand_over(scene: Scene, document: Document) -> None:
    scene.machine = replace(FIT, functions=())
    code, told = document()
    assert (code, told["code"]) == (8, "unsupported")


@pytest.mark.parametrize(
    ("waits", "busy", "looks"),
    [
        ([()], [], 1),
        ([("a",), ()], [], 2),
        ([("a",), ("a",), ()], [], 3),
        ([("a", "b"), ("b", "c"), ("c", "b")], ["b"], 3),
        ([("a",)], ["a"], 3),
    ],
)
def test_a_driver_is_busy_that_waits_in_every_look(
    scene: Scene, document: Document, waits: list[tuple[str, ...]], busy: list[str], looks: int
) -> None:
    scene.waits = waits
    code, told = document()
    assert [one["why"] for one in told["findings"] if one["code"] == "driver-busy"] == busy
    assert code == (3 if busy else 0)
    assert (scene.looks, scene.pauses) == (looks, [0.5] * (looks - 1))


def test_facts_are_a_table_that_is_never_unfit(scene: Scene, capsys: Capture) -> None:
    scene.machine = replace(FIT, **UNFIT)
    assert scene.run("--facts") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Linux 7.3.4, manactl ")
    assert lines[1].split() == ["FACT", "HERE", "6.12", "6.18", "7.x"]
    with wording:
        assert lines[2] == "debugfs  not seen  nothing  shared-eqs  vport-eqs"
    assert lines[3].split() == ["qp-zero", "ENOENT", "ENOENT", "ENOENT", "ENOENT"]
    assert lines[4] == ""
    assert lines[5].startswith("debugfs: ")
    assert scene.probed == []


def test_facts_of_ports_are_tried_on_each(scene: Scene, document: Document) -> None:
    code, told = document("--facts", "eth2", "7870:00:00.0:1")
    assert code == 0
    assert scene.probed == ["eth2", "eth1"]
    here = {row["code"]: row["here"] for row in told["facts"]}
    assert here == {"debugfs": None, "qp-zero": "ENOENT", "raw-qp-down": "made"}


def test_only_root_tries(scene: Scene, document: Document) -> None:
    scene.uid = 1000
    assert document("--facts")[0] == 0
    code, told = document("--facts", "eth1")
    assert (code, told["code"]) == (7, "denied")
    assert scene.probed == []


def test_words_that_do_not_fit_are_usage_errors(scene: Scene, document: Document) -> None:
    code, told = document("eth1")
    assert (code, told["hint"]) == (2, "manactl doctor --facts eth1")
    code, told = document("--facts", "eth9")
    assert (code, told["code"]) == (2, "usage")
    assert scene.probed == []


def test_a_broken_journal_does_not_hide_the_machine(scene: Scene, document: Document) -> None:
    path = scene.state / "claims/1.journal"
    path.parent.mkdir(parents=True, mode=0o700)
    scene.state.chmod(0o700)
    path.write_text("nonsense\n")
    path.chmod(0o600)
    assert document()[0] == 0
    assert scene.given == [{"claims": []}]
