"""Small files: what they have, and None or nothing for whatever cannot be read."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manactl.look.text_files import (
    LACKS,
    fields,
    lines,
    names,
    number,
    passing_over,
    read,
    rows,
    target,
    target_name,
    text,
    unescaped,
)


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (b"up\n", "up"),
        (b"up", "up"),
        (b"", ""),
        (b"\n", ""),
        (b" a \n\n", " a \n"),  # a name may begin and end with spaces
        (b"a\xffb\n", "a\udcffb"),
        ("\u00e9\n".encode(), "\u00e9"),
    ],
)
def test_text_is_all_but_the_newline_at_the_end(tmp_path: Path, content: bytes, read: str) -> None:
    (tmp_path / "file").write_bytes(content)
    assert text(f"{tmp_path}/file") == read


def test_lines(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one\ntwo\n")
    (tmp_path / "empty").write_text("")
    assert lines(f"{tmp_path}/file") == ["one", "two"]
    assert lines(f"{tmp_path}/empty") == []


@pytest.mark.parametrize(
    ("content", "value"),
    [("7\n", 7), ("0x1003\n", 0x1003), ("-1\n", -1), ("", None), ("x\n", None), ("1 2\n", None)],
)
def test_a_number(tmp_path: Path, content: str, value: int | None) -> None:
    (tmp_path / "file").write_text(content)
    assert number(f"{tmp_path}/file") == value


def test_names_and_links(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("../../drivers/mana")
    (tmp_path / "plain").symlink_to("bond0")
    assert sorted(names(str(tmp_path))) == ["link", "plain"]
    assert target(f"{tmp_path}/link") == "../../drivers/mana"
    assert target_name(f"{tmp_path}/link") == "mana"
    assert target_name(f"{tmp_path}/plain") == "bond0"


@pytest.mark.parametrize("name", ["none", "file/below", "directory", "loop"])
def test_what_cannot_be_read_is_none_or_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "directory").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    path = f"{tmp_path}/{name}"
    assert (text(path), number(path), lines(path), names(path)) == (None, None, [], [])
    if name != "loop":
        assert (target(path), target_name(path)) == (None, None)


ODD = "a\u2028b\x0bc\x0cd\x1ce\x85f\u2029"


def test_lines_end_at_newlines_alone_and_fields_at_blanks_alone(tmp_path: Path) -> None:
    """A mount point with U+2028 in its name hid a holder: its line was two for str.splitlines()."""
    (tmp_path / "file").write_text(f"1 {ODD}\n2\n\n", encoding="utf-8", newline="")
    assert lines(f"{tmp_path}/file") == [f"1 {ODD}", "2"]
    assert rows(f"{ODD}\nx") == [ODD, "x"]
    assert rows("") == []
    assert fields(f"  1\t{ODD}  \u00a0 2 ") == ["1", ODD, "\u00a0", "2"]


@pytest.mark.parametrize("number_", sorted(LACKS))
@pytest.mark.parametrize("ask", [text, lines, names, target, target_name, number, read])
def test_a_lack_of_ours_is_no_empty_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[str], Any], number_: int
) -> None:
    (tmp_path / "file").write_text("x")

    def lacking(*_: Any, **__: Any) -> Any:
        raise OSError(number_, os.strerror(number_))

    for call in ("open", "listdir", "readlink"):
        monkeypatch.setattr(os, call, lacking)
    with pytest.raises(OSError, match=os.strerror(number_)):
        ask(f"{tmp_path}/file")


def test_one_of_many_is_passed_over_but_for_a_lack_of_ours() -> None:
    with passing_over():
        raise PermissionError(errno.EACCES, "x")
    with pytest.raises(OSError, match="x"), passing_over():
        raise OSError(errno.EMFILE, "x")


@pytest.mark.parametrize(
    ("word", "plain"), [("/mnt", "/mnt"), (r"/a\040b\134\011", "/a b\\\t"), (r"\09", r"\09")]
)
def test_a_word_of_a_mount_table(word: str, plain: str) -> None:
    assert unescaped(word) == plain
