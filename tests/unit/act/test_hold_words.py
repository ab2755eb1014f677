"""What hold cannot do, and what to do about it."""

from __future__ import annotations

import errno
import os

import pytest

from manactl.act import hold_words as words

pytestmark = pytest.mark.wording


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.ENOENT, "neither driver is loaded"), "neither driver is loaded"),
        (OSError(errno.EPERM, "no"), "perf events on kernel functions need CAP_PERFMON"),
        (OSError(errno.EACCES, "no"), "perf events on kernel functions need CAP_PERFMON"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "Too many open files"),
    ],
)
def test_why_nobody_is_known_is_told_so_that_it_can_be_mended(error: OSError, why: str) -> None:
    said = words.openers_unknown(error)
    assert said.startswith(f"who sets a port up will not be known: {why}")
    assert said.endswith("; ports are kept down all the same")


@pytest.mark.parametrize(
    ("number", "what"),
    [
        (errno.EMFILE, "fs.inotify.max_user_instances"),
        (errno.ENOSPC, "fs.inotify.max_user_watches"),
        (errno.ENOMEM, "fix the cause"),
        (None, "fix the cause"),
    ],
)
def test_what_is_used_up_is_told(number: int | None, what: str) -> None:
    error = OSError("why") if number is None else OSError(number, "why")
    assert what in words.not_heard(error)
