"""What is said of programs that interfere: who, what they may do, and how to keep them off."""

from __future__ import annotations

import shlex

import pytest

from manactl.decide import daemon_words
from manactl.netstate.surroundings import Daemon, Does, Process

TIMERS = ("cloud-netconfig", "nm-cloud-setup")
OF_NO_PORT = (*TIMERS, "WALinuxAgent")


def daemon(does: Does, *processes: Process) -> Daemon:
    return Daemon("FRR", does, processes)


def test_a_program_is_named_with_its_processes() -> None:
    assert daemon_words.who(daemon(Does.ROUTES)) == "FRR"
    both = daemon(Does.ROUTES, Process(7, "zebra"), Process(9, "zebra"))
    assert daemon_words.who(both) == "FRR (pid 7 zebra, pid 9 zebra)"


@pytest.mark.wording
@pytest.mark.parametrize(
    ("does", "word"), [(Does.LINKS, "set eth1 up"), (Does.ROUTES, "eth1 goes down")]
)
def test_what_it_may_do_is_said_of_the_port(does: Does, word: str) -> None:
    assert word in daemon_words.effect(daemon(does), "eth1")


@pytest.mark.wording
def test_each_kind_has_words_of_its_own() -> None:
    said = {daemon_words.effect(daemon(does), "eth1") for does in Does}
    assert len(said) == len(Does)


@pytest.mark.parametrize(
    "name",
    [
        *("NetworkManager", "wicked", "dhcpcd", "ConnMan", "ifupdown"),
        *OF_NO_PORT,
    ],
)
def test_a_hold_can_be_copied_whatever_the_port_is_called(name: str) -> None:
    lines = daemon_words.holds(name, "eth1")
    assert lines
    assert any("eth1" in line for line in lines) is (name not in OF_NO_PORT)
    for line in daemon_words.holds(name, "e;reboot"):
        words = list(shlex.shlex(line, posix=True, punctuation_chars=True))
        assert ";" not in words
        assert "reboot" not in words


def test_who_needs_no_hold_has_none() -> None:
    assert daemon_words.holds("keepalived", "eth1") == ()
