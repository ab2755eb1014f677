"""The scripts in completions/ are those that the command tree makes."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
import tools.completions
from tools.completions import bash, fish, tree, zsh
from tools.completions.tree import Command, Kind, Option, Value

from manactl.cli.params import PORT


@pytest.mark.wording
@pytest.mark.parametrize("path", tools.completions.files(), ids=lambda path: path.name)
def test_a_script_is_what_the_tree_makes(path: Path) -> None:
    made = tools.completions.files()[path]
    stale = not path.exists() or path.read_text() != made
    assert not stale, f"{path} is not what the commands say now: run `make completions`"


@click.group()
@click.option("--secret", hidden=True, type=click.Path(file_okay=False))
def group() -> None:
    """A program."""


@group.command()
@click.argument("ports", nargs=-1, type=PORT)
@click.option("-a", "--all", "everything", is_flag=True, help="All\nof it.")
@click.option("--kind", type=click.Choice(["it's", "x"]), help="A [kind]: $HOME.")
@click.option("--many", multiple=True, metavar="N")
@click.option("--to", type=click.Path(dir_okay=False), metavar="FILE")
def one(**_: object) -> None:
    """Do one thing."""


@group.command(hidden=True)
def unseen() -> None:
    """Nobody sees it."""


def test_the_tree_as_it_is_read() -> None:
    program, *below = tree.read(group)
    assert (program.name, program.argument) == ("", None)
    assert program.options[0] == Option(("--secret",), "", False, True, Value(Kind.DIRS, "SECRET"))
    (command,) = below
    help_ = Option(("--help",), "Show this message and exit.", False, False, None)
    assert command == Command(
        "one",
        "Do one thing.",
        (
            Option(("-a", "--all"), "All of it.", False, False, None),
            Option(
                ("--kind",),
                "A [kind]: $HOME.",
                False,
                False,
                Value(Kind.WORDS, "KIND", (("it's", ""), ("x", ""))),
            ),
            Option(("--many",), "", True, False, Value(Kind.ANY, "N")),
            Option(("--to",), "", False, False, Value(Kind.FILES, "FILE")),
            help_,
        ),
        Value(Kind.PORTS, "PORTS"),
        many=True,
    )


@pytest.mark.parametrize("render", [bash.render, zsh.render, fish.render])
def test_hidden_options_are_never_offered(render: object) -> None:
    assert callable(render)
    text = render(tree.read(group))
    for line in text.splitlines():
        if "--secret" in line or "-l secret" in line:
            assert any(mark in line for mark in ("hidden", "'!--secret", "case --secret")), line
    assert "unseen" not in text


def test_a_group_below_the_program_is_not_left_out_in_silence() -> None:
    @click.group()
    def top() -> None: ...

    top.add_command(group, "nested")
    with pytest.raises(NotImplementedError, match="nested"):
        tree.read(top)
