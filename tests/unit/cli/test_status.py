"""The `status` command itself: what it prints where, and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from manactl import report as looking
from manactl.cli.main import main
from manactl.look import boot_files
from manactl.model.port import OddFile, Report
from tests.unit.machine import PCI, Machine
from tests.unit.wording import wording

SRC = str(Path(__file__).parents[3] / "src")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The machine that the command looks at."""
    made = Machine(tmp_path / "machine", "7-raw-qp-on-port-2")
    made.holder(4211, "dpdk-testpmd")

    def look(**given: object) -> Report:
        return made.look(**given)

    monkeypatch.setattr(looking, "look", look)
    return made


def run(state: Path, *words: str) -> int:
    return main(["--state-dir", str(state), "status", *words])


def test_json_has_every_promised_key(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "none", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "manactl.status/1"
    assert [port["owner"] for port in document["ports"]] == ["ethernet", "raw-qp"]
    port = document["ports"][1]
    assert port.keys() >= {
        *("netdev", "ifindex", "netns", "altnames", "pci", "port", "mac", "permanent_mac"),
        *("upper", "rdma", "admin", "operstate", "carrier", "owner", "candidates", "certainty"),
        *("holders", "evidence", "drift", "notes", "claim"),
    }
    assert (port["netdev"], port["ifindex"], port["pci"], port["port"]) == ("eth1", 3, PCI, 2)
    assert (port["admin"], port["operstate"], port["carrier"]) == ("down", "down", None)
    assert port["rdma"] == {"device": "manae_0", "port": 2, "others": []}
    assert port["holders"][0]["comm"] == "dpdk-testpmd"
    assert port["claim"] is None


def test_ports_named_are_the_ports_shown(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "none", "manae_0/2", "--json") == 0
    assert [port["netdev"] for port in json.loads(capsys.readouterr().out)["ports"]] == ["eth1"]
    assert run(tmp_path / "none", "eth1") == 0
    assert "eth0" not in capsys.readouterr().out


def test_an_unknown_port_is_a_usage_error_with_one_document(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "none", "eth9", "--json") == 2
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["schema"], document["code"]) == ("manactl.error/1", "usage")
    assert "eth1" in document["hint"]
    assert err.startswith("manactl: PORT 'eth9'")


def test_an_empty_state_directory_is_no_claim(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    assert run(state) == 0
    assert "eth1  raw-qp" in capsys.readouterr().out


def test_a_file_of_persist_that_is_of_no_use_is_told(
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = OddFile("/etc/x.network", "systemd-networkd", "that port is not here", "7870:00:00.0:9")
    monkeypatch.setattr(boot_files, "of_no_use", lambda _: (file,))
    assert run(tmp_path, "--json") == 0
    told = {"source": "boot-files"}
    told["why"] = (
        "/etc/x.network leaves port 7870:00:00.0:9 down at boot, and that port is not here"
    )
    with wording:
        assert told in json.loads(capsys.readouterr().out)["missing"]


def test_colour_is_for_terminals_unless_asked_for(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "none") == 0
    plain = capsys.readouterr().out
    assert "\x1b" not in plain
    assert run(tmp_path / "none", "--color", "always") == 0
    assert "\x1b[" in capsys.readouterr().out
    assert run(tmp_path / "none", "--color", "never") == 0
    assert capsys.readouterr().out == plain


@pytest.mark.parametrize("form", [[], ["--json"], ["-v"]])
def test_a_piped_status_loads_nothing_expensive(form: list[str], tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir()  # as it is left by a claim that was released
    script = (
        "import sys; from manactl.cli.main import main\n"
        f"code = main(['--state-dir', {str(tmp_path)!r}, 'status', *{form!r}])\n"
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": SRC},
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    costly = {"rich", "pyroute2", "pyverbs", "asyncio", "ctypes", "logging"}
    assert not loaded & {*costly, "dataclasses", "pathlib", "json"}
    # What is there for pairs and claims is left out without them.
    assert not set(done.stderr.split()) & {"manactl.look.pairs", "manactl.journal.file"}
