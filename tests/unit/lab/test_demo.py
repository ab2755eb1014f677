"""The demo must not pass when what it shows is wrong."""

from __future__ import annotations

from tests.lab.demo import claims_of_status, plain

NAMES = {1: "eth0", 2: "eth1"}


def test_owner_words_are_read_from_the_line_of_each_port() -> None:
    shown = (
        "\x1b[1mPORT  OWNER     HELD BY\x1b[0m\n"
        "eth0  \x1b[32methernet\x1b[0m  -\n"
        "eth1  raw-qp    dpdk-testpmd 205\n"
        "\neth1: `rdma link` shows it DOWN although it works\n"
    )
    assert claims_of_status(shown, NAMES) == {1: {"ethernet"}, 2: {"raw-qp"}}


def test_a_port_that_is_not_shown_is_not_found() -> None:
    assert claims_of_status("PORT OWNER\neth0 free\neth10 raw-qp\n", NAMES) == {1: {"free"}}


def test_a_line_of_two_minds_is_seen() -> None:
    assert claims_of_status("eth0 free ethernet\n", NAMES) == {1: {"free", "ethernet"}}


def test_colours_are_no_text() -> None:
    assert plain("\x1b[1;32mfree\x1b[0m\x1b[K") == "free"
