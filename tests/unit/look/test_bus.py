"""Values from what busctl prints, and each way in which it fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from manactl.look import bus
from manactl.look.bus import Bus, Interface
from tests.unit.wording import says

AT = Interface("org.example.A", "/a", "org.example.A.B")


class Said:
    """What was asked, and what busctl prints."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words: list[str] = []

    def __call__(self, words: Sequence[str]) -> str:
        self.words = list(words)
        return self.text


def test_a_call_with_words_and_without() -> None:
    said = Said('{"type":"os","data":["/dev/1","x"]}\n')
    assert Bus(said).call(AT, "Find", "s", "eth1") == ["/dev/1", "x"]
    assert said.words == ["call", "org.example.A", "/a", "org.example.A.B", "Find", "s", "eth1"]
    said.text = ""
    assert Bus(said).call(AT, "Reload") == []
    assert said.words == ["call", "org.example.A", "/a", "org.example.A.B", "Reload"]


def test_properties_in_their_order() -> None:
    said = Said('{"type":"b","data":true}\n{"type":"u","data":100}\n')
    assert Bus(said).get(AT, "Managed", "State") == [True, 100]
    with pytest.raises(OSError, match=says("Managed not all there")):
        Bus(said).get(AT, "Managed")


def test_a_property_is_set() -> None:
    said = Said("")
    Bus(said).put(AT, "Managed", "b", "false")
    assert said.words == ["set-property", *AT, "Managed", "b", "false"]


@pytest.mark.parametrize(("data", "has"), [("true", True), ("false", False)])
def test_who_offers_a_service(data: str, has: bool) -> None:
    said = Said(f'{{"type":"b","data":[{data}]}}\n')
    assert Bus(said).has("org.example.A") is has
    assert said.words[-3:] == ["NameHasOwner", "s", "org.example.A"]


@pytest.mark.parametrize("text", ["no JSON", '{"type":"b"}', "[1]", "7"])
def test_what_is_no_answer_is_an_error(text: str) -> None:
    with pytest.raises(OSError, match=says("is no answer")):
        Bus(Said(text)).call(AT, "Find")


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A busctl of ours, the first in PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    path = tmp_path / "busctl"
    path.touch(mode=0o755)
    return path


def test_the_tool_is_run_so_that_nothing_is_started(tool: Path) -> None:
    tool.write_text('#!/bin/sh\necho "$@"\n')
    words = bus.live(["call", "a b"]).split()
    assert words == ["--json=short", "--auto-start=no", "--timeout=10", "call", "a", "b"]


def test_what_the_tool_says_last_is_the_reason(tool: Path) -> None:
    tool.write_text("#!/bin/sh\necho first >&2; echo 'Call failed: no such device' >&2; exit 1\n")
    with pytest.raises(OSError, match="busctl call: Call failed: no such device"):
        bus.live(["call"])
    tool.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(OSError, match="busctl call: code 3"):
        bus.live(["call"])


def test_a_tool_that_does_not_end_is_left(tool: Path) -> None:
    """Its own time limit is for the call; a bus that says nothing at all is beyond it."""
    tool.write_text('#!/bin/sh\necho "$@" > "$0.words"\nexec cat /dev/zero > /dev/null\n')
    with pytest.raises(OSError, match=says("busctl call does not end")):
        Bus(bus.within(0.5)).call(AT, "Find")
    assert "--timeout=0.5 call org.example.A" in tool.with_suffix(".words").read_text()


def test_without_the_tool(tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tool.parent))
    tool.unlink()
    with pytest.raises(FileNotFoundError):
        bus.live(["call"])
