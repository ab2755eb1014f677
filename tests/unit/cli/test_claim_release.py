"""The words of claim and release; what they do is tested below the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from manactl.cli.main import main
from manactl.journal import file as journal
from manactl.journal import lock
from manactl.journal.file import Journal
from tests.unit import schema
from tests.unit.fakes import PORT, archived
from tests.unit.journal.test_file import HEADER
from tests.unit.wording import wording

SRC = str(Path(__file__).parents[3] / "src")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["claim", "eth1"], "manactl claim --raw-qp eth1"),
        (["claim", "eth1", "eth2"], "manactl claim --raw-qp eth1 --raw-qp eth2"),
        (["claim", "--raw-qp", "eth1", "eth2"], "manactl claim --raw-qp eth1 --raw-qp eth2"),
        (["claim"], "manactl claim --raw-qp PORT"),
    ],
)
def test_claim_shows_the_right_line(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert line in err.splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [
        ["claim", "--raw-qp", "eth1", "--allow", "everything"],
        ["claim", "--raw-qp", "eth1", "--allow", "foreign-netns"],
        ["claim", "--raw-qp", "eth1", "--wait", "-1"],
        ["claim", "--raw-qp", "eth1", "--confirm-within", "0.5"],
        ["release", "--all", "eth1"],
        ["recover", "eth1"],
    ],
)
def test_what_is_not_there_is_a_usage_error(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2


@pytest.mark.parametrize("code", ["foreign-netns", "in-reset", "kernel-bug"])
def test_what_can_never_be_waived_is_a_usage_error(
    code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["claim", "--raw-qp", "eth1", "--allow", code]) == 2
    with wording:
        assert f"{code} can never be waived" in capsys.readouterr().err


def test_nothing_claimed_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--state-dir", str(tmp_path / "none"), "release"]) == 0
    with wording:
        assert capsys.readouterr().out == "nothing is claimed\n"
    assert main(["--state-dir", str(tmp_path / "none"), "release", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    schema.strict(document)
    assert (document["schema"], document["ports"]) == ("manactl.release/1", [])
    assert not (tmp_path / "none").exists()


def test_what_a_recovery_prints_is_as_its_schema_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other_boot(tmp_path)
    assert main(["--state-dir", str(tmp_path), "release", "--dry-run", "--json"]) == 0
    schema.strict(json.loads(capsys.readouterr().out))
    assert main(["--state-dir", str(tmp_path), "recover", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    schema.strict(document)
    assert [one["outcome"] for one in document["ports"]] == ["history"]


def other_boot(state_dir: Path, number: int = 1) -> Path:
    port = {**HEADER["ports"][0], "port": number}
    with Journal.create(state_dir, {**HEADER, "ports": [port]}, [PORT]) as log:
        log.append("doing", step=0)
        return log.path


def test_a_journal_from_before_the_boot_is_closed_as_history(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = other_boot(tmp_path)
    assert main(["--state-dir", str(tmp_path), "release", "--dry-run"]) == 0
    with wording:
        assert "before the last boot" in capsys.readouterr().out
    assert path.exists()
    assert main(["--state-dir", str(tmp_path), "release"]) == 0
    with wording:
        assert "boot configuration has taken over" in capsys.readouterr().out
    assert not path.exists()
    closed = journal.read(archived(path))
    assert closed.phase == "closed"


def test_several_claims_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [other_boot(tmp_path, 1), other_boot(tmp_path, 2)]
    assert main(["--state-dir", str(tmp_path), "release"]) == 2
    err = capsys.readouterr().err
    assert "7870:00:00.0:1, 7870:00:00.0:2" in err
    assert all(path.exists() for path in paths)
    assert main(["--state-dir", str(tmp_path), "release", "7870:00:00.0:2"]) == 0
    assert [path.exists() for path in paths] == [True, False]
    assert main(["--state-dir", str(tmp_path), "release", "--all"]) == 0
    assert journal.list_claims(tmp_path).claims == []


def test_a_broken_journal_stops_a_release_with_code_5(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = other_boot(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"eth1", b"eth2"))
    before = path.read_bytes()
    assert main(["--state-dir", str(tmp_path), "release", "--json"]) == 5
    out, err = capsys.readouterr()
    schema.strict(json.loads(out))
    assert json.loads(out)["code"] == "journal"
    with wording:
        assert "nothing was changed" in err
    assert path.read_bytes() == before


def broken(state_dir: Path, pci: str = "7871:00:00.0") -> Path:
    """A journal of this boot on another function, damaged after its header."""
    port = {**HEADER["ports"][0], "pci": pci}
    header = {**HEADER, "boot_id": journal.read_boot_id(), "ports": [port]}
    with Journal.create(state_dir, header, [PORT._replace(pci=pci)]) as log:
        log.append("doing", step=0)
    log.path.write_bytes(log.path.read_bytes().replace(b'"doing"', b'"doubt"'))
    return log.path


@pytest.mark.parametrize("words", [["release", "--all"], ["release"], ["recover"]])
def test_a_broken_journal_does_not_keep_the_others_and_is_code_5(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    bad, good = broken(tmp_path), other_boot(tmp_path)
    assert main(["--state-dir", str(tmp_path), *words]) == 5
    assert str(bad) in capsys.readouterr().err
    assert (bad.exists(), good.exists()) == (True, False)


def test_a_named_port_is_released_whatever_another_functions_journal_is(tmp_path: Path) -> None:
    bad, good = broken(tmp_path), other_boot(tmp_path)
    assert main(["--state-dir", str(tmp_path), "release", f"{PORT.pci}:1"]) == 0
    assert (bad.exists(), good.exists()) == (True, False)


def test_a_broken_journal_blocks_its_own_function(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = broken(tmp_path, PORT.pci), other_boot(tmp_path)
    assert main(["--state-dir", str(tmp_path), "release", f"{PORT.pci}:1"]) == 5
    assert str(bad) in capsys.readouterr().err
    assert good.exists()


@pytest.mark.parametrize("words", [["release"], ["recover"], ["release", "--all"]])
def test_a_broken_journal_from_before_the_boot_is_closed(tmp_path: Path, words: list[str]) -> None:
    path = other_boot(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"doing"', b'"doubt"'))
    before = path.read_bytes()
    assert main(["--state-dir", str(tmp_path), *words, "--dry-run"]) == 0
    assert path.exists()
    assert main(["--state-dir", str(tmp_path), *words]) == 0
    assert not path.exists()
    assert archived(path).read_bytes() == before


@pytest.mark.parametrize("command", ["claim", "recover", "release"])
def test_help_costs_nothing(command: str) -> None:
    code = (
        "import sys\nfrom manactl.cli.main import main\n"
        f"main(['{command}', '--help'])\n"
        "heavy = {'rich', 'pyroute2', 'pyverbs', 'manactl.act.transition', 'manactl.report'}\n"
        "sys.exit(len(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, env={"PYTHONPATH": SRC}
    )
    assert done.returncode == 0
    assert b"Usage: manactl " + command.encode() in done.stdout


def test_nothing_to_recover_is_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--state-dir", str(tmp_path / "none"), "recover"]) == 0
    with wording:
        assert capsys.readouterr().out == "nothing to recover\n"
    assert main(["--state-dir", str(tmp_path / "none"), "recover", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["ports"]) == ("manactl.recover/1", [])
    assert not (tmp_path / "none").exists()


def standing(state_dir: Path, **more: object) -> Path:
    header = {**HEADER, "boot_id": journal.read_boot_id(), **more}
    with Journal.create(state_dir, header, [PORT]) as log:
        log.append("doing", step=0)
        log.append("claimed", ports=[{"pci": PORT.pci, "port": 1, "proven": True}])
        return log.path


def test_recover_closes_history_and_leaves_a_claim_that_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, stands = other_boot(tmp_path), standing(tmp_path)
    assert main(["--state-dir", str(tmp_path), "recover", "--dry-run"]) == 0
    with wording:
        assert "before the last boot" in capsys.readouterr().out
    assert old.exists()
    assert main(["--state-dir", str(tmp_path), "recover", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "manactl.recover/1"
    assert [port["outcome"] for port in document["ports"]] == ["history"]
    assert (old.exists(), stands.exists()) == (False, True)
    assert main(["--state-dir", str(tmp_path), "recover"]) == 0
    with wording:
        assert capsys.readouterr().out == "nothing to recover\n"


def test_recover_leaves_what_a_living_manactl_is_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = other_boot(tmp_path)
    with lock.functions(tmp_path, [PORT.pci]):
        assert main(["--state-dir", str(tmp_path), "recover", "--json"]) == 6
    assert json.loads(capsys.readouterr().out)["code"] == "locked"
    assert path.exists()
