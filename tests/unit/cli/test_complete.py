"""Every place for a PORT completes ports, by click's own protocol and by the scripts' form of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from manactl.cli.complete import is_asked
from manactl.cli.main import cli
from manactl.completion import names
from manactl.completion.addresses import AddressFacts
from manactl.decide.codes import WAIVABLE
from manactl.look import links
from manactl.look.links import LinkFacts
from tests.unit.cli.test_main import run
from tests.unit.journal.test_file import HEADER, written
from tests.unit.machine import PCI, Machine
from tests.unit.wording import wording


class NoAddresses:
    """Addresses of a kernel that has the first port's alone."""

    def collect(self) -> dict[int, AddressFacts]:
        return {2: AddressFacts("10.0.1.4", True)}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    made = Machine(tmp_path, "7-idle")
    made.pci("net/eth0/flags").write_text("0x1003\n")
    real = names.ports
    monkeypatch.setattr(names, "ports", lambda: real(str(made.path("/sys"))))
    monkeypatch.setattr("manactl.completion.addresses.Addresses", NoAddresses)
    return made


def offered(*words: str) -> dict[str, str | None]:
    *before, start = words
    shell = ShellComplete(cli, {}, "manactl", "_MANACTL_COMPLETE")
    return {item.value: item.help for item in shell.get_completions(before, start)}


BOTH = {"eth0": "ethernet, 10.0.1.4, default route", "eth1": "down"}


@pytest.mark.parametrize("before", [["status"], ["status", "-v"], ["claim", "--raw-qp"]])
def test_a_port_is_completed(tmp_path: Path, before: list[str]) -> None:
    assert offered("--state-dir", str(tmp_path), *before, "") == BOTH
    assert [*offered("--state-dir", str(tmp_path), *before, "0000")] == [f"{PCI}:1", f"{PCI}:2"]


def test_altnames_of_a_port_and_of_its_own_master_are_completed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not those of a master of several ports."""
    facts = {2: ("enx0",), 3: ("enx1",), 9: ("wan0",)}

    class Links:
        def __init__(self, longest: float) -> None:
            assert longest <= links.WAIT, "a person waits"

        def ask(self, ifindexes: set[int]) -> None:
            self.asked = ifindexes

        def collect(self) -> dict[int, LinkFacts]:
            answered = self.asked & {*facts}
            return {n: LinkFacts("", facts[n], None, None, None) for n in answered}

    monkeypatch.setattr("manactl.look.links.RtnetlinkLinks", Links)
    machine.write("/sys/class/net/lan0/ifindex", "9\n")
    state = ["--state-dir", str(tmp_path), "status"]
    assert offered(*state, "en") == {
        "enx0": "ethernet, eth0, 10.0.1.4, default route", "enx1": "down, eth1",
    }  # fmt: skip
    machine.pci("net/eth0/master").symlink_to("../../../../../virtual/net/lan0")
    assert offered(*state, "wan") == {"wan0": "ethernet, eth0"}
    machine.pci("net/eth1/master").symlink_to("../../../../../virtual/net/lan0")
    assert offered(*state, "wan") == {}


@pytest.mark.parametrize(
    "line", [["status", "eth0", ""], ["claim", "--raw-qp", "eth0", "--raw-qp", "e"]]
)
def test_a_port_on_the_line_is_not_offered_again(tmp_path: Path, line: list[str]) -> None:
    assert offered("--state-dir", str(tmp_path), *line) == {"eth1": "down"}


def test_claim_and_release_divide_the_ports(tmp_path: Path) -> None:
    ports = [{"pci": PCI, "port": 2, "permanent_mac": None, "netdev": "eth1"}]
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    HERE = {**HEADER, "ports": ports, "boot_id": boot_id}
    state = ["--state-dir", str(tmp_path / "state")]
    assert offered(*state, "release", "") == {}
    written(tmp_path / "state", "doing", "claimed", header=HERE)
    assert offered(*state, "release", "") == {"eth1": "down, claimed"}
    assert [*offered(*state, "claim", "--raw-qp", "")] == ["eth0"]
    assert [*offered(*state, "status", "")] == ["eth0", "eth1"]


def test_codes_are_described_and_not_offered_again() -> None:
    codes = offered("claim", "--allow", "")
    assert [*codes] == list(WAIVABLE)
    assert all(codes.values())
    assert [*offered("claim", "--allow", "xdp", "--allow", "")] == [
        c for c in WAIVABLE if c != "xdp"
    ]
    assert [*offered("claim", "--allow", "xd")] == ["xdp"]


def test_topics_are_completed_for_explain() -> None:
    assert offered("explain", "foreign")["foreign-netns"]
    assert [*offered("explain", "EB")] == ["EBUSY"]


def test_commands_are_completed_for_help() -> None:
    assert [*offered("help", "cl")] == ["claim"]


def test_the_scripts_pass_words_as_arguments_and_get_lines() -> None:
    line = ["claim", "--allow", "xdp", "--allow", "st"]
    done = run("-m", "manactl", *line, _MANACTL_COMPLETE="lines_complete")
    assert done.stdout == f"storage\t{offered('claim', '--allow', 'st')['storage']}\n"
    assert done.returncode == 0
    # What the scripts send to /dev/null, and whoever has it set by mistake sees.
    with wording:
        assert done.stderr == (
            "manactl: _MANACTL_COMPLETE is set: these words are completed, and nothing is done\n"
        )


@pytest.mark.parametrize("stray", ["1", "bash_source", "lines_source"])
def test_a_stray_variable_changes_nothing(tmp_path: Path, stray: str) -> None:
    """It made `release` do nothing, with exit code 0 or 1 and no word."""
    words = ["-m", "manactl", "--state-dir", str(tmp_path), "release", "--json"]
    done = run(*words, _MANACTL_COMPLETE=stray, COMP_WORDS="manactl ", COMP_CWORD="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["schema"] == "manactl.release/1"


ASKING = {"COMP_WORDS": "manactl ", "COMP_CWORD": "1"}


@pytest.mark.parametrize(
    ("value", "more", "arguments", "asked"),
    [
        ("lines_complete", {}, ["release", ""], True),
        ("lines_complete", {}, [], True),
        ("bash_complete", ASKING, [], True),
        ("zsh_complete", ASKING, [], True),
        ("fish_complete", {"COMP_WORDS": "", "COMP_CWORD": ""}, [], True),
        ("bash_source", {}, [], True),
        ("bash_complete", ASKING, ["release"], False),
        ("bash_complete", {}, [], False),
        ("bash_complete", {**ASKING, "COMP_CWORD": "x"}, [], False),
        ("bash_complete", {**ASKING, "COMP_CWORD": "-1"}, [], False),
        ("fish_complete", {}, [], False),
        *((value, ASKING, [], False)
          for value in ("1", "x", "_", "lines", "lines_source", "lines_completes", "ksh_complete",
                        "__complete", "\n", "bash", "bash_")),
    ],
)  # fmt: skip
def test_what_is_a_question(
    value: str, more: dict[str, str], arguments: list[str], asked: bool
) -> None:
    assert is_asked({"_MANACTL_COMPLETE": value, **more}, "_MANACTL_COMPLETE", arguments) is asked


@pytest.mark.parametrize("more", [{}, {"COMP_WORDS": "m", "COMP_CWORD": "x"}])
def test_half_a_question_is_none(more: dict[str, str]) -> None:
    done = run("-m", "manactl", _MANACTL_COMPLETE="bash_complete", **more)
    plain = run("-m", "manactl")
    assert (done.returncode, done.stderr) == (plain.returncode, plain.stderr)


def test_clicks_own_scripts_are_given() -> None:
    done = run("-m", "manactl", _MANACTL_COMPLETE="fish_source")
    assert (done.returncode, done.stderr) == (0, "")
    assert "complete" in done.stdout


def test_a_completion_imports_little() -> None:
    line = ["-X", "importtime", "-m", "manactl", "status", ""]
    done = run(*line, _MANACTL_COMPLETE="lines_complete")
    loaded = {row.rpartition("|")[2].strip() for row in done.stderr.splitlines()}
    assert "manactl.completion.names" in loaded
    costly = {"json", "hashlib", "dataclasses", "pathlib", "socket", "ctypes", "rich", "ipaddress"}
    assert not loaded & {*costly, "manactl.wire.rtmsg", "manactl.report"}


def test_the_codes_of_refusals_import_little() -> None:
    line = ["-X", "importtime", "-m", "manactl", "claim", "--allow", "st"]
    done = run(*line, _MANACTL_COMPLETE="lines_complete")
    assert done.stdout.startswith("storage\t")
    loaded = {row.rpartition("|")[2].strip() for row in done.stderr.splitlines()}
    assert "manactl.decide.codes" in loaded
    assert not loaded & {"manactl.decide.refusal", "manactl.netstate.snapshot", "ipaddress"}
