"""A private network namespace for the test's own thread."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import pytest

from manactl.look.rtnetlink import Rtnl
from tests.conftest import lacking
from tests.netns.port import Here, batch, settle

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


@pytest.fixture
def here(netns: None) -> Iterator[Here]:
    batch(
        "link add port0 address 02:00:00:00:00:01 type veth peer name wire0\n"
        "link add other0 type veth peer name wire1\n"
        "link set lo up\nlink set wire0 up\nlink set wire1 up\n"
        "link set port0 up\nlink set other0 up\n"
        "address add 10.8.0.2/24 dev other0\naddress add 2001:db8:8::2/64 dev other0 nodad\n"
    )
    settle()
    with Rtnl() as rtnl:
        yield Here(rtnl, "port0")
