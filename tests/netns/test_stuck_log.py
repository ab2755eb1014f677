"""A system log that nobody reads: real sockets at /dev/log, full, in a private mount namespace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import manactl
from tests.conftest import lacking

pytestmark = pytest.mark.netns
SHELL = """
set -e
mount --make-rprivate /
mkdir "$1/dev"
mount --bind /dev "$1/dev"
mount -t tmpfs none /run
mount -t tmpfs none /dev
for node in null urandom; do touch /dev/$node; mount --bind "$1/dev/$node" /dev/$node; done
exec "$2" -c "$3" "$4" "$1/state"
"""
# Forks inherit the sockets: they are there, and full, as long as this program runs.
STUCK = """
import os, socket, subprocess, sys
kind = getattr(socket, sys.argv[1])
log = socket.socket(socket.AF_UNIX, kind)
log.bind("/dev/log")
if kind == socket.SOCK_STREAM:
    log.listen(0)
others = []
while True:
    one = socket.socket(socket.AF_UNIX, kind)
    one.setblocking(False)
    try:
        one.connect("/dev/log")
        if kind == socket.SOCK_DGRAM:
            one.send(bytes(1000))
    except BlockingIOError:
        break
    others.append(one)
command = [sys.executable, "-m", "manactl", "--state-dir", sys.argv[2], "release"]
done = subprocess.run([*command, *(f"eth{n}" for n in range(60000))], stdin=subprocess.DEVNULL,
                      capture_output=True, text=True, timeout=60)
print(done.returncode, len(others) > 0)
print(done.stderr[:200], file=sys.stderr)
"""


@pytest.mark.parametrize("kind", ["SOCK_DGRAM", "SOCK_STREAM"])
def test_a_release_of_60000_words_does_not_wait_for_a_log_that_nobody_reads(
    tmp_path: Path, kind: str
) -> None:
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", SHELL, "sh", str(tmp_path), sys.executable, STUCK, kind],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(manactl.__file__).parents[1])},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if "ermission denied" in done.stderr or "not permitted" in done.stderr:
        lacking("netns", done.stderr)
    assert done.stdout.split() == ["2", "True"], done.stderr
    assert "eth0" in done.stderr
