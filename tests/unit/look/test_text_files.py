"""Small files: what they have, and None or nothing for whatever cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from manactl.look.text_files import lines, names, number, target, target_name, text


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
