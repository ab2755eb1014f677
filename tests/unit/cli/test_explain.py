"""`manactl explain` as it is typed."""

from __future__ import annotations

import json

import pytest

from manactl.cli import explain
from manactl.cli.main import main
from manactl.explain.find import TOPICS
from tests.unit.wording import wording


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["explain", *words])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    "words",
    [
        ("Failed to create qp queue index 0",),
        ("Failed", "to", "create", "qp", "queue", "index", "0"),
        ("MANA_DRIVER:", "mana_dev_start():", "failed", "to", "start", "tx", "queues", "-19"),
        ("dpdk-tx-queues",),
    ],
)
def test_a_message_quoted_or_not(capsys: pytest.CaptureFixture[str], words: tuple[str]) -> None:
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert out.startswith("dpdk-tx-queues: ")
    for part in ("How to check\n", "    manactl status -v PORT\n", "What to do\n", "Comes from: "):
        with wording:
            assert part in out


def test_a_negative_number_is_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "-19")
    assert code == 0
    assert out.startswith("ENODEV: ")


def test_the_number_of_the_line_alone_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "failed to start tx queues -19")
    assert "\n  19: " in out
    assert "\n  16: " not in out
    _, out, _ = run(capsys, "Not all ports were started")
    assert "\n  19: " in out
    assert "\n  16: " in out


def test_unknown_text_lists_the_nearest_and_is_a_usage_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = run(capsys, "create", "wobbly", "vPort")
    assert code == 2
    assert out == ""
    with wording:
        assert "nothing is known about 'create wobbly vPort'" in err
    assert "open-refused: " in err
    assert "manactl explain" in err


def test_the_number_of_unknown_text_is_named_and_not_explained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = run(capsys, "usb 1-1: device descriptor read/64, error -19")
    assert (code, out) == (2, "")
    with wording:
        assert "its number is ENODEV (No such device)" in err
    assert "manactl explain 19" in err
    assert "another owner" not in err


def test_unknown_text_as_json_is_an_error_document(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "xyzzy", "--json")
    document = json.loads(out)
    assert code == 2
    assert (document["schema"], document["code"]) == ("manactl.error/1", "usage")


def test_without_argument_every_topic_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    listed = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert sorted(listed) == sorted(topic.name for topic in TOPICS)


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--json", "failed to start tx queues -16")
    document = json.loads(out)
    assert code == 0
    assert document["schema"] == "manactl.explain/1"
    assert document["asked"] == "failed to start tx queues -16"
    assert document["errno"] == 16
    (topic,) = document["topics"]
    assert topic["name"] == "dpdk-tx-queues"
    assert "another owner" in topic["with_errno"]
    assert topic["check"][0] == {
        "text": "Who has the port's vport:",
        "command": "manactl status -v PORT",
    }
    _, out, _ = run(capsys, "--json")
    assert len(json.loads(out)["topics"]) == len(TOPICS)


def test_wrapped_on_a_terminal_and_not_in_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, piped, _ = run(capsys, "EBUSY")
    assert max(map(len, piped.splitlines())) > 200
    monkeypatch.setattr(explain, "_width", lambda: 60)
    for topic in TOPICS:
        _, out, _ = run(capsys, topic.name)
        prose = [line for line in out.splitlines() if not line.startswith("    ")]
        assert max(map(len, prose)) <= 60
    _, narrow, _ = run(capsys, "EBUSY")
    assert narrow.split() == piped.split()


def test_hostile_text_is_shown_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "xyzzy\x1b]0;title\x07\u202e")
    assert code == 2
    assert err.isascii()
    assert "\x1b" not in err
