"""Every reason and note has words, and these name what they are given."""

from __future__ import annotations

from typing import get_args

import pytest

from manactl.decide import port_words
from manactl.decide.ownership import DEVICE_RULES, PORT_RULES
from manactl.model.port import Note, NoteCode, OddFile, Oddity, Reason
from tests.unit.decide.scene import STATUS
from tests.unit.wording import wording

SAMPLES: dict[NoteCode, tuple[object, ...]] = {
    "eqs-lost": (True,),
    "netdev-in-netns": ("eth1", "blue"),
    "candidates": ("eth0", "eth1"),
    "owner-unknown": ("may-have-raw-qp", "raw-qp-unread"),
    "upper": ("bond0",),
    "upper-of-kind": ("bond0", "bond"),
    "slow-path": ("eth0",),
    "unjoined": ("eth0",),
    "bond-danger": ("eth1", "bond0"),
    "drift-synthetic-up": ("eth0",),
    "drift-not-uio": ("eth0", "000d3aaa"),
    "drift-synthetic-recreated": ("eth0", 4, 9),
    "drift-synthetic-down": ("eth0",),
    "drift-vf-up": ("eth0",),
    "rdma-elsewhere": ("mana_0", "manae_0"),
    "rdma-link-down": ("manae_0", 2),
    "holders-of-port": ("testpmd 1", "testpmd 2"),
    "holders-of-ports": ("testpmd 1", "testpmd 2"),
    "other-qps": ("mana_0", 2),
    "contexts-unseen": (2, 1),
    "contexts-hidden": (2, 1),
    "drift-another-nic": ("00:0d:3a:aa:00:99",),
    "drift-moved": ("blue",),
    "claimed-elsewhere": (4026532291,),
    "drift-recreated": (3, 7),
    "at-work": (77, "7870:00:00.0"),
    "claim-interrupted": (Note("recover-closes"),),
    "release-interrupted": (Note("recover-sets-up", ("eth1", "1 address")),),
    "not-restored": ("EBUSY", Note("recover-closes")),
    "recover-sets-up": ("eth1", "1 address"),
    "recover-gives-back": ("NetworkManager",),
    "unmanaged": ("systemd-networkd",),
    "unconfirmed": ("12:02:00 UTC",),
    "unguarded": (4242,),
    "orphaned": (4241, 4242),
    "left-down": ("/etc/systemd/network/00-1-manactl-7870-00-00.0-2-0.network",),
}
NOT_SAID = {"eqs-lost", "owner-unknown"}  # their names choose words, and are none


def test_the_tables_have_every_code_and_no_other() -> None:
    assert set(port_words.REASONS) == set(get_args(Reason))
    assert set(port_words.NOTES) == set(get_args(NoteCode))
    rows = {why for _, _, why in DEVICE_RULES} | {row.reason for *_, row in PORT_RULES}
    assert rows <= set(port_words.REASONS)


@pytest.mark.parametrize("code", get_args(NoteCode))
def test_a_note_says_all_that_it_names(code: NoteCode) -> None:
    names = SAMPLES.get(code, ())
    words = port_words.note(Note(code, names))
    assert words
    assert "{" not in words
    for name in () if code in NOT_SAID else names:
        with wording:
            assert (port_words.note(name) if isinstance(name, Note) else str(name)) in words


@pytest.mark.wording
def test_no_two_notes_read_alike() -> None:
    words = [port_words.note(Note(code, SAMPLES.get(code, ()))) for code in get_args(NoteCode)]
    assert len(set(words)) == len(words)
    texts = list(port_words.REASONS.values())
    assert len(set(texts)) == len(texts)


@pytest.mark.wording
def test_names_with_braces_stay_as_they_are() -> None:
    words = port_words.note(Note("netdev-in-netns", ("{0}", "{1}{x}")))
    assert words == "its netdev {0} is in the network namespace {1}{x}"


def test_the_reason_of_the_device_stands_in_that_of_the_port() -> None:
    assert port_words.because() == ""
    with wording:
        assert port_words.because("netdev-up") == "the netdev is up"
        assert port_words.because("may-have-raw-qp", "raw-qp-exists") == (
            "a raw queue pair may be on this port: a raw queue pair exists on the RDMA device"
        )
        assert port_words.because("only-port-left", "raw-qp-exists") == (
            "a raw queue pair exists on the RDMA device, and no other port can have it"
        )


@pytest.mark.wording
@pytest.mark.parametrize(
    ("count", "words"), [(1, "1 RC, UC or UD queue pair of"), (2, "2 RC, UC or UD queue pairs of")]
)
def test_queue_pairs_are_counted(count: int, words: str) -> None:
    assert words in port_words.note(Note("other-qps", ("mana_0", count)))


@pytest.mark.wording
def test_a_port_reads_as_its_reasons_notes_and_drift() -> None:
    port = STATUS._replace(
        reasons=("netdev-up",),
        notes=(Note("kept-changing"), Note("upper", ("bond0",))),
        drift=(Note("drift-up"),),
    )
    assert port_words.reason(port) == "the netdev is up"
    assert port_words.notes(port) == [
        "the port kept changing while it was looked at",
        "its master is bond0",
    ]
    assert port_words.drift(port) == ["claimed, yet its netdev is up"]


@pytest.mark.wording
@pytest.mark.parametrize(
    ("why", "port", "expected"),
    [
        (Oddity.ABSENT, "7870:00:00.0:1", "/etc/a leaves port 7870:00:00.0:1 down at boot, and that port is not here"),
        (Oddity.NO_PORT, None, "/etc/a may leave a port down at boot, and is of no use to manactl: it does not say for which port it is"),
        (Oddity.NOT_UNDERSTOOD, None, "/etc/a may leave a port down at boot, and is of no use to manactl: this manactl does not understand what it says"),
        ("Input/output error", None, "/etc/a may leave a port down at boot, and is of no use to manactl: Input/output error"),
    ],
)  # fmt: skip
def test_a_file_of_no_use_is_told_with_the_reason(
    why: Oddity | str, port: str | None, expected: str
) -> None:
    assert port_words.odd_file(OddFile("/etc/a", "nm", why, port)) == expected
