from __future__ import annotations

import json
import os
import subprocess
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manactl.escape import called, command, escape
from manactl.model.port import Evidence
from manactl.render.document import dumps, error_document, timestamp

HOSTILE = st.text(st.characters()) | st.binary().map(
    lambda raw: raw.decode("utf-8", "surrogateescape")
)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("eth0", "eth0"),
        ("größe", "größe"),
        ("[red]x[/red]", "[red]x[/red]"),
        ("a\x1b[31mb", "a\\e[31mb"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("tab\tnul\0", "tab\\tnul\\x00"),
        ("c1\x9b31m", "c1\\x9b31m"),
        ("rtl\u202eevil", "rtl\\u202eevil"),
        ("line\u2028mark", "line\\u2028mark"),
        ("cut\udce2\udc82", "cut\\xe2\\x82"),
        ("high\U000e0001", "high\\U000e0001"),
    ],
)
def test_what_is_not_printable_is_spelled_out(raw: str, shown: str) -> None:
    assert escape(raw) == shown


@given(HOSTILE)
def test_whatever_the_name_the_line_is_one_printable_line(raw: str) -> None:
    shown = escape(raw)
    assert shown.isprintable()
    assert len((shown + "\n").splitlines()) == 1
    shown.encode()


@given(HOSTILE)
def test_json_is_ascii_and_reads_back(raw: str) -> None:
    text = dumps({"name": raw, "list": [raw], raw: None})
    assert text.isascii()
    back = json.loads(text)
    try:
        raw.encode()
    except UnicodeEncodeError:
        assert back["name"] == escape(raw)
    else:
        assert back["name"] == raw


def test_error_document_has_every_key() -> None:
    document = error_document("busy", "held", "wait", [Evidence("proc", "fd", [7])])
    assert json.loads(dumps(document)) == {
        "schema": "manactl.error/1",
        "code": "busy",
        "message": "held",
        "hint": "wait",
        "evidence": [{"source": "proc", "fact": "fd", "value": [7]}],
    }


def test_timestamps_are_utc() -> None:
    noon = datetime(2026, 11, 22, 13, 0, 0, 999, timezone(timedelta(hours=1)))
    assert timestamp(noon) == "2026-11-22T12:00:00Z"


WORDS = st.text(st.characters(exclude_characters="\0")) | st.binary().map(
    lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape")
)


@given(st.lists(st.one_of(WORDS, st.sampled_from(["", "a b", "$(id)", "x'y", "-n", "~", "#"]))))
@settings(max_examples=30, deadline=None)
def test_a_printed_command_is_these_words_to_a_shell(words: list[str]) -> None:
    words = [word for word in words if encodable(word)]
    printed = escape(command("printf", r"%s\0", *words))
    done = subprocess.run(["bash", "-c", printed], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:-1] == [os.fsencode(word) for word in words] or not words


def encodable(word: str) -> bool:
    """What a file system or a process can give us as a name."""
    try:
        os.fsencode(word)
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (("manactl", "release", "eth1"), "manactl release eth1"),
        (("rm", "/dev/hugepages/a;id;"), "rm '/dev/hugepages/a;id;'"),
        (("x", "it's"), "x 'it'\\''s'"),
        (("x", ""), "x ''"),
        (("x", "a\n1"), "x $'a\\0121'"),
    ],
)
def test_a_command_is_quoted_only_where_it_must_be(words: tuple[str, ...], printed: str) -> None:
    assert command(*words) == printed


def test_a_name_in_a_sentence_writes_no_line_of_its_own() -> None:
    assert called("x\nmanactl: all is released") == "x\\nmanactl: all is released"
    assert [called(None), called("", "a thread"), called("testpmd")] == ["?", "a thread", "testpmd"]
    assert escape(called("\x1b[2J\udcff")) == called("\x1b[2J\udcff") == "\\e[2J\\xff"
