"""Whatever standard input, output and error are, the exit code is the deed's, and nothing of ours
gets their numbers."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path

import pytest

from tests.unit.cli.test_claim_release import other_boot
from tests.unit.cli.test_main import SRC

STATES = ("closed", "full", "broken", "null")
# Words, whether their output is the work itself, and whether they print anything.
COMMANDS = (
    (["--version"], True),
    (["status"], True),
    (["status", "--json"], True),
    (["status", "nosuch0", "--json"], False),
    (["explain", "EBUSY"], True),
    (["--no-such"], False),
    (["claim", "--raw-qp", "nosuch0"], False),
    (["claim", "--raw-qp", "nosuch0", "--json"], False),
    (["release"], False),
    (["release", "--json"], False),
    (["release", "--dry-run"], False),
    (["recover"], False),
    (["recover", "--json"], False),
)


def start(
    words: Iterable[str], state_dir: Path, states: tuple[str, str, str], **env: str
) -> tuple[int, str | None, str | None]:
    """Run it with 0, 1 and 2 in these states ("read" is one that is read); what came out."""
    program = "import os, sys\nfor n in sys.argv[1].split(): os.close(int(n))\n"
    program += "os.execv(sys.executable, [sys.executable, '-m', 'manactl', *sys.argv[2:]])"
    closed = " ".join(str(number) for number, state in enumerate(states) if state == "closed")
    with ExitStack() as stack:
        files: list[int] = []
        for number, state in enumerate(states):
            if state == "broken":
                read, write = os.pipe()
                os.close(read if number else write)
                files.append(write if number else read)
                stack.callback(os.close, files[-1])
            elif state == "read":
                files.append(subprocess.PIPE if number else subprocess.DEVNULL)
            else:
                path = {"full": "/dev/full", "null": "/dev/null"}.get(state, "/dev/null")
                files.append(os.open(path, os.O_RDWR))
                stack.callback(os.close, files[-1])
        done = subprocess.run(
            [sys.executable, "-c", program, closed, "--state-dir", str(state_dir), *words],
            stdin=files[0], stdout=files[1], stderr=files[2], text=True, check=False, timeout=60,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": SRC, **env},
        )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


class Judge:
    """Runs commands with streams as they should be, once, and then with others."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._sane: dict[str, tuple[int, str | None, bool, str]] = {}
        self._runs = 0

    def _run(
        self, words: Sequence[str], states: tuple[str, str, str]
    ) -> tuple[int, str | None, bool, str]:
        self._runs += 1
        directory = self._base / f"{self._runs:06}"
        directory.mkdir(parents=True)
        path = other_boot(directory)
        code, out, err = start(words, directory, states)
        assert "Traceback" not in (err or "")
        shown = None if out is None else out.replace(str(directory), "")
        return code, shown, path.exists(), err or ""

    def __call__(self, words: Sequence[str], shows: bool, states: tuple[str, str, str]) -> None:
        key = " ".join(words)
        if key not in self._sane:
            self._sane[key] = self._run(words, ("read", "read", "read"))
        code, out, left, _ = self._sane[key]
        got, shown, still, err = self._run(words, states)
        assert still is left, "what is done does not depend on who can read of it"
        if states[1] in {"read", "null"} or not shows or code:
            assert got == code, (words, states, err)
        else:
            assert got == (141 if states[1] == "broken" else 1), (words, states, err)
        if states[1] == "read":
            assert _undated(shown) == _undated(out)


def _undated(text: str | None) -> str:
    """Without what differs from one moment to the next."""
    return re.sub(r"\d\d\d\d-\d\d-\d\d[T ][0-9:.]+", "TIME", text or "")


EVERY = [
    (words, shows, states)
    for words, shows in COMMANDS
    for states in product((*STATES, "read"), repeat=3)
    if set(states) != {"read"}
]


def test_streams_that_cannot_be_used_change_no_deed(tmp_path: Path) -> None:
    judge = Judge(tmp_path)
    for words, shows, states in random.Random("streams").sample(EVERY, 40):
        judge(words, shows, states)


@pytest.mark.soak
def test_all_streams_that_cannot_be_used_change_no_deed(tmp_path: Path) -> None:
    judge = Judge(tmp_path)
    for words, shows, states in EVERY:
        judge(words, shows, states)


@pytest.mark.parametrize("state", ["closed", "full", "broken"])
def test_the_code_of_a_failure_survives_standard_error(tmp_path: Path, state: str) -> None:
    """And the document comes all the same."""
    words = ["claim", "--raw-qp", "nosuch0", "--json"]
    code, out, _ = start(words, tmp_path, ("read", "read", state))
    sane, _, _ = start(words, tmp_path, ("read", "read", "read"))
    assert code == sane > 1
    assert json.loads(out or "")["schema"] == "manactl.error/1"


@pytest.mark.parametrize(("state", "code"), [("closed", 1), ("full", 1), ("broken", 141)])
def test_what_only_prints_has_failed_without_standard_output(
    tmp_path: Path, state: str, code: int
) -> None:
    for words in (["status"], ["explain", "EBUSY"]):
        assert start(words, tmp_path, ("read", state, "read"))[0] == code


PRINTING = (
    "history", "status", "status --json", "explain EBUSY", "explain", "--help", "--version",
    "claim --help", "help claim",
)  # fmt: skip


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", PRINTING)
def test_standard_output_that_is_full_is_no_bug(
    tmp_path: Path, words: str, unbuffered: str
) -> None:
    code, _, err = start(
        words.split(), tmp_path, ("read", "full", "read"), PYTHONUNBUFFERED=unbuffered
    )
    assert (code, err) == (1, "manactl: standard output: No space left on device\n")


def test_standard_output_that_does_not_block_and_has_no_room_is_no_bug(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with open(read, "rb"), open(write, "wb", buffering=0) as pipe:
        while pipe.write(bytes(4096)):
            pass
        done = subprocess.run(
            [sys.executable, "-m", "manactl", "--state-dir", str(tmp_path), "status"],
            stdout=pipe, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": SRC},
        )  # fmt: skip
    said = "manactl: standard output: Resource temporarily unavailable\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize("words", [["status", "--json"], ["history"]])
def test_unbuffered_output_is_whole(tmp_path: Path, words: list[str]) -> None:
    states = ("read", "read", "read")
    code, out, err = start(words, tmp_path, states)
    again = start(words, tmp_path, states, PYTHONUNBUFFERED="1")
    assert (again[0], _undated(again[1]), again[2]) == (code, _undated(out), err)
    assert out


@pytest.mark.parametrize("state", ["closed", "full", "broken"])
def test_a_deed_is_done_without_standard_output(tmp_path: Path, state: str) -> None:
    path = other_boot(tmp_path)
    code, _, err = start(["release"], tmp_path, ("read", state, "read"))
    assert code == 0
    assert not path.exists()
    assert ("standard output" in (err or "")) is (state != "broken")
    assert "bug" not in (err or "")


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1 2", "1 2", "0 2"])
def test_nothing_of_ours_is_standard_input_output_or_error(tmp_path: Path, closed: str) -> None:
    """What main() finds there: /dev/null, which cannot be used the way it was meant."""
    report = tmp_path / "report"
    program = (
        "import os, sys\n"
        "for n in sys.argv[1].split(): os.close(int(n))\n"
        "import manactl.__main__\n"
        "with open(sys.argv[2], 'w') as file:\n"
        "    print(*(os.readlink(f'/proc/self/fd/{n}') for n in range(3)), file.fileno() > 2,\n"
        "          sys.stdout is not None, sys.stderr is not None, file=file)\n"
        "    for n, use in ((0, lambda: os.read(0, 1)), (1, lambda: os.write(1, b'x')),\n"
        "                   (2, lambda: os.write(2, b'x'))):\n"
        "        try: use(); print('used', file=file)\n"
        "        except OSError as error: print(error.errno, file=file)\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, closed, str(report)],
        env={"PYTHONPATH": SRC}, stdin=subprocess.DEVNULL, capture_output=True,
        check=True, timeout=60,
    )  # fmt: skip
    first, *uses = report.read_text().splitlines()
    *targets, above, out, err = first.split()
    assert (above, out, err) == ("True", "True", "True")
    for number, (target, use) in enumerate(zip(targets, uses, strict=True)):
        if str(number) in closed.split():
            assert (target, use) == ("/dev/null", "9")
        else:
            assert use == "used"
