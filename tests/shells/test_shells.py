"""TAB in bash, with and without bash-completion, in zsh and in fish."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet
from tools.completions import tree

from manactl.decide.codes import WAIVABLE
from tests.conftest import lacking
from tests.shells.scene import HOSTILE, KINDS, PCI, PROMPT, Kind, Shell

pytestmark = pytest.mark.netns

BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")


def of(kinds: Iterable[Kind]) -> list[ParameterSet]:
    return [pytest.param(k, marks=pytest.mark.xdist_group(k.name), id=k.name) for k in kinds]


@pytest.fixture(scope="module", params=of(KINDS))
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shell]:
    kind = request.param
    if not shutil.which(kind.argv[0]):
        lacking("shells", f"no {kind.argv[0]} is installed")
    if kind.name == "bash-completion" and not BASH_COMPLETION.exists():
        lacking("shells", f"no {BASH_COMPLETION}")
    if subprocess.run(
        ["unshare", "--mount", "--net", "true"], check=False, capture_output=True
    ).returncode:
        lacking("netns", "unshare --mount --net is refused")
    shell = Shell(kind, tmp_path_factory.mktemp(kind.name))
    try:
        yield shell
    finally:
        shell.close()


@pytest.fixture
def shell(running: Shell) -> Shell:
    running.fresh()
    return running


def words(*found: str) -> list[str]:
    """One form of `--option value` and `--option=value`."""
    return [part for word in found for part in (word.split("=", 1) if word[:2] == "--" else [word])]


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("manactl sta\t", "status"),
        ("manactl --deb\tsta\t", "--debug status"),
        ("manactl --state-dir rel\tx status", "--state-dir rel\tx status"),
        ("manactl help rel\t", "help release"),
        ("manactl status --verb\t", "status --verbose"),
        ("manactl status --form\tprom\t", "status --format prometheus"),
        ("manactl status --color=al\t", "status --color always"),
        ("manactl status --json --js\tx", "status --json --jsx"),
        ("manactl claim --allow packet\t--dry\t", "claim --allow packet-sockets --dry-run"),
        ("manactl claim --allow=stor\t", "claim --allow storage"),
        ("manactl status --output a-fi\t", "status --output a-file"),
        ("manactl explain EBU\t", "explain EBUSY"),
        ("manactl recover nothing\t", "recover nothing"),
        ("manactl --state-di\t", "--state-di"),
    ],
)
def test_words_that_never_change_need_no_program(shell: Shell, keys: str, line: str) -> None:
    (shell.home / "a-file").touch()
    expected = [word for word in line.split(" ") if "\t" not in word]
    if "\t" in line:  # TAB after a value that nothing completes
        expected = ["--state-dir", "relx", "status"]
    assert words(*shell.enters(keys)) == expected
    assert shell.asked == []


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("manactl release \t", "release eth2"),
        ("manactl release eth2 \t", "release eth2"),
        ("manactl --debug release -\b\t", "--debug release eth2"),
        ("manactl status 7870\t3\t", f"status {PCI}:3"),
        ("manactl status 7870:00:00.0:3 7870:00:00.0:\t5\t", f"status {PCI}:3 {PCI}:5"),
        ("manactl claim --raw-qp 7870\t5\t", f"claim --raw-qp {PCI}:5"),
        ("manactl claim --raw-qp=7870\t5\t", f"claim --raw-qp {PCI}:5"),
        ("manactl status manae_0/\t2\t", "status manae_0/2"),
        ("manactl status 'eth\t4\t", "status eth4"),
        ('manactl status "eth\t4\t', "status eth4"),
        ("manactl claim --raw-qp eth0 --raw-qp eth1 --raw-qp e\t", "claim --raw-qp eth0 --raw-qp eth1 --raw-qp eth4"),
        ("$PWD/../bin/manactl status 7870\t3", f"status {PCI}:3"),
    ],
)  # fmt: skip
def test_ports_that_fit_are_inserted(shell: Shell, keys: str, line: str) -> None:
    if keys.startswith("$PWD"):
        keys = keys.replace("$PWD/..", str(shell.home.parent))
    assert words(*shell.enters(keys)) == line.split()
    assert shell.asked


# bash alone does not look behind `command`.
@pytest.mark.parametrize("running", of(k for k in KINDS if k.name != "bash"), indirect=True)
def test_what_stands_behind_command_is_completed(shell: Shell) -> None:
    assert words(*shell.enters("command manactl release \t")) == ["release", "eth2"]
    assert shell.asked


def test_every_name_is_quoted_so_that_it_arrives(shell: Shell) -> None:
    listed(shell, "manactl claim --raw-qp h", *HOSTILE[-3:-1])
    shell.fresh()
    with shell.replayed():
        for name in HOSTILE:
            start = name[:2]
            quoted = [f"--raw-qp {quote}{start}\t" for quote in ("", "'", '"')]
            called = shell.enters(f"manactl claim {''.join(quoted)}--raw-qp={start}\t")
            assert called == ["claim", *["--raw-qp", name] * 3, f"--raw-qp={name}"]
    assert not [path for path in shell.home.iterdir() if path.name == "pwned"]


def listed(shell: Shell, keys: str, *expected: str) -> str:
    """The screen when TAB lists candidates."""
    shell.terminal.type(keys + ("\t\t" if shell.kind.name.startswith("bash") else "\t"))
    return shell.terminal.shows(*expected)


def test_claim_lists_what_can_be_claimed_and_describes_it(shell: Shell) -> None:
    text = listed(shell, "manactl claim --raw-qp eth", "eth0", "eth1", "eth4", "10.0.1.4")
    rows = [line for line in text.splitlines() if PROMPT not in line]
    assert re.findall(r"\beth\d", "\n".join(rows)) == ["eth0", "eth1", "eth4"]
    assert "ethernet, 10.0.1.4, default route" in text


def test_status_lists_every_port_and_release_the_claimed_one(shell: Shell) -> None:
    text = listed(shell, "manactl status eth", *(f"eth{n}" for n in range(5)), "down, claimed")
    assert any("eth3" in row and "raw-qp" in row for row in text.splitlines())


def test_no_control_character_reaches_the_terminal(shell: Shell) -> None:
    before = len(shell.terminal.raw)
    number = len(HOSTILE) + 1
    text = listed(shell, "manactl status 7871:00:00.0:1", r"\e[31mred")
    assert b"\x1b[31mred" not in shell.terminal.raw[before:]
    assert re.search(rf"\b{number}\b", text)


def test_codes_are_listed_with_what_they_mean(shell: Shell) -> None:
    text = listed(shell, "manactl claim --allow xdp --allow ", *(c for c in WAIVABLE if c != "xdp"))
    assert "your own SSH session runs over the port" in text
    assert not [line for line in text.splitlines()[1:] if line.startswith("xdp")]
    assert shell.asked == []


def test_commands_and_options_are_listed_and_hidden_ones_are_not(shell: Shell) -> None:
    _, *commands = tree.read()
    listed(shell, "manactl ", *(command.name for command in commands), commands[0].help)
    shell.fresh()
    text = listed(shell, "manactl --", "--debug", "--version", "Show the version and exit")
    assert "state-dir" not in text
    shell.fresh()
    text = listed(shell, "manactl status --json --", "--watch", "--format", "Show every change")
    assert not [line for line in text.splitlines()[1:] if "--json" in line and PROMPT not in line]


def test_without_the_program_nothing_is_said(shell: Shell) -> None:
    program = shell.home.parent / "bin/manactl"
    away = program.rename(program.with_name("away"))
    try:
        shell.terminal.type("manactl status e\tth9 ")
        text = shell.terminal.shows("manactl status eth9")
    finally:
        away.rename(program)
    assert text == f"{PROMPT} manactl status eth9"
