"""Which claims are meant by which words."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from manactl.act.choose import choose, open_claims
from manactl.errors import Denied, UsageError
from manactl.journal import file as journal
from manactl.model.claim import ClaimSummary, Phase
from manactl.model.port import ClaimInfo, PortId
from tests.unit.fakes import PORT
from tests.unit.host import FakeHost, claim, two_ports
from tests.unit.wording import Coded, says

ETH2 = PortId("7870:00:00.0", 2, "00:0d:3a:aa:00:11")
GONE = PortId("7899:00:00.0", 1, "00:0d:3a:ee:00:01")
INFO = ClaimInfo(datetime(2026, 11, 22, tzinfo=UTC), {"uid": 0}, "claim", None, True, None)


def summary(port: PortId, path: str) -> ClaimSummary:
    return ClaimSummary(port, INFO, Phase.CLAIMED, True, Path(path))


ONE, TWO, AWAY = summary(PORT, "/a"), summary(ETH2, "/a"), summary(GONE, "/b")


def chosen(claims: list[ClaimSummary], *words: str, everything: bool = False) -> list[PortId]:
    found = choose(claims, FakeHost(two_ports()), words, everything=everything)
    return [claim.port for claim in found.claims]


def test_without_words_it_is_the_only_claim_with_all_its_ports() -> None:
    assert chosen([ONE, TWO]) == [PORT, ETH2]
    assert chosen([]) == []


def test_several_claims_without_words_are_listed_by_their_names() -> None:
    with pytest.raises(UsageError, match=says(r"several claims: eth1, eth2, 7899:00:00\.0:1")):
        chosen([ONE, TWO, AWAY])
    assert chosen([ONE, TWO, AWAY], everything=True) == [PORT, ETH2, GONE]


@pytest.mark.parametrize("word", ["eth2", "7870:00:00.0:2", "00:0D:3A:AA:00:11", "manae_0/2"])
def test_a_word_chooses_its_port_alone(word: str) -> None:
    assert chosen([ONE, TWO, AWAY], word) == [ETH2]


@pytest.mark.parametrize("word", ["7899:00:00.0:1", "00:0d:3a:ee:00:01"])
def test_a_port_whose_device_is_gone_is_chosen_by_its_identity(word: str) -> None:
    assert chosen([ONE, AWAY], word) == [GONE]


def test_words_choose_a_port_once_and_name_those_that_are_not_claimed() -> None:
    found = choose([ONE], FakeHost(two_ports()), ["eth1", str(PORT), "eth2"], everything=False)
    assert [claim.port for claim in found.claims] == [PORT]
    assert [port.label for port in found.unclaimed] == ["eth2"]


def test_a_word_that_names_nothing_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="eth9"):
        chosen([ONE], "eth9")


def test_open_claims_are_those_of_this_boot_or_before(tmp_path: Path) -> None:
    kernel = two_ports()
    claim(tmp_path, FakeHost(kernel))
    (now,) = open_claims(tmp_path, FakeHost(kernel)).claims
    (later,) = open_claims(tmp_path, FakeHost(kernel, boot="boot-2")).claims
    assert (now.same_boot, later.same_boot) == (True, False)


def test_journals_that_may_not_be_read_are_a_missing_privilege(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(journal, "list_claims", denied)
    with pytest.raises(
        Denied, match=says("nothing was touched"), check=Coded("denied", untouched=True)
    ):
        open_claims(tmp_path, FakeHost(two_ports()))


def test_a_name_that_a_netdev_had_when_it_was_claimed(tmp_path: Path) -> None:
    """Re-created it has lost its altnames. What has the name now comes first."""
    kernel = two_ports()
    first, second = kernel.nics
    host = FakeHost(kernel)
    (one, other) = (
        ClaimSummary(PortId(nic.pci, nic.number, nic.mac), INFO, Phase.CLAIMED, True, Path("1"),
                     names=(nic.name, f"wan{nic.number}"))
        for nic in (first, second)
    )  # fmt: skip
    claims = [one, other]
    assert choose(claims, host, ["wan2"], everything=False).claims == (other,)
    kernel.rename(first, "lan7", 17)
    assert choose(claims, host, ["eth1"], everything=False).claims == (one,)
    kernel.rename(second, "eth1", 18)
    assert choose(claims, host, ["eth1"], everything=False).claims == (other,)
    with pytest.raises(UsageError):
        choose(claims, host, ["wan3"], everything=False)


def test_a_name_that_a_port_has_now_and_a_claimed_one_had() -> None:
    """The VF of another pair, made anew while the name was free: "not claimed" would be taken for
    the end of the claim."""
    claim = TWO._replace(names=("eth2", "eth1"))
    with pytest.raises(UsageError, match=r"eth1.*7870:00:00\.0:1.*7870:00:00\.0:2"):
        chosen([claim], "eth1")
    assert chosen([claim], str(ETH2)) == [ETH2]
    assert chosen([ONE, claim], "eth1") == [PORT], "claimed, too: it has the name now"


def test_a_port_that_the_host_has_taken_is_chosen_by_the_names_that_it_had() -> None:
    """As the VF of a pair while the host services it: `manactl release eth9` was said."""
    away = AWAY._replace(names=("vf9", "eth9"))
    assert chosen([ONE, away], "eth9") == chosen([ONE, away], "vf9") == [GONE]
    with pytest.raises(UsageError, match=says("names no port")):
        chosen([TWO._replace(names=("eth9",)), away], "eth9")


def test_journals_that_the_disk_does_not_give_are_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> object:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(journal, "list_claims", fails)
    with pytest.raises(OSError, match="Input/output error"):
        open_claims(tmp_path, FakeHost(two_ports()))
