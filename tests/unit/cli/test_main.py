"""Outcomes become exit codes, one document and one human line."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from manactl.act import audit
from manactl.cli.main import cli, main
from manactl.errors import (
    Busy,
    Denied,
    Interrupted,
    ManactlError,
    NotRestored,
    Refused,
    RolledBack,
    Unsupported,
    UsageError,
)
from manactl.model.port import Evidence
from tests.unit.wording import wording

SRC = str(Path(__file__).parents[3] / "src")


class Raiser:
    """A command of the real group that fails as the test says."""

    def __init__(self) -> None:
        self.error: BaseException = AssertionError("set me")
        self.command = click.Command(
            "fail",
            params=[click.Option(["--json"], is_flag=True), click.Argument(["rest"], nargs=-1)],
            callback=self._run,
        )

    def _run(self, **_given: object) -> None:
        raise self.error


@pytest.fixture
def raiser() -> Iterator[Raiser]:
    made = Raiser()
    cli.add_command(made.command)
    yield made
    del cli.commands["fail"]


@pytest.mark.parametrize(
    ("kind", "code", "word"),
    [
        (UsageError, 2, "usage"),
        (Refused, 3, "refused"),
        (RolledBack, 4, "rolled-back"),
        (NotRestored, 5, "not-restored"),
        (Busy, 6, "busy"),
        (Denied, 7, "denied"),
        (Unsupported, 8, "unsupported"),
        (Interrupted, 130, "interrupted"),
    ],
)
def test_each_failure_has_its_code_line_and_document(
    raiser: Raiser,
    capsys: pytest.CaptureFixture[str],
    kind: type[ManactlError],
    code: int,
    word: str,
) -> None:
    raiser.error = kind("went wrong", hint="do this", evidence=[Evidence("proc", "pid", 7)])
    assert main(["fail"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "manactl: went wrong\n  do this\n"

    assert main(["fail", "--json"]) == code
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "schema": "manactl.error/1",
        "code": word,
        "message": "went wrong",
        "hint": "do this",
        "evidence": [{"source": "proc", "fact": "pid", "value": 7}],
    }
    assert err.startswith("manactl: went wrong\n")


def test_a_guards_code_replaces_the_kind(
    raiser: Raiser, capsys: pytest.CaptureFixture[str]
) -> None:
    raiser.error = Refused("this is your session", code="ssh-session")
    assert main(["fail", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["code"] == "ssh-session"


@pytest.mark.parametrize("word", ["--no-such", "no-such-command"])
def test_clicks_own_errors_are_usage_errors(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word, "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["code"] == "usage"
    assert word.lstrip("-") in err
    assert "--help" in err


def test_json_after_the_double_dash_is_not_ours(
    raiser: Raiser, capsys: pytest.CaptureFixture[str]
) -> None:
    raiser.error = Busy("held")
    assert main(["fail", "--", "--json"]) == 6
    assert capsys.readouterr().out == ""


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Missing command" in capsys.readouterr().err


def test_interrupt_is_130(raiser: Raiser, capsys: pytest.CaptureFixture[str]) -> None:
    raiser.error = KeyboardInterrupt()
    assert main(["fail", "--json"]) == 130
    assert json.loads(capsys.readouterr().out)["code"] == "interrupted"


def test_a_bug_goes_to_the_system_log(
    raiser: Raiser, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr("manactl.act.audit.to_syslog", lambda lines, *_where: logged.extend(lines))
    raiser.error = KeyError("a\x1bb")
    assert main(["fail", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["code"] == "bug"
    assert "Traceback" not in err
    assert "\x1b" not in err
    assert any("Traceback" in line for line in logged)


def test_debug_shows_the_traceback_and_logs_nothing(
    raiser: Raiser, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr("manactl.act.audit.to_syslog", lambda lines, *_where: logged.extend(lines))
    raiser.error = KeyError("x")
    assert main(["--debug", "fail"]) == 1
    assert "Traceback" in capsys.readouterr().err
    assert logged == []


@pytest.mark.parametrize("words", [["stauts"], ["help", "stauts"]])
def test_a_wrong_command_may_be_another_one(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    with wording:
        assert "No such command 'stauts'. Did you mean 'status'?\n" in capsys.readouterr().err
    assert main([*words[:-1], "xyzzy"]) == 2
    with wording:
        assert "No such command 'xyzzy'.\n" in capsys.readouterr().err
    assert main(["--stauts"]) == 2
    with wording:
        assert "Did you mean 'status'" not in capsys.readouterr().err


def test_hostile_words_print_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["\x1b[31m\udcff"]) == 2
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "\\e[31m" in err or "\\x1b[31m" in err


def test_help_names_every_command_and_help_command_equals_its_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    for name, command in cli.commands.items():
        assert name in overview
        assert main([name, "--help"]) == 0
        long = capsys.readouterr().out
        assert command.help is not None
        assert main(["help", name]) == 0
        assert capsys.readouterr().out == long
    assert main(["help", "nonsense"]) == 2


def run(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *argv],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SRC, **env},
        check=False,
        timeout=60,
    )


def test_version() -> None:
    done = run("-m", "manactl", "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("manactl ")


EXPENSIVE = {"rich", "pyroute2", "pyverbs", "asyncio", "ctypes", "logging"}


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["status", "--help"]])
def test_help_imports_nothing_expensive(argv: list[str]) -> None:
    script = (
        "import sys; from manactl.cli.main import main\n"
        f"code = main({argv!r})\n"
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = run("-c", script)
    assert done.returncode == 0
    assert not EXPENSIVE & {name.split(".")[0] for name in done.stderr.split()}


def test_completion_works_by_clicks_protocol() -> None:
    done = run(
        "-m",
        "manactl",
        _MANACTL_COMPLETE="bash_complete",
        COMP_WORDS="manactl he",
        COMP_CWORD="1",
    )
    assert (done.returncode, done.stdout) == (0, "plain,help\n")


def test_reader_gone_ends_quietly_with_the_status_of_sigpipe() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "manactl", "--help"],
            stdout=write,
            stderr=subprocess.PIPE,
            env={"PYTHONPATH": SRC},
            check=False,
            timeout=60,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_full_disk_is_said_and_not_taken_for_success() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "manactl", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            env={"PYTHONPATH": SRC},
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert b"No space left" in done.stderr


@pytest.mark.parametrize(
    "more",
    [
        {"MANACTL_STATE_DIR": "/nowhere"},
        {"MANACTL_RELEASE_EVERYTHING": "1"},
        {"MANACTL_DEBUG": "1"},
    ],
)
@pytest.mark.parametrize("complete", [{}, {"_MANACTL_COMPLETE": ""}])
def test_no_environment_variable_sets_an_option(
    tmp_path: Path, more: dict[str, str], complete: dict[str, str]
) -> None:
    words = ["-m", "manactl", "--state-dir", str(tmp_path), "release", "x", "--all", "--json"]
    plain = run(*words)
    assert plain.returncode == 2
    assert json.loads(plain.stdout)["code"] == "usage"
    done = run(*words, **more, **complete)
    assert (done.returncode, done.stdout, done.stderr) == (2, plain.stdout, plain.stderr)
    bare = run("-m", "manactl", "release", **more, **complete)
    assert (bare.returncode, bare.stdout) == (0, "nothing is claimed\n")


@pytest.mark.parametrize("columns", ["0", "-1", "x", "1"])
@pytest.mark.parametrize("words", [["--help"], ["status", "--color", "always"], ["explain"]])
def test_any_width_will_do(columns: str, words: list[str]) -> None:
    done = run("-m", "manactl", *words, COLUMNS=columns)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_a_traceback_with_bytes_that_are_no_utf8_reaches_the_log(
    raiser: Raiser, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(tmp_path / "log"))
        log.settimeout(60)
        real = audit.to_syslog
        monkeypatch.setattr(
            audit, "to_syslog", lambda *what: real(*what, path=str(tmp_path / "log"))
        )
        raiser.error = KeyError("a\udcffb\0c")
        lines: list[str] = []

        def read() -> None:
            while not lines or "KeyError:" not in lines[-1]:
                lines.append(log.recv(65536).decode())

        reader = threading.Thread(target=read)
        reader.start()
        assert main(["fail"]) == 1
        reader.join()
    assert lines[0].startswith("<11>manactl[")
    assert lines[0].endswith("]: Traceback (most recent call last):")
    assert "\\udcff" in lines[-1]
    assert "bug: KeyError" in capsys.readouterr().err


def test_the_line_of_the_readme_loads_nothing_from_where_one_is(tmp_path: Path) -> None:
    readme = (Path(SRC).parent / "README.md").read_text()
    (words,) = re.findall(r"`PYTHONPATH=\$PWD/src (python3 [^`]*)`", readme)
    for name in ("click", "json", "contextlib", "manactl"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(99)")
    _, *options = words.split()
    done = subprocess.run(
        [sys.executable, *options, "--version"],
        env={"PYTHONPATH": SRC}, cwd=tmp_path, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout[:8]) == (0, b"manactl ")
