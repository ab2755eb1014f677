"""Signals that arrive as bytes, and handlers that are as before afterwards."""

from __future__ import annotations

import os
import select
import signal
from typing import Any

import pytest

from manactl.signal_pipe import piped

NOTED, ENDING = (signal.SIGWINCH, signal.SIGCONT), (signal.SIGTERM, signal.SIGHUP)


def wakeup() -> int:
    found = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(found)
    return found


def test_signals_arrive_as_bytes_and_handlers_come_back() -> None:
    before = {number: signal.getsignal(number) for number in (*NOTED, *ENDING)}
    told = wakeup()
    with piped(NOTED, ENDING) as descriptor:
        os.kill(os.getpid(), signal.SIGWINCH)
        os.kill(os.getpid(), signal.SIGCONT)
        assert select.select([descriptor], [], [], 10)[0]
        assert sorted(os.read(descriptor, 64)) == sorted(NOTED)
        with pytest.raises(BlockingIOError):
            os.read(descriptor, 64)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert {number: signal.getsignal(number) for number in before} == before
    assert wakeup() == told


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_that_ends_is_an_exit_with_its_byte(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with piped(NOTED, ENDING) as descriptor:
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(number)
        assert os.read(descriptor, 64) == bytes([number])
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) is before


def test_a_signal_that_is_only_noted_ends_nothing() -> None:
    with piped(ENDING) as descriptor:
        signal.raise_signal(signal.SIGTERM)
        assert os.read(descriptor, 64) == bytes([signal.SIGTERM])


def test_a_signal_that_comes_with_its_handler_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    told, before = wakeup(), signal.getsignal(signal.SIGTERM)
    install = signal.signal
    watched: list[bool] = []

    def installed(number: int, handler: Any) -> Any:
        watched.append(wakeup() != told)
        was = install(number, handler)
        if handler is not before:
            os.kill(os.getpid(), number)
        return was

    monkeypatch.setattr(signal, "signal", installed)
    with piped([signal.SIGTERM]) as descriptor:
        assert os.read(descriptor, 64) == bytes([signal.SIGTERM])
    assert watched == [True, True]
    assert wakeup() == told


def test_signals_that_are_not_named_keep_their_handlers() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with piped(NOTED):
        assert signal.getsignal(signal.SIGUSR1) is before
