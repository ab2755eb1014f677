"""What all kinds of tests share: skips that become failures where the run insists."""

from __future__ import annotations

import os
import signal

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs so, and every program under test would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def lacking(capability: str, why: str) -> None:
    """Skip the test for want of "netns", "lab", "shells" or "uppers"; fail it where MANACTL_REQUIRE
    names that.

    `make test` requires the first three: there a skip would hide that nothing was tested. "uppers"
    are kinds of device that the host's kernel may not have; the lab's kernels have them all.
    """
    if capability in os.environ.get("MANACTL_REQUIRE", "").split(","):
        pytest.fail(f"{capability} is required (MANACTL_REQUIRE) but missing: {why}")
    pytest.skip(f"no {capability}: {why}")
