"""Errors carry what the operator is shown, and each kind has its own exit code and word."""

from __future__ import annotations

import pytest

from manactl import errors
from manactl.model.port import Evidence

KINDS = {
    errors.UsageError: (2, "usage"),
    errors.Refused: (3, "refused"),
    errors.RolledBack: (4, "rolled-back"),
    errors.NotRestored: (5, "not-restored"),
    errors.Busy: (6, "busy"),
    errors.Denied: (7, "denied"),
    errors.Unsupported: (8, "unsupported"),
    errors.Interrupted: (130, "interrupted"),
}


def test_the_codes_are_those_of_the_contract() -> None:
    here = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.ManactlError)
    }
    assert here - {errors.ManactlError} == set(KINDS)
    assert {kind: (kind.exit_code, kind.kind) for kind in KINDS} == KINDS
    assert (errors.ManactlError.exit_code, errors.ManactlError.kind) == (1, "error")


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_error_carries(kind: type[errors.ManactlError]) -> None:
    bare = kind("went wrong")
    assert (str(bare), bare.message, bare.hint, bare.evidence) == (
        "went wrong",
        "went wrong",
        None,
        (),
    )
    assert (bare.code, bare.more) == (kind.kind, {})
    evidence = Evidence("proc", "pid", 7)
    full = kind("went wrong", hint="do this", evidence=iter([evidence]), code="own")
    assert (full.hint, full.evidence, full.code) == ("do this", (evidence,), "own")


def test_what_one_error_has_more_no_other_has() -> None:
    first, second = errors.Busy("a"), errors.Busy("b")
    assert first.more is not second.more


def test_that_nothing_was_touched_is_kept_apart() -> None:
    error = errors.Busy("another one is at work", untouched="nothing was touched")
    assert (error.message, error.story) == (
        "another one is at work; nothing was touched", "another one is at work",
    )  # fmt: skip
    plain = errors.Busy("it is in use")
    assert (plain.message, plain.story, plain.untouched) == ("it is in use", "it is in use", None)
    assert str(error) == error.message
    assert errors.NotRestored("a\nb\nc").first_line == "a"


def test_what_was_done_before_takes_the_place_of_what_is_untouched() -> None:
    error = errors.Busy("locked", untouched="nothing was touched")
    assert str(error) == "locked; nothing was touched"
    assert error.after("eth1 was released") is error
    assert str(error) == error.message == "locked; eth1 was released"
    assert errors.Busy("locked").after("eth1 was released").message == "locked"


def test_an_error_without_a_number_says_what_it_was_given() -> None:
    assert errors.strerror(OSError(5, "Input/output error", "/dev/sda")) == "Input/output error"
    assert errors.strerror(OSError("no answer")) == "no answer"
    bare = OSError()
    bare.errno = 5
    assert errors.strerror(bare) == "Input/output error"
    assert errors.errno_name(OSError(5, "Input/output error")) == "EIO"
    assert errors.errno_name(OSError("no answer")) is None
