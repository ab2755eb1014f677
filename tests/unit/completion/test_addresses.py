"""Which address describes an interface: of the kernel's messages, and of an answer that fails."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from manactl.completion import addresses
from manactl.completion.addresses import Addresses, AddressFacts

# A test runner may have threads; the command has none.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

AF_INET, AF_INET6 = socket.AF_INET, socket.AF_INET6
ADDRESS, LOCAL, FLAGS = 1, 2, 8  # enum of include/uapi/linux/if_addr.h
TEMPORARY, DAD_FAILED, DEPRECATED, TENTATIVE, PERMANENT = 0x01, 0x08, 0x20, 0x40, 0x80
UNIVERSE, SITE, LINK, HOST = 0, 200, 253, 254


def attr(kind: int, payload: bytes) -> bytes:
    size = 4 + len(payload)
    return struct.pack("=HH", size, kind) + payload + bytes(-size % 4)


def message(
    address: str, *, flags: int = PERMANENT, scope: int = UNIVERSE, peer: str | None = None
) -> bytes:
    """RTM_NEWADDR of interface 7; the low bits of the flags alone fit into the header."""
    family = AF_INET6 if ":" in address else AF_INET
    own = socket.inet_pton(family, address)
    body = struct.pack("=BBBBI", family, 24, flags & 0xFF, scope, 7)
    if peer is not None:
        body += attr(ADDRESS, socket.inet_pton(family, peer)) + attr(LOCAL, own)
    elif family == AF_INET:
        body += attr(ADDRESS, own) + attr(LOCAL, own)
    else:
        body += attr(ADDRESS, own)
    return body + attr(FLAGS, struct.pack("=I", flags))


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (message("10.0.1.4"), "10.0.1.4"),
        (message("10.0.1.4", peer="10.0.1.9"), "10.0.1.4"),
        (message("fd00::1"), "fd00::1"),
        (message("fd00::1", peer="fd00::9"), "fd00::1"),
        (message("fd00::1", flags=PERMANENT | DEPRECATED), "fd00::1"),
        (message("fd00::1", flags=TEMPORARY), None),
        # The same bit is IFA_F_SECONDARY for IPv4, which others can reach as well.
        (message("10.0.1.5", flags=PERMANENT | TEMPORARY), "10.0.1.5"),
        (message("fd00::1", flags=TENTATIVE), None),
        (message("fd00::1", flags=PERMANENT | DAD_FAILED), None),
        (message("fe80::1", scope=LINK), None),
        (message("127.0.0.1", scope=HOST), None),
        (message("fec0::1", scope=SITE), None),
    ],
)
def test_an_address_that_others_can_reach(body: bytes, shown: str | None) -> None:
    assert addresses._address(body) == (7, shown)


def test_flags_of_an_old_kernel_are_those_of_the_header() -> None:
    body = struct.pack("=BBBBI", AF_INET6, 64, TENTATIVE, UNIVERSE, 7)
    body += attr(ADDRESS, socket.inet_pton(AF_INET6, "fd00::1"))
    assert addresses._address(body) == (7, None)


def test_a_message_without_an_address_has_none() -> None:
    assert addresses._address(struct.pack("=BBBBI", AF_INET, 24, 0, 0, 7)) == (7, None)


def test_the_answer_of_the_child_by_ifindex(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "read", lambda: {2: ("10.0.1.4", True), 3: (None, False)})
    assert Addresses(wait=60).collect() == {
        2: AddressFacts("10.0.1.4", True),
        3: AddressFacts(None, False),
    }


def test_a_kernel_that_does_not_answer_describes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> dict[int, tuple[str | None, bool]]:
        raise OSError

    monkeypatch.setattr(addresses, "read", refused)
    assert Addresses(wait=60).collect() == {}
    monkeypatch.setattr(addresses, "read", lambda: threading.Event().wait())
    assert Addresses(wait=0).collect() == {}
