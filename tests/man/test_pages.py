"""The manual says what the program does: options, codes, keys and metrics, both ways."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

import click
import pytest

import manactl
from manactl import errors
from manactl.act.plan import StepFailed
from manactl.cli.main import EXIT_BUG, EXIT_PIPE, cli
from manactl.decide.codes import WAIVABLE, Code, bar_of
from manactl.decide.guards import GUARDS
from manactl.model.port import Report
from manactl.render.prometheus import families
from tests.conftest import lacking
from tests.man.pages import ANYWHERE, MAN, SCENES, Example, Page, differs, items, pages, plain

SRC = MAN.parent / "src/manactl"
FAILURES = errors.ManactlError.__subclasses__()
OF_COMMANDS = {errors.EXEC_FAILED, errors.NOT_EXECUTABLE, errors.NOT_FOUND}
CODES = {0, EXIT_BUG, EXIT_PIPE} | {kind.exit_code for kind in FAILURES} | OF_COMMANDS
# Pages of others, and the package that has them on Debian.
ELSEWHERE = {
    "head(1)": "coreutils",
    "ibv_devinfo(1)": "ibverbs-utils",
    "jq(1)": "jq",
    "logind.conf(5)": "systemd",
    "man(1)": "man-db",
    "su(1)": "util-linux",
    "systemd-escape(1)": "systemd",
    "systemd.network(5)": "systemd",
    "manadv(7)": "libibverbs-dev",
    "ip-link(8)": "iproute2",
    "rdma(8)": "iproute2",
    "rdma-link(8)": "iproute2",
    "rdma-resource(8)": "iproute2",
    "sudo(8)": "sudo",
    "tcpdump(8)": "tcpdump",
}

every_page = pytest.mark.parametrize("page", pages(), ids=str)


def commands() -> dict[str, click.Command]:
    with cli.make_context("manactl", ["help"]) as ctx:
        found = {name: cli.get_command(ctx, name) for name in cli.list_commands(ctx)}
    return {name: one for name, one in found.items() if one is not None and not one.hidden}


def page(name: str) -> Page:
    return Page(MAN / name)


PAGES_OF = {"manactl.8": cli} | {
    f"manactl-{name}.8": command for name, command in commands().items() if name != "help"
}
every_command = pytest.mark.parametrize("name", PAGES_OF)


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        lacking("lab", f"{name} is not installed (Debian: mandoc, man-db)")
    assert found is not None
    return found


def run(*argv: str | Path, **env: str) -> str:
    """What a program says, on both outputs together; it must succeed."""
    done = subprocess.run(
        argv,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


# --- form -----------------------------------------------------------------------------------


@every_page
def test_mandoc_has_nothing_to_complain_of(page: Page) -> None:
    done = subprocess.run(
        [tool("mandoc"), "-T", "lint", "-W", "style", page.path],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    # What it looks for on this machine is checked below, for any machine.
    said = [line for line in done.stdout.splitlines() if "referenced manual not found" not in line]
    assert said == []


@every_page
def test_groff_has_nothing_to_complain_of(page: Page) -> None:
    argv = ("--warnings", "-E", "UTF-8", "-Tutf8", "-Z", "-l", page.path)
    done = subprocess.run(
        [tool("man"), *argv],
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


@every_page
def test_it_fits_a_terminal(page: Page) -> None:
    text = run(tool("mandoc"), "-T", "utf8", "-O", "width=78", page.path)
    assert [line for line in re.sub(".\b", "", text).splitlines() if len(line) > 80] == []


@every_page
def test_lexgrog_finds_name_and_purpose(page: Page) -> None:
    said = run(tool("lexgrog"), page.path).strip()
    match = re.fullmatch(rf'{re.escape(str(page.path))}: "(\S+) - (.+)"', said)
    assert match, said
    assert match[1] == page.name
    assert not match[2].endswith(".")


@every_page
def test_head_and_sections(page: Page) -> None:
    assert page.value("Dt") == f"{page.name.upper()} {page.number}"
    assert page.value("Os") == f"manactl {manactl.__version__}"
    date = datetime.strptime(page.value("Dd"), "%B %d, %Y").replace(tzinfo=UTC)
    assert date >= datetime(2026, 11, 1, tzinfo=UTC), "older than the project"
    titles = [line[4:] for line in page.lines if line.startswith(".Sh ")]
    assert titles[:2] == ["NAME", "SYNOPSIS"] or page.number == 7
    assert "SEE ALSO" in titles
    if page.number == 8:
        wanted = ["DESCRIPTION", "OPTIONS", "FILES", "EXIT STATUS", "EXAMPLES", "SEE ALSO"]
        assert [title for title in titles if title in wanted] == wanted


@every_page
def test_references_lead_somewhere(page: Page) -> None:
    own = {f"{one.name}({one.number})" for one in pages()}
    assert page.references - own - ELSEWHERE.keys() == set()
    assert f"{page.name}({page.number})" not in page.references
    titles = {line[4:] for line in page.lines if line.startswith((".Sh ", ".Ss "))}
    inside = {line.removeprefix(".Sx ").rstrip(" .") for line in page.lines if line[:4] == ".Sx "}
    assert inside <= titles


def test_every_page_can_be_found_from_the_first() -> None:
    first = page("manactl.8").references
    assert {f"{one.name}({one.number})" for one in pages() if one.path.name != "manactl.8"} <= first


def test_every_page_is_installed_where_man_looks() -> None:
    project = tomllib.loads((MAN.parent / "pyproject.toml").read_text())
    files = project["tool"]["setuptools"]["data-files"]
    installed = {
        (place, path.name)
        for place, patterns in files.items()
        for pattern in patterns
        for path in MAN.parent.glob(pattern)
    }
    for one in pages():
        assert (f"share/man/man{one.number}", one.path.name) in installed


# --- commands and options -------------------------------------------------------------------


def test_each_command_has_its_page_and_each_page_its_command() -> None:
    assert {one.path.name for one in pages() if one.number == 8} == set(PAGES_OF)
    listed = {item.head.split()[0] for item in items(page("manactl.8").section("COMMANDS"))}
    assert listed == set(commands())


def options(command: click.Command) -> dict[str, click.Option | None]:
    """Every visible flag, and the option that it belongs to; None for --help."""
    found: dict[str, click.Option | None] = {"-h": None, "--help": None}
    for param in command.params:
        if isinstance(param, click.Option) and not param.hidden:
            found |= dict.fromkeys([*param.opts, *param.secondary_opts], param)
    return found


def documented(name: str) -> dict[str, str]:
    """Each flag of the page's OPTIONS, and what it takes, as far as the page says so."""
    found = {}
    for item in items(page(name).section("OPTIONS")):
        *others, last = item.head.split(", ")
        flag, _, value = last.partition(" ")
        found |= dict.fromkeys([*others, flag], value)
    return found


@every_command
def test_options_are_those_of_the_command(name: str) -> None:
    known = options(PAGES_OF[name])
    said = documented(name)
    assert said.keys() == known.keys()
    for flag, value in said.items():
        option = known[flag]
        assert bool(value) == bool(option and not (option.is_flag or option.count)), flag


@every_command
def test_the_synopsis_has_every_option(name: str) -> None:
    command = PAGES_OF[name]
    synopsis = " ".join(map(plain, page(name).section("SYNOPSIS")))
    words = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", synopsis))
    for option in set(options(command).values()) - {None}:
        assert option is not None
        assert words & set(option.opts), f"{option.opts} not in: {synopsis}"
    assert words <= options(command).keys() | options(cli).keys()
    for param in command.params:
        if isinstance(param, click.Argument) and command is not cli:
            metavar = (param.metavar or "").strip("[].")
            assert "PORT" in synopsis or metavar in synopsis.replace(" | ", "|")


@every_command
def test_choices_are_named(name: str) -> None:
    named = 0
    for item in items(page(name).section("OPTIONS")):
        option = options(PAGES_OF[name])[item.head.split(", ")[-1].partition(" ")[0]]
        if option is not None and isinstance(option.type, click.Choice):
            for choice in option.type.choices:
                assert re.search(rf"\b{choice}\b", f"{item.head} {item.text}"), choice
                named += 1
    params = PAGES_OF[name].params
    choices = [p.type.choices for p in params if isinstance(p.type, click.Choice)]
    assert named == sum(map(len, choices))


# --- codes ----------------------------------------------------------------------------------


@every_command
def test_exit_codes_are_those_there_are(name: str) -> None:
    found = items(page(name).section("EXIT STATUS"))
    said = [int(item.head) for item in found]
    assert said == sorted(set(said))
    assert set(said) == CODES if name == "manactl.8" else set(said) <= CODES
    assert {0, 1, 2, 130, 141} <= set(said)
    assert all(len(item.text.split()) > 2 for item in found if item.head != "0")


def guards() -> dict[str, bool]:
    """Every guard's code, and whether --allow can waive it."""
    found = {one.__name__.removeprefix("guard_").replace("_", "-") for one in GUARDS}
    assert found == {code for code in Code if code.is_guard}
    assert set(WAIVABLE) <= found
    return {code: bar_of(Code(code)) is None for code in found}


def test_guards_are_those_there_are() -> None:
    said = {item.head: item.text for item in items(page("manactl.8").section("GUARDS"))}
    assert said.keys() == guards().keys()
    for code, waivable in guards().items():
        assert (f"--allow {code}" in said[code]) is waivable, code
        assert ("Cannot be waived" in said[code]) is not waivable, code


def error_codes() -> set[str]:
    """Every `code` that an error document can have beside those of guards."""
    # A StepFailed is told as what became of the whole transition.
    found = {"bug"} | {kind.kind for kind in FAILURES if kind is not StepFailed}
    found |= {str(code) for code in Code}
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.keyword) and node.arg == "code"):
                continue
            if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
                found.add(node.value.value)
    return found - guards().keys()


def test_error_codes_are_those_there_are() -> None:
    lines = page("manactl-status.5").section("The error document", sub=True)
    said = set()
    for line in lines:
        if line.startswith(".Cm "):
            said.add(line.split()[1])
    assert said == error_codes()
    listed = items(lines[lines.index('.Bl -tag -width "130"') :])
    codes = {int(code) for item in listed for code in item.head.split(", ")}
    assert codes == CODES - {0, EXIT_PIPE}


# --- documents and metrics ------------------------------------------------------------------


def keys(schema: Mapping[str, Any], at: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Every key that a document can have, dotted."""
    if "$ref" in at:
        at = {**schema["$defs"][at["$ref"].rpartition("/")[2]], **at}
    for one in at.get("oneOf", ()):
        yield from keys(schema, one, before)
    if "items" in at:
        yield from keys(schema, at["items"], f"{before.removesuffix('.')}[].")
    for name, inner in at.get("properties", {}).items():
        yield before + name
        yield from keys(schema, inner, f"{before}{name}.")


def test_every_key_of_the_schema_is_explained() -> None:
    schema = json.loads((SRC / "schemas/status.schema.json").read_text())
    wanted = [key.removeprefix("ports[].") for key in keys(schema, schema)]
    lines = page("manactl-status.5").section("The status document", sub=True)
    said = [item.head for item in items(lines)]
    assert said == wanted
    assert all(item.text for item in items(lines))


def schemas() -> set[str]:
    """Every format that the program writes for others."""
    text = " ".join(path.read_text() for path in SRC.rglob("*.py"))
    return set(re.findall(r"manactl\.[a-z]+/1", text)) - {"manactl.journal/1"}


def test_every_document_is_named() -> None:
    text = "\n".join(page("manactl-status.5").lines)
    assert {name for name in schemas() if name not in text} == set()


def test_metrics_are_those_there_are() -> None:
    report = Report(datetime.now(UTC), "7.3.4", True, (), ())
    wanted = [family.name for family in families(report, ())]
    said = items(page("manactl-status.5").section("Metrics", sub=True))
    assert [item.head for item in said] == wanted


# --- examples -------------------------------------------------------------------------------


@every_page
def test_examples_are_marked_and_speak_of_what_there_is(page: Page) -> None:
    found = list(page.examples)
    assert found or page.number == 7
    for example in found:
        assert example.scene in {None, ANYWHERE, *SCENES}, f"{page}:{example.line}"
        for command in example.commands:
            for words in _calls(command.text):
                _known(words)


def _calls(text: str) -> Iterator[list[str]]:
    """The words of each call of manactl in a shell command."""
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, "|"]:
        if re.fullmatch(r"[|;&()<>]+", word):
            if words[:1] == ["manactl"]:
                yield words[1:]
            words = []
        else:
            words.append(word)


def _known(words: list[str]) -> None:
    name = next(word for word in words if not word.startswith("-"))
    command = commands()[name]
    for word in takewhile(lambda word: word != "--", words):
        if word.startswith("-") and not word[1:].isdigit():
            assert word in options(command) | options(cli), f"manactl {name} has no {word}"


RUN_HERE = [one for page in pages() for one in page.examples if one.scene == ANYWHERE]


@pytest.mark.parametrize("example", RUN_HERE, ids=lambda one: f"{one.page}:{one.line}")
def test_examples_that_need_no_port_do_what_their_page_shows(
    example: Example, tmp_path: Path
) -> None:
    script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m manactl "$@"\n'
    (tmp_path / "manactl").write_text(script)
    (tmp_path / "manactl").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(SRC.parent)}
    for command in example.commands:
        done = subprocess.run(
            ["sh", "-c", f"exec 2>&1\n{command.text}"],
            env=env,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, differs(command.shown, done.stdout)) == (command.exit, None)


def test_shown_output_is_compared_by_its_shape() -> None:
    printed = "eth1  free\nheld by (pid 77 x) at 0000:01:00.0 since 2026-11-24T00:00:01Z, 1.5 s\n"
    assert differs("eth1 free\nheld by (pid 4 x) ... 7 s", printed) is None
    assert differs("eth1 free held by (pid 4 y)", printed) == "eth1 free held by (pid PID y)"
    assert differs("eth0 free", printed) == "eth0 free"
    assert differs("1 s ... eth1", printed) == "eth1"
