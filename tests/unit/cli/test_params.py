"""The parameters that commands share, on a command made of them."""

from __future__ import annotations

import click
import pytest
from click.shell_completion import CompletionItem
from click.testing import CliRunner

from manactl.cli import complete, params


@click.command()
@click.argument("words", nargs=-1, type=params.PORT)
@click.option("--raw-qp", type=params.CLAIMABLE)
@click.option("--undo", type=params.CLAIMED)
@click.option("--allow", multiple=True, type=params.GUARD_CODE)
@params.json_option
@params.color_option
def command(**given: object) -> None:
    """Print what was given."""
    click.echo(repr(given))


def given(*words: str) -> dict[str, object]:
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: dict[str, object] = eval(result.output)
    return found


def test_defaults_and_values() -> None:
    assert given() == {
        "words": (),
        "raw_qp": None,
        "undo": None,
        "allow": (),
        "as_json": False,
        "color": "auto",
    }
    found = given(
        "eth1", "--raw-qp", "x", "--allow", "y", "--allow", "z", "--json", "--color=never"
    )
    assert found == {
        "words": ("eth1",),
        "raw_qp": "x",
        "undo": None,
        "allow": ("y", "z"),
        "as_json": True,
        "color": "never",
    }


def test_any_word_may_be_a_port_and_only_three_are_colours() -> None:
    assert given("7870:00:00.0:1", "\udcff", "no such")["words"] == (
        "7870:00:00.0:1",
        "\udcff",
        "no such",
    )
    for color in ("auto", "always", "never"):
        assert given("--color", color)["color"] == color
    assert CliRunner().invoke(command, ["--color", "sometimes"]).exit_code == 2


@pytest.mark.parametrize(
    ("name", "which"), [("words", "all"), ("raw_qp", "claimable"), ("undo", "claimed")]
)
def test_a_port_is_completed_by_the_ports_it_is_for(
    monkeypatch: pytest.MonkeyPatch, name: str, which: str
) -> None:
    asked: list[tuple[object, ...]] = []

    def ports(
        ctx: click.Context, param: click.Parameter, start: str, kind: str
    ) -> list[CompletionItem]:
        asked.append((ctx, param, start, kind))
        return [CompletionItem("eth1")]

    monkeypatch.setattr(complete, "ports", ports)
    with click.Context(command) as ctx:
        (param,) = [one for one in command.params if one.name == name]
        assert [item.value for item in param.shell_complete(ctx, "e")] == ["eth1"]
    assert asked == [(ctx, param, "e", which)]


def test_codes_and_topics_are_completed_by_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def guard_codes(
        _ctx: click.Context, _param: click.Parameter, start: str
    ) -> list[CompletionItem]:
        return [CompletionItem(f"code {start}")]

    def topics(_ctx: click.Context, _param: click.Parameter, start: str) -> list[CompletionItem]:
        return [CompletionItem(f"topic {start}")]

    monkeypatch.setattr(complete, "guard_codes", guard_codes)
    monkeypatch.setattr(complete, "topics", topics)
    with click.Context(command) as ctx:
        (allow,) = [one for one in command.params if one.name == "allow"]
        assert [item.value for item in allow.shell_complete(ctx, "x")] == ["code x"]
        assert [i.value for i in params.complete_topic(ctx, allow, "y")] == ["topic y"]
