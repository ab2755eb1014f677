"""Whatever processes, netdevs, units and containers are called: what is printed is harmless."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from manactl.cli.app import App
from manactl.cli.main import _fail
from manactl.cli.watch import Blocks, JsonLines, MetricsFile, Painting, View
from manactl.decide.port_names import names, resolve
from manactl.errors import ManactlError, UsageError
from manactl.escape import escape
from manactl.model.port import Report
from manactl.render import table
from manactl.render.changes import changes
from manactl.render.document import dumps, error_document, status_document
from manactl.render.prometheus import exposition
from manactl.render.status import plain
from tests.unit.reports import evidence, hostile, reports

COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # what we ourselves send to a terminal, and nothing else


# A report is drawn from hundreds of choices: shrinking one takes minutes, and adds little.
FEW = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)


def harmless(text: str) -> None:
    """Nothing that moves a cursor, hides, reorders or ends a line; and it can be encoded."""
    for line in text.split("\n"):
        assert line.isprintable(), repr(line)
    text.encode()


def harmless_colour(text: str) -> None:
    harmless(COLOUR.sub("", text))


class Shown:
    """Takes the place of the screen: what is painted, as text."""

    size = (80, 24)
    keyboard = None

    def __init__(self) -> None:
        self.text = ""

    def paint(self, lines: Iterable[str]) -> None:
        self.text = "\n".join(lines)


def captured(patch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    patch.setattr("sys.stdout", stream)
    return stream


@given(reports, st.booleans())
@FEW
def test_plain(report: Report, verbose: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        out = captured(patch)
        App().out(*plain(report, report.ports, verbose=verbose))
    harmless(out.getvalue())
    if not verbose:
        rows = out.getvalue().splitlines()[1 : 1 + len(report.ports)]
        for port, row in zip(report.ports, rows, strict=True):
            assert row.startswith(escape(port.label))


@given(reports, st.booleans(), st.booleans())
@FEW
def test_table_at_80_columns(report: Report, verbose: bool, color: bool) -> None:
    shown = table.lines(report, report.ports, verbose=verbose, width=80, color=color, marked=())
    harmless_colour("\n".join(shown))
    if not color:
        harmless("\n".join(shown))
    # No name adds a line to the table, or widens it.
    rows = shown[: 1 + len(report.ports)] if report.ports else []
    assert all(cell_len(COLOUR.sub("", row)) <= 80 for row in rows)
    for port, row in zip(report.ports, rows[1:], strict=True):
        assert str(port.owner) in row


@given(reports)
@FEW
def test_json_reads_back_as_what_was_there(report: Report) -> None:
    """Exactly so, but for bytes that were no UTF-8: JSON has none, so they are spelled out."""
    document = status_document(report, report.ports)
    for text in (dumps(document), dumps(document, indent=None)):
        assert text.isascii()
        harmless(text)
        ports = json.loads(text)["ports"]
        for port, read in zip(report.ports, ports, strict=True):
            assert read["netdev"] == (port.netdev and _spelled(port.netdev.name))
            for holder, back in zip(port.holders, read["holders"], strict=True):
                assert back["comm"] == _spelled(holder.comm)
                assert back["unit"] == _spelled(holder.unit)
                assert back["container"] == _spelled(holder.container)
    assert "\n" not in dumps(document, indent=None)


def _spelled(text: str | None) -> str | None:
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        return escape(text or "")
    return text


@given(reports)
@FEW
def test_prometheus(report: Report) -> None:
    harmless(exposition(report, report.ports))


@given(reports, reports)
@FEW
def test_watch_piped_and_on_a_screen(one: Report, other: Report) -> None:
    # The same ports with everything else different, so that every change is told.
    ports = tuple(new._replace(id=old.id) for old, new in zip(one.ports, other.ports, strict=False))
    views = [View(one, one.ports), View(one, ports), View(other, other.ports)]
    screen = Shown()

    def lines(view: View, width: int, marked: frozenset[tuple[str, int]]) -> list[str]:
        return table.lines(*view, verbose=True, width=width, color=True, marked=marked)

    with pytest.MonkeyPatch.context() as patch:
        out = captured(patch)
        outs = [Blocks(App(), lambda view: list(plain(*view, verbose=True))), JsonLines()]
        painting = Painting(screen, -1, lines)  # type: ignore[arg-type]
        for view in views:
            for outlet in (*outs, painting):
                outlet.show(view)
            harmless_colour(screen.text)
            assert len(screen.text.splitlines()) <= 24
        harmless(out.getvalue())


@given(reports)
@FEW
def test_watch_into_a_file(tmp_path_factory: pytest.TempPathFactory, report: Report) -> None:
    path = Path(tmp_path_factory.mktemp("out")) / "f.prom"
    MetricsFile(path).show(View(report, report.ports))
    assert path.read_text() == exposition(report, report.ports)


@given(reports, reports)
@FEW
def test_changes_are_one_line_each(one: Report, other: Report) -> None:
    ports = tuple(new._replace(id=old.id) for old, new in zip(one.ports, other.ports, strict=False))
    for change in changes(one.ports, ports):
        assert str(change).isprintable()
    assert not list(changes(one.ports, one.ports))


@given(st.lists(hostile, max_size=3), hostile, st.lists(evidence, max_size=2))
@FEW
def test_errors(words: list[str], hint: str, facts: list[object]) -> None:
    error = ManactlError("\n".join(words), hint=hint, evidence=facts)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        out, err = io.StringIO(), io.StringIO()
        patch.setattr("sys.stdout", out)
        patch.setattr("sys.stderr", err)
        _fail(App(), error, as_json=True)
    harmless(err.getvalue())
    assert json.loads(out.getvalue()) == json.loads(
        dumps(error_document("error", error.message, hint, error.evidence))
    )


@given(reports, hostile)
@FEW
def test_a_port_that_is_not_there_lists_each_port_on_a_line(report: Report, word: str) -> None:
    assume(not any(word.lower() in map(str.lower, names(port)) for port in report.ports))
    assume(not any(word in port.claimed_names for port in report.ports))
    with pytest.raises(UsageError) as told:
        resolve(report, [word])
    assert told.value.message.isprintable()
    assert len((told.value.hint or "").splitlines()) <= 1 + len(report.ports)
