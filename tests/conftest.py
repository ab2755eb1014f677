"""What all kinds of tests share: skips that become failures where the run insists."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import NoReturn

import pytest

from tests import other_words

# MANACTL_WORDS=unlike or alike: with other words, all tests but those of wording pass as well.
other_words.install(os.environ.get("MANACTL_WORDS", "plain"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs so, and every program under test would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # nohup(1) does so; we go on outliving the terminal.
    signal.signal(signal.SIGHUP, lambda *_: None)


_LACKING = "not here: "


def lacking(capability: str, why: str) -> NoReturn:
    """Skip the test for want of "netns", "lab", "shells", "uppers" or "fuse"; fail it where
    MANACTL_REQUIRE names that.

    `make test` requires the first three: there a skip would hide that nothing was tested. "uppers"
    are kinds of device that the host's kernel may not have; the lab's kernels have them all. "fuse"
    is /dev/fuse, which a container may not have.
    """
    if capability in os.environ.get("MANACTL_REQUIRE", "").split(","):
        pytest.fail(f"{capability} is required (MANACTL_REQUIRE) but missing: {why}")
    pytest.skip(f"{_LACKING}{capability}: {why}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where capabilities are required, a test that skips itself for another reason fails."""
    report = yield
    required = os.environ.get("MANACTL_REQUIRE")
    if required and report.skipped and _LACKING not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: skipped, and MANACTL_REQUIRE={required} allows none"
    return report
