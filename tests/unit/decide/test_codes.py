"""The codes of refusals, written out here: they are the contract's."""

from __future__ import annotations

import pytest

from manactl.decide.codes import BARRED, NEEDS_CONFIRM, NEVER, WAIVABLE, Bar, Code, bar_of
from manactl.errors import Busy, Denied, ManactlError, Refused, Unsupported
from tests.unit.wording import wording

BY_NOTHING = ["foreign-netns", "in-reset", "kernel-bug", "unsupported", "holder", "denied", "busy"]
BY_CONFIRM = ["ssh-session", "default-route", "last-port"]
BY_ALLOW = [
    "tcp-established", "storage", "azure-fabric", "rdma-users", "upper", "xdp", "packet-sockets",
    "manager", "sockets", "forwarding",
]  # fmt: skip


def test_the_codes_are_those_of_the_contract() -> None:
    assert sorted(Code) == sorted(BY_NOTHING + BY_CONFIRM + BY_ALLOW)
    assert list(WAIVABLE) == BY_CONFIRM + BY_ALLOW
    assert list(NEVER) == BY_NOTHING[:3]
    assert list(NEEDS_CONFIRM) == BY_CONFIRM
    assert [code for code in Code if not code.is_guard] == BY_NOTHING[3:]


@pytest.mark.parametrize(
    ("code", "error", "exit_code"),
    [
        ("unsupported", Unsupported, 8),
        ("holder", Busy, 6),
        ("denied", Denied, 7),
        ("busy", Busy, 6),
        *((code, Refused, 3) for code in BY_NOTHING[:3] + BY_CONFIRM + BY_ALLOW),
    ],
)
def test_every_code_ends_in_its_failure(
    code: str, error: type[ManactlError], exit_code: int
) -> None:
    assert Code(code).error is error
    assert Code(code).error.exit_code == exit_code


@pytest.mark.parametrize(
    ("code", "bar"),
    [
        *((code, Bar.NEVER) for code in BY_NOTHING),
        *((code, Bar.NEEDS_CONFIRM) for code in BY_CONFIRM),
        *((code, None) for code in BY_ALLOW),
    ],
)
def test_why_a_code_cannot_be_waived(code: str, bar: Bar | None) -> None:
    assert bar_of(Code(code)) is bar


def test_every_bar_has_words_of_its_own() -> None:
    assert set(BARRED) == set(Bar)
    with wording:
        assert len(set(BARRED.values())) == len(Bar)
