"""The tables are whole: every code and sentence of ours has a topic, and what a topic says holds."""

from __future__ import annotations

import ast
import errno
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import manactl
from manactl import errors
from manactl.cli import main
from manactl.cli.main import cli
from manactl.decide import port_words
from manactl.decide.codes import WAIVABLE, Code, bar_of
from manactl.decide.port_words import NOTES, because
from manactl.explain.find import BY_NAME, TOPICS, find
from manactl.explain.topic import Kind, Step, Topic
from manactl.model.port import Certainty, Owner

SRC = Path(manactl.__file__).parent
HERE = "say what it means in src/manactl/explain/"
NOT_RAISED = {"error", "step"}  # the root of the tree; a step that failed, which is told by another


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in SRC.rglob("*.py"):
        if path.parent.name != "explain":
            yield path, ast.parse(path.read_text())


def words_of(node: ast.expr) -> Iterator[str]:
    """Constant strings of an expression; an f-string with an X for each hole."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        parts = [v.value if isinstance(v, ast.Constant) else "X" for v in node.values]
        yield "".join(map(str, parts))
    elif isinstance(node, ast.IfExp):
        yield from words_of(node.body)
        yield from words_of(node.orelse)


def codes() -> set[str]:
    """Every code word that an error document or a refusal can have, by the source."""
    found: set[str] = set()
    for _, tree in trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            for keyword in node.keywords:
                if keyword.arg == "code":
                    found |= set(words_of(keyword.value))
    return found


def error_types() -> Iterator[type[errors.ManactlError]]:
    queue = [errors.ManactlError]
    while queue:
        kind = queue.pop()
        queue += kind.__subclasses__()
        yield kind


def test_every_code_has_a_topic() -> None:
    known = codes()
    assert {"drift", "journal", "residue"} <= known, "the search found too little"
    known |= set(Code)
    known |= {kind.kind for kind in error_types()} - NOT_RAISED
    assert known <= set(BY_NAME), f"{HERE}: {sorted(known - set(BY_NAME))}"


def test_every_guard_is_a_topic_of_that_kind() -> None:
    for code in WAIVABLE:
        assert BY_NAME[code].kind is Kind.GUARD


def test_a_waiver_is_offered_where_there_is_one() -> None:
    for code in WAIVABLE:
        offered = any(f"--allow {code}" in (s.command or "") for s in BY_NAME[code].remedy)
        assert offered is (bar_of(code) is None), code


def test_every_exit_code_has_the_topic_of_its_kind() -> None:
    for kind in error_types():
        if kind.kind not in NOT_RAISED and kind.__name__ != "JournalError":
            assert BY_NAME[kind.kind].exit_code == kind.exit_code
    assert BY_NAME["bug"].exit_code == main.EXIT_BUG
    assert BY_NAME["pipe"].exit_code == main.EXIT_PIPE
    exits = [topic.exit_code for topic in TOPICS if topic.exit_code is not None]
    assert len(exits) == len(set(exits))


@pytest.mark.parametrize("word", [*Owner, *Certainty])
def test_words_of_status_have_a_topic(word: str) -> None:
    assert find(word).topics[0].name == word


@pytest.mark.wording
@pytest.mark.parametrize("sentence", sorted(map(because, port_words.REASONS)))
def test_every_reason_has_a_topic(sentence: str) -> None:
    found = find(sentence)
    assert found.topics, f"{HERE}states.py: {sentence!r}"
    assert found.topics[0].kind is Kind.STATUS


@pytest.mark.wording
@pytest.mark.parametrize(
    "sentence", [words for code, words in NOTES.items() if code.startswith("drift")]
)
def test_every_drift_sentence_is_drift(sentence: str) -> None:
    assert BY_NAME["drift"] in find(sentence).topics, f"{HERE}states.py: {sentence!r}"


def filled(form: str) -> str:
    return (
        form.removeprefix("^")
        .replace("<n>", "-16")
        .replace("<name>", "eth1")
        .replace("<any>", " x")
    )


@pytest.mark.parametrize(
    ("topic", "form"),
    [pytest.param(t, form, id=f"{t.name}-{form}") for t in TOPICS for form in t.forms],
)
def test_every_form_finds_its_topic_with_anything_around_it(topic: Topic, form: str) -> None:
    text = filled(form)
    around = f"[   73.397977] mana 0000:01:00.0 eth1: {text} and more"
    for line in (text, text.upper(), f"{text} and more" if form.startswith("^") else around):
        assert topic in find(line).topics, line
    assert topic in find(text.replace(" ", "  ")).topics


def test_names_are_one_word_and_unlike_each_other() -> None:
    assert len(BY_NAME) == len(TOPICS)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]+|E[A-Z]+", topic.name) for topic in TOPICS)


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_a_topic_is_whole(topic: Topic) -> None:
    assert topic.means.endswith((".", ")")), "sentences"
    assert not topic.origin.endswith("."), "the printer adds the stop"
    assert all(name.lower() in BY_NAME for name in topic.see), topic.see
    assert topic.name not in topic.see
    for number, text in topic.by_errno.items():
        assert number in errno.errorcode
        assert text
        assert not text.endswith(".")


@pytest.mark.parametrize("topic", [t for t in TOPICS if t.kind is Kind.ERRNO], ids=lambda t: t.name)
def test_errnos_are_the_kernels(topic: Topic) -> None:
    assert topic.errno is not None
    assert errno.errorcode[topic.errno] == topic.name.replace("EOPNOTSUPP", "ENOTSUP") or (
        getattr(errno, topic.name) == topic.errno
    )
    assert topic.forms == (os.strerror(topic.errno),)
    for form in (topic.name, str(topic.errno), f"-{topic.errno}", f"errno {topic.errno}"):
        assert topic in find(form).topics, form


def commands() -> Iterator[str]:
    """Every command line of manactl that a topic shows."""
    for topic in TOPICS:
        for step in (*topic.check, *topic.remedy):
            for part in re.split(r"[;|] ", step.command or ""):
                _, found, line = f" {part}".partition(" manactl ")
                if found:
                    yield line


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_our_commands_are_spelled_as_they_are(line: str) -> None:
    """As far as click looks before it runs one."""
    name, *words = shlex.split(line)
    root = click.Context(cli, info_name="manactl")
    command = cli.get_command(root, name)
    assert command is not None, line
    with command.make_context(name, words, parent=root) as ctx:
        for code in ctx.params.get("allow", ()):
            assert code == "GUARD" or code in WAIVABLE
        for word in ctx.params.get("words", ()) if name == "explain" else ():
            assert word == "GUARD" or word.lower() in BY_NAME


def test_commands_stand_alone() -> None:
    """A command line can be copied: no placeholder in brackets, no sentence."""
    for topic in TOPICS:
        for step in (*topic.check, *topic.remedy):
            assert isinstance(step, Step)
            assert "<" not in (step.command or "")
            assert step.text.endswith((":", ".")), step.text
            assert step.text.endswith(":") is (step.command is not None), step.text
