"""What completion offers where, and how it describes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manactl.completion.addresses import AddressFacts
from manactl.completion.claims import Claims
from manactl.completion.names import Port
from manactl.completion.offer import Which, Word, describe, fitting, with_destroyed, words

PCI = "7870:00:00.0"
UP = Port(PCI, 1, "eth0", 2, up=True, mac="00:0d:3a:aa:00:10", rdma=("mana_0/1", "manae_0/1"))
DOWN = Port(PCI, 2, "eth1", 3, up=False, rdma=("manae_0/2",))
HELD = Port(PCI, 3, "eth2", 4, up=False, raw_qp=True)
AWAY = Port(PCI, 4, rdma=("manae_0/4",))
BELOW = Port(PCI, 5, "enP1", 5, up=True, master="eth9", master_ifindex=9)
PORTS = [UP, DOWN, HELD, AWAY, BELOW]
CLAIMS = Claims(now=frozenset([(PCI, 2)]), history=frozenset([(PCI, 1)]))


@pytest.mark.parametrize(
    ("which", "claims", "offered"),
    [
        ("all", CLAIMS, PORTS),
        ("all", None, PORTS),
        ("claimable", CLAIMS, [UP, BELOW]),
        ("claimable", Claims(), [UP, DOWN, BELOW]),
        ("claimable", None, [UP, DOWN, BELOW]),
        ("claimed", CLAIMS, [UP, DOWN]),
        ("claimed", Claims(), []),
        # An ordinary user sees no journal, but a claimed port is not up.
        ("claimed", None, [DOWN, HELD, AWAY]),
        ("unconfirmed", CLAIMS._replace(unconfirmed=CLAIMS.now), [DOWN]),
        ("unconfirmed", CLAIMS, []),
        ("unconfirmed", None, [DOWN, HELD, AWAY]),
    ],
)
def test_each_place_gets_the_ports_that_fit(
    which: Which, claims: Claims | None, offered: list[Port]
) -> None:
    assert fitting(PORTS, which, claims, []) == offered


@pytest.mark.parametrize(
    "word",
    ["eth0", f"{PCI}:1", f"{PCI}:1".upper(), "00:0D:3A:AA:00:10", "mana_0/1", "manae_0/1"],
)
def test_a_port_given_by_any_name_is_not_offered_again(word: str) -> None:
    assert UP not in fitting(PORTS, "all", CLAIMS, [word])
    assert BELOW not in fitting(PORTS, "all", CLAIMS, ["eth9"])
    assert fitting(PORTS, "all", CLAIMS, ["ETH0"]) == PORTS  # names of netdevs have a case


@pytest.mark.parametrize(
    ("start", "texts"),
    [
        ("", ["eth0", "eth1", "eth2", f"{PCI}:4", "enP1", "eth9"]),
        ("eth", ["eth0", "eth1", "eth2", "eth9"]),
        ("7870", [port.id for port in PORTS]),
        ("00:", ["00:0d:3a:aa:00:10"]),
        ("mana_", ["mana_0/1"]),
        ("manae_0/", ["manae_0/1", "manae_0/2", "manae_0/4"]),
        ("slot", ["slot3"]),
        ("nothing", []),
    ],
)
def test_netdevs_come_first_and_other_names_when_only_they_fit(
    start: str, texts: list[str]
) -> None:
    altnames = [Word("slot3", UP, 2), Word("eth-alt", UP, 2)]
    assert [word.text for word in words(PORTS, start, PORTS, altnames)] == texts


def test_every_pci_name_when_no_netdev_fits() -> None:
    here = [UP, DOWN]
    assert [word.text for word in words(here, "78", here)] == [f"{PCI}:1", f"{PCI}:2"]


def test_a_master_of_two_ports_names_neither() -> None:
    pair = [UP._replace(master="bond0"), DOWN._replace(master="bond0")]
    assert [word.text for word in words(pair, "", pair)] == ["eth0", "eth1"]
    assert [word.text for word in words(pair[:1], "", pair)] == ["eth0"]


@pytest.mark.parametrize("name", ["evil\x1b[2J", "\udcff", "\u202e", "-x", "--all", "a\tb"])
def test_a_name_that_no_shell_should_see_is_replaced_by_the_pci_address(name: str) -> None:
    port = UP._replace(netdev=name, master=name, rdma=(f"{name}/1",))
    for start in ("", "7870", name[:1]):
        assert {word.text for word in words([port], start, [port])} <= {f"{PCI}:1"}
    assert [word.text for word in words([port], "", [port])] == [f"{PCI}:1"]


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4, unique=True), st.text(max_size=2))
def test_whatever_the_names_a_word_is_one_printable_line(names: list[str], start: str) -> None:
    ports = [Port(PCI, n, name, n, up=True) for n, name in enumerate(names, 1)]
    found = words(ports, start, ports)
    for word in found:
        assert word.text.startswith(start)
        assert word.text.isprintable()
        assert word.text[:1] not in ("-", "")
    if not start:
        assert [word.port for word in found] == ports


ADDRESSES = {
    2: AddressFacts("10.0.1.4", True),
    3: AddressFacts("fd00::1"),
    9: AddressFacts(None, True),
}


@pytest.mark.parametrize(
    ("word", "claims", "text"),
    [
        (Word("eth0", UP, 2), Claims(), "ethernet, 10.0.1.4, default route"),
        (Word("eth0", UP, 2), CLAIMS, "ethernet, 10.0.1.4, default route, claimed before the last boot"),
        (Word(UP.id, UP, 2), None, "ethernet, eth0, 10.0.1.4, default route"),
        (Word("eth1", DOWN, 3), CLAIMS, "down, fd00::1, claimed"),
        (Word("eth2", HELD, 4), None, "raw-qp"),
        (Word(AWAY.id, AWAY, None), None, "in another network namespace"),
        (Word("enP1", BELOW, 5), None, "ethernet, master eth9"),
        (Word("eth9", BELOW, 9), None, "ethernet, master of enP1, default route"),
        (Word("eth1", DOWN._replace(up=None), 7), None, ""),
    ],
)  # fmt: skip
def test_descriptions(word: Word, claims: Claims | None, text: str) -> None:
    assert describe(word, ADDRESSES, claims) == text


def test_the_name_that_a_claim_for_uio_destroyed_is_offered() -> None:
    claims = CLAIMS._replace(destroyed=frozenset([((PCI, 2), "eth8"), ((PCI, 5), "eth7")]))
    every = with_destroyed(PORTS, claims)
    fit = fitting(every, "claimed", claims, ())
    assert [word.text for word in words(fit, "", every)] == ["eth0", "eth1", "eth8"]
    assert fitting(every, "claimed", claims, ("eth8",)) == [UP]
    assert every[-1] == BELOW, "it has another one by now"
    assert with_destroyed(PORTS, None) == PORTS
