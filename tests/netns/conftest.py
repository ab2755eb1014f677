"""A private network namespace for the test's own thread."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import pytest

from tests.conftest import lacking

_CLONE_NEWNET = 0x40000000


@pytest.fixture
def netns() -> Iterator[None]:
    """Run the test in a fresh network namespace (lo only, down); needs CAP_SYS_ADMIN.

    Namespaces are per thread, so sockets opened by the test belong to the new one while the
    rest of the process stays where it was. /sys still shows the old one.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_CLONE_NEWNET):
            lacking("netns", os.strerror(ctypes.get_errno()))
        try:
            yield
        finally:
            assert libc.setns(before, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(before)
