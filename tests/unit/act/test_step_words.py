"""What steps are called, and how plans describe them."""

from __future__ import annotations

import pytest

from manactl.act import step_words as words

UUID = "f8615163-0000"


@pytest.mark.wording
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.set_admin("eth1", False), "set eth1 down"),
        (words.set_admin_described("eth1", False, True), "set eth1 down (release sets it up)"),
        (words.set_admin_described("eth1", True, False), "set eth1 up (release sets it down)"),
        (
            words.set_synthetic_described("eth0", UUID),
            f"set eth0 down, the synthetic netdev of VMBus device {UUID} (release sets it up)",
        ),
        (
            words.keep_state_described("eth1", "3 addresses, 4 routes"),
            "save eth1's addresses and routes to the journal (3 addresses, 4 routes)",
        ),
        (words.restore("eth1", "eth2"), "restore and verify eth1, eth2"),
        (words.prove_free("mana_0", 1), "prove that the vport of mana_0 port 1 is free"),
        (words.bind_uio_undone("eth0"), "give eth0's VMBus device back to hv_netvsc"),
        (words.unmanage_undone("networkd", "eth1"), "give eth1 back to networkd"),
        (words.leave_down("nm", "eth1"), "have nm leave eth1 alone at every boot"),
        (words.not_attempted("set eth1 up"), "not attempted: set eth1 up"),
    ],
)
def test_what_a_step_is_called(said: str, expected: str) -> None:
    assert said == expected


@pytest.mark.parametrize(("files", "it"), [(["/etc/a"], "it"), (["/etc/a", "/etc/b"], "them")])
def test_files_are_counted(files: list[str], it: str) -> None:
    said = words.leave_down_described("nm", "eth1", files)
    assert said.endswith(f", by {', '.join(files)} (release removes {it})")


@pytest.mark.wording
def test_how_long_a_manager_is_waited_for() -> None:
    assert "until it is configured, up to 30 s" in words.unmanage_described("nm", "eth1", 30.0)
